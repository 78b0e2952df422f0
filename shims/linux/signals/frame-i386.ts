/** Both frames of i386: `struct sigframe_ia32` and, with SA_SIGINFO, `struct rt_sigframe_ia32` (asm/sigframe.h). */
import { Reg } from "../../../emulator/cpu.ts";
import { MemoryFault } from "../../../emulator/errors.ts";
import { i386 } from "../abi.ts";
import type { Task } from "../task.ts";
import { extendedFlag, restoreFpu } from "./fpstate.ts";
import type { FrameForm, FramePlace, Interrupted } from "./frame.ts";
import { type FrameTargets, type Returned, restoredFlags } from "./frame-x86_64.ts";
import { SaFlag } from "./numbers.ts";
import { loadSelectors, userSelector } from "./segments.ts";
import { SignalSet } from "./signal-set.ts";

/** Offsets in the plain frame; an unused FPU area lies between context and extramask. */
const Plain = { signal: 4, context: 8, contextEnd: 96, extramask: 720, retcode: 724, end: 732 } as const;
/** Offsets in the frame with siginfo. */
const Info = {
  signal: 4,
  pinfo: 8,
  puc: 12,
  info: 16,
  ucFlags: 144,
  stack: 152,
  context: 164,
  sigmask: 252,
  retcode: 260,
  end: 268,
} as const;
/** Offsets in `struct sigcontext_32`. */
const Context = {
  gs: 0,
  fs: 4,
  es: 8,
  ds: 12,
  registers: 16,
  trapno: 48,
  err: 52,
  ip: 56,
  cs: 60,
  flags: 64,
  spAtSignal: 68,
  ss: 72,
  fpstate: 76,
  oldmask: 80,
  cr2: 84,
} as const;
const REGISTERS: readonly number[] = [Reg.rdi, Reg.rsi, Reg.rbp, Reg.rsp, Reg.rbx, Reg.rdx, Reg.rcx, Reg.rax];

/** `popl %eax; movl $__NR_sigreturn, %eax; int $0x80`: debuggers know frames by it. Stacks are not executable; it never runs. */
const RETCODE = Uint8Array.of(0x58, 0xb8, 119, 0, 0, 0, 0xcd, 0x80);
/** `movl $__NR_rt_sigreturn, %eax; int $0x80`, and a zero byte. */
const RT_RETCODE = Uint8Array.of(0xb8, 173, 0, 0, 0, 0xcd, 0x80, 0);

function writeContext(task: Task, view: DataView, at: number, place: FramePlace, interrupted: Interrupted): void {
  const { cpu, signals } = task;
  const guest = task.kernel.gate.guestCpu(task.tid);
  view.setUint32(at + Context.gs, guest.selector("gs"), true);
  view.setUint32(at + Context.fs, guest.selector("fs"), true);
  view.setUint32(at + Context.es, cpu.selector("es"), true);
  view.setUint32(at + Context.ds, cpu.selector("ds"), true);
  const { words } = cpu;
  for (let index = 0; index < REGISTERS.length; index++) {
    view.setUint32(at + Context.registers + 4 * index, words[2 * (REGISTERS[index] ?? 0)] ?? 0, true);
  }
  view.setUint32(at + Context.trapno, signals.trapno, true);
  view.setUint32(at + Context.err, signals.errorCode, true);
  view.setUint32(at + Context.ip, cpu.regLow(Reg.rip), true);
  view.setUint32(at + Context.cs, interrupted.cs, true);
  view.setUint32(at + Context.flags, interrupted.flags, true);
  view.setUint32(at + Context.spAtSignal, cpu.regLow(Reg.rsp), true);
  view.setUint32(at + Context.ss, interrupted.ss, true);
  view.setUint32(at + Context.fpstate, place.fpu, true);
  view.setInt32(at + Context.oldmask, interrupted.mask.lo, true);
  view.setUint32(at + Context.cr2, Number(signals.cr2 & 0xffff_ffffn), true);
}

/** Where the handler returns to: its restorer, the vDSO's stub, or the bytes in the frame where there is no vDSO. */
function restorer(interrupted: Interrupted, stub: number, retcode: number): number {
  const { flags, restorer: given } = interrupted.action;
  if (flags & SaFlag.SA_RESTORER) return given;
  return stub === 0 ? retcode : stub;
}

/** Handlers take their arguments from the stack, or from registers with -mregparm=3. */
function setArguments(task: Task, frame: number, signal: number, second: number, third: number): void {
  const { cpu } = task;
  cpu.setReg(Reg.rsp, frame);
  cpu.setReg(Reg.rax, signal);
  cpu.setReg(Reg.rdx, second);
  cpu.setReg(Reg.rcx, third);
}

