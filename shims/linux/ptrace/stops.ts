/** How tracees stop and go on (ptrace_stop, ptrace_notify and do_jobctl_trap in kernel/signal.c). */
import { Reg } from "../../../emulator/cpu.ts";
import { MemoryFault } from "../../../emulator/errors.ts";
import { Flag, Vector } from "../../../emulator/x86.ts";
import { Errno } from "../errno.ts";
import { SaFlag, SIG_IGN, SiCode, Signal } from "../signals/numbers.ts";
import { childInfo, forceSignal, recalculate, sendToProcess, sendToTask } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import type { Task } from "../task.ts";
import { INSTRUCTION_PREFIXES } from "../thread/stepping.ts";
import { Wait, type WaitQueue } from "../wait.ts";
import { Event, Work } from "./numbers.ts";
import type { Stop, Tracee } from "./tracee.ts";

const CLD_TRAPPED = 4;
const TRAPS_GOOD = 0x80;
/** Codes of `popf`, and `iret`. */
const SETS_FLAGS: ReadonlySet<number> = new Set([0x9d, 0xcf]);
const LONGEST_INSTRUCTION = 15;

/** SIGCHLD to the tracer, and whoever waits for the tracee looks again (do_notify_parent_cldstop). */
function tellTracer(tracee: Tracee, code: number, status: number): void {
  const { process } = tracee.tracer;
  const { handler, flags } = process.signals.hand.get(Signal.SIGCHLD);
  if (handler !== SIG_IGN && (flags & SaFlag.SA_NOCLDSTOP) === 0) {
    const info = childInfo(tracee.task.process, Signal.SIGCHLD, code, status);
    info.pid = tracee.task.tid;
    sendToProcess(process, info);
  }
  process.childEvents.wake();
}

function begin(tracee: Tracee, stop: Stop): void {
  tracee.trapStop = false;
  if (stop.info !== undefined && stop.info.code >> 8 === Event.stop) tracee.trapNotify = false;
  tracee.data = 0;
  tracee.stop = stop;
  tellTracer(tracee, stop.why, stop.code & 0x7f);
}

/** One whose process is being killed stops no more, but for its exit. */
function isKilled(tracee: Tracee): boolean {
  return tracee.task.process.signals.fatal !== 0 && !tracee.exiting;
}

/**
 * Stops the task in the CPU, or one that is taken out of its call.
 * @param goOn what to do, with the task in the CPU, once its tracer lets it go with a signal or 0
 */
function stopTask(tracee: Tracee, stop: Stop, goOn: (data: number) => void): void {
  const { task } = tracee;
  if (isKilled(tracee)) {
    goOn(0);
    return;
  }
  begin(tracee, stop);
  task.kernel.scheduler.park(
    task,
    new Wait({
      queues: [tracee.resumed],
      attempt: () => (tracee.stop === undefined ? 0 : undefined),
      pause: true,
      goOn: () => {
        applyStepping(tracee);
        // Nothing that came meanwhile has drawn its attention.
        recalculate(task);
        goOn(tracee.data);
      },
    }),
  );
}

/** What ptrace_do_notify puts into siginfo. */
function notice(task: Task, signal: number, code: number): SigInfo {
  return SigInfo.sent(signal, code, task.tid, task.process.cred.ruid);
}

function eventStop(tracee: Tracee, event: Event, signal: number = Signal.SIGTRAP): Stop {
  const code = signal | (event << 8);
  const why = event === Event.stop ? SiCode.CLD_STOPPED : CLD_TRAPPED;
  return { info: notice(tracee.task, signal, code), code, why };
}

/** The result of the call it stopped in, which decides on a restart; undefined where it is in none (any more). */
function pendingResult({ orig, task }: Tracee): number | undefined {
  if (orig === -1) return undefined;
  task.callNumber = orig >>> 0;
  return task.abi.word === 8 ? task.cpu.regSigned(Reg.rax) : task.cpu.regLow(Reg.rax) | 0;
}

/** Signals again, after a stop among them. */
function deliverOn(tracee: Tracee): void {
  tellRefused(tracee);
  tracee.task.kernel.signals.deliver(tracee.task, pendingResult(tracee));
}

/** What was poked into CS or SS is found out to be wrong at the return to the program. */
function tellRefused(tracee: Tracee): void {
  const { refused, task } = tracee;
  if (refused === undefined) return;
  tracee.refused = undefined;
  task.signals.refused = { cs: refused.cs, ss: refused.ss };
  task.signals.trapno = refused.vector;
  task.signals.errorCode = refused.errorCode;
  const signal = refused.vector === Vector.GP ? Signal.SIGSEGV : Signal.SIGBUS;
  forceSignal(task, SigInfo.sent(signal, SiCode.SI_KERNEL, 0, 0));
}

/**
 * Signal-delivery-stop: the tracer decides what becomes of a signal that was taken.
 * @param result of the call that was interrupted, if one was
 */
export function stopForSignal(tracee: Tracee, info: SigInfo, result: number | undefined): void {
  const { task } = tracee;
  const stop: Stop = { info, code: info.signal, why: CLD_TRAPPED };
  tracee.orig = result === undefined ? -1 : task.callNumber | 0;
  stopTask(tracee, stop, (data) => {
    if (data !== 0) inject(tracee, data, stop.info ?? info);
    deliverOn(tracee);
  });
}

/** ptrace_signal: another signal than the one told of is from the tracer; one that is blocked by now waits. */
function inject(tracee: Tracee, signal: number, told: SigInfo): void {
  const { task, tracer } = tracee;
  let info = told;
  if (signal !== told.signal) info = SigInfo.sent(signal, SiCode.SI_USER, tracer.process.pid, tracer.process.cred.ruid);
  if (task.signals.blocked.has(signal)) sendToTask(task, info);
  else tracee.injected = info;
}

