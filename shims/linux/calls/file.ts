/** read and write in all forms, lseek, sizes (truncate, fallocate), and what reaches the disk (fsync and its kin). */
import { Errno } from "../errno.ts";
import { fadvice, fallocateMode, rwfFlags, syncRangeFlags, whence } from "../kinds/files.ts";
import { fd, int, loff, long, pointer, size, uint } from "../kinds/kinds.ts";
import { bufferIn, bufferOut, iovecIn, iovecOut, path } from "../kinds/memory.ts";
import { i64, valueOut } from "../kinds/structs.ts";
import { Resource } from "../process/limits.ts";
import { Signal } from "../signals/numbers.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { contextOf, fileCall, openFileOf, pathArgument } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_UNSHARE_RANGE,
  FALLOC_FL_ZERO_RANGE,
  S_IFBLK,
  S_IFDIR,
  S_IFIFO,
  S_IFREG,
  W_OK,
} from "../vfs/flags.ts";
import { demand, type Entry, FileInode, FS_APPEND_FL, FS_IMMUTABLE_FL } from "../vfs/inode.ts";
import { afterLeases } from "../vfs/lease-wait.ts";
import { DirectoryOpen, type OpenFile, PathOpen, RegularOpen } from "../vfs/open-file.ts";
import { Plain, type Span } from "../vfs/span.ts";
import { MAX_COUNT, RWF_APPEND, RWF_KNOWN, readInto, vectorOf, withinFlags, writeFrom } from "../vfs/transfer.ts";
import { find } from "../vfs/walk.ts";
import { IN_MODIFY, report } from "../vfs/watch.ts";

/** s_maxbytes of every file system here. */
const MAX_SIZE = 2 ** 63;

/** The guest buffer, or EFAULT where it leaves user space. */
function span(task: Task, address: number, count: number): Span | undefined {
  if (address + count > task.process.space.end) return undefined;
  return new Plain(task.memory, address, Math.min(count, MAX_COUNT));
}

function notOpen(task: Task, descriptor: number): number {
  return task.fail(Errno.EBADF, `descriptor ${descriptor} is not open`);
}

function read(task: Task, descriptor: number, buffer: number, count: number): Result {
  const file = task.process.files.get(descriptor);
  if (!file) return notOpen(task, descriptor);
  const into = span(task, buffer, count);
  return into ? readInto(task, file, into, undefined) : task.fail(Errno.EFAULT, "the buffer leaves user space");
}

function write(task: Task, descriptor: number, buffer: number, count: number): Result {
  const file = task.process.files.get(descriptor);
  if (!file) return notOpen(task, descriptor);
  const from = span(task, buffer, count);
  return from ? writeFrom(task, file, from, undefined) : task.fail(Errno.EFAULT, "the buffer leaves user space");
}

/** Positioned calls: a negative offset comes first, then whether the file has offsets at all. */
function positioned(task: Task, descriptor: number, position: number): OpenFile {
  if (position < 0) fail(Errno.EINVAL, "a negative offset");
  const file = openFileOf(task, descriptor);
  if (file instanceof PathOpen) fail(Errno.EBADF, "O_PATH");
  if (!file.seekable) fail(Errno.ESPIPE, "this file has no offset");
  return file;
}

const pread = fileCall((task, descriptor, buffer, count, position) => {
  const file = positioned(task, descriptor, position);
  return readInto(task, file, span(task, buffer, count) ?? fail(Errno.EFAULT), position);
});

const pwrite = fileCall((task, descriptor, buffer, count, position) => {
  const file = positioned(task, descriptor, position);
  return writeFrom(task, file, span(task, buffer, count) ?? fail(Errno.EFAULT), position);
});

const readv = fileCall((task, descriptor, iov, count) => {
  const file = openFileOf(task, descriptor);
  return readInto(task, file, vectorOf(task, iov, count), undefined);
});

const writev = fileCall((task, descriptor, iov, count) => {
  const file = openFileOf(task, descriptor);
  return writeFrom(task, file, vectorOf(task, iov, count), undefined);
});

/** preadv and its kin pass the offset in two words on every ABI; on x86-64 the first one holds all of it. */
function offsetOf(task: Task, low: number, high: number): number {
  return task.abi.word === 8 ? low : (high | 0) * 2 ** 32 + (low >>> 0);
}

