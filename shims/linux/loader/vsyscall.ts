/**
 * The vsyscall page of x86-64: three calls at fixed addresses that can only be executed, and that the kernel answers when the fetch
 * faults (arch/x86/entry/vsyscall, vsyscall=xonly).
 */
import { Reg } from "../../../emulator/cpu.ts";
import { MemoryFault } from "../../../emulator/errors.ts";
import type { Dispatcher } from "../dispatch.ts";
import { Errno } from "../errno.ts";
import { SiCode, Signal } from "../signals/numbers.ts";
import { forceSignal } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import type { Task } from "../task.ts";

const PAGE_START = 0xffff_ffff_ff60_0000n;
/** gettimeofday, time, getcpu, 1024 bytes apart. */
const CALLS: Readonly<Record<number, number>> = { 0: 96, 1024: 201, 2048: 309 };

/** What /proc/[pid]/maps says of it. */
export const VSYSCALL_LINE = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

/** Answers a fetch from the page as a call of one of its functions. False where there is none. */
export function emulateVsyscall(task: Task, address: bigint, dispatcher: Dispatcher): boolean {
  const number = CALLS[Number(address - PAGE_START)];
  if (number === undefined || !task.cpu.wide) return false;
  const { cpu } = task;
  const sp = cpu.reg(Reg.rsp);
  try {
    const caller = task.memory.u64(sp);
    cpu.setRegBig(Reg.rip, caller);
    cpu.setReg(Reg.rsp, sp + 8);
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
    refuse(task);
    return true;
  }
  cpu.setReg(Reg.rax, number);
  dispatcher.syscall(task);
  // There is nobody to tell of an error: a bad pointer is one as in code of the program's own.
  if (!task.dead && cpu.regSigned(Reg.rax) === -Errno.EFAULT) refuse(task);
  return true;
}

function refuse(task: Task): void {
  forceSignal(task, SigInfo.sent(Signal.SIGSEGV, SiCode.SI_KERNEL, 0, 0));
  task.kernel.signals.deliver(task, undefined);
}
