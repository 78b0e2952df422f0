/** Enumerators of persistent objects (5.8). */
import type { Call } from "../call.ts";
import { HandleFlag, OBJECT_ID_MAX } from "../constants.ts";
import { enumeratorOf } from "../handles-of.ts";
import { handle, outBytes, outU32, outU64, pointer, storageId } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { fail, Tee } from "../results.ts";
import { StorageEnumerator } from "../storage/enumerator.ts";
import { arg, type Row, row } from "../table.ts";
import { OBJECT_INFO_BYTES } from "./objects.ts";
import { checkStorage, readStored } from "./storage.ts";

function alloc(call: Call, out: number): number {
  if (out === 0) fail(Tee.ERROR_BAD_PARAMETERS, "nowhere to put the handle");
  call.memory.check(MemoryAccess.WRITE, out, 4);
  call.memory.setU32(out, call.instance.enumerators.add(new StorageEnumerator()));
  return Tee.SUCCESS;
}

function free(call: Call, number: number): number {
  enumeratorOf(call, number);
  call.instance.enumerators.remove(number);
  return Tee.SUCCESS;
}

function reset(call: Call, number: number): number {
  enumeratorOf(call, number).reset();
  return Tee.SUCCESS;
}

function start(call: Call, number: number, storage: number): number {
  const enumerator = enumeratorOf(call, number);
  enumerator.reset();
  checkStorage(storage);
  const names = call.tee.store.list(call.instance.uuid);
  if (names.length === 0) fail(Tee.ERROR_ITEM_NOT_FOUND, "the TA has no objects");
  enumerator.start(names);
  return Tee.SUCCESS;
}

function next(call: Call, number: number, info: number, id: number, length: number): number {
  const { memory, instance } = call;
  const enumerator = enumeratorOf(call, number);
  memory.check(MemoryAccess.WRITE, info, OBJECT_INFO_BYTES);
  memory.check(MemoryAccess.WRITE, id, OBJECT_ID_MAX);
  memory.check(MemoryAccess.WRITE, length, 8);
  if (!enumerator.started) fail(Tee.ERROR_ITEM_NOT_FOUND, "the enumerator has not been started");
  for (let found = enumerator.next(); found !== undefined; found = enumerator.next()) {
    const stored = readStored(call, { ta: instance.uuid, id: found });
    // Removed since the enumeration started.
    if (stored === undefined) continue;
    const flags = HandleFlag.PERSISTENT | HandleFlag.INITIALIZED;
    const { type, size, maxSize, usage, data } = stored;
    [type, size, maxSize, usage, data.length, 0, flags].forEach((value, index) => {
      memory.setU32(info + 4 * index, value);
    });
    const name = Buffer.from(found, "hex");
    memory.write(id, name);
    memory.setU64(length, name.length);
    return Tee.SUCCESS;
  }
  return fail(Tee.ERROR_ITEM_NOT_FOUND, "there are no more");
}

export const enumeratorCalls: readonly Row[] = [
  row(45, "storage_alloc_enum", [arg("obj_enum", outU32)], alloc),
  row(46, "storage_free_enum", [arg("obj_enum", handle)], free),
  row(47, "storage_reset_enum", [arg("obj_enum", handle)], reset),
  row(48, "storage_start_enum", [arg("obj_enum", handle), arg("storage_id", storageId)], start),
  row(
    49,
    "storage_next_enum",
    [arg("obj_enum", handle), arg("info", pointer), arg("obj_id", outBytes(3)), arg("len", outU64)],
    next,
  ),
];
