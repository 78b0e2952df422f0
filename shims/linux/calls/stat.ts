/** What is known of a file and of a file system: stat in all forms, statx, statfs. */

import { Errno } from "../errno.ts";
import { atFlags, statxMask } from "../kinds/files.ts";
import { dirfd, fd, type Kind, pointer, size, uint } from "../kinds/kinds.ts";
import { fills, path } from "../kinds/memory.ts";
import { structOut } from "../kinds/structs.ts";
import { stat64I386, statfs64I386, statfsStruct, statI386, statX86_64, statxStruct } from "../kinds/structs-files.ts";
import { shownId } from "../namespaces/user.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { entryAt, fileCall, openFileOf } from "../vfs/call-context.ts";
import { majorOf, minorOf } from "../vfs/devices.ts";
import { fail } from "../vfs/error.ts";
import { AT_EMPTY_PATH, AT_FDCWD, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, NAME_MAX } from "../vfs/flags.ts";
import type { Inode } from "../vfs/inode.ts";

const AT_STATX_FLAGS = 0x6000;

/** The members that every struct stat has, whatever their width. */
function common(task: Task, inode: Inode) {
  inode.refresh();
  const { userNamespace } = task.cred;
  const { atime, mtime, ctime } = inode;
  return {
    st_dev: inode.fs.dev,
    st_ino: inode.ino,
    st_mode: inode.mode,
    st_nlink: Math.max(inode.nlink, 0),
    st_uid: shownId(userNamespace, "uid", inode.uid),
    st_gid: shownId(userNamespace, "gid", inode.gid),
    st_rdev: inode.rdev,
    st_size: inode.size,
    st_blksize: inode.blockSize,
    st_blocks: inode.blocks,
    st_atime: atime.sec,
    st_atime_nsec: atime.nsec,
    st_mtime: mtime.sec,
    st_mtime_nsec: mtime.nsec,
    st_ctime: ctime.sec,
    st_ctime_nsec: ctime.nsec,
  };
}

/** 16-bit user and group ids of the old i386 calls: what does not fit is the overflow id (linux/highuid.h). */
function shortId(id: number): number {
  return id > 0xffff ? 65534 : id;
}

function fillStat(task: Task, address: number, inode: Inode): number {
  const values = common(task, inode);
  if (task.abi.word === 8) {
    statX86_64.write(task.memory, address, { ...values, pad: 0, unused: [0, 0, 0] }, task.abi);
    return 0;
  }
  if (values.st_size >= 2 ** 31 || values.st_ino >= 2 ** 32)
    fail(Errno.EOVERFLOW, "the file is too large for struct stat");
  const ids = { st_uid: shortId(values.st_uid), st_gid: shortId(values.st_gid) };
  statI386.write(task.memory, address, { ...values, ...ids, unused: [0, 0] }, task.abi);
  return 0;
}

function fillStat64(task: Task, address: number, inode: Inode): number {
  const values = common(task, inode);
  const low_ino = values.st_ino % 2 ** 32;
  stat64I386.write(task.memory, address, { ...values, low_ino, pad0: 0, pad3: 0 }, task.abi);
  return 0;
}

const stat = fileCall((task, name, at) => fillStat(task, at, entryAt(task, AT_FDCWD, name, true).inode));
const lstat = fileCall((task, name, at) => fillStat(task, at, entryAt(task, AT_FDCWD, name, false).inode));
const fstat = fileCall((task, descriptor, at) => fillStat(task, at, openFileOf(task, descriptor).inode));
const stat64 = fileCall((task, name, at) => fillStat64(task, at, entryAt(task, AT_FDCWD, name, true).inode));
const lstat64 = fileCall((task, name, at) => fillStat64(task, at, entryAt(task, AT_FDCWD, name, false).inode));
const fstat64 = fileCall((task, descriptor, at) => fillStat64(task, at, openFileOf(task, descriptor).inode));

function inodeAt(task: Task, directory: number, name: number, flags: number): Inode {
  if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH)) fail(Errno.EINVAL, "unknown flags");
  const follow = (flags & AT_SYMLINK_NOFOLLOW) === 0;
  return entryAt(task, directory, name, follow, (flags & AT_EMPTY_PATH) !== 0).inode;
}

const newfstatat = fileCall((task, directory, name, at, flags) =>
  fillStat(task, at, inodeAt(task, directory, name, flags)),
);
const fstatat64 = fileCall((task, directory, name, at, flags) =>
  fillStat64(task, at, inodeAt(task, directory, name, flags)),
);

/** STATX_BASIC_STATS, STATX_BTIME, STATX_MNT_ID. */
const FILLED = 0x7ff | 0x800 | 0x1000;
/** STATX_ATTR_IMMUTABLE, STATX_ATTR_APPEND, STATX_ATTR_NODUMP: as FS_*_FL. */
const STATX_ATTRIBUTES = 0x70;
const STATX_RESERVED = 0x8000_0000;