const preadv = fileCall((task, descriptor, iov, count, low, high) => {
  const position = offsetOf(task, low, high);
  const file = positioned(task, descriptor, position);
  return readInto(task, file, vectorOf(task, iov, count), position);
});

const pwritev = fileCall((task, descriptor, iov, count, low, high) => {
  const position = offsetOf(task, low, high);
  const file = positioned(task, descriptor, position);
  return writeFrom(task, file, vectorOf(task, iov, count), position);
});

const preadv2 = fileCall((task, descriptor, iov, count, low, high, flags) => {
  if (flags & ~RWF_KNOWN) fail(Errno.EOPNOTSUPP, "unknown RWF_ flags");
  if (flags & RWF_APPEND) fail(Errno.EINVAL, "RWF_APPEND is for writing");
  const position = offsetOf(task, low, high);
  const file = position === -1 ? openFileOf(task, descriptor) : positioned(task, descriptor, position);
  const from = position === -1 ? undefined : position;
  return withinFlags(readInto(task, file, vectorOf(task, iov, count), from), flags);
});

const pwritev2 = fileCall((task, descriptor, iov, count, low, high, flags) => {
  if (flags & ~RWF_KNOWN) fail(Errno.EOPNOTSUPP, "unknown RWF_ flags");
  const position = offsetOf(task, low, high);
  const file = position === -1 ? openFileOf(task, descriptor) : positioned(task, descriptor, position);
  const from = vectorOf(task, iov, count);
  if (flags & RWF_APPEND && file instanceof RegularOpen) return writeFrom(task, file, from, file.file.size);
  return withinFlags(writeFrom(task, file, from, position === -1 ? undefined : position), flags);
});

/** @returns the new offset or a negative errno */
function seek(task: Task, descriptor: number, offset: number, from: number): number {
  const file = task.process.files.get(descriptor);
  if (!file) return notOpen(task, descriptor);
  if (from > 4) return task.fail(Errno.EINVAL, "unknown whence");
  return file.seek(offset, from);
}

const lseek = fileCall((task, descriptor, offset, from) => {
  const target = seek(task, descriptor, offset, from);
  if (task.abi.word === 4 && target >= 2 ** 31) return task.fail(Errno.EOVERFLOW, "the offset does not fit off_t");
  return target;
});

const llseek = fileCall((task, descriptor, high, low, result, from) => {
  const target = seek(task, descriptor, (high | 0) * 2 ** 32 + low, from);
  if (target < 0) return target;
  i64.write(task.memory, result, target, task.abi);
  return 0;
});

function resize(task: Task, entry: Entry, inode: FileInode, length: number): number {
  if (length > task.process.limits.soft(Resource.RLIMIT_FSIZE) && length > inode.size) {
    task.kernel.signals.send(task, Signal.SIGXFSZ);
    return task.fail(Errno.EFBIG, "RLIMIT_FSIZE is reached");
  }
  inode.hold();
  try {
    inode.truncate(length);
  } finally {
    inode.drop();
  }
  report(entry, IN_MODIFY);
  return 0;
}

const truncate = fileCall((task, name, length) => {
  if (length < 0) fail(Errno.EINVAL, "a negative length");
  const context = contextOf(task);
  const entry = find(context, context.cwd, pathArgument(task, name), true);
  const { inode } = entry;
  if (inode.isDirectory) fail(Errno.EISDIR);
  if (!(inode instanceof FileInode)) return fail(Errno.EINVAL, "only regular files have a length");
  demand(inode, context.creds, W_OK);
  if (inode.flags & FS_APPEND_FL) fail(Errno.EPERM, "the file is append-only");
  inode.demandIdle();
  return afterLeases(task, false, () => {
    inode.leases?.breakFor(task.kernel, inode, true);
    inode.opening(0);
    return resize(task, entry, inode, length);
  });
});

const ftruncate = fileCall((task, descriptor, length) => {
  if (length < 0) fail(Errno.EINVAL, "a negative length");
  const file = openFileOf(task, descriptor);
  if (file instanceof PathOpen) fail(Errno.EBADF, "O_PATH");
  if (!(file instanceof RegularOpen) || !file.writable) return fail(Errno.EINVAL, "no regular file open for writing");
  if (file.inode.flags & FS_APPEND_FL) fail(Errno.EPERM, "the file is append-only");
  return resize(task, file.entry, file.file, length);
});

