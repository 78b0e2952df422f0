/** Digests and MACs: hash_init, hash_update, hash_final. */
import type { Call } from "../call.ts";
import { OperationClass } from "../constants.ts";
import { createDigest } from "../crypto/hash.ts";
import { CbcMac } from "../crypto/mac.ts";
import { keyOf, stateOf } from "../handles-of.ts";
import { bytes, handle, outBytes, outU64, pointer, size } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { fail, Tee } from "../results.ts";
import { createMac } from "../states.ts";
import { arg, type Row, row } from "../table.ts";

function hashInit(call: Call, handleOfState: number): number {
  const state = stateOf(call, handleOfState);
  switch (state.kind) {
    case OperationClass.DIGEST:
      state.digest = createDigest(state.algorithm);
      return Tee.SUCCESS;
    case OperationClass.MAC:
      state.mac = createMac(state.algorithm, keyOf(call, state));
      return Tee.SUCCESS;
    default:
      return fail(Tee.ERROR_BAD_PARAMETERS, "neither a digest nor a MAC");
  }
}

function hashUpdate(call: Call, handleOfState: number, chunk: number, length: number): number {
  if (chunk === 0 && length !== 0) fail(Tee.ERROR_BAD_PARAMETERS, "no data, but a length");
  if (length === 0) return Tee.SUCCESS;
  const data = call.memory.bytes(chunk, length);
  const state = stateOf(call, handleOfState);
  const running = state.digest ?? state.mac;
  if (running === undefined) return fail(Tee.ERROR_BAD_STATE, "the operation is not initialized");
  running.update(data);
  return Tee.SUCCESS;
}

function hashFinal(
  call: Call,
  handleOfState: number,
  chunk: number,
  length: number,
  hash: number,
  hashLength: number,
): number {
  if (chunk === 0 && length !== 0) fail(Tee.ERROR_BAD_PARAMETERS, "no data, but a length");
  const { memory } = call;
  const data = memory.bytes(chunk, length);
  const room = memory.u64(hashLength);
  memory.check(MemoryAccess.READ | MemoryAccess.WRITE | MemoryAccess.ANY_OWNER, hash, room);
  const state = stateOf(call, handleOfState);
  const running = state.digest ?? state.mac;
  if (running === undefined) return fail(Tee.ERROR_BAD_STATE, "the operation is not initialized");
  if (running.size > room) {
    memory.setU64(hashLength, running.size);
    return fail(Tee.ERROR_SHORT_BUFFER, `the result has ${running.size} bytes`);
  }
  if (length > 0) running.update(data);
  if (running instanceof CbcMac && !running.complete)
    return fail(Tee.ERROR_BAD_STATE, "the message is not made of whole blocks");
  const result = state.digest !== undefined ? state.digest.final(room) : (state.mac?.final() ?? data);
  memory.write(hash, result);
  if (running.size > 0) {
    memory.setU64(hashLength, result.length);
    state.digest = undefined;
    state.mac = undefined;
  }
  return Tee.SUCCESS;
}

export const digestCalls: readonly Row[] = [
  row(18, "hash_init", [arg("state", handle), arg("iv", pointer), arg("iv_len", size)], hashInit),
  row(19, "hash_update", [arg("state", handle), arg("chunk", bytes(2)), arg("chunk_size", size)], hashUpdate),
  row(
    20,
    "hash_final",
    [
      arg("state", handle),
      arg("chunk", bytes(2)),
      arg("chunk_size", size),
      arg("hash", outBytes(4)),
      arg("hash_len", outU64),
    ],
    hashFinal,
  ),
];
