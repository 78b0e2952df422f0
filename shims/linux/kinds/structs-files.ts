/** Structs of the file calls. Sources: asm/stat.h, asm/statfs.h, uapi/linux/stat.h, uapi/linux/poll.h. */
import { array, i32, i64, long, shownAs, struct, u16, u32, u64, ulong } from "./structs.ts";

const mode = shownAs(u32, (value) => `0${value.toString(8)}`);
const shortMode = shownAs(u16, mode.show);
const shown = ["st_mode", "st_size"] as const;

/** struct stat of x86-64. */
export const statX86_64 = struct(
  {
    st_dev: u64,
    st_ino: u64,
    st_nlink: u64,
    st_mode: mode,
    st_uid: u32,
    st_gid: u32,
    pad: u32,
    st_rdev: u64,
    st_size: i64,
    st_blksize: i64,
    st_blocks: i64,
    st_atime: i64,
    st_atime_nsec: i64,
    st_mtime: i64,
    st_mtime_nsec: i64,
    st_ctime: i64,
    st_ctime_nsec: i64,
    unused: array(i64, 3),
  },
  shown,
);

/** struct stat of i386 (not stat64). */
export const statI386 = struct(
  {
    st_dev: u32,
    st_ino: u32,
    st_mode: shortMode,
    st_nlink: u16,
    st_uid: u16,
    st_gid: u16,
    st_rdev: u32,
    st_size: u32,
    st_blksize: u32,
    st_blocks: u32,
    st_atime: u32,
    st_atime_nsec: u32,
    st_mtime: u32,
    st_mtime_nsec: u32,
    st_ctime: u32,
    st_ctime_nsec: u32,
    unused: array(u32, 2),
  },
  shown,
);

/** struct stat64 of i386; its 64-bit members lie on 4-byte boundaries. */
export const stat64I386 = struct(
  {
    st_dev: u64,
    pad0: u32,
    low_ino: u32,
    st_mode: mode,
    st_nlink: u32,
    st_uid: u32,
    st_gid: u32,
    st_rdev: u64,
    pad3: u32,
    st_size: i64,
    st_blksize: u32,
    st_blocks: u64,
    st_atime: u32,
    st_atime_nsec: u32,
    st_mtime: u32,
    st_mtime_nsec: u32,
    st_ctime: u32,
    st_ctime_nsec: u32,
    st_ino: u64,
  },
  shown,
);

const statxTime = struct({ tv_sec: i64, tv_nsec: u32, pad: i32 });

/** struct statx: the same on every ABI. */
export const statxStruct = struct(
  {
    stx_mask: u32,
    stx_blksize: u32,
    stx_attributes: u64,
    stx_nlink: u32,
    stx_uid: u32,
    stx_gid: u32,
    stx_mode: shortMode,
    pad: u16,
    stx_ino: u64,
    stx_size: u64,
    stx_blocks: u64,
    stx_attributes_mask: u64,
    stx_atime: statxTime,
    stx_btime: statxTime,
    stx_ctime: statxTime,
    stx_mtime: statxTime,
    stx_rdev_major: u32,
    stx_rdev_minor: u32,
    stx_dev_major: u32,
    stx_dev_minor: u32,
    stx_mnt_id: u64,
    stx_dio_mem_align: u32,
    stx_dio_offset_align: u32,
    spare: array(u64, 12),
  },
  ["stx_mask", "stx_mode", "stx_size"],
);

const fsid = array(i32, 2);
const shownFs = ["f_type", "f_bsize", "f_blocks", "f_bfree", "f_bavail"] as const;

/** struct statfs: words of the ABI. */
export const statfsStruct = struct(
  {
    f_type: long,
    f_bsize: long,
    f_blocks: ulong,
    f_bfree: ulong,
    f_bavail: ulong,
    f_files: ulong,
    f_ffree: ulong,
    f_fsid: fsid,
    f_namelen: long,
    f_frsize: long,
    f_flags: long,
    f_spare: array(long, 4),
  },
  shownFs,
);

/** struct statfs64 of i386: 84 bytes, packed to 4. */
export const statfs64I386 = struct(
  {
    f_type: u32,
    f_bsize: u32,
    f_blocks: u64,
    f_bfree: u64,
    f_bavail: u64,
    f_files: u64,
    f_ffree: u64,
    f_fsid: fsid,
    f_namelen: u32,
    f_frsize: u32,
    f_flags: u32,
    f_spare: array(u32, 4),
  },
  shownFs,
);
