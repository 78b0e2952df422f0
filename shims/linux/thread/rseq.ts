/** Restartable sequences (kernel/rseq.c): code that must not be torn apart starts anew when its thread was interrupted in it. */
import { Reg } from "../../../emulator/cpu.ts";
import { MemoryFault } from "../../../emulator/errors.ts";
import { SiCode, Signal } from "../signals/numbers.ts";
import { forceSignal } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import type { Task } from "../task.ts";

/** Where struct rseq keeps the address of its struct rseq_cs: version, flags, start_ip, post_commit_offset, abort_ip. */
const RSEQ_CS = 8;
const Cs = { version: 0, flags: 4, start_ip: 8, post_commit_offset: 16, abort_ip: 24 } as const;

/**
 * To be called before a thread that has been preempted, or is about to enter a signal handler, goes on: inside a critical section
 * it continues at the abort handler. A section that makes no sense gets SIGSEGV.
 * @param signal the one whose handler is about to be entered
 */
export function abortCriticalSection(task: Task, signal = 0): void {
  if (task.rseq === undefined) return;
  let sane = false;
  try {
    sane = fixUp(task, task.rseq.address, task.rseq.signature);
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
  }
  // A handler of SIGSEGV would meet the same section again.
  if (!sane) forceSignal(task, SigInfo.sent(Signal.SIGSEGV, SiCode.SI_KERNEL, 0, 0), signal === Signal.SIGSEGV);
}

/** False where Linux sends SIGSEGV. */
function fixUp(task: Task, area: number, signature: number): boolean {
  const { memory, cpu } = task;
  const section = memory.num64(area + RSEQ_CS);
  if (section === 0) return true;
  const { end } = task.process.space;
  if (section >= end) return false;
  const start = memory.num64(section + Cs.start_ip);
  const length = memory.num64(section + Cs.post_commit_offset);
  const abort = memory.num64(section + Cs.abort_ip);
  if (start >= end || start + length >= end || abort >= end || memory.u32(section + Cs.version) !== 0) return false;
  if (abort >= start && abort < start + length) return false;
  if (memory.u32(abort - 4) !== signature) return false;
  const pc = cpu.reg(Reg.rip);
  const inside = pc >= start && pc < start + length;
  if (inside && memory.u32(section + Cs.flags) !== 0) return false;
  memory.setNum64(area + RSEQ_CS, 0);
  if (inside) cpu.setReg(Reg.rip, abort);
  return true;
}
