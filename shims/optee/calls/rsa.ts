/** RSA in all the ways of the TEE: raw, PKCS#1 v1.5, OAEP and PSS. */

import { digestField, innerDigest, operationClass } from "../algorithm-fields.ts";
import { Alg, Attr } from "../algorithms.ts";
import type { GivenAttribute } from "../attributes.ts";
import type { Call } from "../call.ts";
import { Mode, OperationClass } from "../constants.ts";
import { hashName, hashSize } from "../crypto/hash.ts";
import * as rsa from "../crypto/rsa.ts";
import { bitLength, fromBig, type TeeObject } from "../objects.ts";
import { fail, Tee } from "../results.ts";

/** One use of a key. */
export interface AsymmetricUse {
  readonly call: Call;
  readonly key: TeeObject;
  readonly algorithm: number;
  readonly mode: number;
  readonly given: readonly GivenAttribute[];
  readonly data: Uint8Array;
  /** Bytes the caller has for the result. */
  readonly room: number;
}

/** The result, or how many bytes it would have. */
export type AsymmetricResult = Uint8Array | { readonly needed: number };

const INT_MAX = 0x7fff_ffff;

function publicKey(key: TeeObject): rsa.RsaPublic {
  const n = key.big(Attr.RSA_MODULUS);
  if (n <= 3n) fail(Tee.ERROR_BAD_PARAMETERS, "no modulus");
  return { n, e: key.big(Attr.RSA_PUBLIC_EXPONENT) };
}

function privateKey(key: TeeObject): rsa.RsaPrivate {
  const d = key.big(Attr.RSA_PRIVATE_EXPONENT);
  if (!key.attributes.has(Attr.RSA_PRIME1)) return { ...publicKey(key), d };
  const p = key.big(Attr.RSA_PRIME1);
  const q = key.big(Attr.RSA_PRIME2);
  if (p <= 1n || q <= 1n) return fail(Tee.ERROR_BAD_PARAMETERS, "no primes");
  const crt = {
    p,
    q,
    dp: key.big(Attr.RSA_EXPONENT1),
    dq: key.big(Attr.RSA_EXPONENT2),
    qinv: key.big(Attr.RSA_COEFFICIENT),
  };
  return { ...publicKey(key), d, crt };
}

function invalid(why: string): never {
  return fail(Tee.ERROR_BAD_PARAMETERS, why);
}

export function operateRsa(use: AsymmetricUse): AsymmetricResult {
  const { algorithm, mode } = use;
  if (operationClass(algorithm) === OperationClass.ASYMMETRIC_SIGNATURE) {
    return mode === Mode.SIGN ? sign(use) : invalid("the operation does not sign");
  }
  if (mode !== Mode.ENCRYPT && mode !== Mode.DECRYPT)
    return fail(algorithm === Alg.RSA_NOPAD ? Tee.ERROR_GENERIC : Tee.ERROR_BAD_PARAMETERS, "the mode does not fit");
  if (algorithm === Alg.RSA_NOPAD) return raw(use);
  return mode === Mode.ENCRYPT ? encrypt(use) : decrypt(use);
}

/** The result has no leading zeros, as in OP-TEE. */
function raw({ key, mode, data, room }: AsymmetricUse): AsymmetricResult {
  const modulus = publicKey(key);
  const value = rsa.asMessage(modulus, data);
  if (value === undefined) return invalid("the message is not below the modulus");
  const result = mode === Mode.ENCRYPT ? rsa.rsaPublic(modulus, value) : rsa.rsaPrivate(privateKey(key), value);
  const bytes = result === 0n ? new Uint8Array(1) : fromBig(result);
  return room < bytes.length ? { needed: bytes.length } : bytes;
}

function paddingOf(use: AsymmetricUse): { hash: string; mgf: string; label: Uint8Array } | undefined {
  if (use.algorithm === Alg.RSAES_PKCS1_V1_5) return undefined;
  const hash = innerDigest(use.algorithm);
  if (hash === undefined) return fail(Tee.ERROR_NOT_SUPPORTED, "no such hash");
  let mgf = hash;
  let label: Uint8Array = new Uint8Array(0);
  for (const attribute of use.given) {
    if (attribute.id === Attr.RSA_OAEP_LABEL) {
      label = attribute.bytes();
      break;
    }
    if (attribute.id !== Attr.RSA_OAEP_MGF_HASH) continue;
    if (attribute.length !== 4) invalid("TEE_ATTR_RSA_OAEP_MGF_HASH has 4 bytes");
    const algorithm = Buffer.from(attribute.bytes()).readUInt32LE(0);
    mgf = hashName(algorithm & 0xff) ?? fail(Tee.ERROR_NOT_SUPPORTED, "no such hash");
  }
  return { hash, mgf, label };
}

