/** fcntl: what belongs to a descriptor, to the open file behind it, and to the file. */

import { Errno } from "../errno.ts";
import { Fcntl, fcntlArgument, fcntlCommand } from "../kinds/files.ts";
import { fd } from "../kinds/kinds.ts";
import { Cap } from "../process/capabilities.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { descriptorLimit, fileCall, openFileOf } from "../vfs/call-context.ts";
import { DirectoryNotice } from "../vfs/directory-notice.ts";
import { fail } from "../vfs/error.ts";
import {
  F_SEAL_EXEC,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  O_APPEND,
  O_DIRECT,
  O_NOATIME,
  O_NONBLOCK,
  S_IFREG,
} from "../vfs/flags.ts";
import { owns } from "../vfs/inode.ts";
import { Leases } from "../vfs/leases.ts";
import { F_RDLCK, F_UNLCK, F_WRLCK } from "../vfs/locks.ts";
import { type OpenFile, PathOpen, RegularOpen } from "../vfs/open-file.ts";
import { OwnerKind, ownerFor, setAsync, setOwner } from "../vfs/owner.ts";
import { PipeOpen } from "../vfs/pipe.ts";
import { flock64Struct, flockStruct, recordLock } from "./record-locks.ts";

/** What F_SETFL may change (fcntl(2)), O_ASYNC apart. */
const SETTABLE = O_APPEND | O_DIRECT | O_NOATIME | O_NONBLOCK;
/** What O_PATH descriptors allow. */
const PATH_COMMANDS: readonly number[] = [
  Fcntl.F_DUPFD,
  Fcntl.F_DUPFD_CLOEXEC,
  Fcntl.F_DUPFD_QUERY,
  Fcntl.F_GETFD,
  Fcntl.F_SETFD,
  Fcntl.F_GETFL,
];
const INT_MIN = -(2 ** 31);
/** RWH_WRITE_LIFE_EXTREME. */
const MOST_HINT = 5;

function fcntlOf(task: Task, descriptor: number, command: number, argument: number, wide: boolean): Result {
  const file = openFileOf(task, descriptor);
  const { files } = task.process;
  const number = argument | 0;
  if (file instanceof PathOpen && !PATH_COMMANDS.includes(command)) fail(Errno.EBADF, "O_PATH");
  switch (command) {
    case Fcntl.F_DUPFD:
    case Fcntl.F_DUPFD_CLOEXEC: {
      const limit = descriptorLimit(task);
      const from = argument >>> 0;
      if (from >= limit) fail(Errno.EINVAL, "beyond RLIMIT_NOFILE");
      const given = files.add(file, limit, command === Fcntl.F_DUPFD_CLOEXEC, from);
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
      setAsync(task.kernel, file, descriptor, number);
      return 0;
    }
    case Fcntl.F_GETLK:
    case Fcntl.F_SETLK:
    case Fcntl.F_SETLKW:
      return recordLock(task, file, command - Fcntl.F_GETLK, argument, flockStruct, false);
    case Fcntl.F_GETLK64:
    case Fcntl.F_SETLK64:
    case Fcntl.F_SETLKW64:
      if (!wide) break;
      return recordLock(task, file, command - Fcntl.F_GETLK64, argument, flock64Struct, false);
    case Fcntl.F_OFD_GETLK:
    case Fcntl.F_OFD_SETLK:
    case Fcntl.F_OFD_SETLKW:
      return recordLock(task, file, command - Fcntl.F_OFD_GETLK, argument, flock64Struct, true);
    case Fcntl.F_SETSIG:
      if (number < 0 || number > 64) fail(Errno.EINVAL, "no such signal");
      file.ownerSignal = number;
      return 0;
    case Fcntl.F_GETSIG:
      return file.ownerSignal;
    case Fcntl.F_GETLEASE:
      return file instanceof RegularOpen ? (file.file.leases?.typeFor(file) ?? F_UNLCK) : F_UNLCK;
    case Fcntl.F_SETLEASE:
      return setLease(task, file, descriptor, number);
    case Fcntl.F_NOTIFY:
      return notify(task, file, descriptor, argument >>> 0);
    case Fcntl.F_DUPFD_QUERY:
      return Number(openFileOf(task, number) === file);
    case Fcntl.F_CREATED_QUERY:
      return Number(file.created);
    case Fcntl.F_GETPIPE_SZ:
      return file instanceof PipeOpen ? file.pipe.capacity : fail(Errno.EBADF, "not a pipe");
    case Fcntl.F_SETPIPE_SZ: {
      if (!(file instanceof PipeOpen)) return fail(Errno.EBADF, "not a pipe");
      const most = task.kernel.settings.get("fs.pipe-max-size");
      const size = file.pipe.resize(number >>> 0, task.process.cred.capable(Cap.CAP_SYS_RESOURCE), most);
      return size < 0 ? task.fail(-size) : size;
    }
    case Fcntl.F_ADD_SEALS:
      return addSeals(task, file, argument);
    case Fcntl.F_GET_SEALS:
      return file instanceof RegularOpen && file.file.sealable
        ? file.file.seals
        : fail(Errno.EINVAL, "this file has no seals");
    case Fcntl.F_GET_RW_HINT:
    case Fcntl.F_SET_RW_HINT:
      return writeHint(task, file, argument, command === Fcntl.F_SET_RW_HINT);
  }
  return owner(task, file, command, argument);
}

