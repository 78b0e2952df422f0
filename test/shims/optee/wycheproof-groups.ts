/** How groups of Wycheproof's vectors are asked of a TA. */
import { createHash } from "node:crypto";
import { Alg, Attr, ObjectType } from "../../../shims/optee/algorithms.ts";
import { Mode } from "../../../shims/optee/constants.ts";
import { type Argument, type AttributeList, bytes, hex, type Probe, room, u64, word } from "./probe.ts";

/** What the TEE makes of a vector, or why it cannot be asked. */
export type Verdict = "valid" | "invalid" | { readonly not: string };
interface Outcome {
  readonly id: number;
  readonly expected: "valid" | "invalid" | "acceptable";
  readonly verdict: Verdict;
}

type Fields = Readonly<Record<string, unknown>>;
type Check = (test: Fields) => Verdict;

const BY_NAME: Readonly<Record<string, number>> = { ...Alg };
const TYPE_BY_NAME: Readonly<Record<string, number>> = { ...ObjectType };

function from(value: unknown): Buffer {
  if (typeof value !== "string") throw new TypeError(`no hexadecimal digits: ${value}`);
  return Buffer.from(value, "hex");
}
/** A large number as attributes have it: without zeros in front. */
function number(value: unknown): Buffer {
  const given = from(value);
  const first = given.findIndex((byte) => byte !== 0);
  return first < 0 ? Buffer.of(0) : given.subarray(first);
}
const fields = (value: unknown): Fields => (typeof value === "object" && value !== null ? { ...value } : {});
const not = (why: string): Verdict => ({ not: why });
const says = (good: boolean): Verdict => (good ? "valid" : "invalid");
/** "SHA-256" as the names of algorithms have it; undefined for a digest that has none. */
function hashOf(name: unknown): string | undefined {
  const found = /^SHA-?(1|224|256|384|512)$/.exec(String(name));
  return found === null ? undefined : `SHA${found[1]}`;
}

class Tools {
  readonly #probe: Probe;
  constructor(probe: Probe) {
    this.#probe = probe;
  }

  result(name: string, ...args: readonly Argument[]): string {
    return this.#probe.call(name, ...args).result;
  }

  /** An object with these attributes; undefined where the TEE has none of that size. */
  object(type: number, bits: number, attributes: AttributeList): number | undefined {
    const made = this.#probe.call("cryp_obj_alloc", type, bits, bytes(new Uint8Array(4)));
    if (made.result !== "TEE_SUCCESS") return undefined;
    const handle = word(made.out[0]);
    if (this.result("cryp_obj_populate", handle, attributes, attributes.length) === "TEE_SUCCESS") return handle;
    this.#probe.ok("cryp_obj_close", handle);
    return undefined;
  }

  /** Runs something with an operation, which is freed with its keys. */
  with<T>(algorithm: number, mode: number, keys: readonly number[], use: (state: number) => T): T {
    const state = this.#probe.handle("cryp_state_alloc", algorithm, mode, keys[0] ?? 0, keys[1] ?? 0);
    try {
      return use(state);
    } finally {
      this.#probe.ok("cryp_state_free", state);
    }
  }

  /** The result of a call whose buffer and its length stand at these places of the list of buffers. */
  output(name: string, at: number, ...args: readonly Argument[]): Uint8Array | undefined {
    const { result, out } = this.#probe.call(name, ...args);
    return result === "TEE_SUCCESS" ? out[at]?.subarray(0, word(out[at + 1])) : undefined;
  }

  /** The secret that a derivation leaves in an object of so many bytes. */
  derived(state: number, parameters: AttributeList, length: number): string | undefined {
    const target = this.#probe.handle("cryp_obj_alloc", ObjectType.GENERIC_SECRET, Math.max(8, 8 * length));
    const result = this.result("cryp_derive_key", state, parameters, parameters.length, target);
    const secret =
      result === "TEE_SUCCESS"
        ? this.output("cryp_obj_get_attr", 0, target, Attr.SECRET_VALUE, room(512), u64(512))
        : undefined;
    this.#probe.ok("cryp_obj_close", target);
    return secret === undefined ? undefined : hex(secret);
  }
}

