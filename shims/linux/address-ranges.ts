/** Ranges of an address space that something was said of, whatever is mapped there. */

interface Range {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

export class AddressRanges {
  #ranges: readonly Range[] = [];

  get any(): boolean {
    return this.#ranges.length > 0;
  }

  /** How much they are together. */
  get bytes(): number {
    return this.within(0, Number.POSITIVE_INFINITY);
  }

  /** How much of a range they take up. */
  within(start: number, end: number): number {
    let total = 0;
    for (const range of this.#ranges)
      if (range.start < end && range.end > start) total += Math.min(range.end, end) - Math.max(range.start, start);
    return total;
  }

  /** The addresses within a range where one of these begins or ends, ascending. */
  edges(start: number, end: number): number[] {
    const edges = new Set(this.#ranges.flatMap((range) => [range.start, range.end]));
    return [...edges].filter((edge) => edge > start && edge < end).sort((a, b) => a - b);
  }

  add(start: number, end: number): void {
    this.remove(start, end);
    if (end > start) this.#ranges = [...this.#ranges, { start, end }];
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

  /** A mapping has moved, with what was said of it. */
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
  }

  /** The same ranges as another space has. */
  copy(from: AddressRanges): void {
    this.#ranges = from.#ranges;
  }
}
