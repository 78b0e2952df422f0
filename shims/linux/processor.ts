/** What Linux tells programs of the processor: /proc/cpuinfo, AT_HWCAP, AT_MINSIGSTKSZ (arch/x86/kernel/cpu/proc.c, signal.c). */
import type { Machine } from "../../emulator/machine.ts";

/** CPUID.1:EDX of both processors (emulator/native/processor.cc). */
export const HWCAP = 0x078b_fbfd;

/** By the words that Linux keeps features in (asm/cpufeatures.h). */
const FLAGS = {
  "x86-64-v2":
    "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 syscall nx rdtscp lm " +
    "constant_tsc rep_good nopl cpuid pni pclmulqdq ssse3 cx16 sse4_1 sse4_2 movbe popcnt aes hypervisor lahf_lm",
  "x86-64-v3":
    "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 syscall nx rdtscp lm " +
    "constant_tsc rep_good nopl cpuid pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c hypervisor " +
    "lahf_lm abm",
} as const;
const FLAGS_AFTER_FSGSBASE = {
  "x86-64-v2": "",
  "x86-64-v3": " bmi1 avx2 bmi2 xsaveopt xsavec xgetbv1 vaes vpclmulqdq",
} as const;
const CPUID_LEVEL = { "x86-64-v2": 7, "x86-64-v3": 13 } as const;

/** The text of /proc/cpuinfo. */
export function cpuInfo({ processor, cpu }: Machine): string {
  const flags = `${FLAGS[processor]}${cpu.fsgsbase ? " fsgsbase" : ""}${FLAGS_AFTER_FSGSBASE[processor]}`;
  const rows: [string, string | number][] = [
    ["processor", 0],
    ["vendor_id", "AuthenticAMD"],
    ["cpu family", 6],
    ["model", 6],
    ["model name", `shimbed ${processor} processor`],
    ["stepping", 3],
    ["cpu MHz", "2000.000"],
    ["cache size", "512 KB"],
    ["physical id", 0],
    ["siblings", 1],
    ["core id", 0],
    ["cpu cores", 1],
    ["apicid", 0],
    ["initial apicid", 0],
    ["fpu", "yes"],
    ["fpu_exception", "yes"],
    ["cpuid level", CPUID_LEVEL[processor]],
    ["wp", "yes"],
    ["flags", flags],
    ["bugs", ""],
    ["bogomips", "4000.00"],
    ["clflush size", 64],
    ["cache_alignment", 64],
    ["address sizes", "40 bits physical, 48 bits virtual"],
    ["power management", ""],
  ];
  // To the second tab stop, where the name ends before it.
  const line = ([name, value]: [string, string | number]): string =>
    `${name}${"\t".repeat(Math.max(0, 2 - Math.floor(name.length / 8)))}:${value === "" ? "" : ` ${value}`}\n`;
  return `${rows.map(line).join("")}\n`;
}

/** Bytes of the largest frame but for the FPU's state, with what aligning it takes (init_sigframe_size). */
const FRAME_BYTES = 732 + 4 + 15;
const FSAVE_BYTES = 112;
const FPU_ALIGNMENT = 63;

/** AT_MINSIGSTKSZ, the same for both word sizes, with an FPU area of so many bytes. */
export function minimalSignalStack(fpuBytes: number): number {
  return Math.ceil((FRAME_BYTES + FSAVE_BYTES + FPU_ALIGNMENT + fpuBytes) / 16) * 16;
}
