/**
 * C structs of the kernel's interface, described once. Layout follows the psABI of the call's ABI: on i386 64-bit integers are
 * aligned to 4. Readers, writers, types and the trace's text all come from the description.
 */
import type { GuestMemory } from "../../../emulator/memory.ts";
import type { Abi } from "../abi.ts";
import type { Kind } from "./kinds.ts";
import { fills, pointsTo, quoteBytes } from "./memory.ts";

/** How one C type lies in guest memory. */
export interface Field<T> {
  size(abi: Abi): number;
  align(abi: Abi): number;
  /** @throws MemoryFault */
  read(memory: GuestMemory, address: number, abi: Abi): T;
  /** @throws MemoryFault */
  write(memory: GuestMemory, address: number, value: T, abi: Abi): void;
  show(value: T): string;
}

type Values<F> = { -readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never };

const TWO_32 = 2 ** 32;

function integer(
  bytes: number,
  read: (memory: GuestMemory, address: number) => number,
  write: (memory: GuestMemory, address: number, value: number) => void,
): Field<number> {
  return {
    size: () => bytes,
    align: () => bytes,
    read,
    write,
    show: (value) => String(value),
  };
}

function writeWide(memory: GuestMemory, address: number, value: number): void {
  memory.setU32(address, value >>> 0);
  memory.setU32(address + 4, Math.floor(value / TWO_32) >>> 0);
}

export const u16 = integer(
  2,
  (memory, address) => memory.u16(address),
  (memory, address, value) => memory.setU16(address, value & 0xffff),
);
export const i16 = integer(
  2,
  (memory, address) => (memory.u16(address) << 16) >> 16,
  (memory, address, value) => memory.setU16(address, value & 0xffff),
);
export const u32 = integer(
  4,
  (memory, address) => memory.u32(address),
  (memory, address, value) => memory.setU32(address, value >>> 0),
);
export const i32 = integer(
  4,
  (memory, address) => memory.u32(address) | 0,
  (memory, address, value) => memory.setU32(address, value >>> 0),
);
const narrow = { u: u32, i: i32 };
const wide = {
  u: integer(8, (memory, address) => memory.u32(address + 4) * TWO_32 + memory.u32(address), writeWide),
  i: integer(8, (memory, address) => (memory.u32(address + 4) | 0) * TWO_32 + memory.u32(address), writeWide),
};

/** A 64-bit integer as a number: inexact from 2^53 on. */
export const u64: Field<number> = { ...wide.u, align: (abi) => abi.align64 };
export const i64: Field<number> = { ...wide.i, align: (abi) => abi.align64 };

function word(sign: "u" | "i"): Field<number> {
  const of = (abi: Abi): Field<number> => (abi.word === 8 ? wide : narrow)[sign];
  return {
    size: (abi) => abi.word,
    align: (abi) => abi.word,
    read: (memory, address, abi) => of(abi).read(memory, address, abi),
    write: (memory, address, value, abi) => of(abi).write(memory, address, value, abi),
    show: (value) => String(value),
  };
}

/** `long` and `unsigned long` of the ABI. */
export const long: Field<number> = word("i");
export const ulong: Field<number> = word("u");
/** A pointer inside a struct. */
export const address: Field<number> = {
  ...ulong,
  show: (value) => (value === 0 ? "NULL" : `0x${value.toString(16)}`),
};

/** `char[length]`: NUL-padded text of at most `length - 1` bytes. */
export function text(length: number): Field<string> {
  return {
    size: () => length,
    align: () => 1,
    read: (memory, at) => {
      const raw = memory.bytes(at, length);
      const end = raw.indexOf(0);
      return Buffer.from(end < 0 ? raw : raw.subarray(0, end)).toString("latin1");
    },
    write: (memory, at, value) => {
      const raw = new Uint8Array(length);
      raw.set(Buffer.from(value, "latin1").subarray(0, length - 1));
      memory.write(at, raw);
    },
    show: (value) => quoteBytes(Buffer.from(value, "latin1")),
  };
}

