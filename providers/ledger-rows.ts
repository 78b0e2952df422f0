import { type UserDesc, userDescOf } from "../emulator/descriptors.ts";
import { StateWord } from "../emulator/privileged.ts";
import type { LedgerRecord } from "./ledger.ts";
import type { Request, Result } from "./requests.ts";
import type { TlsState } from "./state.ts";

/** The requests that a row can tell of; all other records are kept as objects. */
const rowKinds = [
  undefined,
  "SetFsBase",
  "GetFsBase",
  "SetGsBase",
  "GetGsBase",
  "SetThreadArea",
  "GetThreadArea",
] as const;
/** Their numbers in a row. */
export const RowKind = {
  SetFsBase: 1,
  GetFsBase: 2,
  SetGsBase: 3,
  GetGsBase: 4,
  SetThreadArea: 5,
  GetThreadArea: 6,
} as const;

/** Where things stand in a row. Two words each for addresses, states have fs and gs in one word and four words of bases. */
const Word = {
  kind: 0,
  thread: 1,
  names: 2,
  pc: 3,
  address: 5,
  entry: 5,
  baseAddr: 6,
  limit: 7,
  flags: 8,
  before: 9,
  after: 14,
  descriptorBefore: 19,
  descriptorAfter: 21,
} as const;
const ROW_WORDS = 23;
const FIRST_ROWS = 64;

/**
 * Records as rows of words, so that one costs no object until somebody looks at it. Only requests that were granted and carried
 * out are told of in rows.
 */
export class LedgerRows {
  #words = new Uint32Array(FIRST_ROWS * ROW_WORDS);
  #times = new Float64Array(FIRST_ROWS);
  #sequences = new Float64Array(FIRST_ROWS);
  #capacity = FIRST_ROWS;
  /** Names of calls and providers, by number. */
  readonly #names: string[] = [];
  /** The call that last made a request of each kind, and its number. */
  readonly #calls: string[] = rowKinds.map(() => "");
  readonly #callNumbers: number[] = rowKinds.map(() => this.nameNumber(""));

  /** A number for a name; at most 65,536 different ones. */
  nameNumber(name: string): number {
    const known = this.#names.indexOf(name);
    return known >= 0 ? known : this.#names.push(name) - 1;
  }

