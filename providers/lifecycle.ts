import { UserError } from "../emulator/errors.ts";

/**
 * Why a guest thread is out of the guest. `switch`: another thread gets the CPU; `vtl`: the machine goes to the normal world and
 * back (Hyper-V's virtual trust levels).
 */
export type LeaveReason = "syscall" | "exception" | "interrupt" | "switch" | "vtl";

/**
 * What the run loop of a shim tells a platform about guest threads. Between `leaveGuest` and `enterGuest` the CPU is in the
 * platform's hands: FS and GS may hold the host's own thread-local storage, and the guest's state is what the provider's
 * `guestCpu` shows. In every call the CPU is in the context of the thread named first.
 *
 * A provider without one (`direct`) costs a run loop one comparison with undefined.
 */
export interface Lifecycle {
  /** The guest is about to run. Nothing happens where the thread is in the guest already. */
  enterGuest(thread: number): void;
  /**
   * It has stopped. Page faults that only the address space answers do not count. Nothing happens where the thread is out of the
   * guest already, except that `vtl` always crosses.
   */
  leaveGuest(thread: number, reason: LeaveReason): void;
  /**
   * The host took the CPU from the thread, while in the guest, and gave it back; the shim does not notice. On Windows this
   * zeroes FS base.
   */
  rescheduled(thread: number): void;
  /**
   * True when an exception is the platform's own doing and repaired: the guest is to run the instruction again. To be asked
   * after `leaveGuest(thread, "exception")`, and for page faults only where the address space has no answer.
   */
  retries(thread: number, vector: number): boolean;
  /**
   * A new thread (or a forked process' first), before its TLS is set: the CPU holds the child's context, copied from the
   * parent's while the parent was out of the guest. `setsTls` says that the clone has CLONE_SETTLS.
   */
  threadStart(thread: number, parent: number | undefined, setsTls: boolean): void;
  threadExit(thread: number): void;
  /**
   * The shim has put registers of its own making into the CPU, segment bases included, to enter the guest with them: the platform
   * takes the CPU as it would have it out of the guest.
   */
  attach(thread: number): void;
  /** The thread executes another program, after the request `ClearTls`. It may get another id by that. */
  exec(thread: number, was: number): void;
  /** A handler's frame has been made; `enterGuest` starts the handler. */
  signal(thread: number): void;
  /** The frame's registers and selectors are back in place. */
  sigreturn(thread: number): void;
}

/**
 * The host code of a platform would fail here: a panic or a fault of LiteBox' runner, which no guest ever sees as an errno. It
 * ends the run.
 */
export class HostPanic extends UserError {
  constructor(provider: string, message: string) {
    super(`provider ${provider}: the host fails: ${message}`, 125);
  }
}
