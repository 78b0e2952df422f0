/** Descriptors: dup, fcntl with its locks, flock, pipe, eventfd. */
import { Errno } from "../errno.ts";
import { fd, int, type Kind } from "../kinds.ts";
import { eventFlags, Fcntl, fcntlArgument, fcntlCommand, flockOperation, pipeFlags } from "../kinds-files.ts";
import { fills } from "../kinds-memory.ts";
import { i16, i32, i64, long, type Struct, struct } from "../structs.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { blocking, demandDescriptors, descriptorLimit, fileCall, install, openFileOf } from "../vfs/call-context.ts";
import { fail, VfsError } from "../vfs/error.ts";
import { EventFile } from "../vfs/event-file.ts";
import {
  F_SEAL_EXEC,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  O_APPEND,
  O_ASYNC,
  O_CLOEXEC,
  O_DIRECT,
  O_NOATIME,
  O_NONBLOCK,
} from "../vfs/flags.ts";
import { owns } from "../vfs/inode.ts";
import { F_RDLCK, F_UNLCK, F_WRLCK, lockRange } from "../vfs/locks.ts";
import { type OpenFile, PathOpen, RegularOpen } from "../vfs/open-file.ts";
import { PipeOpen } from "../vfs/pipe.ts";

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

interface FlockValues {
  l_type: number;
  l_whence: number;
  l_start: number;
  l_len: number;
  l_pid: number;
}
const flockStruct: Struct<FlockValues> = struct({ l_type: i16, l_whence: i16, l_start: long, l_len: long, l_pid: i32 });
const flock64Struct: Struct<FlockValues> = struct({ l_type: i16, l_whence: i16, l_start: i64, l_len: i64, l_pid: i32 });
const OWNER_PID = 1;

/** What F_SETFL may change (fcntl(2)). */
const SETTABLE = O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK;

function fcntlOf(task: Task, descriptor: number, command: number, argument: number, wide: boolean): Result {
  const file = openFileOf(task, descriptor);
  const { files } = task.process;
  const number = argument | 0;
  const pathOnly: readonly number[] = [
    Fcntl.F_DUPFD,
    Fcntl.F_DUPFD_CLOEXEC,
    Fcntl.F_GETFD,
    Fcntl.F_SETFD,
    Fcntl.F_GETFL,
  ];
  if (file instanceof PathOpen && !pathOnly.includes(command)) fail(Errno.EBADF, "O_PATH");
  switch (command) {
    case Fcntl.F_DUPFD:
    case Fcntl.F_DUPFD_CLOEXEC: {
      const limit = descriptorLimit(task);
      if (argument < 0 || argument >= limit) fail(Errno.EINVAL, "beyond RLIMIT_NOFILE");
      const given = files.add(file, limit, command === Fcntl.F_DUPFD_CLOEXEC, argument);
      return given < 0 ? task.fail(-given, "RLIMIT_NOFILE is reached") : given;
    }
    case Fcntl.F_GETFD:
      return Number(files.closeOnExec(descriptor));
    case Fcntl.F_SETFD:
      files.setCloseOnExec(descriptor, (argument & 1) !== 0);
      return 0;
    case Fcntl.F_GETFL:
      return file.flags;
    case Fcntl.F_SETFL: {
      const changed = (file.flags ^ number) & SETTABLE;
      if (changed & number & O_NOATIME && !owns(file.inode, task.process.cred))
        fail(Errno.EPERM, "O_NOATIME is for the owner");
      file.flags ^= changed;
      return 0;
    }
    case Fcntl.F_GETLK:
    case Fcntl.F_SETLK:
    case Fcntl.F_SETLKW:
      return lock(task, file, command - Fcntl.F_GETLK, argument, flockStruct, false);
    case Fcntl.F_GETLK64:
    case Fcntl.F_SETLK64:
    case Fcntl.F_SETLKW64:
      if (!wide) break;
      return lock(task, file, command - Fcntl.F_GETLK64, argument, flock64Struct, false);
    case Fcntl.F_OFD_GETLK:
    case Fcntl.F_OFD_SETLK:
    case Fcntl.F_OFD_SETLKW:
      return lock(task, file, command - Fcntl.F_OFD_GETLK, argument, flock64Struct, true);
    case Fcntl.F_SETOWN:
      file.ownerPid = number;
      return 0;
    case Fcntl.F_GETOWN:
      return file.ownerPid;
    case Fcntl.F_SETOWN_EX:
      file.ownerPid = task.memory.i32(argument + 4) * (task.memory.i32(argument) === 2 ? -1 : 1);
      return 0;
    case Fcntl.F_GETOWN_EX:
      task.memory.setU32(argument, file.ownerPid < 0 ? 2 : OWNER_PID);
      task.memory.setU32(argument + 4, Math.abs(file.ownerPid));
      return 0;
    case Fcntl.F_SETSIG:
      if (number < 0 || number > 64) fail(Errno.EINVAL, "no such signal");
      file.ownerSignal = number;
      return 0;
    case Fcntl.F_GETSIG:
      return file.ownerSignal;
    case Fcntl.F_GETLEASE:
      return F_UNLCK;
    case Fcntl.F_SETLEASE:
      // Nobody holds a lease here, and none is given: programs fall back to working without.
      return number === F_UNLCK ? fail(Errno.EAGAIN, "there is no lease") : fail(Errno.EINVAL, "leases are not given");
    case Fcntl.F_DUPFD_QUERY:
      return Number(openFileOf(task, number) === file);
    case Fcntl.F_GETPIPE_SZ:
      return file instanceof PipeOpen ? file.pipe.capacity : fail(Errno.EBADF, "not a pipe");
    case Fcntl.F_SETPIPE_SZ: {
      if (!(file instanceof PipeOpen)) return fail(Errno.EBADF, "not a pipe");
      const size = file.pipe.resize(number >>> 0, task.process.cred.superuser);
      return size < 0 ? task.fail(-size) : size;
    }
    case Fcntl.F_ADD_SEALS:
      return addSeals(task, file, argument);
    case Fcntl.F_GET_SEALS:
      return file instanceof RegularOpen ? file.file.seals : fail(Errno.EINVAL, "this file has no seals");
  }
  return fail(Errno.EINVAL, "unknown command");
}

