/** Flags of files that chattr(1) sets (ioctl_iflags(2)), and clones of files, which no file system here makes. */

import { Errno } from "../errno.ts";
import { Cap } from "../process/capabilities.ts";
import type { Task } from "../task.ts";
import { openFileOf } from "./call-context.ts";
import { O_APPEND, S_IFREG } from "./flags.ts";
import { demandWritable, FS_APPEND_FL, FS_IMMUTABLE_FL, owns } from "./inode.ts";
import type { OpenFile } from "./open-file.ts";

/** What programs may set of them. */
const SETTABLE = 0x0003_80ff;
/** Ext4 keeps a file as extents, and says so. */
const EXTENTS = 0x8_0000;

/** FS_IOC_GETFLAGS. */
export function getFileFlags(task: Task, file: OpenFile, argument: number): number {
  const { inode } = file;
  if (!inode.fs.attributes) return task.fail(Errno.ENOTTY, `${inode.fs.type} keeps no flags`);
  task.memory.setU32(
    argument,
    inode.flags | (inode.fs.extents && (inode.kind === S_IFREG || inode.isDirectory) ? EXTENTS : 0),
  );
  return 0;
}

/** FS_IOC_SETFLAGS. */
export function setFileFlags(task: Task, file: OpenFile, argument: number): number {
  const { inode } = file;
  if (!inode.fs.attributes) return task.fail(Errno.ENOTTY, `${inode.fs.type} keeps no flags`);
  const { cred } = task.process;
  const wanted = task.memory.u32(argument);
  demandWritable(inode);
  if (!owns(inode, cred)) return task.fail(Errno.EPERM, "only the owner sets flags");
  if (wanted & ~(SETTABLE | EXTENTS)) return task.fail(Errno.EOPNOTSUPP, "unknown flags");
  const changed = (wanted ^ inode.flags) & (FS_IMMUTABLE_FL | FS_APPEND_FL);
  if (changed && !cred.capable(Cap.CAP_LINUX_IMMUTABLE)) return task.fail(Errno.EPERM, "needs CAP_LINUX_IMMUTABLE");
  inode.flags = wanted & SETTABLE;
  inode.changed();
  return 0;
}

/** FICLONE and FICLONERANGE: the kernel's checks, then that nothing is shared (vfs_clone_file_range). */
export function cloneFile(task: Task, target: OpenFile, source: number): number {
  const from = openFileOf(task, source);
  const [one, other] = [from.inode, target.inode];
  if (one.fs !== other.fs) return task.fail(Errno.EXDEV, "the files lie on different mounts");
  if (one.isDirectory || other.isDirectory) return task.fail(Errno.EISDIR);
  if (one.kind !== S_IFREG || other.kind !== S_IFREG) return task.fail(Errno.EINVAL, "only between regular files");
  if (!from.readable || !target.writable || target.flags & O_APPEND) return task.fail(Errno.EBADF, "not open for this");
  return task.fail(Errno.EOPNOTSUPP, "files share no blocks");
}
