/** Names: access, links, rename, directories made and removed, working directory and root. */

import { Errno } from "../errno.ts";
import { accessMode, atAccessFlags, atFlags, nodeDevice, nodeMode, renameFlags } from "../kinds/files.ts";
import { dirfd, fd, int, octal, size } from "../kinds/kinds.ts";
import { bufferOut, path, stringOut } from "../kinds/memory.ts";
import { Cap } from "../process/capabilities.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { contextOf, entryAt, fileCall, openFileOf, pathArgument, startOf } from "../vfs/call-context.ts";
import { link, make, rename, rmdir, unlink } from "../vfs/change.ts";
import { fail } from "../vfs/error.ts";
import {
  AT_EACCESS,
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_FOLLOW,
  AT_SYMLINK_NOFOLLOW,
  PATH_MAX,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  X_OK,
} from "../vfs/flags.ts";
import { type Credentials, demand, type Entry, LinkInode } from "../vfs/inode.ts";
import { isBelow, pathOf } from "../vfs/walk.ts";

function accessAt(task: Task, directory: number, name: number, mode: number, flags: number): number {
  if (mode & ~7) fail(Errno.EINVAL, "unknown access mode");
  if (flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) fail(Errno.EINVAL, "unknown flags");
  const follow = (flags & AT_SYMLINK_NOFOLLOW) === 0;
  const { cred } = task.process;
  // access(2): the real ids count, unless asked otherwise.
  const asker: Credentials = flags & AT_EACCESS ? cred : cred.real();
  const entry = entryAt(task, directory, name, follow, (flags & AT_EMPTY_PATH) !== 0, asker);
  if (mode !== 0) demand(entry.inode, asker, mode);
  return 0;
}

const access = fileCall((task, name, mode) => accessAt(task, AT_FDCWD, name, mode, 0));
const faccessat = fileCall((task, directory, name, mode) => accessAt(task, directory, name, mode, 0));
const faccessat2 = fileCall(accessAt);

function readLinkAt(task: Task, directory: number, name: number, buffer: number, length: number): number {
  if (length <= 0) fail(Errno.EINVAL, "no room for the answer");
  const given = pathArgument(task, name);
  // An empty path means the link that an O_PATH descriptor holds (readlinkat(2)).
  const entry = entryAt(task, directory, name, false, given === "" && directory !== AT_FDCWD);
  const { inode } = entry;
  if (!(inode instanceof LinkInode)) return fail(given === "" ? Errno.ENOENT : Errno.EINVAL, "no symbolic link");
  inode.accessed();
  const text = Buffer.from(inode.target(), "latin1").subarray(0, length);
  task.memory.write(buffer, text);
  return text.length;
}

const readlink = fileCall((task, name, buffer, length) => readLinkAt(task, AT_FDCWD, name, buffer, length));
const readlinkat = fileCall(readLinkAt);

const getcwd = fileCall((task, buffer, length) => {
  const { cwd, root } = task.process.fs;
  if (cwd.named.deleted) fail(Errno.ENOENT, "the working directory was removed");
  const inside = isBelow(cwd, root);
  const text = Buffer.from(`${inside ? "" : "(unreachable)"}${pathOf(cwd, root)}\0`, "latin1");
  if (text.length > PATH_MAX) fail(Errno.ENAMETOOLONG);
  if (text.length > length) fail(Errno.ERANGE, "the buffer is too small");
  task.memory.write(buffer, text);
  return text.length;
});

function changeDirectory(task: Task, entry: Entry): number {
  if (!entry.inode.isDirectory) fail(Errno.ENOTDIR);
  demand(entry.inode, task.process.cred, X_OK);
  task.process.fs.cwd = entry;
  return 0;
}

const chdir = fileCall((task, name) => changeDirectory(task, entryAt(task, AT_FDCWD, name, true)));
const fchdir = fileCall((task, descriptor) => changeDirectory(task, openFileOf(task, descriptor).entry));

const chroot = fileCall((task, name) => {
  const entry = entryAt(task, AT_FDCWD, name, true);
  if (!entry.inode.isDirectory) fail(Errno.ENOTDIR);
  demand(entry.inode, task.process.cred, X_OK);
  if (!task.process.cred.has(Cap.CAP_SYS_CHROOT)) fail(Errno.EPERM, "changing the root takes CAP_SYS_CHROOT");
  task.process.fs.root = entry;
  return 0;
});

function makeAt(task: Task, directory: number, name: number, mode: number, rdev = 0): number {
  const given = pathArgument(task, name);
  make(contextOf(task), startOf(task, directory, given), given, mode & ~(task.process.fs.umask & 0o777), { rdev });
  return 0;
}

const mkdir = fileCall((task, name, mode) => makeAt(task, AT_FDCWD, name, S_IFDIR | (mode & 0o1777)));
const mkdirat = fileCall((task, directory, name, mode) => makeAt(task, directory, name, S_IFDIR | (mode & 0o1777)));

/** What stands for the content of a new file's mode: a regular file when no type is given (mknod(2)). */
function withType(mode: number): number {
  return (mode & S_IFMT) === 0 ? mode | S_IFREG : mode;
}

function makeNode(task: Task, directory: number, name: number, mode: number, rdev: number): number {
  const full = withType(mode & (S_IFMT | 0o7777));
  switch (full & S_IFMT) {
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
      return makeAt(task, directory, name, full);
    case S_IFCHR:
    case S_IFBLK:
      if (!task.process.cred.capable(Cap.CAP_MKNOD)) fail(Errno.EPERM, "device nodes take CAP_MKNOD");
      return makeAt(task, directory, name, full, rdev);
    case S_IFDIR:
      return fail(Errno.EPERM, "mkdir makes directories");
    default:
      return fail(Errno.EINVAL, "unknown type");
  }
}

