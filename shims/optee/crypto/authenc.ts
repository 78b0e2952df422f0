/** Authenticated encryption, piece by piece: AES-GCM (NIST SP 800-38D) and AES-CCM (SP 800-38C). */
import { type CipherGCM, createCipheriv, createDecipheriv, type DecipherGCM } from "node:crypto";
import { fail, Tee } from "../results.ts";
import { addToCounter, BlockCipher } from "./block-cipher.ts";
import { CbcMac, type MacState } from "./mac.ts";

export interface AuthencState {
  aad(bytes: Uint8Array): void;
  update(bytes: Uint8Array): Uint8Array;
  /** The whole tag, once everything was given. */
  tag(): Uint8Array;
  readonly tagLength: number;
  copy(): AuthencState;
}

const BLOCK = 16;
/** OpenSSL's GCM_IV_MAX_SIZE: longer nonces are for `LongNonceGcm`. */
export const GCM_NONCE_MAX = 128;

/** On node's GCM. It cannot be copied, so what was put in is kept and put in again. */
export class Gcm implements AuthencState {
  readonly tagLength: number;
  readonly #key: Uint8Array;
  readonly #iv: Uint8Array;
  readonly #encrypt: boolean;
  /** Makes the tag, from the plain text whichever way the data goes. */
  readonly #sealer: CipherGCM;
  readonly #opener: DecipherGCM | undefined;
  readonly #aad: Uint8Array[] = [];
  readonly #payload: Uint8Array[] = [];

  constructor(key: Uint8Array, iv: Uint8Array, tagLength: number, encrypt: boolean) {
    if (iv.length === 0) fail(Tee.ERROR_BAD_PARAMETERS, "a nonce has at least one byte");
    if (tagLength > BLOCK) fail(Tee.ERROR_BAD_PARAMETERS, `a tag has at most ${BLOCK} bytes`);
    this.tagLength = tagLength;
    this.#key = key;
    this.#iv = iv;
    this.#encrypt = encrypt;
    const name = `aes-${key.length * 8}-gcm` as "aes-256-gcm";
    this.#sealer = createCipheriv(name, key, iv);
    this.#opener = encrypt ? undefined : createDecipheriv(name, key, iv);
  }

