/** Makes events of what dispatch reports: one per call, with its arguments as text and the tokens it took. */
import type { Ledger, LedgerRecord } from "../../../providers/ledger.ts";
import { callName } from "../dispatch.ts";
import { errnoName, isError } from "../errno.ts";
import type { Kind, PrintContext } from "../kinds/kinds.ts";
import { Fetch, type Plan } from "../table.ts";
import type { ExitStatus, Process, Task } from "../task.ts";
import type { Tracer } from "./tracer.ts";

/** A call that has ended, or will not return. */
export interface CallEvent {
  readonly kind: "call";
  readonly pid: number;
  readonly tid: number;
  readonly abi: "x86_64" | "i386";
  readonly number: number;
  readonly name: string;
  /** Undefined for a call without a row. */
  readonly family: string | undefined;
  readonly args: readonly string[];
  /** Undefined when the call did not return. */
  readonly result: number | undefined;
  /** The result as it prints: `3`, `0x7f…`, `-1`, `?`. */
  readonly returned: string;
  /** Name of the error, and the sentence the handler gave. */
  readonly error: string | undefined;
  readonly why: string | undefined;
  readonly tokens: readonly LedgerRecord[];
  /** How many of `args` an `UnfinishedEvent` has told already; undefined when there was none. */
  readonly told: number | undefined;
}

/** A call that waits while others go on. `args` are those known by now. */
export interface UnfinishedEvent {
  readonly kind: "unfinished";
  readonly pid: number;
  readonly tid: number;
  readonly name: string;
  readonly args: readonly string[];
  /** The call's end adds none to them. */
  readonly complete: boolean;
}

interface SignalEvent {
  readonly kind: "signal";
  readonly pid: number;
  readonly tid: number;
  /** strace's text between the dashes: `SIGSEGV {si_signo=SIGSEGV, …}`. */
  readonly text: string;
}

/** A thread has ended, with all others of its process when `tid` is `pid`. */
interface EndEvent {
  readonly kind: "ended";
  readonly pid: number;
  readonly tid: number;
  readonly status: ExitStatus;
}

export type TraceEvent = CallEvent | UnfinishedEvent | SignalEvent | EndEvent;

/** Which calls are told of. */
export interface CallFilter {
  admits(call: { readonly name: string; readonly family: string | undefined }): boolean;
  readonly status: "failed" | "successful" | "all";
}

/** Where events go. */
export interface TraceConsumer {
  event(event: TraceEvent): void;
}

export interface EventTracerOptions {
  readonly consumer: TraceConsumer;
  /** Every call when omitted. */
  readonly filter?: CallFilter;
  /** Its records become the tokens of the calls that asked. */
  readonly ledger: Ledger;
}

/** A call in progress. */
interface Pending {
  readonly name: string;
  readonly family: string | undefined;
  readonly plan: Plan | undefined;
  readonly args: readonly number[];
  readonly exact: readonly bigint[];
  /** Undefined until the call ends, for what the kernel fills in. */
  readonly texts: (string | undefined)[];
  readonly tokens: LedgerRecord[];
  told: number | undefined;
}

interface SentSignal {
  readonly task: Task;
  readonly text: string;
}

const RESTARTS: Readonly<Record<number, string>> = {
  512: "To be restarted if SA_RESTART is set",
  513: "To be restarted",
  514: "To be restarted if no handler",
  516: "Interrupted by signal",
};
const RESTART_NAMES: Readonly<Record<number, string>> = {
  512: "ERESTARTSYS",
  513: "ERESTARTNOINTR",
  514: "ERESTARTNOHAND",
  516: "ERESTART_RESTARTBLOCK",
};

export class EventTracer implements Tracer {
  readonly #consumer: TraceConsumer;
  readonly #filter: CallFilter | undefined;
  readonly #pending = new Map<Task, Pending>();
  /** Signals without effect that came during a call, to be told of behind it. */
  #ignored: SentSignal[] = [];
  #current: Pending | undefined;
  readonly #unsubscribe: () => void;

  constructor(options: EventTracerOptions) {
    this.#consumer = options.consumer;
    this.#filter = options.filter;
    this.#unsubscribe = options.ledger.subscribe((record) => this.#current?.tokens.push(record));
  }

  close(): void {
    this.#unsubscribe();
  }

  enter(task: Task, args: readonly number[]): void {
    const { plan, abi, callNumber } = task;
    const name = plan?.row.name ?? callName(abi, callNumber);
    const family = plan?.row.family;
    if (this.#filter !== undefined && !this.#filter.admits({ name, family })) {
      this.#current = undefined;
      return;
    }
    const exact =
      plan === undefined ? rawArguments(task) : args.map((_, index) => exactArgument(task, plan, args, index));
    const pending: Pending = { name, family, plan, args, exact, texts: [], tokens: [], told: undefined };
    if (plan === undefined)
      pending.texts.push(...exact.map((value) => (value === 0n ? "0" : `0x${value.toString(16)}`)));
    else {
      for (const [index, kind] of plan.row.kinds.entries()) {
        pending.texts.push(kind.moment === "entry" ? show(task, pending, kind, index, undefined) : undefined);
      }
    }
    this.#pending.set(task, pending);
    this.#current = pending;
  }

