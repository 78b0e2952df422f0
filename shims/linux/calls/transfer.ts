/** Bytes from file to file without guest memory between: sendfile, copy_file_range, splice, tee, vmsplice. */
import { Errno } from "../errno.ts";
import { spliceFlags } from "../kinds/files.ts";
import { fd, int, pointer, size, uint } from "../kinds/kinds.ts";
import { iovecIn } from "../kinds/memory.ts";
import { type Field, i32, i64, valueOut } from "../kinds/structs.ts";
import { Signal } from "../signals/numbers.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { blocking, fileCall, openFileOf } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { O_APPEND, O_NONBLOCK } from "../vfs/flags.ts";
import { type OpenFile, PathOpen, RegularOpen } from "../vfs/open-file.ts";
import { PipeOpen } from "../vfs/pipe.ts";
import { MAX_COUNT, readInto, staging, vectorOf } from "../vfs/transfer.ts";

const SPLICE_F_NONBLOCK = 2;
const SPLICE_KNOWN = 15;

/** One end of a copy: a file with the place it is read or written at. */
class Place {
  readonly file: OpenFile;
  /** Undefined for the file's own offset, and for pipes. */
  position: number | undefined;

  constructor(file: OpenFile, position: number | undefined) {
    this.file = file;
    this.position = position;
  }

  read(into: Uint8Array): number {
    const got = this.position === undefined ? this.file.read(into) : this.file.pread(into, this.position);
    if (got > 0 && this.position !== undefined) this.position += got;
    return got;
  }

  write(from: Uint8Array): number {
    const put = this.position === undefined ? this.file.write(from) : this.file.pwrite(from, this.position);
    if (put > 0 && this.position !== undefined) this.position += put;
    return put;
  }

  /** The last bytes that were read could not be written. */
  giveBack(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (this.position !== undefined) this.position -= bytes.length;
    else if (this.file instanceof RegularOpen) this.file.position -= bytes.length;
    else this.file.unread(bytes.slice());
  }
}

/** Copies up to `count` bytes as far as it goes without waiting. @returns the count, 0 at the end, or a negative errno */
function copy(task: Task, from: Place, to: Place, count: number): number {
  let done = 0;
  while (done < count) {
    const buffer = staging(task, count - done);
    const got = from.read(buffer);
    if (got <= 0) return done > 0 ? done : got;
    const bytes = buffer.subarray(0, got);
    const put = to.write(bytes);
    from.giveBack(bytes.subarray(Math.max(put, 0)));
    if (put === -Errno.EPIPE && done === 0) task.kernel.signals.send(task, Signal.SIGPIPE);
    if (put <= 0) return done > 0 ? done : put;
    done += put;
    if (put < got || got < buffer.length) break;
  }
  return done;
}

/** An offset the guest passes by pointer; undefined for a null pointer. */
function offsetAt(task: Task, address: number, type: Field<number>): number | undefined {
  if (address === 0) return undefined;
  const value = type.read(task.memory, address, task.abi);
  return value < 0 ? fail(Errno.EINVAL, "a negative offset") : value;
}

function storeOffset(task: Task, address: number, type: Field<number>, place: Place): void {
  if (place.position !== undefined && address !== 0) type.write(task.memory, address, place.position, task.abi);
}

function sendFile(task: Task, out: number, input: number, address: number, count: number, type: Field<number>): Result {
  const source = openFileOf(task, input);
  if (source instanceof PathOpen || !source.readable) fail(Errno.EBADF, "the input is not open for reading");
  const offset = offsetAt(task, address, type);
  if (offset !== undefined && !source.seekable) fail(Errno.ESPIPE, "the input has no offset");
  const target = openFileOf(task, out);
  if (target instanceof PathOpen || !target.writable) fail(Errno.EBADF, "the output is not open for writing");
  if (!(source instanceof RegularOpen)) fail(Errno.EINVAL, "the input is no regular file");
  if (target.flags & O_APPEND) fail(Errno.EINVAL, "the output is open for appending");
  const from = new Place(source, offset);
  const to = new Place(target, undefined);
  return blocking(target, target.writeQueue, () => {
    const done = copy(task, from, to, Math.min(count, MAX_COUNT));
    if (done >= 0) storeOffset(task, address, type, from);
    return done;
  });
}

