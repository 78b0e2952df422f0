/** What mount(2) and umount2(2) do to the guest's own tree: nothing of it reaches the host. */
import { Errno } from "../errno.ts";
import { PAGE } from "../memory/pages.ts";
import type { Kernel, Task } from "../task.ts";
import { fail } from "./error.ts";
import type { Entry, Inode } from "./inode.ts";
import { MemoryDirectory } from "./memory.ts";
import { procRoot } from "./proc/kernel.ts";
import { systemRoot } from "./system.ts";
import { TMPFS_MAGIC } from "./vfs.ts";
import { isBelow } from "./walk.ts";

const RAMFS_MAGIC = 0x858458f6;
const STICKY_ALL = 0o1777;

interface TmpfsOptions {
  mode: number;
  uid: number;
  gid: number;
  maxPages: number | undefined;
}

const UNITS: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };

/** Options of tmpfs(5); EINVAL for others. */
function tmpfsOptions(text: string, owner: { readonly uid: number; readonly gid: number }): TmpfsOptions {
  const options: TmpfsOptions = { mode: STICKY_ALL, uid: owner.uid, gid: owner.gid, maxPages: undefined };
  for (const option of text.split(",").filter(Boolean)) {
    const [name = "", value = ""] = option.split("=");
    const number = (pattern: RegExp, radix: number): number =>
      pattern.test(value) ? Number.parseInt(value, radix) : fail(Errno.EINVAL, `"${option}" is no number`);
    if (name === "mode") options.mode = number(/^[0-7]+$/, 8) & 0o7777;
    else if (name === "uid") options.uid = number(/^[0-9]+$/, 10);
    else if (name === "gid") options.gid = number(/^[0-9]+$/, 10);
    else if (name === "size") {
      const unit = UNITS[/^[0-9]+([kmg]?)$/i.exec(value)?.[1]?.toLowerCase() ?? "-"];
      if (unit === undefined) fail(Errno.EINVAL, `"${option}" is no size`);
      options.maxPages = Math.ceil((Number.parseInt(value, 10) * (unit ?? 1)) / PAGE) || undefined;
    } else if (name !== "nr_inodes" && name !== "nr_blocks" && name !== "huge" && name !== "mpol")
      fail(Errno.EINVAL, `tmpfs does not know "${option}"`);
  }
  return options;
}

/** The root of a new file system; ENODEV for a type that the run does not have. */
function newRoot(task: Task, type: string, data: string): Inode {
  const { kernel, process } = task;
  const { vfs } = kernel;
  switch (type) {
    case "tmpfs": {
      const { mode, uid, gid, maxPages } = tmpfsOptions(data, process.cred);
      return new MemoryDirectory(vfs.newMemoryFileSystem(type, TMPFS_MAGIC, maxPages), mode, uid, gid);
    }
    case "ramfs":
      return new MemoryDirectory(vfs.newMemoryFileSystem(type, RAMFS_MAGIC), 0o755, 0, 0);
    case "proc":
      return procRoot(vfs, kernel);
    case "sysfs":
      return systemRoot(vfs, kernel);
    default:
      return fail(Errno.ENODEV, `there is no file system "${type}": only tmpfs, ramfs, proc and sysfs`);
  }
}

/** A file system of its own comes to stand at `at`. */
export function mountNew(
  task: Task,
  at: Entry,
  o: { type: string; source: string; data: string; readonly: boolean },
): void {
  if (!at.inode.isDirectory) fail(Errno.ENOTDIR);
  const root = newRoot(task, o.type, o.data);
  root.fs.source = o.source === "" ? "none" : o.source;
  root.fs.readonly = o.readonly;
  task.kernel.vfs.mount(at, root);
}

/** True when something of a mount is in use: an open file, a working directory, a root, a mount within. */
function isBusy(kernel: Kernel, top: Entry): boolean {
  const uses = (entry: Entry): boolean => isBelow(entry, top);
  if (kernel.vfs.mounts.some((mount) => mount !== top && uses(mount))) return true;
  for (const process of kernel.processes.values()) {
    if (process.ended) continue;
    if (uses(process.commonFs.cwd) || uses(process.commonFs.root)) return true;
    const { commonFiles } = process;
    for (const fd of commonFiles.numbers()) {
      const file = commonFiles.get(fd);
      if (file && uses(file.entry)) return true;
    }
    for (const { ownFs } of process.tasks) if (ownFs && (uses(ownFs.cwd) || uses(ownFs.root))) return true;
  }
  return false;
}

/** @param lazily MNT_DETACH: whoever uses it goes on with it */
export function unmount(task: Task, top: Entry, lazily: boolean): void {
  const { vfs } = task.kernel;
  if (!vfs.mounts.includes(top)) fail(Errno.EINVAL, "nothing is mounted there");
  if (top === task.process.fs.root || top === vfs.root) fail(lazily ? Errno.EINVAL : Errno.EBUSY, "it is the root");
  if (!lazily && isBusy(task.kernel, top)) fail(Errno.EBUSY, "it is in use");
  for (const mount of [...vfs.mounts]) if (isBelow(mount, top)) vfs.unmount(mount);
}
