import { fail, Tee } from "./results.ts";

/** As much as a TA's share of a TEE's heap might hold: one that allocates for ever is told so. */
const HANDLES_MAX = 65_536;

/** Handles of one kind. A number is never given out twice, so a stale handle is always found out. */
export class HandleTable<T> {
  readonly #entries = new Map<number, T>();
  #last = 0;

  /** Ends the call with OUT_OF_MEMORY when there are too many. */
  add(entry: T): number {
    if (this.#entries.size >= HANDLES_MAX) fail(Tee.ERROR_OUT_OF_MEMORY, `a TA has at most ${HANDLES_MAX} of them`);
    this.#entries.set(++this.#last, entry);
    return this.#last;
  }

  get(handle: number): T | undefined {
    return this.#entries.get(handle);
  }

  remove(handle: number): void {
    this.#entries.delete(handle);
  }

  entries(): IterableIterator<[number, T]> {
    return this.#entries.entries();
  }

  get size(): number {
    return this.#entries.size;
  }
}
