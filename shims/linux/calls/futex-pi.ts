/** Priority-inheriting futexes: FUTEX_LOCK_PI and its kin, and moving to one (kernel/futex/pi.c, requeue.c). */
import { Errno } from "../errno.ts";
import type { Result } from "../table.ts";
import type { Task } from "../task.ts";
import {
  FUTEX_BITSET_MATCH_ANY,
  FUTEX_OWNER_DIED,
  FUTEX_TID_MASK,
  FUTEX_WAITERS,
  type FutexQueue,
  FutexWaiter,
  PiFutex,
} from "../thread/futex.ts";
import { Wait } from "../wait.ts";
import { checkAddress, type Word } from "./futex-address.ts";

/** Whether `taker` owns the word now, would have to wait for an owner, or an errno. */
type Attempt = "owned" | PiFutex | { readonly errno: number; readonly why: string };

/** futex_lock_pi_atomic. @param others somebody else is about to wait too */
function tryToOwn(task: Task, word: Word, taker: Task, others: boolean): Attempt {
  const { kernel, memory, process } = task;
  const value = memory.u32(word.at);
  const holder = value & FUTEX_TID_MASK;
  if (holder === taker.tid) return { errno: Errno.EDEADLK, why: "it owns the futex already" };
  const pi = kernel.futexes.find(process.mm, word.at, word.isPrivate)?.pi;
  if (pi !== undefined) {
    if (holder !== 0 && holder !== pi.owner.tid) return { errno: Errno.EINVAL, why: "the word names another owner" };
    return pi;
  }
  if (holder === 0) {
    memory.setU32(word.at, ((value & FUTEX_OWNER_DIED) | taker.tid | (others ? FUTEX_WAITERS : 0)) >>> 0);
    return "owned";
  }
  memory.setU32(word.at, (value | FUTEX_WAITERS) >>> 0);
  const owner = kernel.tasks.get(holder);
  if (owner === undefined) return { errno: Errno.ESRCH, why: `the owner, thread ${holder}, does not exist` };
  return new PiFutex(kernel.futexes.obtain(process.mm, word.at, word.isPrivate), owner);
}

/** The word of a futex that its new owner finds with another's id: that one has ended (fixup_pi_state_owner). */
function takeOver(task: Task, at: number, pi: PiFutex): number {
  const { memory } = task;
  const value = memory.u32(at);
  if ((value & FUTEX_TID_MASK) !== task.tid) {
    const died = pi.ownerDied ? FUTEX_OWNER_DIED : 0;
    memory.setU32(at, ((value & FUTEX_OWNER_DIED) | FUTEX_WAITERS | task.tid | died) >>> 0);
  }
  return 0;
}

/** FUTEX_LOCK_PI, FUTEX_LOCK_PI2 and FUTEX_TRYLOCK_PI. */
export function lockPi(task: Task, word: Word, deadline: number | undefined, isTry: boolean): Result {
  const refused = checkAddress(task, word);
  if (refused !== 0) return refused;
  const attempt = tryToOwn(task, word, task, false);
  if (attempt === "owned") return 0;
  if (!(attempt instanceof PiFutex)) return task.fail(attempt.errno, attempt.why);
  const pi = attempt;
  if (isTry) return task.fail(Errno.EAGAIN, `thread ${pi.owner.tid} owns the futex`);
  if (pi.wouldDeadlock(task)) return task.fail(Errno.EDEADLK, "its owner waits for a futex of the caller");
  const waiter = new FutexWaiter(task, pi.queue, FUTEX_BITSET_MATCH_ANY);
  pi.add(waiter);
  waiter.wait = new Wait({
    queues: [],
    attempt: () => (waiter.woken ? takeOver(task, word.at, pi) : undefined),
    deadline,
    timeout: () => task.fail(Errno.ETIMEDOUT, "its owner did not let go in time"),
    interrupted: () => -Errno.ERESTARTNOINTR,
    cleanup: () => pi.remove(waiter),
  });
  return waiter.wait;
}

