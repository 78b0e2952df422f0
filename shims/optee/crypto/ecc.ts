/** Elliptic curves on @noble/curves: the NIST curves, and ECDSA over digests of any length. */
import { Field } from "@noble/curves/abstract/modular";
import { type WeierstrassPointCons, weierstrassN } from "@noble/curves/abstract/weierstrass";
import { p256, p384, p521 } from "@noble/curves/nist";
import { Curve } from "../constants.ts";
import { bitLength, fromBig, toBig } from "../objects.ts";
import type { Entropy } from "../random.ts";
import { truncateDigest } from "./dsa.ts";
import { modInverse, randomBelow } from "./numbers.ts";

type Points = WeierstrassPointCons<bigint>;

export interface EccCurve {
  readonly points: Points;
  readonly order: bigint;
  /** Bytes of a coordinate. */
  readonly bytes: number;
  readonly bits: number;
}

export interface EccPoint {
  readonly x: bigint;
  readonly y: bigint;
}

/** SEC 2, 2.2.2 and NIST SP 800-186, 3.2.1: the two that the library does not have. */
const P192 = {
  p: 0xfffffffffffffffffffffffffffffffeffffffffffffffffn,
  b: 0x64210519e59c80e70fa7e9ab72243049feb8deecc146b9b1n,
  n: 0xffffffffffffffffffffffff99def836146bc9b1b4d22831n,
  Gx: 0x188da80eb03090f67cbf20eb43a18800f4ff0afd82ff1012n,
  Gy: 0x07192b95ffc8da78631011ed6b24cdd573f977a11e794811n,
};
const P224 = {
  p: 0xffffffffffffffffffffffffffffffff000000000000000000000001n,
  b: 0xb4050a850c04b3abf54132565044b0b7d7bfd8ba270b39432355ffb4n,
  n: 0xffffffffffffffffffffffffffff16a2e0b8f03e13dd29455c5c2a3dn,
  Gx: 0xb70e0cbd6bb4bf7f321390b94a03c1d356c21122343280d6115c1d21n,
  Gy: 0xbd376388b5f723fb4c22dfe6cd4375a05a07476444d5819985007e34n,
};

function made({ p, b, n, Gx, Gy }: typeof P192): Points {
  return weierstrassN({ p, a: p - 3n, b, n, h: 1n, Gx, Gy }, { Fp: Field(p) });
}

/** A curve by TEE_ECC_CURVE_*; undefined for one there is none of. */
export function eccCurve(curve: number): EccCurve | undefined {
  const points = pointsOf(curve);
  if (points === undefined) return undefined;
  const { bits, order } = { bits: bitLength(points.Fp.ORDER), order: points.Fn.ORDER };
  return { points, order, bits, bytes: Math.ceil(bits / 8) };
}

function pointsOf(curve: number): Points | undefined {
  switch (curve) {
    case Curve.NIST_P192:
      return made(P192);
    case Curve.NIST_P224:
      return made(P224);
    case Curve.NIST_P256:
      return p256.Point;
    case Curve.NIST_P384:
      return p384.Point;
    case Curve.NIST_P521:
      return p521.Point;
    default:
      return undefined;
  }
}

export function generateEcc(entropy: Entropy, { points, order }: EccCurve): EccPoint & { d: bigint } {
  const d = randomBelow(entropy, order);
  const { x, y } = points.BASE.multiply(d).toAffine();
  return { d, x, y };
}

/** The point, undefined when it is not on the curve. */
function pointAt({ points }: EccCurve, { x, y }: EccPoint): InstanceType<Points> | undefined {
  try {
    const point = points.fromAffine({ x, y });
    point.assertValidity();
    return point;
  } catch {
    return undefined;
  }
}

/** r and s, each as long as a coordinate. The nonce is the run's own random number. */
export function signEcc(entropy: Entropy, curve: EccCurve, d: bigint, digest: Uint8Array): Uint8Array | undefined {
  const { points, order } = curve;
  if (d <= 0n || d >= order) return undefined;
  const z = truncateDigest(digest, order);
  for (;;) {
    const k = randomBelow(entropy, order);
    const inverse = modInverse(k, order);
    if (inverse === undefined) continue;
    const r = points.BASE.multiply(k).toAffine().x % order;
    const s = (inverse * (z + r * d)) % order;
    if (r !== 0n && s !== 0n) return Buffer.concat([fromBig(r, curve.bytes), fromBig(s, curve.bytes)]);
  }
}

export function verifyEcc(curve: EccCurve, key: EccPoint, digest: Uint8Array, signature: Uint8Array): boolean {
  const { points, order } = curve;
  const r = toBig(signature.subarray(0, curve.bytes));
  const s = toBig(signature.subarray(curve.bytes));
  const point = pointAt(curve, key);
  if (point === undefined || r <= 0n || r >= order || s <= 0n || s >= order) return false;
  const w = modInverse(s, order) ?? 0n;
  const u1 = (truncateDigest(digest, order) * w) % order;
  const u2 = (r * w) % order;
  const a = u1 === 0n ? points.ZERO : points.BASE.multiplyUnsafe(u1);
  const sum = a.add(u2 === 0n ? points.ZERO : point.multiplyUnsafe(u2));
  return !sum.equals(points.ZERO) && sum.toAffine().x % order === r;
}

/** The x coordinate of d times the other's point; undefined when that is no point of the curve. */
export function sharedEcc(curve: EccCurve, d: bigint, other: EccPoint): Uint8Array | undefined {
  const point = pointAt(curve, other);
  if (point === undefined || d <= 0n || d >= curve.order) return undefined;
  return fromBig(point.multiply(d).toAffine().x, curve.bytes);
}
