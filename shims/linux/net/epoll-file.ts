import { Errno } from "../errno.ts";
import { Cap } from "../process/capabilities.ts";
import type { Task } from "../task.ts";
import { MEMORY_MAJOR, Minor, majorOf, minorOf } from "../vfs/devices.ts";
import {
  O_RDWR,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLPRI,
  POLLRDNORM,
  POLLWRNORM,
  S_IFCHR,
  S_IFDIR,
  S_IFREG,
} from "../vfs/flags.ts";
import type { Entry } from "../vfs/inode.ts";
import { OpenFile } from "../vfs/open-file.ts";
import { type Listener, WaitQueue } from "../wait.ts";
import { POLLRDHUP, POLLWRBAND } from "./constants.ts";

export const EPOLLEXCLUSIVE = 2 ** 28;
export const EPOLLWAKEUP = 2 ** 29;
export const EPOLLONESHOT = 2 ** 30;
export const EPOLLET = 2 ** 31;
/** How the events are told, not events themselves. A one-shot that has fired keeps only these. */
const PRIVATE_BITS = (EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET) >>> 0;
const ALWAYS = POLLERR | POLLHUP;
/** What a wake of a file's read (write) queue may be about. */
const READ_EVENTS = POLLIN | POLLRDNORM | POLLPRI | 0x80 | POLLRDHUP;
const WRITE_EVENTS = POLLOUT | POLLWRNORM | POLLWRBAND;
const END_EVENTS = ALWAYS | POLLRDHUP;
/** uapi/linux/eventpoll.h. */
const EPIOCSPARAMS = 0x4008_8a01;
const EPIOCGPARAMS = 0x8008_8a02;
const NAPI_POLL_WEIGHT = 64;
/** EP_MAX_NESTS. */
const MAX_NESTS = 4;

/** `epoll_data_t`, as two words. */
interface EpollData {
  readonly low: number;
  readonly high: number;
}

export interface EpollEvent extends EpollData {
  readonly events: number;
}

/** A file that is watched under one descriptor. */
class Item {
  readonly file: OpenFile;
  readonly fd: number;
  events: number;
  data: EpollData;
  readonly #epoll: EpollFile;
  readonly #heard: { readonly queue: WaitQueue; readonly listener: Listener }[] = [];
  readonly #gone: () => void;

  constructor(epoll: EpollFile, file: OpenFile, fd: number, event: EpollEvent) {
    this.#epoll = epoll;
    this.file = file;
    this.fd = fd;
    this.events = event.events;
    this.data = event;
    this.#gone = () => epoll.forget(this);
    file.watchers ??= new Set();
    file.watchers.add(this.#gone);
    this.#listen(file.readQueue, READ_EVENTS);
    if (file.writeQueue !== file.readQueue) this.#listen(file.writeQueue, WRITE_EVENTS);
  }

  #listen(queue: WaitQueue | undefined, kinds: number): void {
    if (queue === undefined) return;
    const exclusive = this.events & EPOLLEXCLUSIVE ? () => this.#epoll.isAwaited : undefined;
    const listener = { exclusive, woken: () => this.#woken(kinds) };
    queue.listen(listener);
    this.#heard.push({ queue, listener });
  }

  /** Only a wake for what is asked for counts: edge-triggered items would tell too much otherwise (ep_poll_callback). */
  #woken(kinds: number): void {
    const { events } = this;
    if ((events & ~PRIVATE_BITS) === 0) return;
    const both = this.file.readQueue === this.file.writeQueue;
    if (both || events & kinds || this.ready() & END_EVENTS) this.#epoll.becameReady(this);
  }

  /** Events that hold now and are asked for. */
  ready(): number {
    return (this.events & ~PRIVATE_BITS) === 0 ? 0 : this.file.poll() & this.events & ~PRIVATE_BITS;
  }

