/** The calls that change a process's mappings. Errnos and their order follow mm/mmap.c, mm/mprotect.c. */
import {
  type Backing,
  type MapOptions,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
  SharedPages,
} from "../../../emulator/memory.ts";
import { Errno } from "../errno.ts";
import { MapFlag, mapFlags, Prot, prot } from "../kinds/flags.ts";
import { int, type Kind, pointer, scalar, size, uintHex, word } from "../kinds/kinds.ts";
import { pointsTo } from "../kinds/memory.ts";
import { READ_IMPLIES_EXEC } from "../loader/loader.ts";
import { findFree, lowestFree, MMAP_MIN_ADDR, type Mm } from "../memory/mm.ts";
import { isAligned, PAGE, pageDown, pageUp } from "../memory/pages.ts";
import { Cap } from "../process/capabilities.ts";
import { Resource } from "../process/limits.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { F_SEAL_FUTURE_WRITE, F_SEAL_WRITE } from "../vfs/flags.ts";
import { FileInode } from "../vfs/inode.ts";
import { type OpenFile, PathOpen } from "../vfs/open-file.ts";
import { ReadOnlyFile } from "../vfs/read-only-file.ts";
import { lockNew, mayLock, mayLockMore } from "./memory-lock.ts";
import { isSealed, sealed } from "./memory-seal.ts";

/** The range of MAP_32BIT. */
const LOW_START = 0x4000_0000;
const LOW_END = 0x8000_0000;
/** Flags MAP_SHARED_VALIDATE accepts on any file (LEGACY_MAP_MASK), MAP_HUGE_* among them. */
const LEGACY_FLAGS = 0x7c07_f9f3;
const MAP_TYPE = 0xf;
const PROT_VALID = Prot.PROT_READ | Prot.PROT_WRITE | Prot.PROT_EXEC | Prot.PROT_SEM;
const PROT_GROWS = Prot.PROT_GROWSDOWN | Prot.PROT_GROWSUP;

/** x86 has no pages that can be written or executed and not read. */
function effectiveProt(task: Task, wanted: number): number {
  let bits = wanted & (PROT_READ | PROT_WRITE | PROT_EXEC);
  if ((bits & PROT_READ) !== 0 && (task.process.personality & READ_IMPLIES_EXEC) !== 0) bits |= PROT_EXEC;
  return bits === 0 ? 0 : bits | PROT_READ;
}

function mmapBytes(
  task: Task,
  at: number,
  length: number,
  wanted: number,
  flags: number,
  fd: number,
  off: number,
): number {
  if (off % PAGE !== 0) return task.fail(Errno.EINVAL, "the offset is no multiple of the page size");
  return map(task, at, length, wanted, flags, fd, off);
}

function mmapPages(
  task: Task,
  at: number,
  length: number,
  wanted: number,
  flags: number,
  fd: number,
  page: number,
): number {
  return map(task, at, length, wanted, flags, fd, page * PAGE);
}

/** The i386 call with its six arguments in memory (sys_old_mmap). */
function oldMmap(task: Task, block: number): number {
  const { memory } = task;
  const word = (index: number): number => memory.u32(block + 4 * index);
  return mmapBytes(task, word(0), word(1), word(2), word(3), word(4) | 0, word(5));
}

/** True when `more` bytes would be over RLIMIT_AS. */
export function overLimit(task: Task, more: number): boolean {
  const limit = task.process.limits.soft(Resource.RLIMIT_AS);
  return limit !== Number.POSITIVE_INFINITY && task.process.space.mappedBytes + more > limit;
}

