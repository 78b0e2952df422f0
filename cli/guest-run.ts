/** Running a guest for a command: limits, Ctrl-C, what is gathered for its end, and the exit status. */
import os from "node:os";
import { UserError } from "../emulator/errors.ts";
import { Interrupts } from "../emulator/interrupts.ts";
import type { LedgerRecord } from "../providers/ledger.ts";
import type { RunEnd } from "../shims/linux/run.ts";
import { Signals } from "../shims/linux/signals/port.ts";
import type { ExitStatus } from "../shims/linux/task.ts";
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

export interface GuestRun {
  readonly guest: string;
  readonly args: readonly string[];
  readonly options: GuestOptions;
  /** How many records the ledger keeps. */
  readonly keptRecords: number;
  readonly trace?: SessionOptions["trace"];
  /** Host descriptors of the guest's standard streams. */
  readonly stdio?: readonly [number, number, number];
}

/** How a run ended, the host's signals included. */
export type GuestEnd =
  | Exclude<RunEnd, { readonly kind: "interrupted" }>
  | { readonly kind: "interrupted"; readonly signal: number };

export interface GuestReport {
  /** What our own process ends with. */
  readonly status: number;
  readonly end: GuestEnd;
  /** Reports on faults that nobody handled, as lines. */
  readonly faults: readonly string[];
  /** Calls that were answered ENOSYS because shimbed does not have them, and how often. */
  readonly unsupported: ReadonlyMap<string, number>;
  /** The ledger's last records. */
  readonly records: readonly LedgerRecord[];
}

/**
 * Runs a guest to its end or a limit.
 * @throws UserError when it cannot be started
 */
export async function runToEnd(run: GuestRun): Promise<GuestReport> {
  const { guest, args, options } = run;
  if (options.strictSegments) {
    throw new UserError("cannot enforce segments strictly: this build of the engine has no such mode", OWN_FAILURE);
  }
  const envp = guestEnvironment(options, process.env);
  const path = envp.find((variable) => variable.startsWith("PATH="))?.slice("PATH=".length);
  const program = locateGuest(guest, options.root, path);
  const reports = new FaultReports();
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
      maxMemory: options.maxMemory,
      hostMemory: hostMemory(options.maxMemory),
      keptRecords: run.keptRecords,
      signals: new Signals({ report: reports.report, disassemble: reports.disassemble }),
      trace: run.trace,
      stdio: run.stdio,
    });
    try {
      const { ledger } = session.kernel.gate;
      if (options.timeout !== undefined) interrupts.alarmIn(options.timeout * 1000);
      const ended = await session.run({
        signal: interrupts,
        ...(options.maxBlocks === undefined ? {} : { maxBlocks: options.maxBlocks }),
      });
      const end = withReason(ended, interrupts);
      return {
        status: statusOf(end),
        end,
        faults: await reports.take(),
        unsupported: session.kernel.unsupported,
        records: ledger.records(),
      };
    } finally {
      session.close();
    }
  } finally {
    interrupts.close();
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
  const { end, unsupported } = report;
  if (end.kind === "timeout")
    lines.push(`shimbed: out of time: the guest still ran after --timeout ${options.timeout}`);
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
  if (unsupported.size > 0) {
    const names = [...unsupported].map(([name, count]) => `${name} (${count})`).join(", ");
    lines.push(`shimbed: system calls that it does not have, answered ENOSYS: ${names}`);
  }
  return lines;
}

/** Who we are ourselves: then files have the rights that they have natively. */
function hostUser(): { uid: number; gid: number } {
  return { uid: process.getuid?.() ?? COMMON_ID, gid: process.getgid?.() ?? COMMON_ID };
}

/** Half of what this machine has, so that a guest without end does not take the machine with it. */
function hostMemory(maxMemory: number | undefined): number {
  const constrained = process.constrainedMemory();
  const total = constrained > 0 ? Math.min(constrained, os.totalmem()) : os.totalmem();
  const half = Math.floor(total / 2);
  return maxMemory === undefined ? half : Math.min(half, maxMemory + OVERHEAD_BYTES);
}
