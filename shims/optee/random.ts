/** Randomness of a run: from the seed, so that a run repeats, or from the host. */
import { createCipheriv, createHash, randomBytes } from "node:crypto";

export interface Entropy {
  bytes(length: number): Uint8Array;
  /** A whole number in [0, limit), limit at most 2^32. */
  below(limit: number): number;
  /** Mixes in bytes a TA gave. */
  add(bytes: Uint8Array): void;
}

/** AES-256 in counter mode under a key made from the seed: good random numbers that are the same in every run. */
export class SeededEntropy implements Entropy {
  #key: Buffer;
  #cipher: ReturnType<typeof createCipheriv>;

  /** @param seed any text; streams of different seeds have nothing in common */
  constructor(seed: string) {
    this.#key = createHash("sha256").update(`shimbed optee ${seed}`).digest();
    this.#cipher = createCipheriv("aes-256-ctr", this.#key, new Uint8Array(16));
  }

  bytes(length: number): Uint8Array {
    return this.#cipher.update(new Uint8Array(length));
  }

  below(limit: number): number {
    return Buffer.from(this.bytes(6)).readUIntLE(0, 6) % limit;
  }

  add(bytes: Uint8Array): void {
    this.#key = createHash("sha256").update(this.#key).update(bytes).digest();
    this.#cipher = createCipheriv("aes-256-ctr", this.#key, new Uint8Array(16));
  }
}

/** The host's random numbers; runs differ. */
export class HostEntropy implements Entropy {
  bytes(length: number): Uint8Array {
    return randomBytes(length);
  }

  below(limit: number): number {
    return randomBytes(6).readUIntLE(0, 6) % limit;
  }

  add(): void {}
}
