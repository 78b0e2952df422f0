/** Taking pending signals in the kernel's order. */
import type { Task } from "../task.ts";
import { SiCode, Signal, SYNCHRONOUS } from "./numbers.ts";
import type { PendingSignals } from "./pending.ts";
import { SigInfo } from "./siginfo.ts";
import { SignalSet } from "./signal-set.ts";

const FIRST = SignalSet.of(...SYNCHRONOUS).lo;

function lowest(lo: number, hi: number): number {
  const first = lo & FIRST;
  if (first !== 0) return 32 - Math.clz32(first & -first);
  if (lo !== 0) return 32 - Math.clz32(lo & -lo);
  return hi === 0 ? 0 : 64 - Math.clz32(hi & -hi);
}

function takeFrom(task: Task, pending: PendingSignals, blocked: SignalSet): SigInfo | undefined {
  const signal = lowest(pending.set.lo & ~blocked.lo, pending.set.hi & ~blocked.hi);
  if (signal === 0) return undefined;
  const taken = pending.take(task.kernel.signals.state.counts, signal);
  // Its information found no room when it was sent.
  if (taken === undefined) return SigInfo.sent(signal, SiCode.SI_USER, 0, 0);
  if (taken.timer !== undefined) taken.info.overrun = taken.timer.delivered();
  return taken.info;
}

/** Takes the next signal that is not in `blocked`: the thread's own before the process's (dequeue_signal). */
export function takeSignal(task: Task, blocked: SignalSet = task.signals.blocked): SigInfo | undefined {
  const own = takeFrom(task, task.signals.pending, blocked);
  if (own !== undefined) return own;
  const { signals } = task.process;
  const shared = takeFrom(task, signals.pending, blocked);
  if (shared?.signal === Signal.SIGALRM) signals.timers.real?.taken();
  return shared;
}

/** Signals that are pending for the task, blocked or not. */
export function pendingFor(task: Task): SignalSet {
  return task.signals.pending.set.union(task.process.signals.pending.set);
}
