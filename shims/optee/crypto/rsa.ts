/** RSA (RFC 8017) with randomness from the run's own source, for moduli of any size the TEE allows. */
import { fromBig, toBig } from "../objects.ts";
import type { Entropy } from "../random.ts";
import { digest, hashSize } from "./hash.ts";
import { gcd, modInverse, modPow, randomPrime } from "./numbers.ts";

export interface RsaPublic {
  readonly n: bigint;
  readonly e: bigint;
}

export interface RsaPrivate extends RsaPublic {
  readonly d: bigint;
  /** All of them or none. */
  readonly crt?: {
    readonly p: bigint;
    readonly q: bigint;
    readonly dp: bigint;
    readonly dq: bigint;
    readonly qinv: bigint;
  };
}

/** Bytes of the modulus. */
export function modulusBytes({ n }: RsaPublic): number {
  return fromBig(n).length;
}

export function rsaPublic(key: RsaPublic, value: bigint): bigint {
  return modPow(value, key.e, key.n);
}

export function rsaPrivate(key: RsaPrivate, value: bigint): bigint {
  if (key.crt === undefined) return modPow(value, key.d, key.n);
  const { p, q, dp, dq, qinv } = key.crt;
  const m1 = modPow(value % p, dp, p);
  const m2 = modPow(value % q, dq, q);
  const h = ((((m1 - m2) % p) + p) * qinv) % p;
  return m2 + h * q;
}

/** A new key pair of exactly so many bits. */
export function generateRsa(entropy: Entropy, bits: number, e: bigint): Required<RsaPrivate> {
  for (;;) {
    const p0 = randomPrime(entropy, Math.ceil(bits / 2), e);
    const q0 = randomPrime(entropy, bits - Math.ceil(bits / 2), e);
    if (p0 === q0) continue;
    const [p, q] = p0 > q0 ? [p0, q0] : [q0, p0];
    const phi = ((p - 1n) / gcd(p - 1n, q - 1n)) * (q - 1n);
    const d = modInverse(e, phi);
    const qinv = modInverse(q, p);
    if (d === undefined || qinv === undefined) continue;
    return { n: p * q, e, d, crt: { p, q, dp: d % (p - 1n), dq: d % (q - 1n), qinv } };
  }
}

/** MGF1 of B.2.1. */
function mask(hash: string, seed: Uint8Array, length: number): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let counter = 0; counter * hashSize(hash) < length; counter++) {
    const number = Buffer.alloc(4);
    number.writeUInt32BE(counter);
    parts.push(digest(hash, seed, number));
  }
  return Buffer.concat(parts).subarray(0, length);
}

