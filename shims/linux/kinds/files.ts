/** Flags, enums and structs of the file calls, with the kernel's names (uapi/linux/{fcntl,stat,fs,falloc,memfd,openat2}.h). */

import { O_CREAT, O_TMPFILE_BIT, S_IFMT } from "../vfs/flags.ts";
import { choice, flags, flagText, type Kind, octal, scalar } from "./kinds.ts";

const OpenFlags: readonly (readonly [string, number])[] = [
  ["O_CREAT", 0o100],
  ["O_EXCL", 0o200],
  ["O_NOCTTY", 0o400],
  ["O_TRUNC", 0o1000],
  ["O_APPEND", 0o2000],
  ["O_NONBLOCK", 0o4000],
  ["O_SYNC", 0o4010000],
  ["O_DSYNC", 0o10000],
  ["O_DIRECT", 0o40000],
  ["O_LARGEFILE", 0o100000],
  ["O_TMPFILE", 0o20200000],
  ["O_DIRECTORY", 0o200000],
  ["O_NOFOLLOW", 0o400000],
  ["O_NOATIME", 0o1000000],
  ["O_CLOEXEC", 0o2000000],
  ["O_PATH", 0o10000000],
  ["FASYNC", 0o20000],
];
const ACCESS = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"] as const;

/** `O_RDONLY|O_CLOEXEC`: the access mode is no bit of its own. */
function openFlagsText(value: number): string {
  const access = ACCESS[value & 3] ?? "O_RDONLY";
  const rest = value & ~3;
  return rest === 0 ? access : `${access}|${flagText("O_", OpenFlags, rest >>> 0)}`;
}

export const openFlags: Kind = scalar("uint", openFlagsText);
/** Mode of a new file, behind the flags: counts, and prints, only with O_CREAT or O_TMPFILE. */
export const openMode: Kind = scalar("uint", (value, at) => {
  const flags = at.args[at.args.length - 2] ?? 0;
  return (flags & (O_CREAT | O_TMPFILE_BIT)) === 0 ? "" : octal.print(value, at);
});

const fileTypes: ReadonlyMap<number, string> = new Map([
  [0o010000, "S_IFIFO"],
  [0o020000, "S_IFCHR"],
  [0o040000, "S_IFDIR"],
  [0o060000, "S_IFBLK"],
  [0o100000, "S_IFREG"],
  [0o120000, "S_IFLNK"],
  [0o140000, "S_IFSOCK"],
]);

/** `S_IFIFO|0600`. */
export const nodeMode: Kind = scalar("uint", (value, at) => {
  const type = fileTypes.get(value & S_IFMT);
  return type === undefined ? octal.print(value, at) : `${type}|${octal.print(value & ~S_IFMT, at)}`;
});
/** The device of mknod, behind the mode: only devices have one. */
export const nodeDevice: Kind = scalar("uint", (value, at) => {
  const type = fileTypes.get((at.args[at.args.length - 2] ?? 0) & S_IFMT);
  if (type !== "S_IFCHR" && type !== "S_IFBLK") return "";
  const major = ((value >>> 8) & 0xfff).toString(16);
  const minor = ((value & 0xff) | ((value >>> 12) & 0xfff00)).toString(16);
  return `makedev(0x${major}, 0x${minor})`;
});

export const accessMode: Kind = scalar("int", (value) =>
  value === 0
    ? "F_OK"
    : flagText(
        "?_OK",
        [
          ["R_OK", 4],
          ["W_OK", 2],
          ["X_OK", 1],
        ],
        value >>> 0,
      ),
);

export const atFlags: Kind = flags("AT_", {
  AT_SYMLINK_NOFOLLOW: 0x100,
  AT_REMOVEDIR: 0x200,
  AT_SYMLINK_FOLLOW: 0x400,
  AT_NO_AUTOMOUNT: 0x800,
  AT_EMPTY_PATH: 0x1000,
  AT_STATX_FORCE_SYNC: 0x2000,
  AT_STATX_DONT_SYNC: 0x4000,
});
export const atAccessFlags: Kind = flags("AT_", {
  AT_SYMLINK_NOFOLLOW: 0x100,
  AT_EACCESS: 0x200,
  AT_EMPTY_PATH: 0x1000,
});

export const statxMask: Kind = flags("STATX_", {
  STATX_ALL: 0xfff,
  STATX_BASIC_STATS: 0x7ff,
  STATX_TYPE: 1,
  STATX_MODE: 2,
  STATX_NLINK: 4,
  STATX_UID: 8,
  STATX_GID: 0x10,
  STATX_ATIME: 0x20,
  STATX_MTIME: 0x40,
  STATX_CTIME: 0x80,
  STATX_INO: 0x100,
  STATX_SIZE: 0x200,
  STATX_BLOCKS: 0x400,
  STATX_BTIME: 0x800,
  STATX_MNT_ID: 0x1000,
});

