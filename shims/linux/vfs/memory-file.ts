import { Errno } from "../errno.ts";
import { PAGE } from "../memory/pages.ts";
import { fail } from "./error.ts";
import {
  F_SEAL_FUTURE_WRITE,
  F_SEAL_GROW,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  S_IFREG,
} from "./flags.ts";
import { FileInode, type FileSystem } from "./inode.ts";

/** Content that a file has before anything is written: a file of the host, read-only and taken as unchanging. */
export interface LowerContent {
  readonly size: number;
  /** Fails as the host's open does. */
  open(): void;
  /** @returns bytes read, fewer only at the end, or a negative errno */
  read(into: Uint8Array, position: number): number;
}

/**
 * A regular file in memory, page by page, over content of the host or over nothing. A page that some mapping shows lives in a
 * frame of the machine and `#pages` holds the frame's own bytes: stores of the guest and write(2) meet without further work.
 */
export class MemoryFile extends FileInode {
  readonly #pages = new Map<number, Uint8Array>();
  readonly #frames = new Map<number, number>();
  /** Pages that were allocated and not written yet. */
  readonly #reserved = new Set<number>();
  #lower: LowerContent | undefined;
  /** Content of the host counts up to here; shrinks with truncate and never grows again. */
  #lowerSize: number;
  #size: number;

  constructor(fs: FileSystem, mode: number, uid: number, gid: number, lower?: LowerContent) {
    super(fs, S_IFREG | (mode & 0o7777), uid, gid);
    this.#lower = lower;
    this.#lowerSize = lower?.size ?? 0;
    this.#size = this.#lowerSize;
  }

  override get size(): number {
    return this.#size;
  }

