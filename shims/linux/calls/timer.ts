/** alarm, setitimer, getitimer, and POSIX timers (kernel/time/itimer.c, posix-timers.c). */
import { CPUCLOCK_PER_THREAD, CPUCLOCK_WHICH, monotonicOf, TIMER_ABSTIME } from "../clock.ts";
import { Errno } from "../errno.ts";
import { ClockId, clockId, timerFlags } from "../kinds/flags.ts";
import { choice, int, type Kind, uint } from "../kinds/kinds.ts";
import { pointsTo } from "../kinds/memory.ts";
import { i32, struct, structIn, structOut, timeval, valueOut } from "../kinds/structs.ts";
import { Resource } from "../process/limits.ts";
import { Notify, NSIG, Signal, signalName } from "../signals/numbers.ts";
import { type Notification, PosixTimer, type Setting, type TimeSource } from "../signals/timers.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { fromNs, type ItimerLayout, isValidTime, itimerspec, itimerspec64, SECOND, toNs } from "../timespec.ts";

const MILLION = 1_000_000;
const US = 1000;

const itimerval = struct({ it_interval: timeval, it_value: timeval });

const which: Kind = choice("ITIMER_", { ITIMER_REAL: 0, ITIMER_VIRTUAL: 1, ITIMER_PROF: 2 });

function isTimer(number: number): number is 0 | 1 | 2 {
  return number === 0 || number === 1 || number === 2;
}

function toTimeval(ns: number): { tv_sec: number; tv_usec: number } {
  return { tv_sec: Math.floor(ns / SECOND), tv_usec: Math.floor((ns % SECOND) / US) };
}

function writeItimer(task: Task, to: number, setting: Setting): void {
  const value = { it_interval: toTimeval(setting.interval), it_value: toTimeval(setting.value) };
  itimerval.write(task.memory, to, value, task.abi);
}

function getitimer(task: Task, number: number, to: number): number {
  if (!isTimer(number)) return task.fail(Errno.EINVAL, `there is no interval timer ${number}`);
  const { process } = task;
  writeItimer(task, to, process.signals.timers.interval(process, number).get());
  return 0;
}

function setitimer(task: Task, number: number, from: number, to: number): number {
  const { process, memory, abi } = task;
  let setting: Setting = { value: 0, interval: 0 };
  // A null pointer stops the timer, as it always did.
  if (from !== 0) {
    const { it_value, it_interval } = itimerval.read(memory, from, abi);
    for (const time of [it_value, it_interval]) {
      if (time.tv_sec < 0 || time.tv_usec < 0 || time.tv_usec >= MILLION) {
        return task.fail(Errno.EINVAL, "no valid time");
      }
    }
    const ns = (time: { tv_sec: number; tv_usec: number }): number => time.tv_sec * SECOND + time.tv_usec * US;
    setting = { value: ns(it_value), interval: ns(it_interval) };
  }
  if (!isTimer(number)) return task.fail(Errno.EINVAL, `there is no interval timer ${number}`);
  const timer = process.signals.timers.interval(process, number);
  const old = timer.get();
  timer.set(setting);
  if (to !== 0) writeItimer(task, to, old);
  return 0;
}

/** The seconds left of the alarm before, rounded, but never down to none (alarm_setitimer). */
function alarm(task: Task, seconds: number): number {
  const { process } = task;
  const timer = process.signals.timers.interval(process, 0);
  const old = toTimeval(timer.get().value);
  timer.set({ value: seconds * SECOND, interval: 0 });
  const up = (old.tv_sec === 0 && old.tv_usec > 0) || old.tv_usec >= MILLION / 2;
  return up ? old.tv_sec + 1 : old.tv_sec;
}

interface SigEvent {
  readonly value: bigint;
  readonly signal: number;
  readonly notify: number;
  readonly tid: number;
}

