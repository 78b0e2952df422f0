/** Arithmetic with large numbers, and primes from a given source of randomness. */
import { checkPrimeSync } from "node:crypto";
import { bitLength, toBig } from "../objects.ts";
import type { Entropy } from "../random.ts";

/** Bits of the exponent that are taken at once. */
const WINDOW = 4n;

/** base^exponent mod modulus. */
export function modPow(base: bigint, exponent: bigint, modulus: bigint): bigint {
  if (modulus === 1n) return 0n;
  const table = [1n, base % modulus];
  for (let index = 2; index < 16; index++) table.push(((table[index - 1] ?? 1n) * (table[1] ?? 1n)) % modulus);
  let result = 1n;
  const digits = exponent.toString(16);
  for (const digit of digits) {
    for (let bit = 0n; bit < WINDOW; bit++) result = (result * result) % modulus;
    const value = Number.parseInt(digit, 16);
    if (value !== 0) result = (result * (table[value] ?? 1n)) % modulus;
  }
  return result;
}

/** The inverse of a modulo m, undefined when there is none. */
export function modInverse(a: bigint, m: bigint): bigint | undefined {
  let [oldR, r] = [((a % m) + m) % m, m];
  let [oldS, s] = [1n, 0n];
  while (r !== 0n) {
    const quotient = oldR / r;
    [oldR, r] = [r, oldR - quotient * r];
    [oldS, s] = [s, oldS - quotient * s];
  }
  return oldR === 1n ? ((oldS % m) + m) % m : undefined;
}

export function gcd(a: bigint, b: bigint): bigint {
  let [x, y] = [a, b];
  while (y !== 0n) [x, y] = [y, x % y];
  return x;
}

/** A number in [1, limit), evenly spread as far as 64 more bits make it. */
export function randomBelow(entropy: Entropy, limit: bigint): bigint {
  const bytes = Math.ceil(bitLength(limit) / 8) + 8;
  return limit <= 2n ? 1n : (toBig(entropy.bytes(bytes)) % (limit - 1n)) + 1n;
}

function smallPrimes(limit: number): readonly bigint[] {
  const sieve = new Uint8Array(limit);
  const found: bigint[] = [];
  for (let candidate = 3; candidate < limit; candidate += 2) {
    if (sieve[candidate]) continue;
    found.push(BigInt(candidate));
    for (let multiple = candidate * candidate; multiple < limit; multiple += 2 * candidate) sieve[multiple] = 1;
  }
  return found;
}

/** A prime of exactly so many bits whose two highest are set, with gcd(p - 1, e) = 1. */
export function randomPrime(entropy: Entropy, bits: number, e: bigint): bigint {
  const primes = smallPrimes(2000);
  const top = (3n << BigInt(bits)) >> 2n;
  for (;;) {
    const start = (toBig(entropy.bytes(Math.ceil(bits / 8))) & ((1n << BigInt(bits)) - 1n)) | top | 1n;
    const residues = primes.map((prime) => start % prime);
    for (let delta = 0n; delta < 20_000n; delta += 2n) {
      if (residues.some((residue, index) => (residue + delta) % (primes[index] ?? 3n) === 0n)) continue;
      const candidate = start + delta;
      if (bitLength(candidate) !== bits) break;
      if (gcd(candidate - 1n, e) === 1n && checkPrimeSync(candidate)) return candidate;
    }
  }
}
