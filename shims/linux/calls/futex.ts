/** futex(2): waiting, waking, moving. Errnos and their order follow kernel/futex/. Priority inheritance: futex-pi.ts. */
import { monotonicOf } from "../clock.ts";
import { Errno } from "../errno.ts";
import { FUTEX_CLOCK_REALTIME, FUTEX_PRIVATE_FLAG, FutexOp, futexOp } from "../kinds/flags.ts";
import { int, pointer } from "../kinds/kinds.ts";
import { timespec, timespec64 } from "../kinds/structs.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { FUTEX_BITSET_MATCH_ANY, type FutexQueue, FutexWaiter } from "../thread/futex.ts";
import { readTime, type TimeLayout, toNs } from "../timespec.ts";
import { Wait } from "../wait.ts";
import { checkAddress, type Word } from "./futex-address.ts";
import { futexAddress, futexValue, futexValue3, timeOrCount } from "./futex-kinds.ts";
import { cmpRequeuePi, lockPi, unlockPi, waitRequeuePi } from "./futex-pi.ts";

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

interface WaitFor extends Word {
  readonly value: number;
  readonly bitset: number;
  /** Monotonic, ns. */
  readonly deadline: number | undefined;
}

function wait(task: Task, what: WaitFor): Result {
  const { kernel, memory, process } = task;
  const { at, value, bitset, isPrivate, deadline } = what;
  if (bitset === 0) return task.fail(Errno.EINVAL, "an empty bitset");
  const refused = checkAddress(task, what);
  if (refused !== 0) return refused;
  if (memory.u32(at) !== value) return task.fail(Errno.EAGAIN, "the futex has another value");
  const waiter = new FutexWaiter(task, kernel.futexes.obtain(process.mm, at, isPrivate), bitset);
  waiter.queue.add(waiter);
  waiter.wait = new Wait({
    queues: [],
    attempt: () => (waiter.woken ? 0 : undefined),
    deadline,
    timeout: () => task.fail(Errno.ETIMEDOUT, "nobody woke it in time"),
    interrupted: () => {
      if (deadline === undefined) return -Errno.ERESTARTSYS;
      task.restart = () => wait(task, what);
      return -Errno.ERESTART_RESTARTBLOCK;
    },
    cleanup: () => waiter.queue.remove(waiter),
  });
  return waiter.wait;
}