function readSigEvent(task: Task, at: number): SigEvent {
  const { memory, abi } = task;
  const { word } = abi;
  return {
    value: word === 8 ? memory.u64(at) : BigInt(memory.u32(at)),
    signal: memory.i32(at + word),
    notify: memory.i32(at + word + 4),
    tid: memory.i32(at + word + 8),
  };
}

const sigevent: Kind = pointsTo((at, { task }) => {
  const event = readSigEvent(task, at);
  return `{sigev_value=0x${event.value.toString(16)}, sigev_signo=${signalName(event.signal)}, sigev_notify=${event.notify}}`;
});

/** good_sigevent; undefined where it is none. */
function notification(task: Task, event: SigEvent): Notification | undefined {
  const { value, signal } = event;
  const fits = signal >= 1 && signal <= NSIG;
  switch (event.notify) {
    case Notify.SIGEV_NONE:
      return { kind: "none", signal, value, task: undefined };
    case Notify.SIGEV_SIGNAL:
    case Notify.SIGEV_THREAD:
      return fits ? { kind: "signal", signal, value, task: undefined } : undefined;
    case Notify.SIGEV_THREAD_ID: {
      const target = task.kernel.tasks.get(event.tid);
      if (!fits || target?.process !== task.process) return undefined;
      return { kind: "signal", signal, value, task: target };
    }
    default:
      return undefined;
  }
}

/** What a timer on a clock counts, or a negative errno. */
function sourceOf(task: Task, clock: number): TimeSource | number {
  switch (clock) {
    case ClockId.CLOCK_REALTIME:
    case ClockId.CLOCK_MONOTONIC:
    case ClockId.CLOCK_BOOTTIME:
    case ClockId.CLOCK_TAI:
      return { kind: "clock" };
    case ClockId.CLOCK_PROCESS_CPUTIME_ID:
      return { kind: "process" };
    case ClockId.CLOCK_THREAD_CPUTIME_ID:
      return { kind: "thread", task };
    case ClockId.CLOCK_REALTIME_ALARM:
    case ClockId.CLOCK_BOOTTIME_ALARM:
      return task.fail(Errno.EOPNOTSUPP, "there is no clock that could wake the machine");
    case ClockId.CLOCK_MONOTONIC_RAW:
    case ClockId.CLOCK_REALTIME_COARSE:
    case ClockId.CLOCK_MONOTONIC_COARSE:
      return task.fail(Errno.EOPNOTSUPP, "this clock has no timers");
    default:
  }
  if (clock < 0 && (clock & CPUCLOCK_WHICH) !== CPUCLOCK_WHICH) {
    const id = ~(clock >> 3);
    if (clock & CPUCLOCK_PER_THREAD) {
      const target = id === 0 ? task : task.kernel.tasks.get(id);
      if (target?.process === task.process) return { kind: "thread", task: target };
    } else if (id === 0 || id === task.process.pid) return { kind: "process" };
  }
  return task.fail(Errno.EINVAL, `there is no clock ${clock} for timers`);
}

function timerCreate(task: Task, clock: number, event: number, to: number): number {
  const { memory, process } = task;
  const source = sourceOf(task, clock);
  if (typeof source === "number") return source;
  let notify: Notification | undefined = {
    kind: "signal",
    signal: Signal.SIGALRM,
    value: undefined,
    task: undefined,
  };
  if (event !== 0) notify = notification(task, readSigEvent(task, event));
  if (notify === undefined) return task.fail(Errno.EINVAL, "no valid sigevent");
  const { timers } = process.signals;
  const { counts } = task.kernel.signals.state;
  if (counts.of(process.cred.ruid) >= process.limits.soft(Resource.RLIMIT_SIGPENDING))
    return task.fail(Errno.EAGAIN, "RLIMIT_SIGPENDING is reached");
  const id = timers.newId();
  memory.setU32(to, id);
  timers.posix.set(id, new PosixTimer(process, id, source, notify, clock));
  return 0;
}

function timerOf(task: Task, id: number): PosixTimer | undefined {
  return task.process.signals.timers.posix.get(id);
}

