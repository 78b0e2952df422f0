/** mremap, madvise, msync and mincore (mm/mremap.c, mm/madvise.c, mm/msync.c, mm/mincore.c). */
import type { MapOptions, Region } from "../../../emulator/memory.ts";
import { Errno } from "../errno.ts";
import { pointer, size } from "../kinds.ts";
import { Madvise, MremapFlag, MsyncFlag, madvice, mremapFlags, msyncFlags } from "../kinds-flags.ts";
import { PAGE, pageUp } from "../pages.ts";
import { ReadOnlyFile } from "../read-only-file.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../vfs/flags.ts";
import { FileInode } from "../vfs/inode.ts";
import { choose, overLimit, unmap } from "./memory.ts";
import { lockNew, mayLockMore } from "./memory-lock.ts";

const optionsOf = (region: Region, at: number): MapOptions => ({
  ...(region.backing !== undefined && { backing: region.backing, offset: region.offset + at - region.start }),
  shared: region.shared,
  grows: region.grows,
});

function mremap(task: Task, at: number, oldGiven: number, newGiven: number, flags: number, target: number): number {
  const { mm } = task.process;
  const { space } = mm;
  const mayMove = (flags & MremapFlag.MREMAP_MAYMOVE) !== 0;
  const fixed = (flags & MremapFlag.MREMAP_FIXED) !== 0;
  const keep = (flags & MremapFlag.MREMAP_DONTUNMAP) !== 0;
  if ((flags & ~7) !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  if ((fixed || keep) && !mayMove)
    return task.fail(Errno.EINVAL, "MREMAP_FIXED and MREMAP_DONTUNMAP need MREMAP_MAYMOVE");
  if (at % PAGE !== 0) return task.fail(Errno.EINVAL, "the address is no multiple of the page size");
  const oldLength = pageUp(oldGiven);
  const newLength = pageUp(newGiven);
  if (newLength === 0 || newLength > space.end) return task.fail(Errno.EINVAL, "no length in user space");
  if (keep && oldLength !== newLength) return task.fail(Errno.EINVAL, "MREMAP_DONTUNMAP keeps the length");
  if (fixed) {
    if (target % PAGE !== 0 || target > space.end - newLength)
      return task.fail(Errno.EINVAL, "no page range of user space");
    if (at + oldLength > target && target + newLength > at) return task.fail(Errno.EINVAL, "old and new range overlap");
  }
  const region = at < space.end ? space.regionAt(at) : undefined;
  if (region === undefined) return task.fail(Errno.EFAULT, "nothing is mapped there");
  if (oldLength === 0 && !region.shared) return task.fail(Errno.EINVAL, "private memory cannot be mapped twice");
  const grows = newLength > oldLength;
  if (!fixed && !keep && !grows) {
    if (newLength < oldLength) unmap(mm, at + newLength, oldLength - newLength);
    return at;
  }
  if (grows && at + oldLength > region.end) return task.fail(Errno.EFAULT, "the range is not one mapping");
  const isVdso = task.kernel.vdso.holds(region.backing);
  if (grows && isVdso) return task.fail(Errno.EFAULT, "the vDSO does not grow");
  if (overLimit(task, keep ? newLength : Math.max(0, newLength - oldLength))) {
    return task.fail(Errno.ENOMEM, "RLIMIT_AS is reached");
  }
  const locked = mm.locks.within(region.end - PAGE, region.end) > 0;
  if (grows && locked && !mayLockMore(task, newLength - oldLength))
    return task.fail(Errno.EAGAIN, "RLIMIT_MEMLOCK is reached");
  const inPlace = !fixed && !keep && oldLength > 0 && at + oldLength === region.end;
  if (inPlace && at + newLength <= space.end && space.isFree(region.end, newLength - oldLength)) {
    space.map(region.end, newLength - oldLength, region.prot, optionsOf(region, region.end));
    if (locked) lockNew(task, region.end, newLength - oldLength, true);
    return at;
  }
  if (!mayMove) return task.fail(Errno.ENOMEM, "there is no room behind it, and it may not move");
  const to = fixed ? target : choose(mm, keep ? target : 0, newLength, false);
  if (to < 0) return task.fail(Errno.ENOMEM, "there is no free range that large");
  if (fixed) unmap(mm, to, newLength);
  if (oldLength === 0) {
    space.map(to, newLength, region.prot, optionsOf(region, at));
    return to;
  }
  if (newLength < oldLength) unmap(mm, at + newLength, oldLength - newLength);
  const kept = keep ? [...space.regions(at)].filter((r) => r.start < at + oldLength) : [];
  const moved = Math.min(oldLength, newLength);
  space.move(at, moved, to);
  mm.forkAdvice.move(at, moved, to);
  mm.locks.move(at, moved, to);
  if (isVdso) task.kernel.vdso.moved(task, to);
  if (newLength > moved) space.map(to + moved, newLength - moved, region.prot, optionsOf(region, at + moved));
  if (newLength > moved && locked) lockNew(task, to + moved, newLength - moved, true);
  for (const old of kept) {
    const start = Math.max(old.start, at);
    space.map(start, Math.min(old.end, at + oldLength) - start, old.prot, optionsOf(old, start));
  }
  return to;
}

const KNOWN_ADVICE: ReadonlySet<number> = new Set(Object.values(Madvise));
/** Advice that this kernel is built without, or that needs what it does not keep. */
const REFUSED_ADVICE: ReadonlySet<number> = new Set([
  Madvise.MADV_HWPOISON,
  Madvise.MADV_SOFT_OFFLINE,
  Madvise.MADV_COLLAPSE,
  Madvise.MADV_GUARD_INSTALL,
  Madvise.MADV_GUARD_REMOVE,
]);

function madvise(task: Task, start: number, given: number, advice: number): number {
  const { space } = task.process;
  if (!KNOWN_ADVICE.has(advice)) return task.fail(Errno.EINVAL, "unknown advice");
  if (REFUSED_ADVICE.has(advice)) return task.fail(Errno.EINVAL, "this advice is not supported");
  if (start % PAGE !== 0) return task.fail(Errno.EINVAL, "the address is no multiple of the page size");
  const length = pageUp(given);
  const end = start + length;
  if (end > 2 ** (8 * task.abi.word)) return task.fail(Errno.EINVAL, "the range wraps around");
  if (length === 0) return 0;
  if (start >= space.end) return task.fail(Errno.ENOMEM, "it lies outside user space");
  let hole = false;
  let position = start;
  for (const region of [...space.regions(start)]) {
    if (region.start >= end) break;
    if (region.start > position) hole = true;
    position = Math.min(region.end, end);
    const from = Math.max(region.start, start);
    const result = advise(task, advice, region, from, position - from);
    if (result !== 0) return result;
  }
  return hole || position < end ? task.fail(Errno.ENOMEM, "part of the range is not mapped") : 0;
}

/** MADV_REMOVE: a hole in the file (madvise_remove). */
function remove(task: Task, region: Region, from: number, length: number): number {
  const { backing } = region;
  if (backing?.frame === undefined) return task.fail(Errno.EINVAL, "no file is mapped there");
  if (!region.shared || backing instanceof ReadOnlyFile)
    return task.fail(Errno.EACCES, "not a shared mapping of a file open for writing");
  if ("file" in backing && backing.file instanceof FileInode) {
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    backing.file.allocate(mode, region.offset + from - region.start, length);
  } else task.memory.fill(from, length, 0);
  return 0;
}

/** Advice that takes pages away, which a locked mapping does not allow. */
const TAKES_AWAY: ReadonlySet<number> = new Set([
  Madvise.MADV_DONTNEED,
  Madvise.MADV_FREE,
  Madvise.MADV_REMOVE,
  Madvise.MADV_COLD,
  Madvise.MADV_PAGEOUT,
]);

function advise(task: Task, advice: number, region: Region, from: number, length: number): number {
  const { space, mm } = task.process;
  const end = from + length;
  if (mm.locks.any && TAKES_AWAY.has(advice) && mm.locks.within(from, end) > 0)
    return task.fail(Errno.EINVAL, "the memory is locked");
  switch (advice) {
    case Madvise.MADV_DONTFORK:
      mm.forkAdvice.set(from, end, "leave");
      return 0;
    case Madvise.MADV_DOFORK:
      mm.forkAdvice.unset(from, end, "leave");
      return 0;
    case Madvise.MADV_WIPEONFORK:
      // Only private anonymous memory can be emptied.
      if (region.shared || region.backing?.frame !== undefined)
        return task.fail(Errno.EINVAL, "a file or shared memory");
      mm.forkAdvice.set(from, end, "wipe");
      return 0;
    case Madvise.MADV_KEEPONFORK:
      mm.forkAdvice.unset(from, end, "wipe");
      return 0;
    case Madvise.MADV_DONTNEED:
    case Madvise.MADV_DONTNEED_LOCKED:
      space.discard(from, length);
      return 0;
    case Madvise.MADV_FREE:
      // Linux may take the pages at any moment from now on; taking them at once is the repeatable choice.
      if (region.shared || region.backing?.frame !== undefined)
        return task.fail(Errno.EINVAL, "not private anonymous memory");
      space.discard(from, length);
      return 0;
    case Madvise.MADV_REMOVE:
      return remove(task, region, from, length);
    case Madvise.MADV_POPULATE_READ:
    case Madvise.MADV_POPULATE_WRITE:
      return populate(task, from, length, advice === Madvise.MADV_POPULATE_WRITE ? "write" : "read");
    default:
      return 0;
  }
}

function populate(task: Task, from: number, length: number, access: "read" | "write"): number {
  const { space } = task.process;
  for (let at = from; at < from + length; at += PAGE) {
    const found = space.resolve(at, access);
    if (found === "ok") continue;
    if (found === "bus") return task.fail(Errno.EFAULT, "the mapped file ends before");
    if (found === "memory") return task.fail(Errno.ENOMEM, "guest memory has run out");
    return task.fail(Errno.EINVAL, "the mapping forbids it");
  }
  return 0;
}

function msync(task: Task, start: number, given: number, flags: number): number {
  const { space } = task.process;
  if ((flags & ~7) !== 0 || start % PAGE !== 0) return task.fail(Errno.EINVAL, "unknown flags, or not page aligned");
  if ((flags & MsyncFlag.MS_ASYNC) !== 0 && (flags & MsyncFlag.MS_SYNC) !== 0) {
    return task.fail(Errno.EINVAL, "MS_ASYNC and MS_SYNC exclude each other");
  }
  const { locks } = task.process.mm;
  const wordEnd = 2 ** (8 * task.abi.word);
  const length = pageUp(given) % wordEnd;
  const end = start + length;
  if (end > wordEnd) return task.fail(Errno.ENOMEM, "the range wraps around");
  if (length > 0 && start >= space.end) return task.fail(Errno.ENOMEM, "it lies outside user space");
  let hole = false;
  let position = start;
  for (const region of length > 0 ? space.regions(start) : []) {
    if (region.start >= end) break;
    if (region.start > position) hole = true;
    position = Math.min(region.end, end);
    if ((flags & MsyncFlag.MS_INVALIDATE) !== 0 && locks.within(Math.max(start, region.start), position) > 0)
      return task.fail(Errno.EBUSY, "the memory is locked");
    if (
      (flags & MsyncFlag.MS_SYNC) !== 0 &&
      region.shared &&
      region.backing !== undefined &&
      "file" in region.backing
    ) {
      const { file } = region.backing;
      if (file instanceof FileInode) file.sync();
    }
  }
  return hole || position < end ? task.fail(Errno.ENOMEM, "part of the range is not mapped") : 0;
}

function mincore(task: Task, start: number, given: number, vector: number): number {
  const { space } = task.process;
  if (start % PAGE !== 0) return task.fail(Errno.EINVAL, "the address is no multiple of the page size");
  if (start > space.end || given > space.end - start) return task.fail(Errno.ENOMEM, "it ends beyond user space");
  const pages = pageUp(given) / PAGE;
  // A chunk at a time, as Linux: what comes before a hole is written.
  const chunk = new Uint8Array(Math.min(pages, PAGE));
  for (let done = 0; done < pages; done += chunk.length) {
    const count = Math.min(chunk.length, pages - done);
    for (let index = 0; index < count; index++) {
      const at = start + (done + index) * PAGE;
      if (!space.isMapped(at, PAGE)) return task.fail(Errno.ENOMEM, "part of the range is not mapped");
      chunk[index] = space.isResident(at) ? 1 : 0;
    }
    task.memory.write(vector + done, chunk.subarray(0, count));
  }
  return 0;
}

export const remapCalls: readonly Row[] = [
  row("mremap", { x86_64: 25, i386: 163 }, [pointer, size, size, mremapFlags, pointer], mremap, {
    family: "memory",
    returns: pointer,
  }),
  row("madvise", { x86_64: 28, i386: 219 }, [pointer, size, madvice], madvise, {
    family: "memory",
    support: "MADV_GUARD_* and MADV_COLLAPSE answer EINVAL; MADV_REMOVE EOPNOTSUPP",
  }),
  row("msync", { x86_64: 26, i386: 144 }, [pointer, size, msyncFlags], msync, { family: "memory" }),
  row("mincore", { x86_64: 27, i386: 218 }, [pointer, size, pointer], mincore, { family: "memory" }),
];
