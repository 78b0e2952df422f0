/** What happens to signals before a thread goes back to its code (get_signal, arch_do_signal_or_restart, handle_signal). */
import { Reg } from "../../../emulator/cpu.ts";
import { x86_64 } from "../abi.ts";
import { Errno } from "../errno.ts";
import { exitProcess } from "../process/exit.ts";
import { Resource } from "../process/limits.ts";
import { disableStep, stopForSignal, stopForTrap, stopInHandler } from "../ptrace/stops.ts";
import type { Process, Task } from "../task.ts";
import { abortCriticalSection } from "../thread/rseq.ts";
import { Wait } from "../wait.ts";
import { enterSignalHandler } from "./frame.ts";
import { signalText } from "./kinds.ts";
import { defaultAction, SaFlag, SIG_DFL, SIG_IGN, SiCode, Signal, signalName } from "./numbers.ts";
import { forceSignal, recalculate, setBlocked, stopProcess } from "./send.ts";
import { SigInfo } from "./siginfo.ts";
import { type Action, SS_AUTODISARM } from "./state.ts";
import { takeSignal } from "./take.ts";

/** `syscall`, `int 0x80`, and the instruction at the vDSO's landing pad for `sysenter` all have two bytes. */
const TRAP_BYTES = 2;
const RESTART_SYSCALL = { x86_64: 219, i386: 0 } as const;
/** A core file is written only where RLIMIT_CORE has room for its head (ELF_EXEC_PAGESIZE). */
const MIN_CORE = 4096;

/** Tells of an end that the guest's user should understand. */
export type Complain = (task: Task, lines: readonly string[]) => void;

/**
 * Takes all signals that wait for the task in the CPU: sets up handlers, stops or ends the process.
 * @param result of the call that was interrupted; undefined when there was none
 * @param fault the first signal is for a fault of the current instruction
 */
export function deliverSignals(task: Task, result: number | undefined, complain: Complain, fault = false): void {
  const { signals: own, process } = task;
  const shared = process.signals;
  let outcome = result ?? own.heldResult;
  own.heldResult = undefined;
  let faulted = fault;
  while (!task.dead && task.wait === undefined) {
    if (shared.fatal !== 0) {
      tellFatal(task, shared.fatal);
      exitProcess(process, { kind: "killed", signal: shared.fatal });
      return;
    }
    const { tracee } = task;
    if (tracee === undefined ? shared.stoppedBy !== 0 : tracee.trapped) {
      if (tracee !== undefined) stopForTrap(tracee, outcome);
      else {
        own.heldResult = outcome;
        pause(task);
      }
      return;
    }
    let info = tracee?.injected;
    if (tracee !== undefined && info !== undefined) tracee.injected = undefined;
    else {
      info = takeSignal(task);
      if (info === undefined) break;
      task.kernel.tracer?.signal(task, signalText(info));
      if (tracee !== undefined && info.signal !== Signal.SIGKILL && info.signal !== tracee.untold) {
        stopForSignal(tracee, info, outcome);
        return;
      }
    }
    const { signal } = info;
    const action = shared.hand.get(signal);
    if (action.handler === SIG_IGN) continue;
    if (action.handler !== SIG_DFL) {
      if (outcome !== undefined) restartAround(task, outcome, action);
      outcome = undefined;
      const stepping = tracee?.stepping === true;
      if (tracee !== undefined && stepping) disableStep(tracee);
      const entered = handle(task, info, action, complain, faulted);
      faulted = false;
      if (tracee !== undefined && stepping && entered) {
        stopInHandler(tracee);
        return;
      }
      continue;
    }
    byDefault(task, signal);
  }
  if (task.dead || task.wait !== undefined) return;
  recalculate(task);
  if (outcome !== undefined) restart(task, outcome);
  if (own.saved !== undefined) {
    const { saved } = own;
    own.saved = undefined;
    setBlocked(task, saved);
  }
}

/** What ends a process at once is never taken; SIGKILL ends it before a tracer sees it. */
function tellFatal(task: Task, signal: number): void {
  const { tracer } = task.kernel;
  if (tracer === undefined || signal === Signal.SIGKILL) return;
  const { pending } = task.process.signals;
  const info = task.signals.pending.first(signal) ?? pending.first(signal);
  tracer.signal(task, signalText(info ?? SigInfo.sent(signal, SiCode.SI_USER, 0, 0)));
}

