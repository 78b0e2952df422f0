/** Objects: information, usage, attributes; allocating, filling, copying and closing transient ones. */
import { checkAttributes, populate, readAttributes } from "../attributes.ts";
import type { Call } from "../call.ts";
import { ATTR_PUBLIC, HandleFlag, USAGE_DEFAULT, Usage } from "../constants.ts";
import { objectOf } from "../handles-of.ts";
import {
  attributeId,
  attributes,
  handle,
  objectType,
  outBytes,
  outU32,
  outU64,
  pointer,
  ulong,
  usage,
} from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { TeeObject } from "../objects.ts";
import { fail, Tee } from "../results.ts";
import { arg, type Row, row } from "../table.ts";

/** struct utee_object_info. */
export const OBJECT_INFO_BYTES = 28;

function writeObjectInfo(call: Call, at: number, object: TeeObject): void {
  const { memory } = call;
  memory.check(MemoryAccess.WRITE, at, OBJECT_INFO_BYTES);
  const { type, size, maxSize, dataSize, position, flags } = object;
  [type, size, maxSize, object.usage, dataSize, position, flags].forEach((value, index) => {
    memory.setU32(at + 4 * index, value);
  });
}

function getInfo(call: Call, object: number, info: number): number {
  writeObjectInfo(call, info, objectOf(call, object));
  return Tee.SUCCESS;
}

function restrictUsage(call: Call, number: number, allowed: number): number {
  const object = objectOf(call, number);
  const restricted = (object.usage & allowed) >>> 0;
  if (object.shared !== undefined) object.shared.save({ usage: restricted });
  else object.usage = restricted;
  return Tee.SUCCESS;
}

function getAttr(call: Call, number: number, id: number, buffer: number, size: number): number {
  const object = call.instance.objects.get(number);
  if (object === undefined) return fail(Tee.ERROR_ITEM_NOT_FOUND, `there is no object ${number}`);
  if (!object.initialized) fail(Tee.ERROR_BAD_PARAMETERS, "the object is not initialized");
  if ((id & ATTR_PUBLIC) === 0 && (object.usage & Usage.EXTRACTABLE) === 0)
    fail(Tee.ERROR_BAD_PARAMETERS, "the attribute is secret and the key not extractable");
  if (object.spec === undefined) return fail(Tee.ERROR_BAD_STATE, "a data object has no attributes");
  const value = object.attributes.get(id);
  if (value === undefined) return fail(Tee.ERROR_ITEM_NOT_FOUND, "the object does not have that attribute");
  const { memory } = call;
  const room = memory.u64(size);
  if (typeof value === "number") {
    if (room < 8 || buffer === 0) fail(Tee.ERROR_SHORT_BUFFER, "a value has 8 bytes");
    const words = new Uint8Array(8);
    new DataView(words.buffer).setUint32(0, value, true);
    memory.write(buffer, words);
    return Tee.SUCCESS;
  }
  memory.setU64(size, value.length);
  if (value.length === 0) return Tee.SUCCESS;
  if (room < value.length || buffer === 0) fail(Tee.ERROR_SHORT_BUFFER, `the attribute has ${value.length} bytes`);
  memory.write(buffer, value);
  return Tee.SUCCESS;
}

function alloc(call: Call, type: number, maxSize: number, out: number): number {
  const object = new TeeObject();
  object.setType(type, maxSize);
  call.memory.check(MemoryAccess.WRITE, out, 4);
  call.memory.setU32(out, call.instance.objects.add(object));
  return Tee.SUCCESS;
}

function close(call: Call, number: number): number {
  const object = objectOf(call, number);
  if (object.busy) fail(Tee.ERROR_ITEM_NOT_FOUND, "the key belongs to an operation");
  object.shared?.release();
  call.instance.objects.remove(number);
  return Tee.SUCCESS;
}

function reset(call: Call, number: number): number {
  const object = objectOf(call, number);
  if (object.persistent) fail(Tee.ERROR_BAD_PARAMETERS, "the object is persistent");
  object.attributes.clear();
  object.size = 0;
  object.usage = USAGE_DEFAULT;
  object.flags &= ~HandleFlag.INITIALIZED;
  return Tee.SUCCESS;
}

function populateObject(call: Call, number: number, attrs: number, count: number): number {
  const object = objectOf(call, number);
  if (object.persistent) fail(Tee.ERROR_BAD_PARAMETERS, "the object is persistent");
  if (object.initialized) fail(Tee.ERROR_BAD_PARAMETERS, "the object is initialized already");
  const { spec } = object;
  if (spec === undefined) return fail(Tee.ERROR_NOT_IMPLEMENTED, "a data object has no attributes");
  const given = readAttributes(call, attrs, count);
  checkAttributes(spec, given, "populate");
  populate(object, spec, given);
  object.flags |= HandleFlag.INITIALIZED;
  return Tee.SUCCESS;
}

function copy(call: Call, destination: number, source: number): number {
  const to = objectOf(call, destination);
  const from = objectOf(call, source);
  if (!from.initialized) fail(Tee.ERROR_BAD_PARAMETERS, "the source is not initialized");
  if (to.persistent) fail(Tee.ERROR_BAD_PARAMETERS, "the destination is persistent");
  if (to.initialized) fail(Tee.ERROR_BAD_PARAMETERS, "the destination is initialized already");
  to.copyAttributes(from);
  to.flags |= HandleFlag.INITIALIZED;
  to.size = from.size;
  to.usage = from.usage;
  return Tee.SUCCESS;
}

export const objectCalls: readonly Row[] = [
  row(24, "cryp_obj_get_info", [arg("obj", handle), arg("info", pointer)], getInfo),
  row(25, "cryp_obj_restrict_usage", [arg("obj", handle), arg("usage", usage)], restrictUsage),
  row(
    26,
    "cryp_obj_get_attr",
    [arg("obj", handle), arg("attr_id", attributeId), arg("buffer", outBytes(3)), arg("size", outU64)],
    getAttr,
  ),
  row(27, "cryp_obj_alloc", [arg("type", objectType), arg("max_size", ulong), arg("obj", outU32)], alloc),
  row(28, "cryp_obj_close", [arg("obj", handle)], close),
  row(29, "cryp_obj_reset", [arg("obj", handle)], reset),
  row(
    30,
    "cryp_obj_populate",
    [arg("obj", handle), arg("attrs", attributes(2)), arg("attr_count", ulong)],
    populateObject,
  ),
  row(31, "cryp_obj_copy", [arg("dst_obj", handle), arg("src_obj", handle)], copy),
];