function addSeals(task: Task, file: OpenFile, seals: number): number {
  const known = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC;
  if (!file.writable) fail(Errno.EPERM, "not open for writing");
  if (seals & ~known) fail(Errno.EINVAL, "unknown seals");
  if (!(file instanceof RegularOpen)) return fail(Errno.EINVAL, "this file has no seals");
  if (file.file.seals & F_SEAL_SEAL) fail(Errno.EPERM, "sealed against sealing");
  if (seals & F_SEAL_WRITE && task.kernel.vfs.isMappedWritable(file.file)) fail(Errno.EBUSY, "a mapping may write");
  file.file.seals |= seals;
  return 0;
}

const GET = 0;
const SET_WAIT = 2;

/** POSIX record locks (owner: the process's descriptors) and open file description locks (owner: the open file). */
function lock(
  task: Task,
  file: OpenFile,
  action: number,
  address: number,
  layout: Struct<FlockValues>,
  ofd: boolean,
): Result {
  const { memory, abi, process } = task;
  const request = layout.read(memory, address, abi);
  const type = request.l_type;
  if (ofd && request.l_pid !== 0) fail(Errno.EINVAL, "l_pid must be 0 for OFD locks");
  if (type !== F_RDLCK && type !== F_WRLCK && (type !== F_UNLCK || action === GET))
    fail(Errno.EINVAL, "unknown lock type");
  file.inode.refresh();
  const { l_whence: whence, l_start: start, l_len: length } = request;
  const range = lockRange({ type, whence, start, length }, file.position, file.inode.size);
  if (typeof range === "number") return task.fail(-range, "no such range");
  const owner: object = ofd ? file : process.files;
  const list = task.kernel.vfs.recordLocks(file.inode);
  const wanted = { owner, pid: ofd ? -1 : process.pid, exclusive: type === F_WRLCK, ...range };
  if (action === GET) {
    const other = list.conflict(wanted);
    if (!other) {
      layout.write(memory, address, { ...request, l_type: F_UNLCK }, abi);
      return 0;
    }
    const l_len = other.end === Number.POSITIVE_INFINITY ? 0 : other.end - other.start;
    const l_type = other.exclusive ? F_WRLCK : F_RDLCK;
    layout.write(memory, address, { l_type, l_whence: 0, l_start: other.start, l_len, l_pid: other.pid }, abi);
    return 0;
  }
  if (type === F_UNLCK) {
    list.clear(owner, range.start, range.end);
    return 0;
  }
  if (type === F_RDLCK ? !file.readable : !file.writable)
    fail(Errno.EBADF, "the descriptor is not open for this kind of lock");
  const attempt = () => (list.set(wanted) ? 0 : -Errno.EAGAIN);
  return blocking(file, list.changed, attempt, undefined, action !== SET_WAIT);
}

const fcntl = fileCall((task, descriptor, command, argument) => fcntlOf(task, descriptor, command, argument, false));
const fcntl64 = fileCall((task, descriptor, command, argument) => fcntlOf(task, descriptor, command, argument, true));

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
  row("fcntl", { x86_64: 72, i386: 55 }, [fd, fcntlCommand, fcntlArgument], fcntl, {
    ...o,
    support: "leases are not given (EINVAL); F_SETSIG and F_SETOWN are kept, no SIGIO comes",
  }),
  row("fcntl64", { i386: 221 }, [fd, fcntlCommand, fcntlArgument], fcntl64, o),
  row("flock", { x86_64: 73, i386: 143 }, [fd, flockOperation], flock, o),
  row("pipe", { x86_64: 22, i386: 42 }, [descriptorPair], pipe, o),
  row("pipe2", { x86_64: 293, i386: 331 }, [descriptorPair, pipeFlags], pipe2, {
    ...o,
    support: "O_DIRECT keeps no packet boundaries",
  }),
  row("eventfd", { x86_64: 284, i386: 323 }, [int], eventfd, o),
  row("eventfd2", { x86_64: 290, i386: 328 }, [int, eventFlags], eventfd2, o),
];
