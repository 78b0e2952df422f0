/** mount, umount, umount2: file systems in memory and the kernel's own, within the guest's tree. */

import { Errno } from "../errno.ts";
import { uint } from "../kinds/kinds.ts";
import { path, string } from "../kinds/memory.ts";
import { PAGE } from "../memory/pages.ts";
import { Cap } from "../process/capabilities.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { entryAt, fileCall, pathArgument } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { AT_FDCWD } from "../vfs/flags.ts";
import type { Entry } from "../vfs/inode.ts";
import { mountNew, unmount } from "../vfs/mounting.ts";

/** uapi/linux/mount.h. */
const MS_RDONLY = 1;
const MS_REMOUNT = 32;
const MS_BIND = 4096;
const MS_MOVE = 8192;
const PROPAGATION = 0x1e0000;
const MAGIC = 0xffff_0000;
const MAGIC_VALUE = 0xc0ed_0000;

const MNT_FORCE = 1;
const MNT_DETACH = 2;
const MNT_EXPIRE = 4;
const UMOUNT_NOFOLLOW = 8;

function text(task: Task, address: number): string {
  if (address === 0) return "";
  return task.memory.cstring(address, PAGE) ?? fail(Errno.EINVAL, "no NUL within a page");
}

function demandPrivilege(task: Task): void {
  if (!task.process.cred.capable(Cap.CAP_SYS_ADMIN)) fail(Errno.EPERM, "mounting takes CAP_SYS_ADMIN");
}

function mountRoot(task: Task, at: Entry): Entry {
  return task.kernel.vfs.mounts.includes(at) ? at : fail(Errno.EINVAL, "nothing is mounted there");
}

const mount = fileCall((task, source, target, type, given, data) => {
  // Bits of old programs.
  const flags = ((given & MAGIC) >>> 0 === MAGIC_VALUE ? given & ~MAGIC : given) >>> 0;
  const [typeName, sourceName] = [text(task, type), text(task, source)];
  const options = text(task, data);
  const at = entryAt(task, AT_FDCWD, target, true);
  demandPrivilege(task);
  const readonly = (flags & MS_RDONLY) !== 0;
  if (flags & MS_REMOUNT) {
    const { fs } = mountRoot(task, at).inode;
    if (readonly && fs.writers > 0) fail(Errno.EBUSY, "files are open for writing");
    fs.readonly = readonly;
    return 0;
  }
  if (flags & (MS_BIND | MS_MOVE)) fail(Errno.EPERM, "shimbed shows a file system in one place");
  if (flags & PROPAGATION) {
    // There is one namespace: nobody is told of mounts.
    mountRoot(task, at);
    return 0;
  }
  if (type === 0) fail(Errno.EINVAL, "no type");
  mountNew(task, at, { type: typeName, source: sourceName, data: options, readonly });
  return 0;
});

function unmountAt(task: Task, target: number, flags: number): number {
  if (flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)) fail(Errno.EINVAL, "unknown flags");
  const at = entryAt(task, AT_FDCWD, target, (flags & UMOUNT_NOFOLLOW) === 0);
  demandPrivilege(task);
  const top = mountRoot(task, at);
  if (flags & MNT_EXPIRE) {
    if (flags & (MNT_FORCE | MNT_DETACH)) fail(Errno.EINVAL, "MNT_EXPIRE excludes the others");
    // The first call marks what nobody uses, the second takes it.
    if (!top.inode.fs.expiring) {
      top.inode.fs.expiring = true;
      fail(Errno.EAGAIN, "marked");
    }
  }
  unmount(task, top, (flags & MNT_DETACH) !== 0);
  return 0;
}

const umount2 = fileCall(unmountAt);
const umount = fileCall((task, target) => unmountAt(task, target, 0));

function pivotRoot(task: Task, newRoot: number, putOld: number): number {
  demandPrivilege(task);
  pathArgument(task, newRoot);
  pathArgument(task, putOld);
  return task.fail(Errno.EPERM, "the root does not change in a run");
}

const o = { family: "file", support: "tmpfs, ramfs, proc and sysfs; MS_BIND and MS_MOVE answer EPERM" } as const;

export const mountCalls: readonly Row[] = [
  row("mount", { x86_64: 165, i386: 21 }, [string, path, string, uint, string], mount, o),
  row("umount", { i386: 22 }, [path], umount, { family: "file" }),
  row("umount2", { x86_64: 166, i386: 52 }, [path, uint], umount2, { family: "file" }),
  row("pivot_root", { x86_64: 155, i386: 217 }, [path, path], fileCall(pivotRoot), {
    family: "file",
    support: "always EPERM",
  }),
];
