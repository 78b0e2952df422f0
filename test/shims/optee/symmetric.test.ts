// Digests, MACs, ciphers and authenticated encryption: published vectors by number, then random input against OpenSSL (node's).
import { createCipheriv, createHash, createHmac, randomBytes } from "node:crypto";
import { afterAll, describe, expect, it } from "vitest";
import { Alg, Attr, ObjectType } from "../../../shims/optee/algorithms.ts";
import { Mode } from "../../../shims/optee/constants.ts";
import { bytes, hex, Probe, room, u64, word } from "./probe.ts";

const probe = new Probe();
afterAll(() => probe.close());

function secretKey(type: number, value: Uint8Array): number {
  const object = probe.handle("cryp_obj_alloc", type, value.length * 8);
  probe.ok("cryp_obj_populate", object, [[Attr.SECRET_VALUE, value]], 1);
  return object;
}

function state(algorithm: number, mode: number, key1 = 0, key2 = 0): number {
  return probe.handle("cryp_state_alloc", algorithm, mode, key1, key2);
}

/** The whole message, cut in pieces at these places. */
function cut(data: Uint8Array, ...at: readonly number[]): Uint8Array[] {
  const ends = [...at.filter((n) => n < data.length), data.length];
  return ends.map((end, index) => data.subarray(ends[index - 1] ?? 0, end));
}

function finish(operation: number, data: Uint8Array, size = 64): string {
  const [, result, length] = probe.ok("hash_final", operation, bytes(data), data.length, room(size), u64(size));
  return hex(result?.subarray(0, word(length)));
}

function digestOf(algorithm: number, data: Uint8Array): string {
  const operation = state(algorithm, Mode.DIGEST);
  probe.ok("hash_init", operation, 0, 0);
  const [first = data, last = new Uint8Array(0)] = cut(data, 7);
  if (data.length > 7) probe.ok("hash_update", operation, bytes(first), first.length);
  const result = finish(operation, data.length > 7 ? last : data);
  probe.ok("cryp_state_free", operation);
  return result;
}

function macOf(algorithm: number, type: number, key: Uint8Array, data: Uint8Array): string {
  const operation = state(algorithm, Mode.MAC, secretKey(type, key));
  probe.ok("hash_init", operation, 0, 0);
  const pieces = cut(data, 5, 21);
  for (const piece of pieces.slice(0, -1)) probe.ok("hash_update", operation, bytes(piece), piece.length);
  const result = finish(operation, pieces.at(-1) ?? data);
  probe.ok("cryp_state_free", operation);
  return result;
}

const from = (text: string): Buffer => Buffer.from(text.replace(/ /g, ""), "hex");

const digests: readonly (readonly [string, number, string])[] = [
  ["MD5", Alg.MD5, "md5"],
  ["SHA1", Alg.SHA1, "sha1"],
  ["SHA224", Alg.SHA224, "sha224"],
  ["SHA256", Alg.SHA256, "sha256"],
  ["SHA384", Alg.SHA384, "sha384"],
  ["SHA512", Alg.SHA512, "sha512"],
  ["SHA3_224", Alg.SHA3_224, "sha3-224"],
  ["SHA3_256", Alg.SHA3_256, "sha3-256"],
  ["SHA3_384", Alg.SHA3_384, "sha3-384"],
  ["SHA3_512", Alg.SHA3_512, "sha3-512"],
  ["SM3", Alg.SM3, "sm3"],
];

