/** Message authentication codes whose state can be copied: HMAC (RFC 2104), CBC-MAC, CMAC (NIST SP 800-38B). */
import { createHash, type Hash } from "node:crypto";
import { BlockCipher, xor } from "./block-cipher.ts";
import { hashSize } from "./hash.ts";

export interface MacState {
  /** Bytes of the result. */
  readonly size: number;
  update(bytes: Uint8Array): void;
  final(): Uint8Array;
  copy(): MacState;
}

/** Bytes that the hash functions take at once. */
const hashBlocks: Readonly<Record<string, number>> = {
  md5: 64,
  sha1: 64,
  sha224: 64,
  sha256: 64,
  sm3: 64,
  sha384: 128,
  sha512: 128,
  "sha3-224": 144,
  "sha3-256": 136,
  "sha3-384": 104,
  "sha3-512": 72,
};
const IPAD = 0x36;
const OPAD = 0x5c;

/** Made of two plain hashes, because node's own HMAC objects cannot be copied. */
export class Hmac implements MacState {
  readonly size: number;
  readonly #name: string;
  readonly #inner: Hash;
  readonly #outer: Hash;

  constructor(name: string, key: Uint8Array | readonly [Hash, Hash]) {
    this.#name = name;
    this.size = hashSize(name);
    if (!(key instanceof Uint8Array)) {
      [this.#inner, this.#outer] = key;
      return;
    }
    const block = hashBlocks[name] ?? 64;
    const padded = new Uint8Array(block);
    padded.set(key.length > block ? createHash(name).update(key).digest() : key);
    this.#inner = createHash(name).update(padded.map((byte) => byte ^ IPAD));
    this.#outer = createHash(name).update(padded.map((byte) => byte ^ OPAD));
  }

  update(bytes: Uint8Array): void {
    this.#inner.update(bytes);
  }
  final(): Uint8Array {
    return this.#outer.copy().update(this.#inner.copy().digest()).digest();
  }
  copy(): MacState {
    return new Hmac(this.#name, [this.#inner.copy(), this.#outer.copy()]);
  }
}

export function hmac(name: string, key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const mac = new Hmac(name, key);
  for (const part of parts) mac.update(part);
  return mac.final();
}

/** The chain of CBC-MAC and CMAC: all but the last block, which the two treat in their own ways. */
class CbcChain {
  readonly cipher: BlockCipher;
  #chain: Uint8Array;
  #pending: Uint8Array;

  constructor(
    cipher: BlockCipher,
    chain: Uint8Array = new Uint8Array(cipher.size),
    pending: Uint8Array = new Uint8Array(0),
  ) {
    this.cipher = cipher;
    this.#chain = chain;
    this.#pending = pending;
  }

  /** What has not gone into the chain yet: at most one block. */
  get pending(): Uint8Array {
    return this.#pending;
  }

  update(bytes: Uint8Array): void {
    const { size } = this.cipher;
    const all = Buffer.concat([this.#pending, bytes]);
    const whole = Math.max(0, Math.ceil(all.length / size) - 1) * size;
    if (whole > 0) this.#chain = this.cipher.cbc(this.#chain, all.subarray(0, whole), true).slice(-size);
    this.#pending = all.subarray(whole);
  }

  last(block: Uint8Array): Uint8Array {
    return this.cipher.encrypt(xor(this.#chain, block));
  }

  copy(): CbcChain {
    return new CbcChain(this.cipher, this.#chain, this.#pending);
  }
}

/** CBC-MAC, of whole blocks only or padded as PKCS#5 pads. */
export class CbcMac implements MacState {
  readonly size: number;
  readonly #chain: CbcChain;
  readonly #padded: boolean;

  constructor(cipher: BlockCipher | CbcChain, padded: boolean) {
    this.#chain = cipher instanceof BlockCipher ? new CbcChain(cipher) : cipher;
    this.size = this.#chain.cipher.size;
    this.#padded = padded;
  }

  /** False for a message that is not made of whole blocks, where it has to be. */
  get complete(): boolean {
    return this.#padded || this.#chain.pending.length === this.size;
  }

  update(bytes: Uint8Array): void {
    this.#chain.update(bytes);
  }

  final(): Uint8Array {
    const chain = this.#chain.copy();
    if (this.#padded) {
      const count = this.size - (chain.pending.length % this.size);
      chain.update(new Uint8Array(count).fill(count));
    }
    return chain.last(chain.pending);
  }

  copy(): MacState {
    return new CbcMac(this.#chain.copy(), this.#padded);
  }
}

/** The constant of SP 800-38B for 64-bit and 128-bit blocks. */
const R64 = 0x1b;
const R128 = 0x87;

function doubled(block: Uint8Array): Uint8Array {
  const carry = (block[0] ?? 0) >> 7;
  const next = block.map((byte, index) => ((byte << 1) | ((block[index + 1] ?? 0) >> 7)) & 0xff);
  const last = next.length - 1;
  next[last] = (next[last] ?? 0) ^ (carry * (next.length === 16 ? R128 : R64));
  return next;
}

export class Cmac implements MacState {
  readonly size: number;
  readonly #chain: CbcChain;

  constructor(cipher: BlockCipher | CbcChain) {
    this.#chain = cipher instanceof BlockCipher ? new CbcChain(cipher) : cipher;
    this.size = this.#chain.cipher.size;
  }

  update(bytes: Uint8Array): void {
    this.#chain.update(bytes);
  }

  final(): Uint8Array {
    const { pending, cipher } = this.#chain;
    const k1 = doubled(cipher.encrypt(new Uint8Array(this.size)));
    if (pending.length === this.size) return this.#chain.last(xor(pending, k1));
    const padded = new Uint8Array(this.size);
    padded.set(pending);
    padded[pending.length] = 0x80;
    return this.#chain.last(xor(padded, doubled(k1)));
  }

  copy(): MacState {
    return new Cmac(this.#chain.copy());
  }
}
