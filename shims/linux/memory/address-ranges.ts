/** Ranges of an address space that something was said of, whatever is mapped there. */

interface Range {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

export class AddressRanges {
  /** Ascending; none overlaps another. */
  #ranges: Range[] = [];
  #bytes = 0;

  get any(): boolean {
    return this.#ranges.length > 0;
  }

  /** How much they are together. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How much of a range they take up. */
  within(start: number, end: number): number {
    let total = 0;
    for (const range of this.#in(start, end)) total += Math.min(range.end, end) - Math.max(range.start, start);
    return total;
  }

  /** The addresses within a range where one of these begins or ends, ascending. */
  edges(start: number, end: number): number[] {
    const edges = new Set(this.#in(start, end).flatMap((range) => [range.start, range.end]));
    return [...edges].filter((edge) => edge > start && edge < end);
  }

  add(start: number, end: number): void {
    this.remove(start, end);
    if (end <= start) return;
    this.#ranges.splice(this.#firstBehind(start), 0, { start, end });
    this.#bytes += end - start;
  }

  remove(start: number, end: number): void {
    const first = this.#firstBehind(start);
    const gone = this.#in(start, end);
    if (gone.length === 0) return;
    const kept: Range[] = [];
    for (const range of gone) {
      this.#bytes -= range.end - range.start;
      if (range.start < start) kept.push({ start: range.start, end: start });
      if (range.end > end) kept.push({ start: end, end: range.end });
    }
    // No more than a piece at either side.
    for (const range of kept) this.#bytes += range.end - range.start;
    this.#ranges.splice(first, gone.length, ...kept);
  }

  /** A mapping has moved, with what was said of it. */
  move(start: number, length: number, to: number): void {
    if (!this.any) return;
    const moved = this.#in(start, start + length);
    this.remove(to, to + length);
    this.remove(start, start + length);
    for (const range of moved)
      this.add(Math.max(range.start, start) - start + to, Math.min(range.end, start + length) - start + to);
  }

  clear(): void {
    this.#ranges = [];
    this.#bytes = 0;
  }

  /** The same ranges as another space has. */
  copy(from: AddressRanges): void {
    this.#ranges = from.#ranges.slice();
    this.#bytes = from.#bytes;
  }

  /** Those that lie in the range at least in part. */
  #in(start: number, end: number): Range[] {
    const first = this.#firstBehind(start);
    let last = first;
    while ((this.#ranges[last]?.start ?? end) < end) last++;
    return this.#ranges.slice(first, last);
  }

  /** Index of the first that ends behind an address. */
  #firstBehind(address: number): number {
    let [low, high] = [0, this.#ranges.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ranges[middle]?.end ?? 0) <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
