/** Signatures other than RSA's: DSA, ECDSA, Ed25519. */
import { ed25519, ed25519ctx, ed25519ph } from "@noble/curves/ed25519";
import { digestField } from "../algorithm-fields.ts";
import { Attr } from "../algorithms.ts";
import { Mode } from "../constants.ts";
import { type DsaDomain, signDsa, verifyDsa } from "../crypto/dsa.ts";
import { type EccCurve, eccCurve, signEcc, verifyEcc } from "../crypto/ecc.ts";
import { hashSize } from "../crypto/hash.ts";
import { fromBig, type TeeObject } from "../objects.ts";
import { fail, Tee } from "../results.ts";
import type { AsymmetricResult, AsymmetricUse } from "./rsa.ts";

function signs({ mode }: AsymmetricUse): void {
  if (mode !== Mode.SIGN) fail(Tee.ERROR_BAD_PARAMETERS, "the operation does not sign");
}

function dsaDomain(key: TeeObject): DsaDomain {
  const domain = { p: key.big(Attr.DSA_PRIME), q: key.big(Attr.DSA_SUBPRIME), g: key.big(Attr.DSA_BASE) };
  if (domain.p <= 1n || domain.q <= 1n) fail(Tee.ERROR_BAD_PARAMETERS, "no DSA domain");
  return domain;
}

/** The digest's length, cut to that of q where q is shorter. */
function dsaDigest({ algorithm }: AsymmetricUse, { q }: DsaDomain): { full: number; cut: number } {
  const hash = digestField(algorithm);
  if (hash === undefined) return fail(Tee.ERROR_NOT_IMPLEMENTED, "DSA with that hash");
  return { full: hashSize(hash), cut: Math.min(hashSize(hash), fromBig(q).length) };
}

export function signByDsa(use: AsymmetricUse): AsymmetricResult {
  const { call, key, data, room } = use;
  signs(use);
  const domain = dsaDomain(key);
  const { cut } = dsaDigest(use, domain);
  if (data.length !== cut) fail(Tee.ERROR_SECURITY, `a digest has ${cut} bytes here`);
  const needed = 2 * fromBig(domain.q).length;
  if (room < needed) return { needed };
  const x = key.big(Attr.DSA_PRIVATE_VALUE);
  if (x <= 0n || x >= domain.q) fail(Tee.ERROR_GENERIC, "the private value does not belong to the domain");
  return signDsa(call.tee.entropy, domain, x, data);
}

export function verifyByDsa(use: AsymmetricUse, signature: Uint8Array): boolean {
  const { key, data } = use;
  const domain = dsaDomain(key);
  const { full } = dsaDigest(use, domain);
  const length = fromBig(domain.q).length;
  if (data.length !== full && data.length !== length)
    fail(Tee.ERROR_BAD_PARAMETERS, `a digest has ${full} or ${length} bytes here`);
  if (signature.length !== 2 * length) return false;
  return verifyDsa(domain, key.big(Attr.DSA_PUBLIC_VALUE), data, signature);
}

function curveOf(key: TeeObject): EccCurve {
  return eccCurve(key.number(Attr.ECC_CURVE)) ?? fail(Tee.ERROR_NOT_SUPPORTED, "no such curve");
}

export function signByEcdsa(use: AsymmetricUse): AsymmetricResult {
  const { call, key, data, room } = use;
  signs(use);
  const curve = curveOf(key);
  if (room < 2 * curve.bytes) return { needed: 2 * curve.bytes };
  const signature = signEcc(call.tee.entropy, curve, key.big(Attr.ECC_PRIVATE_VALUE), data);
  return signature ?? fail(Tee.ERROR_GENERIC, "the private value does not belong to the curve");
}

export function verifyByEcdsa({ key, data }: AsymmetricUse, signature: Uint8Array): boolean {
  const curve = curveOf(key);
  if (signature.length !== 2 * curve.bytes)
    fail(Tee.ERROR_BAD_PARAMETERS, `a signature has ${2 * curve.bytes} bytes here`);
  const x = key.big(Attr.ECC_PUBLIC_VALUE_X);
  const y = key.big(Attr.ECC_PUBLIC_VALUE_Y);
  return verifyEcc(curve, { x, y }, data, signature);
}

const ED25519_SIGNATURE = 64;
const CONTEXT_MAX = 255;

/** Which of the three forms of RFC 8032, 5.1 the attributes ask for. */
function ed25519Form({ given }: AsymmetricUse): {
  curve: typeof ed25519;
  options: { context?: Uint8Array; zip215: boolean };
} {
  let prehash = false;
  let context: Uint8Array | undefined;
  for (const { id, a, b, length, bytes } of given) {
    if (id === Attr.EDDSA_PREHASH) {
      if (a > 1 || b !== 0) fail(Tee.ERROR_BAD_PARAMETERS, "TEE_ATTR_EDDSA_PREHASH is 0 or 1");
      prehash = a === 1;
    } else if (id === Attr.EDDSA_CTX) {
      if (context !== undefined || length > CONTEXT_MAX)
        fail(Tee.ERROR_BAD_PARAMETERS, "one context of at most 255 bytes");
      if (length > 0) context = bytes();
    } else fail(Tee.ERROR_BAD_PARAMETERS, "an attribute that Ed25519 does not have");
  }
  // As RFC 8032 checks, not as ZIP 215 does.
  const options = context === undefined ? { zip215: false } : { zip215: false, context };
  if (prehash) return { curve: ed25519ph, options };
  return { curve: context === undefined ? ed25519 : ed25519ctx, options };
}

export function signByEd25519(use: AsymmetricUse): AsymmetricResult {
  signs(use);
  const { curve, options } = ed25519Form(use);
  if (use.room < ED25519_SIGNATURE) return { needed: ED25519_SIGNATURE };
  return curve.sign(use.data, use.key.bytes(Attr.ED25519_PRIVATE_VALUE), options);
}

export function verifyByEd25519(use: AsymmetricUse, signature: Uint8Array): boolean {
  const { curve, options } = ed25519Form(use);
  if (signature.length !== ED25519_SIGNATURE) return false;
  try {
    return curve.verify(signature, use.data, use.key.bytes(Attr.ED25519_PUBLIC_VALUE), options);
  } catch {
    // The library throws for a key that is no point of the curve.
    return false;
  }
}
