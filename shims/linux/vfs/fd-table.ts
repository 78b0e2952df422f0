import { Errno } from "../errno.ts";
import type { OpenFile } from "./open-file.ts";

/**
 * A process's descriptors. Tasks made with CLONE_FILES share one; `fork` copies it. Results are descriptors or negative errnos.
 */
export class FileTable {
  #files: (OpenFile | undefined)[] = [];
  #closeOnExec: boolean[] = [];
  /** No free descriptor lies below. */
  #firstFree = 0;
  /** Processes that share it. */
  users = 1;
  /** Called for each file closed here: fcntl locks of the process on it go (fcntl(2)). */
  readonly #closing: (file: OpenFile, table: FileTable) => void;

  constructor(closing: (file: OpenFile, table: FileTable) => void) {
    this.#closing = closing;
  }

  get(fd: number): OpenFile | undefined {
    return this.#files[fd];
  }

  /** Open descriptors, ascending. */
  *numbers(): Iterable<number> {
    for (let fd = 0; fd < this.#files.length; fd++) if (this.#files[fd]) yield fd;
  }

  /** Gives `file` the lowest free descriptor from `from` on. @returns -EMFILE at `limit` (RLIMIT_NOFILE) */
  add(file: OpenFile, limit: number, closeOnExec = false, from = 0): number {
    let fd = Math.max(from, this.#firstFree);
    while (this.#files[fd]) fd++;
    if (fd >= limit) return -Errno.EMFILE;
    if (from <= this.#firstFree) this.#firstFree = fd + 1;
    this.#put(fd, file, closeOnExec);
    return fd;
  }

  /** True when `count` more descriptors fit below `limit`. */
  hasRoom(limit: number, count = 1): boolean {
    let found = 0;
    for (let fd = this.#firstFree; fd < limit && found < count; fd++) if (!this.#files[fd]) found++;
    return found >= count;
  }

  /** dup2: puts `file` at `fd`, closing what was there. */
  set(fd: number, file: OpenFile, closeOnExec: boolean): void {
    // First in, then out: both may be the same file.
    file.retain();
    this.close(fd);
    file.references--;
    this.#put(fd, file, closeOnExec);
  }

  /** @returns 0 or -EBADF */
  close(fd: number): number {
    const file = this.#files[fd];
    if (!file) return -Errno.EBADF;
    if (fd === this.#files.length - 1) this.#files.length = fd;
    else this.#files[fd] = undefined;
    if (fd < this.#firstFree) this.#firstFree = fd;
    this.#closing(file, this);
    file.flush();
    file.release();
    return 0;
  }

  get length(): number {
    return this.#files.length;
  }

  closeOnExec(fd: number): boolean {
    return this.#closeOnExec[fd] ?? false;
  }

  setCloseOnExec(fd: number, on: boolean): void {
    this.#closeOnExec[fd] = on;
  }

  /** For execve. */
  closeForExec(): void {
    for (let fd = this.#files.length - 1; fd >= 0; fd--) if (this.#files[fd] && this.#closeOnExec[fd]) this.close(fd);
  }

  /** For fork: same files, a table of its own. */
  clone(): FileTable {
    const copy = new FileTable(this.#closing);
    copy.#files = this.#files.slice();
    copy.#closeOnExec = this.#closeOnExec.slice();
    copy.#firstFree = this.#firstFree;
    for (const file of copy.#files) file?.retain();
    return copy;
  }

  /** A process stops using it; the last one closes everything. */
  release(): void {
    if (--this.users > 0) return;
    for (let fd = this.#files.length - 1; fd >= 0; fd--) if (this.#files[fd]) this.close(fd);
  }

  #put(fd: number, file: OpenFile, closeOnExec: boolean): void {
    while (this.#files.length < fd) this.#files.push(undefined);
    this.#files[fd] = file;
    this.#closeOnExec[fd] = closeOnExec;
    file.retain();
  }
}
