/**
 * Published vectors by number and result, for what `symmetric.test.ts` and `asymmetric.test.ts` compare with OpenSSL only.
 * `npx tsx test/shims/optee/wycheproof.ts DIR` runs the thousands of Project Wycheproof.
 */
import { createHash } from "node:crypto";
import { afterAll, describe, expect, it } from "vitest";
import { Alg, Attr, ObjectType } from "../../../shims/optee/algorithms.ts";
import { Mode } from "../../../shims/optee/constants.ts";
import { type AttributeList, bytes, hex, Probe, room, u64, word } from "./probe.ts";

const probe = new Probe();
afterAll(() => probe.close());

const from = (digits: string): Buffer => Buffer.from(digits.replace(/\s/g, ""), "hex");
const url = (text: string): Buffer => Buffer.from(text, "base64url");

function object(type: number, bits: number, attributes: AttributeList): number {
  const handle = probe.handle("cryp_obj_alloc", type, bits);
  probe.ok("cryp_obj_populate", handle, attributes, attributes.length);
  return handle;
}
const secret = (type: number, value: Uint8Array): number =>
  object(type, value.length * 8, [[Attr.SECRET_VALUE, value]]);
const state = (algorithm: number, mode: number, key = 0): number =>
  probe.handle("cryp_state_alloc", algorithm, mode, key, 0);
const result = (out: readonly Uint8Array[], at: number): string => hex(out[at]?.subarray(0, word(out[at + 1])));

function hashed(operation: number, data: Uint8Array): string {
  probe.ok("hash_init", operation, 0, 0);
  return result(probe.ok("hash_final", operation, bytes(data), data.length, room(64), u64(64)), 1);
}

