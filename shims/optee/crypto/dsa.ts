/** DSA (FIPS 186-4) and Diffie-Hellman over numbers. */
import { bitLength, fromBig, toBig } from "../objects.ts";
import type { Entropy } from "../random.ts";
import { modInverse, modPow, randomBelow } from "./numbers.ts";

export interface DsaDomain {
  readonly p: bigint;
  readonly q: bigint;
  readonly g: bigint;
}

/** The leftmost bits of a digest, as many as q has. */
export function truncateDigest(digest: Uint8Array, q: bigint): bigint {
  const extra = digest.length * 8 - bitLength(q);
  const value = toBig(digest);
  return extra > 0 ? value >> BigInt(extra) : value;
}

/** r and s, each as long as q. */
export function signDsa(entropy: Entropy, { p, q, g }: DsaDomain, x: bigint, digest: Uint8Array): Uint8Array {
  const length = fromBig(q).length;
  const z = truncateDigest(digest, q);
  for (;;) {
    const k = randomBelow(entropy, q);
    const inverse = modInverse(k, q);
    if (inverse === undefined) continue;
    const r = modPow(g, k, p) % q;
    const s = (inverse * (z + x * r)) % q;
    if (r !== 0n && s !== 0n) return Buffer.concat([fromBig(r, length), fromBig(s, length)]);
  }
}

export function verifyDsa({ p, q, g }: DsaDomain, y: bigint, digest: Uint8Array, signature: Uint8Array): boolean {
  const half = signature.length / 2;
  const r = toBig(signature.subarray(0, half));
  const s = toBig(signature.subarray(half));
  if (r <= 0n || r >= q || s <= 0n || s >= q) return false;
  const w = modInverse(s, q);
  if (w === undefined) return false;
  const z = truncateDigest(digest, q);
  const v = ((modPow(g, (z * w) % q, p) * modPow(y, (r * w) % q, p)) % p) % q;
  return v === r;
}
