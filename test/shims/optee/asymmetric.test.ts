// RSA, DSA, DH, elliptic curves and key derivation: against OpenSSL (node's) in both directions, and published vectors.
import * as crypto from "node:crypto";
import { afterAll, describe, expect, it } from "vitest";
import { Alg, Attr, ObjectType } from "../../../shims/optee/algorithms.ts";
import { Curve, Mode } from "../../../shims/optee/constants.ts";
import { type AttributeList, bytes, hex, Probe, room, u64, word } from "./probe.ts";

const probe = new Probe();
afterAll(() => probe.close());

const from = (text: string): Buffer => Buffer.from(text.replace(/ /g, ""), "hex");
const url = (text: string | undefined): Buffer => Buffer.from(text ?? "", "base64url");

function object(type: number, bits: number, list: AttributeList): number {
  const handle = probe.handle("cryp_obj_alloc", type, bits);
  probe.ok("cryp_obj_populate", handle, list, list.length);
  return handle;
}

function generated(type: number, bits: number, list: AttributeList = []): number {
  const handle = probe.handle("cryp_obj_alloc", type, bits);
  probe.ok("cryp_obj_generate_key", handle, bits, list, list.length);
  return handle;
}

function copy(type: number, bits: number, source: number): number {
  const handle = probe.handle("cryp_obj_alloc", type, bits);
  probe.ok("cryp_obj_copy", handle, source);
  return handle;
}

function attribute(handle: number, id: number): Buffer {
  const [data, size] = probe.ok("cryp_obj_get_attr", handle, id, room(1024), u64(1024));
  return Buffer.from(data?.subarray(0, word(size)) ?? []);
}

/** One use of a key, which is used up by it. */
function operate(algorithm: number, mode: number, key: number, data: Uint8Array, params: AttributeList = []): Buffer {
  const state = probe.handle("cryp_state_alloc", algorithm, mode, key, 0);
  const out = probe.ok("asymm_operate", state, params, params.length, bytes(data), data.length, room(1024), u64(1024));
  probe.ok("cryp_state_free", state);
  return Buffer.from(out[1]?.subarray(0, word(out[2])) ?? []);
}

function verify(
  algorithm: number,
  key: number,
  data: Uint8Array,
  signature: Uint8Array,
  params: AttributeList = [],
): string {
  const state = probe.handle("cryp_state_alloc", algorithm, Mode.VERIFY, key, 0);
  const { result } = probe.call(
    "asymm_verify",
    state,
    params,
    params.length,
    bytes(data),
    data.length,
    bytes(signature),
    signature.length,
  );
  probe.ok("cryp_state_free", state);
  return result;
}

function flipped(data: Uint8Array): Buffer {
  const other = Buffer.from(data);
  other[3] = (other[3] ?? 0) ^ 0x10;
  return other;
}

