import type { Asker, Outcome, Request } from "./requests.ts";
import type { TlsState } from "./state.ts";
import type { MisuseKind } from "./token-desk.ts";

/** A token that was not used as it must be; `by` is the thread that did it. */
interface Misuse {
  kind: "misuse";
  misuse: MisuseKind;
  by: number;
}

/** One line of the ledger: a request and what became of it. */
export interface LedgerRecord extends Asker {
  /** Counts from 0 in the ledger's order, also what no record was made of. */
  sequence: number;
  /** Virtual time in ns, where the gate has a clock. */
  time?: number | undefined;
  request: Request;
  provider: string;
  verdict: "granted" | "denied";
  /** The policy's rule that decided, where one did. */
  rule?: string | undefined;
  outcome: Outcome | Misuse;
  before: TlsState;
  after: TlsState;
}

export type LedgerListener = (record: LedgerRecord) => void;

/** The records of one run, in order. */
export class Ledger {
  readonly #keep: number;
  #records: LedgerRecord[] = [];
  #oldest = 0;
  #listeners: readonly LedgerListener[] = [];
  #sequence = 0;

  /** @param keep how many of the last records to keep: 0 for none, Infinity for all */
  constructor(keep = Number.POSITIVE_INFINITY) {
    this.#keep = keep;
  }

  /** False while nobody would see a record, so that the gate need not make one. */
  get active(): boolean {
    return this.#keep > 0 || this.#listeners.length > 0;
  }

  /** The number for the next record; to be taken also where none is made. */
  nextSequence(): number {
    return this.#sequence++;
  }

  append(record: LedgerRecord): void {
    if (this.#records.length < this.#keep) this.#records.push(record);
    else if (this.#keep > 0) {
      this.#records[this.#oldest] = record;
      this.#oldest = (this.#oldest + 1) % this.#keep;
    }
    for (const listener of this.#listeners) listener(record);
  }

  /** Calls `listener` with each record from now on; the function returned ends that. */
  subscribe(listener: LedgerListener): () => void {
    this.#listeners = [...this.#listeners, listener];
    return () => {
      this.#listeners = this.#listeners.filter((other) => other !== listener);
    };
  }

  /** The records kept, oldest first. */
  records(): LedgerRecord[] {
    return [...this.#records.slice(this.#oldest), ...this.#records.slice(0, this.#oldest)];
  }
}
