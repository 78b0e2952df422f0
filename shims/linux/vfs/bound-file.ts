import fs from "node:fs";
import { Errno } from "../errno.ts";
import { PAGE } from "../memory/pages.ts";
import { fail, hostErrno, onHost, VfsError } from "./error.ts";
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  S_IFREG,
} from "./flags.ts";
import { type HostIdentity, hostSeconds, openVerified, withHandle } from "./host-path.ts";
import { type Entry, FileInode, type FileSystem } from "./inode.ts";

/** Holes are written as zeros, and ranges are moved, so many bytes at a time. */
const CHUNK = 1 << 20;

interface PathSource extends FileSystem {
  path(entry: Entry): string;
}

/**
 * A regular file of the host that the guest may change. Pages that a mapping shows live in frames; a frame then is what
 * read(2) sees, writes go to both, and `sync` brings stores to the host.
 */
export class BoundFile extends FileInode {
  readonly identity: HostIdentity;
  /** A name it was found under last; where to open it. */
  entry: Entry | undefined;
  readonly #tree: PathSource;
  readonly #frames = new Map<number, number>();
  #fd: number | undefined;
  #size = 0;
  #blocks = 0;

  constructor(tree: PathSource, stat: fs.BigIntStats) {
    super(tree, S_IFREG, 0, 0);
    this.#tree = tree;
    this.identity = { dev: stat.dev, ino: stat.ino };
  }

  override get size(): number {
    return this.#size;
  }

  override get blocks(): number {
    return this.#blocks;
  }

  adoptSize(size: number, blocks: number): void {
    this.#size = size;
    this.#blocks = blocks;
  }

  override refresh(): void {
    if (this.#fd === undefined) return;
    const stat = fs.fstatSync(this.#fd);
    this.adoptSize(stat.size, stat.blocks);
    this.nlink = stat.nlink;
  }

  override opening(): void {
    this.#descriptor();
  }

  read(into: Uint8Array, position: number): number {
    return this.#guarded(() => {
      const fd = this.#descriptor();
      const got = fs.readSync(fd, into, 0, into.length, position);
      for (const [index, frame] of this.#frames) {
        const from = index * PAGE - position;
        if (from >= got || from + PAGE <= 0) continue;
        const bytes = this.fs.host.frames.bytes(frame);
        const skip = Math.max(-from, 0);
        into.set(bytes.subarray(skip, Math.min(PAGE, got - from)), from + skip);
      }
      return got;
    });
  }

  write(from: Uint8Array, position: number): number {
    return this.#guarded(() => {
      const put = fs.writeSync(this.#descriptor(), from, 0, from.length, position);
      for (const [index, frame] of this.#frames) {
        const at = index * PAGE - position;
        if (at >= put || at + PAGE <= 0) continue;
        const skip = Math.max(-at, 0);
        this.fs.host.frames.beforeWrite(frame);
        this.fs.host.frames.bytes(frame).set(from.subarray(at + skip, Math.min(at + PAGE, put)), skip);
      }
      if (position + put > this.#size) this.#size = position + put;
      return put;
    });
  }

