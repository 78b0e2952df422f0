/** Running a guest for a command: limits, Ctrl-C, what is gathered for its end, and the exit status. */
import os from "node:os";
import { Interrupts } from "../emulator/interrupts.ts";
import type { Finding } from "../providers/findings.ts";
import { HostEvents } from "../providers/host-events.ts";
import type { LedgerRecord } from "../providers/ledger.ts";
import { HostPanic } from "../providers/lifecycle.ts";
import { providerInfos } from "../providers/registry.ts";
import { KernelWorld } from "../shims/linux/guest-world.ts";
import { HostNetwork } from "../shims/linux/net/host.ts";
import type { RunEnd } from "../shims/linux/run.ts";
import { Signals } from "../shims/linux/signals/port.ts";
import type { ExitStatus } from "../shims/linux/task.ts";
import type { MemoryStreams } from "../shims/linux/vfs/memory-stream.ts";
import type { Around } from "./around.ts";
import { FaultReports } from "./fault-reports.ts";
import { locateGuest } from "./locate.ts";
import { type GuestOptions, guestEnvironment } from "./options.ts";
import { Session, type SessionOptions } from "./session.ts";

/** Beyond what the guest may map: its files, and page tables. */
const OVERHEAD_BYTES = 64 * 2 ** 20;
/** The user of guests where the host has no such ids. */
const COMMON_ID = 1000;

const OUT_OF_BOUNDS = 124;
const OWN_FAILURE = 125;
const SIGNAL_STATUS = 128;
const UNNAMED_CALL = / syscall_0x/;
/** Calls that are named at the end of a run. */
const CALLS_SHOWN = 20;

export interface GuestRun {
  readonly guest: string;
  readonly args: readonly string[];
  readonly options: GuestOptions;
  /** How many records the ledger keeps. */
  readonly keptRecords: number;
  readonly trace?: SessionOptions["trace"];
  /** Host descriptors of the guest's standard streams. */
  readonly stdio?: readonly [number, number, number];
  /** Standard streams of our own in place of the host's. */
  readonly streams?: MemoryStreams;
  /** How files of the host show, and who is told of their use. */
  readonly lower?: SessionOptions["lower"];
  /** Called when everything is put together, before the guest's first instruction. */
  readonly ready?: (session: Session) => void;
  /** Whether to look for what is wrong with the guest's TLS. */
  readonly audit?: boolean;
  /** Whether to count what faults could strike at. */
  readonly countsTargets?: boolean;
}

/** How a run ended, the host's signals included. */
export type GuestEnd =
  | Exclude<RunEnd, { readonly kind: "interrupted" }>
  | { readonly kind: "interrupted"; readonly signal: number }
  /** The platform's own code failed, as LiteBox' would. */
  | { readonly kind: "panic"; readonly message: string };

export interface GuestReport {
  /** What our own process ends with. */
  readonly status: number;
  readonly end: GuestEnd;
  /** Reports on faults that nobody handled, as lines. */
  readonly faults: readonly string[];
  /** Calls that were answered ENOSYS because shimbed does not have them, and how often. */
  readonly unsupported: ReadonlyMap<string, number>;
  /** Programs whose word size the provider does not serve, which were answered ENOEXEC. */
  readonly notServed: ReadonlyMap<string, number>;
  /** The ledger's last records. */
  readonly records: readonly LedgerRecord[];
  /** What an audit found. */
  readonly findings: readonly Finding[];
  /** How often each target of faults came up, where that was asked for. */
  readonly targets: ReadonlyMap<string, number>;
  /** The first program's word size. */
  readonly abi: "x86_64" | "i386";
  /** Lines about the policy and the faults. */
  readonly notes: readonly string[];
}

/**
 * Runs a guest to its end or a limit.
 * @throws UserError when it cannot be started
 */
export async function runToEnd(run: GuestRun): Promise<GuestReport> {
  const { guest, args, options } = run;
  const envp = guestEnvironment(options, process.env);
  const path = envp.find((variable) => variable.startsWith("PATH="))?.slice("PATH=".length);
  const program = locateGuest(guest, options.root, path);
  const reports = new FaultReports();
  const { world, around, gate } = await surroundings(run);
  const interrupts = new Interrupts();
  interrupts.catchSignals();
  try {
    const session = new Session({
      program,
      argv: [options.argv0 ?? guest, ...args],
      envp,
      provider: options.provider,
      root: options.root,
      binds: options.bind,
      cwd: options.cwd,
      user: options.user ?? hostUser(),
      seed: options.seed,
      clock: options.clock,
      hostNetwork: options.net === "host" ? await hostNetwork() : undefined,
      maxMemory: options.maxMemory,
      hostMemory: hostMemory(options.maxMemory),
      processor: options.cpu,
      strictSegments: options.strictSegments,
      keptRecords: run.keptRecords,
      signals: new Signals({ report: reports.report, disassemble: reports.disassemble }),
      trace: run.trace,
      stdio: run.stdio,
      streams: run.streams,
      lower: run.lower,
      world,
      hostEvents: hostEvents(options),
      around: gate,
    });
    try {
      run.ready?.(session);
      const { ledger } = session.kernel.gate;
      const { injector, findings } = session.assembled;
      around?.follow(ledger, { provider: options.provider, guest: [guest, ...args], seed: options.seed });
      if (options.timeout !== undefined) interrupts.alarmIn(options.timeout * 1000);
      const end = await toEnd(session, interrupts, options.maxBlocks);
      around?.end();
      return {
        status: statusOf(end),
        end,
        faults: await reports.take(),
        unsupported: session.kernel.unsupported,
        notServed: session.kernel.notServed,
        records: ledger.records(),
        findings: findings?.list ?? [],
        targets: injector?.counts ?? new Map(),
        abi: session.abi,
        notes: around?.notes(injector) ?? [],
      };
    } finally {
      session.close();
    }
  } finally {
    interrupts.close();
    around?.close();
  }
}

