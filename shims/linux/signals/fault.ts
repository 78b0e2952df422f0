/** CPU exceptions as signals: number, si_code, si_addr, trap number and error code (arch/x86/kernel/traps.c, mm/fault.c). */
import { Reg } from "../../../emulator/cpu.ts";
import { Flag, Vector } from "../../../emulator/x86.ts";
import { x86_64 } from "../abi.ts";
import { DebugRegisters } from "../ptrace/debug-registers.ts";
import type { Task } from "../task.ts";
import { SiCode, Signal } from "./numbers.ts";
import { SigInfo } from "./siginfo.ts";
import type { Fault } from "./signal-port.ts";

/** Vectors whose exceptions are traps: RIP is past the instruction, and RF is not set. */
const TRAPS: ReadonlySet<number> = new Set([Vector.DB, Vector.BP, Vector.OF]);
const PF_PROT = 1;
const DR6_STEP = 0x4000;
const MXCSR_AT = 24;

/** True when the instruction at RIP is the one that failed. */
export function isFaultClass(fault: Fault): boolean {
  return !TRAPS.has(fault.vector);
}

/** fpu__exception_code: which of the unmasked floating-point exceptions is told. 0 when there is none after all. */
function floatCode(task: Task, vector: number): number {
  const image = task.cpu.fxsave();
  const view = new DataView(image.buffer, image.byteOffset);
  let raised: number;
  if (vector === Vector.MF) raised = view.getUint16(2, true) & ~view.getUint16(0, true);
  else {
    const mxcsr = view.getUint32(MXCSR_AT, true);
    raised = mxcsr & ~(mxcsr >> 7);
  }
  if (raised & 1) return SiCode.FPE_FLTINV;
  if (raised & 4) return SiCode.FPE_FLTDIV;
  if (raised & 8) return SiCode.FPE_FLTOVF;
  if (raised & 0x12) return SiCode.FPE_FLTUND;
  return raised & 0x20 ? SiCode.FPE_FLTRES : 0;
}

/** A single step, a breakpoint of the debug registers, or `int1` (exc_debug_user). */
function debugTrap(task: Task, pc: bigint): SigInfo {
  const { cpu } = task;
  const causes = cpu.stopDebug;
  if (task.tracee !== undefined || task.debug !== undefined) {
    task.debug ??= new DebugRegisters();
    task.debug.status = BigInt(causes);
    // The instruction has not run, and is to run next.
    if (task.debug.executes(causes)) cpu.setReg(Reg.rflags, cpu.regLow(Reg.rflags) | Flag.RF);
  }
  const code = causes & DR6_STEP ? SiCode.TRAP_TRACE : causes !== 0 ? SiCode.TRAP_HWBKPT : SiCode.TRAP_BRKPT;
  return SigInfo.fault(Signal.SIGTRAP, code, pc);
}

/** SIGSEGV and SIGBUS without more to tell. */
function plain(signal: number): SigInfo {
  return SigInfo.sent(signal, SiCode.SI_KERNEL, 0, 0);
}

/**
 * The signal for an exception of the task in the CPU, which remembers trap number, error code and CR2 for its frames. Undefined when
 * Linux sends none.
 */
export function signalForFault(task: Task, fault: Fault): SigInfo | undefined {
  const { signals, cpu } = task;
  const { vector, errorCode } = fault;
  const pc = cpu.regBig(Reg.rip);
  signals.trapno = vector;
  signals.errorCode = errorCode;
  switch (vector) {
    case Vector.DE:
      return SigInfo.fault(Signal.SIGFPE, SiCode.FPE_INTDIV, pc);
    case Vector.DB:
      return debugTrap(task, pc);
    case Vector.BP:
      return plain(Signal.SIGTRAP);
    case Vector.UD:
      return SigInfo.fault(Signal.SIGILL, SiCode.ILL_ILLOPN, pc);
    case Vector.NP:
    case Vector.SS:
      return plain(Signal.SIGBUS);
    case Vector.PF:
      return pageFault(task, fault);
    case Vector.MF:
    case Vector.XM: {
      signals.errorCode = 0;
      const code = floatCode(task, vector);
      return code === 0 ? undefined : SigInfo.fault(Signal.SIGFPE, code, pc);
    }
    case Vector.AC:
      return SigInfo.fault(Signal.SIGBUS, SiCode.BUS_ADRALN, 0n);
    default:
      return plain(Signal.SIGSEGV);
  }
}

function isAbsent(task: Task, address: number): boolean {
  const { space } = task.process;
  return !space.isResident(address) || space.regionAt(address)?.prot === 0;
}

function pageFault(task: Task, fault: Fault): SigInfo {
  const { signals } = task;
  const { page } = fault;
  const address = fault.exactAddress ?? BigInt(fault.address);
  signals.cr2 = address;
  // Linux does not let a program learn what of the kernel's half is mapped.
  if (fault.address >= x86_64.userEnd) signals.errorCode |= PF_PROT;
  // The CPU finds nothing present where no page was made yet, and at PROT_NONE, which Linux writes as an absent page.
  else if (page === "protection" && isAbsent(task, fault.address)) signals.errorCode &= ~PF_PROT;
  if (page === "bus") return SigInfo.fault(Signal.SIGBUS, SiCode.BUS_ADRERR, address);
  if (page === "memory") return plain(Signal.SIGKILL);
  return SigInfo.fault(Signal.SIGSEGV, page === "protection" ? SiCode.SEGV_ACCERR : SiCode.SEGV_MAPERR, address);
}
