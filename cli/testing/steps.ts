/** A trace as a sequence of steps that can be written, read again and compared. */
import { formatRecord } from "../../providers/ledger-format.ts";
import type { TlsState } from "../../providers/state.ts";
import type { Kernel } from "../../shims/linux/task.ts";
import type { TraceConsumer, TraceEvent } from "../../shims/linux/trace/trace.ts";
import { TextTrace } from "../../shims/linux/trace/trace-text.ts";

/** A thread's bases and selectors, as text. */
export interface StepTls {
  readonly fsBase: string;
  readonly gsBase: string;
  readonly fs: string;
  readonly gs: string;
}

/** One line of a trace. */
export interface Step {
  /** Threads are counted from 1, in the order in which they began. */
  readonly thread: number;
  /** As `shimbed trace` prints it, without the thread. */
  readonly text: string;
  /** The call's name; `signal` or `end` for the other lines. */
  readonly name: string;
  /** What came out: `ok`, `?`, or the error's name; empty for what has no result. */
  readonly outcome: string;
  /** Tokens that the call took, each in a line. */
  readonly tokens?: readonly string[];
  /** The thread's TLS, where it is not as at its step before. */
  readonly tls?: StepTls;
}

/** Calls after which there is one thread more. */
const CLONES: ReadonlySet<string> = new Set(["clone", "clone3", "fork", "vfork"]);

/** Makes steps of a run's events. */
export class StepTrace implements TraceConsumer {
  readonly #take: (step: Step) => void;
  readonly #threads = new Map<number, number>();
  readonly #last = new Map<number, string>();
  #kernel: Kernel | undefined;

  constructor(take: (step: Step) => void) {
    this.#take = take;
  }

  /** To be called before the run: where the threads' TLS can be seen. */
  watch(kernel: Kernel): void {
    this.#kernel = kernel;
  }

  event(event: TraceEvent): void {
    const id = event.tid;
    if (!this.#threads.has(id) || (event.kind === "call" && CLONES.has(event.name))) this.#number(id);
    const thread = this.#threads.get(id) ?? 0;
    // A call that waited is told of once, when it has ended.
    if (event.kind === "unfinished") return;
    const tokens = event.kind === "call" ? event.tokens.map(formatRecord) : [];
    const tls = this.#tlsOf(id);
    this.#take({
      thread,
      text: textOf(event),
      name: event.kind === "call" ? event.name : event.kind === "signal" ? "signal" : "end",
      outcome: event.kind === "call" ? (event.error ?? (event.result === undefined ? "?" : "ok")) : "",
      ...(tokens.length === 0 ? {} : { tokens }),
      ...(tls === undefined ? {} : { tls }),
    });
  }

  /** Gives numbers to all threads that are there, oldest first. */
  #number(id: number): void {
    const there = [...(this.#kernel?.tasks.keys() ?? []), id];
    for (const thread of there) if (!this.#threads.has(thread)) this.#threads.set(thread, this.#threads.size + 1);
  }

  #tlsOf(thread: number): StepTls | undefined {
    const task = this.#kernel?.current;
    if (task?.tid !== thread) return undefined;
    const tls = tlsText(task.kernel.gate.state(thread));
    const key = Object.values(tls).join();
    if (this.#last.get(thread) === key) return undefined;
    this.#last.set(thread, key);
    return tls;
  }
}

function tlsText({ fsBase, gsBase, fs, gs }: TlsState): StepTls {
  const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
  return { fsBase: hex(fsBase), gsBase: hex(gsBase), fs: hex(fs), gs: hex(gs) };
}

/** The line alone: for one event, the text's own bookkeeping of threads does not matter. */
function textOf(event: Exclude<TraceEvent, { readonly kind: "unfinished" }>): string {
  let text = "";
  const trace = new TextTrace({ write: (line) => (text = line) });
  trace.event(event.kind === "call" ? { ...event, told: undefined } : event);
  return text;
}