interface Surroundings {
  readonly world: KernelWorld;
  readonly around: Around | undefined;
  readonly gate: NonNullable<SessionOptions["around"]>;
}

/** What stands around the provider. Nothing is loaded for a run that has nothing there. */
async function surroundings({ options, audit = false, countsTargets = false }: GuestRun): Promise<Surroundings> {
  const world = new KernelWorld();
  const { policy, policyDryRun, inject, as, ledger } = options;
  const plain = [policy, policyDryRun, inject, as, ledger].every((option) => option === undefined);
  if (plain && !audit && !countsTargets && !options.json) return { world, around: undefined, gate: {} };
  const { GuestSymbols } = await import("./symbols.ts");
  const { symbolOf } = new GuestSymbols(world);
  const counting = countsTargets ? { inject: [] } : {};
  if (plain) return { world, around: undefined, gate: { audit, symbolOf, ...counting } };
  const { Around } = await import("./around.ts");
  const around = new Around(options, world, symbolOf);
  return { world, around, gate: { audit, symbolOf, ...counting, ...around.gate } };
}

/** Node's network code takes a while to load: only for runs that use it. */
async function hostNetwork(): Promise<HostNetwork> {
  const [net, dgram] = await Promise.all([import("node:net"), import("node:dgram")]);
  return new HostNetwork({ net: net.default, dgram: dgram.default });
}

async function toEnd(session: Session, interrupts: Interrupts, maxBlocks: number | undefined): Promise<GuestEnd> {
  try {
    const ended = await session.run({ signal: interrupts, ...(maxBlocks === undefined ? {} : { maxBlocks }) });
    return withReason(ended, interrupts);
  } catch (error) {
    if (error instanceof HostPanic) return { kind: "panic", message: error.message };
    throw error;
  }
}

/** Says what a run was interrupted for. */
function withReason(end: RunEnd, interrupts: Interrupts): GuestEnd {
  if (end.kind !== "interrupted") return end;
  const { reason } = interrupts;
  return reason?.kind === "signal" ? { kind: "interrupted", signal: reason.signal } : { kind: "timeout" };
}

function statusOf(end: GuestEnd): number {
  switch (end.kind) {
    case "ended":
      return exitStatus(end.status);
    case "interrupted":
      return SIGNAL_STATUS + end.signal;
    case "panic":
      return OWN_FAILURE;
    default:
      return OUT_OF_BOUNDS;
  }
}

/** A process's end as a shell tells it. */
function exitStatus(status: ExitStatus): number {
  return status.kind === "exited" ? status.code : SIGNAL_STATUS + status.signal;
}

/** The lines that people read at the end of a run; none for one that ended well. */
export function endLines(report: GuestReport, options: GuestOptions): string[] {
  const lines = report.faults.map((line) => (line.startsWith(" ") ? line : `shimbed: ${line}`));
  const { end, unsupported, notServed } = report;
  if (end.kind === "timeout")
    lines.push(`shimbed: out of time: the guest still ran after --timeout ${options.timeout}`);
  if (end.kind === "panic") lines.push(`shimbed: ${end.message}`);
  if (end.kind === "blocks") {
    lines.push(`shimbed: out of blocks: the guest still ran after --max-blocks ${options.maxBlocks}`);
  }
  if (end.kind === "interrupted") {
    lines.push(`shimbed: ended by ${end.signal === os.constants.signals.SIGINT ? "SIGINT (Ctrl-C)" : "SIGTERM"}`);
  }
  if (end.kind === "deadlock") {
    lines.push("shimbed: the guest would wait for ever: nothing can wake any of its threads");
    lines.push(...end.waiting.map((line) => `  ${line}`));
  }
  lines.push(...report.notes);
  if (notServed.size > 0) {
    const names = [...notServed].map(([name, count]) => (count === 1 ? name : `${name} (${count} times)`)).join(", ");
    lines.push(
      `shimbed: not executed (ENOEXEC), as provider ${options.provider} does not serve it in this run: ${names}`,
    );
  }
  // A number without a name is none that Linux has either.
  const lacking = [...unsupported].filter(([name]) => !UNNAMED_CALL.test(name));
  if (lacking.length > 0) {
    const names = lacking.map(([name, count]) => `${name} (${count})`);
    if (names.length > CALLS_SHOWN) names.splice(CALLS_SHOWN, names.length, `and ${names.length - CALLS_SHOWN} more`);
    lines.push(`shimbed: system calls that it does not have, answered ENOSYS: ${names.join(", ")}`);
  }
  return lines;
}

/** Who we are ourselves: then files have the rights that they have natively. */
function hostUser(): { uid: number; gid: number } {
  return { uid: process.getuid?.() ?? COMMON_ID, gid: process.getgid?.() ?? COMMON_ID };
}

/** What the provider's host does of its own accord. */
export function hostEvents({
  hostEvents: mode = "none",
  seed,
  provider,
}: Pick<GuestOptions, "hostEvents" | "seed" | "provider">): HostEvents | undefined {
  if (mode === "none") return undefined;
  return new HostEvents(mode, seed, providerInfos.find(({ name }) => name === provider)?.hostEvents ?? []);
}

/** Half of what this machine has, so that a guest without end does not take the machine with it. */
function hostMemory(maxMemory: number | undefined): number {
  const constrained = process.constrainedMemory();
  const total = constrained > 0 ? Math.min(constrained, os.totalmem()) : os.totalmem();
  const half = Math.floor(total / 2);
  return maxMemory === undefined ? half : Math.min(half, maxMemory + OVERHEAD_BYTES);
}
