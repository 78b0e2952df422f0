/** mremap, msync, mincore and remap_file_pages (mm/mremap.c, mm/msync.c, mm/mincore.c, mm/mmap.c). */
import type { MapOptions, Region } from "../../../emulator/memory.ts";
import { Errno } from "../errno.ts";
import { MremapFlag, MsyncFlag, mapFlags, mremapFlags, msyncFlags, prot } from "../kinds/flags.ts";
import { pointer, size } from "../kinds/kinds.ts";
import { isAligned, PAGE, pageDown, pageUp } from "../memory/pages.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { FileInode } from "../vfs/inode.ts";
import { choose, overLimit, unmap } from "./memory.ts";
import { lockNew, mayLockMore } from "./memory-lock.ts";
import { isSealed, sealed } from "./memory-seal.ts";

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
  if (!isAligned(at)) return task.fail(Errno.EINVAL, "the address is no multiple of the page size");
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
  if (isSealed(mm, at, Math.max(oldLength, 1)) || (fixed && isSealed(mm, target, newLength))) return sealed(task);
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
  const locked = mm.locks.within(at, at + PAGE) > 0;
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
  mm.unread.move(at, moved, to);
  mm.aio?.moved(at, to);
  if (isVdso) task.kernel.vdso.moved(task, to);
  if (newLength > moved) space.map(to + moved, newLength - moved, region.prot, optionsOf(region, at + moved));
  if (newLength > moved && locked) lockNew(task, to + moved, newLength - moved, true);
  for (const old of kept) {
    const start = Math.max(old.start, at);
    space.map(start, Math.min(old.end, at + oldLength) - start, old.prot, optionsOf(old, start));
  }
  return to;
}

function msync(task: Task, start: number, given: number, flags: number): number {
  const { space } = task.process;
  if ((flags & ~7) !== 0 || !isAligned(start)) return task.fail(Errno.EINVAL, "unknown flags, or not page aligned");
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
  if (!isAligned(start)) return task.fail(Errno.EINVAL, "the address is no multiple of the page size");
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

/** Another part of a file into a shared mapping of it, which is a mapping of its own then. */
function remapFilePages(task: Task, at: number, given: number, wanted: number, page: number): number {
  const { mm, space } = task.process;
  const start = pageDown(at);
  const length = pageDown(given);
  if (wanted !== 0) return task.fail(Errno.EINVAL, "the protection stays what it is: 0");
  if (length === 0 || start + length > 2 ** (8 * task.abi.word) || page + length / PAGE >= 2 ** (8 * task.abi.word))
    return task.fail(Errno.EINVAL, "the range wraps around");
  const region = start < space.end ? space.regionAt(start) : undefined;
  if (region?.backing === undefined || !region.shared) return task.fail(Errno.EINVAL, "no shared mapping of a file");
  const { backing, prot } = region;
  let end = start;
  for (const next of space.regions(start)) {
    if (end >= start + length) break;
    if ((next.start > end && end > start) || next.backing !== backing || next.prot !== prot || !next.shared) break;
    end = next.end;
  }
  if (end < start + length) return task.fail(Errno.EINVAL, "the range is not mapped from one file");
  if (isSealed(mm, start, length)) return sealed(task);
  const { sharedMemory } = task.kernel.ipc;
  if (sharedMemory.shownBy(backing)?.doomed) {
    // What was there goes first, and with its last mapping the segment.
    unmap(mm, start, length);
    sharedMemory.sweep();
    if (sharedMemory.shownBy(backing) === undefined) return task.fail(Errno.EIDRM, "the segment is gone");
  }
  space.map(start, length, prot, { backing, offset: page * PAGE, shared: true });
  return 0;
}

export const remapCalls: readonly Row[] = [
  row("mremap", { x86_64: 25, i386: 163 }, [pointer, size, size, mremapFlags, pointer], mremap, {
    family: "memory",
    returns: pointer,
  }),
  row("msync", { x86_64: 26, i386: 144 }, [pointer, size, msyncFlags], msync, { family: "memory" }),
  row("remap_file_pages", { x86_64: 216, i386: 257 }, [pointer, size, prot, size, mapFlags], remapFilePages, {
    family: "memory",
  }),
  row("mincore", { x86_64: 27, i386: 218 }, [pointer, size, pointer], mincore, { family: "memory" }),
];