  stop(): void {
    for (const { queue, listener } of this.#heard) queue.unlisten(listener);
    this.file.watchers?.delete(this.#gone);
  }
}

/** epoll(7): a list of files, and of those among them that may have something to tell (fs/eventpoll.c). */
export class EpollFile extends OpenFile {
  readonly #items = new Map<OpenFile, Map<number, Item>>();
  /** In the order in which they became ready. */
  readonly #ready = new Set<Item>();
  readonly #queue = new WaitQueue();
  #onHost = 0;

  /** Somebody waits for its events. */
  get isAwaited(): boolean {
    return this.#queue.isAwaited;
  }

  constructor(entry: Entry) {
    super(entry, O_RDWR);
  }

  override get readQueue(): WaitQueue {
    return this.#queue;
  }

  override get onHost(): boolean {
    return this.#onHost > 0;
  }

  read(): number {
    return -Errno.EINVAL;
  }

  write(): number {
    return -Errno.EINVAL;
  }

  /** noop_llseek. */
  override seek(): number {
    return 0;
  }

  /** Regular files, directories and memory devices are always ready and cannot be watched. */
  static canWatch({ inode, readQueue }: OpenFile): boolean {
    if (readQueue !== undefined) return true;
    if (inode.kind === S_IFREG || inode.kind === S_IFDIR) return false;
    const memory = inode.kind === S_IFCHR && majorOf(inode.rdev) === MEMORY_MAJOR;
    return !memory || minorOf(inode.rdev) === Minor.random;
  }

  #find(file: OpenFile, fd: number): Item | undefined {
    return this.#items.get(file)?.get(fd);
  }

  /** The files that it watches under a descriptor's number: several where the number has been used again. */
  watchedAs(fd: number): readonly OpenFile[] {
    return [...this.#items].filter(([, items]) => items.has(fd)).map(([file]) => file);
  }

  add(file: OpenFile, fd: number, event: EpollEvent): number {
    if (file instanceof EpollFile && (file.#reaches(this) || file.#depth() + 1 + this.#height() > MAX_NESTS)) {
      return -Errno.ELOOP;
    }
    if (this.#find(file, fd) !== undefined) return -Errno.EEXIST;
    const item = new Item(this, file, fd, { ...event, events: (event.events | ALWAYS) >>> 0 });
    const items = this.#items.get(file);
    if (items === undefined) this.#items.set(file, new Map([[fd, item]]));
    else items.set(fd, item);
    if (file.onHost) this.#onHost++;
    if (file instanceof EpollFile) file.#parents.add(this);
    if (item.ready() !== 0) this.becameReady(item);
    return 0;
  }

  modify(file: OpenFile, fd: number, event: EpollEvent): number {
    const item = this.#find(file, fd);
    if (item === undefined) return -Errno.ENOENT;
    if (item.events & EPOLLEXCLUSIVE) return -Errno.EINVAL;
    item.events = (event.events | ALWAYS) >>> 0;
    item.data = event;
    if (item.ready() !== 0) this.becameReady(item);
    return 0;
  }

  remove(file: OpenFile, fd: number): number {
    const item = this.#find(file, fd);
    if (item === undefined) return -Errno.ENOENT;
    this.forget(item);
    return 0;
  }

  /** The item's file is closed, or it was taken out. */
  forget(item: Item): void {
    item.stop();
    this.#ready.delete(item);
    const items = this.#items.get(item.file);
    if (!items?.delete(item.fd)) return;
    if (item.file.onHost) this.#onHost--;
    if (items.size > 0) return;
    this.#items.delete(item.file);
    if (item.file instanceof EpollFile) item.file.#parents.delete(this);
  }

  becameReady(item: Item): void {
    this.#ready.add(item);
    this.#queue.wake();
  }

  /** What only the host changes does not wake anybody: it is looked at each time. */
  #lookAtHost(): void {
    if (this.#onHost === 0) return;
    for (const [file, items] of this.#items) {
      if (file.onHost) for (const item of items.values()) if (item.ready() !== 0) this.#ready.add(item);
    }
  }

  /**
   * Hands out up to `limit` events. Level-triggered items go to the end of the list and are looked at again next time.
   * @param store puts an event into the guest's array; where it cannot, the item stays ready
   * @returns how many, or -EFAULT
   */
  collect(limit: number, store: (index: number, event: EpollEvent) => boolean): number {
    this.#lookAtHost();
    let count = 0;
    for (const item of [...this.#ready]) {
      if (count >= limit) break;
      const events = item.ready();
      if (events === 0) {
        this.#ready.delete(item);
        continue;
      }
      if (!store(count, { events, low: item.data.low, high: item.data.high })) return count > 0 ? count : -Errno.EFAULT;
      count++;
      this.#ready.delete(item);
      if (item.events & EPOLLONESHOT) item.events = (item.events & PRIVATE_BITS) >>> 0;
      else if (!(item.events & EPOLLET)) this.#ready.add(item);
    }
    return count;
  }

  override poll(): number {
    this.#lookAtHost();
    for (const item of this.#ready) {
      if (item.ready() !== 0) return POLLIN | POLLRDNORM;
      this.#ready.delete(item);
    }
    return 0;
  }

  override ioctl(task: Task, request: number, argument: number): number | undefined {
    const { memory } = task;
    if (request === EPIOCGPARAMS) {
      memory.write(argument, this.#busyPoll);
      return 0;
    }
    if (request !== EPIOCSPARAMS) return undefined;
    const given = memory.bytes(argument, this.#busyPoll.length);
    const view = new DataView(given.buffer, given.byteOffset);
    const [budget, prefers, padding] = [view.getUint16(4, true), given[6] ?? 0, given[7] ?? 0];
    if (padding !== 0 || view.getInt32(0, true) < 0 || prefers > 1) return -Errno.EINVAL;
    if (budget > NAPI_POLL_WEIGHT && !task.process.cred.capable(Cap.CAP_NET_ADMIN)) return -Errno.EPERM;
    this.#busyPoll.set(given);
    return 0;
  }

  /** `struct epoll_params`: kept and told, as no network card is polled. */
  readonly #busyPoll = new Uint8Array(8);
  /** Epolls that watch this one. */
  readonly #parents = new Set<EpollFile>();

  #reaches(other: EpollFile): boolean {
    if (this === other) return true;
    for (const file of this.#items.keys()) if (file instanceof EpollFile && file.#reaches(other)) return true;
    return false;
  }

  /** Levels of epolls below. */
  #depth(): number {
    let depth = 0;
    for (const file of this.#items.keys()) if (file instanceof EpollFile) depth = Math.max(depth, 1 + file.#depth());
    return depth;
  }

  #height(): number {
    let height = 0;
    for (const parent of this.#parents) height = Math.max(height, 1 + parent.#height());
    return height;
  }

  protected override closed(): void {
    for (const items of [...this.#items.values()]) for (const item of [...items.values()]) this.forget(item);
  }
}
