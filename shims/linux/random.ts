/**
 * Randomness of a run. Every use has a stream of its own, named after it, so that one more `getrandom` of the guest does not
 * move its addresses or the interleaving of its threads.
 */
export class Random {
  readonly seed: number;

  /** @param seed any safe integer */
  constructor(seed: number) {
    this.seed = seed;
  }

  stream(name: string): RandomStream {
    return new RandomStream(`${this.seed}:${name}`);
  }
}

/** A small fast generator (sfc32, Chris Doty-Humphrey): 128 bits of state, not for secrets. */
export class RandomStream {
  #a = 0;
  #b = 0;
  #c = 0;
  #counter = 1;

  constructor(name: string) {
    // FNV-1a with three offsets gives the three words of state.
    let a = 0x811c9dc5;
    let b = 0x9e3779b9;
    let c = 0x85ebca6b;
    for (let index = 0; index < name.length; index++) {
      const code = name.charCodeAt(index);
      a = Math.imul(a ^ code, 0x01000193);
      b = Math.imul(b ^ code, 0x01000193);
      c = Math.imul(c ^ code, 0x01000193);
    }
    this.#a = a;
    this.#b = b;
    this.#c = c;
    for (let round = 0; round < 12; round++) this.u32();
  }

  u32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** A whole number in [0, limit), limit at most 2^53. */
  below(limit: number): number {
    const wide = (this.u32() & 0x1f_ffff) * 2 ** 32 + this.u32();
    return wide % limit;
  }

  fill(into: Uint8Array): void {
    let word = 0;
    for (let index = 0; index < into.length; index++) {
      if ((index & 3) === 0) word = this.u32();
      into[index] = word & 0xff;
      word >>>= 8;
    }
  }
}
