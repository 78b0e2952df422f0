/** Reaching into other processes: pidfds, kcmp, process_vm_readv and its counterpart. */

import { Errno } from "../errno.ts";
import { choice, fd, flags, int, pid, pointer, size, uintHex, word } from "../kinds/kinds.ts";
import { EpollFile } from "../net/epoll-file.ts";
import { Cap } from "../process/capabilities.ts";
import { PidFile } from "../process/pid-file.ts";
import { mayAttach } from "../ptrace/access.ts";
import { infoIn, signal } from "../signals/kinds.ts";
import { NSIG, SiCode } from "../signals/numbers.ts";
import { sendToProcess, sendToTask } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import { type Row, row } from "../table.ts";
import type { Process, Task } from "../task.ts";
import { demandDescriptors, install } from "../vfs/call-context.ts";
import { O_NONBLOCK } from "../vfs/flags.ts";
import { PathOpen } from "../vfs/open-file.ts";
import { ProcessDirectory } from "../vfs/proc/proc.ts";
import { UIO_MAXIOV } from "../vfs/transfer.ts";

const PIDFD_THREAD = 0x80;
const CHUNK = 65536;
/** Which of the process, its group, or one thread a signal is for; at most one. */
const SignalScope = {
  PIDFD_SIGNAL_THREAD: 1,
  PIDFD_SIGNAL_THREAD_GROUP: 2,
  PIDFD_SIGNAL_PROCESS_GROUP: 4,
} as const;

