/** Key derivation from a secret: HKDF (RFC 5869), PBKDF2 (RFC 8018), the concatenation KDF (NIST SP 800-56A). */
import { pbkdf2Sync } from "node:crypto";
import { digest, hashSize } from "./hash.ts";
import { hmac } from "./mac.ts";

/** Undefined when more is asked for than 255 digests. */
export function hkdf(
  hash: string,
  secret: Uint8Array,
  salt: Uint8Array,
  info: Uint8Array,
  length: number,
): Uint8Array | undefined {
  const size = hashSize(hash);
  if (length > 255 * size) return undefined;
  const key = hmac(hash, salt.length === 0 ? new Uint8Array(size) : salt, secret);
  const parts: Uint8Array[] = [];
  let last: Uint8Array = new Uint8Array(0);
  for (let counter = 1; (counter - 1) * size < length; counter++) {
    last = hmac(hash, key, last, info, Uint8Array.of(counter));
    parts.push(last);
  }
  return Buffer.concat(parts).subarray(0, length);
}

export function concatKdf(hash: string, secret: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let counter = 1; (counter - 1) * hashSize(hash) < length; counter++) {
    const number = Buffer.alloc(4);
    number.writeUInt32BE(counter);
    parts.push(digest(hash, number, secret, info));
  }
  return Buffer.concat(parts).subarray(0, length);
}

export function pbkdf2(
  hash: string,
  password: Uint8Array,
  salt: Uint8Array,
  iterations: number,
  length: number,
): Uint8Array {
  return pbkdf2Sync(password, salt, iterations, length, hash);
}