function byDefault(task: Task, signal: number): void {
  const { process } = task;
  const action = defaultAction(signal);
  if (action === "ignore") return;
  if (action === "stop") {
    if (signal === Signal.SIGSTOP || !isOrphaned(process)) stopProcess(process, signal);
    return;
  }
  const core = action === "core" && process.dumpable && process.limits.soft(Resource.RLIMIT_CORE) >= MIN_CORE;
  exitProcess(process, { kind: "killed", signal, core });
}

/**
 * True when no process outside the group, but in the session, could continue it again (is_current_pgrp_orphaned). The first process
 * of the run is taken for one a shell started.
 */
export function isOrphaned(process: Process): boolean {
  const { kernel, pgid, sid } = process;
  for (const member of kernel.processes.values()) {
    if (member.pgid !== pgid || member.ended) continue;
    if (member === kernel.first) return false;
    const { parent } = member;
    if (parent !== undefined && parent.pgid !== pgid && parent.sid === sid) return false;
  }
  return true;
}

/** Parks the task until its process is continued or killed. */
function pause(task: Task): void {
  const { signals } = task.process;
  task.kernel.tracer?.signal(task, `stopped by ${signalName(signals.stoppedBy)}`);
  const attempt = (): number | undefined => (signals.stoppedBy === 0 || task.tracee !== undefined ? 0 : undefined);
  task.kernel.scheduler.park(task, new Wait({ queues: [signals.resumed], attempt, pause: true }));
}

/** A call that a handler interrupts: its result, or the call again after the handler. */
function restartAround(task: Task, result: number, action: Action): void {
  switch (result) {
    case -Errno.ERESTART_RESTARTBLOCK:
    case -Errno.ERESTARTNOHAND:
      task.cpu.setReg(Reg.rax, -Errno.EINTR);
      break;
    case -Errno.ERESTARTSYS:
      if (action.flags & SaFlag.SA_RESTART) again(task, task.callNumber);
      else task.cpu.setReg(Reg.rax, -Errno.EINTR);
      break;
    case -Errno.ERESTARTNOINTR:
      again(task, task.callNumber);
      break;
    default:
  }
}

/** A call that no handler interrupts is made again. */
function restart(task: Task, result: number): void {
  switch (result) {
    case -Errno.ERESTARTSYS:
    case -Errno.ERESTARTNOHAND:
    case -Errno.ERESTARTNOINTR:
      again(task, task.callNumber);
      break;
    case -Errno.ERESTART_RESTARTBLOCK:
      again(task, task.abi === x86_64 ? RESTART_SYSCALL.x86_64 : RESTART_SYSCALL.i386);
      break;
    default:
  }
}

function again(task: Task, number: number): void {
  const { cpu } = task;
  cpu.setReg(Reg.rax, number);
  cpu.setReg(Reg.rip, cpu.reg(Reg.rip) - TRAP_BYTES);
}

/** True when the handler has been entered. */
function handle(task: Task, info: SigInfo, action: Action, complain: Complain, fault: boolean): boolean {
  const { signals: own, process } = task;
  const { signal } = info;
  if (action.flags & SaFlag.SA_RESETHAND) process.signals.hand.reset(signal);
  abortCriticalSection(task, signal);
  const failure = enterSignalHandler(task, info, action, own.saved ?? own.blocked, fault);
  own.saved = undefined;
  if (failure !== undefined) {
    badFrame(task, signal, failure, complain);
    return false;
  }
  if (own.alt.flags & SS_AUTODISARM) own.alt.reset();
  const blocked = own.blocked.union(action.mask);
  if (!(action.flags & SaFlag.SA_NODEFER)) blocked.add(signal);
  setBlocked(task, blocked);
  return true;
}

/** force_sigsegv: a second failure, for SIGSEGV itself, cannot be handled. */
function badFrame(task: Task, signal: number, why: string, complain: Complain): void {
  const info = SigInfo.sent(Signal.SIGSEGV, SiCode.SI_KERNEL, 0, 0);
  const { hand } = task.process.signals;
  const fatal = signal === Signal.SIGSEGV;
  if (fatal || hand.get(Signal.SIGSEGV).handler === SIG_DFL) {
    complain(task, [`the handler of signal ${signal} could not be entered: ${why}`]);
  }
  forceSignal(task, info, fatal);
}
