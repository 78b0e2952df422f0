import { Errno } from "../errno.ts";
import { WaitQueue } from "../wait.ts";
import { O_NONBLOCK, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM } from "./flags.ts";
import type { Entry } from "./inode.ts";
import { OpenFile } from "./open-file.ts";

/** pipe(7): writes up to this size are not mixed with others. */
export const PIPE_BUF = 4096;
const DEFAULT_CAPACITY = 65536;
/** /proc/sys/fs/pipe-max-size. */
const MAX_CAPACITY = 1_048_576;

/** The bytes between the two ends of a pipe: a ring that grows up to its capacity. */
export class Pipe {
  readonly readable = new WaitQueue();
  readonly writable = new WaitQueue();
  readers = 0;
  writers = 0;
  /** How often either side was opened: an open of a FIFO waits for the other side to have come, even if it left again. */
  readerOpens = 0;
  writerOpens = 0;
  #capacity = DEFAULT_CAPACITY;
  #ring = new Uint8Array(PIPE_BUF);
  #head = 0;
  #length = 0;

  get capacity(): number {
    return this.#capacity;
  }

  get length(): number {
    return this.#length;
  }

  get room(): number {
    return this.#capacity - this.#length;
  }

  /** F_SETPIPE_SZ: rounded up to a power of two pages. @returns the new capacity or a negative errno */
  resize(wanted: number, privileged: boolean): number {
    if (wanted > 2 ** 31) return -Errno.EINVAL;
    let capacity = PIPE_BUF;
    while (capacity < wanted) capacity *= 2;
    if (capacity > MAX_CAPACITY && !privileged) return -Errno.EPERM;
    if (capacity < this.#length) return -Errno.EBUSY;
    this.#capacity = capacity;
    this.writable.wake();
    return capacity;
  }

  read(into: Uint8Array): number {
    const count = this.peek(into);
    if (count > 0) this.consume(count);
    return count;
  }

  /** Copies without taking away; tee(2). */
  peek(into: Uint8Array): number {
    const count = Math.min(into.length, this.#length);
    const first = Math.min(count, this.#ring.length - this.#head);
    into.set(this.#ring.subarray(this.#head, this.#head + first));
    if (first < count) into.set(this.#ring.subarray(0, count - first), first);
    return count;
  }

  consume(count: number): void {
    this.#head = (this.#head + count) % this.#ring.length;
    this.#length -= count;
    this.writable.wake();
  }

  unread(bytes: Uint8Array): void {
    this.#reserve(this.#length + bytes.length);
    this.#head = (this.#head - bytes.length + this.#ring.length) % this.#ring.length;
    this.#copyIn(this.#head, bytes);
    this.#length += bytes.length;
    this.readable.wake();
  }

  /** Takes as much as fits, but all or nothing up to PIPE_BUF. @returns the count, 0 when it must wait */
  write(from: Uint8Array): number {
    const { room } = this;
    const count = from.length <= room ? from.length : from.length <= PIPE_BUF ? 0 : room;
    if (count === 0) return 0;
    this.#reserve(this.#length + count);
    this.#copyIn(
      (this.#head + this.#length) % this.#ring.length,
      count === from.length ? from : from.subarray(0, count),
    );
    this.#length += count;
    this.readable.wake();
    return count;
  }

  #copyIn(at: number, bytes: Uint8Array): void {
    const first = Math.min(bytes.length, this.#ring.length - at);
    this.#ring.set(first === bytes.length ? bytes : bytes.subarray(0, first), at);
    if (first < bytes.length) this.#ring.set(bytes.subarray(first), 0);
  }

  #reserve(length: number): void {
    if (length <= this.#ring.length) return;
    let size = this.#ring.length;
    while (size < length) size *= 2;
    const ring = new Uint8Array(size);
    this.peek(ring);
    this.#ring = ring;
    this.#head = 0;
  }
}

/** One end (or, for a FIFO opened O_RDWR, both ends) of a pipe. */
export class PipeOpen extends OpenFile {
  readonly pipe: Pipe;

  constructor(entry: Entry, flags: number, pipe: Pipe) {
    super(entry, flags);
    this.pipe = pipe;
    if (this.readable) {
      pipe.readers++;
      pipe.readerOpens++;
      pipe.writable.wake();
    }
    if (this.writable) {
      pipe.writers++;
      pipe.writerOpens++;
      pipe.readable.wake();
    }
  }

  override get readQueue(): WaitQueue {
    return this.pipe.readable;
  }

  override get writesOn(): boolean {
    return true;
  }

  override get writeQueue(): WaitQueue {
    return this.pipe.writable;
  }

  read(into: Uint8Array): number {
    const { pipe } = this;
    if (into.length === 0) return 0;
    const count = pipe.read(into);
    if (count > 0) {
      this.inode.accessed();
      return count;
    }
    return pipe.writers === 0 ? 0 : -Errno.EAGAIN;
  }

  write(from: Uint8Array): number {
    const { pipe } = this;
    if (from.length === 0) return 0;
    if (pipe.readers === 0) return -Errno.EPIPE;
    const count = pipe.write(from);
    if (count === 0) return -Errno.EAGAIN;
    this.inode.modified();
    return count;
  }

  override unread(bytes: Uint8Array): void {
    this.pipe.unread(bytes);
  }

  override poll(): number {
    const { pipe } = this;
    let events = 0;
    if (this.readable) {
      if (pipe.length > 0) events |= POLLIN | POLLRDNORM;
      // A FIFO nobody has written to yet has not hung up.
      if (pipe.writers === 0 && pipe.writerOpens > 0) events |= POLLHUP;
    }
    if (this.writable) {
      if (pipe.room >= PIPE_BUF) events |= POLLOUT | POLLWRNORM;
      if (pipe.readers === 0) events |= POLLERR;
    }
    return events;
  }

  override available(): number {
    return this.pipe.length;
  }

  get nonblocking(): boolean {
    return (this.flags & O_NONBLOCK) !== 0;
  }

  protected override closed(): void {
    const { pipe } = this;
    if (this.readable) pipe.readers--;
    if (this.writable) pipe.writers--;
    pipe.readable.wake();
    pipe.writable.wake();
  }
}
