// What OP-TEE's calls answer where something is not as it has to be: states of operations and objects, keys, sizes, pointers.
import { afterAll, describe, expect, it } from "vitest";
import { Alg, Attr, ObjectType } from "../../../shims/optee/algorithms.ts";
import { Mode } from "../../../shims/optee/constants.ts";
import { type Argument, bytes, Probe, room, text, u32, u64 } from "./probe.ts";

const probe = new Probe();
afterAll(() => probe.close());

const result = (call: string | number, ...args: readonly Argument[]): string =>
  probe.call(call, ...args).result.replace("TEE_ERROR_", "");

const alloc = (type: number, bits: number): number => probe.handle("cryp_obj_alloc", type, bits);
const key = (type: number, length: number): number => {
  const handle = alloc(type, length * 8);
  probe.ok("cryp_obj_populate", handle, [[Attr.SECRET_VALUE, new Uint8Array(length)]], 1);
  return handle;
};
const state = (algorithm: number, mode: number, key1 = 0, key2 = 0): number =>
  probe.handle("cryp_state_alloc", algorithm, mode, key1, key2);
const stateResult = (algorithm: number, mode: number, key1 = 0, key2 = 0): string =>
  result("cryp_state_alloc", algorithm, mode, key1, key2, u32());

describe("objects", () => {
  it("exist in the sizes of their type", () => {
    const sizes: readonly (readonly [number, readonly number[], readonly number[]])[] = [
      [ObjectType.AES, [128, 192, 256], [0, 64, 129, 512]],
      [ObjectType.DES, [64, 56], [128, 63]],
      [ObjectType.DES3, [128, 192, 112, 168], [64, 100]],
      [ObjectType.HMAC_SHA1, [80, 512], [72, 520, 81]],
      [ObjectType.HMAC_SHA256, [192, 1024], [184, 1032]],
      [ObjectType.GENERIC_SECRET, [0, 8, 4096], [4, 4104]],
      [ObjectType.RSA_KEYPAIR, [256, 2048, 4096], [255, 4097]],
      [ObjectType.DSA_KEYPAIR, [512, 1024, 3072], [511, 1000, 3136]],
      [ObjectType.DH_KEYPAIR, [256, 2048], [2056]],
      [ObjectType.ECDSA_KEYPAIR, [192, 521], [191, 522]],
      [ObjectType.ED25519_KEYPAIR, [256], [255]],
      [ObjectType.DATA, [0], [8]],
      [0xa000_0077, [], [128]],
      [ObjectType.SM2_PKE_KEYPAIR, [], [256]],
    ];
    for (const [type, good, bad] of sizes) {
      for (const size of good)
        expect([type, size, result("cryp_obj_alloc", type, size, u32())]).toEqual([type, size, "TEE_SUCCESS"]);
      for (const size of bad)
        expect([type, size, result("cryp_obj_alloc", type, size, u32())]).toEqual([type, size, "NOT_SUPPORTED"]);
    }
    expect(result("cryp_obj_alloc", ObjectType.AES, 128, 16)).toBe("ACCESS_DENIED");
  });

  it("are filled once, with what belongs to them", () => {
    const secret = new Uint8Array(16);
    const aes = alloc(ObjectType.AES, 128);
    expect(result("cryp_obj_populate", aes, 0, 0)).toBe("ITEM_NOT_FOUND");
    expect(result("cryp_obj_populate", aes, [[Attr.RSA_MODULUS, secret]], 1)).toBe("ITEM_NOT_FOUND");
    expect(
      result(
        "cryp_obj_populate",
        aes,
        [
          [Attr.SECRET_VALUE, secret],
          [Attr.SECRET_VALUE, secret],
        ],
        2,
      ),
    ).toBe("ITEM_NOT_FOUND");
    expect(result("cryp_obj_populate", aes, [[Attr.SECRET_VALUE, new Uint8Array(24)]], 1)).toBe("BAD_STATE");
    expect(result("cryp_obj_populate", aes, [[Attr.SECRET_VALUE, new Uint8Array(15)]], 1)).toBe("BAD_PARAMETERS");
    expect(result("cryp_obj_populate", aes, [[Attr.SECRET_VALUE, new Uint8Array(33)]], 1)).toBe("SECURITY");
    expect(result("cryp_obj_populate", aes, 16, 1)).toBe("ACCESS_DENIED");
    expect(result("cryp_obj_populate", aes, [[Attr.SECRET_VALUE, secret]], 1)).toBe("TEE_SUCCESS");
    expect(result("cryp_obj_populate", aes, [[Attr.SECRET_VALUE, secret]], 1)).toBe("BAD_PARAMETERS");
    expect(result("cryp_obj_generate_key", aes, 128, 0, 0)).toBe("BAD_STATE");
    probe.ok("cryp_obj_reset", aes);
    expect(result("cryp_obj_generate_key", aes, 128, 0, 0)).toBe("TEE_SUCCESS");
  });

  it("of RSA take all primes or none", () => {
    const one = Buffer.from([1, 0, 1]);
    const parts = [
      [Attr.RSA_MODULUS, new Uint8Array(32).fill(0xff)],
      [Attr.RSA_PUBLIC_EXPONENT, one],
      [Attr.RSA_PRIVATE_EXPONENT, one],
    ] as const;
    const rsa = alloc(ObjectType.RSA_KEYPAIR, 256);
    expect(result("cryp_obj_populate", rsa, parts.slice(0, 2), 2)).toBe("ITEM_NOT_FOUND");
    expect(result("cryp_obj_populate", rsa, [...parts, [Attr.RSA_PRIME1, one]], 4)).toBe("ITEM_NOT_FOUND");
    expect(result("cryp_obj_populate", rsa, parts, 3)).toBe("TEE_SUCCESS");
    expect(result("cryp_obj_get_attr", rsa, Attr.RSA_PRIME1, room(32), u64(32))).toBe("ITEM_NOT_FOUND");
    expect(result("cryp_obj_get_attr", rsa, Attr.RSA_MODULUS, room(31), u64(31))).toBe("SHORT_BUFFER");
    expect(result("cryp_obj_get_attr", 99, Attr.RSA_MODULUS, room(32), u64(32))).toBe("ITEM_NOT_FOUND");
    expect(result("cryp_obj_get_attr", alloc(ObjectType.AES, 128), Attr.SECRET_VALUE, room(32), u64(32))).toBe(
      "BAD_PARAMETERS",
    );
  });

  it("are copied to empty ones of a fitting type", () => {
    const from = key(ObjectType.AES, 16);
    expect(result("cryp_obj_copy", alloc(ObjectType.DES, 64), from)).toBe("BAD_PARAMETERS");
    expect(result("cryp_obj_copy", from, from)).toBe("BAD_PARAMETERS");
    expect(result("cryp_obj_copy", alloc(ObjectType.AES, 128), alloc(ObjectType.AES, 128))).toBe("BAD_PARAMETERS");
    expect(result("cryp_obj_copy", 99, from)).toBe("BAD_STATE");
    for (const call of ["cryp_obj_get_info", "cryp_obj_restrict_usage", "cryp_obj_close", "cryp_obj_reset"])
      expect([call, result(call, 99, room(28))]).toEqual([call, "BAD_STATE"]);
  });
});

