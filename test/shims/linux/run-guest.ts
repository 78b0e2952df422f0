import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAssembler } from "../../../emulator/assembler.ts";
import { Machine } from "../../../emulator/machine.ts";
import { Gate } from "../../../providers/gate.ts";
import { createProvider } from "../../../providers/registry.ts";
import { fullTable } from "../../../shims/linux/calls/all.ts";
import { VirtualClock } from "../../../shims/linux/clock.ts";
import { startFirst } from "../../../shims/linux/process/exec.ts";
import { Random } from "../../../shims/linux/random.ts";
import { type RunEnd, type RunLimits, run } from "../../../shims/linux/run.ts";
import { Signals } from "../../../shims/linux/signals/port.ts";
import { Kernel, type Task } from "../../../shims/linux/task.ts";
import { EventTracer } from "../../../shims/linux/trace/trace.ts";
import { JsonTrace, TextTrace } from "../../../shims/linux/trace/trace-text.ts";
import { makeRoot } from "../../../shims/linux/vfs/root.ts";

export const CODE_64 = 0x40_1000;
const CODE_32 = 0x804_9000;

/** An ELF file with one segment that may be read, written and executed, entry at its start. `memory` adds zeroes behind it. */
function makeElf(bits: 32 | 64, code: Uint8Array, memory = 0): Uint8Array {
  const offset = 0x1000;
  const wide = bits === 64;
  const vaddr = wide ? CODE_64 : CODE_32;
  const file = new Uint8Array(offset + code.length);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, wide ? 62 : 3, true);
  view.setUint32(20, 1, true);
  file.set(code, offset);
  const sizes = [code.length, code.length + memory];
  if (wide) {
    view.setBigUint64(24, BigInt(vaddr), true);
    view.setBigUint64(32, 64n, true);
    view.setUint16(52, 64, true);
    view.setUint16(54, 56, true);
    view.setUint16(56, 1, true);
    view.setUint32(64, 1, true);
    view.setUint32(68, 7, true);
    for (const [index, value] of [offset, vaddr, vaddr, ...sizes, 0x1000].entries()) {
      view.setBigUint64(72 + 8 * index, BigInt(value), true);
    }
  } else {
    view.setUint32(24, vaddr, true);
    view.setUint32(28, 52, true);
    view.setUint16(40, 52, true);
    view.setUint16(42, 32, true);
    view.setUint16(44, 1, true);
    for (const [index, value] of [1, offset, vaddr, vaddr, ...sizes, 7, 0x1000].entries()) {
      view.setUint32(52 + 4 * index, value, true);
    }
  }
  return file;
}

export interface RunGuestOptions {
  readonly bits?: 32 | 64;
  readonly source: string;
  readonly seed?: number;
  readonly argv?: readonly string[];
  readonly envp?: readonly string[];
  readonly limits?: RunLimits;
  readonly trace?: "text" | "json" | "none";
  /** Another file to start, by its content; `%program` in it becomes the path of the assembled one. */
  readonly script?: string;
  /** Looks at the first task before it runs. */
  readonly inspect?: (task: Task) => void;
  readonly maxMemory?: number;
}

export interface RunGuestResult {
  readonly end: RunEnd;
  readonly lines: readonly string[];
  readonly reports: readonly string[];
  readonly kernel: Kernel;
}

/** Assembles a program, runs it to its end, and gives the trace. */
export async function runGuest(options: RunGuestOptions): Promise<RunGuestResult> {
  const { bits = 64, source, seed = 1, limits = {}, trace = "text", maxMemory } = options;
  const assembler = await createAssembler();
  const code = assembler.assemble(source, { bits, address: bits === 64 ? CODE_64 : CODE_32 });
  const folder = mkdtempSync(join(tmpdir(), "shimbed-run-"));
  chmodSync(folder, 0o755);
  const machine = new Machine(maxMemory === undefined ? {} : { maxMemory });
  try {
    const program = join(folder, "guest");
    writeFileSync(program, makeElf(bits, code, 0x1000), { mode: 0o755 });
    let started = program;
    if (options.script !== undefined) {
      started = join(folder, "script");
      writeFileSync(started, options.script.replace("%program", program), { mode: 0o755 });
    }
    const clock = new VirtualClock();
    const random = new Random(seed);
    const entropy = random.stream("dev");
    const { physical } = machine;
    const root = makeRoot(
      {
        frames: {
          allocate: () => physical.allocate(),
          release: (frame) => physical.release(frame),
          bytes: (frame) => physical.bytes(frame),
          beforeWrite: (frame) => physical.beforeWrite(frame),
        },
        realtimeMs: () => Math.floor(clock.bootSec * 1000 + clock.now() / 1e6),
        randomBytes: (into) => entropy.fill(into),
      },
      {
        user: { uid: 1000, gid: 1000, name: "user" },
        stdio: [],
        binds: [{ host: folder, guest: folder, writable: false }],
      },
    );
    const platform = { cpu: machine.cpu, layout: "x86_64" as const };
    const gate = new Gate({ platform, provider: createProvider("direct", platform) });
    const lines: string[] = [];
    const reports: string[] = [];
    const write = (line: string): number => lines.push(line.replaceAll(folder, "/tmp/x"));
    const consumer = trace === "json" ? new JsonTrace(write) : new TextTrace({ write });
    const kernel = new Kernel({
      machine,
      gate,
      vfs: root.vfs,
      clock,
      random,
      table: fullTable(),
      signals: new Signals({ report: (text) => reports.push(...text) }),
      ...(trace !== "none" && { tracer: new EventTracer({ consumer, ledger: gate.ledger }) }),
    });
    root.attach(kernel);
    const fs = { root: root.vfs.root, cwd: root.vfs.root, umask: 0o22 };
    const { argv = [started], envp = [] } = options;
    const task = startFirst(kernel, { path: started, argv, envp, files: root.files, fs });
    options.inspect?.(task);
    const end = await run(kernel, limits);
    root.vfs.close();
    return { end, lines, reports, kernel };
  } finally {
    machine.close();
    rmSync(folder, { recursive: true });
  }
}
