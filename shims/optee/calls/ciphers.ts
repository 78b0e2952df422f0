/** Symmetric ciphers: cipher_init, cipher_update, cipher_final. */
import type { Call } from "../call.ts";
import { OperationClass } from "../constants.ts";
import { keyOf, objectOf, stateOf } from "../handles-of.ts";
import { bytes, handle, outBytes, outU64, size } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { fail, Tee } from "../results.ts";
import { startCipher } from "../states.ts";
import { arg, type Row, row } from "../table.ts";

const OUTPUT = MemoryAccess.READ | MemoryAccess.WRITE | MemoryAccess.ANY_OWNER;

function cipherInit(call: Call, handleOfState: number, iv: number, ivLength: number): number {
  const state = stateOf(call, handleOfState);
  if (state.kind !== OperationClass.CIPHER) fail(Tee.ERROR_BAD_STATE, "not a cipher");
  const key1 = keyOf(call, state);
  const initial = call.memory.bytes(iv, ivLength);
  const key2 = state.key2 === 0 ? undefined : objectOf(call, state.key2);
  if (key2 !== undefined && !key2.initialized) fail(Tee.ERROR_BAD_PARAMETERS, "the second key is not initialized");
  state.cipher = startCipher(state, key1, key2, initial);
  return Tee.SUCCESS;
}

function process(
  call: Call,
  handleOfState: number,
  src: number,
  length: number,
  dst: number,
  dstLength: number,
  last: boolean,
): number {
  const { memory } = call;
  const state = stateOf(call, handleOfState);
  const { cipher } = state;
  if (cipher === undefined) return fail(Tee.ERROR_BAD_STATE, "the operation is not initialized");
  const data = memory.bytes(src, length);
  const room = dstLength === 0 ? 0 : memory.u64(dstLength);
  memory.check(OUTPUT, dst, room);
  if (room < length) {
    if (dstLength !== 0) memory.setU64(dstLength, length);
    return fail(Tee.ERROR_SHORT_BUFFER, `the result has ${length} bytes`);
  }
  if (length > 0) memory.write(dst, cipher.update(data, last));
  if (last) state.cipher = undefined;
  if (dstLength !== 0) memory.setU64(dstLength, length);
  return Tee.SUCCESS;
}

function cipherUpdate(call: Call, state: number, src: number, length: number, dst: number, dstLength: number): number {
  return process(call, state, src, length, dst, dstLength, false);
}

function cipherFinal(call: Call, state: number, src: number, length: number, dst: number, dstLength: number): number {
  return process(call, state, src, length, dst, dstLength, true);
}

const pieces = [
  arg("state", handle),
  arg("src", bytes(2)),
  arg("src_len", size),
  arg("dest", outBytes(4)),
  arg("dest_len", outU64),
];

export const cipherCalls: readonly Row[] = [
  row(21, "cipher_init", [arg("state", handle), arg("iv", bytes(2)), arg("iv_len", size)], cipherInit),
  row(22, "cipher_update", pieces, cipherUpdate),
  row(23, "cipher_final", pieces, cipherFinal),
];
