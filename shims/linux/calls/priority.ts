/** Nice values, which weigh turns, and I/O priorities, which are kept and told (kernel/sys.c, block/ioprio.c). */

import { Errno } from "../errno.ts";
import { priorityWhich } from "../kinds/flags.ts";
import { choice, int, uintHex } from "../kinds/kinds.ts";
import { Cap } from "../process/capabilities.ts";
import { IO_CLASS_SHIFT, IoClass, ioPriorityRefusal } from "../process/io-priority.ts";
import { Resource } from "../process/limits.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";

const PRIO_PROCESS = 0;
const PRIO_USER = 2;
const BEST_NICE = -20;
const WORST_NICE = 19;

const IoWho = { IOPRIO_WHO_PROCESS: 1, IOPRIO_WHO_PGRP: 2, IOPRIO_WHO_USER: 3 } as const;

const clampNice = (nice: number): number => Math.max(BEST_NICE, Math.min(WORST_NICE, nice));

/** The threads that PRIO_PROCESS, PRIO_PGRP or PRIO_USER (0, 1, 2) with an id mean; 0 stands for the caller's own. */
function targetsOf(task: Task, which: number, who: number): Task[] {
  const { process, kernel } = task;
  if (which === PRIO_PROCESS) {
    const target = who === 0 ? task : kernel.tasks.get(who);
    return target === undefined ? [] : [target];
  }
  const all = [...kernel.tasks.values()];
  if (which === PRIO_USER) return all.filter((t) => t.cred.ruid === (who === 0 ? process.cred.ruid : who));
  return all.filter((t) => t.process.pgid === (who === 0 ? process.pgid : who));
}

/** The system call answers 20 - nice, so that it is never negative. */
function getpriority(task: Task, which: number, who: number): number {
  if (which < PRIO_PROCESS || which > PRIO_USER) return task.fail(Errno.EINVAL, "no PRIO_*");
  const targets = targetsOf(task, which, who);
  if (targets.length === 0) return task.fail(Errno.ESRCH, "nobody is meant");
  return 20 - Math.min(...targets.map((target) => target.nice));
}

/** can_nice: whether a thread may have this value, whatever it has now. */
function mayHaveNice(task: Task, target: Task, nice: number): boolean {
  return 20 - nice <= target.process.limits.soft(Resource.RLIMIT_NICE) || task.process.cred.capable(Cap.CAP_SYS_NICE);
}

function setpriority(task: Task, which: number, who: number, given: number): number {
  if (which < PRIO_PROCESS || which > PRIO_USER) return task.fail(Errno.EINVAL, "no PRIO_*");
  const nice = clampNice(given);
  const targets = targetsOf(task, which, who);
  if (targets.length === 0) return task.fail(Errno.ESRCH, "nobody is meant");
  const own = task.process.cred;
  let result = 0;
  for (const target of targets) {
    const { ruid, euid } = target.cred;
    if (own.euid !== ruid && own.euid !== euid && !own.capable(Cap.CAP_SYS_NICE)) {
      result = task.fail(Errno.EPERM, "another user's thread");
    } else if (nice < target.nice && !mayHaveNice(task, target, nice)) {
      result = task.fail(Errno.EACCES, "only root lowers a nice value");
    } else target.nice = nice;
  }
  return result;
}

function nice(task: Task, increment: number): number {
  const wanted = clampNice(task.nice + Math.max(-40, Math.min(40, increment)));
  if (increment < 0 && !mayHaveNice(task, task, wanted)) return task.fail(Errno.EPERM, "only root lowers a nice value");
  task.nice = wanted;
  return 0;
}

function ioprioSet(task: Task, which: number, who: number, given: number): number {
  const { cred } = task.process;
  const refusal = ioPriorityRefusal(cred, given);
  if (refusal === Errno.EPERM) return task.fail(refusal, "the real-time class is for privileged processes");
  if (refusal !== 0) return task.fail(refusal, "no class of I/O priorities, or a level without one");
  if (which < IoWho.IOPRIO_WHO_PROCESS || which > IoWho.IOPRIO_WHO_USER)
    return task.fail(Errno.EINVAL, "no IOPRIO_WHO_*");
  const targets = targetsOf(task, which - 1, who);
  if (targets.length === 0) return task.fail(Errno.ESRCH, "nobody is meant");
  for (const target of targets) {
    const { ruid } = target.cred;
    if (ruid !== cred.euid && ruid !== cred.ruid && !cred.capable(Cap.CAP_SYS_NICE))
      return task.fail(Errno.EPERM, "another user's thread");
    target.ioprio = given & 0xffff;
  }
  return 0;
}

/** What counts for a thread that has set no class: one that comes from its nice value (task_nice_ioprio). */
function countingPriority({ ioprio, nice }: Task): number {
  if (ioprio >> IO_CLASS_SHIFT !== IoClass.NONE) return ioprio;
  return (IoClass.BE << IO_CLASS_SHIFT) | Math.floor((nice + 20) / 5);
}

/** Of one thread what was set, of several the best that counts. */
function ioprioGet(task: Task, which: number, who: number): number {
  if (which < IoWho.IOPRIO_WHO_PROCESS || which > IoWho.IOPRIO_WHO_USER)
    return task.fail(Errno.EINVAL, "no IOPRIO_WHO_*");
  const targets = targetsOf(task, which - 1, who);
  const [first] = targets;
  if (first === undefined) return task.fail(Errno.ESRCH, "nobody is meant");
  return which === IoWho.IOPRIO_WHO_PROCESS ? first.ioprio : Math.min(...targets.map(countingPriority));
}

const ioWho = choice("IOPRIO_WHO_", IoWho);
const family = "process";

export const priorityCalls: readonly Row[] = [
  row("getpriority", { x86_64: 140, i386: 96 }, [priorityWhich, int], getpriority, { family }),
  row("setpriority", { x86_64: 141, i386: 97 }, [priorityWhich, int, int], setpriority, { family }),
  row("nice", { i386: 34 }, [int], nice, { family }),
  row("ioprio_set", { x86_64: 251, i386: 289 }, [ioWho, int, uintHex], ioprioSet, { family, support: "kept only" }),
  row("ioprio_get", { x86_64: 252, i386: 290 }, [ioWho, int], ioprioGet, { family, returns: uintHex }),
];