function aead(tools: Tools, file: string, group: Fields): Check | undefined {
  const algorithm = { aes_gcm_test: Alg.AES_GCM, aes_ccm_test: Alg.AES_CCM }[file.replace(".json", "")];
  if (algorithm === undefined) return undefined;
  const tagBytes = Number(group.tagSize) / 8;
  return (test) => {
    const [key, iv, aad, msg, ct, tag] = ["key", "iv", "aad", "msg", "ct", "tag"].map((name) => from(test[name]));
    if (!key || !iv || !aad || !msg || !ct || !tag) return "invalid";
    const made = () => tools.object(ObjectType.AES, key.length * 8, [[Attr.SECRET_VALUE, key]]);
    const started = <T>(mode: number, length: number, use: (state: number) => T): T | undefined => {
      const object = made();
      if (object === undefined) return undefined;
      return tools.with(algorithm, mode, [object], (state) => {
        const begun = tools.result("authenc_init", state, bytes(iv), iv.length, tagBytes, aad.length, length);
        if (begun !== "TEE_SUCCESS") return undefined;
        if (aad.length > 0) tools.result("authenc_update_aad", state, bytes(aad), aad.length);
        return use(state);
      });
    };
    const plain = started(Mode.DECRYPT, ct.length, (state) =>
      tools.output(
        "authenc_dec_final",
        1,
        state,
        bytes(ct),
        ct.length,
        room(ct.length),
        u64(ct.length),
        bytes(tag),
        tag.length,
      ),
    );
    if (plain === undefined || hex(plain) !== hex(msg)) return "invalid";
    const sealed = started(Mode.ENCRYPT, msg.length, (state) =>
      tools.output(
        "authenc_enc_final",
        3,
        state,
        bytes(msg),
        msg.length,
        room(msg.length),
        u64(msg.length),
        room(16),
        u64(16),
      ),
    );
    return says(sealed !== undefined && hex(sealed) === hex(tag));
  };
}

function mac(tools: Tools, file: string, group: Fields): Check | undefined {
  const name = file.replace("_test.json", "").toUpperCase();
  const algorithm = name === "AES_CMAC" ? Alg.AES_CMAC : name.startsWith("HMAC_") ? BY_NAME[name] : undefined;
  const type = name === "AES_CMAC" ? ObjectType.AES : TYPE_BY_NAME[name];
  if (algorithm === undefined || type === undefined) return undefined;
  return (test) => {
    const [key, msg, tag] = ["key", "msg", "tag"].map((field) => from(test[field]));
    if (!key || !msg || !tag) return "invalid";
    const object = tools.object(type, key.length * 8, [[Attr.SECRET_VALUE, key]]);
    // A key of AES has a wrong length, which the vector is about; HMAC keys of the TEE have a least and a most.
    if (object === undefined) return name === "AES_CMAC" ? "invalid" : not("its keys have other lengths");
    return tools.with(algorithm, Mode.MAC, [object], (state) => {
      tools.result("hash_init", state, 0, 0);
      const found = tools.output("hash_final", 1, state, bytes(msg), msg.length, room(64), u64(64));
      return says(found !== undefined && hex(found.subarray(0, Number(group.tagSize) / 8)) === hex(tag));
    });
  };
}

function kdf(tools: Tools, file: string): Check | undefined {
  const hash = /_(?:hmac)?(sha\d+)_test/.exec(file)?.[1]?.toUpperCase();
  const hkdf = file.startsWith("hkdf");
  const algorithm = BY_NAME[hkdf ? `HKDF_${hash}_DERIVE_KEY` : `PBKDF2_HMAC_${hash}_DERIVE_KEY`];
  if (algorithm === undefined) return undefined;
  return (test) => {
    const secret = from(hkdf ? test.ikm : test.password);
    const id = hkdf ? Attr.HKDF_IKM : Attr.PBKDF2_PASSWORD;
    const length = Number(hkdf ? test.size : test.dkLen);
    const object = tools.object(
      hkdf ? ObjectType.HKDF_IKM : ObjectType.PBKDF2_PASSWORD,
      Math.max(8, secret.length * 8),
      [[id, secret]],
    );
    if (object === undefined) return not("secrets have 1 to 512 bytes");
    const parameters: AttributeList = hkdf
      ? [
          [Attr.HKDF_SALT, from(test.salt)],
          [Attr.HKDF_INFO, from(test.info)],
          [Attr.HKDF_OKM_LENGTH, length],
        ]
      : [
          [Attr.PBKDF2_SALT, from(test.salt)],
          [Attr.PBKDF2_ITERATION_COUNT, Number(test.iterationCount)],
          [Attr.PBKDF2_DKM_LENGTH, length],
        ];
    return tools.with(algorithm, Mode.DERIVE, [object], (state) => {
      if (length > 512) {
        const found = tools.derived(state, parameters, 512);
        return test.result === "invalid" ? says(found !== undefined) : not("a derived key has at most 512 bytes");
      }
      return says(tools.derived(state, parameters, length) === hex(from(hkdf ? test.okm : test.dk)));
    });
  };
}

