/** Ranges of an address space that mlock keeps in memory (mm/mlock.c). Nothing is ever swapped out here: what counts is how much. */

interface Range {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

export class MemoryLocks {
  #ranges: Range[] = [];
  /** MCL_FUTURE: what is mapped from now on is locked too, with MCL_ONFAULT without bringing it in. */
  future: "no" | "yes" | "on fault" = "no";

  get any(): boolean {
    return this.#ranges.length > 0;
  }

  /** How much is locked. */
  get bytes(): number {
    return this.within(0, Number.POSITIVE_INFINITY);
  }

  /** How much of a range is locked. */
  within(start: number, end: number): number {
    let total = 0;
    for (const range of this.#ranges)
      if (range.start < end && range.end > start) total += Math.min(range.end, end) - Math.max(range.start, start);
    return total;
  }

  add(start: number, end: number): void {
    this.remove(start, end);
    if (end > start) this.#ranges.push({ start, end });
  }

  remove(start: number, end: number): void {
    if (!this.any) return;
    const kept: Range[] = [];
    for (const range of this.#ranges) {
      if (range.end <= start || range.start >= end) kept.push(range);
      else {
        if (range.start < start) kept.push({ start: range.start, end: start });
        if (range.end > end) kept.push({ start: end, end: range.end });
      }
    }
    this.#ranges = kept;
  }

  /** A mapping has moved, with its lock. */
  move(start: number, length: number, to: number): void {
    if (!this.any) return;
    const moved = this.#ranges.filter((range) => range.start < start + length && range.end > start);
    this.remove(to, to + length);
    this.remove(start, start + length);
    for (const range of moved)
      this.add(Math.max(range.start, start) - start + to, Math.min(range.end, start + length) - start + to);
  }

  clear(): void {
    this.#ranges = [];
    this.future = "no";
  }
}
