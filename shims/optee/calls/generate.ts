/** Random numbers and new keys, from the run's own source of randomness. */

import { x448 } from "@noble/curves/ed448";
import { ed25519, x25519 } from "@noble/curves/ed25519";
import { Attr, ObjectType } from "../algorithms.ts";
import { checkAttributes, populate, readAttributes } from "../attributes.ts";
import type { Call } from "../call.ts";
import { HandleFlag } from "../constants.ts";
import { eccCurve, generateEcc } from "../crypto/ecc.ts";
import { modPow, randomBelow } from "../crypto/numbers.ts";
import { generateRsa } from "../crypto/rsa.ts";
import { objectOf } from "../handles-of.ts";
import { attributes, bytes, handle, size, ulong } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { allowsSize, isOldDesSize } from "../object-types.ts";
import { bitLength, type TeeObject } from "../objects.ts";
import type { Entropy } from "../random.ts";
import { fail, Tee } from "../results.ts";
import { arg, type Row, row } from "../table.ts";

function random(call: Call, buffer: number, length: number): number {
  call.memory.check(MemoryAccess.WRITE | MemoryAccess.ANY_OWNER, buffer, length);
  call.memory.write(buffer, call.tee.entropy.bytes(length));
  return Tee.SUCCESS;
}

function generateKey(call: Call, number: number, keySize: number, params: number, count: number): number {
  const object = objectOf(call, number);
  if (object.persistent) fail(Tee.ERROR_BAD_STATE, "the object is persistent");
  if (object.initialized) fail(Tee.ERROR_BAD_STATE, "the object is initialized already");
  const { spec } = object;
  if (spec === undefined) return fail(Tee.ERROR_NOT_SUPPORTED, "a data object is no key");
  if (!allowsSize(spec, keySize)) fail(Tee.ERROR_NOT_SUPPORTED, `${keySize} bits are no size of this type`);
  const given = readAttributes(call, params, count);
  checkAttributes(spec, given, "generate");
  const { entropy } = call.tee;
  if (spec.attributes[0]?.id === Attr.SECRET_VALUE) {
    const length = Math.floor((isOldDesSize(object.type, keySize) ? keySize + keySize / 7 : keySize) / 8);
    if (length > spec.capacity) fail(Tee.ERROR_EXCESS_DATA, "the key does not fit");
    object.setSecret(entropy.bytes(length));
  } else {
    populate(object, spec, given);
    make(entropy, object, keySize);
  }
  object.size = keySize;
  object.flags |= HandleFlag.INITIALIZED;
  return Tee.SUCCESS;
}

function make(entropy: Entropy, object: TeeObject, keySize: number): void {
  switch (object.type) {
    case ObjectType.RSA_KEYPAIR:
      makeRsa(entropy, object, keySize);
      return;
    case ObjectType.DSA_KEYPAIR:
      makeDsa(entropy, object);
      return;
    case ObjectType.DH_KEYPAIR:
      makeDh(entropy, object, keySize);
      return;
    case ObjectType.ECDSA_KEYPAIR:
    case ObjectType.ECDH_KEYPAIR: {
      const curve = eccCurve(object.number(Attr.ECC_CURVE));
      if (curve === undefined) fail(Tee.ERROR_NOT_SUPPORTED, "no such curve");
      if (curve.bits !== keySize) fail(Tee.ERROR_BAD_PARAMETERS, `the curve has ${curve.bits} bits`);
      const { d, x, y } = generateEcc(entropy, curve);
      object.setBig(Attr.ECC_PRIVATE_VALUE, d);
      object.setBig(Attr.ECC_PUBLIC_VALUE_X, x);
      object.setBig(Attr.ECC_PUBLIC_VALUE_Y, y);
      return;
    }
    case ObjectType.ED25519_KEYPAIR: {
      const secret = entropy.bytes(32);
      object.attributes.set(Attr.ED25519_PRIVATE_VALUE, secret);
      object.attributes.set(Attr.ED25519_PUBLIC_VALUE, ed25519.getPublicKey(secret));
      return;
    }
    case ObjectType.X25519_KEYPAIR: {
      const secret = entropy.bytes(32);
      object.attributes.set(Attr.X25519_PRIVATE_VALUE, secret);
      object.attributes.set(Attr.X25519_PUBLIC_VALUE, x25519.getPublicKey(secret));
      return;
    }
    case ObjectType.X448_KEYPAIR: {
      const secret = entropy.bytes(56);
      object.attributes.set(Attr.X448_PRIVATE_VALUE, secret);
      object.attributes.set(Attr.X448_PUBLIC_VALUE, x448.getPublicKey(secret));
      return;
    }
    default:
      fail(Tee.ERROR_BAD_FORMAT, "such an object cannot be generated");
  }
}

