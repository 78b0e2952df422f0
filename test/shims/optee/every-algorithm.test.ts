/**
 * What is left of the TEE's algorithms when the other tests of this folder have named theirs, on random input against OpenSSL (node's);
 * and that none is left then.
 */
import * as crypto from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Alg, Attr, ObjectType } from "../../../shims/optee/algorithms.ts";
import { Mode } from "../../../shims/optee/constants.ts";
import { type AttributeList, bytes, hex, Probe, room, u32, u64, word } from "./probe.ts";

const probe = new Probe();
afterAll(() => probe.close());

type Name = keyof typeof Alg;
const TYPES: Readonly<Record<string, number>> = { ...ObjectType };
const named: Name[] = [];
/** Rows of a table, each beginning with an algorithm's name. */
function rows<T extends readonly [Name, ...unknown[]]>(list: readonly T[]): readonly T[] {
  named.push(...list.map(([name]) => name));
  return list;
}

function object(type: number, bits: number, attributes: AttributeList): number {
  const handle = probe.handle("cryp_obj_alloc", type, bits);
  probe.ok("cryp_obj_populate", handle, attributes, attributes.length);
  return handle;
}
const secret = (type: number, value: Uint8Array): number =>
  object(type, value.length * 8, [[Attr.SECRET_VALUE, value]]);
const state = (name: Name, mode: number, key1 = 0, key2 = 0): number =>
  probe.handle("cryp_state_alloc", Alg[name], mode, key1, key2);
const result = (out: readonly Uint8Array[], at: number): Buffer =>
  Buffer.from(out[at]?.subarray(0, word(out[at + 1])) ?? []);

function hashed(operation: number, data: Uint8Array, size = 64): string {
  probe.ok("hash_init", operation, 0, 0);
  return hex(result(probe.ok("hash_final", operation, bytes(data), data.length, room(size), u64(size)), 1));
}

describe("digests and MACs", () => {
  it.each(rows([["SHAKE128"], ["MD5SHA1"]] as const))("%s", (name) => {
    const data = crypto.randomBytes(100);
    if (name === "SHAKE128") {
      const expected = crypto.createHash("shake128", { outputLength: 50 }).update(data).digest("hex");
      expect(hashed(state(name, Mode.DIGEST), data, 50)).toBe(expected);
    } else {
      const expected = ["md5", "sha1"].map((hash) => crypto.createHash(hash).update(data).digest("hex")).join("");
      expect(hashed(state(name, Mode.DIGEST), data)).toBe(expected);
    }
  });

  const macs = rows([
    ["HMAC_SHA384", "sha384"],
    ["HMAC_SM3", "sm3"],
    ["HMAC_SHA3_224", "sha3-224"],
    ["HMAC_SHA3_256", "sha3-256"],
    ["HMAC_SHA3_384", "sha3-384"],
    ["HMAC_SHA3_512", "sha3-512"],
  ] as const);
  it.each(macs)("%s", (name, hash) => {
    const [key, data] = [crypto.randomBytes(64), crypto.randomBytes(200)];
    const expected = crypto.createHmac(hash, key).update(data).digest("hex");
    expect(hashed(state(name, Mode.MAC, secret(TYPES[name] ?? 0, key)), data)).toBe(expected);
  });

  const chained = rows([
    ["DES_CBC_MAC_NOPAD", 8],
    ["DES_CBC_MAC_PKCS5", 8],
    ["DES3_CBC_MAC_NOPAD", 24],
    ["DES3_CBC_MAC_PKCS5", 24],
  ] as const);
  it.each(chained)("%s", (name, size) => {
    const key = crypto.randomBytes(size);
    const data = crypto.randomBytes(name.endsWith("NOPAD") ? 40 : 37);
    const cipher = crypto.createCipheriv(
      "des-ede3-cbc",
      size === 8 ? Buffer.concat([key, key, key]) : key,
      Buffer.alloc(8),
    );
    cipher.setAutoPadding(name.endsWith("PKCS5"));
    const last = Buffer.concat([cipher.update(data), cipher.final()])
      .subarray(-8)
      .toString("hex");
    const type = size === 8 ? ObjectType.DES : ObjectType.DES3;
    expect(hashed(state(name, Mode.MAC, secret(type, key)), data)).toBe(last);
  });
});