  block(task: Task): void {
    const pending = this.#pending.get(task);
    this.#current = undefined;
    // With nobody else to tell of, the call prints in one piece when it ends.
    if (pending === undefined || task.kernel.tasks.size < 2 || this.#filter?.status === "failed") return;
    const args = leading(pending.texts);
    pending.told = args.length;
    const { pid } = task.process;
    const complete = !pending.texts.includes(undefined);
    this.#consumer.event({ kind: "unfinished", pid, tid: task.tid, name: pending.name, args, complete });
  }

  leave(task: Task, result: number | undefined): void {
    const pending = this.#pending.get(task);
    this.#current = undefined;
    if (pending === undefined) return;
    this.#pending.delete(task);
    this.#told(task, pending, result);
    if (this.#ignored.length === 0) return;
    const sent = this.#ignored.filter((signal) => signal.task === task);
    this.#ignored = this.#ignored.filter((signal) => signal.task !== task);
    for (const { text } of sent) this.signal(task, text);
  }

  #told(task: Task, pending: Pending, result: number | undefined): void {
    const failed = result !== undefined && isError(result);
    const { status } = this.#filter ?? { status: "all" };
    if ((status === "failed" && !failed) || (status === "successful" && failed)) return;
    const args: string[] = [];
    for (const [index, known] of pending.texts.entries()) {
      const kind = pending.plan?.row.kinds[index];
      const text = known ?? (kind === undefined ? "" : show(task, pending, kind, index, result ?? 0));
      if (text !== "") args.push(text);
    }
    const errno = failed && result !== undefined ? -result : 0;
    const restarted = RESTARTS[errno];
    this.#consumer.event({
      kind: "call",
      pid: task.process.pid,
      tid: task.tid,
      abi: task.abi.name,
      number: task.callNumber,
      name: pending.name,
      family: pending.family,
      args,
      result,
      returned: returned(task, pending, result),
      error: failed ? (RESTART_NAMES[errno] ?? errnoName(errno)) : undefined,
      why: failed ? (task.reason ?? restarted) : undefined,
      tokens: pending.tokens,
      told: pending.told,
    });
  }

  signal(task: Task, text: string): void {
    this.#consumer.event({ kind: "signal", pid: task.process.pid, tid: task.tid, text });
  }

  ignored(task: Task, text: string): void {
    if (this.#pending.has(task)) this.#ignored.push({ task, text });
    else this.signal(task, text);
  }

  threadEnded(task: Task, status: ExitStatus): void {
    this.leave(task, undefined);
    this.#consumer.event({ kind: "ended", pid: task.process.pid, tid: task.tid, status });
  }

  ended(process: Process, status: ExitStatus): void {
    // What its tasks were in the middle of never returns, and is told of before the end.
    for (const task of [...this.#pending.keys()]) if (task.process === process) this.leave(task, undefined);
    this.#consumer.event({ kind: "ended", pid: process.pid, tid: process.pid, status });
  }
}

function leading(texts: readonly (string | undefined)[]): string[] {
  const known: string[] = [];
  for (const text of texts) {
    if (text === undefined) break;
    if (text !== "") known.push(text);
  }
  return known;
}

function show(task: Task, pending: Pending, kind: Kind, index: number, result: number | undefined): string {
  const { args, exact } = pending;
  const at: PrintContext = { task, abi: task.abi, args, exact: exact[index] ?? 0n, result };
  return kind.print(args[index] ?? 0, at);
}

function returned(task: Task, pending: Pending, result: number | undefined): string {
  // A call that replaced the program has worked; one that ended the task never returns.
  if (result === undefined) return task.dead || !pending.name.startsWith("exec") ? "?" : "0";
  if (isError(result)) return RESTARTS[-result] === undefined ? "-1" : "?";
  const kind = pending.plan?.row.returns;
  if (kind === undefined) return String(result);
  const exact = BigInt.asUintN(64, BigInt(result));
  return kind.print(result, { task, abi: task.abi, args: pending.args, exact, result });
}

function rawArguments(task: Task): bigint[] {
  const { abi, cpu } = task;
  return abi.args.map((register) => (abi.word === 8 ? cpu.regBig(register) : BigInt(cpu.regLow(register))));
}

function exactArgument(task: Task, plan: Plan, args: readonly number[], index: number): bigint {
  const fetch = plan.fetches[index];
  if (fetch === Fetch.u64 || fetch === Fetch.i64) return task.cpu.regBig(plan.registers[index] ?? 0);
  return BigInt.asUintN(64, BigInt(args[index] ?? 0));
}
