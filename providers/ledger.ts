import { LedgerRows } from "./ledger-rows.ts";
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
  /** Records, or undefined where a row of `rows` has it. */
  readonly #records: (LedgerRecord | undefined)[] = [];
  /** Where the next one goes, once there are as many as are kept. */
  #oldest = 0;
  #listeners: readonly LedgerListener[] = [];
  #sequence = 0;
  /** For records without objects: `nextRow` says which row is to be filled. */
  readonly rows = new LedgerRows();

  /** @param keep how many of the last records to keep: 0 for none, Infinity for all */
  constructor(keep = Number.POSITIVE_INFINITY) {
    this.#keep = keep;
  }

  /** False while nobody would see a record, so that the gate need not make one. */
  get active(): boolean {
    return this.#keep > 0 || this.#listeners.length > 0;
  }

  /** Whether somebody wants to see each record as it is made. */
  get watched(): boolean {
    return this.#listeners.length > 0;
  }

  /** The number for the next record; to be taken also where none is made. */
  nextSequence(): number {
    return this.#sequence++;
  }

  append(record: LedgerRecord): void {
    if (this.#keep > 0) this.rows.clear(this.#put(record));
    for (const listener of this.#listeners) listener(record);
  }

  /** The row for the next record, which nobody hears of; -1 where none are kept. */
  nextRow(): number {
    return this.#keep > 0 ? this.#put(undefined) : -1;
  }

  #put(record: LedgerRecord | undefined): number {
    const { length } = this.#records;
    if (length < this.#keep) {
      this.#records.push(record);
      return length;
    }
    const at = this.#oldest;
    this.#records[at] = record;
    this.#oldest = at + 1 === this.#keep ? 0 : at + 1;
    return at;
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
    const all = this.#records.map((record, row) => record ?? this.rows.record(row));
    return [...all.slice(this.#oldest), ...all.slice(0, this.#oldest)].filter((record) => record !== undefined);
  }
}
