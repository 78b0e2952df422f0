/**
 * One row per system call: dispatch, the strace-like text, JSON, the audit and the list of supported calls all read it.
 *
 *     export const pathCalls: readonly Row[] = [
 *       row("openat", { x86_64: 257, i386: 295 }, [dirfd, path, openFlags, openMode], openat, { family: "file" }),
 *     ];
 *     function openat(task: Task, dirfd: number, pathname: number, flags: number, mode: number): Result { … }
 *
 * - The kinds say how each argument is decoded (always to a `number`: `int` signed 32-bit, `uint` and flags u32, pointers and
 *   sizes unsigned, `long` and `loff` signed; `loff` takes two registers on i386) and how it prints (kinds.ts).
 * - The handler answers a result >= 0, `task.fail(Errno.EBADF, "descriptor 9 is not open")`, a `Wait` (wait.ts) when it must
 *   block, or `settled` when the registers are already as the guest shall find them (execve, sigreturn).
 *   From deeper down `fail(Errno.EBADF, …)` ends the call as well (vfs/error.ts), and a `MemoryFault` that is let through becomes
 *   EFAULT. Any other exception is a bug of ours.
 * - `task.abi` is the ABI of this very call: read structs through it (structs.ts), never through `task.process.abi`.
 * - Each family exports its rows; calls/all.ts joins them.
 */
import type { Abi } from "./abi.ts";
import { type Kind, long, type Shape } from "./kinds/kinds.ts";
import type { Task } from "./task.ts";
import type { Wait } from "./wait.ts";

export type Family =
  | "tls"
  | "memory"
  | "file"
  | "signal"
  | "process"
  | "thread"
  | "time"
  | "network"
  | "system"
  | "ipc";

/** The call left the registers as the guest shall find them: no result is written. */
export const settled = Object.freeze({ settled: true });
type Settled = typeof settled;

export type Result = number | Wait | Settled;

type N = number;
type Handler0 = (task: Task) => Result;
type Handler1 = (task: Task, a: N) => Result;
type Handler2 = (task: Task, a: N, b: N) => Result;
type Handler3 = (task: Task, a: N, b: N, c: N) => Result;
type Handler4 = (task: Task, a: N, b: N, c: N, d: N) => Result;
type Handler5 = (task: Task, a: N, b: N, c: N, d: N, e: N) => Result;
/** Every handler is called with six arguments; one that takes fewer ignores the rest. */
export type Handler = (task: Task, a: N, b: N, c: N, d: N, e: N, f: N) => Result;

export interface Numbers {
  readonly x86_64?: number;
  readonly i386?: number;
}

export interface RowOptions {
  readonly family: Family;
  /** What of the call is not as on Linux, or worth knowing; a test shows each note. */
  readonly support?: string;
  /** How the result prints; a decimal number if omitted. */
  readonly returns?: Kind;
}

export interface Row {
  readonly name: string;
  readonly numbers: Numbers;
  readonly kinds: readonly Kind[];
  readonly handler: Handler;
  readonly family: Family;
  readonly support: string | undefined;
  readonly returns: Kind;
}

type K = Kind;
export function row(name: string, numbers: Numbers, kinds: readonly [], handler: Handler0, o: RowOptions): Row;
export function row(name: string, numbers: Numbers, kinds: readonly [K], handler: Handler1, o: RowOptions): Row;
export function row(name: string, numbers: Numbers, kinds: readonly [K, K], handler: Handler2, o: RowOptions): Row;
export function row(name: string, numbers: Numbers, kinds: readonly [K, K, K], handler: Handler3, o: RowOptions): Row;
export function row(
  name: string,
  numbers: Numbers,
  kinds: readonly [K, K, K, K],
  handler: Handler4,
  o: RowOptions,
): Row;
export function row(
  name: string,
  numbers: Numbers,
  kinds: readonly [K, K, K, K, K],
  handler: Handler5,
  o: RowOptions,
): Row;
export function row(
  name: string,
  numbers: Numbers,
  kinds: readonly [K, K, K, K, K, K],
  handler: Handler,
  o: RowOptions,
): Row;
export function row(
  name: string,
  numbers: Numbers,
  kinds: readonly Kind[],
  handler: Handler,
  options: RowOptions,
): Row {
  const { family, support, returns = long } = options;
  return { name, numbers, kinds, handler, family, support, returns };
}

