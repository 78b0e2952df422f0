/** Argument kinds: how an argument is fetched from its register, and how the trace prints it. */
import { MemoryFault } from "../../emulator/errors.ts";
import { Alg, Attr, ObjectType } from "./algorithms.ts";
import { ATTR_VALUE, DataFlag, Mode, PropSet, StorageId, TimeCategory, Usage, Whence } from "./constants.ts";
import { MemoryAccess, type TaMemory } from "./memory.ts";
import { isMemory, isValue, PARAM_COUNT } from "./params.ts";
import { TeeError } from "./results.ts";
import { uuidFromBytes } from "./uuid.ts";

/** `i32` and `u32` take the low half of the register; `long` all of it, unsigned. */
type Shape = "i32" | "u32" | "long";

/** What a kind may look at when it prints. */
export interface PrintContext {
  readonly memory: TaMemory;
  readonly args: readonly number[];
  /** The argument without the rounding a number may have above 2^53. */
  readonly exact: bigint;
}

export interface Kind {
  readonly shape: Shape;
  /** What the TA passes in prints before the call, what it gets back after it. */
  readonly moment: "entry" | "exit";
  print(value: number, at: PrintContext): string;
}

/** Bytes of a buffer that are shown. */
const PREVIEW = 16;

const kind = (shape: Shape, print: Kind["print"], moment: Kind["moment"] = "entry"): Kind => ({ shape, moment, print });
const address = (value: number, at: PrintContext): string => (value === 0 ? "NULL" : `0x${at.exact.toString(16)}`);

/** Prints what a pointer leads to; the bare address where it leads nowhere. */
function pointee(show: (value: number, at: PrintContext) => string, moment: Kind["moment"]): Kind {
  return kind(
    "long",
    (value, at) => {
      if (value === 0) return "NULL";
      try {
        return show(value, at);
      } catch (error) {
        if (error instanceof MemoryFault || error instanceof TeeError) return address(value, at);
        throw error;
      }
    },
    moment,
  );
}

function choice(names: Readonly<Record<string, number>>, prefix: string, shape: Shape = "long"): Kind {
  const byValue = new Map(Object.entries(names).map(([name, value]) => [value >>> 0, name]));
  return kind(shape, (value) => {
    const name = byValue.get(value);
    return name === undefined ? `0x${value.toString(16)}` : `${prefix}${name}`;
  });
}

function flagSet(names: Readonly<Record<string, number>>, prefix: string, shape: Shape = "long"): Kind {
  return kind(shape, (_value, at) => {
    const parts: string[] = [];
    let rest = at.exact;
    for (const [name, bit] of Object.entries(names)) {
      const wide = BigInt(bit >>> 0);
      if ((rest & wide) !== wide) continue;
      parts.push(`${prefix}${name}`);
      rest &= ~wide;
    }
    if (rest !== 0n || parts.length === 0) parts.push(rest === 0n ? "0" : `0x${rest.toString(16)}`);
    return parts.join("|");
  });
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex");
}

function preview(memory: TaMemory, at: number, length: number): string {
  const shown = hex(memory.guest.bytes(at, Math.min(length, PREVIEW)));
  return length > PREVIEW ? `${shown}…` : shown;
}

const decimal: Kind["print"] = (_, at) => at.exact.toString();
export const ulong = kind("long", decimal);
export const size = kind("long", decimal);
export const handle = kind("long", decimal);
export const i32 = kind("i32", String);
export const hexLong = kind("long", (_, at) => `0x${at.exact.toString(16)}`);
export const pointer = kind("long", address);