describe("RSA", () => {
  const openssl = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwk = openssl.privateKey.export({ format: "jwk" });
  const parts: AttributeList = [
    [Attr.RSA_MODULUS, url(jwk.n)],
    [Attr.RSA_PUBLIC_EXPONENT, url(jwk.e)],
    [Attr.RSA_PRIVATE_EXPONENT, url(jwk.d)],
  ];
  const crt: AttributeList = [
    [Attr.RSA_PRIME1, url(jwk.p)],
    [Attr.RSA_PRIME2, url(jwk.q)],
    [Attr.RSA_EXPONENT1, url(jwk.dp)],
    [Attr.RSA_EXPONENT2, url(jwk.dq)],
    [Attr.RSA_COEFFICIENT, url(jwk.qi)],
  ];
  const pair = (): number => object(ObjectType.RSA_KEYPAIR, 2048, [...parts, ...crt]);
  const pairWithoutPrimes = (): number => object(ObjectType.RSA_KEYPAIR, 2048, parts);
  const open = (): number => object(ObjectType.RSA_PUBLIC_KEY, 2048, parts.slice(0, 2));
  const message = crypto.randomBytes(40);

  const signatures: readonly (readonly [string, number, string, boolean])[] = [
    ["V1_5 MD5", Alg.RSASSA_PKCS1_V1_5_MD5, "md5", false],
    ["V1_5 SHA1", Alg.RSASSA_PKCS1_V1_5_SHA1, "sha1", false],
    ["V1_5 SHA224", Alg.RSASSA_PKCS1_V1_5_SHA224, "sha224", false],
    ["V1_5 SHA256", Alg.RSASSA_PKCS1_V1_5_SHA256, "sha256", false],
    ["V1_5 SHA384", Alg.RSASSA_PKCS1_V1_5_SHA384, "sha384", false],
    ["V1_5 SHA512", Alg.RSASSA_PKCS1_V1_5_SHA512, "sha512", false],
    ["V1_5 SHA3_256", Alg.RSASSA_PKCS1_V1_5_SHA3_256, "sha3-256", false],
    ["PSS SHA1", Alg.RSASSA_PKCS1_PSS_MGF1_SHA1, "sha1", true],
    ["PSS SHA224", Alg.RSASSA_PKCS1_PSS_MGF1_SHA224, "sha224", true],
    ["PSS SHA256", Alg.RSASSA_PKCS1_PSS_MGF1_SHA256, "sha256", true],
    ["PSS SHA384", Alg.RSASSA_PKCS1_PSS_MGF1_SHA384, "sha384", true],
    ["PSS SHA512", Alg.RSASSA_PKCS1_PSS_MGF1_SHA512, "sha512", true],
  ];
  it.each(signatures)("signs with %s for OpenSSL and the other way round", (_, algorithm, hash, pss) => {
    const digest = crypto.createHash(hash).update(message).digest();
    const padding = pss
      ? { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: digest.length }
      : { padding: crypto.constants.RSA_PKCS1_PADDING };
    const ours = operate(algorithm, Mode.SIGN, pair(), digest);
    expect(crypto.verify(hash, message, { key: openssl.publicKey, ...padding }, ours)).toBe(true);
    const theirs = crypto.sign(hash, message, { key: openssl.privateKey, ...padding });
    expect(verify(algorithm, open(), digest, theirs)).toBe("TEE_SUCCESS");
    expect(verify(algorithm, open(), digest, flipped(theirs))).toBe("TEE_ERROR_SIGNATURE_INVALID");
    expect(verify(algorithm, open(), flipped(digest), theirs)).toBe("TEE_ERROR_SIGNATURE_INVALID");
    if (!pss) expect(hex(ours)).toBe(hex(theirs));
  });

  it("signs with a salt of the caller's length, and without primes", () => {
    const digest = crypto.createHash("sha256").update(message).digest();
    const salt: AttributeList = [[Attr.RSA_PSS_SALT_LENGTH, 11]];
    const signature = operate(Alg.RSASSA_PKCS1_PSS_MGF1_SHA256, Mode.SIGN, pairWithoutPrimes(), digest, salt);
    const padding = { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: 11 };
    expect(crypto.verify("sha256", message, { key: openssl.publicKey, ...padding }, signature)).toBe(true);
    expect(verify(Alg.RSASSA_PKCS1_PSS_MGF1_SHA256, open(), digest, signature, salt)).toBe("TEE_SUCCESS");
    expect(verify(Alg.RSASSA_PKCS1_PSS_MGF1_SHA256, open(), digest, signature)).toBe("TEE_ERROR_SIGNATURE_INVALID");
  });

  const oaeps: readonly (readonly [string, number, string])[] = [
    ["SHA1", Alg.RSAES_PKCS1_OAEP_MGF1_SHA1, "sha1"],
    ["SHA224", Alg.RSAES_PKCS1_OAEP_MGF1_SHA224, "sha224"],
    ["SHA256", Alg.RSAES_PKCS1_OAEP_MGF1_SHA256, "sha256"],
    ["SHA384", Alg.RSAES_PKCS1_OAEP_MGF1_SHA384, "sha384"],
    ["SHA512", Alg.RSAES_PKCS1_OAEP_MGF1_SHA512, "sha512"],
  ];
  it.each(oaeps)("encrypts with OAEP %s for OpenSSL and the other way round", (_, algorithm, oaepHash) => {
    const label = Buffer.from("a label");
    const options = { padding: crypto.constants.RSA_PKCS1_OAEP_PADDING, oaepHash, oaepLabel: label };
    const params: AttributeList = [[Attr.RSA_OAEP_LABEL, label]];
    const ours = operate(algorithm, Mode.ENCRYPT, open(), message, params);
    expect(crypto.privateDecrypt({ key: openssl.privateKey, ...options }, ours)).toEqual(message);
    const theirs = crypto.publicEncrypt({ key: openssl.publicKey, ...options }, message);
    expect(operate(algorithm, Mode.DECRYPT, pair(), theirs, params)).toEqual(message);
    const state = probe.handle("cryp_state_alloc", algorithm, Mode.DECRYPT, pair(), 0);
    expect(probe.call("asymm_operate", state, 0, 0, bytes(theirs), theirs.length, room(300), u64(300)).result).toBe(
      "TEE_ERROR_BAD_PARAMETERS",
    );
  });

  it("encrypts with PKCS#1 v1.5", () => {
    const ours = operate(Alg.RSAES_PKCS1_V1_5, Mode.ENCRYPT, open(), message);
    // OpenSSL as node has it no longer decrypts this padding without hiding errors, so the raw block is looked at.
    const raw = crypto.privateDecrypt({ key: openssl.privateKey, padding: crypto.constants.RSA_NO_PADDING }, ours);
    expect([raw[0], raw[1], raw.indexOf(0, 2), hex(raw.subarray(-40))]).toEqual([0, 2, 215, hex(message)]);
    const theirs = crypto.publicEncrypt(
      { key: openssl.publicKey, padding: crypto.constants.RSA_PKCS1_PADDING },
      message,
    );
    expect(operate(Alg.RSAES_PKCS1_V1_5, Mode.DECRYPT, pair(), theirs)).toEqual(message);
  });

  it("encrypts without padding", () => {
    const plain = crypto.randomBytes(256);
    plain[0] = 0;
    const theirs = crypto.publicEncrypt({ key: openssl.publicKey, padding: crypto.constants.RSA_NO_PADDING }, plain);
    expect(BigInt(`0x${hex(operate(Alg.RSA_NOPAD, Mode.ENCRYPT, open(), plain))}`)).toBe(BigInt(`0x${hex(theirs)}`));
    expect(BigInt(`0x${hex(operate(Alg.RSA_NOPAD, Mode.DECRYPT, pair(), theirs))}`)).toBe(BigInt(`0x${hex(plain)}`));
  });

  it("makes keys that OpenSSL takes, the same from the same seed", () => {
    const key = generated(ObjectType.RSA_KEYPAIR, 1024);
    const [n, e, d, p, q, dp, dq, qi] = [
      Attr.RSA_MODULUS,
      Attr.RSA_PUBLIC_EXPONENT,
      Attr.RSA_PRIVATE_EXPONENT,
      Attr.RSA_PRIME1,
      Attr.RSA_PRIME2,
      Attr.RSA_EXPONENT1,
      Attr.RSA_EXPONENT2,
      Attr.RSA_COEFFICIENT,
    ].map((id) => attribute(key, id).toString("base64url"));
    const made = { kty: "RSA", n, e, d, p, q, dp, dq, qi };
    const openssl = crypto.createPrivateKey({ format: "jwk", key: JSON.parse(JSON.stringify(made)) });
    expect(attribute(key, Attr.RSA_MODULUS).length).toBe(128);
    const digest = crypto.createHash("sha256").update(message).digest();
    const signature = operate(Alg.RSASSA_PKCS1_V1_5_SHA256, Mode.SIGN, key, digest);
    expect(crypto.verify("sha256", message, crypto.createPublicKey(openssl), signature)).toBe(true);
    const twins = [0, 1].map(() => {
      const twin = new Probe({ seed: 5 });
      const handle = twin.handle("cryp_obj_alloc", ObjectType.RSA_KEYPAIR, 512);
      twin.ok("cryp_obj_generate_key", handle, 512, 0, 0);
      const [modulus] = twin.ok("cryp_obj_get_attr", handle, Attr.RSA_MODULUS, room(64), u64(64));
      twin.close();
      return hex(modulus);
    });
    expect(twins[0]).toBe(twins[1]);
  });

  it("refuses public exponents that are even or small", () => {
    for (const exponent of [3, 65538]) {
      const handle = probe.handle("cryp_obj_alloc", ObjectType.RSA_KEYPAIR, 512);
      const e = Buffer.alloc(4);
      e.writeUInt32BE(exponent);
      expect(probe.call("cryp_obj_generate_key", handle, 512, [[Attr.RSA_PUBLIC_EXPONENT, e]], 1).result).toBe(
        "TEE_ERROR_BAD_PARAMETERS",
      );
    }
  });
});

