import { Reg } from "../emulator/cpu.ts";
import type { PlatformCpu } from "./platform.ts";

/** RF, which `syscall` and `sysret` do not keep. */
const RESUME_FLAG = 0x10000n;

/** Whether `sysretq` would give a guest other registers than it had. */
export function sysretLoses(cpu: PlatformCpu): boolean {
  return cpu.regBig(Reg.rcx) !== cpu.regBig(Reg.rip) || cpu.regBig(Reg.r11) !== flagsOf(cpu);
}

/** Goes back to a guest by `sysretq`: that takes RIP from rcx and the flags from r11, and so cannot give these two back. */
export function returnBySysret(cpu: PlatformCpu): void {
  cpu.setRegBig(Reg.rcx, cpu.regBig(Reg.rip));
  cpu.setRegBig(Reg.r11, flagsOf(cpu));
}

function flagsOf(cpu: PlatformCpu): bigint {
  return cpu.regBig(Reg.rflags) & ~RESUME_FLAG;
}
