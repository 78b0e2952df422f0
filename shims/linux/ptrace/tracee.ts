/** A thread that is traced, as ptrace(2) describes it: who traces it, what it is stopped for, how it goes on. */
import { SiCode } from "../signals/numbers.ts";
import type { SigInfo } from "../signals/siginfo.ts";
import type { ExitStatus, Task } from "../task.ts";
import { WaitQueue } from "../wait.ts";
import { type Event, Option, Work } from "./numbers.ts";

/** Tells of a stop that it is one at a system call (the second meaning of PTRACE_GETEVENTMSG). */
export const SyscallMessage = { entry: 1, exit: 2 } as const;

/** A stop in progress. */
export interface Stop {
  /** What PTRACE_GETSIGINFO shows; nothing in a group-stop of an attached thread. */
  info: SigInfo | undefined;
  /** How wait tells of it: the signal, and the event in the second byte. 0 once it has been told. */
  code: number;
  /** CLD_TRAPPED or CLD_STOPPED. */
  readonly why: number;
  /** In `seccomp` and system call stops: what the filter or the kernel says of it. */
  readonly seccompData?: number;
}

/** How a tracee goes on. */
export interface Going {
  readonly trace: boolean;
  readonly emulate: boolean;
  readonly step: boolean;
}

const FREELY: Going = { trace: false, emulate: false, step: false };

export class Tracee {
  readonly task: Task;
  tracer: Task;
  readonly seized: boolean;
  /** PTRACE_O_*. */
  options: number;
  /** PTRACE_GETEVENTMSG. */
  message = 0;
  /** Undefined while it runs. */
  stop: Stop | undefined;
  /** PTRACE_LISTEN: stopped, and to be told of only when something changes. */
  listening = false;
  /** Woken when it may go on. */
  readonly resumed = new WaitQueue();
  /** The signal its tracer gave when it let it go. */
  data = 0;
  /** A signal to be delivered without another stop. */
  injected: SigInfo | undefined;
  /** orig_rax while it is stopped: the number of the call it is in, -1 for none. */
  orig = -1;
  /** Group stop that it is to take part in: its signal. */
  stopPending = 0;
  /** It is to stop for PTRACE_INTERRUPT; for something that a seized one is told of. */
  trapStop = false;
  trapNotify = false;
  /** A signal that ends it without a stop, 0 for none. */
  untold = 0;
  /** It is being stepped through. */
  stepping = false;
  /** TF is set in its flags on the tracer's behalf. */
  forcedTf = false;
  /** It is in, or past, its PTRACE_EVENT_EXIT. */
  exiting = false;
  /** How it ended, from then until its tracer has been told. */
  zombie: ExitStatus | undefined;
  /** CS and SS that the CPU refused when they were poked; it will find out when it goes on. */
  refused:
    | { readonly cs: number; readonly ss: number; readonly vector: number; readonly errorCode: number }
    | undefined;

  constructor(task: Task, tracer: Task, seized: boolean, options: number) {
    this.task = task;
    this.tracer = tracer;
    this.seized = seized;
    this.options = options;
  }

  has(option: keyof typeof Option): boolean {
    return (this.options & Option[option]) !== 0;
  }

  wants(event: Event): boolean {
    return (this.options & (1 << event)) !== 0 && event <= 7;
  }

  /** It has something to stop for that is no signal (JOBCTL_TRAP_MASK, JOBCTL_STOP_PENDING). */
  get trapped(): boolean {
    return this.stopPending !== 0 || this.trapStop || this.trapNotify;
  }

  /** Its tracer may ask about it (ptrace_freeze_traced). */
  get isFrozen(): boolean {
    return this.stop !== undefined && !this.listening && this.zombie === undefined && !this.task.dead;
  }

  /** The parent's process traces it itself. */
  get byParent(): boolean {
    return this.task.process.parent === this.tracer.process;
  }

  /** Lets it go on with a signal. */
  resume(going: Going, data: number): void {
    const { task } = this;
    task.work =
      (task.work & (Work.seccomp | Work.dispatch)) |
      (going.trace ? Work.trace : 0) |
      (going.emulate ? Work.emulate : 0) |
      (going.step ? Work.step : 0);
    this.stepping = going.step;
    this.data = data;
    this.wake();
  }

  /** Ends its stop: by its tracer, or as it is killed. */
  wake(): void {
    this.stop = undefined;
    this.listening = false;
    this.resumed.wake();
  }

  /** It is killed, whatever it is stopped for. */
  killed(): void {
    if (this.stop === undefined) return;
    this.data = 0;
    this.wake();
  }

  /** Something about group stops has changed (ptrace_trap_notify). */
  notify(): void {
    if (!this.seized) return;
    this.trapNotify = true;
    if (this.listening) this.wake();
  }

  /** Nobody traces it any more. */
  release(data: number): void {
    this.resume(FREELY, data);
    this.task.tracee = undefined;
    this.tracer.tracees?.delete(this);
    const { process } = this.task;
    if (process.tracedLeader === this) process.tracedLeader = undefined;
  }
}

/** Makes a thread one's tracee. */
export function link(tracer: Task, task: Task, seized: boolean, options: number): Tracee {
  const tracee = new Tracee(task, tracer, seized, options);
  task.tracee = tracee;
  tracer.tracees ??= new Set();
  tracer.tracees.add(tracee);
  const { process } = task;
  if (task.tid === process.pid) process.tracedLeader = tracee;
  return tracee;
}

/** si_code and si_status of the SIGCHLD for an end. */
export function endCode(status: ExitStatus): { readonly code: number; readonly value: number } {
  if (status.kind === "exited") return { code: SiCode.CLD_EXITED, value: status.code };
  return { code: status.core ? SiCode.CLD_DUMPED : SiCode.CLD_KILLED, value: status.signal };
}

/** wait's word for an end. */
export function endWord(status: ExitStatus): number {
  const core = 0x80;
  if (status.kind === "exited") return status.code << 8;
  return status.signal | (status.core ? core : 0);
}