/** The integers of a DER sequence, whatever is around them. */
function derIntegers(der: Uint8Array): Buffer[] {
  const found: Buffer[] = [];
  const walk = (data: Buffer): void => {
    for (let at = 0; at + 2 <= data.length; ) {
      const tag = data[at] ?? 0;
      let length = data[at + 1] ?? 0;
      let start = at + 2;
      if (length > 0x80) {
        const count = length & 0x7f;
        length = data.readUIntBE(start, count);
        start += count;
      }
      const content = data.subarray(start, start + length);
      if (tag === 0x02) found.push(content[0] === 0 ? content.subarray(1) : content);
      else if (tag === 0x30) walk(content);
      else if (tag === 0x04) walk(content);
      else if (tag === 0x03) walk(content.subarray(1));
      at = start + length;
    }
  };
  walk(Buffer.from(der));
  return found;
}

describe("DSA", () => {
  const openssl = crypto.generateKeyPairSync("dsa", { modulusLength: 2048, divisorLength: 256 });
  const [, p, q, g, x] = derIntegers(openssl.privateKey.export({ format: "der", type: "pkcs8" }));
  const y = derIntegers(openssl.publicKey.export({ format: "der", type: "spki" })).at(-1);
  if (!p || !q || !g || !x || !y) throw new Error("no DSA key");
  const domain: AttributeList = [
    [Attr.DSA_PRIME, p],
    [Attr.DSA_SUBPRIME, q],
    [Attr.DSA_BASE, g],
  ];
  const message = Buffer.from("a message");
  const digest = crypto.createHash("sha256").update(message).digest();

  it("signs for OpenSSL and the other way round", () => {
    const pair = object(ObjectType.DSA_KEYPAIR, 2048, [
      ...domain,
      [Attr.DSA_PRIVATE_VALUE, x],
      [Attr.DSA_PUBLIC_VALUE, y],
    ]);
    const ours = operate(Alg.DSA_SHA256, Mode.SIGN, pair, digest);
    const dsaEncoding = "ieee-p1363";
    expect(crypto.verify("sha256", message, { key: openssl.publicKey, dsaEncoding }, ours)).toBe(true);
    const theirs = crypto.sign("sha256", message, { key: openssl.privateKey, dsaEncoding });
    const open = () => object(ObjectType.DSA_PUBLIC_KEY, 2048, [...domain, [Attr.DSA_PUBLIC_VALUE, y]]);
    expect(verify(Alg.DSA_SHA256, open(), digest, theirs)).toBe("TEE_SUCCESS");
    expect(verify(Alg.DSA_SHA256, open(), digest, flipped(theirs))).toBe("TEE_ERROR_SIGNATURE_INVALID");
  });

  it("makes keys in a given domain", () => {
    const pair = generated(ObjectType.DSA_KEYPAIR, 2048, domain);
    const open = copy(ObjectType.DSA_PUBLIC_KEY, 2048, pair);
    const signature = operate(Alg.DSA_SHA256, Mode.SIGN, pair, digest);
    expect(verify(Alg.DSA_SHA256, open, digest, signature)).toBe("TEE_SUCCESS");
  });
});