describe("digests", () => {
  it("of the published example", () => {
    const abc = Buffer.from("abc");
    expect(digestOf(Alg.SHA256, abc)).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect(digestOf(Alg.SM3, abc)).toBe("66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0");
    expect(digestOf(Alg.MD5, abc)).toBe("900150983cd24fb0d6963f7d28e17f72");
  });

  it.each(digests)("%s as OpenSSL", (_, algorithm, name) => {
    for (const length of [0, 1, 8, 63, 64, 65, 200]) {
      const data = randomBytes(length);
      expect(digestOf(algorithm, data)).toBe(createHash(name).update(data).digest("hex"));
    }
  });

  it("SHAKE of any length, and on", () => {
    const operation = state(Alg.SHAKE256, Mode.DIGEST);
    probe.ok("hash_init", operation, 0, 0);
    const whole = createHash("shake256", { outputLength: 48 }).update("abc").digest("hex");
    const [, first] = probe.ok("hash_final", operation, bytes(Buffer.from("abc")), 3, room(16), u64(16));
    const [second] = probe.ok("hash_final", operation, 0, 0, room(32), u64(32));
    expect(hex(first) + hex(second)).toBe(whole);
  });

  it("go on from a copy", () => {
    const [one, two] = [state(Alg.SHA3_512, Mode.DIGEST), state(Alg.SHA3_512, Mode.DIGEST)];
    probe.ok("hash_init", one, 0, 0);
    probe.ok("hash_update", one, bytes(Buffer.from("ab")), 2);
    probe.ok("cryp_state_copy", two, one);
    const of = (text: string): string => createHash("sha3-512").update(text).digest("hex");
    expect(finish(one, Buffer.from("c"))).toBe(of("abc"));
    expect(finish(two, Buffer.from("d"))).toBe(of("abd"));
  });
});

