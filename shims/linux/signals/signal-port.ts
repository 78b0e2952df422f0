/** What the framework asks of the signal code. */

import type { Process, Task } from "../task.ts";
import type { KernelSignals } from "./kernel.ts";

/** A CPU exception of the guest, as the engine saw it. */
export interface Fault {
  /** x86 vector: 0 #DE, 1 #DB, 3 #BP, 4 #OF, 5 #BR, 6 #UD, 11 #NP, 12 #SS, 13 #GP, 14 #PF, 16 #MF, 17 #AC, 19 #XM. */
  readonly vector: number;
  readonly errorCode: number;
  /** CR2 of a page fault; 0 otherwise. */
  readonly address: number;
  /** The same, also where a number rounds (the kernel's half); `address` is exact where this is left out. */
  readonly exactAddress?: bigint;
  readonly access: "read" | "write" | "fetch";
  /** By `int n`, `int3` or `into`: RIP is behind the instruction. */
  readonly software: boolean;
  /**
   * For a page fault: no mapping; one that forbids the access; a file that ends before (SIGBUS); no memory left (Linux's
   * out-of-memory killer sends SIGKILL).
   */
  readonly page: "unmapped" | "protection" | "bus" | "memory" | undefined;
}

export interface SignalPort {
  /** Queue counts and timers of the whole run. */
  readonly state: KernelSignals;
  /** Turns an exception of `task` (the current one) into a signal for it: a handler is set up, or the process ends. */
  raiseFault(task: Task, fault: Fault): void;
  /** Sends `task` a signal that a call of its own causes: SIGPIPE, SIGXFSZ. It is delivered when the call is over. */
  send(task: Task, signal: number): void;
  /** What the kernel keeps for its guests takes more than there is: `task` is killed, and the user told. */
  killForMemory(task: Task): void;
  /** True when a signal waits for `task` that a blocked call must be interrupted for. */
  interrupts(task: Task): boolean;
  /**
   * Before `task` (the current one) goes back to its code: sets up the frame of a waiting signal or ends the process. Also decides what
   * becomes of a result -ERESTARTSYS and its kin. Called only when `interrupts` says so or such a result was given.
   */
  deliver(task: Task, result: number | undefined): void;
  /**
   * A process ended: its timers stop, and its parent, if it has one, gets SIGCHLD. Where the parent does not care for its children the
   * process leaves no zombie.
   */
  childEnded(process: Process): void;
  /** `task` is about to run another program: handlers go back to their default, the alternate stack goes. */
  execed(task: Task): void;
  /** Next monotonic time (ns) at which a timer of any process fires; Infinity for none. */
  nextTimer(): number;
  /** Fires the timers that are due. */
  runTimers(now: number): void;
}
