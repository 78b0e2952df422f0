/** futex_waitv, and futex_wait, futex_wake, futex_requeue of Linux 6.7 (kernel/futex/syscalls.c). */
import { monotonicOf } from "../clock.ts";
import { Errno } from "../errno.ts";
import { ClockId, clockId } from "../kinds/flags.ts";
import { flags, int, type Kind, pointer, uint, uintHex, word } from "../kinds/kinds.ts";
import { structIn, timespec64 } from "../kinds/structs.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { FutexWaiter } from "../thread/futex.ts";
import { readTime, toNs } from "../timespec.ts";
import { Wait } from "../wait.ts";
import { moveAndWake, wake } from "./futex.ts";
import { checkAddress, type Word } from "./futex-address.ts";

const TWO_32 = 2 ** 32;
const MAX_WAITERS = 128;
const WAITER_BYTES = 24;
/** The size of the word is in the two lowest bits; 2 is 32 bits, and there is no other yet. */
const Flag = { FUTEX2_SIZE_U32: 2, FUTEX2_NUMA: 4, FUTEX2_PRIVATE: 128 } as const;
const SIZE_MASK = 3;
const VALID = SIZE_MASK | Flag.FUTEX2_NUMA | Flag.FUTEX2_PRIVATE;

/** A word and the value expected there. */
interface Expected extends Word {
  readonly value: number;
}

