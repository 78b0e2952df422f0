/** Authenticated encryption: authenc_init, update_aad, update_payload, enc_final, dec_final. */
import { timingSafeEqual } from "node:crypto";
import type { Call } from "../call.ts";
import { Mode, OperationClass } from "../constants.ts";
import type { AuthencState } from "../crypto/authenc.ts";
import { keyOf, stateOf } from "../handles-of.ts";
import { bytes, handle, outBytes, outU64, size } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { fail, Tee } from "../results.ts";
import { type CryptoState, startAuthenc } from "../states.ts";
import { arg, type Row, row } from "../table.ts";

const OUTPUT = MemoryAccess.READ | MemoryAccess.WRITE | MemoryAccess.ANY_OWNER;

function authencInit(
  call: Call,
  handleOfState: number,
  nonce: number,
  nonceLength: number,
  tag: number,
  aad: number,
  payload: number,
): number {
  const state = stateOf(call, handleOfState);
  if (state.kind !== OperationClass.AE) fail(Tee.ERROR_BAD_STATE, "not authenticated encryption");
  const key = keyOf(call, state);
  state.authenc = startAuthenc(state, key, call.memory.bytes(nonce, nonceLength), { tag, aad, payload });
  return Tee.SUCCESS;
}

function running(state: CryptoState): AuthencState {
  return state.authenc ?? fail(Tee.ERROR_BAD_STATE, "the operation is not initialized");
}

function updateAad(call: Call, handleOfState: number, data: number, length: number): number {
  const aad = call.memory.bytes(data, length);
  running(stateOf(call, handleOfState)).aad(aad);
  return Tee.SUCCESS;
}

/** Processes the payload into the caller's buffer; SHORT_BUFFER, with the length needed, when it does not fit. */
function payload(call: Call, state: AuthencState, src: number, length: number, dst: number, dstLength: number): void {
  const { memory } = call;
  const data = memory.bytes(src, length);
  const room = dstLength === 0 ? 0 : memory.u64(dstLength);
  memory.check(OUTPUT, dst, room);
  if (room < length) {
    if (dstLength !== 0) memory.setU64(dstLength, length);
    fail(Tee.ERROR_SHORT_BUFFER, `the result has ${length} bytes`);
  }
  memory.write(dst, state.update(data));
  if (dstLength !== 0) memory.setU64(dstLength, length);
}

function updatePayload(
  call: Call,
  handleOfState: number,
  src: number,
  length: number,
  dst: number,
  dstLength: number,
): number {
  const state = running(stateOf(call, handleOfState));
  payload(call, state, src, length, dst, dstLength);
  return Tee.SUCCESS;
}

function encFinal(
  call: Call,
  handleOfState: number,
  src: number,
  length: number,
  dst: number,
  dstLength: number,
  tag: number,
  tagLength: number,
): number {
  const { memory } = call;
  const operation = stateOf(call, handleOfState);
  const state = running(operation);
  if (operation.mode !== Mode.ENCRYPT) fail(Tee.ERROR_BAD_PARAMETERS, "the operation decrypts");
  const room = memory.u64(tagLength);
  memory.check(OUTPUT, tag, room);
  if (room < state.tagLength) {
    memory.setU64(tagLength, state.tagLength);
    fail(Tee.ERROR_SHORT_BUFFER, `the tag has ${state.tagLength} bytes`);
  }
  payload(call, state, src, length, dst, dstLength);
  const result = state.tag();
  memory.write(tag, result);
  memory.setU64(tagLength, result.length);
  operation.authenc = undefined;
  return Tee.SUCCESS;
}

function decFinal(
  call: Call,
  handleOfState: number,
  src: number,
  length: number,
  dst: number,
  dstLength: number,
  tag: number,
  tagLength: number,
): number {
  const operation = stateOf(call, handleOfState);
  const state = running(operation);
  if (operation.mode !== Mode.DECRYPT) fail(Tee.ERROR_BAD_PARAMETERS, "the operation encrypts");
  const given = call.memory.bytes(tag, tagLength);
  payload(call, state, src, length, dst, dstLength);
  const expected = state.tag();
  operation.authenc = undefined;
  if (expected.length !== given.length || !timingSafeEqual(expected, given))
    fail(Tee.ERROR_MAC_INVALID, "the tag is another");
  return Tee.SUCCESS;
}

const pieces = [
  arg("state", handle),
  arg("src_data", bytes(2)),
  arg("src_len", size),
  arg("dest_data", outBytes(4)),
  arg("dest_len", outU64),
];

export const authencCalls: readonly Row[] = [
  row(
    34,
    "authenc_init",
    [
      arg("state", handle),
      arg("nonce", bytes(2)),
      arg("nonce_len", size),
      arg("tag_len", size),
      arg("aad_len", size),
      arg("payload_len", size),
    ],
    authencInit,
  ),
  row(
    35,
    "authenc_update_aad",
    [arg("state", handle), arg("aad_data", bytes(2)), arg("aad_data_len", size)],
    updateAad,
  ),
  row(36, "authenc_update_payload", pieces, updatePayload),
  row(37, "authenc_enc_final", [...pieces, arg("tag", outBytes(6)), arg("tag_len", outU64)], encFinal),
  row(38, "authenc_dec_final", [...pieces, arg("tag", bytes(6)), arg("tag_len", size)], decFinal),
];
