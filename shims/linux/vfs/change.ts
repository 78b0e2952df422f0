import { Errno } from "../errno.ts";
import { fail, VfsError } from "./error.ts";
import {
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  S_IFDIR,
  S_IFMT,
  S_ISGID,
  S_ISVTX,
  W_OK,
  X_OK,
} from "./flags.ts";
import {
  type Credentials,
  DirectoryInode,
  demand,
  demandChangeable,
  demandUnflagged,
  demandWritable,
  type Entry,
  FS_APPEND_FL,
  type Inode,
  type Making,
  owns,
} from "./inode.ts";
import { isBelow, type WalkContext, type Walked, walk } from "./walk.ts";
import {
  FS_RENAME,
  IN_ATTRIB,
  IN_CREATE,
  IN_DELETE,
  IN_MOVE_SELF,
  IN_MOVED_FROM,
  IN_MOVED_TO,
  reportName,
  reportSelf,
} from "./watch.ts";

/*
 * Changes of names. The order of checks is the kernel's (fs/namei.c): programs depend on which errno they get first.
 */

function directory(entry: Entry): DirectoryInode {
  const { inode } = entry;
  return inode instanceof DirectoryInode ? inode : fail(Errno.ENOTDIR);
}

/** Where a new name shall stand. EEXIST for `.`, `..` and names that are there; ENOENT for "missing/" unless a directory is made. */
function place(context: WalkContext, start: Entry, path: string, forDirectory: boolean): Walked {
  const at = walk(context, start, path, { follow: false, naming: true });
  if (at.kind !== "name" || at.entry) fail(Errno.EEXIST, `"${path}" is there already`);
  if (at.slash && !forDirectory) fail(Errno.ENOENT, "a trailing slash asks for a directory");
  demand(at.dir.inode, context.creds, W_OK | X_OK);
  return at;
}

/** Owner and group of what is made in `dir`: a set-group-id directory hands its group down (inode(7)). */
export function inherited(dir: Inode, creds: Credentials, mode: number): Making {
  if (!(dir.mode & S_ISGID)) return { mode, uid: creds.uid, gid: creds.gid };
  return { mode: (mode & S_IFMT) === S_IFDIR ? mode | S_ISGID : mode, uid: creds.uid, gid: dir.gid };
}

/** mkdir, mknod, symlink: makes a name that is not there. `mode` carries the type; the umask has been applied. */
export function make(
  context: WalkContext,
  start: Entry,
  path: string,
  mode: number,
  rest: Partial<Making> = {},
): Entry {
  const at = place(context, start, path, (mode & S_IFMT) === S_IFDIR);
  const parent = directory(at.dir);
  const made = parent.make(at.dir, at.name, { ...inherited(parent, context.creds, mode), ...rest });
  reportName(parent, at.name, made.inode, IN_CREATE);
  return made;
}

/**
 * link(2): another name for `existing`.
 * @param revive a file that was opened without a name (O_TMPFILE) gets its first one
 */
export function link(context: WalkContext, existing: Entry, start: Entry, path: string, revive: boolean): void {
  const at = place(context, start, path, false);
  const { inode } = existing;
  if (inode.fs !== at.dir.inode.fs) fail(Errno.EXDEV, "the two names lie on different mounts");
  if (inode.isDirectory) fail(Errno.EPERM, "a directory has one name");
  demandChangeable(inode);
  if (inode.nlink === 0 && !(revive && inode.unnamed)) fail(Errno.ENOENT, "the file has no name any more");
  directory(at.dir).link(at.dir, at.name, inode);
  reportSelf(inode, IN_ATTRIB);
  reportName(at.dir.inode, at.name, inode, IN_CREATE);
}

/** The kernel's may_delete: rights on the directory, sticky bit, and that the kinds fit. */
function mayRemove(dir: Inode, victim: Entry, creds: Credentials, asDirectory: boolean): void {
  demand(dir, creds, W_OK | X_OK);
  if (dir.mode & S_ISVTX && !owns(victim.inode, creds) && !owns(dir, creds)) fail(Errno.EPERM, "a sticky directory");
  if (dir.flags & FS_APPEND_FL) fail(Errno.EPERM, "names are only added there");
  demandUnflagged(victim.inode);
  if (asDirectory) {
    if (!victim.inode.isDirectory) fail(Errno.ENOTDIR, `"${victim.name}" is no directory`);
  } else if (victim.inode.isDirectory) {
    fail(Errno.EISDIR, `"${victim.name}" is a directory`);
  }
}

export function unlink(context: WalkContext, start: Entry, path: string): void {
  const at = walk(context, start, path, { follow: false, naming: true });
  if (at.kind !== "name") fail(Errno.EISDIR, "`.`, `..` and `/` are directories");
  demandWritable(at.dir.inode);
  const entry = at.entry ?? fail(Errno.ENOENT, `no "${at.name}"`);
  if (at.slash) fail(entry.inode.isDirectory ? Errno.EISDIR : Errno.ENOTDIR);
  mayRemove(at.dir.inode, entry, context.creds, false);
  if (entry.covers) fail(Errno.EBUSY, "something is mounted there");
  removeName(at.dir, entry);
}

