/** Properties (4.4): get_property and get_property_name_to_index. Enumerators are libutee's, built from these two. */
import { createHash } from "node:crypto";
import type { Call } from "../call.ts";
import { PropSet } from "../constants.ts";
import { outU32, pointer, propSet, text, ulong } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { fail, Tee } from "../results.ts";
import { arg, type Row, row } from "../table.ts";
import { NIL_UUID, uuidToBytes } from "../uuid.ts";

/** enum user_ta_prop_type. */
const Type = { BOOL: 0, U32: 1, UUID: 2, IDENTITY: 3, STRING: 4 } as const;

interface Property {
  readonly name: string;
  readonly type: number;
  value(call: Call): Uint8Array;
}

function string(name: string, value: string): Property {
  return { name, type: Type.STRING, value: () => Buffer.from(`${value}\0`, "utf8") };
}

function u32(name: string, value: number): Property {
  return { name, type: Type.U32, value: () => words(value) };
}

function words(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** A UUID of the device, made from its key as RFC 4122 makes one from a name. */
function deviceId(call: Call): Uint8Array {
  const id = createHash("sha256").update("OPTEE").update(call.tee.huk).digest().subarray(0, 16);
  id[7] = ((id[7] ?? 0) & 0x0f) | 0x50;
  id[8] = ((id[8] ?? 0) & 0x3f) | 0x80;
  return id;
}

const implementation: readonly Property[] = [
  string("gpd.tee.apiversion", "GPD-1.3-dev"),
  string("gpd.tee.description", "shimbed"),
  { name: "gpd.tee.deviceID", type: Type.UUID, value: deviceId },
  u32("gpd.tee.systemTime.protectionLevel", 100),
  u32("gpd.tee.TAPersistentTime.protectionLevel", 100),
  { name: "gpd.tee.cryptography.ecc", type: Type.BOOL, value: () => Uint8Array.of(1) },
  u32("gpd.tee.trustedStorage.antiRollback.protectionLevel", 100),
  string("gpd.tee.trustedos.implementation.version", "shimbed"),
  u32("gpd.tee.trustedos.implementation.binaryversion", 0),
  string("gpd.tee.trustedos.manufacturer", "shimbed"),
  string("gpd.tee.firmware.implementation.version", "none"),
  u32("gpd.tee.firmware.implementation.binaryversion", 0),
  string("gpd.tee.firmware.manufacturer", "none"),
];

const client: readonly Property[] = [
  {
    name: "gpd.client.identity",
    type: Type.IDENTITY,
    value: ({ session }) =>
      Buffer.concat([words(session?.client.login ?? 0), uuidToBytes(session?.client.uuid ?? NIL_UUID)]),
  },
  u32("gpd.client.endian", 0),
];

const ta: readonly Property[] = [
  { name: "gpd.ta.appID", type: Type.UUID, value: ({ instance }) => uuidToBytes(instance.uuid) },
];

function setOf(set: number): readonly Property[] {
  switch (set) {
    case PropSet.TEE_IMPLEMENTATION:
      return implementation;
    case PropSet.CURRENT_CLIENT:
      return client;
    case PropSet.CURRENT_TA:
      return ta;
    default:
      return [];
  }
}

function getProperty(
  call: Call,
  set: number,
  index: number,
  name: number,
  nameLength: number,
  buffer: number,
  bufferLength: number,
  type: number,
): number {
  const { memory } = call;
  const property = setOf(set)[index];
  if (property === undefined) return fail(Tee.ERROR_ITEM_NOT_FOUND, "no property of that number");
  if (type !== 0) memory.setU32(type, property.type);
  if (buffer !== 0 && bufferLength !== 0) put(call, buffer, bufferLength, property.value(call));
  if (name !== 0 && nameLength !== 0) put(call, name, nameLength, Buffer.from(`${property.name}\0`, "latin1"));
  return Tee.SUCCESS;
}

/** Writes bytes and their number; SHORT_BUFFER, with the number, when they do not fit. */
function put(call: Call, buffer: number, length: number, value: Uint8Array): void {
  const { memory } = call;
  const room = memory.u32(length);
  memory.setU32(length, value.length);
  if (room < value.length) fail(Tee.ERROR_SHORT_BUFFER, `${value.length} bytes are needed`);
  memory.write(buffer, value);
}

const NAME_MAX = 4096;

function nameToIndex(call: Call, set: number, name: number, nameLength: number, index: number): number {
  const properties = setOf(set);
  if (properties.length === 0) fail(Tee.ERROR_ITEM_NOT_FOUND, "no such property set");
  if (name === 0 || nameLength === 0) fail(Tee.ERROR_BAD_PARAMETERS, "no name");
  call.memory.check(MemoryAccess.READ | MemoryAccess.ANY_OWNER, name, nameLength);
  const given = Buffer.from(call.memory.bytes(name, Math.min(nameLength, NAME_MAX)));
  // The last byte counts as the end whatever it is.
  given[given.length - 1] = 0;
  const wanted = given.subarray(0, given.indexOf(0)).toString("latin1");
  const found = properties.findIndex((property) => property.name === wanted);
  if (found < 0) fail(Tee.ERROR_ITEM_NOT_FOUND, `no property ${wanted}`);
  call.memory.setU32(index, found);
  return Tee.SUCCESS;
}

export const propertyCalls: readonly Row[] = [
  row(
    3,
    "get_property",
    [
      arg("prop_set", propSet),
      arg("index", ulong),
      arg("name", pointer),
      arg("name_len", outU32),
      arg("buf", pointer),
      arg("blen", outU32),
      arg("prop_type", outU32),
    ],
    getProperty,
  ),
  row(
    4,
    "get_property_name_to_index",
    [arg("prop_set", propSet), arg("name", text(2)), arg("name_len", ulong), arg("index", outU32)],
    nameToIndex,
  ),
];