/** An array of fixed length. */
export function array<T>(of: Field<T>, length: number): Field<readonly T[]> {
  return {
    size: (abi) => of.size(abi) * length,
    align: (abi) => of.align(abi),
    read: (memory, at, abi) => Array.from({ length }, (_, index) => of.read(memory, at + index * of.size(abi), abi)),
    write: (memory, at, value, abi) => {
      for (const [index, item] of value.entries()) of.write(memory, at + index * of.size(abi), item, abi);
    },
    show: (value) => `[${value.map((item) => of.show(item)).join(", ")}]`,
  };
}

/** A field with a text of its own in the trace. */
export function shownAs<T>(field: Field<T>, show: (value: T) => string): Field<T> {
  return { ...field, show };
}

interface Placed {
  readonly key: string;
  readonly field: Field<unknown>;
  readonly offset: number;
}

interface Layout {
  readonly fields: readonly Placed[];
  readonly size: number;
  readonly align: number;
}

function layOut(fields: Readonly<Record<string, Field<unknown>>>, abi: Abi): Layout {
  const placed: Placed[] = [];
  let offset = 0;
  let align = 1;
  for (const [key, field] of Object.entries(fields)) {
    const own = field.align(abi);
    offset = Math.ceil(offset / own) * own;
    placed.push({ key, field, offset });
    offset += field.size(abi);
    align = Math.max(align, own);
  }
  return { fields: placed, size: Math.ceil(offset / align) * align, align };
}

/** A struct is a field itself, so structs nest. */
export interface Struct<V> extends Field<V> {
  offsetOf(key: keyof V & string, abi: Abi): number;
}

/**
 * Describes a struct by its fields in order. Padding is not written: the kernel leaves it zero or alone, and no caller here
 * depends on it.
 * @param shown the fields the trace shows; all when omitted, and `...` for the rest
 */
export function struct<const F extends Readonly<Record<string, Field<unknown>>>>(
  fields: F,
  shown?: readonly (keyof F & string)[],
): Struct<Values<F>> {
  const layouts = new Map<Abi, Layout>();
  const layout = (abi: Abi): Layout => {
    const known = layouts.get(abi);
    if (known !== undefined) return known;
    const fresh = layOut(fields, abi);
    layouts.set(abi, fresh);
    return fresh;
  };
  return {
    size: (abi) => layout(abi).size,
    align: (abi) => layout(abi).align,
    offsetOf: (key, abi) => layout(abi).fields.find((placed) => placed.key === key)?.offset ?? -1,
    read: (memory, at, abi) => {
      const value: Partial<Record<keyof F, unknown>> = {};
      for (const { key, field, offset } of layout(abi).fields) {
        value[key as keyof F] = field.read(memory, at + offset, abi);
      }
      // Every field of F has just been read with its own type.
      return value as Values<F>;
    },
    write: (memory, at, value, abi) => {
      for (const { key, field, offset } of layout(abi).fields) {
        field.write(memory, at + offset, value[key as keyof F], abi);
      }
    },
    show: (value) => {
      const keys = shown ?? Object.keys(fields);
      const parts = keys.map((key) => `${key}=${fields[key]?.show(value[key as keyof F])}`);
      if (shown !== undefined) parts.push("...");
      return `{${parts.join(", ")}}`;
    },
  };
}

/** A pointer to a struct the guest passes in. */
export function structIn<V>(of: Field<V>): Kind {
  return pointsTo((at, context) => of.show(of.read(context.task.memory, at, context.abi)));
}

/** A pointer to a struct the kernel fills in. */
export function structOut<V>(of: Field<V>): Kind {
  return fills((at, context) => of.show(of.read(context.task.memory, at, context.abi)));
}

/** A pointer to one value the kernel fills in, printed as `[value]`. */
export function valueOut(of: Field<number>): Kind {
  return fills((at, context) => `[${of.show(of.read(context.task.memory, at, context.abi))}]`);
}

/** `struct timespec` with the ABI's own `long`s. */
export const timespec = struct({ tv_sec: long, tv_nsec: long });
/** `struct __kernel_timespec`: 64-bit on every ABI. */
export const timespec64 = struct({ tv_sec: i64, tv_nsec: i64 });
export const timeval = struct({ tv_sec: long, tv_usec: long });
