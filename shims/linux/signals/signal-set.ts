/** sizeof(sigset_t), the only size that calls take. */
export const SIGSET_BYTES = 8;

/** A set of the 64 signals, bit 0 for signal 1, as two 32-bit halves: cheaper than a bigint on every call. */
export class SignalSet {
  /** Signals 1 to 32, as a signed 32-bit integer. */
  lo: number;
  /** Signals 33 to 64. */
  hi: number;

  constructor(lo = 0, hi = 0) {
    this.lo = lo | 0;
    this.hi = hi | 0;
  }

  static of(...signals: readonly number[]): SignalSet {
    const set = new SignalSet();
    for (const signal of signals) set.add(signal);
    return set;
  }

  get isEmpty(): boolean {
    return (this.lo | this.hi) === 0;
  }

  has(signal: number): boolean {
    return signal <= 32 ? (this.lo & (1 << (signal - 1))) !== 0 : (this.hi & (1 << (signal - 33))) !== 0;
  }

  add(signal: number): void {
    if (signal <= 32) this.lo |= 1 << (signal - 1);
    else this.hi |= 1 << (signal - 33);
  }

  delete(signal: number): void {
    if (signal <= 32) this.lo &= ~(1 << (signal - 1));
    else this.hi &= ~(1 << (signal - 33));
  }

  copy(): SignalSet {
    return new SignalSet(this.lo, this.hi);
  }

  union(other: SignalSet): SignalSet {
    return new SignalSet(this.lo | other.lo, this.hi | other.hi);
  }

  /** What is in this set and not in `other`. */
  without(other: SignalSet): SignalSet {
    return new SignalSet(this.lo & ~other.lo, this.hi & ~other.hi);
  }

  intersection(other: SignalSet): SignalSet {
    return new SignalSet(this.lo & other.lo, this.hi & other.hi);
  }

  inverse(): SignalSet {
    return new SignalSet(~this.lo, ~this.hi);
  }

  /** The lowest signal in the set, 0 when it is empty. */
  lowest(): number {
    if (this.lo !== 0) return 32 - Math.clz32(this.lo & -this.lo);
    return this.hi === 0 ? 0 : 64 - Math.clz32(this.hi & -this.hi);
  }

  signals(): number[] {
    const all: number[] = [];
    for (let signal = 1; signal <= 64; signal++) if (this.has(signal)) all.push(signal);
    return all;
  }
}
