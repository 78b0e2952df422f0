/**
 * One row per system call: dispatch, the trace, JSON and the list of supported calls all read it.
 *
 *     row(21, "cipher_init", [arg("state", handle), arg("iv", bytes(2)), arg("iv_len", size)], cipherInit)
 *     function cipherInit(call: Call, state: number, iv: number, length: number): number { … }
 *
 * A handler answers a TEE_Result, or `Leave` when the TA does not go on. `fail(result, why)` ends it with an error, and a
 * `MemoryFault` it lets through becomes TEE_ERROR_ACCESS_DENIED. Any other exception is a bug of ours.
 */
import { Reg } from "../../emulator/cpu.ts";
import type { Call } from "./call.ts";
import type { Kind } from "./kinds.ts";

/** The TA gives control back, or must not go on. */
export type Leave =
  | { readonly kind: "return"; readonly value: bigint }
  | { readonly kind: "panic"; readonly code: number };

export type Handler = (call: Call, ...args: number[]) => number | Leave;

export interface Argument {
  readonly name: string;
  readonly kind: Kind;
}

export interface Row {
  readonly number: number;
  /** As in OP-TEE's utee_syscalls.h or ldelf_syscalls.h, without the prefix. */
  readonly name: string;
  readonly args: readonly Argument[];
  readonly handler: Handler;
}

export function arg(name: string, kind: Kind): Argument {
  return { name, kind };
}

export function row(number: number, name: string, args: readonly Argument[], handler: Handler): Row {
  return { number, name, args, handler };
}

/** Where x86-64 TAs pass the eight arguments: the seventh and eighth stand in R12 and R13 (litebox_common_optee). */
export const argumentRegisters: readonly number[] = [
  Reg.rdi,
  Reg.rsi,
  Reg.rdx,
  Reg.r10,
  Reg.r8,
  Reg.r9,
  Reg.r12,
  Reg.r13,
];

/** The calls that one kind of guest code may make. */
export class CallTable {
  /** How the trace calls it: `utee` or `ldelf`. */
  readonly prefix: string;
  readonly rows: readonly Row[];
  readonly #byNumber: (Row | undefined)[] = [];

  /** Throws RangeError when two rows claim one number. */
  constructor(prefix: string, rows: readonly Row[]) {
    this.prefix = prefix;
    this.rows = rows;
    for (const entry of rows) {
      const other = this.#byNumber[entry.number];
      if (other !== undefined)
        throw new RangeError(`${entry.name} and ${other.name} are both ${prefix} ${entry.number}`);
      this.#byNumber[entry.number] = entry;
    }
  }

  row(number: number): Row | undefined {
    return this.#byNumber[number];
  }
}