const sendfile = fileCall((task, out, input, offset, count) =>
  sendFile(task, out, input, offset, count, task.abi.word === 8 ? i64 : i32),
);
const sendfile64 = fileCall((task, out, input, offset, count) => sendFile(task, out, input, offset, count, i64));

const copyFileRange = fileCall((task, input, inputOffset, output, outputOffset, count, flags) => {
  const source = openFileOf(task, input);
  const target = openFileOf(task, output);
  const [from, to] = [offsetAt(task, inputOffset, i64), offsetAt(task, outputOffset, i64)];
  if (flags !== 0) fail(Errno.EINVAL, "no flags are known");
  if (source.inode.isDirectory || target.inode.isDirectory) fail(Errno.EISDIR);
  if (!(source instanceof RegularOpen) || !(target instanceof RegularOpen)) {
    const bad = source instanceof PathOpen || target instanceof PathOpen;
    return fail(bad ? Errno.EBADF : Errno.EINVAL, "only between regular files");
  }
  if (!source.readable || !target.writable || target.flags & O_APPEND) fail(Errno.EBADF, "not open for this");
  if (source.inode.fs !== target.inode.fs) fail(Errno.EXDEV, "the files lie on different mounts");
  const [start, end] = [from ?? source.position, to ?? target.position];
  const length = Math.min(count, MAX_COUNT, Math.max(source.file.size - start, 0));
  const overlap = source.inode === target.inode && start < end + length && end < start + length;
  if (overlap) fail(Errno.EINVAL, "the ranges overlap");
  const [left, right] = [new Place(source, from), new Place(target, to)];
  const done = copy(task, left, right, length);
  if (done > 0) {
    storeOffset(task, inputOffset, i64, left);
    storeOffset(task, outputOffset, i64, right);
  }
  return done;
});

const splice = fileCall((task, input, inputOffset, output, outputOffset, count, flags) => {
  if (flags & ~SPLICE_KNOWN) fail(Errno.EINVAL, "unknown flags");
  if (count === 0) return 0;
  const source = openFileOf(task, input);
  const target = openFileOf(task, output);
  if (source instanceof PathOpen || !source.readable || target instanceof PathOpen || !target.writable)
    fail(Errno.EBADF);
  const fromPipe = source instanceof PipeOpen ? source.pipe : undefined;
  const toPipe = target instanceof PipeOpen ? target.pipe : undefined;
  if (!fromPipe && !toPipe) fail(Errno.EINVAL, "neither side is a pipe");
  if ((fromPipe && inputOffset !== 0) || (toPipe && outputOffset !== 0)) fail(Errno.ESPIPE, "a pipe has no offset");
  if (fromPipe && fromPipe === toPipe) fail(Errno.EINVAL, "both ends are of one pipe");
  if (!source.splicesFrom || !target.splicesTo) fail(Errno.EINVAL, "this kind of file cannot be spliced");
  if (target.flags & O_APPEND) fail(Errno.EINVAL, "the output is open for appending");
  const [at, to] = [offsetAt(task, inputOffset, i64), offsetAt(task, outputOffset, i64)];
  if ((at !== undefined && !source.seekable) || (to !== undefined && !target.seekable)) fail(Errno.EINVAL);
  const [left, right] = [new Place(source, at), new Place(target, to)];
  const nonblocking = (flags & SPLICE_F_NONBLOCK) !== 0 || ((source.flags | target.flags) & O_NONBLOCK) !== 0;
  const full = () => toPipe !== undefined && toPipe.room === 0 && toPipe.readers > 0;
  const attempt = () => {
    if (full()) return -Errno.EAGAIN;
    const done = copy(task, left, right, Math.min(count, toPipe?.room || MAX_COUNT));
    if (done > 0) {
      storeOffset(task, inputOffset, i64, left);
      storeOffset(task, outputOffset, i64, right);
    }
    return done;
  };
  const [waitsOn, queue] = full() ? [target, target.writeQueue] : [source, source.readQueue];
  return blocking(waitsOn, queue, attempt, undefined, nonblocking);
});

