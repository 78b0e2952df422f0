/** Objects and operations in the states that the tables of wrong states want, made through the probe TA. */
import { describe, expect, it } from "vitest";
import { Alg, Attr, ObjectType } from "../../../shims/optee/algorithms.ts";
import { DataFlag, Mode } from "../../../shims/optee/constants.ts";
import { type Argument, bytes, type Probe, room, text, u32, u64 } from "./probe.ts";

/** The number of nothing. */
export const NONE = 9999;
/** A block of a cipher, all zeros. */
export const block = new Uint8Array(16);
const ALL = DataFlag.ACCESS_READ | DataFlag.ACCESS_WRITE | DataFlag.ACCESS_WRITE_META;

/** `source`: the function of OP-TEE that gives the answer, or a section of the specification. */
type Row = readonly [wrong: string, answer: string, source: string, tried: () => string];
export const row = (...cells: Row): Row => cells;

export function table(name: string, rows: readonly Row[]): void {
  describe(name, () => {
    it.each(rows)("%s: %s (%s)", (_, expected, __, call) => {
      expect(call()).toBe(expected);
    });
  });
}

export function stateTools(probe: Probe) {
  const answer = (call: string, ...args: readonly Argument[]): string =>
    probe.call(call, ...args).result.replace(/^TEE_(ERROR_)?/, "");
  const alloc = (type: number, bits: number): number => probe.handle("cryp_obj_alloc", type, bits);
  function key(type: number = ObjectType.AES, length = 16): number {
    const object = alloc(type, length * 8);
    probe.ok("cryp_obj_populate", object, [[Attr.SECRET_VALUE, new Uint8Array(length)]], 1);
    return object;
  }
  function pair(type: number, bits: number, curve?: number): number {
    const object = alloc(type, bits);
    if (curve === undefined) probe.ok("cryp_obj_generate_key", object, bits, 0, 0);
    else probe.ok("cryp_obj_generate_key", object, bits, [[Attr.ECC_CURVE, curve]], 1);
    return object;
  }
  const state = (algorithm: number, mode: number, key1 = 0, key2 = 0): number =>
    probe.handle("cryp_state_alloc", algorithm, mode, key1, key2);
  const tried = (algorithm: number, mode: number, key1 = 0, key2 = 0): string =>
    answer("cryp_state_alloc", algorithm, mode, key1, key2, u32());

  let files = 0;
  /** A persistent object with four bytes, opened with these flags. */
  function stored(flags: number = ALL, attr = 0): number {
    const name = `f${files++}`;
    const object = probe.handle("storage_obj_create", 1, text(name), name.length, ALL, attr, text("abcd"), 4);
    probe.ok("cryp_obj_close", object);
    return probe.handle("storage_obj_open", 1, text(name), name.length, flags);
  }

  const aes = (algorithm: number = Alg.AES_CBC_NOPAD, mode: number = Mode.ENCRYPT): number =>
    state(algorithm, mode, key());
  function running(algorithm?: number, mode?: number): number {
    const operation = aes(algorithm, mode);
    probe.ok("cipher_init", operation, bytes(block), 16);
    return operation;
  }
  function gcm(mode: number = Mode.ENCRYPT): number {
    const operation = aes(Alg.AES_GCM, mode);
    probe.ok("authenc_init", operation, room(12), 12, 16, 0, 0);
    return operation;
  }
  function digest(): number {
    const operation = state(Alg.SHA256, Mode.DIGEST);
    probe.ok("hash_init", operation, 0, 0);
    return operation;
  }
  const mac = (): number => state(Alg.HMAC_SHA256, Mode.MAC, key(ObjectType.HMAC_SHA256, 32));
  const rsa = pair(ObjectType.RSA_KEYPAIR, 512);
  function rsaKey(type: number = ObjectType.RSA_KEYPAIR): number {
    const copy = alloc(type, 512);
    probe.ok("cryp_obj_copy", copy, rsa);
    return copy;
  }
  const signs = (mode: number = Mode.SIGN): number => state(Alg.RSASSA_PKCS1_V1_5_SHA256, mode, rsaKey());

  const update = (operation: number): string => answer("cipher_update", operation, bytes(block), 16, room(16), u64(16));
  const final = (operation: number): string => answer("hash_final", operation, 0, 0, room(32), u64(32));
  const sign = (operation: number, length = 32): string =>
    answer("asymm_operate", operation, 0, 0, room(length), length, room(64), u64(64));
  const verify = (operation: number): string => answer("asymm_verify", operation, 0, 0, room(32), 32, room(64), 64);

  return {
    answer,
    alloc,
    key,
    pair,
    state,
    tried,
    stored,
    aes,
    running,
    gcm,
    digest,
    mac,
    rsa,
    rsaKey,
    signs,
    update,
    final,
    sign,
    verify,
    lastFile: () => `f${files - 1}`,
  };
}
