/** Sending: what is thrown away, what is queued, which thread is to take it (kernel/signal.c). */
import { Errno } from "../errno.ts";
import { Resource } from "../process/limits.ts";
import type { Process, Task } from "../task.ts";
import { signalText } from "./kinds.ts";
import { defaultAction, isStopSignal, SaFlag, SIG_DFL, SIG_IGN, SIGRTMIN, SiCode, Signal } from "./numbers.ts";
import type { PendingSignals, QueuedTimer } from "./pending.ts";
import { SigInfo } from "./siginfo.ts";
import { SignalSet } from "./signal-set.ts";

const CONTINUE = SignalSet.of(Signal.SIGCONT);
const STOPS = SignalSet.of(Signal.SIGSTOP, Signal.SIGTSTP, Signal.SIGTTIN, Signal.SIGTTOU);

/** Works out anew whether something waits for the task that it does not block (recalc_sigpending). */
export function recalculate(task: Task): void {
  const { signals: own, process } = task;
  const { set } = own.pending;
  const shared = process.signals.pending.set;
  const { lo, hi } = own.blocked;
  own.attention =
    (((set.lo | shared.lo) & ~lo) | ((set.hi | shared.hi) & ~hi)) !== 0 ||
    (task.tracee === undefined ? process.signals.stoppedBy !== 0 : task.tracee.trapped) ||
    task.tracee?.injected !== undefined ||
    process.signals.fatal !== 0;
}

/** Makes a task look at its signals, also out of a wait. */
export function alert(task: Task): void {
  task.signals.attention = true;
  if (task.wait !== undefined) task.kernel.scheduler.ready(task);
}

/** Replaces a task's mask. Signals of the process that it now blocks are left to threads that do not. */
export function setBlocked(task: Task, mask: SignalSet): void {
  const blocked = mask.copy();
  blocked.delete(Signal.SIGKILL);
  blocked.delete(Signal.SIGSTOP);
  task.signals.blocked = blocked;
  recalculate(task);
  const { process } = task;
  if (process.tasks.size === 1 || process.signals.pending.set.intersection(blocked).isEmpty) return;
  for (const other of process.tasks) {
    if (other === task || other.signals.attention) continue;
    recalculate(other);
    if (other.signals.attention) alert(other);
  }
}

/** A thread has ended: its own signals go, those of the process are left to the other threads (exit_signals). */
export function abandonSignals(task: Task): void {
  task.signals.pending.clear(task.kernel.signals.state.counts);
  for (const other of task.process.tasks) {
    recalculate(other);
    if (other.signals.attention) alert(other);
  }
}

/** sig_ignored: a blocked signal is kept, as its action may change before it is let through. */
function isIgnored(process: Process, task: Task | undefined, signal: number): boolean {
  if (task !== undefined) {
    const { blocked, waitedFor } = task.signals;
    if (blocked.has(signal) || waitedFor?.has(signal)) return false;
    // A tracer hears of what is ignored too.
    if (task.tracee !== undefined && signal !== Signal.SIGKILL) return false;
  }
  const { handler } = process.signals.hand.get(signal);
  return handler === SIG_IGN || (handler === SIG_DFL && defaultAction(signal) === "ignore");
}

/** Its first thread, or another where that has ended; undefined at its end. */
export function leaderOf(process: Process): Task | undefined {
  for (const task of process.tasks) if (task.tid === process.pid) return task;
  for (const task of process.tasks) return task;
  return undefined;
}

function flushAll(process: Process, signals: SignalSet): void {
  const { counts } = process.kernel.signals.state;
  process.signals.pending.flush(counts, signals);
  for (const task of process.tasks) task.signals.pending.flush(counts, signals);
}

/** Throws away what is pending of a signal that is ignored from now on (sigaction(2)). */
export function flushIgnored(process: Process, signal: number): void {
  if (!isIgnored(process, undefined, signal)) return;
  flushAll(process, SignalSet.of(signal));
}

/** prepare_signal: stop signals and SIGCONT undo each other at once. */
function stopOrContinue(process: Process, signal: number): void {
  if (isStopSignal(signal)) flushAll(process, CONTINUE);
  else if (signal === Signal.SIGCONT) {
    flushAll(process, STOPS);
    resume(process, true);
    for (const { tracee } of process.tasks) {
      if (tracee === undefined) continue;
      tracee.stopPending = 0;
      tracee.notify();
    }
    for (const task of process.tasks) if (task.tracee?.trapNotify) alert(task);
  }
}

function resume(process: Process, continued: boolean): void {
  const { signals } = process;
  if (signals.stoppedBy === 0) return;
  signals.stoppedBy = 0;
  signals.stopUnreported = false;
  signals.resumed.wake();
  if (!continued) return;
  signals.continueUnreported = true;
  notifyStopped(process, SiCode.CLD_CONTINUED, Signal.SIGCONT);
}

/** Stops all threads of a process (do_signal_stop). */
export function stopProcess(process: Process, signal: number): void {
  process.signals.stoppedBy = signal;
  process.signals.stopUnreported = true;
  process.signals.continueUnreported = false;
  for (const task of process.tasks) {
    const { tracee } = task;
    if (tracee !== undefined) {
      tracee.stopPending = signal;
      if (tracee.listening) tracee.notify();
    }
    alert(task);
  }
  if (!process.tracedLeader?.byParent) notifyStopped(process, SiCode.CLD_STOPPED, signal);
}

