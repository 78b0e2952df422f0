/** What each object type may hold: sizes in bits and attributes (GlobalPlatform TEE Internal Core API 1.3, 5.6 and 6.10.2). */
import { Attr, ObjectType } from "./algorithms.ts";

/**
 * How an attribute's value is kept: `secret` bytes as given, `bignum` without leading zeros, `value` a 32-bit number,
 * `fixed` exactly so many bytes.
 */
type Storage = { readonly kind: "secret" | "bignum" | "value" } | { readonly kind: "fixed"; readonly bytes: number };

export interface AttributeSpec {
  readonly id: number;
  readonly storage: Storage;
  /** To populate an object: needed, or needed with all others of its group. */
  readonly populate: "required" | "group" | "none";
  /** To generate a key. */
  readonly generate: "required" | "optional" | "none";
  /** Its length is the object's size. */
  readonly size: boolean;
  /** A bignum that must not have more bits than the object may. */
  readonly bounded: boolean;
}

export interface TypeSpec {
  readonly type: number;
  /** Sizes are multiples of this. */
  readonly quantum: number;
  readonly min: number;
  readonly max: number;
  /** Bytes a secret may have. */
  readonly capacity: number;
  readonly attributes: readonly AttributeSpec[];
}

interface Marks {
  populate?: AttributeSpec["populate"];
  generate?: AttributeSpec["generate"];
  size?: boolean;
  bounded?: boolean;
}

function attribute(id: number, storage: Storage, marks: Marks = {}): AttributeSpec {
  return { id, storage, populate: "required", generate: "none", size: false, bounded: false, ...marks };
}

const bignum: Storage = { kind: "bignum" };
const value: Storage = { kind: "value" };
const key25519: Storage = { kind: "fixed", bytes: 32 };
const key448: Storage = { kind: "fixed", bytes: 56 };
const group: Marks = { populate: "group" };

const secretValue = [attribute(Attr.SECRET_VALUE, { kind: "secret" }, { size: true })];

const rsaPublic = [attribute(Attr.RSA_MODULUS, bignum, { size: true }), attribute(Attr.RSA_PUBLIC_EXPONENT, bignum)];
const rsaPair = [
  attribute(Attr.RSA_MODULUS, bignum, { size: true }),
  attribute(Attr.RSA_PUBLIC_EXPONENT, bignum, { generate: "optional" }),
  attribute(Attr.RSA_PRIVATE_EXPONENT, bignum),
  attribute(Attr.RSA_PRIME1, bignum, group),
  attribute(Attr.RSA_PRIME2, bignum, group),
  attribute(Attr.RSA_EXPONENT1, bignum, group),
  attribute(Attr.RSA_EXPONENT2, bignum, group),
  attribute(Attr.RSA_COEFFICIENT, bignum, group),
];

function dsaDomain(generate: AttributeSpec["generate"]): AttributeSpec[] {
  return [
    attribute(Attr.DSA_PRIME, bignum, { generate, size: true, bounded: true }),
    attribute(Attr.DSA_SUBPRIME, bignum, { generate }),
    attribute(Attr.DSA_BASE, bignum, { generate, bounded: true }),
  ];
}
const dsaPublicValue = attribute(Attr.DSA_PUBLIC_VALUE, bignum, { bounded: true });
const dsaPublic = [...dsaDomain("none"), dsaPublicValue];
const dsaPair = [
  ...dsaDomain("required"),
  attribute(Attr.DSA_PRIVATE_VALUE, bignum, { bounded: true }),
  dsaPublicValue,
];

const dhPair = [
  attribute(Attr.DH_PRIME, bignum, { size: true, generate: "required" }),
  attribute(Attr.DH_BASE, bignum, { generate: "required" }),
  attribute(Attr.DH_PUBLIC_VALUE, bignum),
  attribute(Attr.DH_PRIVATE_VALUE, bignum),
  attribute(Attr.DH_SUBPRIME, bignum, { populate: "group", generate: "optional" }),
  attribute(Attr.DH_X_BITS, value, { populate: "none", generate: "optional" }),
];

const eccPublic = [
  attribute(Attr.ECC_PUBLIC_VALUE_X, bignum),
  attribute(Attr.ECC_PUBLIC_VALUE_Y, bignum),
  attribute(Attr.ECC_CURVE, value, { size: true }),
];
const eccPair = [
  attribute(Attr.ECC_PRIVATE_VALUE, bignum),
  attribute(Attr.ECC_PUBLIC_VALUE_X, bignum),
  attribute(Attr.ECC_PUBLIC_VALUE_Y, bignum),
  attribute(Attr.ECC_CURVE, value, { size: true, generate: "required" }),
];

function spec(
  type: number,
  quantum: number,
  min: number,
  max: number,
  attributes: readonly AttributeSpec[],
  capacity = max / 8,
): TypeSpec {
  return { type, quantum, min, max, capacity, attributes };
}

const BIGNUM_MAX = 4096;
const SECRET_MAX = 4096;

