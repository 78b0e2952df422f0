/** Kinds that show what a pointer points to: paths, strings, buffers, and any value read through a function. */
import { MemoryFault } from "../../../emulator/errors.ts";
import { isError } from "../errno.ts";
import type { Kind, PrintContext } from "./kinds.ts";

const PATH_MAX = 4096;
/** strace's -s: how much of a string or buffer prints. */
const STRING_LIMIT = 32;

const ESCAPES: Readonly<Record<number, string>> = {
  9: "\\t",
  10: "\\n",
  11: "\\v",
  12: "\\f",
  13: "\\r",
  34: '\\"',
  92: "\\\\",
};

/** C-like text of bytes in quotes, other bytes as the shortest octal escape that the next byte leaves unambiguous. */
export function quoteBytes(bytes: Uint8Array): string {
  let text = '"';
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] ?? 0;
    const special = ESCAPES[byte];
    if (special !== undefined) text += special;
    else if (byte >= 32 && byte < 127) text += String.fromCharCode(byte);
    else {
      const next = bytes[index + 1] ?? 0;
      const digit = next >= 48 && next <= 57;
      text += `\\${byte.toString(8).padStart(digit ? 3 : 1, "0")}`;
    }
  }
  return `${text}"`;
}

export function addressText(value: number): string {
  return value === 0 ? "NULL" : `0x${value.toString(16)}`;
}

/** What `show` says of the memory at an address; the bare address when it cannot be read. */
function shown(value: number, show: () => string): string {
  if (value === 0) return "NULL";
  try {
    return show();
  } catch (error) {
    if (error instanceof MemoryFault) return addressText(value);
    throw error;
  }
}

/** Bytes at an address, cut after 32 with `...`. */
function bufferText(at: PrintContext, address: number, length: number): string {
  return shown(address, () => {
    const cut = length > STRING_LIMIT;
    const bytes = at.task.memory.bytes(address, cut ? STRING_LIMIT : length);
    return quoteBytes(bytes) + (cut ? "..." : "");
  });
}

function stringText(at: PrintContext, address: number, limit: number): string {
  return shown(address, () => {
    const bytes: number[] = [];
    const { memory } = at.task;
    for (let offset = 0; offset < limit; offset++) {
      const byte = memory.u8(address + offset);
      if (byte === 0) return quoteBytes(Uint8Array.from(bytes));
      bytes.push(byte);
    }
    return `${quoteBytes(Uint8Array.from(bytes))}...`;
  });
}

/** A file name: prints whole. */
export const path: Kind = {
  shape: "pointer",
  moment: "entry",
  print: (value, at) => stringText(at, value, PATH_MAX),
};

/** A string that is no file name: cut after 32 bytes. */
export const string: Kind = {
  shape: "pointer",
  moment: "entry",
  print: (value, at) => stringText(at, value, STRING_LIMIT),
};

/** A buffer the guest passes in; `lengthArg` is the index of the argument that holds its length. */
export function bufferIn(lengthArg: number): Kind {
  return {
    shape: "pointer",
    moment: "entry",
    print: (value, at) => bufferText(at, value, at.args[lengthArg] ?? 0),
  };
}

/** A buffer the kernel fills with as many bytes as the call's result says. */
export const bufferOut: Kind = {
  shape: "pointer",
  moment: "exit",
  print: (value, at) => {
    const { result } = at;
    return result === undefined || isError(result) ? addressText(value) : bufferText(at, value, result);
  },
};

/** A NUL-terminated string the kernel fills (getcwd). */
export const stringOut: Kind = {
  shape: "pointer",
  moment: "exit",
  print: (value, at) =>
    at.result === undefined || isError(at.result) ? addressText(value) : stringText(at, value, PATH_MAX),
};

/** A pointer to something the guest passes in, printed by `show` before the call. */
export function pointsTo(show: (address: number, at: PrintContext) => string): Kind {
  return { shape: "pointer", moment: "entry", print: (value, at) => shown(value, () => show(value, at)) };
}

/** A pointer to something the kernel fills in, printed by `show` after the call; only the address when the call failed. */
export function fills(show: (address: number, at: PrintContext) => string): Kind {
  return {
    shape: "pointer",
    moment: "exit",
    print: (value, at) =>
      at.result === undefined || isError(at.result) ? addressText(value) : shown(value, () => show(value, at)),
  };
}

/** An array of `count` elements of `bytes` each, printed as `[a, b]`. */
export function arrayText(address: number, count: number, bytes: number, show: (element: number) => string): string {
  const parts: string[] = [];
  const shownCount = Math.min(count, STRING_LIMIT);
  for (let index = 0; index < shownCount; index++) parts.push(show(address + index * bytes));
  if (count > shownCount) parts.push("...");
  return `[${parts.join(", ")}]`;
}

/** argv or envp: `["ls", "-l"]`, or the address and a count when the list is long. */
export const stringList: Kind = pointsTo((address, at) => {
  const { memory } = at.task;
  const parts: string[] = [];
  for (let slot = address; ; slot += at.abi.word) {
    const entry = at.abi.word === 8 ? memory.num64(slot) : memory.u32(slot);
    if (entry === 0) return `[${parts.join(", ")}]`;
    if (parts.length === STRING_LIMIT) return `[${parts.join(", ")}, ...]`;
    parts.push(stringText(at, entry, STRING_LIMIT));
  }
});

/** envp: strace prints how many there are. */
export const environment: Kind = pointsTo((address, at) => {
  const { memory } = at.task;
  let count = 0;
  while ((at.abi.word === 8 ? memory.num64(address + count * 8) : memory.u32(address + count * 4)) !== 0) count++;
  return `${addressText(address)} /* ${count} ${count === 1 ? "var" : "vars"} */`;
});

/** struct iovec array the guest passes in, data included. `countArg` is the index of the argument with the count. */
export function iovecIn(countArg: number): Kind {
  return pointsTo((address, at) => iovecText(at, address, at.args[countArg] ?? 0, undefined));
}

/** struct iovec array the kernel fills (readv): as much data as the result says. */
export function iovecOut(countArg: number): Kind {
  return fills((address, at) => iovecText(at, address, at.args[countArg] ?? 0, at.result ?? 0));
}

function iovecText(at: PrintContext, address: number, count: number, filled: number | undefined): string {
  const { memory } = at.task;
  const { word } = at.abi;
  let left = filled;
  return arrayText(address, count, 2 * word, (element) => {
    const base = word === 8 ? memory.num64(element) : memory.u32(element);
    const length = word === 8 ? memory.num64(element + 8) : memory.u32(element + 4);
    const here = left === undefined ? length : Math.min(left, length);
    if (left !== undefined) left -= here;
    return `{iov_base=${bufferText(at, base, here)}, iov_len=${length}}`;
  });
}