/** A word with FUTEX2_* flags, or an errno. */
function wordOf(task: Task, at: number, given: number): Word | number {
  if ((given & ~VALID) !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  if ((given & SIZE_MASK) !== Flag.FUTEX2_SIZE_U32) return task.fail(Errno.EINVAL, "a futex has 32 bits");
  if ((given & Flag.FUTEX2_NUMA) !== 0) return task.fail(Errno.EINVAL, "there are no NUMA nodes");
  return { at, isPrivate: (given & Flag.FUTEX2_PRIVATE) !== 0 };
}

/** A moment on one of two clocks as monotonic ns; undefined for none, an errno as a negative number. */
function deadlineOf(task: Task, at: number, clock: number): number | undefined {
  if (at === 0) return undefined;
  if (clock !== ClockId.CLOCK_REALTIME && clock !== ClockId.CLOCK_MONOTONIC) {
    return task.fail(Errno.EINVAL, "neither the real nor the monotonic clock");
  }
  const time = readTime(task, at, timespec64);
  if (clock === ClockId.CLOCK_REALTIME) return Math.max(0, monotonicOf(task.kernel.clock, time.tv_sec, time.tv_nsec));
  return toNs(time);
}

/** Waits on several words; the result is the index of one that was woken. */
function waitAny(task: Task, words: readonly Expected[], deadline: number | undefined, bitset: number): Result {
  const { kernel, process, memory } = task;
  for (const { at, value } of words) {
    if (memory.u32(at) !== value) return task.fail(Errno.EAGAIN, "a futex has another value");
  }
  const waiters = words.map(({ at, isPrivate }) => {
    const waiter = new FutexWaiter(task, kernel.futexes.obtain(process.mm, at, isPrivate), bitset);
    waiter.queue.add(waiter);
    return waiter;
  });
  const wait = new Wait({
    queues: [],
    attempt: () => {
      const index = waiters.findIndex((waiter) => waiter.woken);
      return index < 0 ? undefined : index;
    },
    deadline,
    timeout: () => task.fail(Errno.ETIMEDOUT, "nobody woke it in time"),
    cleanup: () => {
      for (const waiter of waiters) waiter.queue.remove(waiter);
    },
  });
  for (const waiter of waiters) waiter.wait = wait;
  return wait;
}

/** struct futex_waitv: val, uaddr, flags, __reserved. */
function futexWaitv(task: Task, list: number, count: number, given: number, time: number, clock: number): Result {
  if (given !== 0) return task.fail(Errno.EINVAL, "there are no flags");
  if (count === 0 || count > MAX_WAITERS || list === 0) return task.fail(Errno.EINVAL, `1 to ${MAX_WAITERS} futexes`);
  const deadline = deadlineOf(task, time, clock);
  if (deadline !== undefined && deadline < 0) return deadline;
  const { memory } = task;
  const words: Expected[] = [];
  for (let index = 0; index < count; index++) {
    const at = list + index * WAITER_BYTES;
    const [value, high] = [memory.u32(at), memory.u32(at + 4)];
    const address = memory.u32(at + 8) + memory.u32(at + 12) * TWO_32;
    const reserved = memory.u32(at + 20);
    const word = wordOf(task, address, memory.u32(at + 16));
    if (typeof word === "number") return word;
    if (reserved !== 0 || high !== 0) return task.fail(Errno.EINVAL, "a value of more than 32 bits");
    words.push({ ...word, value });
  }
  for (const word of words) {
    const refused = checkAddress(task, word);
    if (refused !== 0) return refused;
  }
  return waitAny(task, words, deadline, 0xffff_ffff);
}

function futexWait(
  task: Task,
  at: number,
  value: number,
  mask: number,
  given: number,
  time: number,
  clock: number,
): Result {
  const word = wordOf(task, at, given);
  if (typeof word === "number") return word;
  if (value >= TWO_32 || mask >= TWO_32) return task.fail(Errno.EINVAL, "a value of more than 32 bits");
  const deadline = deadlineOf(task, time, clock);
  if (deadline !== undefined && deadline < 0) return deadline;
  if (mask === 0) return task.fail(Errno.EINVAL, "an empty mask");
  const refused = checkAddress(task, word);
  if (refused !== 0) return refused;
  return waitAny(task, [{ ...word, value }], deadline, mask);
}

function futexWake(task: Task, at: number, mask: number, count: number, given: number): number {
  const word = wordOf(task, at, given);
  if (typeof word === "number") return word;
  if (mask >= TWO_32 || mask === 0) return task.fail(Errno.EINVAL, "no mask of 32 bits");
  const refused = checkAddress(task, word);
  if (refused !== 0) return refused;
  return count <= 0 ? 0 : wake(task, word, count, mask);
}

/** The two words come as struct futex_waitv, the value expected with the first. */
function futexRequeue(task: Task, list: number, given: number, wakeCount: number, move: number): number {
  if (given !== 0 || list === 0) return task.fail(Errno.EINVAL, "there are no flags, and two futexes");
  const { memory } = task;
  const words: Expected[] = [];
  for (const at of [list, list + WAITER_BYTES]) {
    const word = wordOf(task, memory.u32(at + 8) + memory.u32(at + 12) * TWO_32, memory.u32(at + 16));
    if (typeof word === "number") return word;
    if (memory.u32(at + 20) !== 0 || memory.u32(at + 4) !== 0)
      return task.fail(Errno.EINVAL, "a value of more than 32 bits");
    words.push({ ...word, value: memory.u32(at) });
  }
  const [from, to] = words;
  if (from === undefined || to === undefined) return task.fail(Errno.EINVAL, "two futexes");
  return moveAndWake(task, { from, to, wake: wakeCount, move, expected: from.value });
}

const waitvFlags = flags("FUTEX2_", Flag);
const timeIn: Kind = structIn(timespec64);
const family = "thread";
const support = "words of 32 bits; FUTEX2_NUMA answers EINVAL";

export const futex2Calls: readonly Row[] = [
  row("futex_waitv", { x86_64: 449, i386: 449 }, [pointer, uint, uintHex, timeIn, clockId], futexWaitv, {
    family,
    support,
    returns: int,
  }),
  row("futex_wake", { x86_64: 454, i386: 454 }, [pointer, word, int, waitvFlags], futexWake, { family, support }),
  row("futex_wait", { x86_64: 455, i386: 455 }, [pointer, word, word, waitvFlags, timeIn, clockId], futexWait, {
    family,
    support,
  }),
  row("futex_requeue", { x86_64: 456, i386: 456 }, [pointer, uintHex, int, int], futexRequeue, { family, support }),
];
