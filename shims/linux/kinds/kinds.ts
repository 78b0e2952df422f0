/**
 * Argument kinds. A kind says how an argument is fetched from its register (`shape`) and how it prints, in strace's spelling.
 * More kinds: flags.ts (flags and enums), memory.ts (strings, buffers, structs).
 */
import type { Abi } from "../abi.ts";
import type { Task } from "../task.ts";

/**
 * `int` signed 32-bit, `uint` unsigned 32-bit, `pointer` an unsigned word (also sizes), `long` a signed word,
 * `loff` a signed 64-bit value (two registers on i386, low half first).
 */
export type Shape = "int" | "uint" | "pointer" | "long" | "loff";

/** What a kind may look at when it prints. */
export interface PrintContext {
  readonly task: Task;
  readonly abi: Abi;
  /** The call's decoded arguments. */
  readonly args: readonly number[];
  /** This argument's value without the rounding a number may have above 2^53, unsigned. */
  readonly exact: bigint;
  /** The call's result; undefined while it has none. Kinds of moment "exit" find it set. */
  readonly result: number | undefined;
}

export interface Kind {
  readonly shape: Shape;
  /** When to print: what the guest passes in prints on entry, what the kernel fills in prints on exit. */
  readonly moment: "entry" | "exit";
  print(value: number, at: PrintContext): string;
}

export function hex(value: number): string {
  return value === 0 ? "0" : `0x${value.toString(16)}`;
}

/** A number that prints by `print`; for kinds that need nothing but the value. */
export function scalar(shape: Shape, print: (value: number, at: PrintContext) => string): Kind {
  return { shape, moment: "entry", print };
}

const decimal = (value: number): string => String(value);

export const int = scalar("int", decimal);
export const uint = scalar("uint", decimal);
export const long = scalar("long", decimal);
export const loff = scalar("loff", decimal);
export const size = scalar("pointer", (_, at) => at.exact.toString());
export const pid = scalar("int", decimal);
export const fd = scalar("int", decimal);

/** An unsigned word that prints in hexadecimal, 0 as "0". */
export const word = scalar("pointer", (value, at) => (value === 0 ? "0" : `0x${at.exact.toString(16)}`));
export const uintHex = scalar("uint", hex);
export const octal = scalar("uint", (value) => (value === 0 ? "000" : `0${value.toString(8)}`));

/** An address whose content does not matter to the reader. */
export const pointer = scalar("pointer", (value, at) => (value === 0 ? "NULL" : `0x${at.exact.toString(16)}`));

/** Directory descriptor of the `*at` calls. */
export const dirfd = scalar("int", (value) => (value === -100 ? "AT_FDCWD" : String(value)));

/** uid_t and gid_t: -1 means "leave it". */
export const id = scalar("uint", (value) => (value === 0xffff_ffff ? "-1" : String(value)));

/** A value with one name each; an unknown one prints as `0x99 /* ARCH_??? *\/`. */
export function choice(prefix: string, names: Readonly<Record<string, number>>, shape: Shape = "int"): Kind {
  const byValue = new Map(Object.entries(names).map(([name, value]) => [value, name]));
  return scalar(shape, (value) => byValue.get(value) ?? `${hexSigned(value)} /* ${prefix}??? */`);
}

function hexSigned(value: number): string {
  return value < 0 ? `0x${(value >>> 0).toString(16)}` : `0x${value.toString(16)}`;
}

/** The text of a set of bits, as strace writes it: `A|B|0x40`, or `0x40 /* PROT_??? *\/` when no bit has a name. */
export function flagText(prefix: string, names: readonly (readonly [string, number])[], value: number): string {
  const parts: string[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  if (rest === 0n) return names.find(([, bits]) => bits === 0)?.[0] ?? "0";
  for (const [name, bits] of names) {
    const wide = BigInt(bits);
    if (wide !== 0n && (rest & wide) === wide) {
      parts.push(name);
      rest &= ~wide;
    }
  }
  if (parts.length === 0) return `0x${rest.toString(16)} /* ${prefix}??? */`;
  if (rest !== 0n) parts.push(`0x${rest.toString(16)}`);
  return parts.join("|");
}

/**
 * A set of bits with names. Names of several bits go before those of their parts; a name with value 0 prints for the empty set.
 */
export function flags(prefix: string, names: Readonly<Record<string, number>>, shape: Shape = "uint"): Kind {
  const list = Object.entries(names);
  return scalar(shape, (value) => flagText(prefix, list, value));
}