export function rmdir(context: WalkContext, start: Entry, path: string): void {
  const at = walk(context, start, path, { follow: false, naming: true });
  if (at.kind === "dotdot") fail(Errno.ENOTEMPTY);
  if (at.kind === "dot") fail(Errno.EINVAL, "`.` cannot be removed");
  if (at.kind === "root") fail(Errno.EBUSY, "`/` cannot be removed");
  demandWritable(at.dir.inode);
  const entry = at.entry ?? fail(Errno.ENOENT, `no "${at.name}"`);
  mayRemove(at.dir.inode, entry, context.creds, true);
  if (entry.covers || entry === context.root) fail(Errno.EBUSY, "something is mounted there");
  removeName(at.dir, entry);
}

/** renameat2(2). */
export function rename(
  context: WalkContext,
  from: Entry,
  oldPath: string,
  to: Entry,
  newPath: string,
  flags: number,
): void {
  if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) fail(Errno.EINVAL, "unknown flags");
  if (flags & RENAME_EXCHANGE && flags !== RENAME_EXCHANGE) fail(Errno.EINVAL, "flags exclude each other");
  if (flags & RENAME_WHITEOUT) fail(Errno.EINVAL, "RENAME_WHITEOUT is for layers of the kernel's own");
  const exchange = flags === RENAME_EXCHANGE;
  const old = walk(context, from, oldPath, { follow: false, naming: true });
  const next = walk(context, to, newPath, { follow: false, naming: true });
  const { dir: oldDir } = old;
  const { dir: newDir } = next;
  if (oldDir.inode.fs !== newDir.inode.fs) fail(Errno.EXDEV, "the two names lie on different mounts");
  if (old.kind !== "name") fail(Errno.EBUSY, "`.`, `..` and `/` cannot be renamed");
  if (next.kind !== "name") fail(flags & RENAME_NOREPLACE ? Errno.EEXIST : Errno.EBUSY);
  demandWritable(oldDir.inode);
  const entry = old.entry ?? fail(Errno.ENOENT, `no "${old.name}"`);
  const target = next.entry;
  if (target && flags & RENAME_NOREPLACE) fail(Errno.EEXIST, `"${next.name}" is there already`);
  if (exchange) {
    if (!target) throw new VfsError(Errno.ENOENT, `no "${next.name}" to exchange with`);
    if (!target.inode.isDirectory && next.slash) fail(Errno.ENOTDIR);
  }
  if (!entry.inode.isDirectory && (old.slash || (!exchange && next.slash))) fail(Errno.ENOTDIR, "a trailing slash");
  if (entry.inode.isDirectory && isBelow(newDir, entry)) fail(Errno.EINVAL, "a directory cannot move into itself");
  if (target?.inode.isDirectory && isBelow(oldDir, target)) fail(exchange ? Errno.EINVAL : Errno.ENOTEMPTY);
  if (target?.inode === entry.inode) return;
  const { creds } = context;
  mayRemove(oldDir.inode, entry, creds, entry.inode.isDirectory);
  if (!target) demand(newDir.inode, creds, W_OK | X_OK);
  else mayRemove(newDir.inode, target, creds, exchange ? target.inode.isDirectory : entry.inode.isDirectory);
  if (oldDir !== newDir) {
    // `..` of the directory changes, which is a write.
    if (entry.inode.isDirectory) demand(entry.inode, creds, W_OK);
    if (exchange && target?.inode.isDirectory) demand(target.inode, creds, W_OK);
  }
  if (entry.covers || target?.covers) fail(Errno.EBUSY, "something is mounted there");
  const parent = directory(oldDir);
  if (exchange && target) {
    parent.exchange(entry, target);
    reportMove(old, next, entry.inode, undefined);
    reportMove(next, old, target.inode, undefined);
    return;
  }
  // What is replaced goes when everything is told.
  target?.inode.hold();
  parent.rename(entry, newDir, next.name, target);
  reportMove(old, next, entry.inode, target?.inode);
  target?.inode.drop();
}

/** fsnotify_move. */
function reportMove(from: Walked, to: Walked, moved: Inode, replaced: Inode | undefined): void {
  const { host } = moved.fs;
  if (host.watched === 0) return;
  const cookie = ++host.renames;
  if (from.dir.inode === to.dir.inode) reportName(from.dir.inode, from.name, moved, FS_RENAME);
  reportName(from.dir.inode, from.name, moved, IN_MOVED_FROM, cookie);
  reportName(to.dir.inode, to.name, moved, IN_MOVED_TO, cookie);
  if (replaced !== undefined) reportSelf(replaced, IN_ATTRIB);
  reportSelf(moved, IN_MOVE_SELF);
}

/** Takes a name away and tells of it, as d_delete_notify does. */
function removeName(at: Entry, entry: Entry): void {
  const { inode, name } = entry;
  const isDirectory = inode.isDirectory;
  if (!isDirectory) {
    // The count of links changes before the file may go with the last one.
    inode.hold();
    directory(at).remove(entry);
    reportSelf(inode, IN_ATTRIB);
    inode.drop();
  } else directory(at).remove(entry);
  reportName(at.inode, name, inode, IN_DELETE);
}
