/** Signals as the run loop sees them. */
import { type Disassemble, faultReport } from "../fault.ts";
import type { Process, Task } from "../task.ts";
import { deliverSignals } from "./deliver.ts";
import { isFaultClass, signalForFault } from "./fault.ts";
import { KernelSignals } from "./kernel.ts";
import { NSIG, SaFlag, SIG_DFL, SIG_IGN, SiCode, Signal } from "./numbers.ts";
import { childInfo, forceSignal, sendToProcess, sendToTask } from "./send.ts";
import { SigInfo } from "./siginfo.ts";
import type { Fault, SignalPort } from "./signal-port.ts";
import type { ProcessSignals, TaskSignals } from "./state.ts";

export interface SignalOptions {
  /** Told of faults that no handler takes, as lines without line ends. */
  readonly report: (lines: readonly string[]) => void;
  readonly disassemble?: Disassemble | undefined;
}

export class Signals implements SignalPort {
  readonly state = new KernelSignals();
  readonly #options: SignalOptions;

  constructor(options: SignalOptions) {
    this.#options = options;
  }

  raiseFault(task: Task, fault: Fault): void {
    const { signals } = task;
    const info = signalForFault(task, fault);
    if (info === undefined) return;
    const { signal } = info;
    const { handler } = task.process.signals.hand.get(signal);
    const unhandled = handler === SIG_DFL || handler === SIG_IGN || signals.blocked.has(signal);
    // A tracer's breakpoints and steps are faults too, and what becomes of the others is its business.
    if (unhandled && task.tracee === undefined) {
      this.#options.report(faultReport(task, fault, this.#options.disassemble));
    }
    if (signal === Signal.SIGKILL) sendToTask(task, info);
    else forceSignal(task, info);
    this.#deliver(task, undefined, isFaultClass(fault));
  }

  send(task: Task, signal: number): void {
    sendToTask(task, SigInfo.sent(signal, SiCode.SI_USER, task.process.pid, task.process.cred.ruid));
  }

  killForMemory(task: Task): void {
    const { process, tid } = task;
    this.#options.report([
      `${process.exe} (process ${process.pid}, thread ${tid}) got SIGKILL: the guests' files, processes, queues and the like take ` +
        "more of this machine's memory than they may",
    ]);
    sendToTask(task, SigInfo.sent(Signal.SIGKILL, SiCode.SI_KERNEL, 0, 0));
  }

  interrupts(task: Task): boolean {
    return task.signals.attention;
  }

  deliver(task: Task, result: number | undefined): void {
    this.#deliver(task, result, false);
  }

  #deliver(task: Task, result: number | undefined, fault: boolean): void {
    deliverSignals(task, result, (_, lines) => this.#options.report(lines), fault);
  }

  childEnded(process: Process): void {
    const { kernel, parent, signals, status } = process;
    signals.timers.stop();
    signals.pending.clear(this.state.counts);
    if (parent === undefined || status === undefined) return;
    const signal = signals.exitSignal;
    const { handler, flags } = parent.signals.hand.get(signal);
    const traced = process.tracedLeader !== undefined;
    const ignored = signal === Signal.SIGCHLD && handler === SIG_IGN && !traced;
    if (ignored || (signal === Signal.SIGCHLD && flags & SaFlag.SA_NOCLDWAIT && !traced)) {
      parent.children.delete(process);
      kernel.processes.delete(process.pid);
    }
    // clone takes any number for it.
    if (ignored || signal === 0 || signal > NSIG) return;
    const killed = status.kind === "killed";
    const code = killed ? (status.core ? SiCode.CLD_DUMPED : SiCode.CLD_KILLED) : SiCode.CLD_EXITED;
    sendToProcess(parent, childInfo(process, signal, code, killed ? status.signal : status.code));
  }

  execed(task: Task): void {
    const { signals, process } = task;
    process.signals.hand = process.signals.hand.forExec();
    process.signals.timers.execed();
    process.signals.exitSignal = Signal.SIGCHLD;
    signals.alt.start = 0;
    signals.alt.size = 0;
  }

  nextTimer(): number {
    return this.state.timers.next;
  }

  runTimers(now: number): void {
    this.state.timers.run(now);
  }
}

/** A task, or what of one matters here. */
interface Holder {
  readonly signals: TaskSignals;
  readonly process: { readonly signals: ProcessSignals };
}

/** What clone gives a new thread or process of its parent's signals (copy_sighand, copy_signal, sigaltstack(2)). */
interface Inherit {
  /** CLONE_SIGHAND: handlers are shared. */
  readonly shareHandlers: boolean;
  /** CLONE_CLEAR_SIGHAND: handlers go back to their default. */
  readonly clearHandlers: boolean;
  /** CLONE_VM without CLONE_VFORK: both would run on one alternate stack. */
  readonly dropStack: boolean;
}

/**
 * Gives a task made by clone its mask, alternate stack and, where its process is new, handlers. Pending signals and timers are not
 * inherited.
 */
export function inheritSignals(child: Holder, parent: Holder, how: Inherit): void {
  const own = child.signals;
  own.blocked = parent.signals.blocked.copy();
  if (how.dropStack) own.alt.reset();
  else own.alt.set(parent.signals.alt);
  own.trapno = parent.signals.trapno;
  own.errorCode = parent.signals.errorCode;
  own.cr2 = parent.signals.cr2;
  if (child.process === parent.process) return;
  const { hand } = parent.process.signals;
  if (how.shareHandlers) child.process.signals.hand = hand;
  else child.process.signals.hand = how.clearHandlers ? hand.forExec() : hand.clone();
}