/** Wakes waiters of a word; EINVAL where one of them waits to own a futex. */
export function wake(task: Task, word: Word, count: number, bitset?: number): number {
  const queue = task.kernel.futexes.find(task.process.mm, word.at, word.isPrivate);
  // Linux wakes one before it looks at the count.
  const woken = queue === undefined ? 0 : queue.wake(Math.max(count, 1), bitset);
  return woken ?? task.fail(Errno.EINVAL, "somebody waits there to own a priority-inheriting futex");
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
function wakeOp(task: Task, first: Word, count: number, count2: number, second: Word, encoded: number): number {
  const { memory } = task;
  const refused = checkAddress(task, first) || checkAddress(task, second);
  if (refused !== 0) return refused;
  const shift = (encoded & 0x8000_0000) !== 0;
  const given = (encoded << 8) >> 20;
  const argument = shift ? 1 << (given & 31) : given;
  const old = memory.i32(second.at);
  const next = operate((encoded >>> 28) & 7, old, argument);
  if (next === undefined) return task.fail(Errno.ENOSYS, "no FUTEX_OP_*");
  memory.setU32(second.at, next >>> 0);
  const met = compare((encoded >>> 24) & 15, old, (encoded << 20) >> 20);
  if (met === undefined) return task.fail(Errno.ENOSYS, "no FUTEX_OP_CMP_*");
  const woken = wake(task, first, count);
  if (!met || woken < 0) return woken;
  const more = wake(task, second, count2);
  return more < 0 ? more : woken + more;
}

interface Requeue {
  readonly from: Word;
  readonly to: Word;
  readonly wake: number;
  readonly move: number;
  /** FUTEX_CMP_REQUEUE: the value the first word must have. */
  readonly expected: number | undefined;
}

/** @returns how many were woken or moved, for both operations */
export function moveAndWake(task: Task, { from, to, wake: wakeCount, move, expected }: Requeue): number {
  const { kernel, memory, process } = task;
  if (wakeCount < 0 || move < 0) return task.fail(Errno.EINVAL, "a negative count");
  const refused = checkAddress(task, from) || checkAddress(task, to);
  if (refused !== 0) return refused;
  if (expected !== undefined && memory.u32(from.at) !== expected) {
    return task.fail(Errno.EAGAIN, "the futex has another value");
  }
  const source = kernel.futexes.find(process.mm, from.at, from.isPrivate);
  if (source === undefined) return 0;
  const woken = wakeCount === 0 ? 0 : source.wake(wakeCount);
  if (woken === undefined) return task.fail(Errno.EINVAL, "somebody waits there to own a priority-inheriting futex");
  if (move === 0 || source.waiters.length === 0) return woken;
  return woken + moveWaiters(source, kernel.futexes.obtain(process.mm, to.at, to.isPrivate), move);
}

function moveWaiters(source: FutexQueue, target: FutexQueue, count: number): number {
  const moved = source.waiters.splice(0, Math.min(count, source.waiters.length));
  for (const waiter of moved) target.add(waiter);
  return moved.length;
}

function futex(layout: TimeLayout) {
  return (task: Task, at: number, op: number, value: number, fourth: number, at2: number, value3: number): Result => {
    const { kernel, abi } = task;
    const command = op & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    const isPrivate = (op & FUTEX_PRIVATE_FLAG) !== 0;
    const realtime = (op & FUTEX_CLOCK_REALTIME) !== 0;
    let deadline: number | undefined;
    if (TIMED.has(command) && fourth !== 0) {
      const time = readTime(task, fourth, layout);
      // FUTEX_LOCK_PI has no flag for its clock: it always is the real one.
      const real = realtime || command === FutexOp.FUTEX_LOCK_PI;
      const absolute = real ? monotonicOf(kernel.clock, time.tv_sec, time.tv_nsec) : toNs(time);
      deadline = command === FutexOp.FUTEX_WAIT ? kernel.clock.now() + toNs(time) : absolute;
    }
    if (realtime && !CLOCK_REALTIME_ALLOWED.has(command)) {
      return task.fail(Errno.ENOSYS, "FUTEX_CLOCK_REALTIME does not go with this operation");
    }
    const word = { at, isPrivate };
    // As a count it has 32 bits, whatever the upper half of the register.
    const count2 = task.cpu.regLow(abi.args[3]) | 0;
    const second = { at: at2, isPrivate };
    switch (command) {
      case FutexOp.FUTEX_WAIT:
        return wait(task, { at, isPrivate, value, bitset: FUTEX_BITSET_MATCH_ANY, deadline });
      case FutexOp.FUTEX_WAIT_BITSET:
        return wait(task, { at, isPrivate, value, bitset: value3, deadline });
      case FutexOp.FUTEX_WAKE:
      case FutexOp.FUTEX_WAKE_BITSET: {
        const bitset = command === FutexOp.FUTEX_WAKE ? FUTEX_BITSET_MATCH_ANY : value3;
        if (bitset === 0) return task.fail(Errno.EINVAL, "an empty bitset");
        const refused = checkAddress(task, word);
        return refused !== 0 ? refused : wake(task, word, value | 0, bitset);
      }
      case FutexOp.FUTEX_REQUEUE:
        return moveAndWake(task, { from: word, to: second, wake: value | 0, move: count2, expected: undefined });
      case FutexOp.FUTEX_CMP_REQUEUE:
        return moveAndWake(task, { from: word, to: second, wake: value | 0, move: count2, expected: value3 });
      case FutexOp.FUTEX_WAKE_OP:
        return wakeOp(task, word, value | 0, count2, second, value3);
      case FutexOp.FUTEX_LOCK_PI:
      case FutexOp.FUTEX_LOCK_PI2:
        return lockPi(task, word, deadline, false);
      case FutexOp.FUTEX_TRYLOCK_PI:
        return lockPi(task, word, undefined, true);
      case FutexOp.FUTEX_UNLOCK_PI:
        return unlockPi(task, word);
      case FutexOp.FUTEX_WAIT_REQUEUE_PI:
        return waitRequeuePi(task, word, value, second, deadline);
      case FutexOp.FUTEX_CMP_REQUEUE_PI:
        return cmpRequeuePi(task, { from: word, to: second, wake: value | 0, move: count2, expected: value3 });
      default:
        return task.fail(Errno.ENOSYS, "there is no such operation");
    }
  };
}

const support = "owners of priority-inheriting futexes come in order of arrival, as turns do not depend on priorities";

export const futexCalls: readonly Row[] = [
  row(
    "futex",
    { x86_64: 202, i386: 240 },
    [pointer, futexOp, futexValue, timeOrCount(timespec), futexAddress, futexValue3],
    futex(timespec),
    { family: "thread", support, returns: int },
  ),
  row(
    "futex_time64",
    { i386: 422 },
    [pointer, futexOp, futexValue, timeOrCount(timespec64), futexAddress, futexValue3],
    futex(timespec64),
    { family: "thread", support, returns: int },
  ),
];