const tee = fileCall((task, input, output, count, flags) => {
  if (flags & ~SPLICE_KNOWN) fail(Errno.EINVAL, "unknown flags");
  if (count === 0) return 0;
  const [source, target] = [openFileOf(task, input), openFileOf(task, output)];
  if (!source.readable || !target.writable) fail(Errno.EBADF);
  if (!(source instanceof PipeOpen) || !(target instanceof PipeOpen) || source.pipe === target.pipe) {
    return fail(Errno.EINVAL, "tee copies between two pipes");
  }
  const attempt = () => {
    const { pipe } = source;
    if (pipe.length === 0) return pipe.writers === 0 ? 0 : -Errno.EAGAIN;
    if (target.pipe.readers > 0 && target.pipe.room === 0) return -Errno.EAGAIN;
    const buffer = staging(task, Math.min(count, target.pipe.room || 1));
    const put = target.write(buffer.subarray(0, pipe.peek(buffer)));
    if (put === -Errno.EPIPE) task.kernel.signals.send(task, Signal.SIGPIPE);
    return put;
  };
  const waitsOn = source.pipe.length === 0 ? source.readQueue : target.writeQueue;
  const nonblocking = (flags & SPLICE_F_NONBLOCK) !== 0 || ((source.flags | target.flags) & O_NONBLOCK) !== 0;
  return blocking(source, waitsOn, attempt, undefined, nonblocking);
});

const vmsplice = fileCall((task, descriptor, iov, count, flags) => {
  if (flags & ~SPLICE_KNOWN) fail(Errno.EINVAL, "unknown flags");
  const file = openFileOf(task, descriptor);
  if (!(file instanceof PipeOpen)) return fail(Errno.EBADF, "vmsplice needs a pipe");
  const pieces = vectorOf(task, iov, count);
  if (pieces.length === 0) return 0;
  if (!file.writable) return readInto(task, file, pieces, undefined);
  // What there is room for; only where there is none it waits.
  const attempt = (): number => {
    const buffer = staging(task, Math.min(pieces.length, file.pipe.room || pieces.length));
    const got = pieces.take(0, buffer);
    if (got === 0) return -Errno.EFAULT;
    const put = file.write(buffer.subarray(0, got));
    if (put === -Errno.EPIPE) task.kernel.signals.send(task, Signal.SIGPIPE);
    return put;
  };
  const nonblocking = (flags & SPLICE_F_NONBLOCK) !== 0 || (file.flags & O_NONBLOCK) !== 0;
  return blocking(file, file.writeQueue, attempt, undefined, nonblocking);
});

const o = { family: "file" } as const;

export const transferCalls: readonly Row[] = [
  row("sendfile", { x86_64: 40, i386: 187 }, [fd, fd, valueOut(i64), size], sendfile, o),
  row("sendfile64", { i386: 239 }, [fd, fd, valueOut(i64), size], sendfile64, o),
  row("copy_file_range", { x86_64: 326, i386: 377 }, [fd, pointer, fd, pointer, size, uint], copyFileRange, o),
  row("splice", { x86_64: 275, i386: 313 }, [fd, pointer, fd, pointer, size, spliceFlags], splice, o),
  row("tee", { x86_64: 276, i386: 315 }, [fd, fd, size, spliceFlags], tee, o),
  row("vmsplice", { x86_64: 278, i386: 316 }, [fd, iovecIn(2), int, spliceFlags], vmsplice, {
    ...o,
    support: "pages are copied, SPLICE_F_GIFT gives nothing away",
  }),
];