/** One of them at a time, or none for plain allocation (uapi/linux/falloc.h, FALLOC_FL_MODE_MASK). */
const ALLOCATIONS: readonly number[] = [
  0,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_ZERO_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_UNSHARE_RANGE,
];

const fallocate = fileCall((task, descriptor, mode, offset, length) => {
  const file = openFileOf(task, descriptor);
  if (file instanceof PathOpen) fail(Errno.EBADF, "O_PATH");
  if (offset < 0 || length <= 0) fail(Errno.EINVAL, "a negative offset or no length");
  const keeps = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
  const kind = mode & ~FALLOC_FL_KEEP_SIZE;
  if (!ALLOCATIONS.includes(kind)) fail(Errno.EOPNOTSUPP, "unknown flags, or ones that exclude each other");
  const moves = kind === FALLOC_FL_COLLAPSE_RANGE || kind === FALLOC_FL_INSERT_RANGE;
  if (kind === FALLOC_FL_PUNCH_HOLE && !keeps) fail(Errno.EOPNOTSUPP, "PUNCH_HOLE needs KEEP_SIZE");
  if (moves && keeps) fail(Errno.EOPNOTSUPP, "what moves bytes changes the size");
  if (!file.writable) fail(Errno.EBADF, "not open for writing");
  const { inode } = file;
  if (inode.kind === S_IFIFO) fail(Errno.ESPIPE);
  if (inode.isDirectory) fail(Errno.EISDIR);
  if (kind !== 0 && inode.flags & FS_APPEND_FL) fail(Errno.EPERM, "the file is append-only");
  if (inode.flags & FS_IMMUTABLE_FL) fail(Errno.EPERM, "the file is immutable");
  if (!(file instanceof RegularOpen)) return fail(Errno.ENODEV, "only regular files");
  if (offset + length >= MAX_SIZE) fail(Errno.EFBIG);
  if (kind === FALLOC_FL_UNSHARE_RANGE) fail(Errno.EOPNOTSUPP, "files share no blocks");
  file.file.refresh();
  if (moves) checkMove(file.file, kind, offset, length);
  const grown = kind === FALLOC_FL_INSERT_RANGE ? inode.size + length : offset + length;
  const grows = !keeps && kind !== FALLOC_FL_COLLAPSE_RANGE && grown > inode.size;
  if (grows && grown > task.process.limits.soft(Resource.RLIMIT_FSIZE)) {
    task.kernel.signals.send(task, Signal.SIGXFSZ);
    fail(Errno.EFBIG, "RLIMIT_FSIZE is reached");
  }
  file.file.allocate(mode, offset, length);
  report(file.entry, IN_MODIFY);
  return 0;
});

/** Bytes are cut out and put in by whole blocks, and within the file (ext4_collapse_range, ext4_insert_range). */
function checkMove(file: FileInode, kind: number, offset: number, length: number): void {
  if (!file.fs.extents) fail(Errno.EOPNOTSUPP, `${file.fs.type} moves no bytes within a file`);
  if (offset % file.blockSize !== 0 || length % file.blockSize !== 0) fail(Errno.EINVAL, "not at a block's edge");
  const inside = kind === FALLOC_FL_COLLAPSE_RANGE ? offset + length < file.size : offset < file.size;
  if (!inside) fail(Errno.EINVAL, "not within the file");
}

const fsync = fileCall((task, descriptor) => {
  const file = openFileOf(task, descriptor);
  if (file instanceof PathOpen) fail(Errno.EBADF, "O_PATH");
  if (file instanceof RegularOpen) file.file.sync();
  else if (!(file instanceof DirectoryOpen)) fail(Errno.EINVAL, "this kind of file is nowhere to be synced to");
  return 0;
});

function sync(task: Task): number {
  task.kernel.vfs.sync();
  return 0;
}

const syncfs = fileCall((task, descriptor) => {
  if (openFileOf(task, descriptor) instanceof PathOpen) fail(Errno.EBADF, "O_PATH");
  task.kernel.vfs.sync();
  return 0;
});