/** do_notify_parent_cldstop. */
function notifyStopped(process: Process, code: number, status: number): void {
  const { parent } = process;
  if (parent === undefined) return;
  const { handler, flags } = parent.signals.hand.get(Signal.SIGCHLD);
  if (handler !== SIG_IGN && (flags & SaFlag.SA_NOCLDSTOP) === 0) {
    sendToProcess(parent, childInfo(process, Signal.SIGCHLD, code, status));
  }
  parent.childEvents.wake();
}

/** siginfo of SIGCHLD. */
export function childInfo(process: Process, signal: number, code: number, status: number): SigInfo {
  const nsPerTick = 1e7;
  const { user, system } = process.used;
  const [utime, stime] = [Math.floor(user / nsPerTick), Math.floor(system / nsPerTick)];
  return SigInfo.child({ signal, code, pid: process.pid, uid: process.cred.ruid, status, utime, stime });
}

/**
 * Puts the signal into a queue. -EAGAIN when RLIMIT_SIGPENDING leaves no room for a real-time signal that carries information; other
 * signals then lose theirs (__send_signal_locked).
 */
function enqueue(process: Process, pending: PendingSignals, info: SigInfo, timer: QueuedTimer | undefined): number {
  const { signal, code } = info;
  const { counts } = process.kernel.signals.state;
  if (timer === undefined && signal < SIGRTMIN && pending.set.has(signal)) return 0;
  const uid = process.cred.ruid;
  const always = timer !== undefined || (signal < SIGRTMIN && code >= 0);
  if (!always && counts.of(uid) >= process.limits.soft(Resource.RLIMIT_SIGPENDING)) {
    if (signal >= SIGRTMIN && code !== SiCode.SI_USER) return -Errno.EAGAIN;
    pending.set.add(signal);
    return 0;
  }
  pending.push(counts, uid, info, timer);
  return 0;
}

/** True when the signal's default action ends the process, so that no other signal is looked at before. */
function endsAtOnce(process: Process, signal: number): boolean {
  return process.signals.hand.get(signal).handler === SIG_DFL && defaultAction(signal) === "terminate";
}

function wants(task: Task, signal: number): boolean {
  const { signals, kernel } = task;
  if (signals.blocked.has(signal)) return false;
  if (signal === Signal.SIGKILL) return true;
  if (task.tracee?.stop !== undefined) return false;
  return kernel.current === task || !signals.attention;
}

/** complete_signal: wakes a thread that may take it, the main thread before others. */
function chooseTask(process: Process, target: Task | undefined, signal: number): void {
  let chosen: Task | undefined;
  if (target !== undefined) chosen = wants(target, signal) ? target : undefined;
  else {
    const main = leaderOf(process);
    if (main !== undefined && wants(main, signal)) chosen = main;
    else for (const task of process.tasks) if (chosen === undefined && wants(task, signal)) chosen = task;
  }
  if (chosen === undefined) return;
  const traced = signal !== Signal.SIGKILL && (target ?? chosen).tracee !== undefined;
  if (endsAtOnce(process, signal) && !traced && !chosen.signals.waitedFor?.has(signal)) {
    killProcess(process, signal);
    return;
  }
  alert(chosen);
}

/** Ends a process by a signal that nothing holds up: no handler, mask or tracer is asked. */
export function killProcess(process: Process, signal: number): void {
  if (process.ended) return;
  if (process.signals.fatal === 0) process.signals.fatal = signal;
  resume(process, false);
  for (const task of process.tasks) {
    task.tracee?.killed();
    alert(task);
  }
}

function send(process: Process, target: Task | undefined, info: SigInfo, timer: QueuedTimer | undefined): number {
  const { signal } = info;
  if (process.ended || signal === 0) return 0;
  stopOrContinue(process, signal);
  const receiver = target ?? leaderOf(process);
  if (isIgnored(process, receiver, signal)) {
    timer?.flushed();
    if (receiver !== undefined) process.kernel.tracer?.ignored(receiver, signalText(info));
    return 0;
  }
  const pending = target === undefined ? process.signals.pending : target.signals.pending;
  const result = enqueue(process, pending, info, timer);
  if (result !== 0) return result;
  process.signals.hand.arrivals.wake();
  chooseTask(process, target, signal);
  return 0;
}

/** Sends a signal to a process: any of its threads may take it. Signal 0 only asks. 0 or -EAGAIN. */
export function sendToProcess(process: Process, info: SigInfo, timer?: QueuedTimer): number {
  return send(process, undefined, info, timer);
}

/** Sends a signal to one thread. 0 or -EAGAIN. */
export function sendToTask(task: Task, info: SigInfo, timer?: QueuedTimer): number {
  return task.dead ? 0 : send(task.process, task, info, timer);
}

/**
 * Sends a signal that cannot be refused (force_sig): where it is blocked or ignored, its action becomes the default, and it is let
 * through. With `fatal` its handler is not asked at all.
 */
export function forceSignal(task: Task, info: SigInfo, fatal = false): void {
  const { signal } = info;
  const { hand } = task.process.signals;
  const blocked = task.signals.blocked.has(signal);
  if (fatal || blocked || hand.get(signal).handler === SIG_IGN) hand.reset(signal);
  if (blocked) task.signals.blocked.delete(signal);
  enqueue(task.process, task.signals.pending, info, undefined);
  task.signals.attention = true;
}
