/** madvise and process_madvise (mm/madvise.c). */
import { PROT_WRITE, type Region } from "../../../emulator/memory.ts";
import { Errno } from "../errno.ts";
import { Madvise, madvice } from "../kinds/flags.ts";
import { fd, pointer, size, uintHex } from "../kinds/kinds.ts";
import type { Mm } from "../memory/mm.ts";
import { isAligned, PAGE, pageUp } from "../memory/pages.ts";
import { Cap } from "../process/capabilities.ts";
import { PidFile } from "../process/pid-file.ts";
import { mayAttach } from "../ptrace/access.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../vfs/flags.ts";
import { FileInode } from "../vfs/inode.ts";
import { ReadOnlyFile } from "../vfs/read-only-file.ts";
import { isSealed, sealed } from "./memory-seal.ts";
import { vectors } from "./pidfd.ts";

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
  return madviseIn(task, task.process.mm, start, given, advice);
}

function madviseIn(task: Task, mm: Mm, start: number, given: number, advice: number): number {
  const { space } = mm;
  if (!KNOWN_ADVICE.has(advice)) return task.fail(Errno.EINVAL, "unknown advice");
  if (REFUSED_ADVICE.has(advice)) return task.fail(Errno.EINVAL, "this advice is not supported");
  if (!isAligned(start)) return task.fail(Errno.EINVAL, "the address is no multiple of the page size");
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
    const result = advise(task, mm, advice, region, from, position - from);
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

/** Advice that empties: of a sealed mapping that cannot be written it would be a way to change it. */
const DISCARDS: ReadonlySet<number> = new Set([
  Madvise.MADV_DONTNEED,
  Madvise.MADV_DONTNEED_LOCKED,
  Madvise.MADV_FREE,
  Madvise.MADV_REMOVE,
  Madvise.MADV_DONTFORK,
  Madvise.MADV_WIPEONFORK,
]);

function advise(task: Task, mm: Mm, advice: number, region: Region, from: number, length: number): number {
  const { space } = mm;
  const end = from + length;
  if (mm.locks.any && TAKES_AWAY.has(advice) && mm.locks.within(from, end) > 0)
    return task.fail(Errno.EINVAL, "the memory is locked");
  const isPrivate = !region.shared && region.backing?.frame === undefined;
  if (isPrivate && (region.prot & PROT_WRITE) === 0 && DISCARDS.has(advice) && isSealed(mm, from, length))
    return sealed(task);
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
      return populate(task, mm, from, length, advice === Madvise.MADV_POPULATE_WRITE ? "write" : "read");
    default:
      return 0;
  }
}

function populate(task: Task, mm: Mm, from: number, length: number, access: "read" | "write"): number {
  const { space } = mm;
  for (let at = from; at < from + length; at += PAGE) {
    const found = space.resolve(at, access);
    if (found === "ok") continue;
    if (found === "bus") return task.fail(Errno.EFAULT, "the mapped file ends before");
    if (found === "memory") return task.fail(Errno.ENOMEM, "guest memory has run out");
    return task.fail(Errno.EINVAL, "the mapping forbids it");
  }
  return 0;
}

/** Advice that may be given for another process. */
const FOR_OTHERS: ReadonlySet<number> = new Set([
  Madvise.MADV_WILLNEED,
  Madvise.MADV_COLD,
  Madvise.MADV_PAGEOUT,
  Madvise.MADV_COLLAPSE,
]);

function processMadvise(
  task: Task,
  descriptor: number,
  list: number,
  count: number,
  advice: number,
  flags: number,
): number {
  if (flags !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  const pieces = vectors(task, list, count);
  if (typeof pieces === "number") return pieces;
  const file = task.process.files.get(descriptor);
  if (!(file instanceof PidFile)) return task.fail(Errno.EBADF, `descriptor ${descriptor} is no pidfd`);
  const { process } = file;
  if (process.ended) return task.fail(Errno.ESRCH, "the process has ended");
  if (!mayAttach(task, process)) return task.fail(Errno.EPERM, "the process may not be looked into");
  const { mm } = process;
  if (!FOR_OTHERS.has(advice)) return task.fail(Errno.EINVAL, "no advice that is given for others");
  if (mm !== task.process.mm && !task.process.cred.capable(Cap.CAP_SYS_NICE))
    return task.fail(Errno.EPERM, "advice for other processes is for privileged ones");
  let done = 0;
  for (const { start, length } of pieces) {
    const result = madviseIn(task, mm, start, length, advice);
    if (result < 0) return done > 0 ? done : result;
    done += length;
  }
  return done;
}

const family = "memory";
export const madviseCalls: readonly Row[] = [
  row("madvise", { x86_64: 28, i386: 219 }, [pointer, size, madvice], madvise, {
    family: "memory",
    support: "MADV_GUARD_* and MADV_COLLAPSE answer EINVAL",
  }),
  row("process_madvise", { x86_64: 440, i386: 440 }, [fd, pointer, size, madvice, uintHex], processMadvise, {
    family,
    returns: size,
  }),
];
