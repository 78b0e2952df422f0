/** A walk over a TA's persistent objects (5.8): the names there were when it started, without those gone since. */
export class StorageEnumerator {
  #names: readonly string[] | undefined;
  #next = 0;

  get started(): boolean {
    return this.#names !== undefined;
  }

  start(names: readonly string[]): void {
    this.#names = [...names].sort();
    this.#next = 0;
  }

  reset(): void {
    this.#names = undefined;
    this.#next = 0;
  }

  /** The next name as hex, undefined at the end. */
  next(): string | undefined {
    return this.#names?.[this.#next++];
  }
}
