import fs from "node:fs";
import { HostPoll } from "../../../emulator/host-poll.ts";
import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import { hostErrno } from "./error.ts";
import {
  O_ACCMODE,
  O_APPEND,
  O_RDWR,
  O_WRONLY,
  POLLIN,
  POLLOUT,
  POLLRDNORM,
  POLLWRNORM,
  S_IFCHR,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from "./flags.ts";
import { type Entry, type FileSystem, Inode } from "./inode.ts";
import { OpenFile, seekTo } from "./open-file.ts";
import type { HostTerminal } from "./tty/host-terminal.ts";

/** How long a host that takes no more output is left alone, in ms. */
const RETRY_MS = 1;
const PREFETCH = 65536;

/**
 * A stream of the host that was given to the guest: standard input, output, error. Reading never blocks us: pipes and
 * terminals are opened once more through /proc without blocking, which leaves the original's own flags alone.
 */
export class HostStreamInode extends Inode {
  readonly hostFd: number;
  readonly terminal: HostTerminal | undefined;
  /** A descriptor of ours on the same pipe or terminal, O_NONBLOCK; undefined where there can be none. */
  #polled: number | undefined;
  #polledTried = false;
  #poll: HostPoll | undefined;
  /** Bytes that poll(2) had to read to know that there are some. */
  #ahead = new Uint8Array(0);
  #ended = false;
  /** Offset that the guest set; undefined while the host's own counts. */
  position: number | undefined;
  #passed = 0;

  constructor(fileSystem: FileSystem, hostFd: number, terminal: HostTerminal | undefined) {
    const stat = fs.fstatSync(hostFd);
    super(fileSystem, stat.mode, stat.uid, stat.gid);
    this.hostFd = hostFd;
    this.terminal = terminal;
    this.rdev = terminal ? TERMINAL_RDEV : stat.rdev;
  }

  override get size(): number {
    return this.kind === S_IFREG ? fs.fstatSync(this.hostFd).size : 0;
  }

  get regular(): boolean {
    return this.kind === S_IFREG;
  }

  /** Bytes, 0 at the end, -EAGAIN when there are none yet. */
  read(into: Uint8Array): number {
    if (into.length === 0) return 0;
    if (this.#ahead.length > 0) {
      const count = Math.min(into.length, this.#ahead.length);
      into.set(this.#ahead.subarray(0, count));
      this.#ahead = this.#ahead.subarray(count);
      return count;
    }
    // A terminal's ^D is read once only; a pipe's end stays.
    if (this.#ended) {
      this.#ended = false;
      return 0;
    }
    return this.#readHost(into);
  }

  unread(bytes: Uint8Array): void {
    const joined = new Uint8Array(bytes.length + this.#ahead.length);
    joined.set(bytes);
    joined.set(this.#ahead, bytes.length);
    this.#ahead = joined;
  }

  pread(into: Uint8Array, position: number): number {
    return hostCall(() => fs.readSync(this.hostFd, into, 0, into.length, position));
  }

  /** True when a read would answer at once. */
  ready(): boolean {
    if (this.regular || this.#ahead.length > 0 || this.#ended) return true;
    const chunk = new Uint8Array(PREFETCH);
    const got = this.#readHost(chunk);
    if (got === -Errno.EAGAIN) return false;
    if (got > 0) this.#ahead = chunk.subarray(0, got);
    else this.#ended = true;
    return true;
  }

  get waiting(): number {
    this.ready();
    return this.#ahead.length;
  }

  /** Writes all of it, whatever the host takes at a time. @returns the count or a negative errno when nothing was written */
  write(from: Uint8Array): number {
    let done = 0;
    while (done < from.length) {
      const put = hostCall(() => fs.writeSync(this.hostFd, from, done, from.length - done, this.position ?? null));
      if (put === -Errno.EAGAIN) {
        sleep(RETRY_MS);
        continue;
      }
      if (put < 0) return done > 0 ? done : put;
      done += put;
      this.#advance(put);
    }
    return done;
  }

  /** Offset in a regular file. What the host's own offset was before we began is not known to us: it counts as 0. */
  get offset(): number {
    return this.position ?? this.#passed;
  }

  override evict(): void {
    if (this.#polled !== undefined) fs.closeSync(this.#polled);
    super.evict();
  }

  #readHost(into: Uint8Array): number {
    if (this.regular) {
      const got = hostCall(() => fs.readSync(this.hostFd, into, 0, into.length, this.position ?? null));
      if (got > 0) this.#advance(got);
      return got;
    }
    const fd = this.#pollable();
    // A socket cannot be opened once more, nor can anything where there is no /proc.
    if (fd === this.hostFd) {
      this.#poll ??= new HostPoll();
      if (!this.#poll.readable(fd)) return -Errno.EAGAIN;
    }
    return hostCall(() => fs.readSync(fd, into, 0, into.length, null));
  }

  #advance(count: number): void {
    if (this.position === undefined) this.#passed += count;
    else this.position += count;
  }

  #pollable(): number {
    if (!this.#polledTried) {
      this.#polledTried = true;
      const waits = this.kind === S_IFIFO || this.kind === S_IFCHR;
      if (waits) this.#polled = openAgain(this.hostFd);
    }
    return this.#polled ?? this.hostFd;
  }
}

/** 136:0, /dev/pts/0. */
const TERMINAL_RDEV = 136 << 8;

/** The same pipe or terminal without blocking; undefined where the host has no /proc or does not let us. */
function openAgain(fd: number): number | undefined {
  try {
    return fs.openSync(`/proc/self/fd/${fd}`, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK | fs.constants.O_NOCTTY);
  } catch (error) {
    if (hostErrno(error) === undefined) throw error;
    return undefined;
  }
}

/** A host call whose failure is a negative errno. */
function hostCall(call: () => number): number {
  try {
    return call();
  } catch (error) {
    const errno = hostErrno(error);
    if (errno === undefined) throw error;
    return -errno;
  }
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** An open stream of the host. */
export class HostStreamOpen extends OpenFile {
  readonly #stream: HostStreamInode;

  constructor(entry: Entry, flags: number, stream: HostStreamInode) {
    super(entry, flags);
    this.#stream = stream;
  }

  override get splicesFrom(): boolean {
    return true;
  }

  override get splicesTo(): boolean {
    return true;
  }

  override get seekable(): boolean {
    return this.#stream.regular;
  }

  override get onHost(): boolean {
    return true;
  }

  read(into: Uint8Array): number {
    return this.#stream.read(into);
  }

  write(from: Uint8Array): number {
    return this.#stream.write(from);
  }

  override unread(bytes: Uint8Array): void {
    if (this.#stream.regular) this.#stream.position = this.#stream.offset - bytes.length;
    else this.#stream.unread(bytes);
  }

  override pread(into: Uint8Array, position: number): number {
    return this.#stream.regular ? this.#stream.pread(into, position) : -Errno.ESPIPE;
  }

  override pwrite(from: Uint8Array, position: number): number {
    if (!this.#stream.regular) return -Errno.ESPIPE;
    return hostCall(() => fs.writeSync(this.#stream.hostFd, from, 0, from.length, position));
  }

  override seek(offset: number, whence: number): number {
    if (!this.#stream.regular) return -Errno.ESPIPE;
    this.position = this.#stream.offset;
    const target = seekTo(this, offset, whence, this.#stream.size);
    // Telling where we are must not cut the tie to the host's own offset.
    if (target >= 0 && target !== this.#stream.offset) this.#stream.position = target;
    return target;
  }

  override poll(): number {
    let events = 0;
    if ((this.flags & O_ACCMODE) !== O_WRONLY && this.#stream.ready()) events |= POLLIN | POLLRDNORM;
    if (this.writable) events |= POLLOUT | POLLWRNORM;
    return events;
  }

  override available(): number {
    return this.#stream.regular ? this.#stream.size - this.#stream.offset : this.#stream.waiting;
  }

  override ioctl(task: Task, request: number, argument: number): number | undefined {
    return this.#stream.terminal?.ioctl(task, request, argument);
  }
}

/** How /proc names a stream that has no path in the guest. */
export function streamName(inode: Inode): string {
  const kind = inode.mode & S_IFMT;
  return `${kind === S_IFIFO ? "pipe" : kind === S_IFSOCK ? "socket" : "file"}:[${inode.ino}]`;
}

/** Access mode and O_APPEND of a descriptor of the host; reading and writing when the host does not tell. */
export function streamFlags(hostFd: number): number {
  let text: string;
  try {
    text = fs.readFileSync(`/proc/self/fdinfo/${hostFd}`, "latin1");
  } catch (error) {
    if (hostErrno(error) === undefined) throw error;
    return O_RDWR;
  }
  const flags = Number.parseInt(/^flags:\s*([0-7]+)/m.exec(text)?.[1] ?? "2", 8);
  return flags & (O_ACCMODE | O_APPEND);
}