describe("operations", () => {
  it("take keys of their type, and keep them", () => {
    expect(stateResult(Alg.AES_CTR, Mode.ENCRYPT)).toBe("BAD_PARAMETERS");
    expect(stateResult(Alg.AES_CTR, Mode.ENCRYPT, key(ObjectType.DES, 8))).toBe("BAD_PARAMETERS");
    expect(stateResult(Alg.AES_CTR, Mode.ENCRYPT, 99)).toBe("BAD_STATE");
    expect(stateResult(Alg.AES_CTR, Mode.ENCRYPT, key(ObjectType.AES, 16), key(ObjectType.AES, 16))).toBe(
      "BAD_PARAMETERS",
    );
    expect(stateResult(Alg.AES_XTS, Mode.ENCRYPT, key(ObjectType.AES, 16))).toBe("BAD_PARAMETERS");
    expect(stateResult(Alg.SHA256, Mode.DIGEST, key(ObjectType.HMAC_SHA256, 32))).toBe("BAD_PARAMETERS");
    expect(stateResult(0x2000_0010, Mode.ENCRYPT)).toBe("NOT_SUPPORTED");
    expect(stateResult(0xefff_ffff, Mode.ENCRYPT)).toBe("NOT_SUPPORTED");
    const aes = key(ObjectType.AES, 16);
    const operation = state(Alg.AES_CTR, Mode.ENCRYPT, aes);
    expect(stateResult(Alg.AES_CTR, Mode.ENCRYPT, aes)).toBe("BAD_PARAMETERS");
    expect(result("cryp_obj_close", aes)).toBe("ITEM_NOT_FOUND");
    probe.ok("cryp_state_free", operation);
    expect(result("cryp_obj_close", aes)).toBe("BAD_STATE");
  });

  it("are initialized before they are used", () => {
    const cipher = state(Alg.AES_CBC_NOPAD, Mode.ENCRYPT, key(ObjectType.AES, 16));
    expect(result("cipher_update", cipher, room(16), 16, room(16), u64(16))).toBe("BAD_STATE");
    expect(result("cipher_init", cipher, room(15), 15)).toBe("BAD_PARAMETERS");
    probe.ok("cipher_init", cipher, room(16), 16);
    expect(result("cipher_update", cipher, room(15), 15, room(16), u64(16))).toBe("BAD_PARAMETERS");
    expect(result("cipher_update", cipher, room(32), 32, room(16), u64(16))).toBe("SHORT_BUFFER");
    expect(result("cipher_update", cipher, 16, 16, room(16), u64(16))).toBe("ACCESS_DENIED");
    probe.ok("cipher_final", cipher, room(16), 16, room(16), u64(16));
    expect(result("cipher_update", cipher, room(16), 16, room(16), u64(16))).toBe("BAD_STATE");
    expect(result("hash_init", cipher, 0, 0)).toBe("BAD_PARAMETERS");
    const digest = state(Alg.SHA256, Mode.DIGEST);
    expect(result("hash_update", digest, text("x"), 1)).toBe("BAD_STATE");
    expect(result("hash_update", digest, 0, 1)).toBe("BAD_PARAMETERS");
    expect(result("hash_final", digest, 0, 0, room(32), u64(32))).toBe("BAD_STATE");
    expect(result("cipher_init", digest, 0, 0)).toBe("BAD_STATE");
    expect(result("authenc_init", digest, room(12), 12, 16, 0, 0)).toBe("BAD_STATE");
    expect(result("cryp_state_copy", digest, cipher)).toBe("BAD_PARAMETERS");
    const empty = state(Alg.AES_CMAC, Mode.MAC, alloc(ObjectType.AES, 128));
    expect(result("hash_init", empty, 0, 0)).toBe("BAD_PARAMETERS");
    const mac = state(Alg.AES_CBC_MAC_NOPAD, Mode.MAC, key(ObjectType.AES, 16));
    probe.ok("hash_init", mac, 0, 0);
    expect(result("hash_final", mac, text("x"), 1, room(16), u64(16))).toBe("BAD_STATE");
    for (const call of ["hash_init", "cipher_init", "authenc_update_aad", "cryp_state_copy", "cryp_state_free"])
      expect([call, result(call, 99, room(16), 16)]).toEqual([call, "BAD_PARAMETERS"]);
  });

  it("of authenticated encryption go one way", () => {
    const make = (mode: number) => {
      const operation = state(Alg.AES_GCM, mode, key(ObjectType.AES, 16));
      expect(result("authenc_update_payload", operation, room(1), 1, room(1), u64(1))).toBe("BAD_STATE");
      expect(result("authenc_init", operation, room(12), 12, 17, 0, 0)).toBe("BAD_PARAMETERS");
      probe.ok("authenc_init", operation, room(12), 12, 16, 0, 0);
      return operation;
    };
    const encrypt = make(Mode.ENCRYPT);
    expect(result("authenc_dec_final", encrypt, 0, 0, 0, 0, room(16), 16)).toBe("BAD_PARAMETERS");
    probe.ok("authenc_update_payload", encrypt, room(4), 4, room(4), u64(4));
    expect(result("authenc_update_aad", encrypt, room(4), 4)).toBe("BAD_STATE");
    expect(result("authenc_enc_final", encrypt, 0, 0, 0, 0, room(15), u64(15))).toBe("SHORT_BUFFER");
    probe.ok("authenc_enc_final", encrypt, 0, 0, 0, 0, room(16), u64(16));
    expect(result("authenc_enc_final", encrypt, 0, 0, 0, 0, room(16), u64(16))).toBe("BAD_STATE");
    expect(result("authenc_enc_final", make(Mode.DECRYPT), 0, 0, 0, 0, room(16), u64(16))).toBe("BAD_PARAMETERS");
  });

  it("of asymmetric keys check mode, digest and buffer", () => {
    const rsa = alloc(ObjectType.RSA_KEYPAIR, 512);
    probe.ok("cryp_obj_generate_key", rsa, 512, 0, 0);
    const open = alloc(ObjectType.RSA_PUBLIC_KEY, 512);
    probe.ok("cryp_obj_copy", open, rsa);
    expect(stateResult(Alg.RSASSA_PKCS1_V1_5_SHA256, Mode.SIGN, open)).toBe("BAD_PARAMETERS");
    const signs = state(Alg.RSASSA_PKCS1_V1_5_SHA256, Mode.SIGN, rsa);
    const sign = (length: number, space: number) =>
      result("asymm_operate", signs, 0, 0, room(length), length, room(space), u64(space));
    expect(sign(20, 64)).toBe("BAD_PARAMETERS");
    expect(sign(32, 63)).toBe("SHORT_BUFFER");
    expect(sign(32, 64)).toBe("TEE_SUCCESS");
    expect(result("asymm_verify", signs, 0, 0, room(32), 32, room(64), 64)).toBe("BAD_PARAMETERS");
    const verifies = state(Alg.RSASSA_PKCS1_V1_5_SHA256, Mode.VERIFY, open);
    expect(result("asymm_operate", verifies, 0, 0, room(32), 32, room(64), u64(64))).toBe("BAD_PARAMETERS");
    expect(result("asymm_verify", verifies, 0, 0, room(32), 32, room(63), 63)).toBe("SIGNATURE_INVALID");
    expect(result("asymm_verify", verifies, 0, 0, room(31), 31, room(64), 64)).toBe("BAD_PARAMETERS");
    const digest = state(Alg.SHA1, Mode.DIGEST);
    expect(result("asymm_operate", digest, 0, 0, room(1), 1, room(64), u64(64))).toBe("BAD_STATE");
    expect(result("cryp_derive_key", digest, 0, 0, alloc(ObjectType.AES, 128))).toBe("BAD_STATE");
  });
});