describe("digests of abc (FIPS 180-4 and FIPS 202, NIST's example values)", () => {
  it.each([
    ["SHA1", Alg.SHA1, "a9993e364706816aba3e25717850c26c9cd0d89d"],
    ["SHA224", Alg.SHA224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"],
    [
      "SHA384",
      Alg.SHA384,
      "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
    ],
    [
      "SHA512",
      Alg.SHA512,
      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ],
    ["SHA3_224", Alg.SHA3_224, "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf"],
    ["SHA3_256", Alg.SHA3_256, "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"],
    [
      "SHA3_384",
      Alg.SHA3_384,
      "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25",
    ],
    [
      "SHA3_512",
      Alg.SHA3_512,
      "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
    ],
  ])("%s", (_, algorithm, expected) => {
    expect(hashed(state(algorithm, Mode.DIGEST), Buffer.from("abc"))).toBe(expected);
  });
});

describe("MACs, case 4 of RFC 2202 and RFC 4231", () => {
  const key = from("0102030405060708090a0b0c0d0e0f10111213141516171819");
  it.each([
    ["HMAC-MD5", Alg.HMAC_MD5, ObjectType.HMAC_MD5, "697eaf0aca3a3aea3a75164746ffaa79"],
    ["HMAC-SHA1", Alg.HMAC_SHA1, ObjectType.HMAC_SHA1, "4c9007f4026250c6bc8414f9bf50c86c2d7235da"],
    [
      "HMAC-SHA224",
      Alg.HMAC_SHA224,
      ObjectType.HMAC_SHA224,
      "6c11506874013cac6a2abc1bb382627cec6a90d86efc012de7afec5a",
    ],
  ])("%s", (_, algorithm, type, expected) => {
    expect(hashed(state(algorithm, Mode.MAC, secret(type, key)), Buffer.alloc(50, 0xcd))).toBe(expected);
  });
});

describe("ciphers", () => {
  const k128 = "2b7e151628aed2a6abf7158809cf4f3c";
  const k192 = "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b";
  const k256 = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
  const iv = "000102030405060708090a0b0c0d0e0f";
  const counter = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";
  const first = "6bc1bee22e409f96e93d7e117393172a";
  const plain = `${first}ae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710`;
  const { AES_ECB_NOPAD: ECB, AES_CBC_NOPAD: CBC, AES_CTR: CTR } = Alg;
  it.each([
    [
      "ECB-AES128, NIST SP 800-38A F.1.1",
      ECB,
      k128,
      "",
      plain,
      "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf43b1cd7f598ece23881b00e3ed0306887b0c785e27e8ad3f8223207104725dd4",
    ],
    ["ECB-AES192, F.1.3, block 1", ECB, k192, "", first, "bd334f1d6e45f25ff712a214571fa5cc"],
    ["ECB-AES256, F.1.5, block 1", ECB, k256, "", first, "f3eed1bdb5d2a03c064b5a7e3db181f8"],
    [
      "CBC-AES128, F.2.1",
      CBC,
      k128,
      iv,
      plain,
      "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
    ],
    ["CBC-AES192, F.2.3, block 1", CBC, k192, iv, first, "4f021db243bc633d7178183a9fa071e8"],
    ["CBC-AES256, F.2.5, block 1", CBC, k256, iv, first, "f58c4c04d6e5f1ba779eabfb5f7bfbd6"],
    [
      "CTR-AES128, F.5.1",
      CTR,
      k128,
      counter,
      plain,
      "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee",
    ],
    ["CTR-AES192, F.5.3, block 1", CTR, k192, counter, first, "1abc932417521ca24f2b0459fe7e6e0b"],
    ["CTR-AES256, F.5.5, block 1", CTR, k256, counter, first, "601ec313775789a5b7a7f504bbf3d228"],
    [
      "TDEA, NIST SP 800-67's example",
      Alg.DES3_ECB_NOPAD,
      "0123456789abcdef23456789abcdef01456789abcdef0123",
      "",
      Buffer.from("The qufck brown fox jump").toString("hex"),
      "a826fd8ce53b855fcce21c8112256fe668d5c05dd9b6b900",
    ],
  ])("%s", (_, algorithm, key, initial, text, expected) => {
    const type = algorithm === Alg.DES3_ECB_NOPAD ? ObjectType.DES3 : ObjectType.AES;
    for (const [mode, input, output] of [
      [Mode.ENCRYPT, text, expected],
      [Mode.DECRYPT, expected, text],
    ] as const) {
      const operation = state(algorithm, mode, secret(type, from(key)));
      probe.ok("cipher_init", operation, bytes(from(initial)), initial.length / 2);
      const data = from(input);
      const out = probe.ok("cipher_final", operation, bytes(data), data.length, room(data.length), u64(data.length));
      expect(result(out, 1)).toBe(output);
    }
  });
});

describe("RSA of RFC 7520", () => {
  const modulus = url(
    "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw",
  );
  const exponent = from("010001");
  const d = url(
    "bWUC9B-EFRIo8kpGfh0ZuyGPvMNKvYWNtB_ikiH9k20eT-O1q_I78eiZkpXxXQ0UTEs2LsNRS-8uJbvQ-A1irkwMSMkK1J3XTGgdrhCku9gRldY7sNA_AKZGh-Q661_42rINLRCe8W-nZ34ui_qOfkLnK9QWDDqpaIsA-bMwWWSDFu2MUBYwkHTMEzLYGqOe04noqeq1hExBTHBOBdkMXiuFhUq1BU6l-DqEiWxqg82sXt2h-LMnT3046AOYJoRioz75tSUQfGCshWTBnP5uDjd18kKhyv07lhfSJdrPdM5Plyl21hsFf4L_mHCuoFau7gdsPfHPxxjVOcOpBrQzwQ",
  );
  const payload =
    "It’s a dangerous business, Frodo, going out your door. You step onto the road, and if you don't keep your feet, there’s no knowing where you might be swept off to.";
  const digest = (hash: string, algorithm: string): Buffer => {
    const header = Buffer.from(`{"alg":"${algorithm}","kid":"bilbo.baggins@hobbiton.example"}`).toString("base64url");
    return createHash(hash)
      .update(`${header}.${Buffer.from(payload).toString("base64url")}`)
      .digest();
  };
  const rs256 = url(
    "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
  );
  const ps384 = url(
    "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw",
  );
  const publicKey = () =>
    object(ObjectType.RSA_PUBLIC_KEY, 2048, [
      [Attr.RSA_MODULUS, modulus],
      [Attr.RSA_PUBLIC_EXPONENT, exponent],
    ]);

  it("4.1: PKCS#1 v1.5 with SHA-256, signed", () => {
    const key = object(ObjectType.RSA_KEYPAIR, 2048, [
      [Attr.RSA_MODULUS, modulus],
      [Attr.RSA_PUBLIC_EXPONENT, exponent],
      [Attr.RSA_PRIVATE_EXPONENT, d],
    ]);
    const operation = state(Alg.RSASSA_PKCS1_V1_5_SHA256, Mode.SIGN, key);
    const data = digest("sha256", "RS256");
    const out = probe.ok("asymm_operate", operation, 0, 0, bytes(data), data.length, room(256), u64(256));
    expect(result(out, 1)).toBe(rs256.toString("hex"));
  });

  it.each([
    ["4.1", Alg.RSASSA_PKCS1_V1_5_SHA256, "sha256", "RS256", rs256],
    ["4.2", Alg.RSASSA_PKCS1_PSS_MGF1_SHA384, "sha384", "PS384", ps384],
  ] as const)("%s: verified, and with a changed bit not", (_, algorithm, hash, name, signature) => {
    const verify = (sig: Uint8Array): string => {
      const data = digest(hash, name);
      const operation = state(algorithm, Mode.VERIFY, publicKey());
      return probe.call("asymm_verify", operation, 0, 0, bytes(data), data.length, bytes(sig), sig.length).result;
    };
    expect(verify(signature)).toBe("TEE_SUCCESS");
    const changed = Buffer.from(signature);
    changed[100] = (changed[100] ?? 0) ^ 1;
    expect(verify(changed)).toBe("TEE_ERROR_SIGNATURE_INVALID");
  });
});

describe("elliptic curves", () => {
  it.each([
    [
      "A.2.5, P-256 with SHA-256",
      3,
      256,
      Alg.ECDSA_SHA256,
      "sha256",
      "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
      "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
      "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
    ],
    [
      "A.2.6, P-384 with SHA-384",
      4,
      384,
      Alg.ECDSA_SHA384,
      "sha384",
      "ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13",
      "8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720",
      "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe4699ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8",
    ],
  ])("ECDSA of RFC 6979, %s, sample", (_, curve, bits, algorithm, hash, x, y, signature) => {
    const key = object(ObjectType.ECDSA_PUBLIC_KEY, bits, [
      [Attr.ECC_PUBLIC_VALUE_X, from(x)],
      [Attr.ECC_PUBLIC_VALUE_Y, from(y)],
      [Attr.ECC_CURVE, curve],
    ]);
    const data = createHash(hash).update("sample").digest();
    const sig = from(signature);
    const verify = () =>
      probe.call("asymm_verify", operation, 0, 0, bytes(data), data.length, bytes(sig), sig.length).result;
    const operation = state(algorithm, Mode.VERIFY, key);
    expect(verify()).toBe("TEE_SUCCESS");
    sig[3] = (sig[3] ?? 0) ^ 1;
    expect(verify()).toBe("TEE_ERROR_SIGNATURE_INVALID");
  });

  function derived(operation: number, other: AttributeList, bits: number): string {
    const target = probe.handle("cryp_obj_alloc", ObjectType.GENERIC_SECRET, bits);
    probe.ok("cryp_derive_key", operation, other, other.length, target);
    return result(probe.ok("cryp_obj_get_attr", target, Attr.SECRET_VALUE, room(128), u64(128)), 0);
  }

  it("ECDH of RFC 5903, 8.1", () => {
    const key = object(ObjectType.ECDH_KEYPAIR, 256, [
      [Attr.ECC_PRIVATE_VALUE, from("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433")],
      [Attr.ECC_PUBLIC_VALUE_X, from("dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180")],
      [Attr.ECC_PUBLIC_VALUE_Y, from("5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3")],
      [Attr.ECC_CURVE, 3],
    ]);
    const other: AttributeList = [
      [Attr.ECC_PUBLIC_VALUE_X, from("d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63")],
      [Attr.ECC_PUBLIC_VALUE_Y, from("56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab")],
    ];
    expect(derived(state(Alg.ECDH_DERIVE_SHARED_SECRET, Mode.DERIVE, key), other, 256)).toBe(
      "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de",
    );
  });

  it("X448 of RFC 7748, 6.2", () => {
    const key = object(ObjectType.X448_KEYPAIR, 448, [
      [
        Attr.X448_PRIVATE_VALUE,
        from(
          "9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28dd9c9baf574a9419744897391006382a6f127ab1d9ac2d8c0a598726b",
        ),
      ],
      [Attr.X448_PUBLIC_VALUE, new Uint8Array(56)],
    ]);
    const other: AttributeList = [
      [
        Attr.X448_PUBLIC_VALUE,
        from(
          "3eb7a829b0cd20f5bcfc0b599b6feccf6da4627107bdb0d4f345b43027d8b972fc3e34fb4232a13ca706dcb57aec3dae07bdc1c67bf33609",
        ),
      ],
    ];
    expect(derived(state(Alg.X448, Mode.DERIVE, key), other, 448)).toBe(
      "07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282bb60c0b56fd2464c335543936521c24403085d59a449a5037514a879d",
    );
  });

  it("the concatenation KDF of RFC 7518, appendix C", () => {
    const z = Buffer.from([
      158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49, 110, 163, 218, 128, 106, 72,
      246, 218, 167, 121, 140, 254, 144, 196,
    ]);
    const key = object(ObjectType.CONCAT_KDF_Z, 256, [[Attr.CONCAT_KDF_Z, z]]);
    const info = Buffer.from("\0\0\0\x07A128GCM\0\0\0\x05Alice\0\0\0\x03Bob\0\0\0\x80", "latin1");
    const parameters: AttributeList = [
      [Attr.CONCAT_KDF_OTHER_INFO, info],
      [Attr.CONCAT_KDF_DKM_LENGTH, 16],
    ];
    const operation = state(Alg.CONCAT_KDF_SHA256_DERIVE_KEY, Mode.DERIVE, key);
    expect(derived(operation, parameters, 128)).toBe(url("VqqN6vgjbSBcIijNcacQGg").toString("hex"));
  });
});