const CURVES: Readonly<Record<string, readonly [curve: number, bits: number]>> = {
  secp192r1: [1, 192],
  secp224r1: [2, 224],
  secp256r1: [3, 256],
  secp384r1: [4, 384],
  secp521r1: [5, 521],
};

function ecdh(tools: Tools, group: Fields): Check | undefined {
  const known = CURVES[String(group.curve)];
  if (known === undefined) return undefined;
  const [curve, bits] = known;
  const size = Math.ceil(bits / 8);
  return (test) => {
    const point = from(test.public);
    if (point.length !== 1 + 2 * size || point[0] !== 4) return not("points are given as X and Y");
    const object = tools.object(ObjectType.ECDH_KEYPAIR, bits, [
      [Attr.ECC_PRIVATE_VALUE, number(test.private)],
      // Whatever they are: the agreement does not use them.
      [Attr.ECC_PUBLIC_VALUE_X, Buffer.of(1)],
      [Attr.ECC_PUBLIC_VALUE_Y, Buffer.of(1)],
      [Attr.ECC_CURVE, curve],
    ]);
    if (object === undefined) return "invalid";
    const other: AttributeList = [
      [Attr.ECC_PUBLIC_VALUE_X, point.subarray(1, 1 + size)],
      [Attr.ECC_PUBLIC_VALUE_Y, point.subarray(1 + size)],
    ];
    const shared = tools.with(Alg.ECDH_DERIVE_SHARED_SECRET, Mode.DERIVE, [object], (state) =>
      tools.derived(state, other, size),
    );
    return says(shared !== undefined && shared === hex(from(test.shared)));
  };
}

interface Montgomery {
  readonly size: number;
  readonly algorithm: number;
  readonly type: number;
  readonly mine: number;
  readonly other: number;
}

function montgomery(file: string): Montgomery | undefined {
  if (file.startsWith("x25519_test")) {
    const { X25519_PRIVATE_VALUE: mine, X25519_PUBLIC_VALUE: other } = Attr;
    return { size: 32, algorithm: Alg.X25519, type: ObjectType.X25519_KEYPAIR, mine, other };
  }
  if (!file.startsWith("x448_test")) return undefined;
  const { X448_PRIVATE_VALUE: mine, X448_PUBLIC_VALUE: other } = Attr;
  return { size: 56, algorithm: Alg.X448, type: ObjectType.X448_KEYPAIR, mine, other };
}

function xdh(tools: Tools, file: string): Check | undefined {
  const curve = montgomery(file);
  if (curve === undefined) return undefined;
  const { size, algorithm, type, mine, other } = curve;
  return (test) => {
    const object = tools.object(type, size * 8, [
      [mine, from(test.private)],
      [other, new Uint8Array(size)],
    ]);
    if (object === undefined) return "invalid";
    const shared = tools.with(algorithm, Mode.DERIVE, [object], (state) =>
      tools.derived(state, [[other, from(test.public)]], size),
    );
    return says(shared === hex(from(test.shared)));
  };
}

type Verifier = (message: Buffer, signature: Buffer) => Verdict;

/** Checks signatures with a public key made anew each time, as an operation takes its key along. */
function verifier(
  tools: Tools,
  key: () => number | undefined,
  algorithm: number,
  hash: string | undefined,
  parameters: AttributeList = [],
): Verifier {
  return (message, signature) => {
    const object = key();
    if (object === undefined) return not("no such key");
    const data = hash === undefined ? message : createHash(hash).update(message).digest();
    return tools.with(algorithm, Mode.VERIFY, [object], (state) =>
      says(
        tools.result(
          "asymm_verify",
          state,
          parameters.length === 0 ? 0 : parameters,
          parameters.length,
          bytes(data),
          data.length,
          bytes(signature),
          signature.length,
        ) === "TEE_SUCCESS",
      ),
    );
  };
}

