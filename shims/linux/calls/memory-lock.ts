/** mlock and its like (mm/mlock.c): nothing is ever swapped out here, so what they do is to count, and to bring pages in. */
import type { Region } from "../../../emulator/memory.ts";
import { Errno } from "../errno.ts";
import { mlockallFlags } from "../kinds/flags.ts";
import { pointer, size, uintHex } from "../kinds/kinds.ts";
import { PAGE, pageDown, pageUp } from "../memory/pages.ts";
import { Cap } from "../process/capabilities.ts";
import { Resource } from "../process/limits.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";

const MLOCK_ONFAULT = 1;
const MCL_CURRENT = 1;
const MCL_FUTURE = 2;
const MCL_ONFAULT = 4;

const limitOf = (task: Task): number => task.process.limits.soft(Resource.RLIMIT_MEMLOCK);
const unlimited = (task: Task): boolean => task.process.cred.capable(Cap.CAP_IPC_LOCK);

/** can_do_mlock. */
export function mayLock(task: Task): boolean {
  return limitOf(task) !== 0 || unlimited(task);
}

/** mlock_future_ok: whether as many bytes more can be locked. */
export function mayLockMore(task: Task, bytes: number): boolean {
  return unlimited(task) || task.process.mm.locks.bytes + bytes <= limitOf(task);
}

/** Brings pages in, for writing where the mapping is a private one that may be written; false at one that cannot be read. */
function populate(task: Task, start: number, end: number): boolean {
  const { space } = task.process;
  for (let at = start; at < end; ) {
    const region = space.regionAt(at);
    if (region === undefined) return false;
    const access = !region.shared && (region.prot & 2) !== 0 ? "write" : "read";
    const stop = Math.min(end, region.end);
    for (; at < stop; at += PAGE) if (space.resolve(at, access) !== "ok") return false;
  }
  return true;
}

/** A mapping that has just been made is locked. That its pages cannot all be brought in is nobody's failure. */
export function lockNew(task: Task, start: number, length: number, bringIn: boolean): void {
  task.process.mm.locks.add(start, start + length);
  if (bringIn) populate(task, start, start + length);
}

/** Mappings of the kernel's own are never locked (VM_SPECIAL). */
const canBeLocked = ({ backing }: Region): boolean => backing?.name !== "[vdso]" && backing?.name !== "[vvar]";

/** Locks or unlocks what is mapped in a range, up to the first hole; false when there is one (apply_vma_lock_flags). */
function apply(task: Task, start: number, end: number, lock: boolean): boolean {
  const { space, locks } = task.process.mm;
  let position = start;
  for (const region of space.regions(start)) {
    if (region.start >= end || region.start > position) break;
    const stop = Math.min(region.end, end);
    if (!lock) locks.remove(position, stop);
    else if (canBeLocked(region)) locks.add(position, stop);
    position = stop;
  }
  return position >= end;
}

interface Range {
  readonly start: number;
  readonly length: number;
  /** Its end is at a lower address, as addresses of 64 bits are added whatever the program's own size. */
  readonly wraps: boolean;
}

/** The pages of a range, from the call's first two arguments. */
function rangeOf(task: Task, at: number, given: number): Range {
  if (at + given < Number.MAX_SAFE_INTEGER) {
    return { start: pageDown(at), length: pageUp(given + (at % PAGE)), wraps: false };
  }
  const [first, second] = task.abi.args;
  const exact = task.cpu.regBig(first);
  const offset = exact & 0xfffn;
  const length = BigInt.asUintN(64, task.cpu.regBig(second) + offset + 0xfffn) & ~0xfffn;
  const start = exact - offset;
  return { start: Number(start), length: Number(length), wraps: start + length >= 1n << 64n };
}

function mlockPages(task: Task, at: number, given: number, bringIn: boolean): number {
  const { process } = task;
  const { start, length, wraps } = rangeOf(task, at, given);
  if (!mayLock(task)) return task.fail(Errno.EPERM, "RLIMIT_MEMLOCK is 0");
  const { locks, space } = process.mm;
  const end = start + length;
  if (!mayLockMore(task, length - locks.within(start, end)))
    return task.fail(Errno.ENOMEM, "RLIMIT_MEMLOCK is reached");
  if (wraps) return task.fail(Errno.EINVAL, "the range wraps around");
  if (length === 0) return 0;
  if (end > space.end || !apply(task, start, end, true))
    return task.fail(Errno.ENOMEM, "part of the range is not mapped");
  if (bringIn && !populate(task, start, end)) return task.fail(Errno.ENOMEM, "part of the range cannot be read");
  return 0;
}

function mlock(task: Task, at: number, length: number): number {
  return mlockPages(task, at, length, true);
}

function mlock2(task: Task, at: number, length: number, flags: number): number {
  if ((flags & ~MLOCK_ONFAULT) !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  return mlockPages(task, at, length, (flags & MLOCK_ONFAULT) === 0);
}

function munlock(task: Task, at: number, given: number): number {
  const { start, length, wraps } = rangeOf(task, at, given);
  if (wraps) return task.fail(Errno.EINVAL, "the range wraps around");
  if (length === 0) return 0;
  const { space } = task.process;
  if (start + length > space.end || !apply(task, start, start + length, false)) {
    return task.fail(Errno.ENOMEM, "part of the range is not mapped");
  }
  return 0;
}

function mlockall(task: Task, flags: number): number {
  if (flags === 0 || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) !== 0 || flags === MCL_ONFAULT)
    return task.fail(Errno.EINVAL, "no such combination of flags");
  if (!mayLock(task)) return task.fail(Errno.EPERM, "RLIMIT_MEMLOCK is 0");
  const { mm } = task.process;
  const { locks, space } = mm;
  const onFault = (flags & MCL_ONFAULT) !== 0;
  if ((flags & MCL_CURRENT) !== 0) {
    let total = 0;
    for (const { start, end } of space.regions()) total += end - start;
    if (total > limitOf(task) && !unlimited(task)) return task.fail(Errno.ENOMEM, "RLIMIT_MEMLOCK is reached");
  }
  mm.locksFuture = (flags & MCL_FUTURE) === 0 ? "no" : onFault ? "on fault" : "yes";
  if ((flags & MCL_CURRENT) === 0) return 0;
  for (const region of [...space.regions()]) {
    if (!canBeLocked(region)) continue;
    locks.add(region.start, region.end);
    if (!onFault) populate(task, region.start, region.end);
  }
  return 0;
}

function munlockall(task: Task): number {
  const { mm } = task.process;
  mm.locks.clear();
  mm.locksFuture = "no";
  return 0;
}

const family = "memory";
export const memoryLockCalls: readonly Row[] = [
  row("mlock", { x86_64: 149, i386: 150 }, [pointer, size], mlock, { family }),
  row("mlock2", { x86_64: 325, i386: 376 }, [pointer, size, uintHex], mlock2, { family }),
  row("munlock", { x86_64: 150, i386: 151 }, [pointer, size], munlock, { family }),
  row("mlockall", { x86_64: 151, i386: 152 }, [mlockallFlags], mlockall, { family }),
  row("munlockall", { x86_64: 152, i386: 153 }, [], munlockall, { family }),
];
