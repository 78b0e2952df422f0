/** Runs guests for tests: each in a machine of its own, with nothing of the host but its files. */
import { UserError } from "../../emulator/errors.ts";
import type { Processor } from "../../emulator/machine.ts";
import { parseInjectRule } from "../../providers/inject-rule.ts";
import { HostPanic } from "../../providers/lifecycle.ts";
import type { RunEnd, RunLimits } from "../../shims/linux/run.ts";
import { Signals } from "../../shims/linux/signals/port.ts";
import type { Bind } from "../../shims/linux/vfs/root.ts";
import { FaultReports } from "../fault-reports.ts";
import { Session } from "../session.ts";
import { Collector } from "./collector.ts";
import { Observed, type ObservedEnd } from "./observed.ts";
import type { SegmentWatch } from "./segment-watch.ts";

/** What a test may choose for a run. */
export interface RunOptions {
  readonly provider?: string;
  readonly seed?: number;
  /** Variables of the guest, which has no others. */
  readonly env?: Readonly<Record<string, string>>;
  /** What it reads from standard input. */
  readonly input?: string | Uint8Array;
  /** Faults to inject, as `SetFsBase:error=EPERM:when=2`. */
  readonly inject?: readonly string[];
  /** A directory of the host to be its `/`. */
  readonly root?: string;
  readonly bind?: readonly Bind[];
  /** Seconds of real time, 10 if left out. */
  readonly timeout?: number;
  readonly maxBlocks?: number;
  /** Bytes the guest may map. */
  readonly maxMemory?: number;
  /** The processor the guest sees, x86-64-v2 if left out. */
  readonly cpu?: Processor;
  /** Enforce segment limits and read-only data segments, as hardware does. */
  readonly strictSegments?: boolean;
  /** Look for first uses of FS and GS, which `firstUseOf` needs; the run is slower then. */
  readonly watch?: boolean;
}

/** A guest and all that decides how it runs. */
export interface RunSpec extends RunOptions {
  /** Absolute path on the host, or within `root`. */
  readonly file: string;
  /** Where the guest finds itself; `file` if left out. */
  readonly at?: string;
  readonly args?: readonly string[];
}

/** Who guests of tests are. */
export const USER = { uid: 1000, gid: 1000 };
export const TIMEOUT_SECONDS = 10;
/** Of this machine's memory, for a guest of a test. */
export const HOST_MEMORY = 2 ** 30;

/**
 * Runs a guest to its end or a limit.
 * @param interrupted ends the run from outside
 * @param targets is filled with how often each target of faults came up (see `Injector.counts`), where `spec` has rules for faults
 * @throws UserError when it cannot be started
 */
export async function execute(
  spec: RunSpec,
  interrupted?: RunLimits["signal"],
  targets?: Map<string, number>,
): Promise<Observed> {
  const { provider = "direct", seed = 0, env = {}, timeout = TIMEOUT_SECONDS, args = [], at } = spec;
  const reports = new FaultReports();
  const collector = new Collector();
  const output: Record<1 | 2, Buffer[]> = { 1: [], 2: [] };
  const name = at ?? spec.file;
  const watch = spec.watch ? await makeWatch(() => collector.events.length) : undefined;
  const session = new Session({
    program: spec.file,
    programAt: at,
    argv: [name, ...args],
    envp: Object.entries(env).map(([key, value]) => `${key}=${value}`),
    provider,
    root: spec.root,
    binds: spec.bind,
    cwd: "/",
    user: USER,
    seed,
    clock: "virtual",
    maxMemory: spec.maxMemory,
    hostMemory: HOST_MEMORY,
    processor: spec.cpu,
    strictSegments: spec.strictSegments,
    keptRecords: Number.POSITIVE_INFINITY,
    signals: new Signals({ report: reports.report, disassemble: reports.disassemble }),
    trace: { consumer: collector },
    streams: { input: bytesOf(spec.input), output: (fd, bytes) => output[fd].push(Buffer.from(bytes)) },
    around: {
      audit: true,
      ...(spec.inject === undefined ? {} : { inject: spec.inject.map((rule) => parseInjectRule(rule)) }),
    },
    hostEvents: watch,
  });
  try {
    const { kernel } = session;
    collector.kernel = kernel;
    watch?.watch(kernel);
    const end = await toEnd(session, timeout, {
      timeout,
      ...(interrupted === undefined ? {} : { signal: interrupted }),
      ...(spec.maxBlocks === undefined ? {} : { maxBlocks: spec.maxBlocks }),
    });
    for (const [target, times] of session.assembled.injector?.counts ?? []) targets?.set(target, times);
    return new Observed({
      guest: name,
      provider,
      seed,
      end,
      stdout: Buffer.concat(output[1]).toString("utf8"),
      stderr: Buffer.concat(output[2]).toString("utf8"),
      events: collector.events,
      lines: collector.lines,
      records: kernel.gate.ledger.records(),
      findings: session.assembled.findings?.list ?? [],
      faults: await reports.take(),
      states: collector.states,
      uses: watch?.uses,
    });
  } finally {
    session.close();
  }
}

async function toEnd(session: Session, seconds: number, limits: RunLimits): Promise<ObservedEnd> {
  let end: RunEnd;
  try {
    end = await session.run(limits);
  } catch (error) {
    if (error instanceof HostPanic) return { kind: "panic", message: error.message };
    throw error;
  }
  return end.kind === "timeout" || end.kind === "interrupted" ? { kind: "timeout", seconds } : end;
}

async function makeWatch(events: () => number): Promise<SegmentWatch> {
  const [{ createDisassembler }, { SegmentWatch: Watch }] = await Promise.all([
    import("../../emulator/disassembler.ts"),
    import("./segment-watch.ts"),
  ]);
  return new Watch(await createDisassembler(), events);
}

function bytesOf(input: string | Uint8Array | undefined): Uint8Array {
  if (input === undefined) return new Uint8Array();
  return typeof input === "string" ? Buffer.from(input, "utf8") : input;
}

/** An error that tells the author of a test what is wrong with it. */
export function testError(message: string): UserError {
  return new UserError(message, 125);
}
