/** Mode, owner and times of files. */

import { Errno } from "../errno.ts";
import { atFlags } from "../kinds/files.ts";
import { dirfd, fd, id, octal, pointer } from "../kinds/kinds.ts";
import { path } from "../kinds/memory.ts";
import { structIn, timespec, timespec64, timeval } from "../kinds/structs.ts";
import { kernelId } from "../namespaces/user.ts";
import { Cap } from "../process/capabilities.ts";
import type { Credentials } from "../process/credentials.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { entryAt, fileCall, openFileOf } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, S_IFLNK, S_ISGID, W_OK } from "../vfs/flags.ts";
import {
  demand,
  demandChangeable,
  demandWritable,
  type Entry,
  FS_IMMUTABLE_FL,
  owns,
  withoutSetId,
} from "../vfs/inode.ts";
import { PathOpen } from "../vfs/open-file.ts";
import type { Stamp } from "../vfs/stamp.ts";
import { IN_ACCESS, IN_ATTRIB, IN_MODIFY, report } from "../vfs/watch.ts";

function changeMode(task: Task, entry: Entry, mode: number): number {
  const { cred } = task.process;
  const { inode } = entry;
  demandChangeable(inode);
  if (!owns(inode, cred)) fail(Errno.EPERM, "only the owner changes the mode");
  if (inode.kind === S_IFLNK) fail(Errno.EOPNOTSUPP, "a symbolic link has no mode");
  const inGroup = cred.gid === inode.gid || cred.groups.includes(inode.gid) || cred.capableOver(inode, Cap.CAP_FSETID);
  inode.setMode(inGroup ? mode & 0o7777 : mode & 0o7777 & ~S_ISGID);
  report(entry, IN_ATTRIB);
  return 0;
}

/** The file behind a descriptor, for calls that O_PATH descriptors refuse. */
export function realFile(task: Task, descriptor: number): Entry {
  const file = openFileOf(task, descriptor);
  return file instanceof PathOpen ? fail(Errno.EBADF, "O_PATH") : file.entry;
}

const chmod = fileCall((task, name, mode) => changeMode(task, entryAt(task, AT_FDCWD, name, true), mode));
const fchmod = fileCall((task, descriptor, mode) => changeMode(task, realFile(task, descriptor), mode));
const fchmodat = fileCall((task, directory, name, mode) =>
  changeMode(task, entryAt(task, directory, name, true), mode),
);

function fileAt(task: Task, directory: number, name: number, flags: number): Entry {
  if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) fail(Errno.EINVAL, "unknown flags");
  const follow = (flags & AT_SYMLINK_NOFOLLOW) === 0;
  return entryAt(task, directory, name, follow, (flags & AT_EMPTY_PATH) !== 0);
}

const fchmodat2 = fileCall((task, directory, name, mode, flags) =>
  changeMode(task, fileAt(task, directory, name, flags), mode),
);

const KEEP = 0xffff_ffff;

/** An id that the caller's user namespace has a name for, or EINVAL. */
function kernelOwner(cred: Credentials, kind: "uid" | "gid", id: number): number {
  if (id === KEEP) return KEEP;
  return kernelId(cred.userNamespace, kind, id) ?? fail(Errno.EINVAL, `no ${kind} of the user namespace`);
}

/** chown(2): the owner may give the file to a group of theirs, root anything. */
function changeOwner(task: Task, entry: Entry, givenUid: number, givenGid: number): number {
  const { cred } = task.process;
  const uid = kernelOwner(cred, "uid", givenUid);
  const gid = kernelOwner(cred, "gid", givenGid);
  const { inode } = entry;
  demandChangeable(inode);
  const group = cred.gid === gid || cred.groups.includes(gid);
  const mayUser = uid === KEEP || (inode.uid === cred.uid && uid === inode.uid);
  const mayGroup = gid === KEEP || (inode.uid === cred.uid && (group || gid === inode.gid));
  if (!(mayUser && mayGroup) && !cred.capableOver(inode, Cap.CAP_CHOWN))
    fail(Errno.EPERM, "giving files away takes CAP_CHOWN");
  // Even when neither changes, as Linux has it.
  inode.mode = withoutSetId(inode.mode);
  inode.setOwner(uid === KEEP ? inode.uid : uid, gid === KEEP ? inode.gid : gid);
  report(entry, IN_ATTRIB);
  return 0;
}

