/** What a thread leaves behind in futex words when it ends or executes another program (futex_exit_release, mm_release). */
import { MemoryFault } from "../../../emulator/errors.ts";
import type { Task } from "../task.ts";
import { FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS } from "./futex.ts";

/** ROBUST_LIST_LIMIT: a list that goes in circles ends somewhere. */
const LIST_LIMIT = 2048;
const TWO_32 = 2 ** 32;

type WordSize = 4 | 8;

/** Runs what may touch bad guest addresses: Linux gives up silently there. */
function unlessFault(what: () => void): void {
  try {
    what();
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
  }
}

/** Marks the futexes the thread still holds, hands on those with priority inheritance, and tells of its end. */
export function releaseFutexes(task: Task): void {
  const { robustList, compatRobustList } = task;
  task.robustList = 0;
  task.compatRobustList = 0;
  if (robustList !== 0) unlessFault(() => walk(task, robustList, 8));
  if (compatRobustList !== 0) unlessFault(() => walk(task, compatRobustList, 4));
  for (const pi of [...task.ownedPi]) {
    pi.ownerDied = true;
    pi.handOver();
  }
  clearChildTid(task);
}

/** Zeroes and wakes the word of set_tid_address where others still share the memory. */
function clearChildTid(task: Task): void {
  const { process, kernel, clearChildTid: address } = task;
  if (address === 0) return;
  task.clearChildTid = 0;
  if (process.mm.users <= 1 && process.tasks.size <= 1) return;
  unlessFault(() => {
    task.memory.setU32(address, 0);
    kernel.futexes.wakeOne(process.mm, address);
  });
}

/** exit_robust_list: struct robust_list_head is a next pointer, an offset to the words, and an entry under way. */
function walk(task: Task, head: number, size: WordSize): void {
  const { memory } = task;
  // The lowest bit of an entry says that its futex inherits priority.
  const entryAt = (address: number): { at: number; pi: boolean } => {
    const at = size === 8 ? memory.num64(address) : memory.u32(address);
    return { at: at - (at % 2), pi: at % 2 === 1 };
  };
  const offset = size === 8 ? memory.u32(head + 8) + (memory.u32(head + 12) | 0) * TWO_32 : memory.u32(head + 4) | 0;
  const pending = entryAt(head + 2 * size);
  let entry = entryAt(head);
  for (let count = 0; entry.at !== head && count < LIST_LIMIT; count++) {
    // Read before the word is given away: the next owner may change the list.
    let next: typeof entry | undefined;
    const { at } = entry;
    unlessFault(() => {
      next = entryAt(at);
    });
    if (at !== pending.at && !markDead(task, at + offset, entry.pi, false)) return;
    if (next === undefined) return;
    entry = next;
  }
  if (pending.at !== 0) markDead(task, pending.at + offset, pending.pi, true);
}

/** handle_futex_death. False where the list cannot be trusted. */
function markDead(task: Task, at: number, pi: boolean, pending: boolean): boolean {
  const { memory, kernel, process } = task;
  if (at % 4 !== 0) return false;
  const value = memory.u32(at);
  // It was unlocked, but who waits for it may not have been woken yet.
  if (pending && !pi && value === 0) {
    kernel.futexes.wakeOne(process.mm, at);
    return true;
  }
  if ((value & FUTEX_TID_MASK) !== task.tid) return true;
  memory.setU32(at, ((value & FUTEX_WAITERS) | FUTEX_OWNER_DIED) >>> 0);
  if (!pi && (value & FUTEX_WAITERS) !== 0) kernel.futexes.wakeOne(process.mm, at);
  return true;
}