/** do_mmap. */
function map(
  task: Task,
  hint: number,
  given: number,
  wanted: number,
  flags: number,
  fd: number,
  offset: number,
): number {
  const { process } = task;
  const { mm } = process;
  const { space } = mm;
  const anonymous = (flags & MapFlag.MAP_ANONYMOUS) !== 0;
  let file: OpenFile | undefined;
  if (!anonymous) {
    file = process.files.get(fd);
    if (file === undefined || file instanceof PathOpen) return task.fail(Errno.EBADF, `descriptor ${fd} is not open`);
    if ((flags & MapFlag.MAP_HUGETLB) !== 0) return task.fail(Errno.EINVAL, "no file of huge pages");
  } else if ((flags & MapFlag.MAP_HUGETLB) !== 0) {
    return task.fail(Errno.ENOMEM, "there are no huge pages");
  }
  if (given === 0) return task.fail(Errno.EINVAL, "the length is 0");
  const length = pageUp(given);
  if (length > space.end) return task.fail(Errno.ENOMEM, "more than all of user space");
  const noReplace = (flags & MapFlag.MAP_FIXED_NOREPLACE) !== 0;
  const fixed = noReplace || (flags & MapFlag.MAP_FIXED) !== 0;
  let start: number;
  if (fixed) {
    if (hint > space.end - length) return task.fail(Errno.ENOMEM, "it would end beyond user space");
    if (hint % PAGE !== 0) return task.fail(Errno.EINVAL, "the address is no multiple of the page size");
    if (hint < MMAP_MIN_ADDR && !process.cred.capable(Cap.CAP_SYS_RAWIO)) {
      return task.fail(Errno.EPERM, "addresses below mmap_min_addr are for privileged processes");
    }
    if (noReplace && !space.isFree(hint, length)) return task.fail(Errno.EEXIST, "something is mapped there");
    start = hint;
  } else {
    start = choose(mm, hint, length, (flags & MapFlag.MAP_32BIT) !== 0 && task.abi.word === 8);
    if (start < 0) return task.fail(Errno.ENOMEM, "there is no free range that large");
  }
  if (isSealed(mm, start, length)) return sealed(task);
  const locked = (flags & MapFlag.MAP_LOCKED) !== 0;
  if (locked && !mayLock(task)) return task.fail(Errno.EPERM, "RLIMIT_MEMLOCK is 0");
  if ((locked || mm.locksFuture !== "no") && !mayLockMore(task, length))
    return task.fail(Errno.EAGAIN, "RLIMIT_MEMLOCK is reached");
  if (overLimit(task, length)) return task.fail(Errno.ENOMEM, "RLIMIT_AS is reached");
  const grows = (flags & MapFlag.MAP_GROWSDOWN) !== 0;
  const options =
    file === undefined ? anonymousOptions(task, flags, length) : fileOptions(task, file, wanted, flags, offset);
  if (typeof options === "number") return options;
  if (grows && (options.shared === true || file !== undefined)) {
    return task.fail(Errno.EINVAL, "only private anonymous memory grows");
  }
  forget(mm, start, length);
  space.map(start, length, effectiveProt(task, wanted), grows ? { ...options, grows } : options);
  noteProt(task, start, start + length, wanted & (PROT_READ | PROT_WRITE | PROT_EXEC));
  if (locked || mm.locksFuture !== "no") lockNew(task, start, length, locked || mm.locksFuture === "yes");
  return start;
}

/** Where a mapping without a fixed place goes: at the hint if there is room, else as high as possible below the mmap base. */
export function choose(mm: Mm, hint: number, length: number, low: boolean): number {
  const { space } = mm;
  const wanted = pageDown(hint);
  if (low) {
    if (wanted >= LOW_START && wanted + length <= LOW_END && space.isFree(wanted, length)) return wanted;
    return lowestFree(space, length, LOW_START, LOW_END);
  }
  if (wanted >= MMAP_MIN_ADDR && wanted <= space.end - length && space.isFree(wanted, length)) return wanted;
  return findFree(space, mm, length);
}

function anonymousOptions(task: Task, flags: number, length: number): MapOptions | number {
  const type = flags & MAP_TYPE;
  if (type === MapFlag.MAP_PRIVATE) return {};
  if (type !== MapFlag.MAP_SHARED) return task.fail(Errno.EINVAL, "neither MAP_SHARED nor MAP_PRIVATE");
  return { backing: sharedPages(task, length), shared: true };
}

function sharedPages(task: Task, length: number): Backing {
  const { kernel } = task;
  return new SharedPages(kernel.machine.physical, "/dev/zero (deleted)", length, { dev: 1, ino: kernel.newSharedId() });
}