export const whence: Kind = choice(
  "SEEK_",
  { SEEK_SET: 0, SEEK_CUR: 1, SEEK_END: 2, SEEK_DATA: 3, SEEK_HOLE: 4 },
  "uint",
);
export const renameFlags: Kind = flags("RENAME_", { RENAME_NOREPLACE: 1, RENAME_EXCHANGE: 2, RENAME_WHITEOUT: 4 });
export const fallocateMode: Kind = flags("FALLOC_FL_", {
  FALLOC_FL_KEEP_SIZE: 1,
  FALLOC_FL_PUNCH_HOLE: 2,
  FALLOC_FL_COLLAPSE_RANGE: 8,
  FALLOC_FL_ZERO_RANGE: 16,
  FALLOC_FL_INSERT_RANGE: 32,
});
export const memfdFlags: Kind = flags("MFD_", {
  MFD_CLOEXEC: 1,
  MFD_ALLOW_SEALING: 2,
  MFD_HUGETLB: 4,
  MFD_NOEXEC_SEAL: 8,
  MFD_EXEC: 16,
});
export const closeRangeFlags: Kind = flags("CLOSE_RANGE_", { CLOSE_RANGE_UNSHARE: 2, CLOSE_RANGE_CLOEXEC: 4 });
export const pipeFlags: Kind = flags("O_", { O_NONBLOCK: 0o4000, O_CLOEXEC: 0o2000000, O_DIRECT: 0o40000 });
export const eventFlags: Kind = flags("EFD_", { EFD_SEMAPHORE: 1, EFD_NONBLOCK: 0o4000, EFD_CLOEXEC: 0o2000000 });
export const flockOperation: Kind = flags("LOCK_", { LOCK_SH: 1, LOCK_EX: 2, LOCK_NB: 4, LOCK_UN: 8 });
export const spliceFlags: Kind = flags("SPLICE_F_", {
  SPLICE_F_MOVE: 1,
  SPLICE_F_NONBLOCK: 2,
  SPLICE_F_MORE: 4,
  SPLICE_F_GIFT: 8,
});
export const rwfFlags: Kind = flags("RWF_", {
  RWF_HIPRI: 1,
  RWF_DSYNC: 2,
  RWF_SYNC: 4,
  RWF_NOWAIT: 8,
  RWF_APPEND: 16,
  RWF_NOAPPEND: 32,
});
export const fadvice: Kind = choice("POSIX_FADV_", {
  POSIX_FADV_NORMAL: 0,
  POSIX_FADV_RANDOM: 1,
  POSIX_FADV_SEQUENTIAL: 2,
  POSIX_FADV_WILLNEED: 3,
  POSIX_FADV_DONTNEED: 4,
  POSIX_FADV_NOREUSE: 5,
});
export const syncRangeFlags: Kind = flags("SYNC_FILE_RANGE_", {
  SYNC_FILE_RANGE_WAIT_BEFORE: 1,
  SYNC_FILE_RANGE_WRITE: 2,
  SYNC_FILE_RANGE_WAIT_AFTER: 4,
});

export const Fcntl = {
  F_DUPFD: 0,
  F_GETFD: 1,
  F_SETFD: 2,
  F_GETFL: 3,
  F_SETFL: 4,
  F_GETLK: 5,
  F_SETLK: 6,
  F_SETLKW: 7,
  F_SETOWN: 8,
  F_GETOWN: 9,
  F_SETSIG: 10,
  F_GETSIG: 11,
  F_GETLK64: 12,
  F_SETLK64: 13,
  F_SETLKW64: 14,
  F_SETOWN_EX: 15,
  F_GETOWN_EX: 16,
  F_GETOWNER_UIDS: 17,
  F_OFD_GETLK: 36,
  F_OFD_SETLK: 37,
  F_OFD_SETLKW: 38,
  F_SETLEASE: 1024,
  F_GETLEASE: 1025,
  F_NOTIFY: 1026,
  F_DUPFD_QUERY: 1027,
  F_CREATED_QUERY: 1028,
  F_DUPFD_CLOEXEC: 1030,
  F_SETPIPE_SZ: 1031,
  F_GETPIPE_SZ: 1032,
  F_ADD_SEALS: 1033,
  F_GET_SEALS: 1034,
  F_GET_RW_HINT: 1035,
  F_SET_RW_HINT: 1036,
} as const;
export const fcntlCommand: Kind = choice("F_", Fcntl, "uint");

/** The third argument of fcntl, as its command (argument 1) takes it. */
export const fcntlArgument: Kind = scalar("pointer", (value, at) => {
  switch (at.args[1]) {
    case Fcntl.F_SETFD:
      return value === 1 ? "FD_CLOEXEC" : String(value);
    case Fcntl.F_SETFL:
      return openFlagsText(value);
    case Fcntl.F_DUPFD:
    case Fcntl.F_DUPFD_CLOEXEC:
      return String(value);
    default:
      return value === 0 ? "0" : `0x${value.toString(16)}`;
  }
});