export const algorithm = choice(Alg, "TEE_ALG_");
export const objectType = choice(ObjectType, "TEE_TYPE_");
export const attributeId = choice(Attr, "TEE_ATTR_");
export const mode = choice(Mode, "TEE_MODE_");
export const propSet = choice(PropSet, "TEE_PROPSET_");
export const storageId = choice(StorageId, "TEE_STORAGE_");
export const whence = choice(Whence, "TEE_DATA_SEEK_");
export const timeCategory = choice(TimeCategory, "UTEE_TIME_CAT_");
export const cacheOperation = choice({ CLEAN: 0, FLUSH: 1, INVALIDATE: 2 }, "TEE_CACHE");
export const usage = flagSet(Usage, "TEE_USAGE_");
export const dataFlags = flagSet(DataFlag, "TEE_DATA_FLAG_");
export const accessFlags = flagSet(MemoryAccess, "TEE_MEMORY_ACCESS_", "u32");
export const mapFlags = flagSet({ SHAREABLE: 1, WRITEABLE: 2, EXECUTABLE: 4, BTI: 8 }, "LDELF_MAP_FLAG_");

/** A 32-bit answer, and a 64-bit value that goes both ways. */
export const outU32 = pointee((value, at) => `[${at.memory.u32(value)}]`, "exit");
export const outU64 = pointee((value, at) => `[${at.memory.u64(value)}]`, "exit");
export const inOutAddress = pointee((value, at) => `[0x${at.memory.guest.u64(value).toString(16)}]`, "exit");
export const inUuid = pointee((value, at) => uuidFromBytes(at.memory.guest.bytes(value, 16)), "entry");
export const time = (moment: Kind["moment"]): Kind =>
  pointee((value, at) => `{${at.memory.u32(value)} s, ${at.memory.u32(value + 4)} ms}`, moment);

/** A buffer whose length is argument number `length`, shown before or after the call. */
export function bytes(length: number, moment: Kind["moment"] = "entry"): Kind {
  return pointee((value, at) => preview(at.memory, value, at.args[length] ?? 0), moment);
}

/** An output buffer whose used length the call leaves where argument number `length` points. */
export function outBytes(length: number): Kind {
  return pointee((value, at) => preview(at.memory, value, at.memory.u64(at.args[length] ?? 0)), "exit");
}

/** Text whose length is argument number `length`. */
export function text(length: number): Kind {
  return pointee((value, at) => {
    const count = at.args[length] ?? 0;
    return JSON.stringify(Buffer.from(at.memory.guest.bytes(value, Math.min(count, 256))).toString("utf8"));
  }, "entry");
}

/** struct utee_attribute[], whose count is argument number `count`. */
export function attributes(count: number): Kind {
  return pointee((value, at) => {
    const total = at.args[count] ?? 0;
    const shown: string[] = [];
    for (let index = 0; index < Math.min(total, 8); index++) {
      const entry = value + 24 * index;
      const id = at.memory.u32(entry + 16);
      const a = at.memory.u64(entry);
      const b = at.memory.u64(entry + 8);
      const content = (id & ATTR_VALUE) !== 0 ? `${a}, ${b}` : preview(at.memory, a, b);
      shown.push(`${attributeId.print(id, { ...at, exact: BigInt(id) })}=${content}`);
    }
    return `[${shown.join(", ")}${total > 8 ? ", …" : ""}]`;
  }, "entry");
}

const paramNames = [
  "NONE",
  "VALUE_INPUT",
  "VALUE_OUTPUT",
  "VALUE_INOUT",
  "4",
  "MEMREF_INPUT",
  "MEMREF_OUTPUT",
  "MEMREF_INOUT",
];

/** struct utee_params. */
export const params = pointee((value, at) => {
  const types = at.memory.u64(value);
  const shown: string[] = [];
  for (let index = 0; index < PARAM_COUNT; index++) {
    const type = (types >>> (4 * index)) & 15;
    const a = at.memory.guest.u64(value + 8 + 16 * index);
    const b = at.memory.guest.u64(value + 16 + 16 * index);
    const name = paramNames[type] ?? String(type);
    if (isValue(type)) shown.push(`${name} 0x${a.toString(16)} 0x${b.toString(16)}`);
    else if (isMemory(type)) shown.push(`${name} ${preview(at.memory, Number(a), Number(b))} (${b})`);
    else shown.push(name);
  }
  return `{${shown.join(", ")}}`;
}, "entry");