const specs: readonly TypeSpec[] = [
  spec(ObjectType.AES, 64, 128, 256, secretValue),
  spec(ObjectType.DES, 64, 64, 64, secretValue),
  spec(ObjectType.DES3, 64, 128, 192, secretValue),
  spec(ObjectType.SM4, 128, 128, 128, secretValue),
  spec(ObjectType.HMAC_MD5, 8, 64, 512, secretValue),
  spec(ObjectType.HMAC_SHA1, 8, 80, 512, secretValue),
  spec(ObjectType.HMAC_SHA224, 8, 112, 512, secretValue),
  spec(ObjectType.HMAC_SHA256, 8, 192, 1024, secretValue),
  spec(ObjectType.HMAC_SHA384, 8, 256, 1024, secretValue),
  spec(ObjectType.HMAC_SHA512, 8, 256, 1024, secretValue),
  spec(ObjectType.HMAC_SHA3_224, 8, 192, 1024, secretValue),
  spec(ObjectType.HMAC_SHA3_256, 8, 256, 1024, secretValue),
  spec(ObjectType.HMAC_SHA3_384, 8, 256, 1024, secretValue),
  spec(ObjectType.HMAC_SHA3_512, 8, 256, 1024, secretValue),
  spec(ObjectType.HMAC_SM3, 8, 80, 1024, secretValue),
  spec(ObjectType.GENERIC_SECRET, 8, 0, SECRET_MAX, secretValue),
  spec(ObjectType.HKDF_IKM, 8, 0, SECRET_MAX, [attribute(Attr.HKDF_IKM, { kind: "secret" }, { size: true })]),
  spec(ObjectType.CONCAT_KDF_Z, 8, 0, SECRET_MAX, [attribute(Attr.CONCAT_KDF_Z, { kind: "secret" }, { size: true })]),
  spec(ObjectType.PBKDF2_PASSWORD, 8, 0, SECRET_MAX, [
    attribute(Attr.PBKDF2_PASSWORD, { kind: "secret" }, { size: true }),
  ]),
  spec(ObjectType.RSA_PUBLIC_KEY, 1, 256, BIGNUM_MAX, rsaPublic),
  spec(ObjectType.RSA_KEYPAIR, 1, 256, BIGNUM_MAX, rsaPair),
  spec(ObjectType.DSA_PUBLIC_KEY, 64, 512, 3072, dsaPublic),
  spec(ObjectType.DSA_KEYPAIR, 64, 512, 3072, dsaPair),
  spec(ObjectType.DH_KEYPAIR, 1, 256, 2048, dhPair),
  spec(ObjectType.ECDSA_PUBLIC_KEY, 1, 192, 521, eccPublic),
  spec(ObjectType.ECDSA_KEYPAIR, 1, 192, 521, eccPair),
  spec(ObjectType.ECDH_PUBLIC_KEY, 1, 192, 521, eccPublic),
  spec(ObjectType.ECDH_KEYPAIR, 1, 192, 521, eccPair),
  spec(ObjectType.X25519_KEYPAIR, 1, 256, 256, [
    attribute(Attr.X25519_PRIVATE_VALUE, key25519),
    attribute(Attr.X25519_PUBLIC_VALUE, key25519),
  ]),
  spec(ObjectType.X448_KEYPAIR, 1, 448, 448, [
    attribute(Attr.X448_PRIVATE_VALUE, key448),
    attribute(Attr.X448_PUBLIC_VALUE, key448),
  ]),
  spec(ObjectType.ED25519_PUBLIC_KEY, 1, 256, 256, [attribute(Attr.ED25519_PUBLIC_VALUE, key25519)]),
  spec(ObjectType.ED25519_KEYPAIR, 1, 256, 256, [
    attribute(Attr.ED25519_PRIVATE_VALUE, key25519),
    attribute(Attr.ED25519_PUBLIC_VALUE, key25519),
  ]),
];

const byType: ReadonlyMap<number, TypeSpec> = new Map(specs.map((entry) => [entry.type, entry]));

/** Undefined for a type the TEE does not know, and for TEE_TYPE_DATA, which has no attributes. */
export function typeSpec(type: number): TypeSpec | undefined {
  return byType.get(type);
}

/** The key pair whose public part a public key type holds. */
export const pairOf: ReadonlyMap<number, number> = new Map([
  [ObjectType.RSA_PUBLIC_KEY, ObjectType.RSA_KEYPAIR],
  [ObjectType.DSA_PUBLIC_KEY, ObjectType.DSA_KEYPAIR],
  [ObjectType.ECDSA_PUBLIC_KEY, ObjectType.ECDSA_KEYPAIR],
  [ObjectType.ECDH_PUBLIC_KEY, ObjectType.ECDH_KEYPAIR],
  [ObjectType.ED25519_PUBLIC_KEY, ObjectType.ED25519_KEYPAIR],
]);

/** DES keys were once measured without their parity bits (GlobalPlatform TEE Internal API 1.0). */
export function isOldDesSize(type: number, bits: number): boolean {
  return (type === ObjectType.DES && bits === 56) || (type === ObjectType.DES3 && (bits === 112 || bits === 168));
}

/** Whether a type takes this size. */
export function allowsSize({ type, quantum, min, max }: TypeSpec, bits: number): boolean {
  const whole = isOldDesSize(type, bits) ? bits + bits / 7 : bits;
  return whole % quantum === 0 && whole >= min && whole <= max;
}
