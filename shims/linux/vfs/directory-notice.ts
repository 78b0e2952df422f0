/** F_NOTIFY: a signal for what happens in a directory (fcntl(2); fs/notify/dnotify). */
import type { Kernel } from "../task.ts";
import type { Inode } from "./inode.ts";
import type { OpenFile } from "./open-file.ts";
import { Reason, signalOwner } from "./owner.ts";
import {
  FS_RENAME,
  IN_ACCESS,
  IN_ATTRIB,
  IN_CREATE,
  IN_DELETE,
  IN_MODIFY,
  IN_MOVED_FROM,
  IN_MOVED_TO,
  type Watcher,
} from "./watch.ts";

const DN_MULTISHOT = 0x8000_0000;
/** uapi/linux/fcntl.h: DN_*, and what they mean to inotify. */
const EVENTS: readonly (readonly [number, number])[] = [
  [0x01, IN_ACCESS],
  [0x02, IN_MODIFY],
  [0x04, IN_CREATE | IN_MOVED_TO],
  [0x08, IN_DELETE | IN_MOVED_FROM],
  [0x10, FS_RENAME],
  [0x20, IN_ATTRIB],
];

export class DirectoryNotice implements Watcher {
  readonly #kernel: Kernel;
  readonly #file: OpenFile;
  readonly #fd: number;
  readonly #inode: Inode;
  /** DN_*. */
  mask: number;

  constructor(kernel: Kernel, file: OpenFile, fd: number, mask: number) {
    this.#kernel = kernel;
    this.#file = file;
    this.#fd = fd;
    this.#inode = file.inode;
    this.mask = mask;
    this.#inode.watchers ??= new Set();
    this.#inode.watchers.add(this);
    this.#inode.fs.host.watched++;
  }

  /** What happens to the files in it, and to itself. */
  notice(events: number): void {
    for (const [bit, meaning] of EVENTS) {
      if (!(this.mask & bit) || !(events & meaning)) continue;
      signalOwner(this.#kernel, this.#file, this.#fd, Reason.message);
      if (this.mask & DN_MULTISHOT) continue;
      this.stop();
      return;
    }
  }

  evicted(): void {
    this.stop();
  }

  stop(): void {
    if (!this.#inode.watchers?.delete(this)) return;
    this.#inode.fs.host.watched--;
    if (this.#file.directoryNotice === this) this.#file.directoryNotice = undefined;
  }
}
