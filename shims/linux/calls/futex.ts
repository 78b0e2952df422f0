/** futex(2): waiting, waking, moving. Errnos and their order follow kernel/futex/. */
import { monotonicOf } from "../clock.ts";
import { Errno } from "../errno.ts";
import { FutexWaiter } from "../futex.ts";
import { int, type Kind, pointer, uint, uintHex } from "../kinds.ts";
import { FUTEX_CLOCK_REALTIME, FUTEX_PRIVATE_FLAG, FutexOp, futexOp } from "../kinds-flags.ts";
import { type Struct, structIn, timespec, timespec64 } from "../structs.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { Wait } from "../wait.ts";

type Timespec = Struct<{ tv_sec: number; tv_nsec: number }>;

const BILLION = 1_000_000_000;
const ANY = 0xffff_ffff;
/** Operations whose fourth argument is a time. */
const TIMED: ReadonlySet<number> = new Set([
  FutexOp.FUTEX_WAIT,
  FutexOp.FUTEX_WAIT_BITSET,
  FutexOp.FUTEX_LOCK_PI,
  FutexOp.FUTEX_LOCK_PI2,
  FutexOp.FUTEX_WAIT_REQUEUE_PI,
]);
/** FUTEX_WAIT takes a span from now, the others a moment. */
const CLOCK_REALTIME_ALLOWED: ReadonlySet<number> = new Set([
  FutexOp.FUTEX_WAIT_BITSET,
  FutexOp.FUTEX_WAIT_REQUEUE_PI,
  FutexOp.FUTEX_LOCK_PI2,
]);

const bad = (task: Task): number => task.fail(Errno.EINVAL, "the address of a futex is a multiple of 4");

/** EFAULT and EINVAL of a futex's address (get_futex_key); a private one need not be mapped. */
function checkAddress(task: Task, at: number, isPrivate: boolean): number {
  if (at % 4 !== 0) return bad(task);
  if (at + 4 > task.process.space.end) return task.fail(Errno.EFAULT, "the futex lies outside user space");
  if (!isPrivate) task.memory.u32(at);
  return 0;
}

interface WaitFor {
  readonly at: number;
  readonly value: number;
  readonly bitset: number;
  readonly isPrivate: boolean;
  /** Monotonic, ns. */
  readonly deadline: number | undefined;
  readonly relative: boolean;
}

function wait(task: Task, what: WaitFor): Result {
  const { kernel, memory, process } = task;
  const { at, value, bitset, isPrivate, deadline } = what;
  if (bitset === 0) return task.fail(Errno.EINVAL, "an empty bitset");
  const refused = checkAddress(task, at, isPrivate);
  if (refused !== 0) return refused;
  if (memory.u32(at) !== value) return task.fail(Errno.EAGAIN, "the futex has another value");
  const { futexes } = kernel;
  const waiter = new FutexWaiter(task, futexes.key(process.mm, at, isPrivate), bitset);
  futexes.add(waiter);
  return new Wait({
    queues: [waiter.queue],
    attempt: () => (waiter.woken ? 0 : undefined),
    ...(deadline !== undefined && { deadline }),
    timeout: () => task.fail(Errno.ETIMEDOUT, "nobody woke it in time"),
    interrupted: () => {
      if (deadline === undefined || !what.relative) return -Errno.ERESTARTSYS;
      task.restart = () => wait(task, what);
      return -Errno.ERESTART_RESTARTBLOCK;
    },
    cleanup: () => futexes.remove(waiter),
  });
}

/** FUTEX_WAKE_OP's operation on the second word; undefined for an unknown one. */
function operate(op: number, old: number, argument: number): number | undefined {
  switch (op) {
    case 0:
      return argument;
    case 1:
      return (old + argument) | 0;
    case 2:
      return old | argument;
    case 3:
      return old & ~argument;
    case 4:
      return old ^ argument;
    default:
      return undefined;
  }
}

function compare(op: number, old: number, argument: number): boolean | undefined {
  switch (op) {
    case 0:
      return old === argument;
    case 1:
      return old !== argument;
    case 2:
      return old < argument;
    case 3:
      return old <= argument;
    case 4:
      return old > argument;
    case 5:
      return old >= argument;
    default:
      return undefined;
  }
}

/** `op`, `cmp` and their arguments are packed in one word (FUTEX_OP in linux/futex.h). */
function wakeOp(
  task: Task,
  at: number,
  count: number,
  count2: number,
  at2: number,
  encoded: number,
  isPrivate: boolean,
): number {
  const { kernel, memory, process } = task;
  const refused = checkAddress(task, at, isPrivate) || checkAddress(task, at2, isPrivate);
  if (refused !== 0) return refused;
  const shift = (encoded & 0x8000_0000) !== 0;
  const given = (encoded << 8) >> 20;
  const argument = shift ? 1 << (given & 31) : given;
  const old = memory.i32(at2);
  const next = operate((encoded >>> 28) & 7, old, argument);
  if (next === undefined) return task.fail(Errno.ENOSYS, "no FUTEX_OP_*");
  memory.setU32(at2, next >>> 0);
  const met = compare((encoded >>> 24) & 15, old, (encoded << 20) >> 20);
  if (met === undefined) return task.fail(Errno.ENOSYS, "no FUTEX_OP_CMP_*");
  const { futexes } = kernel;
  let woken = futexes.wake(futexes.key(process.mm, at, isPrivate), Math.max(count, 1));
  if (met) woken += futexes.wake(futexes.key(process.mm, at2, isPrivate), Math.max(count2, 1));
  return woken;
}

