/** cryp_derive_key: key agreement and key derivation functions (6.8 and OP-TEE's extensions). */

import { x448 } from "@noble/curves/ed448";
import { x25519 } from "@noble/curves/ed25519";
import { derivationFamily, digestField } from "../algorithm-fields.ts";
import { Alg, Attr } from "../algorithms.ts";
import { type GivenAttribute, readAttributes } from "../attributes.ts";
import type { Call } from "../call.ts";
import { HandleFlag } from "../constants.ts";
import { eccCurve, sharedEcc } from "../crypto/ecc.ts";
import { hashName } from "../crypto/hash.ts";
import { concatKdf, hkdf, pbkdf2 } from "../crypto/kdf.ts";
import { modPow } from "../crypto/numbers.ts";
import { objectOf, stateOf } from "../handles-of.ts";
import { attributes, handle, ulong } from "../kinds.ts";
import { fromBig, type TeeObject, toBig } from "../objects.ts";
import { fail, Tee } from "../results.ts";
import { arg, type Row, row } from "../table.ts";

/** Numbers of HKDF's attributes before GlobalPlatform 1.3 had them (tee_api_defines_extensions.h). */
const OLD_HKDF_SALT = 0xd00002c0;
const OLD_HKDF_INFO = 0xd00003c0;
/** Of PBKDF2, as many as RFC 6070 tries: more would hold up the host for minutes. */
const ITERATIONS_MAX = 2 ** 24;

function derive(call: Call, handleOfState: number, params: number, count: number, derived: number): number {
  const state = stateOf(call, handleOfState);
  const given = readAttributes(call, params, count);
  const key = objectOf(call, state.key1);
  const target = objectOf(call, derived);
  if (target.spec?.attributes[0]?.id !== Attr.SECRET_VALUE)
    return fail(Tee.ERROR_NOT_SUPPORTED, "the derived key is not a symmetric one");
  if (!key.initialized) fail(Tee.ERROR_BAD_STATE, "the key is not initialized");
  const secret = derivedSecret(state.algorithm, key, given, target.spec.capacity);
  target.setSecret(secret);
  target.flags |= HandleFlag.INITIALIZED;
  return Tee.SUCCESS;
}

function derivedSecret(
  algorithm: number,
  key: TeeObject,
  given: readonly GivenAttribute[],
  capacity: number,
): Uint8Array {
  const family = derivationFamily(algorithm);
  const secret = agreed(family, key, given) ?? expanded(algorithm, family, key.secret, given, capacity);
  if (secret === undefined) return fail(Tee.ERROR_NOT_SUPPORTED, "the algorithm derives no key");
  if (secret.length > capacity) fail(Tee.ERROR_BAD_PARAMETERS, "the derived key does not fit");
  return secret;
}

/** What two parties agree on. */
function agreed(
  family: ReturnType<typeof derivationFamily>,
  key: TeeObject,
  given: readonly GivenAttribute[],
): Uint8Array | undefined {
  switch (family) {
    case "dh": {
      const p = key.big(Attr.DH_PRIME);
      if (p <= 1n) return bad("no prime");
      return fromBig(modPow(toBig(only(given, Attr.DH_PUBLIC_VALUE)), key.big(Attr.DH_PRIVATE_VALUE), p));
    }
    case "ecdh": {
      const [x, y] = given;
      if (given.length !== 2 || x?.id !== Attr.ECC_PUBLIC_VALUE_X || y?.id !== Attr.ECC_PUBLIC_VALUE_Y)
        return bad("ECDH takes the other's X and Y, in this order");
      const curve = eccCurve(key.number(Attr.ECC_CURVE));
      if (curve === undefined) return fail(Tee.ERROR_NOT_IMPLEMENTED, "no such curve");
      const other = { x: toBig(x.bytes()), y: toBig(y.bytes()) };
      return (
        sharedEcc(curve, key.big(Attr.ECC_PRIVATE_VALUE), other) ?? bad("the other's key is no point of the curve")
      );
    }
    case "x25519":
      return montgomery(x25519, key.bytes(Attr.X25519_PRIVATE_VALUE), only(given, Attr.X25519_PUBLIC_VALUE), 32);
    case "x448":
      return montgomery(x448, key.bytes(Attr.X448_PRIVATE_VALUE), only(given, Attr.X448_PUBLIC_VALUE), 56);
    default:
      return undefined;
  }
}

