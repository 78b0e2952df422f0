/** Handlers, masks and stacks of signals, and the way back from a handler. */
import { Reg } from "../../../emulator/cpu.ts";
import { x86_64 } from "../abi.ts";
import { Errno } from "../errno.ts";
import { size } from "../kinds/kinds.ts";
import { popNarrowFrame, popNarrowInfoFrame } from "../signals/frame-i386.ts";
import { type FrameTargets, popWideFrame, type Returned } from "../signals/frame-x86_64.ts";
import {
  actionIn,
  actionOut,
  handler,
  maskHow,
  oldActionIn,
  oldActionOut,
  oldSet,
  oldSetIn,
  oldSetOut,
  readAction,
  readOldAction,
  readSet,
  readStack,
  setIn,
  setOut,
  signal,
  stackIn,
  stackOut,
  writeAction,
  writeOldAction,
  writeSet,
  writeStack,
} from "../signals/kinds.ts";
import { refuseReturn } from "../signals/ldt.ts";
import { NSIG, SA_KEPT, SaFlag, SiCode, Signal } from "../signals/numbers.ts";
import { flushIgnored, forceSignal, setBlocked } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import { SIGSET_BYTES, SignalSet } from "../signals/signal-set.ts";
import { setAltStack } from "../signals/stack.ts";
import { type Action, SS_AUTODISARM } from "../signals/state.ts";
import { pendingFor } from "../signals/take.ts";
import { type Result, type Row, row, settled } from "../table.ts";
import type { Task } from "../task.ts";

const SIG_BLOCK = 0;
const SIG_UNBLOCK = 1;
const SIG_SETMASK = 2;

function badSetSize(task: Task, bytes: number): number {
  return task.fail(Errno.EINVAL, `a signal set has ${SIGSET_BYTES} bytes, not ${bytes}`);
}

/** do_sigaction; undefined for success. */
function changeAction(task: Task, number: number, action: Action | undefined): number | undefined {
  if (number < 1 || number > NSIG) return task.fail(Errno.EINVAL, `there is no signal ${number}`);
  if (action === undefined) return undefined;
  if (number === Signal.SIGKILL || number === Signal.SIGSTOP) {
    return task.fail(Errno.EINVAL, "SIGKILL and SIGSTOP cannot be handled");
  }
  const mask = action.mask.copy();
  mask.delete(Signal.SIGKILL);
  mask.delete(Signal.SIGSTOP);
  const { process } = task;
  process.signals.hand.set(number, { ...action, flags: (action.flags & SA_KEPT) >>> 0, mask });
  flushIgnored(process, number);
  return undefined;
}

function rtSigaction(task: Task, number: number, to: number, from: number, bytes: number): number {
  if (bytes !== SIGSET_BYTES) return badSetSize(task, bytes);
  const { memory, abi, process } = task;
  const action = to === 0 ? undefined : readAction(memory, to, abi);
  const old = process.signals.hand.get(number);
  const failure = changeAction(task, number, action);
  if (failure !== undefined) return failure;
  if (from !== 0) writeAction(memory, from, abi, old);
  return 0;
}

function sigaction(task: Task, number: number, to: number, from: number): number {
  const { memory, abi, process } = task;
  const action = to === 0 ? undefined : readOldAction(memory, to, abi);
  const old = process.signals.hand.get(number);
  const failure = changeAction(task, number, action);
  if (failure !== undefined) return failure;
  if (from !== 0) writeOldAction(memory, from, old);
  return 0;
}

/** signal(2) of System V: one shot, and nothing blocked. */
function signalCall(task: Task, number: number, to: number): number {
  const old = task.process.signals.hand.get(number);
  const flags = SaFlag.SA_RESETHAND | SaFlag.SA_NODEFER;
  const action = { handler: to, flags, restorer: 0, mask: new SignalSet(), abi: task.abi };
  return changeAction(task, number, action) ?? old.handler;
}

function changeMask(task: Task, how: number, set: SignalSet): number {
  const { blocked } = task.signals;
  if (how === SIG_BLOCK) setBlocked(task, blocked.union(set));
  else if (how === SIG_UNBLOCK) setBlocked(task, blocked.without(set));
  else if (how === SIG_SETMASK) setBlocked(task, set);
  else return task.fail(Errno.EINVAL, `${how} is none of SIG_BLOCK, SIG_UNBLOCK and SIG_SETMASK`);
  return 0;
}

function rtSigprocmask(task: Task, how: number, to: number, from: number, bytes: number): number {
  if (bytes !== SIGSET_BYTES) return badSetSize(task, bytes);
  const { memory, signals } = task;
  const old = signals.blocked;
  if (to !== 0) {
    const result = changeMask(task, how, readSet(memory, to));
    if (result < 0) return result;
  }
  if (from !== 0) writeSet(memory, from, old);
  return 0;
}