describe("MACs", () => {
  it("HMAC-SHA256 of RFC 4231, case 4", () => {
    const key = from("0102030405060708090a0b0c0d0e0f10111213141516171819");
    expect(macOf(Alg.HMAC_SHA256, ObjectType.HMAC_SHA256, key, Buffer.alloc(50, 0xcd))).toBe(
      "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    );
  });

  it.each(digests)("HMAC-%s as OpenSSL", (_, algorithm, name) => {
    const main = algorithm & 0xff;
    for (const length of [0, 3, 40, 300]) {
      const data = randomBytes(length);
      const key = randomBytes(name === "md5" || name === "sha1" || name === "sha224" ? 60 : 120);
      const expected = createHmac(name, key).update(data).digest("hex");
      expect(macOf((0x3000_0000 | main) >>> 0, (0xa000_0000 | main) >>> 0, key, data)).toBe(expected);
    }
  });

  const cmacKey = from("2b7e151628aed2a6abf7158809cf4f3c");
  const cmacText = from(
    "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51 30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710",
  );
  it.each([
    [0, "bb1d6929e95937287fa37d129b756746"],
    [16, "070a16b46b4d4144f79bdd9dd04a287c"],
    [40, "dfa66747de9ae63030ca32611497c827"],
    [64, "51f0bebf7e3b9d92fc49741779363cfe"],
  ])("AES-CMAC of RFC 4493 over %i bytes", (length, expected) => {
    expect(macOf(Alg.AES_CMAC, ObjectType.AES, cmacKey, cmacText.subarray(0, length))).toBe(expected);
  });

  it("3DES-CMAC of NIST SP 800-38B, 20 bytes", () => {
    const key = from("8aa83bf8cbda1062 0bc1bf19fbb6cd58 bc313d4a371ca8b5");
    expect(macOf(Alg.DES3_CMAC, ObjectType.DES3, key, cmacText.subarray(0, 20))).toBe("743ddbe0ce2dc2ed");
  });

  it("CBC-MAC is the last block of CBC", () => {
    const key = randomBytes(16);
    const data = randomBytes(64);
    const last = (text: Uint8Array): string =>
      createCipheriv("aes-128-cbc", key, Buffer.alloc(16))
        .setAutoPadding(false)
        .update(text)
        .subarray(-16)
        .toString("hex");
    expect(macOf(Alg.AES_CBC_MAC_NOPAD, ObjectType.AES, key, data)).toBe(last(data));
    expect(macOf(Alg.AES_CBC_MAC_PKCS5, ObjectType.AES, key, data.subarray(0, 50))).toBe(
      last(Buffer.concat([data.subarray(0, 50), Buffer.alloc(14, 14)])),
    );
    expect(macOf(Alg.AES_CBC_MAC_PKCS5, ObjectType.AES, key, data)).toBe(
      last(Buffer.concat([data, Buffer.alloc(16, 16)])),
    );
  });

  it("go on from a copy", () => {
    const key = randomBytes(32);
    const [one, two] = [0, 0].map(() => state(Alg.HMAC_SHA512, Mode.MAC, secretKey(ObjectType.HMAC_SHA512, key)));
    if (one === undefined || two === undefined) throw new Error("no operations");
    probe.ok("hash_init", one, 0, 0);
    probe.ok("hash_update", one, bytes(Buffer.from("ab")), 2);
    probe.ok("cryp_state_copy", two, one);
    const of = (text: string): string => createHmac("sha512", key).update(text).digest("hex");
    expect(finish(one, Buffer.from("c"))).toBe(of("abc"));
    expect(finish(two, Buffer.from("d"))).toBe(of("abd"));
  });
});

interface CipherUse {
  readonly algorithm: number;
  readonly type: number;
  readonly key: Uint8Array;
  readonly key2?: Uint8Array;
  readonly iv?: Uint8Array;
}

function cipherOf(use: CipherUse, mode: number, data: Uint8Array, ...at: readonly number[]): string {
  const { algorithm, type, key, key2, iv = new Uint8Array(0) } = use;
  const second = key2 === undefined ? 0 : secretKey(type, key2);
  const operation = state(algorithm, mode, secretKey(type, key), second);
  probe.ok("cipher_init", operation, bytes(iv), iv.length);
  const pieces = cut(data, ...at);
  const parts = pieces.map((piece, index) => {
    const name = index === pieces.length - 1 ? "cipher_final" : "cipher_update";
    const [, out, length] = probe.ok(
      name,
      operation,
      bytes(piece),
      piece.length,
      room(piece.length),
      u64(piece.length),
    );
    expect(word(length)).toBe(piece.length);
    return hex(out);
  });
  probe.ok("cryp_state_free", operation);
  return parts.join("");
}

/** Encrypts to what is expected, in one piece and in several, and decrypts it again. */
function bothWays(use: CipherUse, plain: Uint8Array, expected: string, ...at: readonly number[]): void {
  expect(cipherOf(use, Mode.ENCRYPT, plain)).toBe(expected);
  expect(cipherOf(use, Mode.ENCRYPT, plain, ...at)).toBe(expected);
  expect(cipherOf(use, Mode.DECRYPT, from(expected))).toBe(hex(plain));
  expect(cipherOf(use, Mode.DECRYPT, from(expected), ...at)).toBe(hex(plain));
}

describe("ciphers", () => {
  const modes: readonly (readonly [string, number, number, readonly number[], string])[] = [
    ["AES ECB", Alg.AES_ECB_NOPAD, ObjectType.AES, [16, 24, 32], "aes-#-ecb"],
    ["AES CBC", Alg.AES_CBC_NOPAD, ObjectType.AES, [16, 24, 32], "aes-#-cbc"],
    ["AES CTR", Alg.AES_CTR, ObjectType.AES, [16, 24, 32], "aes-#-ctr"],
    ["DES3 ECB", Alg.DES3_ECB_NOPAD, ObjectType.DES3, [24], "des-ede3"],
    ["DES3 CBC", Alg.DES3_CBC_NOPAD, ObjectType.DES3, [24], "des-ede3-cbc"],
    ["SM4 ECB", Alg.SM4_ECB_NOPAD, ObjectType.SM4, [16], "sm4-ecb"],
    ["SM4 CBC", Alg.SM4_CBC_NOPAD, ObjectType.SM4, [16], "sm4-cbc"],
    ["SM4 CTR", Alg.SM4_CTR, ObjectType.SM4, [16], "sm4-ctr"],
  ];
  it.each(modes)("%s as OpenSSL", (name, algorithm, type, sizes, openssl) => {
    const block = type === ObjectType.DES3 ? 8 : 16;
    for (const size of sizes) {
      const key = randomBytes(size);
      const ecb = name.endsWith("ECB");
      const iv = randomBytes(block);
      const plain = randomBytes(160);
      const cipher = createCipheriv(openssl.replace("#", String(size * 8)), key, ecb ? null : iv).setAutoPadding(false);
      bothWays({ algorithm, type, key, ...(ecb ? {} : { iv }) }, plain, cipher.update(plain, undefined, "hex"), 16, 96);
    }
  });

  it("AES CTR takes pieces of any length and wraps its counter", () => {
    const key = randomBytes(16);
    const iv = Buffer.alloc(16, 0xff);
    const plain = randomBytes(77);
    const expected = createCipheriv("aes-128-ctr", key, iv).update(plain, undefined, "hex");
    bothWays({ algorithm: Alg.AES_CTR, type: ObjectType.AES, key, iv }, plain, expected, 1, 15, 33, 34);
  });

  it("DES of FIPS 81's classic example", () => {
    const use = { algorithm: Alg.DES_ECB_NOPAD, type: ObjectType.DES, key: from("133457799bbcdff1") };
    bothWays(use, from("0123456789abcdef"), "85e813540f0ab405");
  });

  it("SM4 of GB/T 32907, example 1", () => {
    const key = from("0123456789abcdeffedcba9876543210");
    bothWays({ algorithm: Alg.SM4_ECB_NOPAD, type: ObjectType.SM4, key }, key, "681edf34d206965e86b3e94f536e4246");
  });

  const cts = {
    algorithm: Alg.AES_CTS,
    type: ObjectType.AES,
    key: Buffer.from("chicken teriyaki"),
    iv: Buffer.alloc(16),
  };
  it.each([
    ["I would like the ", "c6353568f2bf8cb4d8a580362da7ff7f97"],
    ["I would like the General Gau's ", "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5"],
    ["I would like the General Gau's C", "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584"],
    [
      "I would like the General Gau's Chicken, please,",
      "97687268d6ecccc0c07b25e25ecfe584b3fffd940c16a18c1b5549d2f838029e39312523a78662d5be7fcbcc98ebf5",
    ],
    [
      "I would like the General Gau's Chicken, please, ",
      "97687268d6ecccc0c07b25e25ecfe5849dad8bbb96c4cdc03bc103e1a194bbd839312523a78662d5be7fcbcc98ebf5a8",
    ],
  ])("AES CTS of RFC 3962: %s", (plain, expected) => {
    const data = Buffer.from(plain);
    bothWays(cts, data, expected, ...(data.length > 40 ? [16] : []));
  });

  it("AES XTS of IEEE 1619, vectors 1 and 15, and as OpenSSL", () => {
    const zero = Buffer.alloc(16);
    const xts = { algorithm: Alg.AES_XTS, type: ObjectType.AES };
    const one = "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e";
    bothWays({ ...xts, key: zero, key2: zero, iv: zero }, Buffer.alloc(32), one, 16);
    const fifteen = {
      ...xts,
      key: from("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0"),
      key2: from("bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0"),
      iv: from("9a785634120000000000000000000000"),
    };
    bothWays(fifteen, from("000102030405060708090a0b0c0d0e0f10"), "6c1625db4671522d3d7599601de7ca09ed");
    for (const size of [16, 32]) {
      const [key, key2, iv, plain] = [randomBytes(size), randomBytes(size), randomBytes(16), randomBytes(100)];
      const name = `aes-${size * 8}-xts`;
      const expected = createCipheriv(name, Buffer.concat([key, key2]), iv).update(plain, undefined, "hex");
      bothWays({ ...xts, key, key2, iv }, plain, expected, 16, 64);
    }
  });

  it("go on from a copy", () => {
    const [key, iv, plain] = [randomBytes(16), randomBytes(16), randomBytes(48)];
    const make = () => state(Alg.AES_CBC_NOPAD, Mode.ENCRYPT, secretKey(ObjectType.AES, key));
    const [one, two] = [make(), make()];
    probe.ok("cipher_init", one, bytes(iv), 16);
    probe.ok("cipher_update", one, bytes(plain.subarray(0, 16)), 16, room(16), u64(16));
    probe.ok("cryp_state_copy", two, one);
    const expected = createCipheriv("aes-128-cbc", key, iv).update(plain).subarray(16, 48).toString("hex");
    for (const operation of [one, two]) {
      const [, out] = probe.ok("cipher_final", operation, bytes(plain.subarray(16)), 32, room(32), u64(32));
      expect(hex(out)).toBe(expected);
    }
  });
});

interface Sealed {
  readonly algorithm: number;
  readonly key: Uint8Array;
  readonly nonce: Uint8Array;
  readonly aad: Uint8Array;
  readonly tagLength: number;
}

function started(use: Sealed, mode: number, length: number): number {
  const operation = state(use.algorithm, mode, secretKey(ObjectType.AES, use.key));
  const { nonce, aad, tagLength } = use;
  probe.ok("authenc_init", operation, bytes(nonce), nonce.length, tagLength, aad.length, length);
  for (const piece of cut(aad, 5)) probe.ok("authenc_update_aad", operation, bytes(piece), piece.length);
  return operation;
}

function sealed(use: Sealed, plain: Uint8Array): string {
  const operation = started(use, Mode.ENCRYPT, plain.length);
  const [first = plain, last = new Uint8Array(0)] = cut(plain, 13);
  const head = plain.length > 13 ? first : new Uint8Array(0);
  const rest = plain.length > 13 ? last : plain;
  const [, start] = probe.ok(
    "authenc_update_payload",
    operation,
    bytes(head),
    head.length,
    room(head.length),
    u64(head.length),
  );
  const [, end, , tag, tagLength] = probe.ok(
    "authenc_enc_final",
    operation,
    bytes(rest),
    rest.length,
    room(rest.length),
    u64(rest.length),
    room(16),
    u64(16),
  );
  probe.ok("cryp_state_free", operation);
  return `${hex(start)}${hex(end)} ${hex(tag?.subarray(0, word(tagLength)))}`;
}

function opened(use: Sealed, cipher: Uint8Array, tag: Uint8Array): string {
  const operation = started(use, Mode.DECRYPT, cipher.length);
  const { result, out } = probe.call(
    "authenc_dec_final",
    operation,
    bytes(cipher),
    cipher.length,
    room(cipher.length),
    u64(cipher.length),
    bytes(tag),
    tag.length,
  );
  probe.ok("cryp_state_free", operation);
  return result === "TEE_SUCCESS" ? hex(out[1]) : result;
}

function sealBothWays(use: Sealed, plain: Uint8Array, expected: string): void {
  expect(sealed(use, plain)).toBe(expected);
  const [cipher = "", tag = ""] = expected.split(" ");
  expect(opened(use, from(cipher), from(tag))).toBe(hex(plain));
  const wrong = from(tag);
  wrong[0] = (wrong[0] ?? 0) ^ 1;
  expect(opened(use, from(cipher), wrong)).toBe("TEE_ERROR_MAC_INVALID");
}

describe("authenticated encryption", () => {
  const gcmKey = from("feffe9928665731c6d6a8f9467308308");
  const gcmAad = from("feedfacedeadbeeffeedfacedeadbeefabaddad2");
  const gcmText = from(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
  );

  it("AES-GCM of McGrew and Viega, cases 4 and 5", () => {
    const use = { algorithm: Alg.AES_GCM, key: gcmKey, aad: gcmAad, tagLength: 16 };
    sealBothWays(
      { ...use, nonce: from("cafebabefacedbaddecaf888") },
      gcmText,
      "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091 5bc94fbc3221a5db94fae95ae7121a47",
    );
    sealBothWays(
      { ...use, nonce: from("cafebabefacedbad") },
      gcmText,
      "61353b4c2806934a777ff51fa22a4755699b2a714fcdc6f83766e5f97b6c742373806900e49f24b22b097544d4896b424989b5e1ebac0f07c23f4598 3612d2e79e3b0785561be14aaca2fccb",
    );
  });

  it.each([16, 15, 14, 13, 12])("AES-GCM as OpenSSL, tags of %i bytes", (tagLength) => {
    for (const size of [16, 24, 32]) {
      const [key, nonce, aad, plain] = [randomBytes(size), randomBytes(12), randomBytes(20), randomBytes(70)];
      const cipher = createCipheriv(`aes-${size * 8}-gcm` as "aes-256-gcm", key, nonce).setAAD(aad);
      const text = cipher.update(plain, undefined, "hex");
      cipher.final();
      const tag = cipher.getAuthTag().subarray(0, tagLength).toString("hex");
      sealBothWays({ algorithm: Alg.AES_GCM, key, nonce, aad, tagLength }, plain, `${text} ${tag}`);
    }
  });

  const ccmKey = from("404142434445464748494a4b4c4d4e4f");
  it.each([
    ["10111213141516", "0001020304050607", "20212223", 4, "7162015b 4dac255d"],
    [
      "1011121314151617",
      "000102030405060708090a0b0c0d0e0f",
      "202122232425262728292a2b2c2d2e2f",
      6,
      "d2a1f0e051ea5f62081a7792073d593d 1fc64fbfaccd",
    ],
    [
      "101112131415161718191a1b",
      "000102030405060708090a0b0c0d0e0f10111213",
      "202122232425262728292a2b2c2d2e2f3031323334353637",
      8,
      "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5 484392fbc1b09951",
    ],
  ])("AES-CCM of NIST SP 800-38C, nonce %s", (nonce, aad, plain, tagLength, expected) => {
    const use = { algorithm: Alg.AES_CCM, key: ccmKey, nonce: from(nonce), aad: from(aad), tagLength };
    sealBothWays(use, from(plain), expected);
  });

  it("AES-CCM as OpenSSL, with associated data beyond 65279 bytes too", () => {
    for (const aadLength of [0, 31, 70_000]) {
      const [key, nonce, aad, plain] = [randomBytes(32), randomBytes(12), randomBytes(aadLength), randomBytes(100)];
      const cipher = createCipheriv("aes-256-ccm", key, nonce, { authTagLength: 12 });
      if (aadLength > 0) cipher.setAAD(aad, { plaintextLength: 100 });
      const text = cipher.update(plain, undefined, "hex");
      cipher.final();
      const expected = `${text} ${cipher.getAuthTag().toString("hex")}`;
      sealBothWays({ algorithm: Alg.AES_CCM, key, nonce, aad, tagLength: 12 }, plain, expected);
    }
  });

  it.each([
    ["GCM", Alg.AES_GCM],
    ["CCM", Alg.AES_CCM],
  ])("%s goes on from a copy", (_, algorithm) => {
    const use = { algorithm, key: gcmKey, nonce: randomBytes(12), aad: gcmAad, tagLength: 16 };
    const operation = started(use, Mode.ENCRYPT, 40);
    probe.ok("authenc_update_payload", operation, bytes(gcmText.subarray(0, 20)), 20, room(20), u64(20));
    const other = state(algorithm, Mode.ENCRYPT, secretKey(ObjectType.AES, gcmKey));
    probe.ok("cryp_state_copy", other, operation);
    const tags = [operation, other].map((one) => {
      const rest = bytes(gcmText.subarray(20, 40));
      const [, text, , tag] = probe.ok("authenc_enc_final", one, rest, 20, room(20), u64(20), room(16), u64(16));
      return hex(text) + hex(tag);
    });
    expect(tags[0]).toBe(tags[1]);
  });

  it("keeps to what was announced", () => {
    const use = { algorithm: Alg.AES_CCM, key: ccmKey, nonce: randomBytes(12), aad: Buffer.alloc(0), tagLength: 8 };
    const operation = started(use, Mode.ENCRYPT, 4);
    expect(probe.call("authenc_update_payload", operation, room(5), 5, room(5), u64(5)).result).toBe(
      "TEE_ERROR_BAD_STATE",
    );
    expect(probe.call("authenc_enc_final", operation, room(3), 3, room(3), u64(3), room(8), u64(8)).result).toBe(
      "TEE_ERROR_BAD_STATE",
    );
  });
});