describe("ciphers", () => {
  function encrypted(operation: number, iv: Uint8Array, data: Uint8Array): string {
    probe.ok("cipher_init", operation, bytes(iv), iv.length);
    const { length } = data;
    return hex(result(probe.ok("cipher_final", operation, bytes(data), length, room(length), u64(length)), 1));
  }

  it.each(rows([["DES_CBC_NOPAD"]] as const))("%s", (name) => {
    const [key, iv, data] = [8, 8, 48].map((size) => crypto.randomBytes(size));
    if (!key || !iv || !data) throw new Error("no random bytes");
    const triple = crypto.createCipheriv("des-ede3-cbc", Buffer.concat([key, key, key]), iv).setAutoPadding(false);
    expect(encrypted(state(name, Mode.ENCRYPT, secret(ObjectType.DES, key)), iv, data)).toBe(
      triple.update(data, undefined, "hex"),
    );
  });

  it.each(rows([["SM4_XTS"]] as const))("%s as its formula says", (name) => {
    const [key1, key2, iv, data] = [16, 16, 16, 32].map((size) => crypto.randomBytes(size));
    if (!key1 || !key2 || !iv || !data) throw new Error("no random bytes");
    const ecb = (key: Uint8Array, block: Uint8Array): Buffer =>
      crypto.createCipheriv("sm4-ecb", key, null).setAutoPadding(false).update(block);
    const xor = (a: Uint8Array, b: Uint8Array): Uint8Array => a.map((byte, at) => byte ^ (b[at] ?? 0));
    // GB/T 17964: the tweak's bits count from the highest of each byte.
    const tweak = ecb(key2, iv);
    const expected = xor(ecb(key1, xor(data.subarray(0, 16), tweak)), tweak);
    const keys = [key1, key2].map((key) => secret(ObjectType.SM4, key));
    const found = encrypted(state(name, Mode.ENCRYPT, keys[0], keys[1]), iv, data.subarray(0, 16));
    expect(found).toBe(hex(expected));
  });
});

describe("RSA", () => {
  const openssl = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwk = openssl.privateKey.export({ format: "jwk" });
  const url = (text: string | undefined): Buffer => Buffer.from(text ?? "", "base64url");
  const pair = (): number =>
    object(ObjectType.RSA_KEYPAIR, 2048, [
      [Attr.RSA_MODULUS, url(jwk.n)],
      [Attr.RSA_PUBLIC_EXPONENT, url(jwk.e)],
      [Attr.RSA_PRIVATE_EXPONENT, url(jwk.d)],
    ]);
  const operated = (name: Name, mode: number, data: Uint8Array): Buffer => {
    const operation = state(name, mode, pair());
    return result(probe.ok("asymm_operate", operation, 0, 0, bytes(data), data.length, room(256), u64(256)), 1);
  };

  const signatures = rows([
    ["RSASSA_PKCS1_V1_5_SHA3_224", "sha3-224"],
    ["RSASSA_PKCS1_V1_5_SHA3_384", "sha3-384"],
    ["RSASSA_PKCS1_V1_5_SHA3_512", "sha3-512"],
    ["RSASSA_PKCS1_PSS_MGF1_MD5", "md5"],
    ["RSASSA_PKCS1_PSS_MGF1_SHA3_224", "sha3-224"],
    ["RSASSA_PKCS1_PSS_MGF1_SHA3_256", "sha3-256"],
    ["RSASSA_PKCS1_PSS_MGF1_SHA3_384", "sha3-384"],
    ["RSASSA_PKCS1_PSS_MGF1_SHA3_512", "sha3-512"],
  ] as const);
  it.each(signatures)("%s", (name, hash) => {
    const data = crypto.randomBytes(50);
    const signature = operated(name, Mode.SIGN, crypto.createHash(hash).update(data).digest());
    const { RSA_PKCS1_PSS_PADDING, RSA_PKCS1_PADDING } = crypto.constants;
    const padding = name.includes("PSS") ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING;
    expect(crypto.verify(hash, data, { key: openssl.publicKey, padding }, signature)).toBe(true);
  });

  it.each(rows([["RSASSA_PKCS1_V1_5"], ["RSASSA_PKCS1_V1_5_MD5SHA1"]] as const))(
    "%s: what is signed stands in the block as it is",
    (name) => {
      const data = crypto.randomBytes(36);
      const signature = operated(name, Mode.SIGN, data);
      expect(crypto.publicDecrypt(openssl.publicKey, signature).toString("hex")).toBe(data.toString("hex"));
    },
  );

  const oaeps = rows([
    ["RSAES_PKCS1_OAEP_MGF1_MD5", "md5"],
    ["RSAES_PKCS1_OAEP_MGF1_SHA3_224", "sha3-224"],
    ["RSAES_PKCS1_OAEP_MGF1_SHA3_256", "sha3-256"],
    ["RSAES_PKCS1_OAEP_MGF1_SHA3_384", "sha3-384"],
    ["RSAES_PKCS1_OAEP_MGF1_SHA3_512", "sha3-512"],
  ] as const);
  it.each(oaeps)("%s", (name, oaepHash) => {
    const data = crypto.randomBytes(30);
    const padding = crypto.constants.RSA_PKCS1_OAEP_PADDING;
    const theirs = crypto.publicEncrypt({ key: openssl.publicKey, oaepHash, padding }, data);
    expect(hex(operated(name, Mode.DECRYPT, theirs))).toBe(hex(data));
    const ours = operated(name, Mode.ENCRYPT, data);
    expect(hex(crypto.privateDecrypt({ key: openssl.privateKey, oaepHash, padding }, ours))).toBe(hex(data));
  });
});

