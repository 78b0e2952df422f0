/** `struct rt_sigframe` of x86-64 (arch/x86/include/asm/sigframe.h, uapi/asm/sigcontext.h and ucontext.h). */
import { type Cpu, Reg } from "../../../emulator/cpu.ts";
import { MemoryFault } from "../../../emulator/errors.ts";
import { Flag } from "../../../emulator/x86.ts";
import { x86_64 } from "../abi.ts";
import type { Task } from "../task.ts";
import { extendedFlag, restoreFpu } from "./fpstate.ts";
import type { FrameForm, FramePlace, Interrupted } from "./frame.ts";
import { SaFlag } from "./numbers.ts";
import { flatDataSelector, loadSelectors, type RefusedSelector, wideCodeSelector } from "./segments.ts";
import { SIGINFO_BYTES } from "./siginfo.ts";
import { SignalSet } from "./signal-set.ts";

/** Offsets in the frame. */
const At = { ucFlags: 8, stack: 24, context: 48, sigmask: 304, info: 312, end: 440 } as const;
/** Offsets in `struct sigcontext`; the general registers come before, in this order. */
const Context = {
  flags: 136,
  cs: 144,
  ss: 150,
  err: 152,
  trapno: 160,
  oldmask: 168,
  cr2: 176,
  fpstate: 184,
  reserved: 192,
} as const;
const REGISTERS: readonly number[] = [
  Reg.r8,
  Reg.r9,
  Reg.r10,
  Reg.r11,
  Reg.r12,
  Reg.r13,
  Reg.r14,
  Reg.r15,
  Reg.rdi,
  Reg.rsi,
  Reg.rbp,
  Reg.rbx,
  Reg.rdx,
  Reg.rax,
  Reg.rcx,
  Reg.rsp,
  Reg.rip,
];
const UC_SIGCONTEXT_SS = 2;
const UC_STRICT_RESTORE_SS = 4;
const TWO_32 = 2 ** 32;

/** Bits of RFLAGS that sigreturn takes from the frame (FIX_EFLAGS). */
const FIX_EFLAGS = 0x50dd5;

function setWide(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value, true);
  view.setUint32(offset + 4, Math.floor(value / TWO_32), true);
}

/** RFLAGS after sigreturn. RF would only tell this CPU not to look at breakpoints, of which it has none. */
export function restoredFlags(cpu: Cpu, saved: number): number {
  return (cpu.regLow(Reg.rflags) & ~FIX_EFLAGS) | (saved & FIX_EFLAGS & ~Flag.RF);
}

export const pushWideFrame: FrameForm = {
  bytes: At.end,

  write(task: Task, place: FramePlace, interrupted: Interrupted): void {
    const { cpu, memory, signals } = task;
    const { frame } = place;
    const { frame: bytes, view } = task.kernel.signals.state.scratch;
    // Not the CPU's own: a CS that it refuses is in the frame only.
    const wide = interrupted.cs === wideCodeSelector;
    bytes.fill(0);
    setWide(view, 0, interrupted.action.restorer);
    view.setUint32(At.ucFlags, extendedFlag(task) | UC_SIGCONTEXT_SS | (wide ? UC_STRICT_RESTORE_SS : 0), true);
    setWide(view, At.stack, signals.alt.start);
    view.setUint32(At.stack + 8, signals.alt.flags, true);
    setWide(view, At.stack + 16, signals.alt.size);
    const c = At.context;
    const { words } = cpu;
    for (let index = 0; index < 2 * REGISTERS.length; index++) {
      const word = 2 * (REGISTERS[index >> 1] ?? 0) + (index & 1);
      view.setUint32(c + 4 * index, words[word] ?? 0, true);
    }
    view.setUint32(c + Context.flags, interrupted.flags, true);
    view.setUint16(c + Context.cs, interrupted.cs, true);
    view.setUint16(c + Context.ss, interrupted.ss, true);
    setWide(view, c + Context.err, signals.errorCode);
    setWide(view, c + Context.trapno, signals.trapno);
    view.setInt32(c + Context.oldmask, interrupted.mask.lo, true);
    view.setInt32(c + Context.oldmask + 4, interrupted.mask.hi, true);
    view.setBigUint64(c + Context.cr2, signals.cr2, true);
    setWide(view, c + Context.fpstate, place.fpu);
    view.setInt32(At.sigmask, interrupted.mask.lo, true);
    view.setInt32(At.sigmask + 4, interrupted.mask.hi, true);
    // The padding of stack_t and the reserved words of sigcontext are not written.
    memory.write(frame, bytes.subarray(0, At.stack + 12));
    memory.write(frame + At.stack + 16, bytes.subarray(At.stack + 16, c + Context.reserved));
    memory.write(frame + At.sigmask, bytes.subarray(At.sigmask, At.info));
    if (interrupted.action.flags & SaFlag.SA_SIGINFO) {
      memory.write(frame + At.info, interrupted.info.image(x86_64).subarray(0, SIGINFO_BYTES));
    }
  },

  setRegisters(task: Task, frame: number, signal: number): void {
    const { cpu } = task;
    cpu.setReg(Reg.rdi, signal);
    // For handlers that were declared without a prototype.
    cpu.setReg(Reg.rax, 0);
    cpu.setReg(Reg.rsi, frame + At.info);
    cpu.setReg(Reg.rdx, frame + At.ucFlags);
    cpu.setReg(Reg.rsp, frame);
  },
};

