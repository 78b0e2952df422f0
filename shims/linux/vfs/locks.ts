import { Errno } from "../errno.ts";
import { WaitQueue } from "../wait.ts";

export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;

/** A range [start, end) locked by an owner: a process's file table for fcntl locks, an open file for OFD locks and flock. */
export interface Lock {
  readonly owner: object;
  /** Process that F_GETLK names; -1 for OFD locks. */
  readonly pid: number;
  readonly exclusive: boolean;
  readonly start: number;
  /** Infinity for "to the end, wherever that is". */
  readonly end: number;
}

/** The advisory locks of one file and of one kind (fcntl and flock locks do not see each other; flock(2)). */
export class LockList {
  readonly changed = new WaitQueue();
  #locks: Lock[] = [];

  /** The first lock of somebody else that stands in the way. */
  conflict(wanted: Lock): Lock | undefined {
    return this.#locks.find(
      (lock) =>
        lock.owner !== wanted.owner &&
        (lock.exclusive || wanted.exclusive) &&
        lock.start < wanted.end &&
        wanted.start < lock.end,
    );
  }

  /** The first of the owner's own that lies in the range (F_OFD_GETLK with F_UNLCK). */
  own(wanted: Lock): Lock | undefined {
    return this.#locks.find(
      (lock) => lock.owner === wanted.owner && lock.start < wanted.end && wanted.start < lock.end,
    );
  }

  /** Sets the lock over the owner's own; false when somebody else's is in the way. */
  set(wanted: Lock): boolean {
    if (this.conflict(wanted)) return false;
    if (!this.#locks.some((l) => l.owner === wanted.owner && l.start <= wanted.end && wanted.start <= l.end)) {
      this.#insert(wanted);
      return true;
    }
    this.clear(wanted.owner, wanted.start, wanted.end);
    const touching = this.#locks.filter(
      (lock) =>
        lock.owner === wanted.owner &&
        lock.exclusive === wanted.exclusive &&
        lock.start <= wanted.end &&
        wanted.start <= lock.end,
    );
    const start = Math.min(wanted.start, ...touching.map((lock) => lock.start));
    const end = Math.max(wanted.end, ...touching.map((lock) => lock.end));
    this.#locks = this.#locks.filter((lock) => !touching.includes(lock));
    this.#locks.push({ ...wanted, start, end });
    this.#locks.sort((a, b) => a.start - b.start);
    return true;
  }

  /** Puts a lock that touches none of its owner's in its place. */
  #insert(lock: Lock): void {
    let [low, high] = [0, this.#locks.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#locks[middle]?.start ?? 0) <= lock.start) low = middle + 1;
      else high = middle;
    }
    this.#locks.splice(low, 0, lock);
  }

  /** Takes the owner's locks off a range; a lock across its edge is cut. */
  clear(owner: object, start = 0, end = Number.POSITIVE_INFINITY): void {
    const kept: Lock[] = [];
    let found = false;
    for (const lock of this.#locks) {
      if (lock.owner !== owner || lock.end <= start || end <= lock.start) {
        kept.push(lock);
        continue;
      }
      found = true;
      if (lock.start < start) kept.push({ ...lock, end: start });
      if (end < lock.end) kept.push({ ...lock, start: end });
    }
    this.#locks = kept;
    if (found) this.changed.wake();
  }
}

/** `struct flock` in the guest's terms. */
export interface LockRequest {
  type: number;
  whence: number;
  start: number;
  length: number;
}

/** The range a request means. @returns a negative errno when it is none (fcntl(2)) */
export function lockRange(
  request: LockRequest,
  position: number,
  size: number,
): { start: number; end: number } | number {
  const base = request.whence === 0 ? 0 : request.whence === 1 ? position : request.whence === 2 ? size : undefined;
  if (base === undefined) return -Errno.EINVAL;
  const from = base + request.start;
  if (from < 0) return -Errno.EINVAL;
  if (from > 2 ** 63) return -Errno.EOVERFLOW;
  if (request.length > 0) return { start: from, end: from + request.length };
  if (request.length === 0) return { start: from, end: Number.POSITIVE_INFINITY };
  if (from + request.length < 0) return -Errno.EINVAL;
  return { start: from + request.length, end: from };
}