/** The old call knows the first 32 signals and leaves the others. */
function sigprocmask(task: Task, how: number, to: number, from: number): number {
  const { memory, signals } = task;
  const old = signals.blocked;
  if (to !== 0) {
    const set = new SignalSet(memory.u32(to), how === SIG_SETMASK ? old.hi : 0);
    const result = changeMask(task, how, set);
    if (result < 0) return result;
  }
  if (from !== 0) memory.setU32(from, old.lo >>> 0);
  return 0;
}

function sgetmask(task: Task): number {
  return task.signals.blocked.lo;
}

/** ssetmask sets the whole mask from a word (SYSCALL_DEFINE1(ssetmask)). */
function ssetmask(task: Task, mask: number): number {
  const old = task.signals.blocked.lo;
  setBlocked(task, new SignalSet(mask));
  return old;
}

function rtSigpending(task: Task, to: number, bytes: number): number {
  if (bytes > SIGSET_BYTES) return badSetSize(task, bytes);
  const set = pendingFor(task).intersection(task.signals.blocked);
  const image = new Uint8Array(SIGSET_BYTES);
  const view = new DataView(image.buffer);
  view.setInt32(0, set.lo, true);
  view.setInt32(4, set.hi, true);
  task.memory.write(to, image.subarray(0, bytes));
  return 0;
}

function sigpending(task: Task, to: number): number {
  task.memory.setU32(to, pendingFor(task).intersection(task.signals.blocked).lo >>> 0);
  return 0;
}

function sigaltstack(task: Task, to: number, from: number): number {
  const { memory, abi, signals, cpu } = task;
  const { alt } = signals;
  const sp = cpu.reg(Reg.rsp);
  const old = { start: alt.start, size: alt.size, flags: (alt.state(sp) | (alt.flags & SS_AUTODISARM)) >>> 0 };
  if (to !== 0) {
    const result = setAltStack(task, readStack(memory, to, abi), sp);
    if (result < 0) return result;
  }
  if (from !== 0) writeStack(memory, from, abi, old);
  return 0;
}

/** What a frame says about the thread itself. A stack that would be refused is left alone (restore_altstack). */
function targetsOf(task: Task): FrameTargets {
  return {
    setMask: (mask) => setBlocked(task, mask),
    setStack: (start, flags, bytes) => {
      setAltStack(task, { start, flags, size: bytes }, task.cpu.reg(Reg.rsp));
      task.reason = undefined;
    },
  };
}

function goBack(task: Task, pop: (task: Task, targets: FrameTargets) => Returned): Result {
  task.restart = undefined;
  const { good, refused } = pop(task, targetsOf(task));
  task.kernel.gate.lifecycle?.sigreturn(task.tid);
  if (!good) {
    task.cpu.setReg(Reg.rax, 0);
    task.reason = "no good signal frame";
    forceSignal(task, SigInfo.sent(Signal.SIGSEGV, SiCode.SI_KERNEL, 0, 0));
  } else if (refused !== undefined) {
    refuseReturn(task, refused, refused.by);
  }
  return settled;
}

/** Which frame rt_sigreturn takes back follows from the ABI of the call, as in Linux. */
function rtSigreturn(task: Task): Result {
  return goBack(task, task.abi === x86_64 ? popWideFrame : popNarrowInfoFrame);
}

function sigreturn(task: Task): Result {
  return goBack(task, popNarrowFrame);
}

const o = { family: "signal" } as const;

export const signalCalls: readonly Row[] = [
  row("rt_sigaction", { x86_64: 13, i386: 174 }, [signal, actionIn, actionOut, size], rtSigaction, o),
  row("sigaction", { i386: 67 }, [signal, oldActionIn, oldActionOut], sigaction, o),
  row("signal", { i386: 48 }, [signal, handler], signalCall, { ...o, returns: handler }),
  row("rt_sigprocmask", { x86_64: 14, i386: 175 }, [maskHow, setIn, setOut, size], rtSigprocmask, o),
  row("sigprocmask", { i386: 126 }, [maskHow, oldSetIn, oldSetOut], sigprocmask, o),
  row("sgetmask", { i386: 68 }, [], sgetmask, { ...o, returns: oldSet }),
  row("ssetmask", { i386: 69 }, [oldSet], ssetmask, { ...o, returns: oldSet }),
  row("rt_sigpending", { x86_64: 127, i386: 176 }, [setOut, size], rtSigpending, o),
  row("sigpending", { i386: 73 }, [oldSetOut], sigpending, o),
  row("sigaltstack", { x86_64: 131, i386: 186 }, [stackIn, stackOut], sigaltstack, o),
  row("rt_sigreturn", { x86_64: 15, i386: 173 }, [], rtSigreturn, o),
  row("sigreturn", { i386: 119 }, [], sigreturn, o),
];
