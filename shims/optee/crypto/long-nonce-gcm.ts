/** AES-GCM with nonces longer than OpenSSL takes (NIST SP 800-38D, 6.3 to 7.2): counter mode, and GHASH of our own. */
import { fromBig, toBig } from "../objects.ts";
import { fail, Tee } from "../results.ts";
import type { AuthencState } from "./authenc.ts";
import { addToCounter, BlockCipher, xor } from "./block-cipher.ts";

/** More would take seconds. */
const NONCE_MAX = 65_536;

const BLOCK = 16;
/** x^128 + x^7 + x^2 + x + 1, its bits in GCM's order. */
const REDUCTION = 0xe1n << 120n;

/** Multiplies in GF(2^128), the first bit of a block being its highest. */
function multiply(x: bigint, y: bigint): bigint {
  let product = 0n;
  let shifted = y;
  for (let bit = 127n; bit >= 0n; bit--) {
    if ((x >> bit) & 1n) product ^= shifted;
    shifted = shifted & 1n ? (shifted >> 1n) ^ REDUCTION : shifted >> 1n;
  }
  return product;
}

const padding = (length: number): Uint8Array => new Uint8Array((BLOCK - (length % BLOCK)) % BLOCK);

function ghash(key: bigint, data: Uint8Array): Uint8Array {
  let sum = 0n;
  for (let at = 0; at < data.length; at += BLOCK) sum = multiply(sum ^ toBig(data.subarray(at, at + BLOCK)), key);
  return fromBig(sum, BLOCK);
}

/** The lengths of two pieces of data in bits, as the last block of a GHASH has them. */
function lengths(first: number, second: number): Uint8Array {
  const block = Buffer.alloc(BLOCK);
  block.writeBigUInt64BE(BigInt(first) * 8n, 0);
  block.writeBigUInt64BE(BigInt(second) * 8n, 8);
  return block;
}

export class LongNonceGcm implements AuthencState {
  readonly tagLength: number;
  readonly #secret: Uint8Array;
  readonly #nonce: Uint8Array;
  readonly #encrypt: boolean;
  readonly #cipher: BlockCipher;
  /** GHASH's. */
  readonly #key: bigint;
  /** J0, whose last 32 bits count. */
  readonly #first: Uint8Array;
  #aad: Uint8Array = new Uint8Array(0);
  /** Cipher text so far. */
  #text: Uint8Array = new Uint8Array(0);

  constructor(key: Uint8Array, nonce: Uint8Array, tagLength: number, encrypt: boolean) {
    if (nonce.length > NONCE_MAX) fail(Tee.ERROR_BAD_PARAMETERS, `a nonce has at most ${NONCE_MAX} bytes`);
    if (tagLength > BLOCK) fail(Tee.ERROR_BAD_PARAMETERS, `a tag has at most ${BLOCK} bytes`);
    this.tagLength = tagLength;
    this.#secret = key;
    this.#nonce = nonce;
    this.#encrypt = encrypt;
    this.#cipher = new BlockCipher("aes", key);
    this.#key = toBig(this.#cipher.encrypt(new Uint8Array(BLOCK)));
    this.#first = ghash(this.#key, Buffer.concat([nonce, padding(nonce.length), lengths(0, nonce.length)]));
  }

  aad(bytes: Uint8Array): void {
    if (this.#text.length > 0) fail(Tee.ERROR_BAD_STATE, "the payload has begun");
    this.#aad = Buffer.concat([this.#aad, bytes]);
  }

  update(bytes: Uint8Array): Uint8Array {
    const done = this.#text.length;
    const result = xor(bytes, this.#stream(done, bytes.length));
    this.#text = Buffer.concat([this.#text, this.#encrypt ? result : bytes]);
    return result;
  }

  /** Key stream from a place in the payload. Only the last 32 bits of the counter count on, and go round. */
  #stream(from: number, length: number): Uint8Array {
    const firstBlock = Math.floor(from / BLOCK);
    const count = Math.ceil((from + length) / BLOCK) - firstBlock;
    const blocks = Buffer.alloc(count * BLOCK);
    for (let n = 0; n < count; n++) {
      blocks.set(this.#first, n * BLOCK);
      blocks.set(addToCounter(this.#first.subarray(12), 1 + firstBlock + n), n * BLOCK + 12);
    }
    const skip = from - firstBlock * BLOCK;
    return this.#cipher.encrypt(blocks).subarray(skip, skip + length);
  }

  tag(): Uint8Array {
    const [aad, text] = [this.#aad, this.#text];
    const all = [aad, padding(aad.length), text, padding(text.length), lengths(aad.length, text.length)];
    return xor(this.#cipher.encrypt(this.#first), ghash(this.#key, Buffer.concat(all))).subarray(0, this.tagLength);
  }

  copy(): AuthencState {
    const twin = new LongNonceGcm(this.#secret, this.#nonce, this.tagLength, this.#encrypt);
    twin.#aad = this.#aad;
    twin.#text = this.#text;
    return twin;
  }
}
