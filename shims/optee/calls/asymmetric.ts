/** Asymmetric operations: asymm_operate encrypts, decrypts and signs; asymm_verify checks signatures. */
import { asymmetricFamily } from "../algorithm-fields.ts";
import { readAttributes } from "../attributes.ts";
import type { Call } from "../call.ts";
import { Mode } from "../constants.ts";
import { keyOf, stateOf } from "../handles-of.ts";
import { attributes, bytes, handle, outBytes, outU64, size, ulong } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { fail, Tee } from "../results.ts";
import { arg, type Row, row } from "../table.ts";
import { operateRsa, verifyRsa } from "./rsa.ts";
import { signByDsa, signByEcdsa, signByEd25519, verifyByDsa, verifyByEcdsa, verifyByEd25519 } from "./signatures.ts";

const OUTPUT = MemoryAccess.READ | MemoryAccess.WRITE | MemoryAccess.ANY_OWNER;

function operate(
  call: Call,
  handleOfState: number,
  params: number,
  count: number,
  src: number,
  length: number,
  dst: number,
  dstLength: number,
): number {
  const { memory } = call;
  const state = stateOf(call, handleOfState);
  const data = memory.bytes(src, length);
  const room = memory.u64(dstLength);
  memory.check(OUTPUT, dst, room);
  const given = readAttributes(call, params, count);
  const key = keyOf(call, state, Tee.ERROR_GENERIC);
  const use = { call, key, algorithm: state.algorithm, mode: state.mode, given, data, room };
  const family = asymmetricFamily(state.algorithm);
  let result: Uint8Array | { readonly needed: number };
  switch (family) {
    case "rsa":
      result = operateRsa(use);
      break;
    case "dsa":
      result = signByDsa(use);
      break;
    case "ecdsa":
      result = signByEcdsa(use);
      break;
    case "ed25519":
      result = signByEd25519(use);
      break;
    default:
      return fail(Tee.ERROR_BAD_PARAMETERS, "the algorithm neither encrypts nor signs");
  }
  const needed = result instanceof Uint8Array ? result.length : result.needed;
  memory.setU64(dstLength, needed);
  if (!(result instanceof Uint8Array) || room < needed)
    return fail(Tee.ERROR_SHORT_BUFFER, `the result has ${needed} bytes`);
  memory.write(dst, result);
  return Tee.SUCCESS;
}

function verify(
  call: Call,
  handleOfState: number,
  params: number,
  count: number,
  src: number,
  length: number,
  sig: number,
  sigLength: number,
): number {
  const { memory } = call;
  const state = stateOf(call, handleOfState);
  if (state.mode !== Mode.VERIFY) fail(Tee.ERROR_BAD_PARAMETERS, "the operation does not verify");
  const data = memory.bytes(src, length);
  const signature = memory.bytes(sig, sigLength);
  const given = readAttributes(call, params, count);
  const key = keyOf(call, state);
  const use = { call, key, algorithm: state.algorithm, mode: state.mode, given, data, room: 0 };
  const check = { rsa: verifyRsa, dsa: verifyByDsa, ecdsa: verifyByEcdsa, ed25519: verifyByEd25519 };
  const family = asymmetricFamily(state.algorithm);
  if (family !== "rsa" && family !== "dsa" && family !== "ecdsa" && family !== "ed25519")
    return fail(Tee.ERROR_NOT_SUPPORTED, "the algorithm does not sign");
  if (!check[family](use, signature)) fail(Tee.ERROR_SIGNATURE_INVALID);
  return Tee.SUCCESS;
}

const head = [
  arg("state", handle),
  arg("params", attributes(2)),
  arg("num_params", ulong),
  arg("src_data", bytes(4)),
  arg("src_len", size),
];

export const asymmetricCalls: readonly Row[] = [
  row(39, "asymm_operate", [...head, arg("dest_data", outBytes(6)), arg("dest_len", outU64)], operate),
  row(40, "asymm_verify", [...head, arg("sig", bytes(6)), arg("sig_len", size)], verify),
];
