import {
  baseOf,
  descriptorHigh,
  descriptorLow,
  gdtLayouts,
  isPresentData,
  limitOf,
  userFlagsOf,
} from "../emulator/descriptors.ts";
import { type PrivilegedState, type SegmentName, type StateInPlace, StateWord } from "../emulator/privileged.ts";
import type { Ledger } from "./ledger.ts";
import { RowKind } from "./ledger-rows.ts";
import { TASK_SIZE_MAX } from "./linux-tls.ts";

const TWO_32 = 2 ** 32;
/** High words of numbers that are exact. */
const EXACT_HIGH = 2 ** 21;
const END = Number(TASK_SIZE_MAX);
const { tlsFirst, tlsLast } = gdtLayouts.x86_64;
/** A segment register's words after its selector: base, limit and flags (emulator/native/layout.h). */
const SegmentWord = { base: 2, limit: 4, flags: 5 } as const;
const GRANULAR = 1 << 23;

/** What a short way is made of. */
interface ShortWayOptions {
  readonly privileged: PrivilegedState;
  readonly state: StateInPlace;
  readonly ledger: Ledger;
  readonly provider: string;
  readonly now: (() => number) | undefined;
}

/**
 * The requests that C libraries make all the time, in numbers: for a Linux kernel on the bare CPU, with nobody around the gate who
 * would want to see a request (no policy, no faults, no audit, no trace). The steps are those of `punchThrough` in its order, and the
 * ledger has the same records. What is granted is carried out where it is granted: nobody gets hold of a token, who could keep it,
 * use it twice or give it to another thread.
 *
 * Each method gives up (undefined or false), with nothing changed, on what is not the ordinary case; the caller then goes the
 * long way. The CPU must be in the context of `thread`.
 */
export class ShortWay {
  /** The `user_desc` that `setThreadArea` is to set or `getThreadArea` has found, as words. */
  readonly desc = new Uint32Array(4);
  readonly #privileged: PrivilegedState;
  readonly #words: Uint32Array;
  readonly #gdt: Uint32Array;
  readonly #ledger: Ledger;
  readonly #provider: number;
  readonly #now: (() => number) | undefined;

  constructor({ privileged, state, ledger, provider, now }: ShortWayOptions) {
    this.#privileged = privileged;
    this.#words = state.words;
    this.#gdt = state.gdt;
    this.#ledger = ledger;
    this.#provider = ledger.rows.nameNumber(provider);
    this.#now = now;
  }

  /** SetFsBase, or SetGsBase. */
  setBase(segment: "fs" | "gs", address: number, thread: number, call: string): boolean {
    if (!(address >= 0 && address < END)) return false;
    const fs = segment === "fs";
    const words = this.#words;
    const low = address >>> 0;
    const high = (address / TWO_32) >>> 0;
    const at = this.#begin(fs ? RowKind.SetFsBase : RowKind.SetGsBase, thread, call);
    const selector = fs ? StateWord.fs : StateWord.gs;
    if (((words[selector] ?? 0) & 0xffff) !== 0) this.#privileged.loadSelector(segment, 0);
    const base = fs ? StateWord.fsBase : StateWord.gsBase;
    words[base] = low;
    words[base + 1] = high;
    if (at >= 0) {
      const { rows } = this.#ledger;
      rows.address(at, low, high);
      rows.end(at, words);
    }
    return true;
  }

  /** GetFsBase, or GetGsBase; undefined for a base that no number is exact for. */
  getBase(segment: "fs" | "gs", thread: number, call: string): number | undefined {
    const fs = segment === "fs";
    const base = fs ? StateWord.fsBase : StateWord.gsBase;
    const low = this.#words[base] ?? 0;
    const high = this.#words[base + 1] ?? 0;
    if (high >= EXACT_HIGH) return undefined;
    const at = this.#begin(fs ? RowKind.GetFsBase : RowKind.GetGsBase, thread, call);
    if (at >= 0) this.#ledger.rows.address(at, low, high);
    return high * TWO_32 + low;
  }