describe("derivation", () => {
  function derived(name: Name, key: number, parameters: AttributeList, length: number): string {
    const target = probe.handle("cryp_obj_alloc", ObjectType.GENERIC_SECRET, 8 * length);
    probe.ok("cryp_derive_key", state(name, Mode.DERIVE, key), parameters, parameters.length, target);
    return hex(result(probe.ok("cryp_obj_get_attr", target, Attr.SECRET_VALUE, room(128), u64(128)), 0));
  }
  const [input, salt, info] = [40, 20, 30].map((size) => crypto.randomBytes(size));
  if (!input || !salt || !info) throw new Error("no random bytes");

  const hkdfs = rows([
    ["HKDF_MD5_DERIVE_KEY", "md5"],
    ["HKDF_SHA224_DERIVE_KEY", "sha224"],
    ["HKDF_SHA384_DERIVE_KEY", "sha384"],
    ["HKDF_SHA512_DERIVE_KEY", "sha512"],
  ] as const);
  it.each(hkdfs)("%s", (name, hash) => {
    const key = object(ObjectType.HKDF_IKM, 320, [[Attr.HKDF_IKM, input]]);
    const parameters: AttributeList = [
      [Attr.HKDF_SALT, salt],
      [Attr.HKDF_INFO, info],
      [Attr.HKDF_OKM_LENGTH, 100],
    ];
    const expected = Buffer.from(crypto.hkdfSync(hash, input, salt, info, 100)).toString("hex");
    expect(derived(name, key, parameters, 100)).toBe(expected);
  });

  const pbkdfs = rows([
    ["PBKDF2_HMAC_SHA224_DERIVE_KEY", "sha224"],
    ["PBKDF2_HMAC_SHA256_DERIVE_KEY", "sha256"],
    ["PBKDF2_HMAC_SHA384_DERIVE_KEY", "sha384"],
    ["PBKDF2_HMAC_SHA512_DERIVE_KEY", "sha512"],
    ["PBKDF2_HMAC_SM3_DERIVE_KEY", "sm3"],
  ] as const);
  it.each(pbkdfs)("%s", (name, hash) => {
    const key = object(ObjectType.PBKDF2_PASSWORD, 320, [[Attr.PBKDF2_PASSWORD, input]]);
    const parameters: AttributeList = [
      [Attr.PBKDF2_SALT, salt],
      [Attr.PBKDF2_ITERATION_COUNT, 17],
      [Attr.PBKDF2_DKM_LENGTH, 70],
    ];
    expect(derived(name, key, parameters, 70)).toBe(crypto.pbkdf2Sync(input, salt, 17, 70, hash).toString("hex"));
  });

  const concats = rows([
    ["CONCAT_KDF_SHA1_DERIVE_KEY", "sha1"],
    ["CONCAT_KDF_SHA224_DERIVE_KEY", "sha224"],
    ["CONCAT_KDF_SHA384_DERIVE_KEY", "sha384"],
    ["CONCAT_KDF_SHA512_DERIVE_KEY", "sha512"],
  ] as const);
  it.each(concats)("%s", (name, hash) => {
    const key = object(ObjectType.CONCAT_KDF_Z, 320, [[Attr.CONCAT_KDF_Z, input]]);
    const parameters: AttributeList = [
      [Attr.CONCAT_KDF_OTHER_INFO, info],
      [Attr.CONCAT_KDF_DKM_LENGTH, 100],
    ];
    // NIST SP 800-56A, 5.8.1: H(counter, Z, OtherInfo) as often as needed.
    const pieces = [1, 2, 3, 4, 5].map((n) =>
      crypto
        .createHash(hash)
        .update(Uint8Array.of(0, 0, 0, n))
        .update(input)
        .update(info)
        .digest(),
    );
    expect(derived(name, key, parameters, 100)).toBe(Buffer.concat(pieces).subarray(0, 100).toString("hex"));
  });
});

