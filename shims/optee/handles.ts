/** Handles of one kind. A number is never given out twice, so a stale handle is always found out. */
export class HandleTable<T> {
  readonly #entries = new Map<number, T>();
  #last = 0;

  add(entry: T): number {
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