function encrypt(use: AsymmetricUse): AsymmetricResult {
  const { call, key, data, room } = use;
  const modulus = publicKey(key);
  const length = rsa.modulusBytes(modulus);
  if (room < length) return { needed: length };
  const oaep = paddingOf(use);
  const { entropy } = call.tee;
  const block =
    oaep === undefined
      ? rsa.padV15(entropy, data, length)
      : rsa.padOaep(entropy, data, length, oaep.hash, oaep.mgf, oaep.label);
  const value = block === undefined ? undefined : rsa.asMessage(modulus, block);
  if (value === undefined) return invalid("the message is too long for the key");
  return fromBig(rsa.rsaPublic(modulus, value), length);
}

function decrypt(use: AsymmetricUse): AsymmetricResult {
  const { key, data, room } = use;
  const pair = privateKey(key);
  const length = rsa.modulusBytes(pair);
  const value = data.length === length ? rsa.asMessage(pair, data) : undefined;
  if (value === undefined) return invalid("the cipher text does not belong to a key of this size");
  const block = fromBig(rsa.rsaPrivate(pair, value), length);
  const oaep = paddingOf(use);
  const message = oaep === undefined ? rsa.unpadV15(block) : rsa.unpadOaep(block, oaep.hash, oaep.mgf, oaep.label);
  if (message === undefined) return invalid("the padding is wrong");
  return room < message.length ? { needed: message.length } : message;
}

/** The hash of a signature algorithm; undefined for the one that signs any bytes. */
function signatureHash(algorithm: number): string | undefined {
  if (algorithm === Alg.RSASSA_PKCS1_V1_5) return undefined;
  return digestField(algorithm) ?? fail(Tee.ERROR_BAD_PARAMETERS, "no such hash");
}

const isPss = (algorithm: number): boolean => ((algorithm >>> 8) & 15) === 9;

function saltLength(use: AsymmetricUse, normal: number): number {
  const given = use.given.find(({ id }) => id === Attr.RSA_PSS_SALT_LENGTH);
  return given === undefined || given.a >= INT_MAX ? normal : given.a;
}

function sign(use: AsymmetricUse): AsymmetricResult {
  const { call, key, algorithm, data, room } = use;
  const pair = privateKey(key);
  const hash = signatureHash(algorithm);
  if (hash !== undefined && data.length !== hashSize(hash)) invalid(`a digest has ${hashSize(hash)} bytes here`);
  const length = rsa.modulusBytes(pair);
  if (room < length) return { needed: length };
  let block: Uint8Array | undefined;
  if (hash !== undefined && isPss(algorithm)) {
    const salt = saltLength(use, data.length);
    if (salt > length) return invalid("the salt is too long for the key");
    block = rsa.encodePss(data, bitLength(pair.n) - 1, hash, call.tee.entropy.bytes(salt));
  } else block = rsa.encodeV15(data, length, hash);
  const value = block === undefined ? undefined : rsa.asMessage(pair, block);
  if (value === undefined) return invalid("the digest is too long for the key");
  return fromBig(rsa.rsaPrivate(pair, value), length);
}

export function verifyRsa(use: AsymmetricUse, signature: Uint8Array): boolean {
  const { key, algorithm, data } = use;
  if (operationClass(algorithm) !== OperationClass.ASYMMETRIC_SIGNATURE)
    fail(Tee.ERROR_NOT_SUPPORTED, "the algorithm does not sign");
  const modulus = publicKey(key);
  const hash = signatureHash(algorithm);
  if (hash !== undefined && data.length !== hashSize(hash)) invalid(`a digest has ${hashSize(hash)} bytes here`);
  const length = rsa.modulusBytes(modulus);
  const value = signature.length === length ? rsa.asMessage(modulus, signature) : undefined;
  if (value === undefined) return false;
  const opened = rsa.rsaPublic(modulus, value);
  if (hash !== undefined && isPss(algorithm)) {
    const bits = bitLength(modulus.n) - 1;
    if (bitLength(opened) > bits) return false;
    return rsa.checkPss(fromBig(opened, Math.ceil(bits / 8)), data, bits, hash, saltLength(use, data.length));
  }
  const expected = rsa.encodeV15(data, length, hash);
  return expected !== undefined && Buffer.compare(expected, fromBig(opened, length)) === 0;
}
