/** Times as calls take and give them, struct timespec and struct itimerspec. Everywhere else a moment or a span is a number of ns. */
import { Errno } from "./errno.ts";
import { type Struct, struct, timespec, timespec64 } from "./kinds/structs.ts";
import type { Task } from "./task.ts";
import { fail } from "./vfs/error.ts";

/** ns */
export const SECOND = 1_000_000_000;

export interface Time {
  readonly tv_sec: number;
  readonly tv_nsec: number;
}
/** {@link timespec} or {@link timespec64}. */
export type TimeLayout = Struct<{ tv_sec: number; tv_nsec: number }>;

export const itimerspec = struct({ it_interval: timespec, it_value: timespec });
export const itimerspec64 = struct({ it_interval: timespec64, it_value: timespec64 });
export type ItimerLayout = typeof itimerspec | typeof itimerspec64;

/** timespec64_valid: nothing before 0, and less than a second of nanoseconds. */
export function isValidTime({ tv_sec, tv_nsec }: Time): boolean {
  return tv_sec >= 0 && tv_nsec >= 0 && tv_nsec < SECOND;
}

export function toNs({ tv_sec, tv_nsec }: Time): number {
  return tv_sec * SECOND + tv_nsec;
}

export function fromNs(ns: number): { tv_sec: number; tv_nsec: number } {
  return { tv_sec: Math.floor(ns / SECOND), tv_nsec: Math.floor(ns % SECOND) };
}

/**
 * A time in guest memory.
 * @throws MemoryFault, and EINVAL for one that is not valid
 */
export function readTime(task: Task, at: number, layout: TimeLayout): Time {
  const time = layout.read(task.memory, at, task.abi);
  return isValidTime(time) ? time : fail(Errno.EINVAL, "no valid time");
}

/** Likewise a span, in ns; undefined for a null pointer. */
export function readSpan(task: Task, at: number, layout: TimeLayout): number | undefined {
  return at === 0 ? undefined : toNs(readTime(task, at, layout));
}
