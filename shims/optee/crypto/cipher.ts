/** Symmetric ciphers as operations use them: piece by piece, with a state that can be copied. */
import { fail, Tee } from "../results.ts";
import { addToCounter, type BlockCipher, xor } from "./block-cipher.ts";

export interface CipherState {
  /** Takes the next piece; `last` says that nothing follows. The result is as long as the piece. */
  update(bytes: Uint8Array, last: boolean): Uint8Array;
  copy(): CipherState;
}

/** TEE_CHAIN_MODE_*. */
const ChainMode = { ECB: 0, CBC: 1, CTR: 2, CTS: 3, XTS: 4 } as const;

function wholeBlocks(cipher: BlockCipher, bytes: Uint8Array): void {
  if (bytes.length % cipher.size !== 0)
    fail(Tee.ERROR_BAD_PARAMETERS, `${bytes.length} bytes are not made of whole blocks`);
}

class Ecb implements CipherState {
  readonly #cipher: BlockCipher;
  readonly #encrypt: boolean;

  constructor(cipher: BlockCipher, encrypt: boolean) {
    this.#cipher = cipher;
    this.#encrypt = encrypt;
  }
  update(bytes: Uint8Array): Uint8Array {
    wholeBlocks(this.#cipher, bytes);
    return this.#encrypt ? this.#cipher.encrypt(bytes) : this.#cipher.decrypt(bytes);
  }
  copy(): CipherState {
    return new Ecb(this.#cipher, this.#encrypt);
  }
}

class Cbc implements CipherState {
  readonly #cipher: BlockCipher;
  readonly #encrypt: boolean;
  #iv: Uint8Array;

  constructor(cipher: BlockCipher, encrypt: boolean, iv: Uint8Array) {
    this.#cipher = cipher;
    this.#encrypt = encrypt;
    this.#iv = iv;
  }
  update(bytes: Uint8Array): Uint8Array {
    wholeBlocks(this.#cipher, bytes);
    if (bytes.length === 0) return bytes;
    const result = this.#cipher.cbc(this.#iv, bytes, this.#encrypt);
    this.#iv = (this.#encrypt ? result : bytes).slice(-this.#cipher.size);
    return result;
  }
  copy(): Cbc {
    return new Cbc(this.#cipher, this.#encrypt, this.#iv);
  }
}

class Ctr implements CipherState {
  readonly #cipher: BlockCipher;
  #counter: Uint8Array;
  /** Bytes of the current block that are used up. */
  #used: number;

  constructor(cipher: BlockCipher, counter: Uint8Array, used = 0) {
    this.#cipher = cipher;
    this.#counter = counter;
    this.#used = used;
  }
  update(bytes: Uint8Array): Uint8Array {
    const result = this.#cipher.ctr(this.#counter, this.#used, bytes);
    const end = this.#used + bytes.length;
    this.#counter = addToCounter(this.#counter, Math.floor(end / this.#cipher.size));
    this.#used = end % this.#cipher.size;
    return result;
  }
  copy(): CipherState {
    return new Ctr(this.#cipher, this.#counter, this.#used);
  }
}

/** CBC with ciphertext stealing, the last two blocks always swapped (CBC-CS3 of NIST SP 800-38A's addendum). */
class Cts implements CipherState {
  readonly #cipher: BlockCipher;
  readonly #encrypt: boolean;
  readonly #cbc: Cbc;

  constructor(cipher: BlockCipher, encrypt: boolean, iv: Uint8Array | Cbc) {
    this.#cipher = cipher;
    this.#encrypt = encrypt;
    this.#cbc = iv instanceof Cbc ? iv : new Cbc(cipher, encrypt, iv);
  }

  update(bytes: Uint8Array, last: boolean): Uint8Array {
    if (!last) return this.#cbc.update(bytes);
    const { size } = this.#cipher;
    const blocks = Math.ceil(bytes.length / size);
    if (blocks < 2) return fail(Tee.ERROR_BAD_STATE, "the last piece has to be longer than one block");
    const before = (blocks - 2) * size;
    const tail = bytes.length - before - size;
    const head = this.#cbc.update(bytes.subarray(0, before));
    if (this.#encrypt) {
      const padded = new Uint8Array(2 * size);
      padded.set(bytes.subarray(before));
      const pair = this.#cbc.update(padded);
      return Buffer.concat([head, pair.subarray(size), pair.subarray(0, tail)]);
    }
    const swapped = bytes.subarray(before, before + size);
    const open = this.#cipher.decrypt(swapped);
    const first = new Uint8Array(size);
    first.set(bytes.subarray(before + size));
    first.set(open.subarray(tail), tail);
    const pair = this.#cbc.update(Buffer.concat([first, swapped]));
    return Buffer.concat([head, pair.subarray(0, size + tail)]);
  }

  copy(): CipherState {
    return new Cts(this.#cipher, this.#encrypt, this.#cbc.copy());
  }
}

const XTS_BLOCK = 16;

/** XTS (IEEE 1619): tweaks of whole blocks are made here, and all blocks go through the cipher at once. */
class Xts implements CipherState {
  readonly #cipher: BlockCipher;
  readonly #encrypt: boolean;
  #tweak: Uint8Array;

  constructor(cipher: BlockCipher, encrypt: boolean, tweak: Uint8Array) {
    this.#cipher = cipher;
    this.#encrypt = encrypt;
    this.#tweak = tweak;
  }

  update(bytes: Uint8Array, last: boolean): Uint8Array {
    const rest = bytes.length % XTS_BLOCK;
    if (!last && rest !== 0) return fail(Tee.ERROR_BAD_PARAMETERS, "only the last piece may end within a block");
    if (bytes.length < XTS_BLOCK) return fail(Tee.ERROR_BAD_STATE, "less than a block cannot be processed");
    if (rest === 0) return this.#blocks(bytes);
    const whole = bytes.length - rest - XTS_BLOCK;
    const head = this.#blocks(bytes.subarray(0, whole));
    const first = this.#tweak;
    const second = nextTweak(first);
    // The stolen part of the last whole block fills up the incomplete one; decrypting uses the tweaks the other way round.
    const [tweakA, tweakB] = this.#encrypt ? [first, second] : [second, first];
    const a = this.#block(bytes.subarray(whole, whole + XTS_BLOCK), tweakA);
    const filled = Uint8Array.from(a);
    filled.set(bytes.subarray(whole + XTS_BLOCK));
    const b = this.#block(filled, tweakB);
    return Buffer.concat([head, b, a.subarray(0, rest)]);
  }

  #block(block: Uint8Array, tweak: Uint8Array): Uint8Array {
    const mixed = xor(block, tweak);
    return xor(this.#encrypt ? this.#cipher.encrypt(mixed) : this.#cipher.decrypt(mixed), tweak);
  }

  #blocks(bytes: Uint8Array): Uint8Array {
    const tweaks = new Uint8Array(bytes.length);
    for (let at = 0; at < bytes.length; at += XTS_BLOCK) {
      tweaks.set(this.#tweak, at);
      this.#tweak = nextTweak(this.#tweak);
    }
    if (bytes.length === 0) return bytes;
    const mixed = xor(bytes, tweaks);
    return xor(this.#encrypt ? this.#cipher.encrypt(mixed) : this.#cipher.decrypt(mixed), tweaks);
  }

  copy(): CipherState {
    return new Xts(this.#cipher, this.#encrypt, this.#tweak);
  }
}

/** Multiplies by x in GF(2^128), lowest byte first. */
function nextTweak(tweak: Uint8Array): Uint8Array {
  const carry = (tweak[XTS_BLOCK - 1] ?? 0) >> 7;
  const next = tweak.map((byte, index) => ((byte << 1) | ((index === 0 ? 0 : (tweak[index - 1] ?? 0)) >> 7)) & 0xff);
  next[0] = (next[0] ?? 0) ^ (carry * 0x87);
  return next;
}

/** @param cipher2 the second key's cipher, for XTS */
export function createCipher(
  mode: number,
  cipher: BlockCipher,
  encrypt: boolean,
  iv: Uint8Array,
  cipher2?: BlockCipher,
): CipherState {
  if (mode === ChainMode.ECB) return new Ecb(cipher, encrypt);
  if (iv.length !== cipher.size) return fail(Tee.ERROR_BAD_PARAMETERS, `an IV has ${cipher.size} bytes here`);
  switch (mode) {
    case ChainMode.CBC:
      return new Cbc(cipher, encrypt, iv);
    case ChainMode.CTR:
      return new Ctr(cipher, iv);
    case ChainMode.CTS:
      return new Cts(cipher, encrypt, iv);
    case ChainMode.XTS:
      if (cipher2 !== undefined) return new Xts(cipher, encrypt, cipher2.encrypt(iv));
  }
  return fail(Tee.ERROR_NOT_SUPPORTED, "no such chaining mode");
}