function fileOptions(task: Task, file: OpenFile, wanted: number, flags: number, offset: number): MapOptions | number {
  const type = flags & MAP_TYPE;
  const shared = type === MapFlag.MAP_SHARED || type === MapFlag.MAP_SHARED_VALIDATE;
  if (!shared && type !== MapFlag.MAP_PRIVATE) return task.fail(Errno.EINVAL, "neither MAP_SHARED nor MAP_PRIVATE");
  const unknown = flags & ~(LEGACY_FLAGS | MAP_TYPE);
  if ((type === MapFlag.MAP_SHARED_VALIDATE && unknown !== 0) || (!shared && (flags & MapFlag.MAP_SYNC) !== 0)) {
    return task.fail(Errno.EOPNOTSUPP, `flags 0x${unknown.toString(16)} are not for this file`);
  }
  const writes = (wanted & PROT_WRITE) !== 0;
  if (shared && writes && !file.writable) return task.fail(Errno.EACCES, "the file is not open for writing");
  if (!file.readable) return task.fail(Errno.EACCES, "the file is not open for reading");
  const { process, kernel } = task;
  const { inode } = file;
  const isSealedFile = inode instanceof FileInode && (inode.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) !== 0;
  if (shared && isSealedFile && writes) {
    return task.fail(Errno.EPERM, "the file is sealed against writing");
  }
  const backing = kernel.vfs.backing(file, process.fs.root);
  if (backing === "anonymous" && !shared) return {};
  const pages = backing === "anonymous" ? sharedPages(task, pageUp(offset + PAGE)) : backing;
  // mprotect must not make a shared mapping of a file writable that was not opened for writing.
  const isReadOnly = shared && (!file.writable || isSealedFile);
  return { backing: isReadOnly ? process.mm.readOnly(pages) : pages, offset, shared };
}

function munmap(task: Task, start: number, given: number): number {
  const { mm, space } = task.process;
  const length = pageUp(given);
  if (!isAligned(start) || length === 0 || start > space.end || length > space.end - start) {
    return task.fail(Errno.EINVAL, "no page range of user space");
  }
  if (isSealed(mm, start, length)) return sealed(task);
  unmap(mm, start, length);
  return 0;
}

/** Takes mappings away, with what madvise said of them. */
export function unmap(mm: Mm, start: number, length: number): void {
  forget(mm, start, length);
  mm.space.unmap(start, length);
}

/** What was there is gone, with what madvise and mlock have said of it. */
function forget(mm: Mm, start: number, length: number): void {
  mm.forkAdvice.set(start, start + length, undefined);
  mm.locks.remove(start, start + length);
  mm.unread.remove(start, start + length);
}

/** Takes note whether reading was asked for, which /proc/pid/maps tells and the CPU cannot. */
function noteProt(task: Task, start: number, end: number, wanted: number): void {
  const { unread } = task.process.mm;
  if (wanted !== 0 && (wanted & PROT_READ) === 0) unread.add(start, end);
  else unread.remove(start, end);
}

function mprotect(task: Task, given: number, length: number, wanted: number): number {
  const { mm } = task.process;
  const { space } = mm;
  if ((wanted & PROT_GROWS) === PROT_GROWS)
    return task.fail(Errno.EINVAL, "PROT_GROWSDOWN and PROT_GROWSUP exclude each other");
  if (!isAligned(given)) return task.fail(Errno.EINVAL, "the address is no multiple of the page size");
  if (length === 0) return 0;
  const end = given + pageUp(length);
  if (end > 2 ** (8 * task.abi.word) || end > space.end) return task.fail(Errno.ENOMEM, "it ends beyond user space");
  if ((wanted & ~(PROT_VALID | PROT_GROWS)) !== 0) return task.fail(Errno.EINVAL, "unknown protection bits");
  let start = given;
  if ((wanted & PROT_GROWS) !== 0) {
    const region = space.regionAt(start);
    if (region === undefined) return task.fail(Errno.ENOMEM, "nothing is mapped there");
    if ((wanted & Prot.PROT_GROWSUP) !== 0 || !region.grows)
      return task.fail(Errno.EINVAL, "the mapping does not grow that way");
    start = region.start;
  }
  if (isSealed(mm, start, end - start)) return sealed(task);
  if ((wanted & PROT_WRITE) !== 0 && mm.hasReadOnly) {
    for (const region of space.regions(start)) {
      if (region.start >= end) break;
      if (region.backing instanceof ReadOnlyFile)
        return task.fail(Errno.EACCES, "the mapped file is not open for writing");
    }
  }
  if (!space.protect(start, end - start, effectiveProt(task, wanted))) {
    return task.fail(Errno.ENOMEM, "part of the range is not mapped");
  }
  noteProt(task, start, end, wanted & (PROT_READ | PROT_WRITE | PROT_EXEC));
  return 0;
}

