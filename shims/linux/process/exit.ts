/** The end of tasks and processes: what Linux undoes, gives back and tells the parent (kernel/exit.c). */

import { abandonTracees, isHeldForTracer, tracedTaskEnded } from "../ptrace/ends.ts";
import { Event } from "../ptrace/numbers.ts";
import { stopForExit } from "../ptrace/stops.ts";
import { endWord } from "../ptrace/tracee.ts";
import { Signal } from "../signals/numbers.ts";
import { abandonSignals, sendToProcess } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import type { ExitStatus, Process, Task } from "../task.ts";
import { releaseFutexes } from "../thread/robust.ts";
import { hangUpOrphans } from "./job-control.ts";

/**
 * Ends one task; its process ends with the last one, with the status of `exitProcess` or else this `code`. A tracer that asked for it
 * sees it stop before.
 */
export function exitTask(task: Task, code: number): void {
  const { tracee } = task;
  if (tracee === undefined || !tracee.wants(Event.exit)) {
    endTask(task, code);
    return;
  }
  if (tracee.exiting) return;
  const { status } = task.process;
  stopForExit(tracee, status === undefined ? (code & 0xff) << 8 : endWord(status), () => endTask(task, code));
}

/** Ends a task at once. */
export function endTask(task: Task, code: number): void {
  if (task.dead) return;
  const { kernel, process } = task;
  kernel.scheduler.unpark(task);
  releaseFutexes(task);
  endVfork(task);
  const { used } = task;
  task.dead = true;
  task.context = undefined;
  task.restart = undefined;
  kernel.gate.goesOn(task.tid);
  kernel.gate.lifecycle?.threadExit(task.tid);
  kernel.tasks.delete(task.tid);
  process.tasks.delete(task);
  task.ownFiles?.release();
  task.endEvents?.wake();
  if (task.tracee !== undefined) tracedTaskEnded(task.tracee, code);
  if (task.tracees !== undefined) abandonTracees(task, tellParent);
  abandonSignals(task);
  process.usage.add(used);
  kernel.scheduler.attention = true;
  // The first thread's end is told of as the end of all.
  if (task.tid !== process.pid)
    kernel.tracer?.threadEnded(task, process.status ?? { kind: "exited", code: code & 0xff });
  if (process.tasks.size === 0) endProcess(process, process.status ?? { kind: "exited", code: code & 0xff });
  else leaveChildren(task);
}

/** Ends a process with all its tasks. */
export function exitProcess(process: Process, status: ExitStatus): void {
  if (process.ended) return;
  process.status ??= status;
  for (const task of [...process.tasks]) exitTask(task, 0);
}

/** A thread has ended before its process: another one is in its place for its children. */
function leaveChildren(task: Task): void {
  const { process } = task;
  const [heir] = process.tasks;
  for (const child of process.children) {
    if (child.creator !== task) continue;
    child.creator = heir;
    parentDied(child, process);
  }
}

/** PR_SET_PDEATHSIG of its threads. */
function parentDied(child: Process, parent: Process): void {
  for (const { pdeathsig } of child.tasks) {
    if (pdeathsig !== 0) sendToProcess(child, SigInfo.sent(pdeathsig, 0, parent.pid, parent.cred.ruid));
  }
}

function endProcess(process: Process, status: ExitStatus): void {
  const { kernel } = process;
  process.status = status;
  process.ended = true;
  process.commonFiles.release();
  // What it was in the middle of shows its memory.
  kernel.tracer?.ended(process, status);
  process.mm.release();
  kernel.leaveIpc(process);
  orphan(process);
  hangUpOrphans(process);
  process.endEvents.wake();
  if (!isHeldForTracer(process, status)) tellParent(process);
}

/** The parent learns that its child has ended; one that nobody waits for is gone. */
export function tellParent(process: Process): void {
  const { kernel, parent } = process;
  kernel.signals.childEnded(process);
  if (parent === undefined) {
    // Init waits for all its children at once.
    if (kernel.first !== process) kernel.processes.delete(process.pid);
    return;
  }
  parent.childEvents.wake();
}

/** Gives the children to the next subreaper above, else to init, which is not part of the run (forget_original_parent). */
function orphan(process: Process): void {
  const { kernel } = process;
  let reaper = process.parent;
  while (reaper !== undefined && (!reaper.prctl.subreaper || reaper.tasks.size === 0)) reaper = reaper.parent;
  const [heir] = reaper?.tasks ?? [];
  for (const child of process.children) {
    child.parent = reaper;
    child.creator = heir;
    child.signals.exitSignal = Signal.SIGCHLD;
    reaper?.children.add(child);
    if (!child.ended) {
      parentDied(child, process);
      hangUpOrphans(child, process);
    } else if (reaper === undefined) kernel.processes.delete(child.pid);
    else kernel.signals.childEnded(child);
  }
  process.children.clear();
  reaper?.childEvents.wake();
}

/** The thread is done with the memory it runs in: the parent that waits since its vfork goes on. */
export function endVfork(task: Task): void {
  const { vforked } = task;
  task.vforked = undefined;
  vforked?.wake();
}