const chown = fileCall((task, name, uid, gid) => changeOwner(task, entryAt(task, AT_FDCWD, name, true), uid, gid));
const lchown = fileCall((task, name, uid, gid) => changeOwner(task, entryAt(task, AT_FDCWD, name, false), uid, gid));
const fchown = fileCall((task, descriptor, uid, gid) => changeOwner(task, realFile(task, descriptor), uid, gid));
const fchownat = fileCall((task, directory, name, uid, gid, flags) =>
  changeOwner(task, fileAt(task, directory, name, flags), uid, gid),
);

/** The old i386 calls take 16 bits, where 0xffff means "leave it". */
function wideId(value: number): number {
  const short = value & 0xffff;
  return short === 0xffff ? KEEP : short;
}

const chown16 = fileCall((task, name, uid, gid) =>
  changeOwner(task, entryAt(task, AT_FDCWD, name, true), wideId(uid), wideId(gid)),
);
const lchown16 = fileCall((task, name, uid, gid) =>
  changeOwner(task, entryAt(task, AT_FDCWD, name, false), wideId(uid), wideId(gid)),
);
const fchown16 = fileCall((task, descriptor, uid, gid) =>
  changeOwner(task, realFile(task, descriptor), wideId(uid), wideId(gid)),
);

const UTIME_NOW = 0x3fff_ffff;
const UTIME_OMIT = 0x3fff_fffe;

interface Moment {
  sec: number;
  /** May be UTIME_NOW or UTIME_OMIT. */
  nsec: number;
}

const NOW: Moment = { sec: 0, nsec: UTIME_NOW };

function validNsec(nsec: number): boolean {
  return nsec === UTIME_NOW || nsec === UTIME_OMIT || (nsec >= 0 && nsec < 1e9);
}

/** utimensat(2): the current time needs write access, any other the owner. */
function setTimes(task: Task, entry: Entry, atime: Moment, mtime: Moment): number {
  const { kernel } = task;
  const { inode } = entry;
  const { cred } = task.process;
  if (atime.nsec === UTIME_OMIT && mtime.nsec === UTIME_OMIT) return 0;
  const explicit = atime.nsec !== UTIME_NOW || mtime.nsec !== UTIME_NOW;
  if (explicit) demandChangeable(inode);
  else demandWritable(inode);
  if (inode.flags & FS_IMMUTABLE_FL) fail(Errno.EPERM, "the file is immutable");
  if (!owns(inode, cred)) {
    if (explicit) fail(Errno.EPERM, "only the owner sets times");
    demand(inode, cred, W_OK);
  }
  const apply = (stamp: Stamp, moment: Moment) => {
    if (moment.nsec === UTIME_NOW) stamp.setMs(kernel.vfs.host.realtimeMs());
    else if (moment.nsec !== UTIME_OMIT) stamp.set(moment.sec, moment.nsec);
  };
  apply(inode.atime, atime);
  apply(inode.mtime, mtime);
  inode.timesSet();
  // One time alone counts as what would have changed it (fsnotify_change).
  if (mtime.nsec === UTIME_OMIT) report(entry, IN_ACCESS);
  else report(entry, atime.nsec === UTIME_OMIT ? IN_MODIFY : IN_ATTRIB);
  return 0;
}

