/** What stands in the fields of an algorithm's number (OP-TEE's utee_defines.h), with the numbers that do not follow the rule. */
import { Alg, ObjectType } from "./algorithms.ts";
import { Mode, OperationClass } from "./constants.ts";
import type { BlockName } from "./crypto/block-cipher.ts";
import { hashName } from "./crypto/hash.ts";

/** TEE_OPERATION_*. */
export function operationClass(algorithm: number): number {
  switch (algorithm) {
    case Alg.RSASSA_PKCS1_V1_5:
    case Alg.RSASSA_PKCS1_PSS_MGF1_MD5:
      return OperationClass.ASYMMETRIC_SIGNATURE;
    case Alg.RSAES_PKCS1_OAEP_MGF1_MD5:
      return OperationClass.ASYMMETRIC_CIPHER;
    case Alg.DES3_CMAC:
      return OperationClass.MAC;
    case Alg.SM4_XTS:
      return OperationClass.CIPHER;
    case Alg.SM2_PKE:
      return OperationClass.ASYMMETRIC_CIPHER;
    case Alg.SM2_KEP:
      return OperationClass.KEY_DERIVATION;
    default:
      return (algorithm >>> 28) & 15;
  }
}

/** TEE_CHAIN_MODE_*: CBC-MAC padded is 5, CMAC 6, CCM 7, GCM 8. */
export function chainMode(algorithm: number): number {
  return (algorithm >>> 8) & 15;
}

/** The cipher of a symmetric algorithm. */
export function blockName(algorithm: number): BlockName | undefined {
  return blockNames[algorithm & 0xff];
}
const blockNames: Readonly<Record<number, BlockName>> = { 16: "aes", 17: "des", 19: "des3", 20: "sm4" };

/** The digest an asymmetric or derivation algorithm works with, as node calls it. */
export function digestField(algorithm: number): string | undefined {
  return hashName((algorithm >>> 12) & 15);
}

/** The digest inside a padding (OAEP's). */
export function innerDigest(algorithm: number): string | undefined {
  return hashName((algorithm >>> 20) & 15);
}

/** Algorithm numbers of GlobalPlatform 1.1, as OP-TEE takes them for TAs built long ago. */
const oldNumbers: Readonly<Record<number, number>> = {
  1879052353: Alg.ECDSA_SHA1,
  1879056449: Alg.ECDSA_SHA224,
  1879060545: Alg.ECDSA_SHA256,
  1879064641: Alg.ECDSA_SHA384,
  1879068737: Alg.ECDSA_SHA512,
  2147487810: Alg.ECDH_DERIVE_SHARED_SECRET,
  2147491906: Alg.ECDH_DERIVE_SHARED_SECRET,
  2147496002: Alg.ECDH_DERIVE_SHARED_SECRET,
  2147500098: Alg.ECDH_DERIVE_SHARED_SECRET,
  2147504194: Alg.ECDH_DERIVE_SHARED_SECRET,
};

export function currentNumber(algorithm: number): number {
  return oldNumbers[algorithm] ?? algorithm;
}

const ecdsa: readonly number[] = [
  Alg.ECDSA_SHA1,
  Alg.ECDSA_SHA224,
  Alg.ECDSA_SHA256,
  Alg.ECDSA_SHA384,
  Alg.ECDSA_SHA512,
];

export type AsymmetricFamily = "rsa" | "dsa" | "dh" | "ecdsa" | "ecdh" | "ed25519" | "x25519" | "x448";
export type DerivationFamily = "dh" | "ecdh" | "x25519" | "x448" | "hkdf" | "concat" | "pbkdf2";

/** The family of an asymmetric algorithm. */
export function asymmetricFamily(algorithm: number): AsymmetricFamily | undefined {
  if (ecdsa.includes(algorithm)) return "ecdsa";
  switch (algorithm) {
    case Alg.ED25519:
      return "ed25519";
    case Alg.X25519:
      return "x25519";
    case Alg.X448:
      return "x448";
    case Alg.ECDH_DERIVE_SHARED_SECRET:
      return "ecdh";
    case Alg.DH_DERIVE_SHARED_SECRET:
      return "dh";
  }
  const main = algorithm & 0xff;
  const kind = operationClass(algorithm);
  if (main === 0x30 && (kind === OperationClass.ASYMMETRIC_CIPHER || kind === OperationClass.ASYMMETRIC_SIGNATURE))
    return "rsa";
  return main === 0x31 && kind === OperationClass.ASYMMETRIC_SIGNATURE ? "dsa" : undefined;
}

export function derivationFamily(algorithm: number): DerivationFamily | undefined {
  const family = asymmetricFamily(algorithm);
  if (family === "dh" || family === "ecdh" || family === "x25519" || family === "x448") return family;
  if (algorithm === Alg.HKDF) return "hkdf";
  if (operationClass(algorithm) !== OperationClass.KEY_DERIVATION) return undefined;
  return ({ 192: "hkdf", 193: "concat", 194: "pbkdf2" } as const)[algorithm & 0xff];
}

const derivedFrom: Readonly<Partial<Record<DerivationFamily, number>>> = {
  hkdf: ObjectType.HKDF_IKM,
  concat: ObjectType.CONCAT_KDF_Z,
  pbkdf2: ObjectType.PBKDF2_PASSWORD,
};
const pairs: Readonly<Record<AsymmetricFamily, number>> = {
  rsa: ObjectType.RSA_KEYPAIR,
  dsa: ObjectType.DSA_KEYPAIR,
  dh: ObjectType.DH_KEYPAIR,
  ecdsa: ObjectType.ECDSA_KEYPAIR,
  ecdh: ObjectType.ECDH_KEYPAIR,
  ed25519: ObjectType.ED25519_KEYPAIR,
  x25519: ObjectType.X25519_KEYPAIR,
  x448: ObjectType.X448_KEYPAIR,
};
const publics: Readonly<Partial<Record<AsymmetricFamily, number>>> = {
  rsa: ObjectType.RSA_PUBLIC_KEY,
  dsa: ObjectType.DSA_PUBLIC_KEY,
  ecdsa: ObjectType.ECDSA_PUBLIC_KEY,
  ed25519: ObjectType.ED25519_PUBLIC_KEY,
};

/** Whether a key of this type can be used by an algorithm in a mode (6.1.1's table of key types). */
export function takesKey(algorithm: number, mode: number, type: number): boolean {
  const family = asymmetricFamily(algorithm);
  if (family !== undefined) {
    const open = mode === Mode.VERIFY || (mode === Mode.ENCRYPT && (family === "rsa" || family === "dsa"));
    return type === pairs[family] || (open && type === publics[family]);
  }
  const derivation = derivationFamily(algorithm);
  if (derivation !== undefined) return type === derivedFrom[derivation];
  const block = blockName(algorithm);
  const kind = operationClass(algorithm);
  if (block !== undefined && kind !== OperationClass.DIGEST)
    return type === { aes: ObjectType.AES, des: ObjectType.DES, des3: ObjectType.DES3, sm4: ObjectType.SM4 }[block];
  return (
    kind === OperationClass.MAC &&
    hashName(algorithm & 0xff) !== undefined &&
    type === (0xa000_0000 | (algorithm & 0xff)) >>> 0
  );
}