/** How a value is fetched from its register: a small number that the hot path switches on. */
export const Fetch = { none: 0, i32: 1, u32: 2, i64: 3, u64: 4, pair: 5 } as const;
export type Fetch = (typeof Fetch)[keyof typeof Fetch];

/** A row made ready for one ABI: for each of six arguments its register and how to fetch it. */
export interface Plan {
  readonly row: Row;
  readonly abi: Abi;
  readonly number: number;
  readonly argc: number;
  readonly registers: Uint8Array;
  /** Second register of an argument that takes two. */
  readonly highs: Uint8Array;
  readonly fetches: Uint8Array;
}

function fetchOf(shape: Shape, abi: Abi): Fetch {
  switch (shape) {
    case "int":
      return Fetch.i32;
    case "uint":
      return Fetch.u32;
    case "pointer":
      return abi.word === 8 ? Fetch.u64 : Fetch.u32;
    case "long":
      return abi.word === 8 ? Fetch.i64 : Fetch.i32;
    case "loff":
      return abi.word === 8 ? Fetch.i64 : Fetch.pair;
  }
}

/** How the arguments of calls of one shape are fetched. */
type Fetching = Pick<Plan, "registers" | "highs" | "fetches">;

function makePlan(row: Row, abi: Abi, number: number, known: Map<number, Fetching>): Plan {
  let shape = 0;
  for (const kind of row.kinds) shape = shape * 8 + fetchOf(kind.shape, abi);
  let fetching = known.get(shape);
  if (fetching === undefined) {
    fetching = makeFetching(row, abi);
    known.set(shape, fetching);
  }
  const { registers, highs, fetches } = fetching;
  return { row, abi, number, argc: row.kinds.length, registers, highs, fetches };
}

function makeFetching(row: Row, abi: Abi): Fetching {
  const registers = new Uint8Array(6);
  const highs = new Uint8Array(6);
  const fetches = new Uint8Array(6);
  let next = 0;
  for (const [index, kind] of row.kinds.entries()) {
    const fetch = fetchOf(kind.shape, abi);
    fetches[index] = fetch;
    registers[index] = abi.args[next++] ?? 0;
    if (fetch === Fetch.pair) highs[index] = abi.args[next++] ?? 0;
  }
  if (next > 6) throw new RangeError(`${row.name} takes ${next} registers on ${abi.name}`);
  return { registers, highs, fetches };
}

/** The rows by ABI and number. */
export class SyscallTable {
  readonly rows: readonly Row[];
  readonly #plans: { readonly [name in Abi["name"]]: (Plan | undefined)[] } = { x86_64: [], i386: [] };

  /** Throws RangeError when two rows claim one number: that would be decided by their order. */
  constructor(rows: readonly Row[], abis: readonly Abi[]) {
    this.rows = rows;
    for (const abi of abis) {
      const plans = this.#plans[abi.name];
      const fetchings = new Map<number, Fetching>();
      for (const row of rows) {
        const number = row.numbers[abi.name];
        if (number === undefined) continue;
        const other = plans[number];
        if (other !== undefined)
          throw new RangeError(`${row.name} and ${other.row.name} are both ${abi.name} ${number}`);
        plans[number] = makePlan(row, abi, number, fetchings);
      }
    }
  }

  /** The table of one ABI, indexed by number, for the run loop to hold. */
  plans(abi: Abi): readonly (Plan | undefined)[] {
    return this.#plans[abi.name];
  }
}