function xorInto(target: Uint8Array, other: Uint8Array): void {
  for (let index = 0; index < target.length; index++) target[index] = (target[index] ?? 0) ^ (other[index] ?? 0);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Bytes that are not zero. */
function nonZero(entropy: Entropy, count: number): Uint8Array {
  const found = new Uint8Array(count);
  for (let at = 0; at < count; ) {
    for (const byte of entropy.bytes(count - at)) if (byte !== 0 && at < count) found[at++] = byte;
  }
  return found;
}

/** EME-PKCS1-v1_5; undefined for a message too long. */
export function padV15(entropy: Entropy, message: Uint8Array, length: number): Uint8Array | undefined {
  if (message.length > length - 11) return undefined;
  const fill = nonZero(entropy, length - 3 - message.length);
  return Buffer.concat([Uint8Array.of(0, 2), fill, Uint8Array.of(0), message]);
}

export function unpadV15(block: Uint8Array): Uint8Array | undefined {
  const end = block.indexOf(0, 2);
  return block[0] === 0 && block[1] === 2 && end >= 10 ? block.subarray(end + 1) : undefined;
}

/** EME-OAEP with one hash for the label and one for the mask. */
export function padOaep(
  entropy: Entropy,
  message: Uint8Array,
  length: number,
  hash: string,
  mgf: string,
  label: Uint8Array,
): Uint8Array | undefined {
  const size = hashSize(hash);
  if (message.length > length - 2 * size - 2) return undefined;
  const data = Buffer.concat([
    digest(hash, label),
    new Uint8Array(length - message.length - 2 * size - 2),
    Uint8Array.of(1),
    message,
  ]);
  const seed = Uint8Array.from(entropy.bytes(size));
  xorInto(data, mask(mgf, seed, data.length));
  xorInto(seed, mask(mgf, data, size));
  return Buffer.concat([Uint8Array.of(0), seed, data]);
}

export function unpadOaep(block: Uint8Array, hash: string, mgf: string, label: Uint8Array): Uint8Array | undefined {
  const size = hashSize(hash);
  if (block.length < 2 * size + 2 || block[0] !== 0) return undefined;
  const seed = block.slice(1, 1 + size);
  const data = block.slice(1 + size);
  xorInto(seed, mask(mgf, data, size));
  xorInto(data, mask(mgf, seed, data.length));
  if (!equal(data.subarray(0, size), digest(hash, label))) return undefined;
  let at = size;
  while (data[at] === 0) at++;
  return data[at] === 1 ? data.subarray(at + 1) : undefined;
}

/** The DER of DigestInfo up to the digest (RFC 8017, 9.2, note 1). */
const digestInfos: Readonly<Record<string, string>> = {
  md5: "3020300c06082a864886f70d020505000410",
  sha1: "3021300906052b0e03021a05000414",
  sha224: "302d300d06096086480165030402040500041c",
  sha256: "3031300d060960864801650304020105000420",
  sha384: "3041300d060960864801650304020205000430",
  sha512: "3051300d060960864801650304020305000440",
  "sha3-224": "302d300d06096086480165030402070500041c",
  "sha3-256": "3031300d060960864801650304020805000420",
  "sha3-384": "3041300d060960864801650304020905000430",
  "sha3-512": "3051300d060960864801650304020a05000440",
  "md5-sha1": "",
};

/** EMSA-PKCS1-v1_5 of a digest; without a hash the message stands there as it is. */
export function encodeV15(message: Uint8Array, length: number, hash: string | undefined): Uint8Array | undefined {
  const info = Buffer.from(hash === undefined ? "" : (digestInfos[hash] ?? ""), "hex");
  const rest = length - 3 - info.length - message.length;
  if (rest < 8) return undefined;
  return Buffer.concat([Uint8Array.of(0, 1), new Uint8Array(rest).fill(0xff), Uint8Array.of(0), info, message]);
}

/** EMSA-PSS with MGF1 of the same hash; undefined when digest and salt do not fit. */
export function encodePss(message: Uint8Array, bits: number, hash: string, salt: Uint8Array): Uint8Array | undefined {
  const length = Math.ceil(bits / 8);
  const size = hashSize(hash);
  if (length < size + salt.length + 2) return undefined;
  const h = digest(hash, new Uint8Array(8), message, salt);
  const data = Buffer.concat([new Uint8Array(length - salt.length - size - 2), Uint8Array.of(1), salt]);
  xorInto(data, mask(hash, h, data.length));
  data[0] = (data[0] ?? 0) & (0xff >> (8 * length - bits));
  return Buffer.concat([data, h, Uint8Array.of(0xbc)]);
}

export function checkPss(
  block: Uint8Array,
  message: Uint8Array,
  bits: number,
  hash: string,
  saltLength: number,
): boolean {
  const length = Math.ceil(bits / 8);
  const size = hashSize(hash);
  if (block.length !== length || length < size + saltLength + 2 || block[length - 1] !== 0xbc) return false;
  const data = block.slice(0, length - size - 1);
  const h = block.subarray(length - size - 1, length - 1);
  const unused = 8 * length - bits;
  if ((data[0] ?? 0) >> (8 - unused) !== 0) return false;
  xorInto(data, mask(hash, h, data.length));
  data[0] = (data[0] ?? 0) & (0xff >> unused);
  const salt = data.subarray(data.length - saltLength);
  const head = data.subarray(0, data.length - saltLength);
  if (head.subarray(0, -1).some((byte) => byte !== 0) || head[head.length - 1] !== 1) return false;
  return equal(h, digest(hash, new Uint8Array(8), message, salt));
}

/** A signature or cipher text as the number it is; undefined when it is not below the modulus. */
export function asMessage(key: RsaPublic, bytes: Uint8Array): bigint | undefined {
  const value = toBig(bytes);
  return value < key.n ? value : undefined;
}