export function unlockPi(task: Task, word: Word): number {
  const { kernel, memory, process } = task;
  const { at, isPrivate } = word;
  if (at % 4 !== 0 || at + 4 > process.space.end) return checkAddress(task, word);
  if ((memory.u32(at) & FUTEX_TID_MASK) !== task.tid) return task.fail(Errno.EPERM, "another thread owns the futex");
  const queue = kernel.futexes.find(process.mm, at, isPrivate);
  if (queue?.pi === undefined) {
    if (queue !== undefined && queue.waiters.length > 0) return task.fail(Errno.EINVAL, "somebody only waits there");
    memory.setU32(at, 0);
    return 0;
  }
  const { pi } = queue;
  if (pi.owner !== task) return task.fail(Errno.EINVAL, `the kernel knows thread ${pi.owner.tid} as the owner`);
  const next = pi.waiters[0];
  memory.setU32(at, next === undefined ? 0 : (FUTEX_WAITERS | next.task.tid) >>> 0);
  pi.handOver();
  return 0;
}

/** FUTEX_WAIT_REQUEUE_PI: waits at one word to own the futex at the other. */
export function waitRequeuePi(task: Task, from: Word, value: number, to: Word, deadline: number | undefined): Result {
  const { kernel, memory, process } = task;
  if (from.at === to.at) return task.fail(Errno.EINVAL, "the two futexes are one");
  const refused = checkAddress(task, to) || checkAddress(task, from);
  if (refused !== 0) return refused;
  if (memory.u32(from.at) !== value) return task.fail(Errno.EAGAIN, "the futex has another value");
  const source = kernel.futexes.obtain(process.mm, from.at, from.isPrivate);
  const target = kernel.futexes.obtain(process.mm, to.at, to.isPrivate);
  const waiter = new FutexWaiter(task, source, FUTEX_BITSET_MATCH_ANY, target);
  target.expected++;
  source.add(waiter);
  waiter.wait = new Wait({
    queues: [],
    attempt: () => {
      if (!waiter.woken) return undefined;
      return waiter.pi === undefined ? 0 : takeOver(task, to.at, waiter.pi);
    },
    deadline,
    timeout: () => task.fail(Errno.ETIMEDOUT, "nobody let it own the futex in time"),
    // Once moved it cannot start anew.
    interrupted: () => (waiter.pi === undefined ? -Errno.ERESTARTNOINTR : -Errno.EAGAIN),
    cleanup: () => {
      waiter.queue.remove(waiter);
      waiter.pi?.remove(waiter);
      target.expected--;
    },
  });
  return waiter.wait;
}

interface RequeuePi {
  readonly from: Word;
  readonly to: Word;
  readonly wake: number;
  readonly move: number;
  readonly expected: number;
}

/** FUTEX_CMP_REQUEUE_PI: the first waiter owns the other futex if it is free, the rest wait for it. */
export function cmpRequeuePi(task: Task, { from, to, wake, move, expected }: RequeuePi): number {
  const { kernel, memory, process } = task;
  if (wake < 0 || move < 0) return task.fail(Errno.EINVAL, "a negative count");
  if (from.at === to.at) return task.fail(Errno.EINVAL, "the two futexes are one");
  if (wake !== 1) return task.fail(Errno.EINVAL, "it wakes exactly one");
  const refused = checkAddress(task, from) || checkAddress(task, to);
  if (refused !== 0) return refused;
  if (memory.u32(from.at) !== expected) return task.fail(Errno.EAGAIN, "the futex has another value");
  const source = kernel.futexes.find(process.mm, from.at, from.isPrivate);
  if (source === undefined) return 0;
  let done = 0;
  while (source.waiters.length > 0 && done < wake + move) {
    const result = moveFirst(task, source, to, move > 0);
    if (result < 0) return done > 0 && result !== -Errno.EINVAL ? done : result;
    done++;
  }
  return done;
}

function moveFirst(task: Task, source: FutexQueue, to: Word, others: boolean): number {
  const { kernel, process } = task;
  const [waiter] = source.waiters;
  const target = kernel.futexes.find(process.mm, to.at, to.isPrivate);
  if (waiter === undefined || waiter.target === undefined || waiter.target !== target) {
    return task.fail(Errno.EINVAL, "a waiter expects to be moved elsewhere, or not at all");
  }
  const attempt = tryToOwn(task, to, waiter.task, others);
  if (attempt === "owned") {
    source.waiters.shift();
    waiter.wake();
    return 0;
  }
  if (!(attempt instanceof PiFutex)) return task.fail(attempt.errno, attempt.why);
  if (attempt.wouldDeadlock(waiter.task)) {
    return task.fail(Errno.EDEADLK, "its owner waits for a futex of the waiter");
  }
  source.waiters.shift();
  waiter.queue = attempt.queue;
  attempt.add(waiter);
  return 0;
}
