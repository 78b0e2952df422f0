/** What tasks and processes keep about signals (Linux's sighand_struct, signal_struct, and parts of task_struct). */
import type { Abi } from "../abi.ts";
import { WaitQueue } from "../wait.ts";
import { NSIG, SIG_DFL, SIG_IGN } from "./numbers.ts";
import { PendingSignals } from "./pending.ts";
import { SignalSet } from "./signal-set.ts";
import { ProcessTimers } from "./timers.ts";

/** One entry of sigaction; never changed in place. */
export interface Action {
  /** Address, SIG_DFL or SIG_IGN. */
  readonly handler: number;
  /** SA_* bits. */
  readonly flags: number;
  readonly restorer: number;
  readonly mask: SignalSet;
  /** ABI of the call that set it: the frame has its form (SA_IA32_ABI). */
  readonly abi: Abi | undefined;
}

const DEFAULT: Action = { handler: SIG_DFL, flags: 0, restorer: 0, mask: new SignalSet(), abi: undefined };
const IGNORED: Action = { ...DEFAULT, handler: SIG_IGN };

/** Handlers, shared by CLONE_SIGHAND. */
class SigHand {
  readonly #actions: Action[];
  /** Woken when a signal arrives: for signalfd. */
  readonly arrivals = new WaitQueue();

  constructor(actions: readonly Action[] = []) {
    this.#actions = [...actions];
  }

  get(signal: number): Action {
    return this.#actions[signal] ?? DEFAULT;
  }

  set(signal: number, action: Action): void {
    this.#actions[signal] = action;
  }

  /** The handler becomes the default, the flags stay (SA_RESETHAND, forced signals). */
  reset(signal: number): void {
    this.set(signal, { ...this.get(signal), handler: SIG_DFL });
  }

  clone(): SigHand {
    return new SigHand(this.#actions);
  }

  /** flush_signal_handlers: what was ignored stays so over an exec, or all defaults (CLONE_CLEAR_SIGHAND). */
  forExec(): SigHand {
    const fresh = new SigHand();
    for (let signal = 1; signal <= NSIG; signal++) {
      if (this.get(signal).handler === SIG_IGN) fresh.set(signal, IGNORED);
    }
    return fresh;
  }
}

export const SS_ONSTACK = 1;
export const SS_DISABLE = 2;
export const SS_AUTODISARM = 0x8000_0000;

/** sigaltstack(2): the stack and its flags as they were given. */
class AltStack {
  start = 0;
  size = 0;
  flags = 0;

  reset(): void {
    this.start = 0;
    this.size = 0;
    this.flags = SS_DISABLE;
  }

  set(from: Pick<AltStack, "start" | "size" | "flags">): void {
    this.start = from.start;
    this.size = from.size;
    this.flags = from.flags;
  }

  /** Whether a stack pointer lies on it, whatever the flags. */
  covers(sp: number): boolean {
    return sp > this.start && sp - this.start <= this.size;
  }

  /** on_sig_stack: SS_AUTODISARM means that nobody is ever known to be on it. */
  inUse(sp: number): boolean {
    return (this.flags & SS_AUTODISARM) === 0 && this.covers(sp);
  }

  /** sas_ss_flags: SS_DISABLE, SS_ONSTACK or 0. */
  state(sp: number): number {
    if (this.size === 0) return SS_DISABLE;
    return this.inUse(sp) ? SS_ONSTACK : 0;
  }
}

/** Signals of one thread. */
export class TaskSignals {
  blocked = new SignalSet();
  /** The mask to come back to after a call that waited under another one (rt_sigsuspend, ppoll). */
  saved: SignalSet | undefined;
  /** The mask proper while rt_sigtimedwait lets some signals through to wake it. */
  waitedFor: SignalSet | undefined;
  readonly pending = new PendingSignals();
  readonly alt = new AltStack();
  /** Something is to be done before the thread goes on in its code (TIF_SIGPENDING). */
  attention = false;
  /** Vector, error code and CR2 of the last exception that became a signal; later frames show them too. */
  trapno = 0;
  errorCode = 0;
  cr2 = 0n;
  /** CS and SS a sigreturn asked for and the CPU refused, while the signal that says so is being delivered. */
  refused: { readonly cs: number; readonly ss: number } | undefined;
  /** Result of an interrupted call whose restart is decided once the thread goes on after a stop. */
  heldResult: number | undefined;
}

/** Signals of a whole process. */
export class ProcessSignals {
  hand = new SigHand();
  readonly pending = new PendingSignals();
  readonly timers = new ProcessTimers();
  /** Signal that is about to end it, 0 for none: it goes before all others. */
  fatal = 0;
  /** Signal that stopped it, 0 while it runs. */
  stoppedBy = 0;
  /** Stopped or continued, and no wait4 or waitid has told the parent's program yet. */
  stopUnreported = false;
  continueUnreported = false;
  /** Woken when it may go on after a stop. */
  readonly resumed = new WaitQueue();
  /** What its parent gets when it ends (the low byte of clone's flags); 0 for nothing. */
  exitSignal = 17;
}
