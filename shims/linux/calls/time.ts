/** Clocks and sleeping, in the 32-bit and 64-bit forms of each ABI (kernel/time/). */
import {
  CPUCLOCK_PER_THREAD,
  CPUCLOCK_WHICH,
  type Instant,
  MEASURES_FROM,
  monotonicOf,
  realtimeAt,
  TICK_NS,
  TIMER_ABSTIME,
  toInstant,
} from "../clock.ts";
import { Errno } from "../errno.ts";
import { ClockId, clockId, rusageWho, timerFlags } from "../kinds/flags.ts";
import { long, pointer } from "../kinds/kinds.ts";
import {
  i32,
  long as longField,
  struct,
  structIn,
  structOut,
  timespec,
  timespec64,
  timeval,
} from "../kinds/structs.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { readTime, SECOND, type TimeLayout, toNs } from "../timespec.ts";
import { Wait } from "../wait.ts";
import { rusageOut, writeRusage } from "./rusage.ts";

/** USER_HZ. */
const CLOCK_TICK_NS = 10_000_000;
/** CPUCLOCK_PROF, _VIRT and _SCHED; 3 would be a descriptor of a clock device. */
const CPUCLOCK_SCHED = 2;

const timezone = struct({ tz_minuteswest: i32, tz_dsttime: i32 });
const tms = struct({ tms_utime: longField, tms_stime: longField, tms_cutime: longField, tms_cstime: longField });

/** The target of a CPU clock id; undefined when there is none. */
function cpuClock(task: Task, clock: number): number | undefined {
  const pid = ~(clock >> 3);
  if ((clock & CPUCLOCK_WHICH) > CPUCLOCK_SCHED) return undefined;
  if ((clock & CPUCLOCK_PER_THREAD) !== 0) {
    const target = pid === 0 ? task : task.kernel.tasks.get(pid);
    return target?.process === task.process ? target.usedCpu : undefined;
  }
  const target = pid === 0 ? task.process : task.kernel.processes.get(pid);
  return target === undefined ? undefined : target.usedCpu;
}

/** The time a clock shows; undefined for a clock that does not exist. */
function clockTime(task: Task, clock: number): Instant | undefined {
  const source = task.kernel.clock;
  const now = source.now();
  switch (clock) {
    case ClockId.CLOCK_REALTIME:
    case ClockId.CLOCK_TAI:
      return realtimeAt(source, now);
    case ClockId.CLOCK_REALTIME_COARSE:
      return realtimeAt(source, now - (now % TICK_NS));
    case ClockId.CLOCK_MONOTONIC:
    case ClockId.CLOCK_MONOTONIC_RAW:
    case ClockId.CLOCK_BOOTTIME:
      return toInstant(now);
    case ClockId.CLOCK_MONOTONIC_COARSE:
      return toInstant(now - (now % TICK_NS));
    case ClockId.CLOCK_PROCESS_CPUTIME_ID:
      return toInstant(task.process.usedCpu);
    case ClockId.CLOCK_THREAD_CPUTIME_ID:
      return toInstant(task.usedCpu);
    default: {
      const used = clock < 0 ? cpuClock(task, clock) : undefined;
      return used === undefined ? undefined : toInstant(used);
    }
  }
}

/** From when on a program measures, the time that its own computing takes is counted: see run.ts. */
function noteRead(task: Task): void {
  if (++task.process.clockReads === MEASURES_FROM) task.kernel.scheduler.attention = true;
}

function clockGettime(layout: TimeLayout): (task: Task, clock: number, to: number) => number {
  return (task, clock, to) => {
    noteRead(task);
    const time = clockTime(task, clock);
    if (time === undefined) return task.fail(Errno.EINVAL, `there is no clock ${clock}`);
    layout.write(task.memory, to, { tv_sec: time.sec, tv_nsec: time.nsec }, task.abi);
    return 0;
  };
}

function resolution(clock: number): number {
  const coarse = clock === ClockId.CLOCK_REALTIME_COARSE || clock === ClockId.CLOCK_MONOTONIC_COARSE;
  // CPUCLOCK_PROF and CPUCLOCK_VIRT count ticks.
  return coarse || (clock < 0 && (clock & CPUCLOCK_WHICH) < CPUCLOCK_SCHED) ? TICK_NS : 1;
}