const syncFileRange = fileCall((task, descriptor, offset, length, flags) => {
  const file = openFileOf(task, descriptor);
  if (flags & ~7) fail(Errno.EINVAL, "unknown flags");
  if (offset < 0 || length < 0) fail(Errno.EINVAL, "a negative range");
  const { kind } = file.inode;
  if (kind !== S_IFREG && kind !== S_IFBLK && kind !== S_IFDIR) fail(Errno.ESPIPE);
  if (file instanceof RegularOpen) file.file.sync();
  return 0;
});

const fadvise = fileCall((task, descriptor, _offset, length, advice) => {
  const file = openFileOf(task, descriptor);
  if (file instanceof PathOpen) fail(Errno.EBADF, "O_PATH");
  if (file.inode.kind === S_IFIFO) fail(Errno.ESPIPE);
  if (advice < 0 || advice > 5 || length < 0) fail(Errno.EINVAL, "unknown advice");
  return 0;
});

const readahead = fileCall((task, descriptor) => {
  const file = openFileOf(task, descriptor);
  if (file instanceof PathOpen || !file.readable) fail(Errno.EBADF, "not open for reading");
  if (!(file instanceof RegularOpen)) fail(Errno.EINVAL, "only regular files");
  return 0;
});

const o = { family: "file" } as const;

export const fileCalls: readonly Row[] = [
  row("read", { x86_64: 0, i386: 3 }, [fd, bufferOut, size], read, o),
  row("write", { x86_64: 1, i386: 4 }, [fd, bufferIn(2), size], write, o),
  row("pread64", { x86_64: 17, i386: 180 }, [fd, bufferOut, size, loff], pread, o),
  row("pwrite64", { x86_64: 18, i386: 181 }, [fd, bufferIn(2), size, loff], pwrite, o),
  row("readv", { x86_64: 19, i386: 145 }, [fd, iovecOut(2), int], readv, o),
  row("writev", { x86_64: 20, i386: 146 }, [fd, iovecIn(2), int], writev, o),
  row("preadv", { x86_64: 295, i386: 333 }, [fd, iovecOut(2), int, long, long], preadv, o),
  row("pwritev", { x86_64: 296, i386: 334 }, [fd, iovecIn(2), int, long, long], pwritev, o),
  row("preadv2", { x86_64: 327, i386: 378 }, [fd, iovecOut(2), int, long, long, rwfFlags], preadv2, o),
  row("pwritev2", { x86_64: 328, i386: 379 }, [fd, iovecIn(2), int, long, long, rwfFlags], pwritev2, o),
  row("lseek", { x86_64: 8, i386: 19 }, [fd, long, whence], lseek, o),
  row("_llseek", { i386: 140 }, [fd, uint, uint, valueOut(i64), whence], llseek, o),
  row("truncate", { x86_64: 76, i386: 92 }, [path, long], truncate, o),
  row("ftruncate", { x86_64: 77, i386: 93 }, [fd, long], ftruncate, o),
  row("truncate64", { i386: 193 }, [path, loff], truncate, o),
  row("ftruncate64", { i386: 194 }, [fd, loff], ftruncate, o),
  row("fallocate", { x86_64: 285, i386: 324 }, [fd, fallocateMode, loff, loff], fallocate, {
    ...o,
    support:
      "as on ext4, in /dev/shm and on memfds as on tmpfs (KEEP_SIZE and PUNCH_HOLE only); in files bound read-write nothing is reserved",
  }),
  row("fsync", { x86_64: 74, i386: 118 }, [fd], fsync, o),
  row("fdatasync", { x86_64: 75, i386: 148 }, [fd], fsync, o),
  row("sync", { x86_64: 162, i386: 36 }, [], sync, o),
  row("syncfs", { x86_64: 306, i386: 344 }, [fd], syncfs, o),
  row("sync_file_range", { x86_64: 277, i386: 314 }, [fd, loff, loff, syncRangeFlags], syncFileRange, o),
  row("fadvise64", { x86_64: 221, i386: 250 }, [fd, loff, long, fadvice], fadvise, o),
  row("fadvise64_64", { i386: 272 }, [fd, loff, loff, fadvice], fadvise, o),
  row("readahead", { x86_64: 187, i386: 225 }, [fd, loff, pointer], readahead, o),
];
