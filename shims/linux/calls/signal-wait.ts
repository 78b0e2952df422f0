/** Waiting for signals: pause, rt_sigsuspend, rt_sigtimedwait, signalfd. */
import { Errno } from "../errno.ts";
import { fd, flags, int, size } from "../kinds/kinds.ts";
import { structIn, timespec, timespec64 } from "../kinds/structs.ts";
import { infoOut, oldSet, readSet, setIn, signal } from "../signals/kinds.ts";
import { Signal } from "../signals/numbers.ts";
import { recalculate, setBlocked } from "../signals/send.ts";
import { SignalFile } from "../signals/signal-file.ts";
import { SIGSET_BYTES, SignalSet } from "../signals/signal-set.ts";
import { takeSignal } from "../signals/take.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { readTime, type TimeLayout, toNs } from "../timespec.ts";
import { demandDescriptors, install, openFileOf } from "../vfs/call-context.ts";
import { O_CLOEXEC, O_NONBLOCK } from "../vfs/flags.ts";
import { Wait } from "../wait.ts";

const noHandler = (): number => -Errno.ERESTARTNOHAND;

function pause(): Result {
  return new Wait({ queues: [], attempt: () => undefined, interrupted: noHandler });
}

/** Waits under another mask; the handler's frame holds the old one (sigsuspend in kernel/signal.c). */
function suspend(task: Task, mask: SignalSet): Result {
  task.signals.saved = task.signals.blocked;
  setBlocked(task, mask);
  return new Wait({ queues: [], attempt: () => undefined, interrupted: noHandler });
}

function rtSigsuspend(task: Task, mask: number, bytes: number): Result {
  if (bytes !== SIGSET_BYTES) return task.fail(Errno.EINVAL, `a signal set has ${SIGSET_BYTES} bytes`);
  return suspend(task, readSet(task.memory, mask));
}

function sigsuspend(task: Task, _1: number, _2: number, mask: number): Result {
  return suspend(task, new SignalSet(mask));
}

function sigtimedwait(layout: TimeLayout) {
  return (task: Task, set: number, info: number, time: number, bytes: number): Result => {
    if (bytes !== SIGSET_BYTES) return task.fail(Errno.EINVAL, `a signal set has ${SIGSET_BYTES} bytes`);
    const { memory, abi, signals, kernel } = task;
    const wanted = readSet(memory, set);
    wanted.delete(Signal.SIGKILL);
    wanted.delete(Signal.SIGSTOP);
    let deadline: number | undefined;
    let atOnce = false;
    if (time !== 0) {
      const span = toNs(readTime(task, time, layout));
      atOnce = span === 0;
      deadline = kernel.clock.now() + span;
    }
    const take = (): number | undefined => {
      const taken = takeSignal(task, wanted.inverse());
      if (taken === undefined) return undefined;
      recalculate(task);
      if (info !== 0) taken.write(memory, info, abi);
      return taken.signal;
    };
    const first = take();
    if (first !== undefined) return first;
    const nothing = (): number => task.fail(Errno.EAGAIN, "no such signal came in time");
    if (atOnce) return nothing();
    // Meanwhile these signals wake the task, and are kept even where they would be ignored.
    const real = signals.blocked;
    signals.waitedFor = real;
    signals.blocked = real.without(wanted);
    return new Wait({
      queues: [],
      attempt: take,
      ...(deadline !== undefined && { deadline }),
      timeout: nothing,
      interrupted: () => task.fail(Errno.EINTR, "another signal came"),
      cleanup: () => {
        signals.waitedFor = undefined;
        signals.blocked = real;
        recalculate(task);
      },
    });
  };
}

function signalfd4(task: Task, descriptor: number, set: number, bytes: number, given: number): number {
  if (bytes !== SIGSET_BYTES || (given & ~(O_CLOEXEC | O_NONBLOCK)) !== 0) {
    return task.fail(Errno.EINVAL, "a set of 8 bytes, and SFD_CLOEXEC or SFD_NONBLOCK");
  }
  const mask = readSet(task.memory, set);
  mask.delete(Signal.SIGKILL);
  mask.delete(Signal.SIGSTOP);
  if (descriptor !== -1) {
    const file = openFileOf(task, descriptor);
    if (!(file instanceof SignalFile)) return task.fail(Errno.EINVAL, `descriptor ${descriptor} is no signalfd`);
    file.mask = mask;
    task.process.signals.hand.arrivals.wake();
    return descriptor;
  }
  demandDescriptors(task);
  const { kernel, process } = task;
  const { vfs } = kernel;
  const entry = vfs.anonymousEntry(vfs.anonymousNode(0o600, process.cred), "anon_inode:[signalfd]");
  const file = new SignalFile(entry, given & O_NONBLOCK, kernel, process.signals.hand.arrivals, mask);
  return install(task, file, (given & O_CLOEXEC) !== 0);
}

function signalfd(task: Task, descriptor: number, set: number, bytes: number): number {
  return signalfd4(task, descriptor, set, bytes, 0);
}

const o = { family: "signal", returns: signal } as const;
const waits = { family: "signal" } as const;
const signalfdFlags = flags("SFD_", { SFD_CLOEXEC: O_CLOEXEC, SFD_NONBLOCK: O_NONBLOCK }, "int");

export const signalWaitCalls: readonly Row[] = [
  row("pause", { x86_64: 34, i386: 29 }, [], pause, waits),
  row("rt_sigsuspend", { x86_64: 130, i386: 179 }, [setIn, size], rtSigsuspend, waits),
  row("sigsuspend", { i386: 72 }, [int, int, oldSet], sigsuspend, waits),
  row(
    "rt_sigtimedwait",
    { x86_64: 128, i386: 177 },
    [setIn, infoOut, structIn(timespec), size],
    sigtimedwait(timespec),
    o,
  ),
  row(
    "rt_sigtimedwait_time64",
    { i386: 421 },
    [setIn, infoOut, structIn(timespec64), size],
    sigtimedwait(timespec64),
    o,
  ),
  row("signalfd", { x86_64: 282, i386: 321 }, [fd, setIn, size], signalfd, { family: "signal", returns: fd }),
  row("signalfd4", { x86_64: 289, i386: 327 }, [fd, setIn, size, signalfdFlags], signalfd4, {
    family: "signal",
    returns: fd,
  }),
];
