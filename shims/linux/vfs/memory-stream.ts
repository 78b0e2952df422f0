/** Standard streams that are not the host's: input from bytes, output to a function. The guest sees ends of pipes. */
import { Errno } from "../errno.ts";
import { O_RDONLY, O_WRONLY, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM, S_IFIFO } from "./flags.ts";
import { type Entry, NodeInode } from "./inode.ts";
import { OpenFile } from "./open-file.ts";
import type { FileTable, Vfs } from "./vfs.ts";
import { PIPEFS_MAGIC } from "./vfs.ts";

export interface MemoryStreams {
  /** All that the guest can read from descriptor 0; the end follows. */
  readonly input: Uint8Array;
  /** Called with what the guest writes, which is only good during the call. */
  readonly output: (fd: 1 | 2, bytes: Uint8Array) => void;
}

class InputStream extends OpenFile {
  #left: Uint8Array;

  constructor(entry: Entry, input: Uint8Array) {
    super(entry, O_RDONLY);
    this.#left = input;
  }

  read(into: Uint8Array): number {
    const count = Math.min(into.length, this.#left.length);
    into.set(this.#left.subarray(0, count));
    this.#left = this.#left.subarray(count);
    return count;
  }

  write(): number {
    return -Errno.EBADF;
  }

  override unread(bytes: Uint8Array): void {
    const joined = new Uint8Array(bytes.length + this.#left.length);
    joined.set(bytes);
    joined.set(this.#left, bytes.length);
    this.#left = joined;
  }

  override poll(): number {
    return this.#left.length > 0 ? POLLIN | POLLRDNORM : POLLHUP;
  }

  override available(): number {
    return this.#left.length;
  }
}

class OutputStream extends OpenFile {
  readonly #write: (bytes: Uint8Array) => void;

  constructor(entry: Entry, write: (bytes: Uint8Array) => void) {
    super(entry, O_WRONLY);
    this.#write = write;
  }

  read(): number {
    return -Errno.EBADF;
  }

  write(from: Uint8Array): number {
    this.#write(from);
    return from.length;
  }

  override poll(): number {
    return POLLOUT | POLLWRNORM;
  }
}

/** Puts the streams at descriptors 0, 1 and 2 of a new process' table. */
export function openMemoryStreams(
  vfs: Vfs,
  files: FileTable,
  user: { readonly uid: number; readonly gid: number },
  streams: MemoryStreams,
): void {
  const fileSystem = vfs.newFileSystem("pipefs", PIPEFS_MAGIC);
  const entry = (): Entry => {
    const inode = new NodeInode(fileSystem, S_IFIFO | 0o600, user.uid, user.gid);
    inode.nlink = 1;
    return vfs.anonymousEntry(inode, `pipe:[${inode.ino}]`);
  };
  files.set(0, new InputStream(entry(), streams.input), false);
  for (const fd of [1, 2] as const)
    files.set(fd, new OutputStream(entry(), (bytes) => streams.output(fd, bytes)), false);
}
