/** System calls of tasks that are watched: by a tracer, or by a filter (syscall_trace_enter in kernel/entry/common.c). */
import { Reg } from "../../../emulator/cpu.ts";
import { Errno } from "../errno.ts";
import { judge } from "../seccomp/judge.ts";
import { SiCode, Signal } from "../signals/numbers.ts";
import { forceSignal } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import type { Task } from "../task.ts";
import { Work } from "./numbers.ts";
import { stopAtCall } from "./stops.ts";
import { SyscallMessage } from "./tracee.ts";

/**
 * Before a call: stops, and asks the filters.
 * @param goOn carries out the call with the number given; without one there is nothing to carry out
 */
export function beforeCall(task: Task, goOn: (number: number | undefined) => void): void {
  const { tracee, work, cpu } = task;
  cpu.setReg(Reg.rax, -Errno.ENOSYS);
  if (tracee === undefined || (work & (Work.trace | Work.emulate)) === 0) {
    judge(task, task.callNumber, goOn);
    return;
  }
  tracee.orig = task.callNumber | 0;
  stopAtCall(tracee, SyscallMessage.entry, () => {
    const wanted = tracee.orig | 0;
    task.callNumber = wanted >>> 0;
    if (wanted === -1 || (work & Work.emulate) !== 0 || task.process.signals.fatal !== 0) goOn(undefined);
    else judge(task, wanted >>> 0, goOn);
  });
}

/** After a call, whose result is in its register: stops. False where there is nothing to stop for. */
export function afterCall(task: Task, orig: number, goOn: () => void): boolean {
  const { tracee, work, cpu } = task;
  if (tracee === undefined) return false;
  tracee.orig = orig;
  const stepped = (work & (Work.step | Work.emulate)) === Work.step;
  if (stepped) {
    // Reported as a signal is: user_single_step_report.
    task.signals.trapno = 1;
    task.signals.errorCode = 0;
    forceSignal(task, SigInfo.fault(Signal.SIGTRAP, SiCode.TRAP_BRKPT, cpu.regBig(Reg.rip)));
    return false;
  }
  if ((work & Work.trace) === 0) return false;
  stopAtCall(tracee, SyscallMessage.exit, goOn);
  return true;
}
