/** Descriptors: dup, flock, pipe, eventfd. */
import { Errno } from "../errno.ts";
import { eventFlags, flockOperation, pipeFlags } from "../kinds/files.ts";
import { fd, int, type Kind } from "../kinds/kinds.ts";
import { fills } from "../kinds/memory.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { blocking, demandDescriptors, descriptorLimit, fileCall, install, openFileOf } from "../vfs/call-context.ts";
import { fail, VfsError } from "../vfs/error.ts";
import { EventFile } from "../vfs/event-file.ts";
import { O_CLOEXEC, O_DIRECT, O_NONBLOCK } from "../vfs/flags.ts";
import { PathOpen } from "../vfs/open-file.ts";

const dup = fileCall((task, descriptor) => {
  const file = openFileOf(task, descriptor);
  return install(task, file, false);
});

function duplicate(task: Task, from: number, to: number, closeOnExec: boolean): number {
  if (to < 0 || to >= descriptorLimit(task)) return task.fail(Errno.EBADF, "the new descriptor is out of range");
  task.process.files.set(to, openFileOf(task, from), closeOnExec);
  return to;
}

const dup2 = fileCall((task, from, to) => {
  const file = openFileOf(task, from);
  if (from === to && file) return to;
  return duplicate(task, from, to, false);
});

const dup3 = fileCall((task, from, to, flags) => {
  if (flags & ~O_CLOEXEC) fail(Errno.EINVAL, "unknown flags");
  if (from === to) fail(Errno.EINVAL, "both descriptors are the same");
  return duplicate(task, from, to, (flags & O_CLOEXEC) !== 0);
});

const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;

const flock = fileCall((task, descriptor, operation) => {
  const kind = operation & ~LOCK_NB;
  if (kind !== 1 && kind !== LOCK_EX && kind !== LOCK_UN) fail(Errno.EINVAL, "unknown operation");
  const file = openFileOf(task, descriptor);
  if (file instanceof PathOpen) fail(Errno.EBADF, "O_PATH");
  const list = task.kernel.vfs.fileLocks(file.inode);
  if (kind === LOCK_UN) {
    list.clear(file);
    return 0;
  }
  const wanted = { owner: file, pid: 0, exclusive: kind === LOCK_EX, start: 0, end: Number.POSITIVE_INFINITY };
  // A conversion lets go of the old lock first (flock(2)).
  const attempt = () => {
    if (list.set(wanted)) return 0;
    list.clear(file);
    return -Errno.EAGAIN;
  };
  return blocking(file, list.changed, attempt, undefined, (operation & LOCK_NB) !== 0);
});

function makePipe(task: Task, address: number, flags: number): number {
  if (flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT)) fail(Errno.EINVAL, "unknown flags");
  demandDescriptors(task, 2);
  const ends = task.kernel.vfs.newPipe(task.process.cred, flags & ~O_CLOEXEC);
  const closeOnExec = (flags & O_CLOEXEC) !== 0;
  const [reading, writing] = ends.map((end) => install(task, end, closeOnExec));
  if (reading === undefined || writing === undefined) throw new VfsError(Errno.ENFILE);
  try {
    task.memory.setU32(address, reading);
    task.memory.setU32(address + 4, writing);
  } catch (error) {
    task.process.files.close(reading);
    task.process.files.close(writing);
    throw error;
  }
  return 0;
}

const pipe = fileCall((task, address) => makePipe(task, address, 0));
const pipe2 = fileCall((task, address, flags) => makePipe(task, address, flags));

const EFD_SEMAPHORE = 1;

function makeEvent(task: Task, initial: number, flags: number): number {
  if (flags & ~(EFD_SEMAPHORE | O_CLOEXEC | O_NONBLOCK)) fail(Errno.EINVAL, "unknown flags");
  demandDescriptors(task);
  const { vfs } = task.kernel;
  const entry = vfs.anonymousEntry(vfs.anonymousNode(0o600, task.process.cred), "anon_inode:[eventfd]");
  const file = new EventFile(entry, flags & O_NONBLOCK, BigInt(initial), (flags & EFD_SEMAPHORE) !== 0);
  return install(task, file, (flags & O_CLOEXEC) !== 0);
}

const eventfd = fileCall((task, initial) => makeEvent(task, initial >>> 0, 0));
const eventfd2 = fileCall((task, initial, flags) => makeEvent(task, initial >>> 0, flags));

const o = { family: "file" } as const;
/** `[3, 4]`. */
const descriptorPair: Kind = fills((at, { task: { memory } }) => `[${memory.i32(at)}, ${memory.i32(at + 4)}]`);

export const fdCalls: readonly Row[] = [
  row("dup", { x86_64: 32, i386: 41 }, [fd], dup, o),
  row("dup2", { x86_64: 33, i386: 63 }, [fd, fd], dup2, o),
  row("dup3", { x86_64: 292, i386: 330 }, [fd, fd, pipeFlags], dup3, o),
  row("flock", { x86_64: 73, i386: 143 }, [fd, flockOperation], flock, o),
  row("pipe", { x86_64: 22, i386: 42 }, [descriptorPair], pipe, o),
  row("pipe2", { x86_64: 293, i386: 331 }, [descriptorPair, pipeFlags], pipe2, {
    ...o,
    support: "O_DIRECT keeps no packet boundaries",
  }),
  row("eventfd", { x86_64: 284, i386: 323 }, [int], eventfd, o),
  row("eventfd2", { x86_64: 290, i386: 328 }, [int, eventFlags], eventfd2, o),
];
