/** What a test sees of a guest's run: its end, output, trace, tokens, TLS state and what an audit found. */
import { createHash } from "node:crypto";
import type { Finding } from "../../providers/findings.ts";
import type { LedgerRecord } from "../../providers/ledger.ts";
import type { TlsState } from "../../providers/state.ts";
import type { RunEnd } from "../../shims/linux/run.ts";
import type { TraceEvent } from "../../shims/linux/trace/trace.ts";

export type Segment = "fs" | "gs";

/** A thread's first access to memory through a segment register. */
export interface SegmentUse {
  readonly thread: number;
  readonly segment: Segment;
  /** How many events had come before. */
  readonly event: number;
  readonly address: bigint;
  readonly instruction: string;
}

/** How a run ended. */
export type ObservedEnd =
  | Exclude<RunEnd, { readonly kind: "interrupted" } | { readonly kind: "timeout" }>
  | { readonly kind: "timeout"; readonly seconds: number }
  /** The platform's host code would have failed. */
  | { readonly kind: "panic"; readonly message: string }
  /** A session of a trusted application has no end of its own; `dead` says what it died of. */
  | { readonly kind: "session"; readonly dead: string | undefined };

/** A thread's bases and selectors as they were after an event. */
export interface StateChange {
  /** Index of the event that showed it. */
  readonly event: number;
  readonly thread: number;
  readonly state: TlsState;
}

/** A line of the trace, and the event it tells of. */
export interface TraceLine {
  readonly text: string;
  readonly event: number;
  /** A token under a call. */
  readonly token: boolean;
}

export interface ObservedParts {
  readonly guest: string;
  readonly provider: string;
  readonly seed: number;
  readonly end: ObservedEnd;
  readonly stdout: string;
  readonly stderr: string;
  readonly events: readonly TraceEvent[];
  readonly lines: readonly TraceLine[];
  readonly records: readonly LedgerRecord[];
  readonly findings: readonly Finding[];
  readonly faults: readonly string[];
  readonly states: readonly StateChange[];
  /** Undefined where nobody asked to watch. */
  readonly uses: readonly SegmentUse[] | undefined;
}

/** Thread ids start far above this, so a smaller number counts threads. */
const MOST_ORDINALS = 300;

/** One run of a guest, as matchers look at it. */
export class Observed implements ObservedParts {
  readonly guest: string;
  readonly provider: string;
  readonly seed: number;
  readonly end: ObservedEnd;
  /** Standard output and error, UTF-8. */
  readonly stdout: string;
  readonly stderr: string;
  readonly events: readonly TraceEvent[];
  readonly lines: readonly TraceLine[];
  /** The ledger. */
  readonly records: readonly LedgerRecord[];
  readonly findings: readonly Finding[];
  /** Reports on faults that nobody handled. */
  readonly faults: readonly string[];
  readonly states: readonly StateChange[];
  readonly uses: readonly SegmentUse[] | undefined;
  /** Ids of the threads, in the order in which they first showed. */
  readonly threads: readonly number[];

  constructor(parts: ObservedParts) {
    this.guest = parts.guest;
    this.provider = parts.provider;
    this.seed = parts.seed;
    this.end = parts.end;
    this.stdout = parts.stdout;
    this.stderr = parts.stderr;
    this.events = parts.events;
    this.lines = parts.lines;
    this.records = parts.records;
    this.findings = parts.findings;
    this.faults = parts.faults;
    this.states = parts.states;
    this.uses = parts.uses;
    this.threads = threadsOf(parts.events, parts.records);
  }

  /** Status as a shell tells it, 124 for a limit, 125 for a failing platform; 1 for a trusted application that died. */
  get status(): number {
    const { end } = this;
    if (end.kind === "session") return end.dead === undefined ? 0 : 1;
    if (end.kind === "ended") return end.status.kind === "exited" ? end.status.code : 128 + end.status.signal;
    return end.kind === "panic" ? 125 : 124;
  }

  /** The trace as text, tokens left out unless asked for. */
  trace(tokens = false): string {
    return this.lines.map(({ text, token }) => (token && !tokens ? "" : `${text}\n`)).join("");
  }

  /** The id of a thread given by it, or by its place: 1 is the first. */
  threadId(thread: number): number | undefined {
    return thread < MOST_ORDINALS ? this.threads[thread - 1] : this.threads.find((id) => id === thread);
  }

  /** The place of a thread: 1 is the first. */
  ordinal(thread: number): number {
    return this.threads.indexOf(thread) + 1;
  }

  /** The last state of a thread that was seen, by id. */
  lastState(thread: number): TlsState | undefined {
    return this.states.findLast((change) => change.thread === thread)?.state;
  }

  /** SHA-256 of all that a run with the same inputs must give again. */
  get digest(): string {
    const hash = createHash("sha256");
    for (const { text } of this.lines) hash.update(`${text}\n`);
    for (const text of [this.stdout, this.stderr, JSON.stringify(this.end)]) hash.update(`${text.length}\n${text}`);
    for (const finding of this.findings) hash.update(JSON.stringify(finding));
    return hash.digest("hex");
  }
}

function threadsOf(events: readonly TraceEvent[], records: readonly LedgerRecord[]): number[] {
  const threads = new Set<number>();
  for (const event of events) {
    threads.add(event.tid);
    if (event.kind === "call") for (const { thread } of event.tokens) threads.add(thread);
  }
  for (const { thread } of records) threads.add(thread);
  return [...threads];
}