function utimensAt(task: Task, directory: number, name: number, times: number, flags: number, wide: boolean): number {
  const layout = wide ? timespec64 : timespec;
  let [atime, mtime] = [NOW, NOW];
  if (times !== 0) {
    const read = (at: number): Moment => {
      const { tv_sec, tv_nsec } = layout.read(task.memory, at, task.abi);
      return { sec: tv_sec, nsec: tv_nsec };
    };
    [atime, mtime] = [read(times), read(times + layout.size(task.abi))];
    if (atime.nsec === UTIME_OMIT && mtime.nsec === UTIME_OMIT) return 0;
    if (!validNsec(atime.nsec) || !validNsec(mtime.nsec)) fail(Errno.EINVAL, "nanoseconds out of range");
  }
  if (name === 0 && directory !== AT_FDCWD) {
    if (flags !== 0) fail(Errno.EINVAL, "flags for a descriptor");
    return setTimes(task, realFile(task, directory), atime, mtime);
  }
  return setTimes(task, fileAt(task, directory, name, flags), atime, mtime);
}

const utimensat = fileCall((task, directory, name, times, flags) =>
  utimensAt(task, directory, name, times, flags, false),
);
const utimensat64 = fileCall((task, directory, name, times, flags) =>
  utimensAt(task, directory, name, times, flags, true),
);

function futimesAt(task: Task, directory: number, name: number, times: number): number {
  let [atime, mtime] = [NOW, NOW];
  if (times !== 0) {
    const read = (at: number): Moment => {
      const { tv_sec, tv_usec } = timeval.read(task.memory, at, task.abi);
      if (tv_usec < 0 || tv_usec >= 1e6) fail(Errno.EINVAL, "microseconds out of range");
      return { sec: tv_sec, nsec: tv_usec * 1000 };
    };
    [atime, mtime] = [read(times), read(times + timeval.size(task.abi))];
  }
  if (name === 0 && directory !== AT_FDCWD) return setTimes(task, realFile(task, directory), atime, mtime);
  return setTimes(task, entryAt(task, directory, name, true), atime, mtime);
}

const futimesat = fileCall(futimesAt);
const utimes = fileCall((task, name, times) => futimesAt(task, AT_FDCWD, name, times));

const utime = fileCall((task, name, times) => {
  const entry = entryAt(task, AT_FDCWD, name, true);
  if (times === 0) return setTimes(task, entry, NOW, NOW);
  const { memory, abi } = task;
  const read = (at: number): Moment => ({ sec: abi.word === 8 ? memory.num64(at) : memory.i32(at), nsec: 0 });
  return setTimes(task, entry, read(times), read(times + abi.word));
});

const o = { family: "file" } as const;

export const attributeCalls: readonly Row[] = [
  row("chmod", { x86_64: 90, i386: 15 }, [path, octal], chmod, o),
  row("fchmod", { x86_64: 91, i386: 94 }, [fd, octal], fchmod, o),
  row("fchmodat", { x86_64: 268, i386: 306 }, [dirfd, path, octal], fchmodat, o),
  row("fchmodat2", { x86_64: 452, i386: 452 }, [dirfd, path, octal, atFlags], fchmodat2, o),
  row("chown", { x86_64: 92 }, [path, id, id], chown, o),
  row("fchown", { x86_64: 93 }, [fd, id, id], fchown, o),
  row("lchown", { x86_64: 94 }, [path, id, id], lchown, o),
  row("chown32", { i386: 212 }, [path, id, id], chown, o),
  row("fchown32", { i386: 207 }, [fd, id, id], fchown, o),
  row("lchown32", { i386: 198 }, [path, id, id], lchown, o),
  row("fchownat", { x86_64: 260, i386: 298 }, [dirfd, path, id, id, atFlags], fchownat, o),
  row("chown", { i386: 182 }, [path, id, id], chown16, o),
  row("fchown", { i386: 95 }, [fd, id, id], fchown16, o),
  row("lchown", { i386: 16 }, [path, id, id], lchown16, o),
  row("utime", { x86_64: 132, i386: 30 }, [path, pointer], utime, o),
  row("utimes", { x86_64: 235, i386: 271 }, [path, structIn(timeval)], utimes, o),
  row("futimesat", { x86_64: 261, i386: 299 }, [dirfd, path, structIn(timeval)], futimesat, o),
  row("utimensat", { x86_64: 280, i386: 320 }, [dirfd, path, structIn(timespec), atFlags], utimensat, o),
  row("utimensat_time64", { i386: 412 }, [dirfd, path, structIn(timespec64), atFlags], utimensat64, o),
];