const statx = fileCall((task, directory, name, flags, mask, at) => {
  if (mask >= STATX_RESERVED) fail(Errno.EINVAL, "a reserved bit of the mask");
  if ((flags & AT_STATX_FLAGS) === AT_STATX_FLAGS) fail(Errno.EINVAL, "both ways of syncing");
  const inode = inodeAt(task, directory, name, flags & ~AT_STATX_FLAGS);
  inode.refresh();
  const time = (stamp: { sec: number; nsec: number }) => ({ tv_sec: stamp.sec, tv_nsec: stamp.nsec, pad: 0 });
  const values = {
    stx_mask: FILLED,
    stx_blksize: inode.blockSize,
    stx_attributes: inode.flags & STATX_ATTRIBUTES,
    stx_nlink: Math.max(inode.nlink, 0),
    stx_uid: shownId(task.cred.userNamespace, "uid", inode.uid),
    stx_gid: shownId(task.cred.userNamespace, "gid", inode.gid),
    stx_mode: inode.mode,
    pad: 0,
    stx_ino: inode.ino,
    stx_size: inode.size,
    stx_blocks: inode.blocks,
    stx_attributes_mask: inode.fs.attributes ? STATX_ATTRIBUTES : 0,
    stx_atime: time(inode.atime),
    stx_btime: time(inode.btime),
    stx_ctime: time(inode.ctime),
    stx_mtime: time(inode.mtime),
    stx_rdev_major: majorOf(inode.rdev),
    stx_rdev_minor: minorOf(inode.rdev),
    stx_dev_major: 0,
    stx_dev_minor: inode.fs.dev,
    stx_mnt_id: inode.fs.dev,
    stx_dio_mem_align: 0,
    stx_dio_offset_align: 0,
    spare: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  };
  statxStruct.write(task.memory, at, values, task.abi);
  return 0;
});

/** Sizes of a file system: those of files in memory come from their budget, those of the host are not told. */
function fsValues(inode: Inode) {
  const { fs } = inode;
  const free = Math.max(fs.maxPages - fs.pages, 0);
  const inodes = fs.maxInodes;
  return {
    f_type: fs.magic,
    f_bsize: 4096,
    f_blocks: fs.maxPages,
    f_bfree: free,
    f_bavail: free,
    f_files: inodes,
    f_ffree: Math.max(inodes - fs.inodes, 0),
    f_fsid: [fs.dev, 0],
    f_namelen: NAME_MAX,
    f_frsize: 4096,
    // ST_VALID | ST_RELATIME, ST_RDONLY
    f_flags: fs.readonly ? 0x1021 : 0x1020,
    f_spare: [0, 0, 0, 0],
  };
}

function fillStatfs(task: Task, address: number, inode: Inode): number {
  statfsStruct.write(task.memory, address, fsValues(inode), task.abi);
  return 0;
}

function fillStatfs64(task: Task, address: number, inode: Inode): number {
  statfs64I386.write(task.memory, address, fsValues(inode), task.abi);
  return 0;
}

const statfs = fileCall((task, name, at) => fillStatfs(task, at, entryAt(task, AT_FDCWD, name, true).inode));
const fstatfs = fileCall((task, descriptor, at) => fillStatfs(task, at, openFileOf(task, descriptor).inode));

function checkSize(bytes: number): void {
  // Programs of old alignment pass 88 (arch/x86, compat_sys_statfs64).
  if (bytes !== 84 && bytes !== 88) fail(Errno.EINVAL, "struct statfs64 has 84 bytes");
}

const statfs64 = fileCall((task, name, bytes, at) => {
  checkSize(bytes);
  return fillStatfs64(task, at, entryAt(task, AT_FDCWD, name, true).inode);
});
const fstatfs64 = fileCall((task, descriptor, bytes, at) => {
  checkSize(bytes);
  return fillStatfs64(task, at, openFileOf(task, descriptor).inode);
});

/** struct ustat: free blocks and inodes, and two names that nobody fills. */
const ustat = fileCall((task, device, at) => {
  const mount = task.kernel.vfs.mounts.find(({ inode }) => inode.fs.dev === device);
  if (mount === undefined) return fail(Errno.EINVAL, "nothing is mounted from that device");
  const { f_bfree, f_ffree } = fsValues(mount.inode);
  const bytes = new Uint8Array(task.abi.word === 8 ? 32 : 20);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, f_bfree, true);
  view.setUint32(task.abi.word, f_ffree, true);
  task.memory.write(at, bytes);
  return 0;
});

const o = { family: "file" } as const;
/** struct stat prints by the ABI of the call. */
const statBuffer: Kind = fills((at, { task: { memory }, abi }) =>
  abi.word === 8 ? statX86_64.show(statX86_64.read(memory, at, abi)) : statI386.show(statI386.read(memory, at, abi)),
);
const stat64Buffer = structOut(stat64I386);
const statfsBuffer = structOut(statfsStruct);

export const statCalls: readonly Row[] = [
  row("stat", { x86_64: 4, i386: 106 }, [path, statBuffer], stat, o),
  row("lstat", { x86_64: 6, i386: 107 }, [path, statBuffer], lstat, o),
  row("fstat", { x86_64: 5, i386: 108 }, [fd, statBuffer], fstat, o),
  row("stat64", { i386: 195 }, [path, stat64Buffer], stat64, o),
  row("lstat64", { i386: 196 }, [path, stat64Buffer], lstat64, o),
  row("fstat64", { i386: 197 }, [fd, stat64Buffer], fstat64, o),
  row("newfstatat", { x86_64: 262 }, [dirfd, path, statBuffer, atFlags], newfstatat, o),
  row("fstatat64", { i386: 300 }, [dirfd, path, stat64Buffer, atFlags], fstatat64, o),
  row("statx", { x86_64: 332, i386: 383 }, [dirfd, path, atFlags, statxMask, structOut(statxStruct)], statx, o),
  row("ustat", { x86_64: 136, i386: 62 }, [uint, pointer], ustat, o),
  row("statfs", { x86_64: 137, i386: 99 }, [path, statfsBuffer], statfs, o),
  row("fstatfs", { x86_64: 138, i386: 100 }, [fd, statfsBuffer], fstatfs, o),
  row("statfs64", { i386: 268 }, [path, size, structOut(statfs64I386)], statfs64, o),
  row("fstatfs64", { i386: 269 }, [fd, size, structOut(statfs64I386)], fstatfs64, o),
];
