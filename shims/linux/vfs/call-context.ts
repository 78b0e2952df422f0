import { Errno } from "../errno.ts";
import { Cap } from "../process/capabilities.ts";
import { Resource } from "../process/limits.ts";
import type { Result } from "../table.ts";
import type { Task } from "../task.ts";
import { Wait, type WaitQueue } from "../wait.ts";
import { fail } from "./error.ts";
import { AT_FDCWD, O_NONBLOCK, PATH_MAX } from "./flags.ts";
import type { Credentials, Entry } from "./inode.ts";
import type { OpenFile } from "./open-file.ts";
import { find, type WalkContext } from "./walk.ts";

/** Gives a handler its parameter types: all arguments arrive as numbers. It may throw `VfsError`, which dispatch answers. */
export function fileCall<A extends number[]>(
  handler: (task: Task, ...args: A) => Result,
): (task: Task, ...args: A) => Result {
  return handler;
}

/** From where and for whom the task's paths are read. */
export function contextOf(task: Task): WalkContext {
  const { fs, cred } = task.process;
  return { root: fs.root, cwd: fs.cwd, creds: cred };
}

/** A path from guest memory. Throws MemoryFault (EFAULT); ENAMETOOLONG when it does not end within PATH_MAX. */
export function pathArgument(task: Task, address: number): string {
  return task.memory.cstring(address, PATH_MAX) ?? fail(Errno.ENAMETOOLONG, "no NUL within 4096 bytes");
}

/** The open file behind a descriptor, or EBADF. */
export function openFileOf(task: Task, fd: number): OpenFile {
  return task.process.files.get(fd) ?? fail(Errno.EBADF, `descriptor ${fd} is not open`);
}

/** Where a relative path of an `*at` call starts. An absolute path does not look at the descriptor. */
export function startOf(task: Task, dirfd: number, path: string): Entry {
  // An empty path is ENOENT whatever the descriptor is.
  if (dirfd === AT_FDCWD || path === "") return task.process.fs.cwd;
  if (path[0] === "/") return task.process.fs.root;
  return openFileOf(task, dirfd).entry;
}

/**
 * What an `*at` call means. With `mayBeEmpty` (AT_EMPTY_PATH) an empty or null path means the descriptor itself.
 * @param creds who looks for it
 */
export function entryAt(
  task: Task,
  dirfd: number,
  address: number,
  follow: boolean,
  mayBeEmpty = false,
  creds: Credentials = task.process.cred,
): Entry {
  const path = mayBeEmpty && address === 0 ? "" : pathArgument(task, address);
  if (path === "" && mayBeEmpty) return dirfd === AT_FDCWD ? task.process.fs.cwd : openFileOf(task, dirfd).entry;
  const { root, cwd } = task.process.fs;
  return find({ root, cwd, creds }, startOf(task, dirfd, path), path, follow);
}

/** RLIMIT_NOFILE: descriptors are below it. */
export function descriptorLimit(task: Task): number {
  return task.process.limits.soft(Resource.RLIMIT_NOFILE);
}

/** True when fs.file-max leaves no room for `count` more files, which does not stop root (alloc_empty_file). */
function tooManyFiles(task: Task, count: number): boolean {
  const { settings, vfs } = task.kernel;
  return vfs.host.openFiles + count > settings.get("fs.file-max") && !task.process.cred.capable(Cap.CAP_SYS_ADMIN);
}

/** EMFILE unless `count` descriptors can be given, ENFILE unless there may be so many more files. */
export function demandDescriptors(task: Task, count = 1): void {
  if (tooManyFiles(task, count)) fail(Errno.ENFILE, "fs.file-max is reached");
  if (!task.process.files.hasRoom(descriptorLimit(task), count)) fail(Errno.EMFILE, "RLIMIT_NOFILE is reached");
}

/** Gives an open file a descriptor, or lets go of it (EMFILE, ENFILE). */
export function install(task: Task, file: OpenFile, closeOnExec: boolean): number {
  const crowded = file.references === 0 && tooManyFiles(task, 1);
  file.retain();
  if (crowded) {
    file.release();
    return task.fail(Errno.ENFILE, "fs.file-max is reached");
  }
  const fd = task.process.files.add(file, descriptorLimit(task), closeOnExec);
  file.release();
  return fd < 0 ? task.fail(-fd, "RLIMIT_NOFILE is reached") : fd;
}

/**
 * The result of an attempt that may have to wait: -EAGAIN waits unless O_NONBLOCK forbids it. The file stays open meanwhile.
 * @param attempt runs again when a queue is woken
 * @param interrupted the result when a signal ends the wait
 * @param limit until when to wait (virtual monotonic ns), and the result then
 */
export function blocking(
  file: OpenFile,
  queue: WaitQueue | undefined,
  attempt: () => number,
  interrupted?: () => number,
  nonblocking = (file.flags & O_NONBLOCK) !== 0,
  limit?: { readonly deadline: number; readonly late: () => number },
): Result {
  const first = attempt();
  if (first !== -Errno.EAGAIN || nonblocking) return first;
  file.retain();
  return new Wait({
    queues: queue ? [queue] : [],
    host: file.onHost,
    attempt: () => {
      const result = attempt();
      return result === -Errno.EAGAIN ? undefined : result;
    },
    ...(interrupted && { interrupted }),
    ...(limit && { deadline: limit.deadline, timeout: limit.late }),
    cleanup: () => file.release(),
  });
}
