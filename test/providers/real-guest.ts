import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Machine } from "../../emulator/machine.ts";
import { type AssembledGate, assembleGate } from "../../providers/assembly.ts";
import type { Finding } from "../../providers/findings.ts";
import { type HostEventMode, HostEvents } from "../../providers/host-events.ts";
import { parseInjectRule } from "../../providers/inject-rule.ts";
import { HostPanic } from "../../providers/lifecycle.ts";
import { type ProviderOptions, providerInfos } from "../../providers/registry.ts";
import { fullTable } from "../../shims/linux/calls/all.ts";
import { VirtualClock } from "../../shims/linux/clock.ts";
import { KernelWorld } from "../../shims/linux/guest-world.ts";
import { startFirst } from "../../shims/linux/process/exec.ts";
import { Random } from "../../shims/linux/random.ts";
import { run } from "../../shims/linux/run.ts";
import { Signals } from "../../shims/linux/signals/port.ts";
import { Kernel } from "../../shims/linux/task.ts";
import { makeRoot } from "../../shims/linux/vfs/root.ts";

export interface RealOptions extends ProviderOptions {
  readonly provider?: string;
  readonly inject?: readonly string[];
  readonly hostEvents?: HostEventMode;
  readonly seed?: number;
  readonly audit?: boolean;
}

export interface RealRun {
  /** Standard output and error together. */
  readonly output: string;
  /** Exit status, `signal n`, `panic`, or how else the run ended. */
  readonly end: string;
  readonly findings: readonly Finding[];
  readonly counts: ReadonlyMap<string, number>;
}

/** Runs a program of this machine in the Linux shim, under any provider. */
export async function runReal(program: string, args: readonly string[], options: RealOptions = {}): Promise<RealRun> {
  const { provider = "direct", seed = 1, inject, audit = false, hostEvents, ...providerOptions } = options;
  const folder = mkdtempSync(join(tmpdir(), "shimbed-real-"));
  const out = openSync(join(folder, "out"), "w+");
  const input = openSync("/dev/null", "r");
  const machine = new Machine({ maxMemory: 2 ** 29 });
  try {
    const clock = new VirtualClock();
    const random = new Random(seed);
    const entropy = random.stream("device");
    const root = makeRoot(
      {
        frames: machine.physical,
        realtimeMs: () => Math.floor(clock.bootSec * 1000 + clock.now() / 1e6),
        randomBytes: (into) => entropy.fill(into),
      },
      { program, user: { uid: 1000, gid: 1000, name: "user" }, stdio: [input, out, out] },
    );
    const world = new KernelWorld();
    const assembled = assembleGate({
      ...providerOptions,
      platform: { cpu: machine.cpu, layout: "x86_64" },
      provider,
      world,
      audit,
      now: () => clock.now(),
      ...(inject === undefined ? {} : { inject: inject.map((rule) => parseInjectRule(rule)) }),
    });
    const kinds = providerInfos.find(({ name }) => name === provider)?.hostEvents ?? [];
    const kernel = new Kernel({
      machine,
      gate: assembled.gate,
      vfs: root.vfs,
      clock,
      random,
      table: fullTable(),
      signals: new Signals({ report: () => undefined }),
      injectCall: assembled.injector?.call,
      ...(hostEvents === undefined ? {} : { hostEvents: new HostEvents(hostEvents, seed, kinds) }),
    });
    world.kernel = kernel;
    root.attach(kernel);
    const fs = { root: root.vfs.root, cwd: root.vfs.root, umask: 0o22 };
    const end = await toEnd(() => {
      startFirst(kernel, { path: root.program, argv: [program, ...args], envp: [], files: root.files, fs });
      return run(kernel, { timeout: 60, maxBlocks: 50_000_000 });
    });
    root.vfs.close();
    return { output: readFileSync(join(folder, "out"), "latin1"), end, ...gathered(assembled) };
  } finally {
    machine.close();
    closeSync(out);
    closeSync(input);
    rmSync(folder, { recursive: true });
  }
}

async function toEnd(start: () => ReturnType<typeof run>): Promise<string> {
  try {
    const end = await start();
    if (end.kind !== "ended") return end.kind;
    const { status } = end;
    return status.kind === "exited" ? `exit ${status.code}` : `signal ${status.signal}`;
  } catch (error) {
    if (error instanceof HostPanic) return `panic: ${error.message}`;
    throw error;
  }
}

function gathered({ findings, injector }: AssembledGate): Pick<RealRun, "findings" | "counts"> {
  return { findings: findings?.list ?? [], counts: injector?.counts ?? new Map() };
}
