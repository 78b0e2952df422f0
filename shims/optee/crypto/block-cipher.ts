/** Block ciphers by name, whole blocks at a time. Single DES is triple DES with one key, as OpenSSL 3 has no other. */
import { createCipheriv, createDecipheriv } from "node:crypto";

export type BlockName = "aes" | "des" | "des3" | "sm4";

export class BlockCipher {
  readonly size: number;
  readonly #name: string;
  readonly #key: Uint8Array;
  readonly #encrypt: ReturnType<typeof createCipheriv>;
  readonly #decrypt: ReturnType<typeof createDecipheriv>;

  /** @throws RangeError for a key of the wrong length */
  constructor(block: BlockName, key: Uint8Array) {
    this.size = block === "aes" || block === "sm4" ? 16 : 8;
    this.#key = expand(block, key);
    this.#name = block === "aes" ? `aes-${key.length * 8}` : block === "sm4" ? "sm4" : "des-ede3";
    // Without padding ECB keeps nothing between whole blocks, so one object serves all calls.
    this.#encrypt = createCipheriv(`${this.#name}${block.startsWith("des") ? "" : "-ecb"}`, this.#key, null);
    this.#decrypt = createDecipheriv(`${this.#name}${block.startsWith("des") ? "" : "-ecb"}`, this.#key, null);
    this.#encrypt.setAutoPadding(false);
    this.#decrypt.setAutoPadding(false);
  }

  encrypt(blocks: Uint8Array): Uint8Array {
    return this.#encrypt.update(blocks);
  }

  decrypt(blocks: Uint8Array): Uint8Array {
    return this.#decrypt.update(blocks);
  }

  /** Cipher block chaining over whole blocks. */
  cbc(iv: Uint8Array, blocks: Uint8Array, encrypt: boolean): Uint8Array {
    const make = encrypt ? createCipheriv : createDecipheriv;
    return make(`${this.#name}-cbc`, this.#key, iv).setAutoPadding(false).update(blocks);
  }

  /** XORs with the key stream that starts at a counter block; the counter is one big-endian number. */
  ctr(counter: Uint8Array, skip: number, bytes: Uint8Array): Uint8Array {
    const cipher = createCipheriv(`${this.#name}-ctr`, this.#key, counter);
    if (skip > 0) cipher.update(new Uint8Array(skip));
    return cipher.update(bytes);
  }
}

function expand(block: BlockName, key: Uint8Array): Uint8Array {
  const lengths = { aes: [16, 24, 32], sm4: [16], des: [8], des3: [16, 24] }[block];
  if (!lengths.includes(key.length)) throw new RangeError(`${key.length} bytes are no key of ${block}`);
  if (block === "des") return Buffer.concat([key, key, key]);
  if (block === "des3" && key.length === 16) return Buffer.concat([key, key.subarray(0, 8)]);
  return key;
}

/** Adds to a big-endian counter block. */
export function addToCounter(counter: Uint8Array, blocks: number): Uint8Array {
  const next = Uint8Array.from(counter);
  let carry = blocks;
  for (let index = next.length - 1; index >= 0 && carry > 0; index--) {
    carry += next[index] ?? 0;
    next[index] = carry & 0xff;
    carry = Math.floor(carry / 256);
  }
  return next;
}

export function xor(a: Uint8Array, b: Uint8Array): Uint8Array {
  return a.map((byte, index) => byte ^ (b[index] ?? 0));
}
