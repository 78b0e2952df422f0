/** timerfd_create(2) and its kin (fs/timerfd.c). */

import { monotonicOf } from "../clock.ts";
import { Errno } from "../errno.ts";
import { ClockId, clockId } from "../kinds/flags.ts";
import { fd, flags, type Kind } from "../kinds/kinds.ts";
import { structIn, structOut } from "../kinds/structs.ts";
import { TimerFile, type TimerSetting } from "../net/timer-file.ts";
import { Cap } from "../process/capabilities.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { fromNs, type ItimerLayout, isValidTime, itimerspec, itimerspec64, toNs } from "../timespec.ts";
import { demandDescriptors, fileCall, install, openFileOf } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { O_CLOEXEC, O_NONBLOCK } from "../vfs/flags.ts";

const TFD_TIMER_ABSTIME = 1;
const TFD_TIMER_CANCEL_ON_SET = 2;

const CLOCKS: readonly number[] = [ClockId.CLOCK_REALTIME, ClockId.CLOCK_MONOTONIC, ClockId.CLOCK_BOOTTIME];
const ALARMS: readonly number[] = [ClockId.CLOCK_REALTIME_ALARM, ClockId.CLOCK_BOOTTIME_ALARM];
const REALTIME: readonly number[] = [ClockId.CLOCK_REALTIME, ClockId.CLOCK_REALTIME_ALARM];

const create = fileCall((task, clock, given) => {
  if (given & ~(O_CLOEXEC | O_NONBLOCK)) fail(Errno.EINVAL, "unknown flags");
  if (!CLOCKS.includes(clock) && !ALARMS.includes(clock)) fail(Errno.EINVAL, "this clock has no timers to read");
  const { kernel, process } = task;
  if (ALARMS.includes(clock) && !process.cred.capable(Cap.CAP_WAKE_ALARM))
    fail(Errno.EPERM, "waking the machine needs CAP_WAKE_ALARM");
  demandDescriptors(task);
  const { vfs } = kernel;
  const entry = vfs.anonymousEntry(vfs.anonymousNode(0o600, process.cred), "anon_inode:[timerfd]");
  return install(task, new TimerFile(entry, given & O_NONBLOCK, clock, process), (given & O_CLOEXEC) !== 0);
});

function timerOf(task: Task, descriptor: number): TimerFile {
  const file = openFileOf(task, descriptor);
  return file instanceof TimerFile ? file : fail(Errno.EINVAL, `descriptor ${descriptor} is no timerfd`);
}

function writeSetting(task: Task, layout: ItimerLayout, at: number, { value, interval }: TimerSetting): void {
  layout.write(task.memory, at, { it_interval: fromNs(interval), it_value: fromNs(value) }, task.abi);
}

function settime(layout: ItimerLayout) {
  return fileCall((task, descriptor, given, from, to) => {
    const { it_value, it_interval } = layout.read(task.memory, from, task.abi);
    const valid = isValidTime(it_value) && isValidTime(it_interval);
    if (given & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) || !valid) fail(Errno.EINVAL, "no valid time or flags");
    const timer = timerOf(task, descriptor);
    const old = timer.get();
    const { clock } = task.kernel;
    const value = toNs(it_value);
    const interval = toNs(it_interval);
    let expires = 0;
    if (value !== 0) {
      if (!(given & TFD_TIMER_ABSTIME)) expires = clock.now() + value;
      // A time before the start of the run is over at once; 0 would stop the timer.
      else if (REALTIME.includes(timer.clock))
        expires = Math.max(1, monotonicOf(clock, it_value.tv_sec, it_value.tv_nsec));
      else expires = value;
    }
    timer.set(expires, interval);
    if (to !== 0) writeSetting(task, layout, to, old);
    return 0;
  });
}

function gettime(layout: ItimerLayout) {
  return fileCall((task, descriptor, to) => {
    writeSetting(task, layout, to, timerOf(task, descriptor).get());
    return 0;
  });
}

const createFlags: Kind = flags("TFD_", { TFD_CLOEXEC: O_CLOEXEC, TFD_NONBLOCK: O_NONBLOCK }, "int");
const timerFlags: Kind = flags("TFD_TIMER_", { TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET }, "int");
const o = { family: "time" } as const;

export const timerfdCalls: readonly Row[] = [
  row("timerfd_create", { x86_64: 283, i386: 322 }, [clockId, createFlags], create, { ...o, returns: fd }),
  row(
    "timerfd_settime",
    { x86_64: 286, i386: 325 },
    [fd, timerFlags, structIn(itimerspec), structOut(itimerspec)],
    settime(itimerspec),
    { ...o, support: "a change of the clock cancels nothing: only clock_settime could make one" },
  ),
  row("timerfd_gettime", { x86_64: 287, i386: 326 }, [fd, structOut(itimerspec)], gettime(itimerspec), o),
  row(
    "timerfd_settime64",
    { i386: 411 },
    [fd, timerFlags, structIn(itimerspec64), structOut(itimerspec64)],
    settime(itimerspec64),
    o,
  ),
  row("timerfd_gettime64", { i386: 410 }, [fd, structOut(itimerspec64)], gettime(itimerspec64), o),
];
