/**
 * Futex queues (kernel/futex/): who waits on which word, in order of arrival. A word is known by its place in a file or in shared
 * memory where it lies in a shared mapping, else by its address in its space. Private and shared waits on one word of private
 * memory do not meet, as their keys differ on Linux too.
 */
import type { Mm } from "../memory/mm.ts";
import type { Task } from "../task.ts";
import type { Wait } from "../wait.ts";

/** Parts of a robust or priority-inheriting futex word, linux/futex.h. */
export const FUTEX_WAITERS = 0x8000_0000;
export const FUTEX_OWNER_DIED = 0x4000_0000;
export const FUTEX_TID_MASK = 0x3fff_ffff;

export const FUTEX_BITSET_MATCH_ANY = 0xffff_ffff;

/** One task's wait on one word, in its queue until it is woken or moved to another. */
export class FutexWaiter {
  readonly task: Task;
  readonly bitset: number;
  /** The task's `Wait`, once there is one. */
  wait: Wait | undefined;
  /** Where it waits now. */
  queue: FutexQueue;
  /** Where FUTEX_CMP_REQUEUE_PI may move it, of a FUTEX_WAIT_REQUEUE_PI. */
  readonly target: FutexQueue | undefined;
  /** It waits to own this one. */
  pi: PiFutex | undefined;
  woken = false;

  constructor(task: Task, queue: FutexQueue, bitset: number, target?: FutexQueue) {
    this.task = task;
    this.queue = queue;
    this.bitset = bitset;
    this.target = target;
  }

  wake(): void {
    this.woken = true;
    this.wait?.notify();
  }
}

/** A priority-inheriting futex that somebody waits for. Turns do not depend on priorities, so waiters own it in order of arrival. */
export class PiFutex {
  readonly queue: FutexQueue;
  owner: Task;
  /** Some owner ended without letting go; the next one's word says so. */
  ownerDied = false;
  readonly waiters: FutexWaiter[] = [];

  constructor(queue: FutexQueue, owner: Task) {
    this.queue = queue;
    this.owner = owner;
  }

  add(waiter: FutexWaiter): void {
    this.queue.pi = this;
    this.waiters.push(waiter);
    waiter.pi = this;
    waiter.task.blockedOnPi = this;
    this.owner.ownedPi.add(this);
  }

  /** A waiter gives up. */
  remove(waiter: FutexWaiter): void {
    const index = this.waiters.indexOf(waiter);
    if (index < 0) return;
    this.waiters.splice(index, 1);
    waiter.task.blockedOnPi = undefined;
    if (this.waiters.length === 0) this.#dissolve();
  }

  /** The first waiter owns it from now on; returns that one's task. */
  handOver(): Task | undefined {
    const next = this.waiters.shift();
    this.owner.ownedPi.delete(this);
    if (next === undefined) {
      this.#dissolve();
      return undefined;
    }
    this.owner = next.task;
    next.task.blockedOnPi = undefined;
    if (this.waiters.length === 0) this.#dissolve();
    else this.owner.ownedPi.add(this);
    next.wake();
    return next.task;
  }

  /** True when `task` would wait for itself through a chain of owners. */
  wouldDeadlock(task: Task): boolean {
    let owner: Task | undefined = this.owner;
    while (owner !== undefined) {
      if (owner === task) return true;
      owner = owner.blockedOnPi?.owner;
    }
    return false;
  }

  #dissolve(): void {
    this.owner.ownedPi.delete(this);
    this.queue.pi = undefined;
  }
}

/** The waiters of one word. */
export class FutexQueue {
  readonly waiters: FutexWaiter[] = [];
  pi: PiFutex | undefined;
  /** Waits that may be moved here. */
  expected = 0;

  /** Nobody needs it: the table may drop it. */
  get isIdle(): boolean {
    return this.waiters.length === 0 && this.pi === undefined && this.expected === 0;
  }

  add(waiter: FutexWaiter): void {
    waiter.queue = this;
    this.waiters.push(waiter);
  }

  remove(waiter: FutexWaiter): void {
    const index = this.waiters.indexOf(waiter);
    if (index === 0) this.waiters.shift();
    else if (index > 0) this.waiters.splice(index, 1);
  }

  /**
   * Wakes up to `count` waiters whose bitset meets `bitset`.
   * @returns how many, or undefined at one that FUTEX_WAKE may not wake: it waits to own a futex (EINVAL)
   */
  wake(count: number, bitset: number = FUTEX_BITSET_MATCH_ANY): number | undefined {
    let woken = 0;
    if (this.pi !== undefined) return undefined;
    for (let index = 0; index < this.waiters.length && woken < count; ) {
      const waiter = this.waiters[index];
      if (waiter === undefined) break;
      if (waiter.target !== undefined) return undefined;
      if ((waiter.bitset & bitset) === 0) {
        index++;
        continue;
      }
      if (index === 0) this.waiters.shift();
      else this.waiters.splice(index, 1);
      waiter.wake();
      woken++;
    }
    return woken;
  }
}

export class FutexTable {
  readonly #shared = new Map<string, FutexQueue>();

  /**
   * The queue of a word, if somebody waits there.
   * @param isPrivate FUTEX_PRIVATE_FLAG: the caller promises that only its own space uses the word
   */
  find(mm: Mm, address: number, isPrivate: boolean): FutexQueue | undefined {
    const place = isPrivate ? undefined : placeOf(mm, address);
    return place === undefined ? mm.futexes.get(localKey(address, isPrivate)) : this.#shared.get(place);
  }

  /** The queue of a word, made where there is none. */
  obtain(mm: Mm, address: number, isPrivate: boolean): FutexQueue {
    const place = isPrivate ? undefined : placeOf(mm, address);
    return place === undefined ? obtain(mm.futexes, localKey(address, isPrivate)) : obtain(this.#shared, place);
  }

  /** Wakes one waiter of a word the kernel itself has written: at the end of a thread. These waits are shared ones. */
  wakeOne(mm: Mm, address: number): void {
    this.find(mm, address, false)?.wake(1);
  }
}

const localKey = (address: number, isPrivate: boolean): number => address * 2 + (isPrivate ? 0 : 1);

/** Queues stay when their last waiter has gone, as the next one is likely to come; many idle ones are dropped at once. */
const MANY_QUEUES = 1024;

function obtain<K>(queues: Map<K, FutexQueue>, key: K): FutexQueue {
  const known = queues.get(key);
  if (known !== undefined) return known;
  if (queues.size >= MANY_QUEUES && queues.size % MANY_QUEUES === 0) {
    for (const [idle, queue] of queues) if (queue.isIdle) queues.delete(idle);
  }
  const fresh = new FutexQueue();
  queues.set(key, fresh);
  return fresh;
}

function placeOf(mm: Mm, address: number): string | undefined {
  const region = mm.space.regionAt(address);
  if (!region?.shared || region.backing === undefined) return undefined;
  const { dev, ino } = region.backing;
  return `${dev}:${ino}:${region.offset + address - region.start}`;
}
