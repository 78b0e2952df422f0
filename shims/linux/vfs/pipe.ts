import { ByteQueue } from "../byte-queue.ts";
import { Errno } from "../errno.ts";
import { PAGE } from "../memory/pages.ts";
import type { UserCounts } from "../process/user-counts.ts";
import { WaitQueue } from "../wait.ts";
import { fail } from "./error.ts";
import { POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM } from "./flags.ts";
import type { Entry } from "./inode.ts";
import { OpenFile } from "./open-file.ts";

const DEFAULT_SLOTS = 16;
/** For a user who has many pipes. */
const FEWEST_SLOTS = 2;
/** Their descriptions, of 40 bytes each, are one piece of the kernel's memory: 4 MiB at most (pipe_resize_ring). */
const MOST_SLOTS = 65_536;

/** What the pipes of one user may hold, in pages (fs.pipe-user-pages-soft and -hard; 0 for no limit). */
export interface PipeQuota {
  readonly user: number;
  readonly pages: UserCounts;
  readonly soft: number;
  readonly hard: number;
}

/**
 * The bytes between the two ends of a pipe, counted in slots of a page as Linux does (fs/pipe.c): a slot that is read in part
 * stays taken, and only the odd part of a write shares the slot before it. How much a write takes depends on it.
 */
export class Pipe {
  readonly readable = new WaitQueue();
  readonly writable = new WaitQueue();
  readers = 0;
  writers = 0;
  /** How often either side was opened: an open of a FIFO waits for the other side to have come, even if it left again. */
  readerOpens = 0;
  writerOpens = 0;
  readonly #quota: PipeQuota | undefined;
  #slots = DEFAULT_SLOTS;
  /** Pages that count for the user: none while it is not open. */
  #counted = 0;
  /** Bytes left in each taken slot, oldest first. */
  readonly #taken: number[] = [];
  /** Where the data of the newest slot ends in its page. */
  #lastEnd = PAGE;
  readonly #bytes = new ByteQueue();

  /** @param quota for users without privileges */
  constructor(quota?: PipeQuota) {
    this.#quota = quota;
  }

  /** Somebody opens it: a user with too many pages gets a small one (alloc_pipe_info), and beyond the hard limit none (ENFILE). */
  begin(): void {
    if (this.readers + this.writers > 0) return;
    this.#count(this.#slots);
    if (!this.#isOver(this.#quota?.soft) && !this.#isOver(this.#quota?.hard)) return;
    this.#slots = FEWEST_SLOTS;
    this.#count(FEWEST_SLOTS);
    if (!this.#isOver(this.#quota?.hard)) return;
    this.#count(0);
    fail(Errno.ENFILE, "fs.pipe-user-pages-hard is reached");
  }

  /** One that nobody has open any more holds nothing. */
  end(): void {
    if (this.readers + this.writers === 0) this.#count(0);
  }

  #count(pages: number): void {
    this.#quota?.pages.change(this.#quota.user, pages - this.#counted);
    this.#counted = pages;
  }

  #isOver(limit = 0): boolean {
    return limit > 0 && this.#quota !== undefined && this.#quota.pages.of(this.#quota.user) > limit;
  }

  get capacity(): number {
    return this.#slots * PAGE;
  }

  get length(): number {
    return this.#bytes.length;
  }

  /** Bytes in free slots. */
  get room(): number {
    return (this.#slots - this.#taken.length) * PAGE;
  }

  /** @param most fs.pipe-max-size. F_SETPIPE_SZ: rounded up to a power of two pages. @returns the new capacity or a negative errno */
  resize(wanted: number, privileged: boolean, most: number): number {
    if (wanted > 2 ** 31) return -Errno.EINVAL;
    let slots = 1;
    while (slots * PAGE < wanted) slots *= 2;
    if (slots * PAGE > most && slots > this.#slots && !privileged) return -Errno.EPERM;
    const before = this.#counted;
    this.#count(slots);
    const over = slots > before && (this.#isOver(this.#quota?.hard) || this.#isOver(this.#quota?.soft));
    if (over || slots < this.#taken.length || slots > MOST_SLOTS) this.#count(before);
    if (over) return -Errno.EPERM;
    if (slots < this.#taken.length) return -Errno.EBUSY;
    if (slots > MOST_SLOTS) return -Errno.ENOMEM;
    this.#slots = slots;
    this.writable.wake();
    return this.capacity;
  }

  read(into: Uint8Array): number {
    const count = this.peek(into);
    if (count > 0) this.#consume(count);
    return count;
  }

  /** Copies without taking away; tee(2). */
  peek(into: Uint8Array): number {
    return this.#bytes.peek(into);
  }

  unread(bytes: Uint8Array): void {
    this.#bytes.unshift(bytes);
    this.#taken.unshift(bytes.length);
    this.readable.wake();
  }

  /** Takes as much as fits; up to a page (PIPE_BUF) all or nothing. @returns the count, 0 when it must wait */
  write(from: Uint8Array): number {
    const odd = from.length % PAGE;
    let count = 0;
    const newest = this.#taken.length - 1;
    if (odd > 0 && newest >= 0 && this.#lastEnd + odd <= PAGE) {
      this.#taken[newest] = (this.#taken[newest] ?? 0) + odd;
      this.#lastEnd += odd;
      count = odd;
    }
    while (count < from.length && this.#taken.length < this.#slots) {
      const piece = Math.min(PAGE, from.length - count);
      this.#taken.push(piece);
      this.#lastEnd = piece;
      count += piece;
    }
    if (count === 0) return 0;
    this.#bytes.push(count === from.length ? from : from.subarray(0, count));
    this.readable.wake();
    return count;
  }

  #consume(count: number): void {
    this.#bytes.drop(count);
    let left = count;
    let gone = 0;
    for (const [index, length] of this.#taken.entries()) {
      if (length > left) {
        this.#taken[index] = length - left;
        break;
      }
      left -= length;
      gone++;
    }
    this.#taken.splice(0, gone);
    if (gone > 0) this.writable.wake();
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

  override get splicesFrom(): boolean {
    return true;
  }

  override get splicesTo(): boolean {
    return true;
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
      if (pipe.room > 0) events |= POLLOUT | POLLWRNORM;
      if (pipe.readers === 0) events |= POLLERR;
    }
    return events;
  }

  override available(): number {
    return this.pipe.length;
  }

  protected override closed(): void {
    const { pipe } = this;
    if (this.readable) pipe.readers--;
    if (this.writable) pipe.writers--;
    pipe.end();
    pipe.readable.wake();
    pipe.writable.wake();
  }
}