const EXPONENT = 65537n;
const EXPONENT_BITS_MAX = 256;

/** Exponents as NIST SP 800-56B wants them: odd, from 65537 to below 2^256. */
function makeRsa(entropy: Entropy, object: TeeObject, keySize: number): void {
  const given = object.attributes.has(Attr.RSA_PUBLIC_EXPONENT);
  const e = given ? object.big(Attr.RSA_PUBLIC_EXPONENT) : EXPONENT;
  if (e < EXPONENT || (e & 1n) === 0n || bitLength(e) > EXPONENT_BITS_MAX)
    fail(Tee.ERROR_BAD_PARAMETERS, "a public exponent is odd, at least 65537 and below 2^256");
  if (bitLength(e) > keySize / 4) fail(Tee.ERROR_BAD_PARAMETERS, "the public exponent is too large for the key");
  const { n, d, crt } = generateRsa(entropy, keySize, e);
  object.setBig(Attr.RSA_MODULUS, n);
  object.setBig(Attr.RSA_PUBLIC_EXPONENT, e);
  object.setBig(Attr.RSA_PRIVATE_EXPONENT, d);
  object.setBig(Attr.RSA_PRIME1, crt.p);
  object.setBig(Attr.RSA_PRIME2, crt.q);
  object.setBig(Attr.RSA_EXPONENT1, crt.dp);
  object.setBig(Attr.RSA_EXPONENT2, crt.dq);
  object.setBig(Attr.RSA_COEFFICIENT, crt.qinv);
}

function makeDsa(entropy: Entropy, object: TeeObject): void {
  const p = object.big(Attr.DSA_PRIME);
  const q = object.big(Attr.DSA_SUBPRIME);
  const g = object.big(Attr.DSA_BASE);
  if (q <= 2n || p <= q || g <= 1n || g >= p) fail(Tee.ERROR_BAD_PARAMETERS, "no DSA domain");
  const x = randomBelow(entropy, q);
  object.setBig(Attr.DSA_PRIVATE_VALUE, x);
  object.setBig(Attr.DSA_PUBLIC_VALUE, modPow(g, x, p));
}

function makeDh(entropy: Entropy, object: TeeObject, keySize: number): void {
  const p = object.big(Attr.DH_PRIME);
  const g = object.big(Attr.DH_BASE);
  if (keySize !== Math.ceil(bitLength(p) / 8) * 8) fail(Tee.ERROR_BAD_PARAMETERS, "the prime has another size");
  if (g <= 1n || g >= p) fail(Tee.ERROR_BAD_PARAMETERS, "the base is no element of the group");
  const bits = object.number(Attr.DH_X_BITS);
  if (bits > keySize) fail(Tee.ERROR_BAD_PARAMETERS, "the private value would be longer than the prime");
  let limit = object.attributes.has(Attr.DH_SUBPRIME) ? object.big(Attr.DH_SUBPRIME) : p - 1n;
  if (bits > 0 && 1n << BigInt(bits) < limit) limit = 1n << BigInt(bits);
  if (limit <= 2n) fail(Tee.ERROR_BAD_PARAMETERS, "there is no room for a private value");
  const x = randomBelow(entropy, limit);
  object.setBig(Attr.DH_PRIVATE_VALUE, x);
  object.setBig(Attr.DH_PUBLIC_VALUE, modPow(g, x, p));
  object.attributes.set(Attr.DH_X_BITS, bits === 0 ? bitLength(x) : bits);
}

export const generateCalls: readonly Row[] = [
  row(33, "cryp_random_number_generate", [arg("buf", bytes(1, "exit")), arg("blen", size)], random),
  row(
    54,
    "cryp_obj_generate_key",
    [arg("obj", handle), arg("key_size", ulong), arg("params", attributes(3)), arg("param_count", ulong)],
    generateKey,
  ),
];