describe("agreement", () => {
  function agree(algorithm: number, key: number, params: AttributeList): string {
    const secret = probe.handle("cryp_obj_alloc", ObjectType.GENERIC_SECRET, 4096);
    const state = probe.handle("cryp_state_alloc", algorithm, Mode.DERIVE, key, 0);
    probe.ok("cryp_derive_key", state, params, params.length, secret);
    probe.ok("cryp_state_free", state);
    return hex(attribute(secret, Attr.SECRET_VALUE));
  }

  it("DH with OpenSSL", () => {
    const other = crypto.getDiffieHellman("modp14");
    other.generateKeys();
    const group: AttributeList = [
      [Attr.DH_PRIME, other.getPrime()],
      [Attr.DH_BASE, other.getGenerator()],
    ];
    const key = generated(ObjectType.DH_KEYPAIR, 2048, [...group, [Attr.DH_X_BITS, 256]]);
    const mine = attribute(key, Attr.DH_PUBLIC_VALUE);
    expect(attribute(key, Attr.DH_PRIVATE_VALUE).length).toBeLessThanOrEqual(32);
    const shared = agree(Alg.DH_DERIVE_SHARED_SECRET, key, [[Attr.DH_PUBLIC_VALUE, other.getPublicKey()]]);
    expect(BigInt(`0x${shared}`)).toBe(BigInt(`0x${other.computeSecret(mine).toString("hex")}`));
  });

  const curves: readonly (readonly [string, number, number, string])[] = [
    ["P-192", Curve.NIST_P192, 192, "prime192v1"],
    ["P-224", Curve.NIST_P224, 224, "secp224r1"],
    ["P-256", Curve.NIST_P256, 256, "prime256v1"],
    ["P-384", Curve.NIST_P384, 384, "secp384r1"],
    ["P-521", Curve.NIST_P521, 521, "secp521r1"],
  ];
  it.each(curves)("ECDH with OpenSSL on %s", (_, curve, bits, name) => {
    const key = generated(ObjectType.ECDH_KEYPAIR, bits, [[Attr.ECC_CURVE, curve]]);
    const length = Math.ceil(bits / 8);
    const pad = (data: Buffer): Buffer => Buffer.concat([Buffer.alloc(length - data.length), data]);
    const x = pad(attribute(key, Attr.ECC_PUBLIC_VALUE_X));
    const y = pad(attribute(key, Attr.ECC_PUBLIC_VALUE_Y));
    const other = crypto.createECDH(name);
    const point = other.generateKeys();
    const shared = agree(Alg.ECDH_DERIVE_SHARED_SECRET, key, [
      [Attr.ECC_PUBLIC_VALUE_X, point.subarray(1, 1 + length)],
      [Attr.ECC_PUBLIC_VALUE_Y, point.subarray(1 + length)],
    ]);
    expect(shared).toBe(other.computeSecret(Buffer.concat([Buffer.of(4), x, y])).toString("hex"));
  });

  const hashes = { 192: "sha1", 224: "sha224", 256: "sha256", 384: "sha384", 521: "sha512" } as const;
  const ecdsa = {
    192: Alg.ECDSA_SHA1,
    224: Alg.ECDSA_SHA224,
    256: Alg.ECDSA_SHA256,
    384: Alg.ECDSA_SHA384,
    521: Alg.ECDSA_SHA512,
  };
  it.each(curves)("ECDSA for OpenSSL and the other way round on %s", (_, curve, bits, namedCurve) => {
    const size = bits as keyof typeof hashes;
    const { privateKey, publicKey } = crypto.generateKeyPairSync("ec", { namedCurve });
    const der = privateKey.export({ format: "der", type: "sec1" });
    const length = Math.ceil(bits / 8);
    const d = der.subarray(der.indexOf(Buffer.from([4, length])) + 2).subarray(0, length);
    const point = publicKey.export({ format: "der", type: "spki" }).subarray(-2 * length);
    const list: AttributeList = [
      [Attr.ECC_PUBLIC_VALUE_X, point.subarray(0, length)],
      [Attr.ECC_PUBLIC_VALUE_Y, point.subarray(length)],
      [Attr.ECC_CURVE, curve],
    ];
    const message = Buffer.from("another message");
    const digest = crypto.createHash(hashes[size]).update(message).digest();
    const pair = object(ObjectType.ECDSA_KEYPAIR, bits, [[Attr.ECC_PRIVATE_VALUE, d], ...list]);
    const ours = operate(ecdsa[size], Mode.SIGN, pair, digest);
    const dsaEncoding = "ieee-p1363";
    expect(crypto.verify(hashes[size], message, { key: publicKey, dsaEncoding }, ours)).toBe(true);
    const theirs = crypto.sign(hashes[size], message, { key: privateKey, dsaEncoding });
    const open = () => object(ObjectType.ECDSA_PUBLIC_KEY, bits, list);
    expect(verify(ecdsa[size], open(), digest, theirs)).toBe("TEE_SUCCESS");
    expect(verify(ecdsa[size], open(), digest, flipped(theirs))).toBe("TEE_ERROR_SIGNATURE_INVALID");
  });

  it("X25519 of RFC 7748, 5.2, and X448 with OpenSSL", () => {
    const key = object(ObjectType.X25519_KEYPAIR, 256, [
      [Attr.X25519_PRIVATE_VALUE, from("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")],
      [Attr.X25519_PUBLIC_VALUE, from("1c9fd88f45606d932a80c71824ae151d15d73e77de38e8e000852e614fae7019")],
    ]);
    const u = from("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
    expect(agree(Alg.X25519, key, [[Attr.X25519_PUBLIC_VALUE, u]])).toBe(
      "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    );
    const other = crypto.generateKeyPairSync("x448");
    const mine = generated(ObjectType.X448_KEYPAIR, 448);
    const x = attribute(mine, Attr.X448_PUBLIC_VALUE).toString("base64url");
    const shared = agree(Alg.X448, mine, [[Attr.X448_PUBLIC_VALUE, url(other.publicKey.export({ format: "jwk" }).x)]]);
    const publicKey = crypto.createPublicKey({ format: "jwk", key: { kty: "OKP", crv: "X448", x } });
    expect(shared).toBe(crypto.diffieHellman({ privateKey: other.privateKey, publicKey }).toString("hex"));
  });

  it("refuses points that are none", () => {
    const key = generated(ObjectType.ECDH_KEYPAIR, 256, [[Attr.ECC_CURVE, Curve.NIST_P256]]);
    const secret = probe.handle("cryp_obj_alloc", ObjectType.GENERIC_SECRET, 256);
    const state = probe.handle("cryp_state_alloc", Alg.ECDH_DERIVE_SHARED_SECRET, Mode.DERIVE, key, 0);
    const bad: AttributeList = [
      [Attr.ECC_PUBLIC_VALUE_X, Buffer.alloc(32, 1)],
      [Attr.ECC_PUBLIC_VALUE_Y, Buffer.alloc(32, 2)],
    ];
    expect(probe.call("cryp_derive_key", state, bad, 2, secret).result).toBe("TEE_ERROR_BAD_PARAMETERS");
    expect(probe.call("cryp_derive_key", state, [bad[1] ?? [0, 0], bad[0] ?? [0, 0]], 2, secret).result).toBe(
      "TEE_ERROR_BAD_PARAMETERS",
    );
  });
});

describe("Ed25519", () => {
  it("of RFC 8032, 7.1 test 2, 7.2 foo and 7.3 abc", () => {
    const vectors: readonly (readonly [string, string, string, AttributeList, string])[] = [
      [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        [],
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
      ],
      [
        "0305334e381af78f141cb666f6199f57bc3495335a256a95bd2a55bf546663f6",
        "dfc9425e4f968f7f0c29f0259cf5f9aed6851c2bb4ad8bfb860cfee0ab248292",
        "f726936d19c800494e3fdaff20b276a8",
        [[Attr.EDDSA_CTX, Buffer.from("foo")]],
        "55a4cc2f70a54e04288c5f4cd1e45a7bb520b36292911876cada7323198dd87a8b36950b95130022907a7fb7c4e9b2d5f6cca685a587b4b21f4b888e4e7edb0d",
      ],
      [
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "616263",
        [[Attr.EDDSA_PREHASH, 1]],
        "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
      ],
    ];
    for (const [secret, open, message, params, expected] of vectors) {
      const publicValue: AttributeList = [[Attr.ED25519_PUBLIC_VALUE, from(open)]];
      const pair = object(ObjectType.ED25519_KEYPAIR, 256, [
        [Attr.ED25519_PRIVATE_VALUE, from(secret)],
        ...publicValue,
      ]);
      expect(hex(operate(Alg.ED25519, Mode.SIGN, pair, from(message), params))).toBe(expected);
      const key = () => object(ObjectType.ED25519_PUBLIC_KEY, 256, publicValue);
      expect(verify(Alg.ED25519, key(), from(message), from(expected), params)).toBe("TEE_SUCCESS");
      expect(verify(Alg.ED25519, key(), from(message), flipped(from(expected)), params)).toBe(
        "TEE_ERROR_SIGNATURE_INVALID",
      );
    }
  });

  it("makes keys", () => {
    const pair = generated(ObjectType.ED25519_KEYPAIR, 256);
    const open = copy(ObjectType.ED25519_PUBLIC_KEY, 256, pair);
    const signature = operate(Alg.ED25519, Mode.SIGN, pair, Buffer.from("message"));
    expect(verify(Alg.ED25519, open, Buffer.from("message"), signature)).toBe("TEE_SUCCESS");
  });
});

describe("derivation", () => {
  function derive(algorithm: number, type: number, id: number, secret: Uint8Array, params: AttributeList): string {
    const key = probe.handle("cryp_obj_alloc", type, secret.length * 8);
    probe.ok("cryp_obj_populate", key, [[id, secret]], 1);
    const out = probe.handle("cryp_obj_alloc", ObjectType.GENERIC_SECRET, 4096);
    const state = probe.handle("cryp_state_alloc", algorithm, Mode.DERIVE, key, 0);
    probe.ok("cryp_derive_key", state, params, params.length, out);
    probe.ok("cryp_state_free", state);
    return hex(attribute(out, Attr.SECRET_VALUE));
  }

  it("HKDF of RFC 5869, A.1, under both algorithm numbers", () => {
    const params: AttributeList = [
      [Attr.HKDF_SALT, from("000102030405060708090a0b0c")],
      [Attr.HKDF_INFO, from("f0f1f2f3f4f5f6f7f8f9")],
      [Attr.HKDF_OKM_LENGTH, 42],
    ];
    const expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
    const ikm = Buffer.alloc(22, 0x0b);
    expect(derive(Alg.HKDF_SHA256_DERIVE_KEY, ObjectType.HKDF_IKM, Attr.HKDF_IKM, ikm, params)).toBe(expected);
    expect(derive(Alg.HKDF, ObjectType.HKDF_IKM, Attr.HKDF_IKM, ikm, params)).toBe(expected);
    const sha1 = derive(Alg.HKDF_SHA1_DERIVE_KEY, ObjectType.HKDF_IKM, Attr.HKDF_IKM, ikm, [
      [Attr.HKDF_OKM_LENGTH, 50],
    ]);
    expect(sha1).toBe(Buffer.from(crypto.hkdfSync("sha1", ikm, "", "", 50)).toString("hex"));
  });

  it("PBKDF2 of RFC 6070, 4096 iterations", () => {
    const params: AttributeList = [
      [Attr.PBKDF2_SALT, Buffer.from("salt")],
      [Attr.PBKDF2_ITERATION_COUNT, 4096],
      [Attr.PBKDF2_DKM_LENGTH, 20],
    ];
    expect(
      derive(
        Alg.PBKDF2_HMAC_SHA1_DERIVE_KEY,
        ObjectType.PBKDF2_PASSWORD,
        Attr.PBKDF2_PASSWORD,
        Buffer.from("password"),
        params,
      ),
    ).toBe("4b007901b765489abead49d926f721d065a429c1");
  });

  it("the concatenation KDF as its formula says", () => {
    const [z, info] = [crypto.randomBytes(32), crypto.randomBytes(20)];
    const block = (n: number): string =>
      crypto
        .createHash("sha256")
        .update(Buffer.from([0, 0, 0, n]))
        .update(z)
        .update(info)
        .digest("hex");
    const params: AttributeList = [
      [Attr.CONCAT_KDF_OTHER_INFO, info],
      [Attr.CONCAT_KDF_DKM_LENGTH, 48],
    ];
    expect(derive(Alg.CONCAT_KDF_SHA256_DERIVE_KEY, ObjectType.CONCAT_KDF_Z, Attr.CONCAT_KDF_Z, z, params)).toBe(
      (block(1) + block(2)).slice(0, 96),
    );
  });
});
