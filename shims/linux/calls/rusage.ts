/** struct rusage, of getrusage and wait4. */
import { toInstant } from "../clock.ts";
import type { Kind } from "../kinds/kinds.ts";
import { array, long, struct, structOut, timeval } from "../kinds/structs.ts";
import type { Usage } from "../process/usage.ts";
import type { Task } from "../task.ts";

const rusage = struct(
  {
    ru_utime: timeval,
    ru_stime: timeval,
    ru_maxrss: long,
    /** ru_ixrss to ru_nsignals. */
    rest: array(long, 11),
    ru_nvcsw: long,
    ru_nivcsw: long,
  },
  ["ru_utime", "ru_stime"],
);

export const rusageOut: Kind = structOut(rusage);

function timevalOf(ns: number): { tv_sec: number; tv_usec: number } {
  const { sec, nsec } = toInstant(ns);
  return { tv_sec: sec, tv_usec: Math.floor(nsec / 1000) };
}

/**
 * Fills a struct rusage; the kernel's other counts stay 0.
 * @throws MemoryFault
 */
export function writeRusage(task: Task, to: number, used: Usage): void {
  const value = {
    ru_utime: timevalOf(used.user),
    ru_stime: timevalOf(used.system),
    ru_maxrss: Math.floor(used.maxResident / 1024),
    rest: new Array<number>(11).fill(0),
    ru_nvcsw: used.voluntary,
    ru_nivcsw: used.involuntary,
  };
  rusage.write(task.memory, to, value, task.abi);
}
