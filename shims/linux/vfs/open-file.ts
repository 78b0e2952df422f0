import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import type { WaitQueue } from "../wait.ts";
import type { DirectoryNotice } from "./directory-notice.ts";
import { fail } from "./error.ts";
import {
  O_ACCMODE,
  O_APPEND,
  O_NOATIME,
  O_PATH,
  O_RDWR,
  O_WRONLY,
  POLLIN,
  POLLOUT,
  POLLRDNORM,
  POLLWRNORM,
  SEEK_CUR,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  SEEK_SET,
} from "./flags.ts";
import { DirectoryInode, type Entry, type FileInode, Inode } from "./inode.ts";
import type { AsyncNotice, FileOwner } from "./owner.ts";
import { IN_ACCESS, IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, IN_MODIFY, report } from "./watch.ts";

/**
 * What a descriptor refers to: the kernel's "open file description", shared by dup and fork with its offset and status flags.
 * `read` and `write` answer a count or a negative errno; -EAGAIN means it would block, and the queues say what to wait for.
 */
export abstract class OpenFile {
  readonly entry: Entry;
  /** Access mode and status flags, as F_GETFL shows them. */
  flags: number;
  position = 0;
  /** Descriptors, and messages under way, that refer to it. */
  references = 0;
  /** Told when the last descriptor is gone: epoll forgets the file. */
  watchers: Set<() => void> | undefined;
  /** F_SETOWN and F_SETSIG: who is told what happens here, and by which signal (0 for SIGIO). */
  owner: FileOwner | undefined;
  ownerSignal = 0;
  /** The open made the file (F_CREATED_QUERY). */
  created = false;
  /** O_ASYNC is at work. */
  asyncNotice: AsyncNotice | undefined;
  /** F_NOTIFY is at work. */
  directoryNotice: DirectoryNotice | undefined;

  constructor(entry: Entry, flags: number) {
    this.entry = entry;
    this.flags = flags;
    entry.inode.hold();
  }

  get inode(): Inode {
    return this.entry.inode;
  }

  get readable(): boolean {
    return (this.flags & 1) === 0;
  }

  get writable(): boolean {
    const access = this.flags & O_ACCMODE;
    return access === O_WRONLY || access === O_RDWR;
  }

  /** True when the offset counts: pread and lseek work. */
  get seekable(): boolean {
    return false;
  }

  /** Woken when reading (writing) may go on; undefined for files that never block. */
  get readQueue(): WaitQueue | undefined {
    return undefined;
  }

  get writeQueue(): WaitQueue | undefined {
    return undefined;
  }

  /** A write that could only place a part goes on with the rest when there is room (pipes, streams). */
  get writesOn(): boolean {
    return false;
  }

  /** A write that answers EPIPE also sends SIGPIPE. */
  get raisesSigpipe(): boolean {
    return true;
  }

  /** SO_RCVTIMEO and SO_SNDTIMEO: how long read(2) and write(2) wait at most, ns; undefined for ever. */
  get readTimeout(): number | undefined {
    return undefined;
  }

  get writeTimeout(): number | undefined {
    return undefined;
  }

  /** splice(2) takes bytes from it, or gives it some. */
  get splicesFrom(): boolean {
    return false;
  }

  get splicesTo(): boolean {
    return false;
  }

  /** Lines of /proc/pid/fdinfo that only this kind of file has. */
  get details(): string {
    return "";
  }

  /** Something outside the run may end a wait on this file. */
  get onHost(): boolean {
    return false;
  }

  abstract read(into: Uint8Array): number;
  abstract write(from: Uint8Array): number;

  /** Puts back what was read last but could not be handed over (a bad guest buffer). */
  unread(_bytes: Uint8Array): void {}

  pread(_into: Uint8Array, _position: number): number {
    return -Errno.ESPIPE;
  }

  pwrite(_from: Uint8Array, _position: number): number {
    return -Errno.ESPIPE;
  }

  seek(_offset: number, _whence: number): number {
    return -Errno.ESPIPE;
  }

  /** POLL* bits that hold now. */
  poll(): number {
    return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
  }

  /** Bytes FIONREAD tells, or a negative errno; undefined where the request does not exist. */
  available(): number | undefined {
    return undefined;
  }

  /** A request ioctl.ts does not know for all files; undefined is ENOTTY. May throw MemoryFault and VfsError. */
  ioctl(_task: Task, _request: number, _argument: number): number | undefined {
    return undefined;
  }

  retain(): void {
    if (this.references++ === 0) this.inode.fs.host.openFiles++;
  }

  release(): void {
    if (--this.references > 0) return;
    const { host } = this.inode.fs;
    host.openFiles--;
    // Messages under way in it hold files that hold others in messages: a chain of any length, and not one call in another.
    host.closing.push(this);
    if (host.closing.length > 1) return;
    try {
      for (let at = 0; at < host.closing.length; at++) host.closing[at]?.end();
    } finally {
      host.closing.length = 0;
    }
  }

