// npm run bench:load [-- --only NAME --i386]
//
// Does time or memory grow faster than what a guest does? Each load at a tenth, at a third and in full: CPU time and peak memory
// above those of the same guest with nothing to do, for each thing done. And whether 1,000 guests in one process leave anything.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { GuestFiles } from "../../cli/testing/guest-files.ts";
import { LinuxBed } from "../../cli/testing/linux-bed.ts";
import { measure } from "./runners.ts";

const ROOT = join(import.meta.dirname, "../..");
const SHIMBED = join(ROOT, "dist/cli/shimbed.cjs");
const TIMEOUT_MS = 120_000;
const RUNS = 3;
/** What full load may cost, in terms of the line through the two points before it. */
const GROWTH = 1.5;
/** Less than this does not count as growth: the collector of garbage and the compiler come when they like. */
const NOISE_MS = 150;
const NOISE_MIB = 24;

const { values: options } = parseArgs({
  options: { only: { type: "string" }, i386: { type: "boolean", default: false } },
});

interface Load {
  readonly name: string;
  readonly shows: string;
  readonly full: number;
}
const LOADS: readonly Load[] = [
  { name: "threads", shows: "threads made and joined", full: 10_000 },
  // Stacks of 8 MiB fill the address space of i386.
  { name: "alive", shows: "threads alive at once", full: options.i386 ? 300 : 2_000 },
  { name: "forks", shows: "processes forked and waited for", full: 3_000 },
  { name: "pipeline", shows: "processes alive in a pipeline", full: 1_000 },
  { name: "files", shows: "files open at once", full: 30_000 },
  { name: "sockets", shows: "socket pairs open and watched by epoll", full: 10_000 },
  { name: "mappings", shows: "mappings at once", full: 100_000 },
  { name: "calls", shows: "system calls", full: 10_000_000 },
];

const folder = mkdtempSync(join(tmpdir(), "shimbed-load-"));
let grown = 0;
try {
  const guest = compile();
  const idle = least(guest, "calls", 0);
  for (const load of LOADS) if (!options.only || load.name.includes(options.only)) show(guest, load, idle);
  if (!options.only || "guests".includes(options.only)) await guests();
} finally {
  rmSync(folder, { recursive: true });
}
process.exitCode = grown > 0 ? 1 : 0;

function compile(): string {
  const file = join(folder, "load");
  const bits = options.i386 ? ["-m32"] : [];
  const source = join(ROOT, "fixtures/c/load.c");
  const done = spawnSync("gcc", ["-O1", "-w", "-pthread", "-static", ...bits, "-o", file, source], {
    stdio: "inherit",
  });
  if (done.status !== 0) throw new Error("the benchmark needs gcc");
  return file;
}

/** Milliseconds of CPU time and MiB: the least of some runs, as all that disturbs a run adds to it. */
function least(guest: string, name: string, count: number): { cpu: number; peak: number } {
  const best = { cpu: Number.POSITIVE_INFINITY, peak: Number.POSITIVE_INFINITY };
  for (let run = 0; run < RUNS; run++) {
    const cost = measure([process.execPath, SHIMBED, "run", guest, name, String(count)], TIMEOUT_MS);
    if (cost === "timeout" || cost.status !== 0) throw new Error(`load ${name} ${count} did not end well`);
    best.cpu = Math.min(best.cpu, cost.cpu);
    best.peak = Math.min(best.peak, cost.peak);
  }
  return best;
}

function show(guest: string, { name, shows, full }: Load, idle: { cpu: number; peak: number }): void {
  console.log(`${name}: ${shows}`);
  const points = [10, 3, 1].map((part) => {
    const count = Math.round(full / part);
    const { cpu, peak } = least(guest, name, count);
    const us = (1000 * Math.max(cpu - idle.cpu, 0)) / count;
    const kib = (1024 * Math.max(peak - idle.peak, 0)) / count;
    const time = `${cpu.toFixed(0)} ms, ${us.toFixed(2)} µs each`;
    console.log(`  ${String(count).padStart(10)}  ${time};  ${peak.toFixed(0)} MiB, ${kib.toFixed(2)} KiB each`);
    return { count, cpu, peak };
  });
  verdict(
    isLine(
      points.map(({ count, cpu }) => [count, cpu]),
      NOISE_MS,
    ) &&
      isLine(
        points.map(({ count, peak }) => [count, peak]),
        NOISE_MIB,
      ),
  );
}

function isLine(points: readonly (readonly [number, number])[], noise: number): boolean {
  const [[x1, y1] = [0, 0], [x2, y2] = [0, 0], [x3, y3] = [0, 0]] = points;
  const expected = y2 + ((y2 - y1) * (x3 - x2)) / (x2 - x1);
  return y3 <= Math.max(expected * GROWTH, expected + noise);
}

function verdict(linear: boolean): void {
  if (!linear) grown++;
  console.log(linear ? "  linear" : "  GROWS FASTER");
}

/** Guests that make threads, map memory and write files, one after the other in this process. */
async function guests(): Promise<void> {
  console.log("guests: runs of a guest in one process, with a thread, a file and a mapping");
  const linux = new LinuxBed(new GuestFiles(), 64, {}, []);
  const guest = await linux.asm`
      mov eax, 9                  # mmap 1 MiB
      xor edi, edi; mov esi, 0x100000; mov edx, 3; mov r10d, 0x22; mov r8, -1; xor r9d, r9d
      syscall
      mov byte ptr [rax], 1
      mov eax, 85                 # creat
      lea rdi, [rip + name]; mov esi, 0x1ff
      syscall
      mov edi, eax
      mov eax, 1                  # write
      lea rsi, [rip + name]; mov edx, 4096
      syscall
      mov eax, 57                 # fork
      syscall
      mov eax, 231                # exit_group
      xor edi, edi
      syscall
    name: .asciz "/tmp/x"
      .zero 8192`;
  const mib = (): number => {
    global.gc?.();
    return process.memoryUsage.rss() / 2 ** 20;
  };
  const stretches: number[] = [];
  const sizes: number[] = [];
  for (let stretch = 0; stretch < 10; stretch++) {
    const start = process.cpuUsage();
    for (let one = 0; one < 100; one++) await linux.run(guest);
    const { user, system } = process.cpuUsage(start);
    stretches.push((user + system) / 100);
    sizes.push(mib());
    const text = `${(stretch + 1) * 100}`.padStart(10);
    console.log(`  ${text}  ${stretches.at(-1)?.toFixed(0)} µs each;  ${sizes.at(-1)?.toFixed(0)} MiB`);
  }
  // The first hundreds warm up.
  const leaks = (sizes[9] ?? 0) - (sizes[4] ?? 0) > NOISE_MIB;
  verdict((stretches[9] ?? 0) < (stretches[4] ?? 0) * GROWTH && !leaks);
}
