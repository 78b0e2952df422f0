/** Statements about the order of what threads do: `thread(2).sets(12, 0x5000).before(firstUseOf("gs"))`. */
import type { LedgerRecord } from "../../providers/ledger.ts";
import { testError } from "./execute.ts";
import type { Observed, Segment } from "./observed.ts";
import type { Verdict } from "./verdict.ts";

/** When something happened: the event, or a point between two events. */
interface Point {
  readonly position: number;
  /** The event to show. */
  readonly event: number;
}

/** Something that can happen in a run. */
export interface Moment {
  readonly text: string;
  /** Its first time, if it happened. `thread` is the one of the statement around it, 1 for the first. */
  when(run: Observed, thread: number): Point | undefined;
}

/** A statement about a run, for `toHappen`. */
export interface Statement {
  check(run: Observed): Verdict;
}

/** Something that one thread does. It is a statement by itself: that it happened. */
export class ThreadMoment implements Moment, Statement {
  readonly text: string;
  readonly thread: number;
  readonly #find: (run: Observed, id: number) => Point | undefined;

  constructor(thread: number, text: string, find: (run: Observed, id: number) => Point | undefined) {
    this.thread = thread;
    this.text = `thread ${thread} ${text}`;
    this.#find = find;
  }

  when(run: Observed): Point | undefined {
    const id = run.threadId(this.thread);
    return id === undefined ? undefined : this.#find(run, id);
  }

  check(run: Observed): Verdict {
    const point = this.when(run);
    if (point !== undefined)
      return { pass: true, headline: `expected that never ${this.text}, but it did`, focus: point.event };
    const { length } = run.threads;
    const none =
      run.threadId(this.thread) === undefined
        ? `; there ${length === 1 ? "is only 1 thread" : `are only ${length} threads`}`
        : "";
    return { pass: false, headline: `expected that ${this.text}, but it never did${none}` };
  }

  /** That this happened, and before the first time of the other, which must happen too. */
  before(other: Moment): Statement {
    return { check: (run) => this.#order(run, other, "before") };
  }

  after(other: Moment): Statement {
    return { check: (run) => this.#order(run, other, "after") };
  }

  #order(run: Observed, other: Moment, order: "before" | "after"): Verdict {
    const own = this.when(run);
    if (own === undefined) return this.check(run);
    const theirs = other.when(run, this.thread);
    if (theirs === undefined)
      return {
        pass: false,
        headline: `expected that ${this.text} ${order} ${other.text}, but ${other.text} never happened`,
      };
    const pass = order === "before" ? own.position < theirs.position : own.position > theirs.position;
    const headline = pass
      ? `expected that not ${this.text} ${order} ${other.text}, but so it was`
      : `expected that ${this.text} ${order} ${other.text}, but it was the other way round`;
    return { pass, headline, focus: order === "before" ? theirs.event : own.event };
  }
}

/** What the n-th thread does, counted from 1, or the thread with that id. */
export class ThreadMoments {
  readonly #thread: number;

  constructor(thread: number) {
    this.#thread = thread;
  }

  /** Sets the base of FS or GS, or a TLS entry (its number, 6 to 14), with success. */
  sets(what: Segment | number, base: number | bigint): ThreadMoment {
    const name = typeof what === "number" ? `TLS entry ${what}` : `${what.toUpperCase()} base`;
    return this.#record(`sets ${name} to 0x${base.toString(16)}`, ({ request, outcome }) => {
      if (outcome.kind !== "ok") return false;
      if (request.kind === "SetThreadArea")
        return outcome.desc?.entry_number === what && BigInt(request.desc.base_addr) === BigInt(base);
      const kind = what === "fs" ? "SetFsBase" : what === "gs" ? "SetGsBase" : undefined;
      return request.kind === kind && "address" in request && request.address === BigInt(base);
    });
  }

  /** Asks for a token of this kind, whatever becomes of it. */
  asks(kind: LedgerRecord["request"]["kind"]): ThreadMoment {
    return this.#record(`asks ${kind}`, ({ request }) => request.kind === kind);
  }

  calls(name: string): ThreadMoment {
    return this.#event(`calls ${name}`, (run, id, at) => {
      const event = run.events[at];
      return event?.kind === "call" && event.tid === id && event.name === name;
    });
  }

  /** A call that fails, with this error where one is given. */
  fails(name: string, error?: string): ThreadMoment {
    return this.#event(`fails in ${name}${error === undefined ? "" : ` with ${error}`}`, (run, id, at) => {
      const event = run.events[at];
      if (event?.kind !== "call" || event.tid !== id || event.name !== name) return false;
      return event.error !== undefined && (error === undefined || event.error === error);
    });
  }

  /** A signal is delivered, by name. */
  gets(signal: string): ThreadMoment {
    return this.#event(`gets ${signal}`, (run, id, at) => {
      const event = run.events[at];
      return event?.kind === "signal" && event.tid === id && event.text.startsWith(`${signal} `);
    });
  }

  #event(text: string, fits: (run: Observed, id: number, at: number) => boolean): ThreadMoment {
    return new ThreadMoment(this.#thread, text, (run, id) => {
      const at = run.events.findIndex((_, index) => fits(run, id, index));
      return at < 0 ? undefined : { position: at, event: at };
    });
  }

  #record(text: string, fits: (record: LedgerRecord) => boolean): ThreadMoment {
    return this.#event(text, (run, id, at) => {
      const event = run.events[at];
      return event?.kind === "call" && event.tokens.some((record) => record.thread === id && fits(record));
    });
  }
}

export function thread(which: number): ThreadMoments {
  return new ThreadMoments(which);
}

/**
 * The first access to memory through FS or GS by the thread of the statement. Runs must be watched (`linux.with({ watch: true })`).
 */
export function firstUseOf(segment: Segment): Moment {
  return {
    text: `its first use of ${segment.toUpperCase()}`,
    when: (run, which) => {
      if (run.uses === undefined) throw testError("firstUseOf needs a run with { watch: true }");
      const id = run.threadId(which);
      const use = run.uses.find((one) => one.thread === id && one.segment === segment);
      // Between the event before and the one after it.
      return use === undefined ? undefined : { position: use.event - 0.5, event: Math.max(0, use.event - 1) };
    },
  };
}
