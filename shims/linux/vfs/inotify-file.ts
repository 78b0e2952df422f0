import { Errno } from "../errno.ts";
import type { UserCounts } from "../process/user-counts.ts";
import { WaitQueue } from "../wait.ts";
import { O_RDONLY, POLLIN, POLLRDNORM } from "./flags.ts";
import type { Entry, Inode } from "./inode.ts";
import { OpenFile } from "./open-file.ts";
import type { Watcher } from "./watch.ts";

const IN_DELETE_SELF = 0x400;
const IN_Q_OVERFLOW = 0x4000;
const IN_IGNORED = 0x8000;
export const IN_EXCL_UNLINK = 0x400_0000;
export const IN_ONESHOT = 0x8000_0000;
export const IN_ALL_EVENTS = 0xfff;
/** `struct inotify_event` before the name. */
const HEADER = 16;

interface Event {
  readonly wd: number;
  readonly mask: number;
  readonly cookie: number;
  readonly name: string;
}

/** Bytes of an event: the name is padded to a multiple of the header. */
function lengthOf({ name }: Event): number {
  return name === "" ? HEADER : HEADER + Math.ceil((name.length + 1) / HEADER) * HEADER;
}

/** One watched inode. */
class Watch implements Watcher {
  readonly wd: number;
  readonly inode: Inode;
  mask: number;
  readonly #file: InotifyFile;

  constructor(file: InotifyFile, wd: number, inode: Inode, mask: number) {
    this.#file = file;
    this.wd = wd;
    this.inode = inode;
    this.mask = mask;
    inode.watchers ??= new Set();
    inode.watchers.add(this);
  }

  notice(events: number, name: string | undefined, cookie: number, unlinked: boolean): void {
    if ((events & this.mask & IN_ALL_EVENTS) === 0) return;
    if (unlinked && this.mask & IN_EXCL_UNLINK) return;
    this.#file.push({ wd: this.wd, mask: events >>> 0, cookie, name: name ?? "" });
    if (this.mask & IN_ONESHOT) this.#file.remove(this.wd);
  }

  evicted(): void {
    if (this.mask & IN_DELETE_SELF) {
      this.#file.push({ wd: this.wd, mask: IN_DELETE_SELF, cookie: 0, name: "" });
    }
    this.#file.remove(this.wd);
  }

  stop(): void {
    this.inode.watchers?.delete(this);
  }
}

/** Whose instances and watches there are how many of (inotify_init, inotify_new_watch). */
export interface InotifyCounts {
  readonly instances: UserCounts;
  readonly watches: UserCounts;
}

/** inotify(7) (fs/notify/inotify). */
export class InotifyFile extends OpenFile {
  readonly #watches = new Map<number, Watch>();
  readonly #byInode = new Map<Inode, Watch>();
  readonly #events: Event[] = [];
  readonly #arrived = new WaitQueue();
  readonly #counts: InotifyCounts;
  /** Whom its watches count for: who made it. */
  readonly user: number;
  /** fs.inotify.max_queued_events when it was made. */
  readonly #mostEvents: number;
  #lastWd = 0;

  constructor(entry: Entry, flags: number, user: number, counts: InotifyCounts, mostEvents: number) {
    super(entry, O_RDONLY | flags);
    this.user = user;
    this.#counts = counts;
    this.#mostEvents = mostEvents;
    counts.instances.change(user, 1);
  }

  override get readQueue(): WaitQueue {
    return this.#arrived;
  }

  watchOf(inode: Inode): { readonly wd: number; mask: number } | undefined {
    return this.#byInode.get(inode);
  }

  /** @returns the watch descriptor */
  add(inode: Inode, mask: number): number {
    const wd = ++this.#lastWd;
    const watch = new Watch(this, wd, inode, mask);
    this.#watches.set(wd, watch);
    this.#byInode.set(inode, watch);
    this.#counts.watches.change(this.user, 1);
    this.inode.fs.host.watched++;
    return wd;
  }

  /** Ends a watch, and says so in the queue. False when there is none of that number. */
  remove(wd: number): boolean {
    const watch = this.#watches.get(wd);
    if (watch === undefined) return false;
    this.#forget(watch);
    this.push({ wd, mask: IN_IGNORED, cookie: 0, name: "" });
    return true;
  }

  #forget(watch: Watch): void {
    watch.stop();
    this.#watches.delete(watch.wd);
    this.#byInode.delete(watch.inode);
    this.#counts.watches.change(this.user, -1);
    this.inode.fs.host.watched--;
  }

  push(event: Event): void {
    const last = this.#events.at(-1);
    // The same thing again is told once (inotify_compare).
    if (last?.wd === event.wd && last.mask === event.mask && last.name === event.name) return;
    if (this.#events.length > this.#mostEvents) return;
    const full = this.#events.length === this.#mostEvents;
    this.#events.push(full ? { wd: -1, mask: IN_Q_OVERFLOW, cookie: 0, name: "" } : event);
    this.#arrived.wake();
  }

  read(into: Uint8Array): number {
    const view = new DataView(into.buffer, into.byteOffset, into.length);
    let done = 0;
    for (let [event] = this.#events; event !== undefined; [event] = this.#events) {
      const length = lengthOf(event);
      if (done + length > into.length) return done > 0 ? done : -Errno.EINVAL;
      into.fill(0, done, done + length);
      view.setInt32(done, event.wd, true);
      view.setUint32(done + 4, event.mask, true);
      view.setUint32(done + 8, event.cookie, true);
      view.setUint32(done + 12, length - HEADER, true);
      into.set(Buffer.from(event.name, "latin1"), done + HEADER);
      this.#events.shift();
      done += length;
    }
    return done > 0 ? done : -Errno.EAGAIN;
  }

  write(): number {
    return -Errno.EBADF;
  }

  override get details(): string {
    let text = "";
    for (const { wd, inode, mask } of this.#watches.values())
      text += `inotify wd:${wd.toString(16)} ino:${inode.ino.toString(16)} sdev:${inode.fs.dev.toString(16)} mask:${((mask & (IN_ALL_EVENTS | IN_EXCL_UNLINK | IN_ONESHOT)) >>> 0).toString(16)} ignored_mask:0 \n`;
    return text;
  }

  override available(): number {
    return this.#events.reduce((sum, event) => sum + lengthOf(event), 0);
  }

  /** noop_llseek. */
  override seek(): number {
    return 0;
  }

  override poll(): number {
    return this.#events.length > 0 ? POLLIN | POLLRDNORM : 0;
  }

  protected override closed(): void {
    for (const watch of [...this.#watches.values()]) this.#forget(watch);
    this.#counts.instances.change(this.user, -1);
  }
}