describe("DSA", () => {
  const dsa = rows([
    ["DSA_SHA1", "sha1", 1024, 160],
    ["DSA_SHA224", "sha224", 2048, 224],
    ["DSA_SHA3_224", "sha3-224", 2048, 224],
    ["DSA_SHA3_256", "sha3-256", 2048, 256],
    ["DSA_SHA3_384", "sha3-384", 2048, 256],
    ["DSA_SHA3_512", "sha3-512", 2048, 256],
  ] as const);
  it.each(dsa)("%s", (name, hash, modulusLength, divisorLength) => {
    const { privateKey, publicKey } = crypto.generateKeyPairSync("dsa", { modulusLength, divisorLength });
    const text = derNumbers(privateKey.export({ format: "der", type: "pkcs8" }));
    const [p, q, g, x] = text;
    if (!p || !q || !g || !x) throw new Error("no DSA key");
    const y = modPow(g, x, p);
    const pair = object(ObjectType.DSA_KEYPAIR, modulusLength, [
      [Attr.DSA_PRIME, p],
      [Attr.DSA_SUBPRIME, q],
      [Attr.DSA_BASE, g],
      [Attr.DSA_PRIVATE_VALUE, x],
      [Attr.DSA_PUBLIC_VALUE, y],
    ]);
    const data = crypto.randomBytes(50);
    // Of a digest longer than q, only the first bytes count (FIPS 186-4, 4.6).
    const digest = crypto.createHash(hash).update(data).digest().subarray(0, q.length);
    const operation = state(name, Mode.SIGN, pair);
    const out = probe.ok("asymm_operate", operation, 0, 0, bytes(digest), digest.length, room(64), u64(64));
    expect(crypto.verify(hash, data, { key: publicKey, dsaEncoding: "ieee-p1363" }, result(out, 1))).toBe(true);
  });

  /** p, q, g and x of a PKCS#8 key: every INTEGER in it but the version. */
  function derNumbers(der: Buffer): Buffer[] {
    const found: Buffer[] = [];
    for (let at = 0; at + 2 < der.length; ) {
      const tag = der[at];
      let length = der[at + 1] ?? 0;
      let start = at + 2;
      if (length > 0x80) {
        length = der.readUIntBE(start, length & 0x7f);
        start += (der[at + 1] ?? 0) & 0x7f;
      }
      if (tag === 2) found.push(der.subarray(start, start + length));
      // Into sequences and octet strings, over everything else.
      at = tag === 0x30 || tag === 4 ? start : start + length;
    }
    const whole = found.filter((number) => number.length > 1);
    return whole.map((number) => (number[0] === 0 ? number.subarray(1) : number));
  }

  function modPow(base: Buffer, exponent: Buffer, modulus: Buffer): Buffer {
    const [b, e, m] = [base, exponent, modulus].map((number) => BigInt(`0x${number.toString("hex")}`));
    if (b === undefined || e === undefined || m === undefined) throw new Error("no numbers");
    let power = 1n;
    for (const bit of e.toString(2)) power = (((power * power) % m) * (bit === "1" ? b : 1n)) % m;
    const digits = power.toString(16);
    return Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, "hex");
  }
});

describe("what the TEE does not have", () => {
  const missing = rows([
    ["ECDSA_SHA3_224"],
    ["ECDSA_SHA3_256"],
    ["ECDSA_SHA3_384"],
    ["ECDSA_SHA3_512"],
    ["ED448"],
    ["SM2_DSA_SM3"],
    ["SM2_PKE"],
    ["SM2_KEP"],
    ["SM4_ECB_PKCS5"],
    ["SM4_CBC_PKCS5"],
  ] as const);
  it.each(missing)("%s is refused", (name) => {
    for (const mode of Object.values(Mode))
      expect(probe.call("cryp_state_alloc", Alg[name], mode, 0, 0, u32()).result).not.toBe("TEE_SUCCESS");
  });
});

it("every algorithm is named in a test", () => {
  const texts = readdirSync(import.meta.dirname)
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => readFileSync(join(import.meta.dirname, file), "utf8"))
    .join("");
  const left = Object.keys(Alg).filter((name) => !new RegExp(`Alg\\.${name}\\b|"${name}"`).test(texts));
  expect(left).toEqual([]);
  expect(named.length).toBeGreaterThan(50);
});