  override get blocks(): number {
    return (this.#pages.size + this.#reserved.size + Math.ceil(this.#lowerSize / PAGE)) * (PAGE / 512);
  }

  override get sealable(): boolean {
    return !this.fs.extents;
  }

  override opening(): void {
    this.#lower?.open();
  }

  read(into: Uint8Array, position: number): number {
    const length = Math.min(into.length, this.#size - position);
    if (length <= 0) return 0;
    let done = 0;
    while (done < length) {
      const at = position + done;
      const index = Math.floor(at / PAGE);
      const offset = at - index * PAGE;
      const page = this.#pages.get(index);
      const piece = Math.min(PAGE - offset, length - done);
      if (page) {
        into.set(piece === PAGE ? page : page.subarray(offset, offset + piece), done);
        done += piece;
      } else if (at < this.#lowerSize) {
        const run = this.#pages.size === 0 ? length - done : this.#untouched(index, at, length - done);
        const target = into.subarray(done, done + Math.min(run, this.#lowerSize - at));
        const got = this.#lower?.read(target, at) ?? 0;
        if (got < 0) return done > 0 ? done : got;
        target.fill(0, got);
        done += target.length;
      } else {
        into.fill(0, done, done + piece);
        done += piece;
      }
    }
    return length;
  }

  write(from: Uint8Array, position: number): number {
    const length = from.length;
    if (length === 0) return 0;
    if (this.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) return -Errno.EPERM;
    if (this.seals & F_SEAL_GROW && position + length > this.#size) return -Errno.EPERM;
    if (position + length > this.#size) this.#clearTail();
    let done = 0;
    while (done < length) {
      const at = position + done;
      const index = Math.floor(at / PAGE);
      const offset = at - index * PAGE;
      const piece = Math.min(PAGE - offset, length - done);
      let page = this.#pages.get(index);
      if (!page) {
        const made = this.#newPage(index, piece === PAGE);
        if (typeof made === "number") {
          if (done === 0) return made;
          break;
        }
        page = made;
      }
      if (this.#frames.size > 0) this.#beforeWrite(index);
      page.set(piece === length ? from : from.subarray(done, done + piece), offset);
      done += piece;
    }
    if (position + done > this.#size) this.#size = position + done;
    this.modified();
    return done;
  }

  truncate(size: number): void {
    if (size < this.#size && this.seals & F_SEAL_SHRINK) fail(Errno.EPERM, "sealed against shrinking");
    if (size > this.#size && this.seals & F_SEAL_GROW) fail(Errno.EPERM, "sealed against growing");
    if (size < this.#size) this.#clear(size, this.#size, true);
    else this.#clearTail();
    const shrinks = size < this.#size;
    if (shrinks) this.#giveBack(Math.ceil(size / PAGE), Number.POSITIVE_INFINITY);
    this.#size = size;
    if (shrinks && this.#frames.size > 0) this.#unmapBehind(size);
    this.modified();
  }

  /** No mapping shows what is behind the end: those pages are given back. */
  #unmapBehind(size: number): void {
    const { host } = this.fs;
    host.shrunk(this, size);
    for (const [index, frame] of this.#frames) {
      if (index * PAGE < size) continue;
      this.#frames.delete(index);
      this.#pages.delete(index);
      host.frames.release(frame);
      this.fs.takePages(-1);
    }
  }

  /** What a mapping has stored in the last page behind the end is not to show when the file grows. */
  #clearTail(): void {
    const offset = this.#size % PAGE;
    if (this.#frames.size === 0 || offset === 0) return;
    this.#pages.get((this.#size - offset) / PAGE)?.fill(0, offset);
  }

  allocate(mode: number, offset: number, length: number): void {
    const end = offset + length;
    const keeps = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
    const kind = mode & ~FALLOC_FL_KEEP_SIZE;
    if (kind === FALLOC_FL_ZERO_RANGE && !this.fs.extents) fail(Errno.EOPNOTSUPP, "only KEEP_SIZE and PUNCH_HOLE");
    if (kind !== 0 && this.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) fail(Errno.EPERM, "sealed against writing");
    if (kind === 0 && end > this.#size && this.seals & F_SEAL_GROW) fail(Errno.EPERM, "sealed against growing");
    if (kind === FALLOC_FL_COLLAPSE_RANGE) this.#shift(offset, end, -length);
    else if (kind === FALLOC_FL_INSERT_RANGE) this.#shift(offset, offset, length);
    else {
      const holds = Math.min(end, this.#size);
      if (kind !== 0 && offset < holds) this.#clear(offset, holds, false);
      if (kind === FALLOC_FL_PUNCH_HOLE) this.#giveBack(Math.ceil(offset / PAGE), Math.floor(end / PAGE));
      else this.#reserve(Math.floor(offset / PAGE), Math.ceil(end / PAGE));
      if (kind !== FALLOC_FL_PUNCH_HOLE && !keeps && end > this.#size) {
        this.#clearTail();
        this.#size = end;
      }
    }
    this.modified();
  }

  /** Pages of a range count as used before they are written. */
  #reserve(first: number, last: number): void {
    const { maxPages, pages } = this.fs;
    if (maxPages > 0 && last - first > maxPages - pages) fail(Errno.ENOSPC);
    for (let index = first; index < last; index++) {
      if (this.#pages.has(index) || index * PAGE < this.#lowerSize || this.#reserved.has(index)) continue;
      if (!this.fs.takePages(1)) fail(Errno.ENOSPC);
      this.#reserved.add(index);
    }
  }

  #giveBack(first: number, last: number): void {
    for (const index of this.#reserved) {
      if (index < first || index >= last) continue;
      this.#reserved.delete(index);
      this.fs.takePages(-1);
    }
  }

  /** Cuts the file at `at` and goes on with what lay from `from` on, `by` bytes further on than it was; all at pages' edges. */
  #shift(at: number, from: number, by: number): void {
    const size = this.#size + by;
    this.#ownPages(from, this.#size);
    const moved: [number, Uint8Array][] = [];
    for (const [index, page] of this.#pages) if (index * PAGE >= from) moved.push([index + by / PAGE, page.slice()]);
    this.truncate(at);
    for (const [index, page] of moved) {
      this.#pages.set(index, page);
      this.fs.takePages(1);
    }
    this.#size = size;
  }

  nextExtent(position: number, hole: boolean): number {
    if (position < 0 || position >= this.#size) return -Errno.ENXIO;
    const first = Math.floor(position / PAGE);
    if (hole) {
      let index = first;
      while (this.#pages.has(index) || index * PAGE < this.#lowerSize) index++;
      return index === first ? position : Math.min(index * PAGE, this.#size);
    }
    if (this.#pages.has(first) || position < this.#lowerSize) return position;
    let next = Number.POSITIVE_INFINITY;
    for (const index of this.#pages.keys()) if (index > first && index < next) next = index;
    return next * PAGE < this.#size ? next * PAGE : -Errno.ENXIO;
  }

  page(index: number): number {
    if (index * PAGE >= this.#size) return -1;
    const known = this.#frames.get(index);
    if (known !== undefined) return known;
    const old = this.#pages.get(index);
    const { frames } = this.fs.host;
    if (!old && !this.#takePage(index)) return -1;
    const frame = frames.allocate();
    if (frame === 0) return 0;
    const bytes = frames.bytes(frame);
    if (old) {
      bytes.set(old);
    } else if (this.#fill(bytes, index) < 0) {
      frames.release(frame);
      this.fs.takePages(-1);
      return -1;
    }
    this.#pages.set(index, bytes);
    this.#frames.set(index, frame);
    return frame;
  }

  override evict(): void {
    for (const frame of this.#frames.values()) this.fs.host.frames.release(frame);
    this.fs.takePages(-this.#pages.size - this.#reserved.size);
    this.#reserved.clear();
    this.#frames.clear();
    this.#pages.clear();
    this.#lower = undefined;
    this.#lowerSize = 0;
    super.evict();
  }

  /** Bytes from `at` on (at most `limit`) that no page in memory covers. */
  #untouched(index: number, at: number, limit: number): number {
    let next = index + 1;
    while (next * PAGE - at < limit && !this.#pages.has(next)) next++;
    return Math.min(limit, next * PAGE - at);
  }

  #beforeWrite(index: number): void {
    const frame = this.#frames.get(index);
    if (frame !== undefined) this.fs.host.frames.beforeWrite(frame);
  }

  #takePage(index: number): boolean {
    return this.#reserved.delete(index) || this.fs.takePages(1);
  }

  #newPage(index: number, wholeFollows: boolean): Uint8Array | number {
    if (!this.#takePage(index)) return -Errno.ENOSPC;
    const page = new Uint8Array(PAGE);
    if (!wholeFollows) {
      const got = this.#fill(page, index);
      if (got < 0) {
        this.fs.takePages(-1);
        return got;
      }
    }
    this.#pages.set(index, page);
    return page;
  }

  #fill(page: Uint8Array, index: number): number {
    const from = index * PAGE;
    if (from >= this.#lowerSize || !this.#lower) return 0;
    return this.#lower.read(page.subarray(0, Math.min(PAGE, this.#lowerSize - from)), from);
  }

  /** Zeroes [start, end); whole pages are given back, but a page that a mapping shows stays where it is. */
  #clear(start: number, end: number, cut: boolean): void {
    if (cut) this.#lowerSize = Math.min(this.#lowerSize, start);
    else if (start < this.#lowerSize) this.#ownPages(start, end);
    const drop = (index: number, page: Uint8Array) => {
      const from = Math.max(start - index * PAGE, 0);
      const to = Math.min(end - index * PAGE, PAGE);
      if (from >= PAGE || to <= 0) return;
      this.#beforeWrite(index);
      page.fill(0, from, cut ? PAGE : to);
      // Below `#lowerSize` a page given back would let the host's content show again.
      if (from > 0 || (to < PAGE && !cut) || this.#frames.has(index) || index * PAGE < this.#lowerSize) return;
      this.#pages.delete(index);
      this.fs.takePages(-1);
    };
    const first = Math.floor(start / PAGE);
    const last = Math.ceil(end / PAGE);
    if (last - first > this.#pages.size) {
      for (const [index, page] of this.#pages) drop(index, page);
    } else {
      for (let index = first; index < last; index++) {
        const page = this.#pages.get(index);
        if (page) drop(index, page);
      }
    }
  }

  /** A hole in content of the host cannot be punched there: the pages of the hole become zero pages of ours, which stay. */
  #ownPages(start: number, end: number): void {
    const lowerEnd = this.#lowerSize;
    for (let index = Math.floor(start / PAGE); index * PAGE < Math.min(end, lowerEnd); index++) {
      if (this.#pages.has(index)) continue;
      const made = this.#newPage(index, false);
      if (typeof made === "number") fail(-made);
    }
  }
}
