/** What inotify(7) is told of: the hooks of linux/fsnotify.h, cheap while nobody watches. */
import type { Entry, Inode } from "./inode.ts";

/** Somebody who watches a file or directory: inotify(7). */
export interface Watcher {
  /**
   * @param events IN_* bits
   * @param name of the file in the watched directory; undefined when the watched file itself is meant
   * @param unlinked the name is gone already, and the file is still open
   */
  notice(events: number, name: string | undefined, cookie: number, unlinked: boolean): void;
  /** The file is gone. */
  evicted(): void;
}

export const IN_ACCESS = 1;
export const IN_MODIFY = 2;
export const IN_ATTRIB = 4;
export const IN_CLOSE_WRITE = 8;
export const IN_CLOSE_NOWRITE = 0x10;
export const IN_OPEN = 0x20;
export const IN_MOVED_FROM = 0x40;
export const IN_MOVED_TO = 0x80;
export const IN_CREATE = 0x100;
export const IN_DELETE = 0x200;
export const IN_MOVE_SELF = 0x800;
/** Within one directory; inotify does not tell of it. */
export const FS_RENAME = 0x1000_0000;
const IN_ISDIR = 0x4000_0000;

function tell(inode: Inode | undefined, events: number, name: string | undefined, cookie: number, gone: boolean): void {
  for (const watcher of [...(inode?.watchers ?? [])]) watcher.notice(events, name, cookie, gone);
}

/** Something happened to the file at an entry: who watches its directory learns it with the name, then who watches the file. */
export function report(entry: Entry, events: number): void {
  const { inode } = entry;
  if (inode.fs.host.watched === 0) return;
  const all = inode.isDirectory ? events | IN_ISDIR : events;
  const { named } = entry;
  tell(named.parent?.inode, all, named.name, 0, named.deleted);
  tell(inode, all, undefined, 0, false);
}

/** The same for who watches the file itself only. */
export function reportSelf(inode: Inode, events: number): void {
  if (inode.fs.host.watched === 0) return;
  tell(inode, events, undefined, 0, false);
}

/** A name came into a directory or went. @param cookie ties the two halves of a rename together */
export function reportName(directory: Inode, name: string, of: Inode, events: number, cookie = 0): void {
  if (directory.fs.host.watched === 0) return;
  tell(directory, of.isDirectory ? events | IN_ISDIR : events, name, cookie, false);
}