/** What sigreturn found in a frame. */
export interface Returned {
  /** The frame, for a report. */
  readonly frame: number;
  /** False where Linux would send SIGSEGV (badframe). */
  readonly good: boolean;
  /** CS or SS that the CPU refuses, and the exception this raises. */
  readonly refused?: { readonly cs: number; readonly ss: number; readonly by: RefusedSelector };
}

/** Parts of a frame that are restored outside: they belong to the thread, not to the CPU. */
export interface FrameTargets {
  setMask(mask: SignalSet): void;
  setStack(start: number, flags: number, size: number): void;
}

/** rt_sigreturn of x86-64. The registers are those of the interrupted code afterwards. */
export function popWideFrame(task: Task, targets: FrameTargets): Returned {
  const { cpu, memory } = task;
  const frame = cpu.reg(Reg.rsp) - 8;
  try {
    const { frame: bytes, view } = task.kernel.signals.state.scratch;
    memory.read(frame + At.ucFlags, bytes.subarray(At.ucFlags));
    const ucFlags = view.getUint32(At.ucFlags, true);
    targets.setMask(new SignalSet(view.getInt32(At.sigmask, true), view.getInt32(At.sigmask + 4, true)));
    const c = At.context;
    const { words } = cpu;
    for (let index = 0; index < 2 * REGISTERS.length; index++)
      words[2 * (REGISTERS[index >> 1] ?? 0) + (index & 1)] = view.getUint32(c + 4 * index, true);
    cpu.setReg(Reg.rflags, restoredFlags(cpu, view.getUint32(c + Context.flags, true)));
    const cs = view.getUint16(c + Context.cs, true) | 3;
    let ss = view.getUint16(c + Context.ss, true) | 3;
    let by = loadSelectors(task, { cs, ss }, "rt_sigreturn");
    if (by !== undefined && !(ucFlags & UC_STRICT_RESTORE_SS) && cs === wideCodeSelector) {
      // force_valid_ss, for programs that know nothing of SS in frames.
      ss = flatDataSelector;
      by = loadSelectors(task, { cs, ss }, "rt_sigreturn");
    }
    if (by === "denied") return { frame, good: false };
    // IRET leaves of it what code of 32 bits can see.
    if (by === undefined && cs !== wideCodeSelector) words[2 * Reg.rsp + 1] = 0;
    const fpu = view.getUint32(c + Context.fpstate, true) + view.getUint32(c + Context.fpstate + 4, true) * TWO_32;
    if (!restoreFpu(task, fpu, false)) return { frame, good: false };
    const s = At.stack;
    const wide = (offset: number): number => view.getUint32(offset, true) + view.getUint32(offset + 4, true) * TWO_32;
    targets.setStack(wide(s), view.getUint32(s + 8, true), wide(s + 16));
    return by === undefined ? { frame, good: true } : { frame, good: true, refused: { cs, ss, by } };
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
    return { frame, good: false };
  }
}