function publicKey(tools: Tools, group: Fields): Verifier | undefined {
  const hash = hashOf(group.sha);
  const key = fields(group.publicKey);
  switch (group.type) {
    case "EcdsaP1363Verify": {
      const known = CURVES[String(key.curve)];
      const algorithm = BY_NAME[`ECDSA_${hash}`];
      if (known === undefined || algorithm === undefined || hash === undefined) return undefined;
      const [curve, bits] = known;
      const make = () =>
        tools.object(ObjectType.ECDSA_PUBLIC_KEY, bits, [
          [Attr.ECC_PUBLIC_VALUE_X, number(key.wx)],
          [Attr.ECC_PUBLIC_VALUE_Y, number(key.wy)],
          [Attr.ECC_CURVE, curve],
        ]);
      return verifier(tools, make, algorithm, hash);
    }
    case "EddsaVerify": {
      if (key.curve !== "edwards25519") return undefined;
      const make = () => tools.object(ObjectType.ED25519_PUBLIC_KEY, 256, [[Attr.ED25519_PUBLIC_VALUE, from(key.pk)]]);
      return verifier(tools, make, Alg.ED25519, undefined);
    }
    case "DsaP1363Verify": {
      const algorithm = BY_NAME[`DSA_${hash}`];
      if (algorithm === undefined || hash === undefined) return undefined;
      const make = () =>
        tools.object(ObjectType.DSA_PUBLIC_KEY, Number(key.keySize), [
          [Attr.DSA_PRIME, number(key.p)],
          [Attr.DSA_SUBPRIME, number(key.q)],
          [Attr.DSA_BASE, number(key.g)],
          [Attr.DSA_PUBLIC_VALUE, number(key.y)],
        ]);
      return verifier(tools, make, algorithm, hash);
    }
    case "RsassaPkcs1Verify":
    case "RsassaPssVerify": {
      const pss = group.type === "RsassaPssVerify";
      const algorithm = BY_NAME[pss ? `RSASSA_PKCS1_PSS_MGF1_${hash}` : `RSASSA_PKCS1_V1_5_${hash}`];
      if (algorithm === undefined || hash === undefined || (pss && group.mgfSha !== group.sha)) return undefined;
      const make = () =>
        tools.object(ObjectType.RSA_PUBLIC_KEY, Number(group.keySize), [
          [Attr.RSA_MODULUS, number(key.modulus)],
          [Attr.RSA_PUBLIC_EXPONENT, number(key.publicExponent)],
        ]);
      return verifier(tools, make, algorithm, hash, pss ? [[Attr.RSA_PSS_SALT_LENGTH, Number(group.sLen)]] : []);
    }
    default:
      return undefined;
  }
}

const RSA_BYTES_MAX = 512;

function privateRsa(tools: Tools, group: Fields): (() => number | undefined) | undefined {
  const key = fields(group.privateKey);
  if (typeof key.modulus !== "string") return undefined;
  const modulus = number(key.modulus);
  return () =>
    tools.object(ObjectType.RSA_KEYPAIR, modulus.length * 8, [
      [Attr.RSA_MODULUS, modulus],
      [Attr.RSA_PUBLIC_EXPONENT, number(key.publicExponent)],
      [Attr.RSA_PRIVATE_EXPONENT, number(key.privateExponent)],
    ]);
}

