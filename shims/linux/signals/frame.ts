/** Signal frames: where they go and which form they have (get_sigframe in arch/x86/kernel/signal.c). */
import { Reg } from "../../../emulator/cpu.ts";
import { MemoryFault } from "../../../emulator/errors.ts";
import { Flag } from "../../../emulator/x86.ts";
import { i386 } from "../abi.ts";
import type { Task } from "../task.ts";
import { placeFpu, resetFpu, saveFpu } from "./fpstate.ts";
import { pushNarrowFrame, pushNarrowInfoFrame } from "./frame-i386.ts";
import { pushWideFrame } from "./frame-x86_64.ts";
import { SaFlag } from "./numbers.ts";
import { enterHandler, flatDataSelector } from "./segments.ts";
import type { SigInfo } from "./siginfo.ts";
import type { SignalSet } from "./signal-set.ts";
import type { Action } from "./state.ts";

/** Bytes below the stack pointer that x86-64 code may use without moving it (psABI 3.2.2). */
const RED_ZONE = 128;

/** What a frame shows of the interrupted code. */
export interface Interrupted {
  readonly info: SigInfo;
  readonly action: Action;
  /** The mask that sigreturn restores. */
  readonly mask: SignalSet;
  /** RFLAGS, with RF set after a fault. */
  readonly flags: number;
  readonly cs: number;
  readonly ss: number;
}

/** A frame's place: its lowest address and that of the FPU state. */
export interface FramePlace {
  readonly frame: number;
  readonly fpu: number;
}

function place(task: Task, action: Action, narrow: boolean, size: number): FramePlace | undefined {
  const { alt } = task.signals;
  const start = task.cpu.reg(Reg.rsp);
  const nested = alt.inUse(start);
  let entering = false;
  let sp = narrow ? start : start - RED_ZONE;
  if (action.flags & SaFlag.SA_ONSTACK) {
    if (alt.state(sp) === 0) {
      sp = alt.start + alt.size;
      entering = true;
    }
  } else if (narrow && !nested && action.restorer !== 0 && !(action.flags & SaFlag.SA_RESTORER)) {
    // Programs from before sigaltstack put a stack where the restorer is now; told by a foreign stack segment.
    if (task.cpu.selector("ss") !== flatDataSelector) {
      sp = action.restorer;
      entering = true;
    }
  }
  const fpu = placeFpu(task, sp, narrow);
  sp = fpu - size;
  const frame = narrow ? Math.floor((sp + 4) / 16) * 16 - 4 : Math.floor(sp / 16) * 16 - 8;
  if ((nested || entering) && !alt.covers(frame)) return undefined;
  return { frame, fpu };
}

/**
 * Puts the handler of a signal into the CPU: frame, stack, arguments, segments, flags and a fresh FPU.
 * @param fault the interrupted instruction faulted
 * @returns what went wrong where Linux would send SIGSEGV instead
 */
export function enterSignalHandler(
  task: Task,
  info: SigInfo,
  action: Action,
  mask: SignalSet,
  fault: boolean,
): string | undefined {
  const { cpu, signals } = task;
  const narrow = action.abi === i386;
  if (!narrow && !(action.flags & SaFlag.SA_RESTORER)) return "the handler has no SA_RESTORER";
  const withInfo = (action.flags & SaFlag.SA_SIGINFO) !== 0;
  const push = narrow ? (withInfo ? pushNarrowInfoFrame : pushNarrowFrame) : pushWideFrame;
  const at = place(task, action, narrow, push.bytes);
  if (at === undefined) return "the alternate signal stack is too small for the frame";
  const flags = cpu.regLow(Reg.rflags);
  const { refused } = signals;
  const interrupted: Interrupted = {
    info,
    action,
    mask,
    flags: fault ? flags | Flag.RF : flags,
    cs: refused?.cs ?? cpu.selector("cs"),
    ss: refused?.ss ?? cpu.selector("ss"),
  };
  try {
    saveFpu(task, at.fpu, narrow);
    push.write(task, at, interrupted);
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
    return `the stack cannot hold the frame: ${error.place} is not writable`;
  }
  push.setRegisters(task, at.frame, info.signal);
  if (!enterHandler(task, !narrow)) return "the provider refused the handler's segments";
  signals.refused = undefined;
  cpu.setReg(Reg.rip, action.handler);
  cpu.setReg(Reg.rflags, flags & ~(Flag.DF | Flag.RF | Flag.TF));
  resetFpu(task);
  task.kernel.gate.lifecycle?.signal(task.tid);
  return undefined;
}

/** How one form of frame is written. */
export interface FrameForm {
  readonly bytes: number;
  /** @throws MemoryFault */
  write(task: Task, at: FramePlace, interrupted: Interrupted): void;
  /** Stack pointer and arguments of the handler. */
  setRegisters(task: Task, frame: number, signal: number): void;
}
