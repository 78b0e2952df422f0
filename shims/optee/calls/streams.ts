/** Data streams of persistent objects: storage_obj_read, _write, _trunc, _seek (5.9). */
import type { Call } from "../call.ts";
import { DATA_MAX_POSITION, DataFlag, Whence } from "../constants.ts";
import { objectOf } from "../handles-of.ts";
import { bytes, handle, i32, outBytes, outU64, size, whence as whenceKind } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import type { TeeObject } from "../objects.ts";
import { fail, Tee } from "../results.ts";
import type { SharedObject } from "../storage/shared-objects.ts";
import { arg, type Row, row } from "../table.ts";

/** Larger objects are refused as a full storage does. */
const OBJECT_MAX = 64 * 1024 * 1024;

function stream(object: TeeObject, access: number): SharedObject {
  const { shared } = object;
  if (shared === undefined) return fail(Tee.ERROR_BAD_STATE, "the object is not persistent");
  if ((object.flags & access) !== access) fail(Tee.ERROR_ACCESS_CONFLICT, "the handle was not opened for that");
  return shared;
}

function read(call: Call, number: number, data: number, length: number, count: number): number {
  const object = objectOf(call, number);
  const shared = stream(object, DataFlag.ACCESS_READ);
  if (object.position + length > Number.MAX_SAFE_INTEGER) fail(Tee.ERROR_OVERFLOW, "the length is too large");
  const { memory } = call;
  memory.check(MemoryAccess.WRITE, count, 8);
  const part = shared.data.subarray(object.position, object.position + length);
  memory.write(data, part);
  object.position += part.length;
  memory.setU64(count, part.length);
  return Tee.SUCCESS;
}

function write(call: Call, number: number, data: number, length: number): number {
  const object = objectOf(call, number);
  const shared = stream(object, DataFlag.ACCESS_WRITE);
  const end = object.position + length;
  if (end > DATA_MAX_POSITION) fail(Tee.ERROR_OVERFLOW, "beyond TEE_DATA_MAX_POSITION");
  const given = call.memory.bytes(data, length);
  if (length === 0) return Tee.SUCCESS;
  if (end > OBJECT_MAX) fail(Tee.ERROR_STORAGE_NO_SPACE, `an object has at most ${OBJECT_MAX} bytes`);
  // What was skipped reads as zero.
  const next = new Uint8Array(Math.max(shared.data.length, end));
  next.set(shared.data);
  next.set(given, object.position);
  shared.save({ data: next });
  object.position = end;
  return Tee.SUCCESS;
}

function truncate(call: Call, number: number, length: number): number {
  const object = objectOf(call, number);
  const shared = stream(object, DataFlag.ACCESS_WRITE);
  if (length > OBJECT_MAX) fail(Tee.ERROR_STORAGE_NO_SPACE, `an object has at most ${OBJECT_MAX} bytes`);
  const next = new Uint8Array(length);
  next.set(shared.data.subarray(0, length));
  shared.save({ data: next });
  return Tee.SUCCESS;
}

function seek(call: Call, number: number, offset: number, whence: number): number {
  const object = objectOf(call, number);
  if (object.shared === undefined) return fail(Tee.ERROR_BAD_STATE, "the object is not persistent");
  const from = { [Whence.SET]: 0, [Whence.CUR]: object.position, [Whence.END]: object.dataSize }[whence];
  if (from === undefined) return fail(Tee.ERROR_BAD_PARAMETERS, "no such origin");
  const position = Math.max(0, from + offset);
  if (position > DATA_MAX_POSITION) fail(Tee.ERROR_OVERFLOW, "beyond TEE_DATA_MAX_POSITION");
  object.position = position;
  return Tee.SUCCESS;
}

export const streamCalls: readonly Row[] = [
  row(
    50,
    "storage_obj_read",
    [arg("obj", handle), arg("data", outBytes(3)), arg("len", size), arg("count", outU64)],
    read,
  ),
  row(51, "storage_obj_write", [arg("obj", handle), arg("data", bytes(2)), arg("len", size)], write),
  row(52, "storage_obj_trunc", [arg("obj", handle), arg("len", size)], truncate),
  row(53, "storage_obj_seek", [arg("obj", handle), arg("offset", i32), arg("whence", whenceKind)], seek),
];