/** Group-stop, PTRACE_INTERRUPT, and what a seized tracee is told of. To be called where `tracee.trapped`. */
export function stopForTrap(tracee: Tracee, result: number | undefined): void {
  const { task } = tracee;
  const { stoppedBy } = task.process.signals;
  const signal = tracee.stopPending || stoppedBy;
  tracee.stopPending = 0;
  tracee.trapStop = false;
  tracee.orig = result === undefined ? -1 : task.callNumber | 0;
  if (tracee.seized) {
    const told = stoppedBy === 0 ? Signal.SIGTRAP : signal;
    stopTask(tracee, eventStop(tracee, Event.stop, told), () => deliverOn(tracee));
    return;
  }
  tracee.trapNotify = false;
  const stop: Stop = { info: undefined, code: signal || Signal.SIGSTOP, why: SiCode.CLD_STOPPED };
  stopTask(tracee, stop, () => deliverOn(tracee));
}

/** The stop at the first instruction of a handler that was stepped into. */
export function stopInHandler(tracee: Tracee): void {
  tracee.orig = -1;
  const stop: Stop = {
    info: notice(tracee.task, Signal.SIGTRAP, Signal.SIGTRAP),
    code: Signal.SIGTRAP,
    why: CLD_TRAPPED,
  };
  stopTask(tracee, stop, () => deliverOn(tracee));
}

/**
 * Syscall-stop.
 * @param message SyscallMessage
 */
export function stopAtCall(tracee: Tracee, message: number, goOn: () => void): void {
  const { task } = tracee;
  const code = Signal.SIGTRAP | (tracee.has("PTRACE_O_TRACESYSGOOD") ? TRAPS_GOOD : 0);
  tracee.message = message;
  const stop: Stop = { info: notice(task, Signal.SIGTRAP, code), code, why: CLD_TRAPPED };
  stopTask(tracee, stop, (data) => {
    if (data !== 0) sendToTask(task, SigInfo.sent(data, SiCode.SI_KERNEL, 0, 0));
    tellRefused(tracee);
    goOn();
  });
}

/** PTRACE_EVENT_SECCOMP. */
export function stopForFilter(tracee: Tracee, data: number, goOn: () => void): void {
  tracee.message = data;
  stopTask(tracee, { ...eventStop(tracee, Event.seccomp), seccompData: data }, goOn);
}

/** PTRACE_EVENT_EXIT of a task that may be waiting in a call. */
export function stopForExit(tracee: Tracee, word: number, goOn: () => void): void {
  const { task } = tracee;
  task.kernel.scheduler.unpark(task);
  tracee.exiting = true;
  tracee.message = word;
  stopTask(tracee, eventStop(tracee, Event.exit), goOn);
}

/**
 * A call that stops for events and then goes on: each step begins a stop, or waits for something, or ends the call.
 * @param next called again and again: true while there is nothing to do but wait; the result ends the call
 */
export function stopInCall(task: Task, queues: readonly WaitQueue[], next: () => number | true): Wait {
  const { tracee } = task;
  if (tracee !== undefined) {
    tracee.orig = task.callNumber | 0;
    task.cpu.setReg(Reg.rax, -Errno.ENOSYS);
  }
  const isStopped = (): boolean => task.tracee?.stop !== undefined;
  return new Wait({
    queues: tracee === undefined ? queues : [tracee.resumed, ...queues],
    attempt: () => {
      while (!isStopped()) {
        const result = next();
        if (result !== true) {
          if (task.tracee !== undefined) applyStepping(task.tracee);
          // Signals that came in a stop have woken nobody.
          recalculate(task);
          return result;
        }
        if (!isStopped()) return undefined;
      }
      return undefined;
    },
    interrupted: () => (task.process.signals.fatal === 0 || isStopped() ? undefined : -Errno.EINTR),
  });
}

/** Begins the stop for an event within `stopInCall`; nothing where it is not asked for. */
export function beginEvent(task: Task, event: Event, message: number): void {
  const { tracee } = task;
  if (tracee === undefined || !tracee.wants(event) || isKilled(tracee)) return;
  tracee.message = message;
  begin(tracee, eventStop(tracee, event));
}

/** TF in the flags of the task in the CPU (user_enable_single_step, user_disable_single_step). */
function applyStepping(tracee: Tracee): void {
  if (tracee.stepping) enableStep(tracee);
  else disableStep(tracee);
}

function enableStep(tracee: Tracee): void {
  const { cpu } = tracee.task;
  const flags = cpu.regLow(Reg.rflags);
  cpu.setReg(Reg.rflags, flags | Flag.TF);
  // The program's own TF, now or after the instruction, is not taken away again.
  if (setsTrapFlag(tracee.task)) tracee.forcedTf = false;
  else if ((flags & Flag.TF) === 0) tracee.forcedTf = true;
}

export function disableStep(tracee: Tracee): void {
  tracee.stepping = false;
  tracee.task.work &= ~Work.step;
  if (!tracee.forcedTf) return;
  tracee.forcedTf = false;
  const { cpu } = tracee.task;
  cpu.setReg(Reg.rflags, cpu.regLow(Reg.rflags) & ~Flag.TF);
}

function setsTrapFlag({ cpu, memory }: Task): boolean {
  const code = new Uint8Array(LONGEST_INSTRUCTION);
  try {
    memory.readSome(cpu.reg(Reg.rip), code);
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
    return false;
  }
  for (const byte of code) {
    if (SETS_FLAGS.has(byte)) return true;
    if (!INSTRUCTION_PREFIXES.has(byte) && !(cpu.wide && byte >= 0x40 && byte <= 0x4f)) return false;
  }
  return false;
}