  /** Nothing refers to it any more. */
  end(): void {
    if (this.inode.fs.host.watched > 0 && !(this.flags & O_PATH)) {
      report(this.entry, this.writable ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
    }
    if (this.watchers !== undefined) for (const gone of [...this.watchers]) gone();
    this.asyncNotice?.stop();
    this.directoryNotice?.stop();
    this.closed();
    this.inode.drop();
  }

  /** A descriptor is closed, perhaps not the last one. */
  flush(): void {}

  /** The last descriptor is gone. */
  protected closed(): void {}
}

/** A file that knows itself how it is opened: files that the kernel makes up. */
export abstract class SelfOpening extends Inode {
  abstract open(entry: Entry, flags: number): OpenFile;
}

/** Works out a new offset; -EINVAL when it is negative or too large. */
export function seekTo(file: OpenFile, offset: number, whence: number, size: number): number {
  let base: number;
  if (whence === SEEK_SET) base = 0;
  else if (whence === SEEK_CUR) base = file.position;
  else if (whence === SEEK_END) base = size;
  else return -Errno.EINVAL;
  const target = base + offset;
  if (target < 0 || target >= 2 ** 63) return -Errno.EINVAL;
  file.position = target;
  return target;
}

/** An open regular file. */
export class RegularOpen extends OpenFile {
  readonly #file: FileInode;

  constructor(entry: Entry, file: FileInode, flags: number) {
    super(entry, flags);
    this.#file = file;
    if (this.writable) {
      file.writers++;
      file.fs.writers++;
    } else file.readers++;
  }

  override get seekable(): boolean {
    return true;
  }

  get file(): FileInode {
    return this.#file;
  }

  override get splicesFrom(): boolean {
    return true;
  }

  override get splicesTo(): boolean {
    return true;
  }

  read(into: Uint8Array): number {
    const got = this.pread(into, this.position);
    if (got > 0) this.position += got;
    return got;
  }

  write(from: Uint8Array): number {
    if (this.flags & O_APPEND) {
      this.#file.refresh();
      this.position = this.#file.size;
    }
    const put = this.#file.write(from, this.position);
    if (put > 0) {
      this.position += put;
      report(this.entry, IN_MODIFY);
    }
    return put;
  }

  override pread(into: Uint8Array, position: number): number {
    const got = this.#file.read(into, position);
    if (got > 0) {
      if ((this.flags & O_NOATIME) === 0) this.#file.accessed();
      report(this.entry, IN_ACCESS);
    }
    return got;
  }

  /** Linux appends even here (pwrite(2), BUGS). */
  override pwrite(from: Uint8Array, position: number): number {
    if (this.flags & O_APPEND) this.#file.refresh();
    const put = this.#file.write(from, this.flags & O_APPEND ? this.#file.size : position);
    if (put > 0) report(this.entry, IN_MODIFY);
    return put;
  }

  override seek(offset: number, whence: number): number {
    this.#file.refresh();
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) return seekTo(this, offset, whence, this.#file.size);
    const found = this.#file.nextExtent(offset, whence === SEEK_HOLE);
    if (found >= 0) this.position = found;
    return found;
  }

  override available(): number {
    this.#file.refresh();
    return Math.max(this.#file.size - this.position, 0);
  }

  protected override closed(): void {
    if (this.writable) {
      this.#file.writers--;
      this.#file.fs.writers--;
    } else this.#file.readers--;
    this.#file.leases?.drop(this);
  }
}

/** An open directory. Its listing is taken when it is read from the start, so names that come and go do not move the rest. */
export class DirectoryOpen extends OpenFile {
  #listing: Entry[] | undefined;

  override get seekable(): boolean {
    return true;
  }

  read(): number {
    return -Errno.EISDIR;
  }

  write(): number {
    return -Errno.EBADF;
  }

  override pread(): number {
    return -Errno.EISDIR;
  }

  override pwrite(): number {
    return -Errno.EBADF;
  }

  override seek(offset: number, whence: number): number {
    const target = seekTo(this, offset, whence, Number.MAX_SAFE_INTEGER);
    if (target === 0) this.#listing = undefined;
    return target;
  }

  /** The entry at `index` of the listing, `.` and `..` apart; undefined at the end. A name removed meanwhile answers null. */
  at(index: number): Entry | null | undefined {
    const { inode } = this;
    if (!(inode instanceof DirectoryInode)) return fail(Errno.ENOTDIR);
    if (!this.#listing) {
      if (this.entry.named.deleted) fail(Errno.ENOENT, "the directory was removed");
      inode.accessed();
      this.#listing = inode.list(this.entry);
    }
    const entry = this.#listing[index];
    return entry && (entry.deleted || entry.parent !== this.entry) ? null : entry;
  }
}

/** O_PATH: a place in the tree, not a file to read. */
export class PathOpen extends OpenFile {
  read(): number {
    return -Errno.EBADF;
  }

  write(): number {
    return -Errno.EBADF;
  }

  override pread(): number {
    return -Errno.EBADF;
  }

  override pwrite(): number {
    return -Errno.EBADF;
  }

  override seek(): number {
    return -Errno.EBADF;
  }
}