export const pushNarrowFrame: FrameForm = {
  bytes: Plain.end,

  write(task: Task, place: FramePlace, interrupted: Interrupted): void {
    const { memory, process } = task;
    const { frame } = place;
    const { plainHead, plainTail, view } = task.kernel.signals.state.scratch;
    view.setUint32(0, restorer(interrupted, process.mm.vdsoSigreturn, frame + Plain.retcode), true);
    view.setUint32(Plain.signal, interrupted.info.signal, true);
    writeContext(task, view, Plain.context, place, interrupted);
    view.setInt32(Plain.contextEnd, interrupted.mask.hi, true);
    plainTail.set(RETCODE, Plain.retcode - Plain.extramask);
    memory.write(frame, plainHead);
    memory.write(frame + Plain.extramask, plainTail);
  },

  setRegisters(task: Task, frame: number, signal: number): void {
    setArguments(task, frame, signal, 0, 0);
  },
};

export const pushNarrowInfoFrame: FrameForm = {
  bytes: Info.end,

  write(task: Task, place: FramePlace, interrupted: Interrupted): void {
    const { memory, process, signals } = task;
    const { frame } = place;
    const { info: bytes, view } = task.kernel.signals.state.scratch;
    bytes.fill(0);
    view.setUint32(0, restorer(interrupted, process.mm.vdsoRtSigreturn, frame + Info.retcode), true);
    view.setUint32(Info.signal, interrupted.info.signal, true);
    view.setUint32(Info.pinfo, frame + Info.info, true);
    view.setUint32(Info.puc, frame + Info.ucFlags, true);
    interrupted.info.image(i386, bytes, Info.info);
    view.setUint32(Info.ucFlags, extendedFlag(task), true);
    view.setUint32(Info.stack, signals.alt.start, true);
    view.setUint32(Info.stack + 4, signals.alt.flags, true);
    view.setUint32(Info.stack + 8, signals.alt.size, true);
    writeContext(task, view, Info.context, place, interrupted);
    view.setInt32(Info.sigmask, interrupted.mask.lo, true);
    view.setInt32(Info.sigmask + 4, interrupted.mask.hi, true);
    bytes.set(RT_RETCODE, Info.retcode);
    memory.write(frame, bytes);
  },

  setRegisters(task: Task, frame: number, signal: number): void {
    setArguments(task, frame, signal, frame + Info.info, frame + Info.ucFlags);
  },
};

/** ia32_restore_sigcontext. */
function readContext(task: Task, address: number, frame: number, call: string): Returned {
  const { cpu, memory } = task;
  const { context, view } = task.kernel.signals.state.scratch;
  memory.read(address, context);
  const word = (offset: number): number => view.getUint32(offset, true);
  const selector = (offset: number): number => view.getUint16(offset, true);
  for (let index = 0; index < REGISTERS.length; index++)
    cpu.setReg(REGISTERS[index] ?? 0, word(Context.registers + 4 * index));
  cpu.setReg(Reg.rip, word(Context.ip));
  cpu.setReg(Reg.rflags, restoredFlags(cpu, word(Context.flags)));
  const cs = selector(Context.cs) | 3;
  const ss = selector(Context.ss) | 3;
  const by = loadSelectors(
    task,
    {
      gs: userSelector(selector(Context.gs)),
      fs: userSelector(selector(Context.fs)),
      ds: userSelector(selector(Context.ds)),
      es: userSelector(selector(Context.es)),
      cs,
      ss,
    },
    call,
  );
  if (by === "denied") return { frame, good: false };
  if (!restoreFpu(task, word(Context.fpstate), true)) return { frame, good: false };
  return by === undefined ? { frame, good: true } : { frame, good: true, refused: { cs, ss, by } };
}

/** sigreturn, which the restorer of a plain frame calls: signal number and return address are off the stack. */
export function popNarrowFrame(task: Task, targets: FrameTargets): Returned {
  const { cpu, memory } = task;
  const frame = cpu.regLow(Reg.rsp) - 8;
  try {
    const mask = new SignalSet(
      memory.u32(frame + Plain.context + Context.oldmask),
      memory.u32(frame + Plain.extramask),
    );
    targets.setMask(mask);
    return readContext(task, frame + Plain.context, frame, "sigreturn");
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
    return { frame, good: false };
  }
}

/** rt_sigreturn of i386. */
export function popNarrowInfoFrame(task: Task, targets: FrameTargets): Returned {
  const { cpu, memory } = task;
  const frame = cpu.regLow(Reg.rsp) - 4;
  try {
    targets.setMask(new SignalSet(memory.u32(frame + Info.sigmask), memory.u32(frame + Info.sigmask + 4)));
    const returned = readContext(task, frame + Info.context, frame, "rt_sigreturn");
    if (!returned.good) return returned;
    const stack = frame + Info.stack;
    targets.setStack(memory.u32(stack), memory.u32(stack + 4), memory.u32(stack + 8));
    return returned;
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
    return { frame, good: false };
  }
}