const mknod = fileCall((task, name, mode, rdev) => makeNode(task, AT_FDCWD, name, mode, rdev));
const mknodat = fileCall(makeNode);

function symlinkTo(task: Task, target: number, directory: number, name: number): number {
  const text = pathArgument(task, target);
  if (text === "") fail(Errno.ENOENT, "an empty target");
  const given = pathArgument(task, name);
  make(contextOf(task), startOf(task, directory, given), given, S_IFLNK | 0o777, { target: text });
  return 0;
}

const symlink = fileCall((task, target, name) => symlinkTo(task, target, AT_FDCWD, name));
const symlinkat = fileCall(symlinkTo);

function linkAt(task: Task, from: number, old: number, to: number, name: number, flags: number): number {
  if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) fail(Errno.EINVAL, "unknown flags");
  const existing = entryAt(task, from, old, (flags & AT_SYMLINK_FOLLOW) !== 0, (flags & AT_EMPTY_PATH) !== 0);
  const given = pathArgument(task, name);
  link(contextOf(task), existing, startOf(task, to, given), given, (flags & (AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) !== 0);
  return 0;
}

const linkPlain = fileCall((task, old, name) => linkAt(task, AT_FDCWD, old, AT_FDCWD, name, 0));
const linkat = fileCall(linkAt);

function removeAt(task: Task, directory: number, name: number, flags: number): number {
  if (flags & ~AT_REMOVEDIR) fail(Errno.EINVAL, "unknown flags");
  const given = pathArgument(task, name);
  (flags & AT_REMOVEDIR ? rmdir : unlink)(contextOf(task), startOf(task, directory, given), given);
  return 0;
}

const unlinkPlain = fileCall((task, name) => removeAt(task, AT_FDCWD, name, 0));
const rmdirPlain = fileCall((task, name) => removeAt(task, AT_FDCWD, name, AT_REMOVEDIR));
const unlinkat = fileCall(removeAt);

function renameAt(task: Task, from: number, old: number, to: number, name: number, flags: number): number {
  const [source, target] = [pathArgument(task, old), pathArgument(task, name)];
  rename(contextOf(task), startOf(task, from, source), source, startOf(task, to, target), target, flags);
  return 0;
}

const renamePlain = fileCall((task, old, name) => renameAt(task, AT_FDCWD, old, AT_FDCWD, name, 0));
const renameat = fileCall((task, from, old, to, name) => renameAt(task, from, old, to, name, 0));
const renameat2 = fileCall(renameAt);

function umask(task: Task, mask: number): number {
  const { fs } = task.process;
  const old = fs.umask;
  fs.umask = mask & 0o777;
  return old;
}

const o = { family: "file" } as const;

export const pathCalls: readonly Row[] = [
  row("access", { x86_64: 21, i386: 33 }, [path, accessMode], access, o),
  row("faccessat", { x86_64: 269, i386: 307 }, [dirfd, path, accessMode], faccessat, o),
  row("faccessat2", { x86_64: 439, i386: 439 }, [dirfd, path, accessMode, atAccessFlags], faccessat2, o),
  row("readlink", { x86_64: 89, i386: 85 }, [path, bufferOut, int], readlink, o),
  row("readlinkat", { x86_64: 267, i386: 305 }, [dirfd, path, bufferOut, int], readlinkat, o),
  row("getcwd", { x86_64: 79, i386: 183 }, [stringOut, size], getcwd, o),
  row("chdir", { x86_64: 80, i386: 12 }, [path], chdir, o),
  row("fchdir", { x86_64: 81, i386: 133 }, [fd], fchdir, o),
  row("chroot", { x86_64: 161, i386: 61 }, [path], chroot, o),
  row("mkdir", { x86_64: 83, i386: 39 }, [path, octal], mkdir, o),
  row("mkdirat", { x86_64: 258, i386: 296 }, [dirfd, path, octal], mkdirat, o),
  row("rmdir", { x86_64: 84, i386: 40 }, [path], rmdirPlain, o),
  row("mknod", { x86_64: 133, i386: 14 }, [path, nodeMode, nodeDevice], mknod, o),
  row("mknodat", { x86_64: 259, i386: 297 }, [dirfd, path, nodeMode, nodeDevice], mknodat, o),
  row("symlink", { x86_64: 88, i386: 83 }, [path, path], symlink, o),
  row("symlinkat", { x86_64: 266, i386: 304 }, [path, dirfd, path], symlinkat, o),
  row("link", { x86_64: 86, i386: 9 }, [path, path], linkPlain, o),
  row("linkat", { x86_64: 265, i386: 303 }, [dirfd, path, dirfd, path, atFlags], linkat, o),
  row("unlink", { x86_64: 87, i386: 10 }, [path], unlinkPlain, o),
  row("unlinkat", { x86_64: 263, i386: 301 }, [dirfd, path, atFlags], unlinkat, o),
  row("rename", { x86_64: 82, i386: 38 }, [path, path], renamePlain, o),
  row("renameat", { x86_64: 264, i386: 302 }, [dirfd, path, dirfd, path], renameat, o),
  row("renameat2", { x86_64: 316, i386: 353 }, [dirfd, path, dirfd, path, renameFlags], renameat2, {
    ...o,
    support: "RENAME_WHITEOUT answers EINVAL; RENAME_EXCHANGE too in files bound read-write",
  }),
  row("umask", { x86_64: 95, i386: 60 }, [octal], umask, { ...o, returns: octal }),
];