  truncate(size: number): void {
    const fd = this.#descriptor();
    onHost(() => fs.ftruncateSync(fd, size));
    for (const [index, frame] of this.#frames) {
      const from = size - index * PAGE;
      if (from < PAGE) this.fs.host.frames.bytes(frame).fill(0, Math.max(from, 0));
    }
    const shrinks = size < this.#size;
    this.#size = size;
    if (shrinks && this.#frames.size > 0) this.fs.host.shrunk(this, size);
  }

  allocate(mode: number, offset: number, length: number): void {
    this.refresh();
    const end = offset + length;
    const keeps = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
    switch (mode & ~FALLOC_FL_KEEP_SIZE) {
      case FALLOC_FL_COLLAPSE_RANGE:
        this.#move(end, this.#size, offset);
        this.truncate(this.#size - length);
        return;
      case FALLOC_FL_INSERT_RANGE: {
        const before = this.#size;
        this.truncate(before + length);
        this.#move(offset, before, end);
        this.#zero(offset, end);
        return;
      }
      case FALLOC_FL_PUNCH_HOLE:
      case FALLOC_FL_ZERO_RANGE:
        this.#zero(offset, Math.min(end, this.#size));
    }
    if (!keeps && end > this.#size) this.truncate(end);
  }

  /** Writes what lies from `from` to `end` at `to`, from the side where nothing is lost. */
  #move(from: number, end: number, to: number): void {
    const buffer = new Uint8Array(CHUNK);
    for (let done = 0; done < end - from; ) {
      const piece = buffer.subarray(0, Math.min(CHUNK, end - from - done));
      const at = to < from ? done : end - from - done - piece.length;
      const got = this.read(piece, from + at);
      const put = got < 0 ? got : this.write(piece.subarray(0, got), to + at);
      if (put < 0) fail(-put);
      done += piece.length;
    }
  }

  #zero(offset: number, end: number): void {
    const zeros = new Uint8Array(Math.min(Math.max(end - offset, 0), CHUNK));
    for (let at = offset; at < end; at += zeros.length) {
      const put = this.write(zeros.subarray(0, end - at), at);
      if (put < 0) fail(-put);
    }
  }

  nextExtent(position: number, hole: boolean): number {
    if (position < 0 || position >= this.#size) return -Errno.ENXIO;
    return hole ? this.#size : position;
  }

  page(index: number): number {
    const known = this.#frames.get(index);
    if (known !== undefined && index * PAGE < this.#size) return known;
    this.refresh();
    if (index * PAGE >= this.#size) return -1;
    if (known !== undefined) return known;
    const { frames } = this.fs.host;
    const frame = frames.allocate();
    if (frame === 0) return 0;
    const bytes = frames.bytes(frame);
    if (this.#guarded(() => fs.readSync(this.#descriptor(), bytes, 0, PAGE, index * PAGE)) < 0) {
      frames.release(frame);
      return -1;
    }
    this.#frames.set(index, frame);
    return frame;
  }

  /** Writes pages that differ from the host's. Nobody tells which ones were stored to, so all are compared. */
  override sync(): void {
    if (this.#frames.size === 0) return;
    this.refresh();
    const fd = this.#descriptor();
    const there = new Uint8Array(PAGE);
    for (const [index, frame] of this.#frames) {
      const at = index * PAGE;
      const length = Math.min(PAGE, this.#size - at);
      if (length <= 0) continue;
      const bytes = this.fs.host.frames.bytes(frame).subarray(0, length);
      onHost(() => {
        const got = fs.readSync(fd, there, 0, length, at);
        if (got !== length || Buffer.compare(bytes, there.subarray(0, length)) !== 0)
          fs.writeSync(fd, bytes, 0, length, at);
      });
    }
  }

  override setMode(mode: number): void {
    super.setMode(mode);
    this.#onSelf((path) => fs.chmodSync(path, mode & 0o7777));
  }

  override setOwner(uid: number, gid: number): void {
    super.setOwner(uid, gid);
    this.#onSelf((path) => fs.chownSync(path, uid, gid));
  }

  override timesSet(): void {
    super.timesSet();
    const { atime, mtime } = this;
    this.#onSelf((path) => fs.utimesSync(path, hostSeconds(atime), hostSeconds(mtime)));
  }

  override get pinned(): boolean {
    return true;
  }

  protected override unused(): void {
    this.sync();
    super.unused();
    for (const frame of this.#frames.values()) this.fs.host.frames.release(frame);
    this.#frames.clear();
    if (this.#fd !== undefined) fs.closeSync(this.#fd);
    this.#fd = undefined;
  }

  #onSelf(use: (path: string) => void): void {
    if (this.#fd !== undefined && process.platform === "linux") onHost(() => use(`/proc/self/fd/${this.#fd}`));
    else if (this.entry) withHandle(this.#tree.path(this.entry), this.identity, use);
  }

  #descriptor(): number {
    if (this.#fd !== undefined) return this.#fd;
    const path = this.#tree.path(this.entry ?? fail(Errno.ESTALE));
    try {
      this.#fd = openVerified(path, fs.constants.O_RDWR, this.identity);
    } catch (error) {
      const refused =
        error instanceof VfsError && [Errno.EACCES, Errno.EROFS, Errno.ETXTBSY].some((e) => e === error.errno);
      if (!refused) throw error;
      this.#fd = openVerified(path, fs.constants.O_RDONLY, this.identity);
    }
    return this.#fd;
  }

  #guarded(call: () => number): number {
    try {
      return call();
    } catch (error) {
      if (error instanceof VfsError) return -error.errno;
      const errno = hostErrno(error);
      if (errno === undefined) throw error;
      return -errno;
    }
  }
}