function clockGetres(layout: TimeLayout): (task: Task, clock: number, to: number) => number {
  return (task, clock, to) => {
    if (clockTime(task, clock) === undefined) return task.fail(Errno.EINVAL, `there is no clock ${clock}`);
    if (to !== 0) layout.write(task.memory, to, { tv_sec: 0, tv_nsec: resolution(clock) }, task.abi);
    return 0;
  };
}

/** Setting the time needs a privilege that a guest does not get, whoever it runs as. */
function clockSettime(layout: TimeLayout): (task: Task, clock: number, from: number) => number {
  return (task, clock, from) => {
    if (clock !== ClockId.CLOCK_REALTIME) return task.fail(Errno.EINVAL, `clock ${clock} cannot be set`);
    layout.read(task.memory, from, task.abi);
    return task.fail(Errno.EPERM, "the run's clock is not the guest's to set");
  };
}

/** Sleeps until `deadline`; when a signal handler runs, what is left goes to `remaining` (0 for nowhere). */
function sleepUntil(task: Task, deadline: number, remaining: number, layout: TimeLayout): Result {
  const { kernel, memory, abi } = task;
  if (deadline <= kernel.clock.now()) return 0;
  return new Wait({
    queues: [],
    attempt: () => undefined,
    deadline,
    interrupted: () => {
      if (remaining !== 0) {
        const left = toInstant(Math.max(0, deadline - kernel.clock.now()));
        layout.write(memory, remaining, { tv_sec: left.sec, tv_nsec: left.nsec }, abi);
      }
      task.restart = () => sleepUntil(task, deadline, remaining, layout);
      return -Errno.ERESTART_RESTARTBLOCK;
    },
  });
}

/** An absolute sleep starts again from its own arguments. */
function sleepAbsolute(task: Task, deadline: number): Result {
  if (deadline <= task.kernel.clock.now()) return 0;
  return new Wait({ queues: [], attempt: () => undefined, deadline, interrupted: () => -Errno.ERESTARTNOHAND });
}

function nanosleep(task: Task, request: number, remaining: number): Result {
  const span = toNs(readTime(task, request, timespec));
  return sleepUntil(task, task.kernel.clock.now() + span, remaining, timespec);
}

const REALTIME_CLOCKS: readonly number[] = [ClockId.CLOCK_REALTIME, ClockId.CLOCK_TAI];

function clockNanosleep(layout: TimeLayout) {
  return (task: Task, clock: number, flags: number, request: number, remaining: number): Result => {
    const source = task.kernel.clock;
    const now = clockTime(task, clock);
    if (now === undefined) return task.fail(Errno.EINVAL, `there is no clock ${clock}`);
    const sleeps =
      clock < 0 ||
      REALTIME_CLOCKS.includes(clock) ||
      clock === ClockId.CLOCK_MONOTONIC ||
      clock === ClockId.CLOCK_BOOTTIME ||
      clock === ClockId.CLOCK_PROCESS_CPUTIME_ID;
    if (!sleeps) return task.fail(Errno.EOPNOTSUPP, "nobody can sleep on this clock");
    const time = readTime(task, request, layout);
    if ((flags & TIMER_ABSTIME) === 0) return sleepUntil(task, source.now() + toNs(time), remaining, layout);
    const { tv_sec, tv_nsec } = time;
    if (REALTIME_CLOCKS.includes(clock)) return sleepAbsolute(task, monotonicOf(source, tv_sec, tv_nsec));
    const ahead = (tv_sec - now.sec) * SECOND + tv_nsec - now.nsec;
    return sleepAbsolute(task, source.now() + ahead);
  };
}

function gettimeofday(task: Task, tv: number, tz: number): number {
  noteRead(task);
  const { kernel, memory, abi } = task;
  if (tv !== 0) {
    const now = realtimeAt(kernel.clock, kernel.clock.now());
    timeval.write(memory, tv, { tv_sec: now.sec, tv_usec: Math.floor(now.nsec / 1000) }, abi);
  }
  if (tz !== 0) timezone.write(memory, tz, { tz_minuteswest: 0, tz_dsttime: 0 }, abi);
  return 0;
}