describe("pointers", () => {
  it("are checked before anything is done", () => {
    const operation = state(Alg.SHA256, Mode.DIGEST);
    probe.ok("hash_init", operation, 0, 0);
    const bad = [16, 0x7fff_ffff_f000, 2n ** 63n, 2n ** 64n - 1n] as const;
    for (const address of bad) {
      expect(result("hash_update", operation, address, 16)).toBe("ACCESS_DENIED");
      expect(result("hash_final", operation, 0, 0, address, u64(32))).toBe("ACCESS_DENIED");
      expect(result("hash_final", operation, 0, 0, room(32), address)).toBe("ACCESS_DENIED");
      expect(result("cryp_random_number_generate", address, 1)).toBe("ACCESS_DENIED");
      expect(result("get_time", 0, address)).toBe("ACCESS_DENIED");
      expect(result("cryp_state_alloc", Alg.SHA256, Mode.DIGEST, 0, 0, address)).toBe("ACCESS_DENIED");
      expect(result("open_ta_session", address, 0, 0, u32(), u32())).toBe("ACCESS_DENIED");
    }
    // What failed left no trace in the digest.
    const [, digest] = probe.ok("hash_final", operation, bytes(Buffer.from("abc")), 3, room(32), u64(32));
    expect(Buffer.from(digest ?? []).toString("hex")).toMatch(/^ba7816bf/);
  });

  it("with lengths beyond all memory are no memory of ours", () => {
    for (const length of [2n ** 40n, 2n ** 63n, 2n ** 64n - 1n]) {
      expect(result("cryp_random_number_generate", room(8), length)).toBe("ACCESS_DENIED");
      expect(result("hash_update", state(Alg.SHA256, Mode.DIGEST), room(8), length)).toBe("ACCESS_DENIED");
      expect(result("log", room(8), length)).toMatch(/^(ACCESS_DENIED|TEE_SUCCESS)$/);
    }
  });
});
