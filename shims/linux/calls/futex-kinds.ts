/** How the arguments of futex print: each operation takes some of them, and strace shows only those. */

import { FUTEX_CLOCK_REALTIME, FUTEX_PRIVATE_FLAG, FutexOp } from "../kinds/flags.ts";
import { hex, type Kind, type PrintContext, pointer, scalar, uint } from "../kinds/kinds.ts";
import { type Struct, structIn } from "../kinds/structs.ts";

/** What each argument from the third on is; undefined where the operation has none. */
interface Arguments {
  readonly value?: "count";
  readonly fourth?: "time" | "count";
  readonly address?: true;
  readonly sixth?: "value" | "bitset" | "operation";
}

const ARGUMENTS: ReadonlyMap<number, Arguments> = new Map<number, Arguments>([
  [FutexOp.FUTEX_WAIT, { value: "count", fourth: "time" }],
  [FutexOp.FUTEX_WAKE, { value: "count" }],
  [FutexOp.FUTEX_FD, { value: "count" }],
  [FutexOp.FUTEX_REQUEUE, { value: "count", fourth: "count", address: true }],
  [FutexOp.FUTEX_CMP_REQUEUE, { value: "count", fourth: "count", address: true, sixth: "value" }],
  [FutexOp.FUTEX_WAKE_OP, { value: "count", fourth: "count", address: true, sixth: "operation" }],
  [FutexOp.FUTEX_LOCK_PI, { fourth: "time" }],
  [FutexOp.FUTEX_LOCK_PI2, { fourth: "time" }],
  [FutexOp.FUTEX_UNLOCK_PI, {}],
  [FutexOp.FUTEX_TRYLOCK_PI, {}],
  [FutexOp.FUTEX_WAIT_BITSET, { value: "count", fourth: "time", sixth: "bitset" }],
  [FutexOp.FUTEX_WAKE_BITSET, { value: "count", sixth: "bitset" }],
  [FutexOp.FUTEX_WAIT_REQUEUE_PI, { value: "count", fourth: "time", address: true }],
  [FutexOp.FUTEX_CMP_REQUEUE_PI, { value: "count", fourth: "count", address: true, sixth: "value" }],
]);

function argumentsOf(at: PrintContext): Arguments | undefined {
  return ARGUMENTS.get((at.args[1] ?? 0) & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME));
}

/** The third argument. */
export const futexValue: Kind = scalar("uint", (value, at) => {
  const known = argumentsOf(at);
  return known === undefined || known.value !== undefined ? uint.print(value, at) : "";
});

/** The fourth argument, a time or a count. */
export function timeOrCount(layout: Struct<{ tv_sec: number; tv_nsec: number }>): Kind {
  const time = structIn(layout);
  return scalar("pointer", (value, at) => {
    const known = argumentsOf(at);
    if (known === undefined) return hex(value);
    if (known.fourth === undefined) return "";
    return known.fourth === "time" ? time.print(value, at) : String(value);
  });
}

/** The fifth argument. */
export const futexAddress: Kind = scalar("pointer", (value, at) => {
  const known = argumentsOf(at);
  if (known === undefined) return hex(value);
  return known.address ? pointer.print(value, at) : "";
});

const MATCH_ANY = 0xffff_ffff;
const OPERATIONS = ["SET", "ADD", "OR", "ANDN", "XOR"] as const;
const COMPARISONS = ["EQ", "NE", "LT", "LE", "GT", "GE"] as const;
const OPARG_SHIFT = 8;

/** FUTEX_OP of linux/futex.h taken apart: `FUTEX_OP_ADD<<28|0x1<<12|FUTEX_OP_CMP_EQ<<24|0`. */
function operationText(value: number): string {
  const code = value >>> 28;
  const operation = OPERATIONS[code & ~OPARG_SHIFT];
  const comparison = COMPARISONS[(value >>> 24) & 15];
  return [
    ...(code & OPARG_SHIFT ? ["FUTEX_OP_OPARG_SHIFT<<28"] : []),
    operation === undefined ? `${hex(code & ~OPARG_SHIFT)}<<28 /* FUTEX_OP_??? */` : `FUTEX_OP_${operation}<<28`,
    `${hex((value >>> 12) & 0xfff)}<<12`,
    comparison === undefined
      ? `${hex((value >>> 24) & 15)}<<24 /* FUTEX_OP_CMP_??? */`
      : `FUTEX_OP_CMP_${comparison}<<24`,
    hex(value & 0xfff),
  ].join("|");
}

/** The sixth argument. */
export const futexValue3: Kind = scalar("uint", (value, at) => {
  const known = argumentsOf(at);
  if (known === undefined) return hex(value);
  switch (known.sixth) {
    case "value":
      return String(value);
    case "bitset":
      return value === MATCH_ANY ? "FUTEX_BITSET_MATCH_ANY" : hex(value);
    case "operation":
      return operationText(value);
    default:
      return "";
  }
});
