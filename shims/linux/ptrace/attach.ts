/** Becoming a tracer, and ceasing to be one (ptrace_attach, ptrace_traceme and ptrace_detach in kernel/ptrace.c). */

import { Errno } from "../errno.ts";
import { Cap } from "../process/capabilities.ts";
import { tellParent } from "../process/exit.ts";
import { NSIG, SiCode, Signal } from "../signals/numbers.ts";
import { alert, sendToTask } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import type { Task } from "../task.ts";
import { mayAttach } from "./access.ts";
import { letGo } from "./ends.ts";
import { OPTIONS, Option } from "./numbers.ts";
import { link, type Tracee } from "./tracee.ts";

/** PTRACE_TRACEME. A parent outside the run traces nobody, and the program is told that it may. */
export function traceMe(task: Task): number {
  if (task.tracee !== undefined) return task.fail(Errno.EPERM, "it is traced already");
  const { creator } = task.process;
  if (creator !== undefined && !creator.dead) link(creator, task, false, 0);
  return 0;
}

/** check_ptrace_options: 0 or a negative errno. */
function checkOptions(task: Task, options: bigint): number {
  if ((options & ~BigInt(OPTIONS)) !== 0n) return task.fail(Errno.EINVAL, "unknown options");
  if ((options & BigInt(Option.PTRACE_O_SUSPEND_SECCOMP)) === 0n) return 0;
  if (!task.process.cred.capable(Cap.CAP_SYS_ADMIN) || task.seccomp !== undefined)
    return task.fail(Errno.EPERM, "PTRACE_O_SUSPEND_SECCOMP is for privileged processes that have no filters");
  return 0;
}

/** PTRACE_ATTACH and PTRACE_SEIZE. */
export function attach(task: Task, target: Task, seize: boolean, address: number, options: bigint): number {
  if (seize) {
    if (address !== 0) return task.fail(Errno.EIO, "PTRACE_SEIZE takes no address");
    const refused = checkOptions(task, options);
    if (refused !== 0) return refused === -Errno.EINVAL ? task.fail(Errno.EIO, "unknown options") : refused;
  }
  const { process } = target;
  if (process === task.process) return task.fail(Errno.EPERM, "a process does not trace itself");
  if (!mayAttach(task, process)) return task.fail(Errno.EPERM, "the process may not be looked into");
  if (target.tracee !== undefined) return task.fail(Errno.EPERM, "it is traced already");
  const tracee = link(task, target, seize, seize ? Number(options) : 0);
  if (!seize) sendToTask(target, SigInfo.sent(Signal.SIGSTOP, SiCode.SI_KERNEL, 0, 0));
  if (process.signals.stoppedBy !== 0 && target.wait?.pause) {
    // It goes over from one kind of stop to the other at once.
    tracee.trapStop = true;
    process.signals.resumed.wake();
    target.signals.attention = true;
  }
  return 0;
}

/** PTRACE_DETACH. */
export function detach(task: Task, tracee: Tracee, signal: number): number {
  if (signal < 0 || signal > NSIG) return task.fail(Errno.EIO, `there is no signal ${signal}`);
  letGo(tracee, signal, tellParent);
  return 0;
}

/** PTRACE_SETOPTIONS. */
export function setOptions(task: Task, tracee: Tracee, options: bigint): number {
  const refused = checkOptions(task, options);
  if (refused === 0) tracee.options = Number(options);
  return refused;
}

/** PTRACE_INTERRUPT. */
export function interrupt(task: Task, tracee: Tracee): number {
  if (!tracee.seized) return task.fail(Errno.EIO, "it was not seized");
  tracee.trapStop = true;
  if (tracee.listening) tracee.wake();
  alert(tracee.task);
  return 0;
}

/** PTRACE_LISTEN. */
export function listen(task: Task, tracee: Tracee): number {
  const { stop } = tracee;
  const groupStop = 128;
  if (!tracee.seized || stop?.info === undefined || stop.info.code >> 8 !== groupStop)
    return task.fail(Errno.EIO, "it is in no group-stop, or was not seized");
  tracee.listening = true;
  if (tracee.trapNotify) tracee.wake();
  return 0;
}