  /** SetThreadArea of an entry by its number, as `desc` has it, for a present 32-bit data segment. */
  setThreadArea(thread: number, call: string): boolean {
    const { desc } = this;
    const entry = desc[0] ?? 0;
    const base = desc[1] ?? 0;
    const limit = desc[2] ?? 0;
    const flags = desc[3] ?? 0;
    if (entry < tlsFirst || entry > tlsLast || !isPresentData(flags)) return false;
    const gdt = this.#gdt;
    const words = this.#words;
    const index = 2 * entry;
    const at = this.#begin(RowKind.SetThreadArea, thread, call);
    const { rows } = this.#ledger;
    if (at >= 0) rows.area(at, desc, gdt[index] ?? 0, gdt[index + 1] ?? 0);
    const low = descriptorLow(base, limit);
    const high = descriptorHigh(base, limit, flags);
    gdt[index] = low;
    gdt[index + 1] = high;
    this.#refresh((entry << 3) | 3, base, limit, high);
    if (at >= 0) {
      rows.end(at, words);
      rows.descriptor(at, gdt[index] ?? 0, gdt[index + 1] ?? 0);
    }
    return true;
  }

  /** Linux loads DS, ES, FS and GS again when their descriptor changes, and the IRET after it SS. */
  #refresh(selector: number, base: number, limit: number, high: number): void {
    const words = this.#words;
    if (((words[StateWord.fs] ?? 0) & 0xffff) === selector) this.#load(StateWord.fs, base, limit, high);
    if (((words[StateWord.gs] ?? 0) & 0xffff) === selector) this.#load(StateWord.gs, base, limit, high);
    // Flatness of these is something that the engine keeps an eye on.
    if (((words[StateWord.ds] ?? 0) & 0xffff) === selector) this.#reload("ds", selector);
    if (((words[StateWord.es] ?? 0) & 0xffff) === selector) this.#reload("es", selector);
    if (((words[StateWord.ss] ?? 0) & 0xffff) === selector) this.#reload("ss", selector);
  }

  /** What `mov fs, ax` makes of a present data segment. */
  #load(segment: number, base: number, limit: number, high: number): void {
    const words = this.#words;
    const last = limit & 0xfffff;
    words[segment + SegmentWord.base] = base;
    words[segment + SegmentWord.base + 1] = 0;
    words[segment + SegmentWord.limit] = (high & GRANULAR) !== 0 ? (last << 12) | 0xfff : last;
    words[segment + SegmentWord.flags] = high;
  }

  /** A data segment that does not load becomes null; SS keeps what it had, as on the long way. */
  #reload(segment: SegmentName, selector: number): void {
    if (this.#privileged.loadSelector(segment, selector) || segment === "ss") return;
    this.#privileged.loadSelector(segment, 0);
  }

  /** GetThreadArea of an entry; `desc` has the answer where it is true. */
  getThreadArea(entry: number, thread: number, call: string): boolean {
    if (entry < tlsFirst || entry > tlsLast) return false;
    const low = this.#gdt[2 * entry] ?? 0;
    const high = this.#gdt[2 * entry + 1] ?? 0;
    const { desc } = this;
    desc[0] = entry;
    desc[1] = baseOf(high, low);
    desc[2] = limitOf(high, low);
    desc[3] = userFlagsOf(high);
    const at = this.#begin(RowKind.GetThreadArea, thread, call);
    if (at >= 0) this.#ledger.rows.area(at, desc, low, high);
    return true;
  }

  /** Begins a row, and answers its place; -1 where the ledger keeps none. */
  #begin(kind: number, thread: number, call: string): number {
    const ledger = this.#ledger;
    const sequence = ledger.nextSequence();
    const row = ledger.nextRow();
    if (row < 0) return row;
    const time = this.#now === undefined ? Number.NaN : this.#now();
    return ledger.rows.begin(row, kind, thread, call, this.#provider, sequence, time, this.#words);
  }
}