const noTimer = (task: Task, id: number): number => task.fail(Errno.EINVAL, `there is no timer ${id}`);

function writeSetting(task: Task, layout: ItimerLayout, to: number, setting: Setting): void {
  const value = { it_interval: fromNs(setting.interval), it_value: fromNs(setting.value) };
  layout.write(task.memory, to, value, task.abi);
}

const REALTIME: readonly number[] = [ClockId.CLOCK_REALTIME, ClockId.CLOCK_TAI];

function timerSettime(layout: ItimerLayout) {
  return (task: Task, id: number, flags: number, from: number, to: number): number => {
    if (from === 0) return task.fail(Errno.EINVAL, "no new setting");
    const { it_value, it_interval } = layout.read(task.memory, from, task.abi);
    if (!isValidTime(it_value) || !isValidTime(it_interval)) return task.fail(Errno.EINVAL, "no valid time");
    const timer = timerOf(task, id);
    if (timer === undefined) return noTimer(task, id);
    const old = timer.get();
    const value = toNs(it_value);
    const interval = toNs(it_interval);
    if (value === 0) timer.set(0, 0);
    else if ((flags & TIMER_ABSTIME) === 0) timer.set(timer.now() + value, interval);
    else if (REALTIME.includes(timer.clock)) {
      // A time before the start of the run is over at once; 0 would stop the timer.
      timer.set(Math.max(1, monotonicOf(task.kernel.clock, it_value.tv_sec, it_value.tv_nsec)), interval);
    } else timer.set(value, interval);
    if (to !== 0) writeSetting(task, layout, to, old);
    return 0;
  };
}

function timerGettime(layout: ItimerLayout) {
  return (task: Task, id: number, to: number): number => {
    const timer = timerOf(task, id);
    if (timer === undefined) return noTimer(task, id);
    writeSetting(task, layout, to, timer.get());
    return 0;
  };
}

function timerGetoverrun(task: Task, id: number): number {
  return timerOf(task, id)?.overrun ?? noTimer(task, id);
}

function timerDelete(task: Task, id: number): number {
  const timer = timerOf(task, id);
  if (timer === undefined) return noTimer(task, id);
  timer.remove();
  task.process.signals.timers.posix.delete(id);
  return 0;
}

const o = { family: "time" } as const;

export const timerCalls: readonly Row[] = [
  row("alarm", { x86_64: 37, i386: 27 }, [uint], alarm, o),
  row("getitimer", { x86_64: 36, i386: 105 }, [which, structOut(itimerval)], getitimer, o),
  row("setitimer", { x86_64: 38, i386: 104 }, [which, structIn(itimerval), structOut(itimerval)], setitimer, o),
  row("timer_create", { x86_64: 222, i386: 259 }, [clockId, sigevent, valueOut(i32)], timerCreate, {
    ...o,
    support:
      "CLOCK_REALTIME_ALARM and CLOCK_BOOTTIME_ALARM answer EOPNOTSUPP; of other processes' CPU clocks none has timers",
  }),
  row(
    "timer_settime",
    { x86_64: 223, i386: 260 },
    [int, timerFlags, structIn(itimerspec), structOut(itimerspec)],
    timerSettime(itimerspec),
    o,
  ),
  row(
    "timer_settime64",
    { i386: 409 },
    [int, timerFlags, structIn(itimerspec64), structOut(itimerspec64)],
    timerSettime(itimerspec64),
    o,
  ),
  row("timer_gettime", { x86_64: 224, i386: 261 }, [int, structOut(itimerspec)], timerGettime(itimerspec), o),
  row("timer_gettime64", { i386: 408 }, [int, structOut(itimerspec64)], timerGettime(itimerspec64), o),
  row("timer_getoverrun", { x86_64: 225, i386: 262 }, [int], timerGetoverrun, o),
  row("timer_delete", { x86_64: 226, i386: 263 }, [int], timerDelete, o),
];
