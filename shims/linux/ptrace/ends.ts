/** What becomes of tracing when tracees and tracers end (exit_notify, exit_ptrace in kernel/exit.c and kernel/ptrace.c). */
import { SiCode, Signal } from "../signals/numbers.ts";
import { alert, childInfo, recalculate, sendToProcess } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import type { ExitStatus, Process, Task } from "../task.ts";
import { endCode, type Tracee } from "./tracee.ts";

function tellEnd(tracee: Tracee, status: ExitStatus): void {
  const { tracer, task } = tracee;
  tracee.zombie = status;
  const { code, value } = endCode(status);
  const info = childInfo(task.process, Signal.SIGCHLD, code, value);
  info.pid = task.tid;
  sendToProcess(tracer.process, info);
  tracer.process.childEvents.wake();
}

/** A traced thread has ended: its tracer is told of each but the first, whose end is that of its process. */
export function tracedTaskEnded(tracee: Tracee, code: number): void {
  const { task } = tracee;
  tracee.stop = undefined;
  if (task.tid !== task.process.pid) tellEnd(tracee, task.process.status ?? { kind: "exited", code: code & 0xff });
}

/** True where a tracer that is not the parent is told first: the parent hears of the end when that one has. */
export function isHeldForTracer(process: Process, status: ExitStatus): boolean {
  const { tracedLeader } = process;
  if (tracedLeader === undefined) return false;
  if (tracedLeader.byParent) {
    tracedLeader.zombie = status;
    return false;
  }
  process.signals.timers.stop();
  tellEnd(tracedLeader, status);
  return true;
}

/**
 * A thread that traces others ends: they go on without it, or are killed (PTRACE_O_EXITKILL).
 * @param tellParent of a process whose end was held back for this tracer
 */
export function abandonTracees(tracer: Task, tellParent: (process: Process) => void): void {
  for (const tracee of [...(tracer.tracees ?? [])]) {
    if (tracee.has("PTRACE_O_EXITKILL") && tracee.zombie === undefined)
      sendToProcess(tracee.task.process, SigInfo.sent(Signal.SIGKILL, SiCode.SI_KERNEL, 0, 0));
    letGo(tracee, 0, tellParent);
  }
  tracer.tracees = undefined;
}

/**
 * Ends the tracing of one: it goes on with a signal, or stops where its process is stopped; the end of one that has ended is told to
 * its parent.
 */
export function letGo(tracee: Tracee, data: number, tellParent: (process: Process) => void): void {
  const { task, zombie } = tracee;
  const { process } = task;
  const held = zombie !== undefined && process.tracedLeader === tracee && !tracee.byParent;
  tracee.trapStop = false;
  tracee.trapNotify = false;
  tracee.stopPending = 0;
  tracee.release(data);
  if (held) tellParent(process);
  if (task.dead) return;
  recalculate(task);
  if (task.signals.attention) alert(task);
}
