/** Syscall User Dispatch: calls from outside a range of code become SIGSYS (Documentation/admin-guide/syscall-user-dispatch.rst). */
import { Reg } from "../../emulator/cpu.ts";
import { MemoryFault } from "../../emulator/errors.ts";
import { i386, x86_64 } from "./abi.ts";
import { auditArch } from "./audit-arch.ts";
import { Errno } from "./errno.ts";
import { Work } from "./ptrace/numbers.ts";
import { SiCode, Signal } from "./signals/numbers.ts";
import { forceSignal } from "./signals/send.ts";
import { SigInfo } from "./signals/siginfo.ts";
import type { Task } from "./task.ts";

/** PR_SYS_DISPATCH_* (uapi/linux/prctl.h). */
const Mode = { off: 0, exclusive: 1, inclusive: 2 } as const;
/** SYSCALL_DISPATCH_FILTER_*. */
const Filter = { allow: 0, block: 1 } as const;
const WORD_END = 2 ** 64;
/** Bytes of the vDSO's __kernel_sigreturn and __kernel_rt_sigreturn up to behind their `int 0x80`. */
const SIGRETURN_BYTES = 8;
const RT_SIGRETURN_BYTES = 7;

export interface UserDispatch {
  /** Code whose calls are made directly, or with `inclusive` the only code whose calls are not. */
  readonly start: number;
  readonly end: number;
  readonly inclusive: boolean;
  /** Address of the byte that says whether calls are dispatched now; 0 when they always are. */
  readonly selector: number;
}

/** PR_SET_SYSCALL_USER_DISPATCH. */
export function setUserDispatch(task: Task, mode: number, offset: number, length: number, selector: number): number {
  const end = offset + length;
  switch (mode) {
    case Mode.off:
      if (offset !== 0 || length !== 0 || selector !== 0) return task.fail(Errno.EINVAL, "it is turned off by zeroes");
      clearUserDispatch(task);
      return 0;
    case Mode.exclusive:
      if (offset !== 0 && (length === 0 || end >= WORD_END)) return task.fail(Errno.EINVAL, "not a range");
      break;
    case Mode.inclusive:
      if (length === 0 || end >= WORD_END) return task.fail(Errno.EINVAL, "not a range");
      break;
    default:
      return task.fail(Errno.EINVAL, "no such mode");
  }
  // The check is the same for programs of 32 bits.
  if (selector > x86_64.userEnd) return task.fail(Errno.EFAULT, "the selector lies outside user space");
  task.userDispatch = { start: offset, end, inclusive: mode === Mode.inclusive, selector };
  task.work |= Work.dispatch;
  return 0;
}

/** A new thread and a new program begin without it. */
export function clearUserDispatch(task: Task): void {
  task.userDispatch = undefined;
  task.work &= ~Work.dispatch;
}

function returnsFromSignal(task: Task, at: number): boolean {
  const { vdsoSigreturn, vdsoRtSigreturn } = task.process.mm;
  if (task.abi !== i386 || vdsoSigreturn === 0) return false;
  return at === vdsoSigreturn + SIGRETURN_BYTES || at === vdsoRtSigreturn + RT_SIGRETURN_BYTES;
}

/**
 * Before a call of the task in the CPU. True when it is not made: then a signal tells of it (kernel/entry/syscall_user_dispatch.c).
 */
export function isDispatched(task: Task): boolean {
  const { userDispatch } = task;
  if (userDispatch === undefined) return false;
  const { start, end, inclusive, selector } = userDispatch;
  const { cpu } = task;
  const at = cpu.reg(Reg.rip);
  if ((at >= start && at < end) !== inclusive || returnsFromSignal(task, at)) return false;
  if (selector !== 0) {
    let filter: number;
    try {
      filter = task.memory.u8(selector);
    } catch (error) {
      if (!(error instanceof MemoryFault)) throw error;
      forceSignal(task, SigInfo.sent(Signal.SIGSEGV, SiCode.SI_KERNEL, 0, 0), true);
      return true;
    }
    if (filter === Filter.allow) return false;
    if (filter !== Filter.block) {
      forceSignal(task, SigInfo.sent(Signal.SIGSYS, SiCode.SI_KERNEL, 0, 0), true);
      return true;
    }
  }
  const { abi, callNumber } = task;
  const info = SigInfo.call(SiCode.SYS_USER_DISPATCH, cpu.regBig(Reg.rip), callNumber, auditArch(abi));
  forceSignal(task, info);
  return true;
}
