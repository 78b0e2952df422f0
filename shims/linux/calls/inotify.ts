/** inotify(7) (fs/notify/inotify/inotify_user.c). */
import { Errno } from "../errno.ts";
import { fd, flags, int, type Kind } from "../kinds/kinds.ts";
import { path } from "../kinds/memory.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { contextOf, demandDescriptors, fileCall, install, openFileOf, pathArgument } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { O_CLOEXEC, O_NONBLOCK, R_OK } from "../vfs/flags.ts";
import { demand } from "../vfs/inode.ts";
import { IN_ALL_EVENTS, IN_EXCL_UNLINK, IN_ONESHOT, InotifyFile } from "../vfs/inotify-file.ts";
import { find } from "../vfs/walk.ts";

const IN_ONLYDIR = 0x100_0000;
const IN_DONT_FOLLOW = 0x200_0000;
const IN_MASK_CREATE = 0x1000_0000;
const IN_MASK_ADD = 0x2000_0000;
const KNOWN = IN_ALL_EVENTS | IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK | IN_MASK_CREATE | IN_MASK_ADD | 0x4000_e000;

function make(task: Task, given: number): number {
  if (given & ~(O_CLOEXEC | O_NONBLOCK)) return task.fail(Errno.EINVAL, "unknown flags");
  const { vfs, inotify, settings } = task.kernel;
  const user = task.process.cred.euid;
  if (inotify.instances.of(user) >= settings.get("fs.inotify.max_user_instances"))
    return task.fail(Errno.EMFILE, "fs.inotify.max_user_instances is reached");
  demandDescriptors(task);
  const entry = vfs.anonymousEntry(vfs.anonymousNode(0o600, task.process.cred), "anon_inode:inotify");
  const most = settings.get("fs.inotify.max_queued_events");
  const file = new InotifyFile(entry, given & O_NONBLOCK, user, inotify, most);
  return install(task, file, (given & O_CLOEXEC) !== 0);
}

const init = fileCall((task) => make(task, 0));
const init1 = fileCall((task, given) => make(task, given));

function inotifyOf(task: Task, descriptor: number): InotifyFile {
  const file = openFileOf(task, descriptor);
  return file instanceof InotifyFile ? file : fail(Errno.EINVAL, `descriptor ${descriptor} is no inotify`);
}

const addWatch = fileCall((task, descriptor, at, given) => {
  if ((given & (KNOWN | IN_ONESHOT)) === 0) fail(Errno.EINVAL, "no known event");
  const file = openFileOf(task, descriptor);
  if (given & IN_MASK_ADD && given & IN_MASK_CREATE)
    fail(Errno.EINVAL, "IN_MASK_ADD and IN_MASK_CREATE exclude each other");
  if (!(file instanceof InotifyFile)) return fail(Errno.EINVAL, `descriptor ${descriptor} is no inotify`);
  const context = contextOf(task);
  const { inode } = find(context, context.cwd, pathArgument(task, at), (given & IN_DONT_FOLLOW) === 0);
  if (given & IN_ONLYDIR && !inode.isDirectory) fail(Errno.ENOTDIR, "IN_ONLYDIR, and it is none");
  demand(inode, context.creds, R_OK);
  const mask = (given & (IN_ALL_EVENTS | IN_EXCL_UNLINK | IN_ONESHOT)) >>> 0;
  const known = file.watchOf(inode);
  if (known === undefined) {
    const { inotify, settings } = task.kernel;
    if (inotify.watches.of(file.user) >= settings.get("fs.inotify.max_user_watches"))
      fail(Errno.ENOSPC, "fs.inotify.max_user_watches is reached");
    return file.add(inode, mask);
  }
  if (given & IN_MASK_CREATE) fail(Errno.EEXIST, "it is watched already");
  known.mask = given & IN_MASK_ADD ? (known.mask | mask) >>> 0 : mask;
  return known.wd;
});

const removeWatch = fileCall((task, descriptor, wd) => {
  if (inotifyOf(task, descriptor).remove(wd)) return 0;
  return task.fail(Errno.EINVAL, `there is no watch ${wd}`);
});

const eventMask: Kind = flags("IN_", {
  IN_ALL_EVENTS,
  IN_ACCESS: 1,
  IN_MODIFY: 2,
  IN_ATTRIB: 4,
  IN_CLOSE_WRITE: 8,
  IN_CLOSE_NOWRITE: 0x10,
  IN_OPEN: 0x20,
  IN_MOVED_FROM: 0x40,
  IN_MOVED_TO: 0x80,
  IN_CREATE: 0x100,
  IN_DELETE: 0x200,
  IN_DELETE_SELF: 0x400,
  IN_MOVE_SELF: 0x800,
  IN_ONLYDIR,
  IN_DONT_FOLLOW,
  IN_EXCL_UNLINK,
  IN_MASK_CREATE,
  IN_MASK_ADD,
  IN_ONESHOT,
});
const initFlags: Kind = flags("IN_", { IN_CLOEXEC: O_CLOEXEC, IN_NONBLOCK: O_NONBLOCK }, "int");

const o = {
  family: "file",
  support: "tells of what the guest does; changes that the host makes in a bound directory are not seen",
} as const;

export const inotifyCalls: readonly Row[] = [
  row("inotify_init", { x86_64: 253, i386: 291 }, [], init, { ...o, returns: fd }),
  row("inotify_init1", { x86_64: 294, i386: 332 }, [initFlags], init1, { ...o, returns: fd }),
  row("inotify_add_watch", { x86_64: 254, i386: 292 }, [fd, path, eventMask], addWatch, o),
  row("inotify_rm_watch", { x86_64: 255, i386: 293 }, [fd, int], removeWatch, o),
];