function rsa(tools: Tools, group: Fields): Check | undefined {
  const make = privateRsa(tools, group);
  const hash = hashOf(group.sha);
  if (make === undefined) return undefined;
  const operate = (
    algorithm: number,
    mode: number,
    data: Buffer,
    parameters: AttributeList,
  ): Uint8Array | undefined => {
    const object = make();
    if (object === undefined) return undefined;
    const given = parameters.length === 0 ? 0 : parameters;
    return tools.with(algorithm, mode, [object], (state) =>
      tools.output(
        "asymm_operate",
        1,
        state,
        given,
        parameters.length,
        bytes(data),
        data.length,
        room(1024),
        u64(1024),
      ),
    );
  };
  const decrypts = (algorithm: number, parameters: (test: Fields) => AttributeList): Check => {
    if (number(fields(group.privateKey).modulus).length > RSA_BYTES_MAX)
      return () => not("keys have at most 4096 bits");
    return (test) => {
      const found = operate(algorithm, Mode.DECRYPT, from(test.ct), parameters(test));
      return says(found !== undefined && hex(found) === hex(from(test.msg)));
    };
  };
  switch (group.type) {
    case "RsaesPkcs1Decrypt":
      return decrypts(Alg.RSAES_PKCS1_V1_5, () => []);
    case "RsaesOaepDecrypt": {
      const algorithm = BY_NAME[`RSAES_PKCS1_OAEP_MGF1_${hash}`];
      const mgf = BY_NAME[hashOf(group.mgfSha) ?? ""];
      if (algorithm === undefined || mgf === undefined) return undefined;
      const which = Buffer.alloc(4);
      which.writeUInt32LE(mgf);
      return decrypts(algorithm, ({ label }) => [
        // OP-TEE looks no further than the label.
        [Attr.RSA_OAEP_MGF_HASH, which],
        ...(label === "" ? [] : [[Attr.RSA_OAEP_LABEL, from(label)] as const]),
      ]);
    }
    case "RsassaPkcs1Generate": {
      const algorithm = BY_NAME[`RSASSA_PKCS1_V1_5_${hash}`];
      if (algorithm === undefined || hash === undefined) return undefined;
      return (test) => {
        const digest = createHash(hash).update(from(test.msg)).digest();
        const found = operate(algorithm, Mode.SIGN, digest, []);
        return found === undefined ? not("no such key") : says(hex(found) === hex(from(test.sig)));
      };
    }
    default:
      return undefined;
  }
}

function xts(tools: Tools): Check {
  return (test) => {
    const [key, iv, msg, ct] = ["key", "iv", "msg", "ct"].map((name) => from(test[name]));
    if (!key || !iv || !msg || !ct) return "invalid";
    const half = key.length / 2;
    const keys = [key.subarray(0, half), key.subarray(half)].map((part) =>
      tools.object(ObjectType.AES, part.length * 8, [[Attr.SECRET_VALUE, part]]),
    );
    const made = keys.filter((object) => object !== undefined);
    if (made.length < 2) return "invalid";
    const tweak = Buffer.concat([iv, Buffer.alloc(16 - iv.length)]);
    return tools.with(Alg.AES_XTS, Mode.ENCRYPT, made, (state) => {
      if (tools.result("cipher_init", state, bytes(tweak), 16) !== "TEE_SUCCESS") return "invalid";
      const length = msg.length;
      const found = tools.output("cipher_final", 1, state, bytes(msg), length, room(length), u64(length));
      return says(found !== undefined && hex(found) === hex(ct));
    });
  };
}

function checkOf(tools: Tools, file: string, group: Fields): Check | undefined {
  switch (group.type) {
    case "AeadTest":
      return aead(tools, file, group);
    case "MacTest":
      return mac(tools, file, group);
    case "HkdfTest":
    case "PbkdfTest":
      return kdf(tools, file);
    case "EcdhEcpointTest":
      return ecdh(tools, group);
    case "XdhComp":
      return xdh(tools, file);
    case "IndCpaTest":
      return file.startsWith("aes_xts") ? xts(tools) : undefined;
    case "RsaesPkcs1Decrypt":
    case "RsaesOaepDecrypt":
    case "RsassaPkcs1Generate":
      return rsa(tools, group);
    default: {
      const verify = publicKey(tools, group);
      return verify === undefined ? undefined : (test) => verify(from(test.msg), from(test.sig));
    }
  }
}

/** What the TEE makes of a group's vectors; undefined where the group is about something it does not have. */
export function runGroup(probe: Probe, file: string, group: Fields): Outcome[] | undefined {
  const check = checkOf(new Tools(probe), file, group);
  if (check === undefined || !Array.isArray(group.tests)) return undefined;
  return group.tests.map((entry: unknown) => {
    const test = fields(entry);
    const expected = test.result === "valid" || test.result === "acceptable" ? test.result : "invalid";
    return { id: Number(test.tcId), expected, verdict: check(test) };
  });
}