interface Requeue {
  readonly at: number;
  readonly wake: number;
  readonly move: number;
  readonly to: number;
  /** FUTEX_CMP_REQUEUE: the value the first word must have. */
  readonly expected: number | undefined;
  readonly isPrivate: boolean;
}

function requeue(task: Task, { at, wake, move, to, expected, isPrivate }: Requeue): number {
  const { kernel, memory, process } = task;
  if (wake < 0 || move < 0) return task.fail(Errno.EINVAL, "a negative count");
  const refused = checkAddress(task, at, isPrivate) || checkAddress(task, to, isPrivate);
  if (refused !== 0) return refused;
  if (expected !== undefined && memory.u32(at) !== expected) {
    return task.fail(Errno.EAGAIN, "the futex has another value");
  }
  const { futexes } = kernel;
  const from = futexes.key(process.mm, at, isPrivate);
  const woken = futexes.wake(from, wake);
  const moved = futexes.requeue(from, futexes.key(process.mm, to, isPrivate), move);
  return expected === undefined ? woken : woken + moved;
}

function futex(layout: Timespec) {
  return (task: Task, at: number, op: number, value: number, fourth: number, at2: number, value3: number): Result => {
    const { kernel, memory, process, abi } = task;
    const command = op & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    const isPrivate = (op & FUTEX_PRIVATE_FLAG) !== 0;
    const realtime = (op & FUTEX_CLOCK_REALTIME) !== 0;
    let deadline: number | undefined;
    if (TIMED.has(command) && fourth !== 0) {
      const { tv_sec, tv_nsec } = layout.read(memory, fourth, abi);
      if (tv_sec < 0 || tv_nsec < 0 || tv_nsec >= BILLION) return task.fail(Errno.EINVAL, "no valid time");
      const absolute = realtime ? monotonicOf(kernel.clock, tv_sec, tv_nsec) : tv_sec * BILLION + tv_nsec;
      deadline = command === FutexOp.FUTEX_WAIT ? kernel.clock.now() + tv_sec * BILLION + tv_nsec : absolute;
    }
    if (realtime && !CLOCK_REALTIME_ALLOWED.has(command)) {
      return task.fail(Errno.ENOSYS, "FUTEX_CLOCK_REALTIME does not go with this operation");
    }
    switch (command) {
      case FutexOp.FUTEX_WAIT:
        return wait(task, { at, value, bitset: ANY, isPrivate, deadline, relative: true });
      case FutexOp.FUTEX_WAIT_BITSET:
        return wait(task, { at, value, bitset: value3, isPrivate, deadline, relative: false });
      case FutexOp.FUTEX_WAKE:
      case FutexOp.FUTEX_WAKE_BITSET: {
        const bitset = command === FutexOp.FUTEX_WAKE ? ANY : value3;
        if (bitset === 0) return task.fail(Errno.EINVAL, "an empty bitset");
        const refused = checkAddress(task, at, isPrivate);
        if (refused !== 0) return refused;
        // Linux wakes one before it looks at the count.
        return kernel.futexes.wake(kernel.futexes.key(process.mm, at, isPrivate), Math.max(value | 0, 1), bitset);
      }
      case FutexOp.FUTEX_REQUEUE:
        return requeue(task, { at, wake: value | 0, move: fourth | 0, to: at2, expected: undefined, isPrivate });
      case FutexOp.FUTEX_CMP_REQUEUE:
        return requeue(task, { at, wake: value | 0, move: fourth | 0, to: at2, expected: value3, isPrivate });
      case FutexOp.FUTEX_WAKE_OP:
        return wakeOp(task, at, value | 0, fourth | 0, at2, value3, isPrivate);
      default:
        return task.fail(Errno.ENOSYS, "this operation is not supported");
    }
  };
}

/** The fourth argument is a time or a count. */
function timeOrCount(layout: Timespec): Kind {
  const time = structIn(layout);
  return {
    shape: "pointer",
    moment: "entry",
    print: (value, at) => {
      const command = (at.args[1] ?? 0) & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
      return TIMED.has(command) ? time.print(value, at) : String(value);
    },
  };
}

const support = "priority-inheriting futexes (FUTEX_LOCK_PI and its kin) answer ENOSYS";

export const futexCalls: readonly Row[] = [
  row(
    "futex",
    { x86_64: 202, i386: 240 },
    [pointer, futexOp, uint, timeOrCount(timespec), pointer, uintHex],
    futex(timespec),
    { family: "thread", support, returns: int },
  ),
  row(
    "futex_time64",
    { i386: 422 },
    [pointer, futexOp, uint, timeOrCount(timespec64), pointer, uintHex],
    futex(timespec64),
    { family: "thread", support, returns: int },
  ),
];
