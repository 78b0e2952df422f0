/** Message digests on node:crypto, whose hash objects can be copied. */
import { createHash, type Hash } from "node:crypto";
import { Alg } from "../algorithms.ts";

/** TEE_MAIN_ALGO_* of the digests: the number that HMAC, RSA and KDF algorithms carry in a field of theirs. */
const names: Readonly<Record<number, string>> = {
  1: "md5",
  2: "sha1",
  3: "sha224",
  4: "sha256",
  5: "sha384",
  6: "sha512",
  7: "sm3",
  8: "sha3-224",
  9: "sha3-256",
  10: "sha3-384",
  11: "sha3-512",
  15: "md5-sha1",
};
const sizes: Readonly<Record<string, number>> = {
  md5: 16,
  sha1: 20,
  sha224: 28,
  sha256: 32,
  sha384: 48,
  sha512: 64,
  sm3: 32,
  "sha3-224": 28,
  "sha3-256": 32,
  "sha3-384": 48,
  "sha3-512": 64,
  "md5-sha1": 36,
};

/** node's name for a digest's main algorithm; undefined for one there is none of. */
export function hashName(main: number): string | undefined {
  return names[main];
}

/** Bytes of a digest by node's name. */
export function hashSize(name: string): number {
  return sizes[name] ?? 0;
}

export function digest(name: string, ...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash(name);
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** A digest that is being computed. */
export interface DigestState {
  /** Bytes of the result; 0 for a function of any length. */
  readonly size: number;
  update(bytes: Uint8Array): void;
  /** The result; of an extendable one, the next `length` bytes of it. */
  final(length: number): Uint8Array;
  copy(): DigestState;
}

class FixedDigest implements DigestState {
  readonly size: number;
  readonly #hash: Hash;

  constructor(name: string, hash: Hash = createHash(name)) {
    this.size = hashSize(name);
    this.#name = name;
    this.#hash = hash;
  }
  readonly #name: string;

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }
  final(): Uint8Array {
    return this.#hash.copy().digest();
  }
  copy(): DigestState {
    return new FixedDigest(this.#name, this.#hash.copy());
  }
}

/** SHAKE128 and SHAKE256: each call of `final` goes on where the last one stopped. */
class ExtendableDigest implements DigestState {
  readonly size = 0;
  readonly #hash: Hash;
  #taken: number;

  constructor(hash: Hash, taken = 0) {
    this.#hash = hash;
    this.#taken = taken;
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }
  final(length: number): Uint8Array {
    const end = this.#taken + length;
    const part = this.#hash.copy({ outputLength: end }).digest().subarray(this.#taken);
    this.#taken = end;
    return part;
  }
  copy(): DigestState {
    return new ExtendableDigest(this.#hash.copy(), this.#taken);
  }
}

/** A new digest for a TEE algorithm; undefined for one there is none of. */
export function createDigest(algorithm: number): DigestState | undefined {
  if (algorithm === Alg.SHAKE128) return new ExtendableDigest(createHash("shake128"));
  if (algorithm === Alg.SHAKE256) return new ExtendableDigest(createHash("shake256"));
  const name = (algorithm & 0x0fff_ff00) === 0 ? names[algorithm & 0xff] : undefined;
  return name === undefined ? undefined : new FixedDigest(name);
}
