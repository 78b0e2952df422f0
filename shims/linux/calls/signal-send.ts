/** Sending signals: kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo. */

import { Errno } from "../errno.ts";
import { pid } from "../kinds/kinds.ts";
import { Cap } from "../process/capabilities.ts";
import { infoIn, signal } from "../signals/kinds.ts";
import { NSIG, SiCode, Signal } from "../signals/numbers.ts";
import { sendToProcess, sendToTask } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import { type Row, row } from "../table.ts";
import type { Process, Task } from "../task.ts";

/** pid 1 is outside the run; `kill(-1)` leaves it out too. */
const INIT = 1;
const INT_MIN = -(2 ** 31);

/** check_kill_permission: 0 or a negative errno. */
function mayKill(task: Task, target: Process, number: number): number {
  if (number < 0 || number > NSIG) return -Errno.EINVAL;
  const { cred, sid } = task.process;
  if (target === task.process || cred.capableIn(target.cred.userNamespace, Cap.CAP_KILL)) return 0;
  const theirs = target.cred;
  const same = [cred.euid, cred.ruid].some((uid) => uid === theirs.suid || uid === theirs.ruid);
  if (same || (number === Signal.SIGCONT && target.sid === sid)) return 0;
  return -Errno.EPERM;
}

function explain(task: Task, result: number, number: number): number {
  if (result === -Errno.EINVAL) return task.fail(Errno.EINVAL, `there is no signal ${number}`);
  if (result === -Errno.EPERM) return task.fail(Errno.EPERM, "the process belongs to another user");
  if (result === -Errno.EAGAIN) return task.fail(Errno.EAGAIN, "RLIMIT_SIGPENDING is reached");
  return result;
}

function sent(task: Task, number: number, code: number): SigInfo {
  return SigInfo.sent(number, code, task.process.pid, task.process.cred.ruid);
}

function killOne(task: Task, target: Process, number: number): number {
  const refused = mayKill(task, target, number);
  if (refused !== 0 || number === 0) return refused;
  return sendToProcess(target, sent(task, number, SiCode.SI_USER));
}

/** Success if one of them was sent to (__kill_pgrp_info). */
function killAll(task: Task, targets: readonly Process[], number: number): number {
  let failure = -Errno.ESRCH;
  let success = false;
  for (const target of targets) {
    const result = killOne(task, target, number);
    if (result === 0) success = true;
    else failure = result;
  }
  return success ? 0 : failure;
}

function group(task: Task, pgid: number): Process[] {
  return [...task.kernel.processes.values()].filter((process) => process.pgid === pgid);
}

function kill(task: Task, target: number, number: number): number {
  const { kernel, process } = task;
  if (target === INIT) return explain(task, number < 0 || number > NSIG ? -Errno.EINVAL : -Errno.EPERM, number);
  if (target > 0) {
    const one = kernel.processes.get(target) ?? kernel.tasks.get(target)?.process;
    if (one === undefined) return task.fail(Errno.ESRCH, `there is no process ${target}`);
    return explain(task, killOne(task, one, number), number);
  }
  if (target === INT_MIN) return task.fail(Errno.ESRCH, "no process group has this number");
  if (target === -1) {
    // All but the caller; a single EPERM among several is not told.
    const others = [...kernel.processes.values()].filter((other) => other !== process);
    return explain(task, killAll(task, others, number), number);
  }
  const members = group(task, target === 0 ? process.pgid : -target);
  return explain(task, killAll(task, members, number), number);
}

/** Sends to one thread; `tgid` undefined for tkill. */
function sendThread(task: Task, tgid: number | undefined, tid: number, info: SigInfo): number {
  const target = task.kernel.tasks.get(tid);
  if (target === undefined || (tgid !== undefined && target.process.pid !== tgid)) {
    return task.fail(Errno.ESRCH, `there is no thread ${tid}${tgid === undefined ? "" : ` in process ${tgid}`}`);
  }
  const { signal: number } = info;
  const refused = mayKill(task, target.process, number);
  if (refused !== 0 || number === 0) return explain(task, refused, number);
  return explain(task, sendToTask(target, info), number);
}

function tkill(task: Task, tid: number, number: number): number {
  if (tid <= 0) return task.fail(Errno.EINVAL, "a thread id is positive");
  return sendThread(task, undefined, tid, sent(task, number, SiCode.SI_TKILL));
}

function tgkill(task: Task, tgid: number, tid: number, number: number): number {
  if (tid <= 0 || tgid <= 0) return task.fail(Errno.EINVAL, "process and thread ids are positive");
  return sendThread(task, tgid, tid, sent(task, number, SiCode.SI_TKILL));
}

/** A negative errno where the caller may not send this information, or the information. */
function infoFrom(task: Task, target: number, number: number, from: number): SigInfo | number {
  const info = SigInfo.read(task.memory, from, task.abi, number);
  if (info === undefined) return task.fail(Errno.E2BIG, "siginfo has bytes beyond what the kernel keeps");
  // Only the kernel says where a signal comes from, and only to oneself one may pretend.
  const pretends = info.code >= 0 || info.code === SiCode.SI_TKILL;
  if (pretends && target !== task.process.pid) {
    return task.fail(Errno.EPERM, "this si_code is the kernel's to use");
  }
  return info;
}

function rtSigqueueinfo(task: Task, target: number, number: number, from: number): number {
  const info = infoFrom(task, target, number, from);
  if (typeof info === "number") return info;
  const process = task.kernel.processes.get(target) ?? task.kernel.tasks.get(target)?.process;
  if (process === undefined) return task.fail(Errno.ESRCH, `there is no process ${target}`);
  const refused = mayKill(task, process, number);
  if (refused !== 0 || number === 0) return explain(task, refused, number);
  return explain(task, sendToProcess(process, info), number);
}

function rtTgsigqueueinfo(task: Task, tgid: number, tid: number, number: number, from: number): number {
  if (tid <= 0 || tgid <= 0) return task.fail(Errno.EINVAL, "process and thread ids are positive");
  const info = infoFrom(task, tid, number, from);
  return typeof info === "number" ? info : sendThread(task, tgid, tid, info);
}

const o = { family: "signal" } as const;

export const signalSendCalls: readonly Row[] = [
  row("kill", { x86_64: 62, i386: 37 }, [pid, signal], kill, o),
  row("tkill", { x86_64: 200, i386: 238 }, [pid, signal], tkill, o),
  row("tgkill", { x86_64: 234, i386: 270 }, [pid, pid, signal], tgkill, o),
  row("rt_sigqueueinfo", { x86_64: 129, i386: 178 }, [pid, signal, infoIn], rtSigqueueinfo, o),
  row("rt_tgsigqueueinfo", { x86_64: 297, i386: 335 }, [pid, pid, signal, infoIn], rtTgsigqueueinfo, o),
];