  aad(bytes: Uint8Array): void {
    if (this.#payload.length > 0) fail(Tee.ERROR_BAD_STATE, "the payload has begun");
    this.#aad.push(bytes);
    this.#sealer.setAAD(bytes);
  }

  update(bytes: Uint8Array): Uint8Array {
    if (bytes.length === 0) return bytes;
    this.#payload.push(bytes);
    if (this.#opener === undefined) return this.#sealer.update(bytes);
    const plain = this.#opener.update(bytes);
    this.#sealer.update(plain);
    return plain;
  }

  tag(): Uint8Array {
    this.#sealer.final();
    return this.#sealer.getAuthTag().subarray(0, this.tagLength);
  }

  copy(): AuthencState {
    const twin = new Gcm(this.#key, this.#iv, this.tagLength, this.#encrypt);
    for (const part of this.#aad) twin.aad(part);
    for (const part of this.#payload) twin.update(part);
    return twin;
  }
}

/** The length of associated data as it stands in front of it (SP 800-38C, A.2.2). */
function aadPrefix(length: number): Buffer {
  if (length < 0xff00) return Buffer.of(length >> 8, length & 0xff);
  const large = length >= 2 ** 32;
  const prefix = Buffer.alloc(large ? 10 : 6, 0xff);
  if (large) prefix.writeBigUInt64BE(BigInt(length), 2);
  else {
    prefix[1] = 0xfe;
    prefix.writeUInt32BE(length, 2);
  }
  return prefix;
}

interface CcmParts {
  readonly cipher: BlockCipher;
  readonly encrypt: boolean;
  readonly tagLength: number;
  /** The counter block of number zero. */
  readonly counter0: Uint8Array;
  readonly mac: MacState;
  aadLeft: number;
  payloadLeft: number;
  /** Bytes of the payload so far. */
  done: number;
  /** Bytes that went into the MAC. */
  macked: number;
}

export class Ccm implements AuthencState {
  readonly tagLength: number;
  readonly #parts: CcmParts;

  private constructor(parts: CcmParts) {
    this.#parts = parts;
    this.tagLength = parts.tagLength;
  }

  /** @param aadLength, payloadLength exactly what will follow: CCM authenticates them first */
  static create(
    key: Uint8Array,
    nonce: Uint8Array,
    tagLength: number,
    aadLength: number,
    payloadLength: number,
    encrypt: boolean,
  ): Ccm {
    const width = BLOCK - 1 - nonce.length;
    if (width < 2 || width > 8) fail(Tee.ERROR_BAD_PARAMETERS, "a nonce has 7 to 13 bytes");
    if (tagLength < 4 || tagLength > BLOCK || tagLength % 2 !== 0)
      fail(Tee.ERROR_BAD_PARAMETERS, "a tag has 4, 6, 8, 10, 12, 14 or 16 bytes");
    if (payloadLength >= 256 ** Math.min(width, 6))
      fail(Tee.ERROR_BAD_PARAMETERS, "the payload is too long for the nonce");
    if (!Number.isSafeInteger(aadLength)) fail(Tee.ERROR_BAD_PARAMETERS, "so much associated data there cannot be");
    const cipher = new BlockCipher("aes", key);
    const counter0 = new Uint8Array(BLOCK);
    counter0[0] = width - 1;
    counter0.set(nonce, 1);
    const first = Uint8Array.from(counter0);
    first[0] = (aadLength > 0 ? 0x40 : 0) | ((tagLength - 2) << 2) | (width - 1);
    Buffer.from(first.buffer).writeUIntBE(payloadLength, BLOCK - Math.min(width, 6), Math.min(width, 6));
    const mac = new CbcMac(cipher, false);
    mac.update(first);
    let macked = BLOCK;
    if (aadLength > 0) {
      const prefix = aadPrefix(aadLength);
      mac.update(prefix);
      macked += prefix.length;
    }
    return new Ccm({
      cipher,
      encrypt,
      tagLength,
      counter0,
      mac,
      aadLeft: aadLength,
      payloadLeft: payloadLength,
      done: 0,
      macked,
    });
  }

  #take(bytes: Uint8Array): void {
    this.#parts.mac.update(bytes);
    this.#parts.macked += bytes.length;
  }

  #pad(): void {
    this.#take(new Uint8Array((BLOCK - (this.#parts.macked % BLOCK)) % BLOCK));
  }

  aad(bytes: Uint8Array): void {
    const parts = this.#parts;
    if (bytes.length > parts.aadLeft) fail(Tee.ERROR_BAD_STATE, "more associated data than was announced");
    parts.aadLeft -= bytes.length;
    this.#take(bytes);
    if (parts.aadLeft === 0) this.#pad();
  }

  update(bytes: Uint8Array): Uint8Array {
    const parts = this.#parts;
    if (bytes.length === 0) return bytes;
    if (parts.aadLeft > 0) fail(Tee.ERROR_BAD_STATE, "less associated data than was announced");
    if (bytes.length > parts.payloadLeft) fail(Tee.ERROR_BAD_STATE, "more payload than was announced");
    const counter = addToCounter(parts.counter0, 1 + Math.floor(parts.done / BLOCK));
    const result = parts.cipher.ctr(counter, parts.done % BLOCK, bytes);
    this.#take(parts.encrypt ? bytes : result);
    parts.payloadLeft -= bytes.length;
    parts.done += bytes.length;
    return result;
  }

  tag(): Uint8Array {
    const { payloadLeft, aadLeft, mac, cipher, counter0 } = this.#parts;
    if (payloadLeft > 0 || aadLeft > 0) fail(Tee.ERROR_BAD_STATE, "less data than was announced");
    this.#pad();
    return cipher.ctr(counter0, 0, mac.final()).subarray(0, this.tagLength);
  }

  copy(): AuthencState {
    return new Ccm({ ...this.#parts, mac: this.#parts.mac.copy() });
  }
}