function bad(why: string): never {
  return fail(Tee.ERROR_BAD_PARAMETERS, why);
}

function only(given: readonly GivenAttribute[], id: number): Uint8Array {
  const [first] = given;
  if (given.length !== 1 || first?.id !== id) return bad("exactly the other's public value is to be given");
  return first.bytes();
}

function montgomery(curve: typeof x25519, mine: Uint8Array, other: Uint8Array, length: number): Uint8Array {
  if (other.length !== length) bad(`a public value has ${length} bytes`);
  try {
    return curve.getSharedSecret(mine, other);
  } catch {
    // The library throws where the result would be zero: the other's key is of low order (RFC 7748, 6.1).
    return bad("the other's key is of low order");
  }
}

/** The first attribute of any of these numbers counts; one that belongs to none of them is an error. */
class Given {
  readonly #list: readonly GivenAttribute[];

  constructor(list: readonly GivenAttribute[], known: readonly number[]) {
    this.#list = list;
    for (const { id } of list) if (!known.includes(id)) bad(`attribute 0x${id.toString(16)} does not belong here`);
  }
  bytes(...ids: readonly number[]): Uint8Array {
    return this.#list.find(({ id }) => ids.includes(id))?.bytes() ?? new Uint8Array(0);
  }
  number(...ids: readonly number[]): number | undefined {
    return this.#list.find(({ id }) => ids.includes(id))?.a;
  }
  needed(...ids: readonly number[]): number {
    return this.number(...ids) ?? bad("an attribute is missing");
  }
}

function expanded(
  algorithm: number,
  family: ReturnType<typeof derivationFamily>,
  secret: Uint8Array,
  list: readonly GivenAttribute[],
  capacity: number,
): Uint8Array | undefined {
  const { HKDF_SALT, HKDF_INFO, HKDF_OKM_LENGTH, KDF_KEY_SIZE, HKDF_HASH_ALGORITHM } = Attr;
  const fits = (length: number): number => (length > capacity ? bad("the derived key does not fit") : length);
  switch (family) {
    case "hkdf": {
      const known = [
        HKDF_SALT,
        OLD_HKDF_SALT,
        HKDF_INFO,
        OLD_HKDF_INFO,
        HKDF_OKM_LENGTH,
        KDF_KEY_SIZE,
        HKDF_HASH_ALGORITHM,
      ];
      const given = new Given(list, known);
      const length = fits(given.needed(HKDF_OKM_LENGTH, KDF_KEY_SIZE));
      const asked = given.number(HKDF_HASH_ALGORITHM) ?? Alg.SHA256;
      const hash = algorithm === Alg.HKDF ? hashName(asked & 0xff) : digestField(algorithm);
      if (hash === undefined) return undefined;
      const info = given.bytes(HKDF_INFO, OLD_HKDF_INFO);
      return hkdf(hash, secret, given.bytes(HKDF_SALT, OLD_HKDF_SALT), info, length) ?? bad("the key is too long");
    }
    case "concat": {
      const given = new Given(list, [Attr.CONCAT_KDF_OTHER_INFO, Attr.CONCAT_KDF_DKM_LENGTH]);
      const length = fits(given.needed(Attr.CONCAT_KDF_DKM_LENGTH));
      const hash = digestField(algorithm);
      return hash === undefined ? undefined : concatKdf(hash, secret, given.bytes(Attr.CONCAT_KDF_OTHER_INFO), length);
    }
    case "pbkdf2": {
      const { PBKDF2_SALT, PBKDF2_ITERATION_COUNT, PBKDF2_DKM_LENGTH } = Attr;
      const given = new Given(list, [PBKDF2_SALT, PBKDF2_ITERATION_COUNT, PBKDF2_DKM_LENGTH]);
      const length = fits(given.needed(PBKDF2_DKM_LENGTH));
      const iterations = given.needed(PBKDF2_ITERATION_COUNT);
      if (iterations === 0 || iterations > ITERATIONS_MAX || length === 0) return bad("no iterations or no length");
      const hash = digestField(algorithm);
      return hash === undefined ? undefined : pbkdf2(hash, secret, given.bytes(PBKDF2_SALT), iterations, length);
    }
    default:
      return undefined;
  }
}

export const deriveCalls: readonly Row[] = [
  row(
    32,
    "cryp_derive_key",
    [arg("state", handle), arg("params", attributes(2)), arg("param_count", ulong), arg("derived_key", handle)],
    derive,
  ),
];