function settimeofday(task: Task, tv: number, tz: number): number {
  if (tv !== 0) timeval.read(task.memory, tv, task.abi);
  if (tz !== 0) timezone.read(task.memory, tz, task.abi);
  return task.fail(Errno.EPERM, "the run's clock is not the guest's to set");
}

function time(task: Task, to: number): number {
  noteRead(task);
  const { kernel, memory, abi } = task;
  const { sec } = realtimeAt(kernel.clock, kernel.clock.now());
  if (to !== 0) longField.write(memory, to, sec, abi);
  return sec;
}

function times(task: Task, to: number): number {
  noteRead(task);
  const { kernel, process, memory, abi } = task;
  if (to !== 0) {
    const ticks = (ns: number): number => Math.floor(ns / CLOCK_TICK_NS);
    const own = process.used;
    const children = process.childrenUsage;
    const value = {
      tms_utime: ticks(own.user),
      tms_stime: ticks(own.system),
      tms_cutime: ticks(children.user),
      tms_cstime: ticks(children.system),
    };
    tms.write(memory, to, value, abi);
  }
  return Math.floor(kernel.clock.now() / CLOCK_TICK_NS);
}

function getrusage(task: Task, who: number, to: number): number {
  noteRead(task);
  const { process } = task;
  if (who < -1 || who > 1) return task.fail(Errno.EINVAL, `${who} is no RUSAGE_*`);
  const used = who === 1 ? task.used : who === 0 ? process.used : process.childrenUsage;
  writeRusage(task, to, used);
  return 0;
}

function restartSyscall(task: Task): Result {
  const { restart } = task;
  task.restart = undefined;
  return restart === undefined ? task.fail(Errno.EINTR, "there is nothing to restart") : restart();
}

const family = "time";
export const timeCalls: readonly Row[] = [
  row("clock_gettime", { x86_64: 228, i386: 265 }, [clockId, structOut(timespec)], clockGettime(timespec), { family }),
  row("clock_gettime64", { i386: 403 }, [clockId, structOut(timespec64)], clockGettime(timespec64), { family }),
  row("clock_getres", { x86_64: 229, i386: 266 }, [clockId, structOut(timespec)], clockGetres(timespec), { family }),
  row("clock_getres_time64", { i386: 406 }, [clockId, structOut(timespec64)], clockGetres(timespec64), { family }),
  row("clock_settime", { x86_64: 227, i386: 264 }, [clockId, structIn(timespec)], clockSettime(timespec), {
    family,
    support: "EPERM for every user",
  }),
  row("clock_settime64", { i386: 404 }, [clockId, structIn(timespec64)], clockSettime(timespec64), {
    family,
    support: "EPERM for every user",
  }),
  row("nanosleep", { x86_64: 35, i386: 162 }, [structIn(timespec), pointer], nanosleep, { family }),
  row(
    "clock_nanosleep",
    { x86_64: 230, i386: 267 },
    [clockId, timerFlags, structIn(timespec), pointer],
    clockNanosleep(timespec),
    { family, support: "CPU clocks count as monotonic time while it sleeps" },
  ),
  row(
    "clock_nanosleep_time64",
    { i386: 407 },
    [clockId, timerFlags, structIn(timespec64), pointer],
    clockNanosleep(timespec64),
    { family, support: "CPU clocks count as monotonic time while it sleeps" },
  ),
  row("gettimeofday", { x86_64: 96, i386: 78 }, [structOut(timeval), structOut(timezone)], gettimeofday, { family }),
  row("settimeofday", { x86_64: 164, i386: 79 }, [structIn(timeval), structIn(timezone)], settimeofday, {
    family,
    support: "EPERM for every user",
  }),
  row("time", { x86_64: 201, i386: 13 }, [pointer], time, { family, returns: long }),
  row("times", { x86_64: 100, i386: 43 }, [structOut(tms)], times, { family }),
  row("getrusage", { x86_64: 98, i386: 77 }, [rusageWho, rusageOut], getrusage, {
    family,
    support: "CPU time, resident size and switches; other counts are 0",
  }),
  row("restart_syscall", { x86_64: 219, i386: 0 }, [], restartSyscall, { family: "signal" }),
];
