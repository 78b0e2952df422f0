/** Persistent objects: storage_obj_open, _create, _del, _rename (5.7). */
import { ObjectType } from "../algorithms.ts";
import type { Call } from "../call.ts";
import { DataFlag, HandleFlag, OBJECT_ID_MAX, StorageId } from "../constants.ts";
import { objectOf } from "../handles-of.ts";
import { bytes, dataFlags, handle, outU32, size, storageId } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { TeeObject } from "../objects.ts";
import { fail, Tee, TeeError } from "../results.ts";
import type { SharedObject } from "../storage/shared-objects.ts";
import type { ObjectName, StoredObject } from "../storage/store.ts";
import { arg, type Row, row } from "../table.ts";

const OPEN_FLAGS =
  DataFlag.ACCESS_READ |
  DataFlag.ACCESS_WRITE |
  DataFlag.ACCESS_WRITE_META |
  DataFlag.SHARE_READ |
  DataFlag.SHARE_WRITE;
const known: readonly number[] = Object.values(StorageId);

export function checkStorage(id: number): void {
  if (!known.includes(id)) fail(Tee.ERROR_ITEM_NOT_FOUND, "no such storage");
}

function readName(call: Call, id: number, length: number): ObjectName {
  if (length > OBJECT_ID_MAX) fail(Tee.ERROR_BAD_PARAMETERS, `a name has at most ${OBJECT_ID_MAX} bytes`);
  const name = call.memory.bytes(id, length, "private");
  return { ta: call.instance.uuid, id: Buffer.from(name).toString("hex") };
}

/** What is stored under a name. What does not authenticate is removed, as OP-TEE does, and stays an error. */
export function readStored(call: Call, name: ObjectName): StoredObject | undefined {
  try {
    return call.tee.store.read(name);
  } catch (error) {
    if (error instanceof TeeError && error.result === Tee.ERROR_CORRUPT_OBJECT) call.tee.store.remove(name);
    throw error;
  }
}

function attach(object: TeeObject, shared: SharedObject, content: StoredObject, flags: number): void {
  object.type = content.type;
  object.maxSize = content.maxSize;
  object.size = content.size;
  object.flags = HandleFlag.PERSISTENT | HandleFlag.INITIALIZED | flags;
  object.attributes.clear();
  for (const [id, value] of content.attributes) object.attributes.set(id, value);
  object.shared = shared;
  object.position = 0;
}

function open(call: Call, storage: number, id: number, idLength: number, flags: number, out: number): number {
  if ((flags & ~OPEN_FLAGS) !== 0) fail(Tee.ERROR_BAD_PARAMETERS, "flags that do not belong here");
  checkStorage(storage);
  const name = readName(call, id, idLength);
  call.memory.check(MemoryAccess.WRITE, out, 4);
  const shared = call.tee.objects.open(name, flags);
  try {
    shared.content ??= readStored(call, name);
    if (shared.content === undefined) return fail(Tee.ERROR_ITEM_NOT_FOUND, "there is no such object");
    const object = new TeeObject();
    attach(object, shared, shared.content, flags);
    call.memory.setU32(out, call.instance.objects.add(object));
    return Tee.SUCCESS;
  } catch (error) {
    shared.release();
    throw error;
  }
}

function create(
  call: Call,
  storage: number,
  id: number,
  idLength: number,
  flags: number,
  attr: number,
  data: number,
  length: number,
  out: number,
): number {
  const { memory, tee, instance } = call;
  if ((flags & ~(OPEN_FLAGS | DataFlag.OVERWRITE)) !== 0)
    fail(Tee.ERROR_BAD_PARAMETERS, "flags that do not belong here");
  checkStorage(storage);
  if (length !== 0 && data === 0) fail(Tee.ERROR_BAD_PARAMETERS, "no data, but a length");
  const name = readName(call, id, idLength);
  if (out !== 0) memory.check(MemoryAccess.WRITE, out, 4);
  const model = attr === 0 ? undefined : objectOf(call, attr);
  if (model !== undefined && !model.initialized) fail(Tee.ERROR_BAD_PARAMETERS, "the attributes are not initialized");
  const content: StoredObject = {
    type: model?.type ?? ObjectType.DATA,
    maxSize: model?.maxSize ?? 0,
    size: model?.size ?? 0,
    usage: model?.usage ?? 0xffff_ffff,
    attributes: new Map(model?.attributes ?? []),
    data: memory.bytes(data, length),
  };
  const shared = tee.objects.create(name, flags);
  try {
    if ((flags & DataFlag.OVERWRITE) === 0 && tee.store.has(name))
      fail(Tee.ERROR_ACCESS_CONFLICT, "there is such an object");
    tee.store.write(name, content);
  } catch (error) {
    shared.release();
    throw error;
  }
  shared.content = content;
  shared.creating = false;
  const becomes = out === 0 && model !== undefined && !model.persistent;
  const object = becomes ? model : new TeeObject();
  attach(object, shared, content, flags & ~DataFlag.OVERWRITE);
  if (out === 0) {
    if (!becomes) shared.release();
    return Tee.SUCCESS;
  }
  try {
    memory.setU32(out, instance.objects.add(object));
  } catch (error) {
    shared.release();
    throw error;
  }
  return Tee.SUCCESS;
}

function remove(call: Call, number: number): number {
  const object = objectOf(call, number);
  const { shared } = object;
  if ((object.flags & DataFlag.ACCESS_WRITE_META) === 0)
    fail(Tee.ERROR_ACCESS_CONFLICT, "the handle lacks TEE_DATA_FLAG_ACCESS_WRITE_META");
  if (shared === undefined) return fail(Tee.ERROR_BAD_STATE, "the object is not persistent");
  call.tee.store.remove(shared.name);
  shared.release();
  call.instance.objects.remove(number);
  return Tee.SUCCESS;
}

function rename(call: Call, number: number, id: number, idLength: number): number {
  if (idLength > OBJECT_ID_MAX) fail(Tee.ERROR_BAD_PARAMETERS, `a name has at most ${OBJECT_ID_MAX} bytes`);
  const object = objectOf(call, number);
  if (object.shared === undefined) return fail(Tee.ERROR_BAD_STATE, "the object is not persistent");
  if ((object.flags & DataFlag.ACCESS_WRITE_META) === 0)
    fail(Tee.ERROR_BAD_STATE, "the handle lacks TEE_DATA_FLAG_ACCESS_WRITE_META");
  call.tee.objects.rename(object.shared, readName(call, id, idLength));
  return Tee.SUCCESS;
}

const name = [arg("object_id", bytes(2)), arg("object_id_len", size)];

export const storageCalls: readonly Row[] = [
  row(
    41,
    "storage_obj_open",
    [arg("storage_id", storageId), ...name, arg("flags", dataFlags), arg("obj", outU32)],
    open,
  ),
  row(
    42,
    "storage_obj_create",
    [
      arg("storage_id", storageId),
      ...name,
      arg("flags", dataFlags),
      arg("attr", handle),
      arg("data", bytes(6)),
      arg("len", size),
      arg("obj", outU32),
    ],
    create,
  ),
  row(43, "storage_obj_del", [arg("obj", handle)], remove),
  row(44, "storage_obj_rename", [arg("obj", handle), arg("new_obj_id", bytes(2)), arg("new_obj_id_len", size)], rename),
];
