import { Errno } from "../errno.ts";
import { Resource } from "../process/limits.ts";
import { Signal } from "../signals/numbers.ts";
import type { Result } from "../table.ts";
import type { Task } from "../task.ts";
import { Wait } from "../wait.ts";
import { blocking } from "./call-context.ts";
import { fail } from "./error.ts";
import { O_NONBLOCK } from "./flags.ts";
import { type OpenFile, RegularOpen } from "./open-file.ts";
import { type Piece, Pieces, type Span } from "./span.ts";

/** MAX_RW_COUNT of linux/fs.h: no read or write moves more. */
export const MAX_COUNT = 0x7ffff000;
const RWF_NOWAIT = 8;
export const RWF_APPEND = 16;
/** RWF_HIPRI, RWF_DSYNC, RWF_SYNC: nothing to do for files in memory. */
export const RWF_KNOWN = 1 | 2 | 4 | RWF_NOWAIT | RWF_APPEND | 32;
/** The most pieces of a vector (uapi/linux/uio.h). */
export const UIO_MAXIOV = 1024;
/** How much is copied at a time. */
const CHUNK = 262_144;

/** The piece of the staging buffer a copy of `length` bytes goes through. */
export function staging(task: Task, length: number): Uint8Array {
  return task.kernel.vfs.staging.subarray(0, Math.min(length, CHUNK));
}

/** An iovec array as one span: EINVAL for bad counts and lengths, EFAULT beyond user space. */
export function vectorOf(task: Task, address: number, count: number): Span {
  if (count < 0 || count > UIO_MAXIOV) fail(Errno.EINVAL, "more than 1024 pieces");
  const { memory, abi } = task;
  const pieces: Piece[] = [];
  let room = MAX_COUNT;
  for (let index = 0; index < count; index++) {
    const at = address + index * 2 * abi.word;
    const base = abi.word === 8 ? memory.num64(at) : memory.u32(at);
    const length = abi.word === 8 ? memory.num64(at + 8) : memory.u32(at + 4);
    if (length >= (abi.word === 8 ? 2 ** 63 : 2 ** 31)) fail(Errno.EINVAL, "a negative length");
    if (base + length > task.process.space.end) fail(Errno.EFAULT, "a piece leaves user space");
    pieces.push({ address: base, length: Math.min(length, room) });
    room -= Math.min(length, room);
  }
  return new Pieces(memory, pieces);
}

/** RWF_NOWAIT: what would have to wait is given up, with what was done up to then. */
export function withinFlags(result: Result, flags: number): Result {
  if (!(flags & RWF_NOWAIT) || !(result instanceof Wait)) return result;
  const done = result.interrupted() ?? 0;
  result.end();
  return done > 0 ? done : -Errno.EAGAIN;
}

/** One pass of a read: until the span is full, the file has no more, or guest memory ends. */
function readOnce(task: Task, file: OpenFile, into: Span, position: number | undefined): number {
  let done = 0;
  while (done < into.length) {
    const buffer = staging(task, into.length - done);
    const got = position === undefined ? file.read(buffer) : file.pread(buffer, position + done);
    if (got <= 0) return done > 0 ? done : got;
    const whole = got === buffer.length;
    const put = into.put(done, whole ? buffer : buffer.subarray(0, got));
    done += put;
    if (put < got) {
      if (position === undefined) giveBack(file, buffer.subarray(put, got));
      return done > 0 ? done : -Errno.EFAULT;
    }
    if (!whole) break;
  }
  return done;
}

function giveBack(file: OpenFile, bytes: Uint8Array): void {
  if (file instanceof RegularOpen) file.position -= bytes.length;
  else file.unread(bytes.slice());
}

/** A socket's time limit. Calls that have one are not restarted after a signal (sock_intr_errno). */
function limitOf(task: Task, timeout: number | undefined, done: () => number) {
  if (timeout === undefined) return undefined;
  const deadline = task.kernel.clock.now() + timeout;
  return { deadline, late: () => done() || -Errno.EAGAIN, interrupted: () => done() || -Errno.EINTR };
}

/** read(2) and its kin. @param position undefined for the file's own offset */
export function readInto(task: Task, file: OpenFile, into: Span, position: number | undefined): Result {
  if (!file.readable) return task.fail(Errno.EBADF, "not open for reading");
  const first = readOnce(task, file, into, position);
  if (first >= 0) return first;
  if (first !== -Errno.EAGAIN || file.flags & O_NONBLOCK) return first;
  const limit = limitOf(task, file.readTimeout, () => 0);
  return blocking(file, file.readQueue, () => readOnce(task, file, into, position), limit?.interrupted, false, limit);
}

/** How many bytes RLIMIT_FSIZE lets a write at `position` have; SIGXFSZ when none (setrlimit(2)). */
function allowed(task: Task, file: OpenFile, position: number, length: number): number {
  const limit = task.process.limits.soft(Resource.RLIMIT_FSIZE);
  if (!(file instanceof RegularOpen) || position + length <= limit) return length;
  if (position >= limit) {
    task.kernel.signals.send(task, Signal.SIGXFSZ);
    return -1;
  }
  return limit - position;
}

/**
 * write(2) and its kin. A blocking write goes on until all is written; a signal ends it with what was.
 * @param position undefined for the file's own offset
 */
export function writeFrom(task: Task, file: OpenFile, from: Span, position: number | undefined): Result {
  if (!file.writable) return task.fail(Errno.EBADF, "not open for writing");
  let done = 0;
  const length = allowed(task, file, position ?? file.position, from.length);
  if (length < 0) return task.fail(Errno.EFBIG, "RLIMIT_FSIZE is reached");
  const step = (): number => {
    do {
      const buffer = staging(task, length - done);
      const got = from.take(done, buffer);
      if (got === 0 && buffer.length > 0) return done > 0 ? done : -Errno.EFAULT;
      const piece = got === buffer.length ? buffer : buffer.subarray(0, got);
      const put = position === undefined ? file.write(piece) : file.pwrite(piece, position + done);
      if (put === -Errno.EAGAIN && !(file.flags & O_NONBLOCK)) return put;
      if (put === -Errno.EPIPE && file.raisesSigpipe) task.kernel.signals.send(task, Signal.SIGPIPE);
      if (put < 0) return done > 0 ? done : put;
      done += put;
      // A pipe took a part: the rest waits, unless it must not.
      if (put < piece.length) return file.writesOn && !(file.flags & O_NONBLOCK) ? -Errno.EAGAIN : done;
    } while (done < length);
    return done;
  };
  const first = step();
  if (first !== -Errno.EAGAIN || file.flags & O_NONBLOCK) return first;
  const limit = limitOf(task, file.writeTimeout, () => done);
  const interrupted = limit?.interrupted ?? (() => (done > 0 ? done : -Errno.ERESTARTSYS));
  return blocking(file, file.writeQueue, step, interrupted, false, limit);
}