function pkeyMprotect(task: Task, start: number, length: number, wanted: number, key: number): number {
  if (key !== -1) return task.fail(Errno.EINVAL, "the CPU has no protection keys");
  return mprotect(task, start, length, wanted);
}

/** brk(2) never fails: it answers where the heap ends now. */
function brk(task: Task, wanted: number): number {
  const { mm, limits } = task.process;
  const { space } = mm;
  if (wanted < mm.startBrk) return mm.brk;
  if (wanted - mm.startBrk > limits.soft(Resource.RLIMIT_DATA)) return mm.brk;
  const old = pageUp(mm.brk);
  const next = pageUp(wanted);
  if (next > space.end) return mm.brk;
  if (next < old && isSealed(mm, next, old - next)) return mm.brk;
  if (next < old) unmap(mm, next, old - next);
  else if (next > old) {
    // One page is kept free behind the heap, as the stack guard of what lies above.
    if (!space.isFree(old, next - old + PAGE) || overLimit(task, next - old)) return mm.brk;
    if (mm.locksFuture !== "no" && !mayLockMore(task, next - old)) return mm.brk;
    space.map(old, next - old, effectiveProt(task, PROT_READ | PROT_WRITE), { backing: mm.heap });
    if (mm.locksFuture !== "no") lockNew(task, old, next - old, mm.locksFuture === "yes");
  }
  mm.brk = wanted;
  return mm.brk;
}

const offsetHex = scalar("pointer", (value) => (value === 0 ? "0" : `0x${value.toString(16)}`));
const pageOffset = scalar("pointer", (value) => (value === 0 ? "0" : `0x${(value * PAGE).toString(16)}`));
const oldMmapBlock: Kind = pointsTo((at, c) => {
  const words = Array.from({ length: 6 }, (_, index) => c.task.memory.u32(at + 4 * index));
  const [address = 0, length = 0, bits = 0, flags = 0, fd = 0, offset = 0] = words;
  const show = (kind: Kind, value: number): string => kind.print(value, { ...c, exact: BigInt(value) });
  const parts = [show(pointer, address), String(length), show(prot, bits), show(mapFlags, flags), String(fd | 0)];
  return `{${[...parts, show(word, offset)].join(", ")}}`;
});

export const memoryCalls: readonly Row[] = [
  row("mmap", { x86_64: 9 }, [pointer, size, prot, mapFlags, int, offsetHex], mmapBytes, {
    family: "memory",
    returns: pointer,
    support: "MAP_HUGETLB answers ENOMEM",
  }),
  row("mmap2", { i386: 192 }, [pointer, size, prot, mapFlags, int, pageOffset], mmapPages, {
    family: "memory",
    returns: pointer,
    support: "MAP_HUGETLB answers ENOMEM",
  }),
  row("mmap", { i386: 90 }, [oldMmapBlock], oldMmap, { family: "memory", returns: pointer }),
  row("munmap", { x86_64: 11, i386: 91 }, [pointer, size], munmap, { family: "memory" }),
  row("mprotect", { x86_64: 10, i386: 125 }, [pointer, size, prot], mprotect, { family: "memory" }),
  row("pkey_mprotect", { x86_64: 329, i386: 380 }, [pointer, size, prot, int], pkeyMprotect, {
    family: "memory",
    support: "no protection keys: any key but -1 answers EINVAL",
  }),
  row("pkey_alloc", { x86_64: 330, i386: 381 }, [uintHex, uintHex], noKeys, {
    family: "memory",
    support: "answers EINVAL, as on a CPU without protection keys",
  }),
  row("pkey_free", { x86_64: 331, i386: 382 }, [int], noKeys, {
    family: "memory",
    support: "answers EINVAL, as on a CPU without protection keys",
  }),
  row("brk", { x86_64: 12, i386: 45 }, [pointer], brk, { family: "memory", returns: pointer }),
];

function noKeys(task: Task): number {
  return task.fail(Errno.EINVAL, "the CPU has no protection keys");
}