/** F_SETOWN and its kin. */
function owner(task: Task, file: OpenFile, command: number, argument: number): number {
  const { memory } = task;
  const { owner } = file;
  const number = argument | 0;
  switch (command) {
    case Fcntl.F_SETOWN:
      if (number === INT_MIN) fail(Errno.EINVAL, "no process group has that number");
      return setOwner(task, file, number < 0 ? OwnerKind.group : OwnerKind.process, Math.abs(number));
    case Fcntl.F_GETOWN:
      return owner === undefined ? 0 : owner.kind === OwnerKind.group ? -owner.id : owner.id;
    case Fcntl.F_SETOWN_EX: {
      const kind = Object.values(OwnerKind).find((one) => one === memory.i32(argument));
      const id = memory.i32(argument + 4);
      if (kind === undefined) return fail(Errno.EINVAL, "no kind of owner");
      return id < 0 ? fail(Errno.ESRCH, "nobody has that number") : setOwner(task, file, kind, id);
    }
    case Fcntl.F_GETOWN_EX:
      memory.setU32(argument, owner?.kind ?? OwnerKind.process);
      memory.setU32(argument + 4, owner?.id ?? 0);
      return 0;
    case Fcntl.F_GETOWNER_UIDS:
      memory.setU32(argument, owner?.uid ?? 0);
      memory.setU32(argument + 4, owner?.euid ?? 0);
      return 0;
  }
  return fail(Errno.EINVAL, "unknown command");
}

/** How long what is written will live: kept for who asks. */
function writeHint(task: Task, file: OpenFile, address: number, sets: boolean): number {
  const { inode } = file;
  if (!sets) {
    task.memory.setU64(address, BigInt(inode.writeHint));
    return 0;
  }
  if (!owns(inode, task.process.cred)) fail(Errno.EPERM, "only the owner says how long data live");
  const hint = task.memory.u64(address);
  if (hint > MOST_HINT) fail(Errno.EINVAL, "no such hint");
  inode.writeHint = Number(hint);
  return 0;
}

function setLease(task: Task, file: OpenFile, descriptor: number, type: number): number {
  const { inode } = file;
  const { cred } = task.process;
  if (inode.uid !== cred.uid && !cred.capable(Cap.CAP_LEASE)) fail(Errno.EACCES, "the file is somebody else's");
  if (inode.kind !== S_IFREG || !(file instanceof RegularOpen)) return fail(Errno.EINVAL, "no regular file");
  const target = file.file;
  if (type === F_UNLCK) return target.leases?.drop(file) ? 0 : fail(Errno.EAGAIN, "there is no lease");
  if (type !== F_RDLCK && type !== F_WRLCK) fail(Errno.EINVAL, "unknown type of lease");
  if (task.kernel.settings.get("fs.leases-enable") === 0) fail(Errno.EINVAL, "fs.leases-enable is 0");
  target.leases ??= new Leases();
  const result = target.leases.set(file, descriptor, type);
  if (result < 0) return task.fail(-result, "the file is open elsewhere");
  file.owner ??= ownerFor(task, OwnerKind.process, task.process.pid);
  return 0;
}

function notify(task: Task, file: OpenFile, descriptor: number, mask: number): number {
  if (task.kernel.settings.get("fs.dir-notify-enable") === 0) fail(Errno.EINVAL, "fs.dir-notify-enable is 0");
  if (mask === 0) {
    file.directoryNotice?.stop();
    return 0;
  }
  if (!file.inode.isDirectory) fail(Errno.ENOTDIR);
  file.owner ??= ownerFor(task, OwnerKind.process, task.process.pid);
  if (file.directoryNotice === undefined)
    file.directoryNotice = new DirectoryNotice(task.kernel, file, descriptor, mask);
  else file.directoryNotice.mask = (file.directoryNotice.mask | mask) >>> 0;
  return 0;
}

function addSeals(task: Task, file: OpenFile, seals: number): number {
  const known = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC;
  if (!(file instanceof RegularOpen) || !file.file.sealable) return fail(Errno.EINVAL, "this file has no seals");
  if (!file.writable) fail(Errno.EPERM, "not open for writing");
  if (seals & ~known) fail(Errno.EINVAL, "unknown seals");
  if (file.file.seals & F_SEAL_SEAL) fail(Errno.EPERM, "sealed against sealing");
  if (seals & F_SEAL_WRITE && task.kernel.vfs.isMappedWritable(file.file)) fail(Errno.EBUSY, "a mapping may write");
  file.file.seals |= seals;
  return 0;
}

const fcntl = fileCall((task, descriptor, command, argument) => fcntlOf(task, descriptor, command, argument, false));
const fcntl64 = fileCall((task, descriptor, command, argument) => fcntlOf(task, descriptor, command, argument, true));

export const fcntlCalls: readonly Row[] = [
  row("fcntl", { x86_64: 72, i386: 55 }, [fd, fcntlCommand, fcntlArgument], fcntl, { family: "file" }),
  row("fcntl64", { i386: 221 }, [fd, fcntlCommand, fcntlArgument], fcntl64, { family: "file" }),
];
