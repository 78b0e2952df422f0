/** MADV_DONTFORK and MADV_WIPEONFORK: ranges of an address space that fork leaves out or empties (madvise(2)). */
import type { AddressSpace } from "../../../emulator/memory.ts";

type Advice = "leave" | "wipe";

interface Range {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  readonly advice: Advice;
}

export class ForkAdvice {
  #ranges: Range[] = [];

  /** Takes note of advice for a range, or with undefined forgets what was said: MADV_DOFORK, or the mapping is gone. */
  set(start: number, end: number, advice: Advice | undefined): void {
    if (this.#ranges.length > 0) this.#forget(start, end);
    if (advice !== undefined) this.#ranges.push({ start, end, advice });
  }

  /** Forgets only one kind of advice: MADV_KEEPONFORK does not undo MADV_DONTFORK. */
  unset(start: number, end: number, advice: Advice): void {
    const others = this.#ranges.filter((range) => range.advice !== advice);
    this.#ranges = this.#ranges.filter((range) => range.advice === advice);
    this.#forget(start, end);
    this.#ranges = this.#ranges.concat(others);
  }

  /** A mapping has moved, with its advice. */
  move(start: number, length: number, to: number): void {
    if (this.#ranges.length === 0) return;
    const moved = this.#ranges.filter((range) => range.start < start + length && range.end > start);
    this.#forget(to, to + length);
    this.#forget(start, start + length);
    for (const { start: from, end, advice } of moved) {
      const first = Math.max(from, start) - start + to;
      this.#ranges.push({ start: first, end: Math.min(end, start + length) - start + to, advice });
    }
  }

  /** Does to a space that fork has just made what the parent's advice says. What was emptied stays so advised. */
  inherit(parent: ForkAdvice, space: AddressSpace): void {
    for (const range of parent.#ranges) {
      if (range.advice === "leave") space.unmap(range.start, range.end - range.start);
      else {
        space.discard(range.start, range.end - range.start);
        this.#ranges.push(range);
      }
    }
  }

  #forget(start: number, end: number): void {
    const kept: Range[] = [];
    for (const range of this.#ranges) {
      if (range.end <= start || range.start >= end) kept.push(range);
      else {
        if (range.start < start) kept.push({ ...range, end: start });
        if (range.end > end) kept.push({ ...range, start: end });
      }
    }
    this.#ranges = kept;
  }
}
