/** name_to_handle_at and open_by_handle_at: a file by what it is, not by its name (fs/fhandle.c). */

import { Errno } from "../errno.ts";
import { atFlags, openFlags } from "../kinds/files.ts";
import { dirfd, fd, pointer } from "../kinds/kinds.ts";
import { path } from "../kinds/memory.ts";
import { Cap } from "../process/capabilities.ts";
import { type Row, row } from "../table.ts";
import { entryAt, fileCall, install, openFileOf } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, O_CLOEXEC } from "../vfs/flags.ts";

/** AT_HANDLE_FID, AT_HANDLE_MNT_ID_UNIQUE, AT_HANDLE_CONNECTABLE. */
const HANDLE_FID = 0x200;
const HANDLE_FLAGS = HANDLE_FID | 1 | 2;
const MNT_ID_UNIQUE = 1;
/** struct file_handle: two words, then the handle itself: the inode's number and the file system's. */
const HEADER = 8;
const HANDLE_BYTES = 8;
const MAX_HANDLE_BYTES = 128;
/** FILEID_INO32_GEN and FILEID_INVALID. */
const [INO32_GEN, INVALID] = [1, 0xff];

const nameToHandleAt = fileCall((task, directory, name, handle, mountId, flags) => {
  if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH | HANDLE_FLAGS)) fail(Errno.EINVAL, "unknown flags");
  const follow = (flags & AT_SYMLINK_FOLLOW) !== 0;
  const entry = entryAt(task, directory, name, follow, (flags & AT_EMPTY_PATH) !== 0);
  const { inode } = entry;
  const { fs } = inode;
  // An id that nobody opens by needs no more than a number.
  if (!fs.attributes && !(flags & HANDLE_FID)) fail(Errno.EOPNOTSUPP, `${fs.type} has no handles`);
  const { memory } = task;
  const room = memory.u32(handle);
  if (room > MAX_HANDLE_BYTES) fail(Errno.EINVAL, "a handle has 128 bytes at most");
  const fits = room >= HANDLE_BYTES;
  if (flags & MNT_ID_UNIQUE) memory.setU64(mountId, BigInt(fs.dev));
  else memory.setU32(mountId, fs.dev);
  memory.setU32(handle, HANDLE_BYTES);
  memory.setU32(handle + 4, fits ? INO32_GEN : INVALID);
  if (!fits) fail(Errno.EOVERFLOW, "no room for the handle");
  memory.setU32(handle + HEADER, inode.ino);
  memory.setU32(handle + HEADER + 4, fs.dev);
  task.kernel.vfs.handles.set(`${fs.dev}:${inode.ino}`, entry);
  return 0;
});

const openByHandleAt = fileCall((task, mount, handle, flags) => {
  const { memory, process, kernel } = task;
  const at = mount === AT_FDCWD ? process.fs.cwd : openFileOf(task, mount).entry;
  if (!process.cred.capable(Cap.CAP_DAC_READ_SEARCH)) fail(Errno.EPERM, "needs CAP_DAC_READ_SEARCH");
  const length = memory.u32(handle);
  const type = memory.i32(handle + 4);
  if (length === 0 || length > MAX_HANDLE_BYTES) fail(Errno.EINVAL, "no handle is that long");
  const bytes = memory.bytes(handle + HEADER, length);
  if (type < 0) fail(Errno.EINVAL, "no such type of handle");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const known = length >= HANDLE_BYTES && type === INO32_GEN;
  const dev = known ? view.getUint32(4, true) : -1;
  const entry = known ? kernel.vfs.handles.get(`${dev}:${view.getUint32(0, true)}`) : undefined;
  if (entry === undefined || dev !== at.inode.fs.dev) return fail(Errno.ESTALE, "no file has that handle");
  if (entry.inode.nlink <= 0 && entry.inode.users === 0) return fail(Errno.ESTALE, "the file is gone");
  const file = kernel.vfs.openEntry(entry, flags & ~O_CLOEXEC, process.cred);
  return install(task, file, (flags & O_CLOEXEC) !== 0);
});

export const handleCalls: readonly Row[] = [
  row("name_to_handle_at", { x86_64: 303, i386: 341 }, [dirfd, path, pointer, pointer, atFlags], nameToHandleAt, {
    family: "file",
    support: "not for files bound read-write",
  }),
  row("open_by_handle_at", { x86_64: 304, i386: 342 }, [fd, pointer, openFlags], openByHandleAt, {
    family: "file",
    support: "handles are good within the run that gave them",
  }),
];
