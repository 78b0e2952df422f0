/** Futex queues (futex(2)): who waits on which word, in order of arrival. */
import type { Mm, Task } from "./task.ts";
import { WaitQueue } from "./wait.ts";

/** One task's wait on one word. */
export class FutexWaiter {
  readonly task: Task;
  readonly bitset: number;
  /** Wakes the task's `Wait`. */
  readonly queue = new WaitQueue();
  key: string;
  woken = false;

  constructor(task: Task, key: string, bitset: number) {
    this.task = task;
    this.key = key;
    this.bitset = bitset;
  }
}

export class FutexTable {
  readonly #waiters = new Map<string, FutexWaiter[]>();

  /**
   * What a word is known by: its place in shared memory where it lies in a shared mapping, else its address in its space.
   * @param isPrivate FUTEX_PRIVATE_FLAG: the caller promises that only its own space uses the word
   */
  key(mm: Mm, address: number, isPrivate: boolean): string {
    if (!isPrivate) {
      const region = mm.space.regionAt(address);
      if (region?.shared && region.backing !== undefined) {
        const { dev, ino, name } = region.backing;
        return `${dev}:${ino}:${name}:${region.offset + address - region.start}`;
      }
    }
    return `${mm.space.id}@${address}`;
  }

  add(waiter: FutexWaiter): void {
    const list = this.#waiters.get(waiter.key);
    if (list === undefined) this.#waiters.set(waiter.key, [waiter]);
    else list.push(waiter);
  }

  remove(waiter: FutexWaiter): void {
    const list = this.#waiters.get(waiter.key);
    const index = list?.indexOf(waiter) ?? -1;
    if (list === undefined || index < 0) return;
    list.splice(index, 1);
    if (list.length === 0) this.#waiters.delete(waiter.key);
  }

  /** Wakes up to `count` waiters whose bitset meets `bitset`; returns how many. */
  wake(key: string, count: number, bitset: number = 0xffff_ffff): number {
    const list = this.#waiters.get(key);
    if (list === undefined) return 0;
    let woken = 0;
    for (const waiter of [...list]) {
      if (woken >= count) break;
      if ((waiter.bitset & bitset) === 0) continue;
      this.remove(waiter);
      waiter.woken = true;
      waiter.queue.wake();
      woken++;
    }
    return woken;
  }

  /** Moves up to `count` waiters to another word without waking them; returns how many. */
  requeue(from: string, to: string, count: number): number {
    const list = this.#waiters.get(from);
    if (list === undefined) return 0;
    const moved = list.slice(0, Math.min(count, list.length));
    for (const waiter of moved) {
      if (from === to) continue;
      this.remove(waiter);
      waiter.key = to;
      this.add(waiter);
    }
    return moved.length;
  }
}