function pidfdOpen(task: Task, id: number, given: number): number {
  if ((given & ~(O_NONBLOCK | PIDFD_THREAD)) !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  if (id <= 0) return task.fail(Errno.EINVAL, "a process id is positive");
  const { kernel } = task;
  const isThread = (given & PIDFD_THREAD) !== 0;
  const process = kernel.processes.get(id);
  const thread = kernel.tasks.get(id);
  if (process === undefined && thread === undefined) return task.fail(Errno.ESRCH, `there is no process ${id}`);
  if (process === undefined && !isThread) return task.fail(Errno.ENOENT, `${id} is not the first thread of a process`);
  const owner = process ?? thread?.process;
  if (owner === undefined || (isThread && thread === undefined))
    return task.fail(Errno.ESRCH, `thread ${id} has ended`);
  demandDescriptors(task);
  return install(task, PidFile.of(owner, isThread ? thread : undefined, given & O_NONBLOCK), true);
}

function pidFileOf(task: Task, descriptor: number): PidFile | undefined {
  const file = task.process.files.get(descriptor);
  return file instanceof PidFile ? file : undefined;
}

/** What a signal is sent to: a directory of /proc means its process, as it did before there were pidfds. */
function targetOf(task: Task, descriptor: number): Pick<PidFile, "process" | "thread"> | undefined {
  const file = task.process.files.get(descriptor);
  if (file instanceof PidFile) return file;
  if (file === undefined || file instanceof PathOpen || !(file.inode instanceof ProcessDirectory)) return undefined;
  return { process: file.inode.process, thread: undefined };
}

/** check_kill_permission, as kill has it. */
function mayReach(task: Task, target: Process): boolean {
  const { cred } = task.process;
  if (target === task.process || cred.capableIn(target.cred.userNamespace, Cap.CAP_KILL)) return true;
  return [cred.euid, cred.ruid].some((uid) => uid === target.cred.suid || uid === target.cred.ruid);
}

function pidfdSendSignal(task: Task, descriptor: number, number: number, from: number, scope: number): number {
  const scopes = Object.values(SignalScope).filter((flag) => (scope & flag) !== 0);
  if ((scope & ~7) !== 0 || scopes.length > 1) return task.fail(Errno.EINVAL, "unknown flags");
  const target = targetOf(task, descriptor);
  if (target === undefined) return task.fail(Errno.EBADF, `descriptor ${descriptor} is no pidfd`);
  const { process, thread } = target;
  let info = SigInfo.sent(number, SiCode.SI_USER, task.process.pid, task.process.cred.ruid);
  if (from !== 0) {
    const given = SigInfo.read(task.memory, from, task.abi, number);
    if (given === undefined) return task.fail(Errno.E2BIG, "siginfo has bytes beyond what the kernel keeps");
    if (task.memory.i32(from) !== number) return task.fail(Errno.EINVAL, "si_signo is another signal");
    const pretends = given.code >= 0 || given.code === SiCode.SI_TKILL;
    if (pretends && process !== task.process) return task.fail(Errno.EPERM, "this si_code is the kernel's to use");
    info = given;
  }
  const gone = thread === undefined ? task.kernel.processes.get(process.pid) !== process : thread.dead;
  if (gone) return task.fail(Errno.ESRCH, "the process has ended");
  if (number < 0 || number > NSIG) return task.fail(Errno.EINVAL, `there is no signal ${number}`);
  if (!mayReach(task, process)) return task.fail(Errno.EPERM, "the process belongs to another user");
  if (number === 0) return 0;
  if (scopes[0] === SignalScope.PIDFD_SIGNAL_PROCESS_GROUP) {
    const members = [...task.kernel.processes.values()].filter((one) => one.pgid === process.pgid);
    for (const member of members) if (mayReach(task, member)) sendToProcess(member, info);
    return 0;
  }
  const toThread = scopes.length === 0 ? thread !== undefined : scopes[0] === SignalScope.PIDFD_SIGNAL_THREAD;
  if (!toThread) return sendToProcess(process, info);
  const receiver = thread ?? task.kernel.tasks.get(process.pid);
  return receiver === undefined ? task.fail(Errno.ESRCH, "the thread has ended") : sendToTask(receiver, info);
}

function pidfdGetfd(task: Task, descriptor: number, target: number, given: number): number {
  if (given !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  const file = pidFileOf(task, descriptor);
  if (file === undefined) return task.fail(Errno.EBADF, `descriptor ${descriptor} is no pidfd`);
  const { process } = file;
  if (process.ended) return task.fail(Errno.ESRCH, "the process has ended");
  if (!mayAttach(task, process)) return task.fail(Errno.EPERM, "the process may not be looked into");
  const wanted = process.files.get(target);
  if (wanted === undefined) return task.fail(Errno.EBADF, `descriptor ${target} is not open there`);
  demandDescriptors(task);
  return install(task, wanted, true);
}

/** The memory of a process that is being killed goes at once; here it always does. */
function processMrelease(task: Task, descriptor: number, given: number): number {
  if (given !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  const file = pidFileOf(task, descriptor);
  if (file === undefined) return task.fail(Errno.EBADF, `descriptor ${descriptor} is no pidfd`);
  const { process } = file;
  if (process.ended) return task.fail(Errno.ESRCH, "its memory is gone");
  return process.signals.fatal !== 0 ? 0 : task.fail(Errno.EINVAL, "the process is not being killed");
}

const Kcmp = {
  KCMP_FILE: 0,
  KCMP_VM: 1,
  KCMP_FILES: 2,
  KCMP_FS: 3,
  KCMP_SIGHAND: 4,
  KCMP_IO: 5,
  KCMP_SYSVSEM: 6,
  KCMP_EPOLL_TFD: 7,
} as const;

/** What `kcmp` compares of a thread; undefined for an unknown type. */
function resourceOf(target: Task, type: number, index: number): object | undefined {
  const { process } = target;
  switch (type) {
    case Kcmp.KCMP_FILE:
      return (target.ownFiles ?? process.commonFiles).get(index);
    case Kcmp.KCMP_FILES:
      return target.ownFiles ?? process.commonFiles;
    case Kcmp.KCMP_FS:
      return target.ownFs ?? process.commonFs;
    case Kcmp.KCMP_SIGHAND:
      return process.signals.hand;
    case Kcmp.KCMP_VM:
      return process.mm;
    default:
      // No I/O contexts and semaphore adjustments are kept: all have the same, none.
      return undefined;
  }
}

/** `struct kcmp_epoll_slot`: an epoll's descriptor, one under which it watches a file, and which of several files there. */
function compareWatched(task: Task, first: Task, second: Task, descriptor: number, slot: number): number {
  const { memory, kernel } = task;
  const [efd, tfd, toff] = [memory.u32(slot), memory.u32(slot + 4), memory.u32(slot + 8)];
  const file = resourceOf(first, Kcmp.KCMP_FILE, descriptor);
  if (file === undefined) return task.fail(Errno.EBADF, `descriptor ${descriptor} is not open there`);
  const epoll = resourceOf(second, Kcmp.KCMP_FILE, efd);
  if (epoll === undefined) return task.fail(Errno.EBADF, `descriptor ${efd} is not open there`);
  if (!(epoll instanceof EpollFile)) return task.fail(Errno.EINVAL, `descriptor ${efd} is no epoll`);
  const watched = epoll.watchedAs(tfd)[toff];
  if (watched === undefined) return task.fail(Errno.ENOENT, `descriptor ${tfd} is not watched`);
  return kernel.identities.compare(file, watched);
}

function kcmp(task: Task, first: number, second: number, type: number, one: number, two: number): number {
  const { kernel } = task;
  const a = kernel.tasks.get(first);
  const b = kernel.tasks.get(second);
  if (a === undefined || b === undefined) return task.fail(Errno.ESRCH, "there is no such thread");
  if (!mayAttach(task, a.process) || !mayAttach(task, b.process)) {
    return task.fail(Errno.EPERM, "the process may not be looked into");
  }
  if (type === Kcmp.KCMP_EPOLL_TFD) return compareWatched(task, a, b, one, two);
  if (type < 0 || type > Kcmp.KCMP_EPOLL_TFD) return task.fail(Errno.EINVAL, `${type} is no KCMP_*`);
  const [x, y] = [resourceOf(a, type, one), resourceOf(b, type, two)];
  if (type === Kcmp.KCMP_FILE && (x === undefined || y === undefined)) return task.fail(Errno.EBADF, "not open");
  return kernel.identities.compare(x, y);
}

/** `struct iovec` arrays of process_vm_readv: at most UIO_MAXIOV. */
export function vectors(task: Task, at: number, count: number): { start: number; length: number }[] | number {
  if (count < 0 || count > UIO_MAXIOV) return task.fail(Errno.EINVAL, `at most ${UIO_MAXIOV} pieces`);
  const { memory, abi } = task;
  const pieces: { start: number; length: number }[] = [];
  for (let index = 0; index < count; index++) {
    const from = at + index * 2 * abi.word;
    const start = abi.word === 8 ? memory.num64(from) : memory.u32(from);
    const length = abi.word === 8 ? memory.num64(from + 8) : memory.u32(from + 4);
    if (length >= 2 ** (8 * abi.word - 1)) return task.fail(Errno.EINVAL, "a negative length");
    pieces.push({ start, length });
  }
  return pieces;
}

/** process_vm_readv and process_vm_writev: one copy, up to the first address that is not there (mm/process_vm_access.c). */
function copyMemory(writes: boolean) {
  return (task: Task, id: number, local: number, locals: number, remote: number, remotes: number): number => {
    const here = vectors(task, local, locals);
    if (typeof here === "number") return here;
    const there = vectors(task, remote, remotes);
    if (typeof there === "number") return there;
    const target = task.kernel.tasks.get(id);
    if (target === undefined) return task.fail(Errno.ESRCH, `there is no process ${id}`);
    if (!mayAttach(task, target.process)) return task.fail(Errno.EPERM, "the process may not be looked into");
    const [from, to] = writes ? [task.memory, target.memory] : [target.memory, task.memory];
    const [sources, sinks] = writes ? [here, there] : [there, here];
    const sink = sinks.values();
    let place = sink.next().value;
    let filled = 0;
    let done = 0;
    for (const { start, length } of sources) {
      for (let at = 0; at < length; ) {
        while (place !== undefined && filled === place.length) {
          place = sink.next().value;
          filled = 0;
        }
        if (place === undefined) return done;
        const chunk = new Uint8Array(Math.min(length - at, place.length - filled, CHUNK));
        const got = from.readSome(start + at, chunk);
        const put = to.writeSome(place.start + filled, chunk.subarray(0, got));
        at += put;
        filled += put;
        done += put;
        if (put < chunk.length) return done > 0 ? done : task.fail(Errno.EFAULT, "not all of it is mapped");
      }
    }
    return done;
  };
}

const family = "process";
const pidfdOpenFlags = flags("PIDFD_", { PIDFD_NONBLOCK: O_NONBLOCK, PIDFD_THREAD });
const pidfdSignalFlags = flags("PIDFD_SIGNAL_", SignalScope);
const kcmpType = choice("KCMP_", Kcmp);

export const pidfdCalls: readonly Row[] = [
  row("pidfd_open", { x86_64: 434, i386: 434 }, [pid, pidfdOpenFlags], pidfdOpen, { family, returns: fd }),
  row("pidfd_send_signal", { x86_64: 424, i386: 424 }, [fd, signal, infoIn, pidfdSignalFlags], pidfdSendSignal, {
    family: "signal",
  }),
  row("pidfd_getfd", { x86_64: 438, i386: 438 }, [fd, int, uintHex], pidfdGetfd, { family, returns: fd }),
  row("process_mrelease", { x86_64: 448, i386: 448 }, [fd, uintHex], processMrelease, { family: "memory" }),
  row("kcmp", { x86_64: 312, i386: 349 }, [pid, pid, kcmpType, word, word], kcmp, { family }),
  row(
    "process_vm_readv",
    { x86_64: 310, i386: 347 },
    [pid, pointer, size, pointer, size, word],
    guarded(copyMemory(false)),
    { family },
  ),
  row(
    "process_vm_writev",
    { x86_64: 311, i386: 348 },
    [pid, pointer, size, pointer, size, word],
    guarded(copyMemory(true)),
    { family },
  ),
];

/** The sixth argument is for flags, and there are none. */
function guarded(copy: ReturnType<typeof copyMemory>) {
  return (task: Task, id: number, local: number, locals: number, remote: number, remotes: number, given: number) =>
    given === 0 ? copy(task, id, local, locals, remote, remotes) : task.fail(Errno.EINVAL, "unknown flags");
}