  /** The row tells of nothing. */
  clear(row: number): void {
    if (row < this.#capacity) this.#words[row * ROW_WORDS] = 0;
  }

  /**
   * Begins row `row` with the state before the request.
   * @param time NaN where there is no clock
   * @returns the row's place, for the methods that go on with it
   */
  begin(
    row: number,
    kind: number,
    thread: number,
    call: string,
    provider: number,
    sequence: number,
    time: number,
    cpu: Uint32Array,
  ): number {
    if (row >= this.#capacity) this.#grow();
    if (call !== this.#calls[kind]) {
      this.#calls[kind] = call;
      this.#callNumbers[kind] = this.nameNumber(call);
    }
    this.#times[row] = time;
    this.#sequences[row] = sequence;
    const at = row * ROW_WORDS;
    const words = this.#words;
    words[at] = kind;
    words[at + Word.thread] = thread;
    words[at + Word.names] = (this.#callNumbers[kind] ?? 0) | (provider << 16);
    words[at + Word.pc] = cpu[StateWord.rip] ?? 0;
    words[at + Word.pc + 1] = cpu[StateWord.rip + 1] ?? 0;
    putState(words, at + Word.before, cpu);
    return at;
  }

  /** The address that a request is about, or that it found. */
  address(at: number, low: number, high: number): void {
    const words = this.#words;
    words[at + Word.address] = low;
    words[at + Word.address + 1] = high;
  }

  /** The `user_desc` that a request is about, or that it found, and the descriptor before. */
  area(at: number, desc: Uint32Array, low: number, high: number): void {
    const words = this.#words;
    words[at + Word.entry] = desc[0] ?? 0;
    words[at + Word.baseAddr] = desc[1] ?? 0;
    words[at + Word.limit] = desc[2] ?? 0;
    words[at + Word.flags] = desc[3] ?? 0;
    words[at + Word.descriptorBefore] = low;
    words[at + Word.descriptorBefore + 1] = high;
  }

  /** The state after the request; rows of requests that only read need none. */
  end(at: number, cpu: Uint32Array): void {
    putState(this.#words, at + Word.after, cpu);
  }

  /** The descriptor after it, where it is about one. */
  descriptor(at: number, low: number, high: number): void {
    const words = this.#words;
    words[at + Word.descriptorAfter] = low;
    words[at + Word.descriptorAfter + 1] = high;
  }

  #grow(): void {
    this.#capacity *= 2;
    const words = new Uint32Array(this.#capacity * ROW_WORDS);
    const times = new Float64Array(this.#capacity);
    const sequences = new Float64Array(this.#capacity);
    words.set(this.#words);
    times.set(this.#times);
    sequences.set(this.#sequences);
    this.#words = words;
    this.#times = times;
    this.#sequences = sequences;
  }

  /** What a row tells, as an object. */
  record(row: number): LedgerRecord | undefined {
    const at = row * ROW_WORDS;
    const kind = rowKinds[this.#word(at)];
    if (kind === undefined) return undefined;
    const names = this.#word(at + Word.names);
    const time = this.#times[row] ?? Number.NaN;
    const reads = kind === "GetFsBase" || kind === "GetGsBase" || kind === "GetThreadArea";
    const area = kind === "SetThreadArea" || kind === "GetThreadArea";
    const before = this.#stateAt(at + Word.before, at, area ? Word.descriptorBefore : undefined);
    const { request, outcome } = this.#contents(kind, at);
    return {
      sequence: this.#sequences[row] ?? 0,
      thread: this.#word(at + Word.thread),
      pc: this.#wide(at + Word.pc),
      call: this.#names[names & 0xffff] ?? "",
      ...(Number.isNaN(time) ? {} : { time }),
      request,
      provider: this.#names[names >>> 16] ?? "",
      verdict: "granted",
      outcome,
      before,
      after: reads ? before : this.#stateAt(at + Word.after, at, area ? Word.descriptorAfter : undefined),
    };
  }

  #contents(kind: keyof typeof RowKind, at: number): { request: Request; outcome: Result } {
    switch (kind) {
      case "SetFsBase":
      case "SetGsBase":
        return { request: { kind, address: this.#wide(at + Word.address) }, outcome: { kind: "ok", value: 0n } };
      case "GetFsBase":
      case "GetGsBase":
        return { request: { kind }, outcome: { kind: "ok", value: this.#wide(at + Word.address) } };
      case "SetThreadArea": {
        const desc = this.#desc(at);
        return { request: { kind, desc }, outcome: { kind: "ok", value: 0n, desc } };
      }
      case "GetThreadArea":
        return {
          request: { kind, entry_number: this.#word(at + Word.entry) | 0 },
          outcome: { kind: "ok", value: 0n, desc: this.#desc(at) },
        };
    }
  }

  #desc(at: number): UserDesc {
    const { entry, baseAddr, limit, flags } = Word;
    return userDescOf(
      this.#word(at + entry),
      this.#word(at + baseAddr),
      this.#word(at + limit),
      this.#word(at + flags),
    );
  }

  #stateAt(at: number, row: number, descriptor: number | undefined): TlsState {
    const selectors = this.#word(at);
    const index = this.#word(row + Word.entry);
    return {
      fsBase: this.#wide(at + 1),
      gsBase: this.#wide(at + 3),
      fs: selectors & 0xffff,
      gs: selectors >>> 16,
      descriptors: descriptor === undefined ? [] : [{ table: "gdt", index, raw: this.#wide(row + descriptor) }],
    };
  }

  #word(at: number): number {
    return this.#words[at] ?? 0;
  }

  #wide(at: number): bigint {
    return BigInt(this.#word(at)) | (BigInt(this.#word(at + 1)) << 32n);
  }
}

/** Selectors in one word, and the two bases. */
function putState(words: Uint32Array, at: number, cpu: Uint32Array): void {
  words[at] = ((cpu[StateWord.fs] ?? 0) & 0xffff) | ((cpu[StateWord.gs] ?? 0) << 16);
  words[at + 1] = cpu[StateWord.fsBase] ?? 0;
  words[at + 2] = cpu[StateWord.fsBase + 1] ?? 0;
  words[at + 3] = cpu[StateWord.gsBase] ?? 0;
  words[at + 4] = cpu[StateWord.gsBase + 1] ?? 0;
}
