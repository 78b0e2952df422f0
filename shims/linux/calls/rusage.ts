/** struct rusage, of getrusage and wait4. */
import { toInstant } from "../clock.ts";
import type { Kind } from "../kinds.ts";
import { array, long, struct, structOut, timeval } from "../structs.ts";
import type { Task } from "../task.ts";

const rusage = struct({ ru_utime: timeval, ru_stime: timeval, ru_maxrss: long, rest: array(long, 13) }, [
  "ru_utime",
  "ru_stime",
]);

export const rusageOut: Kind = structOut(rusage);

/**
 * Fills a struct rusage with CPU time in ns; the kernel's other counts stay 0.
 * @throws MemoryFault
 */
export function writeRusage(task: Task, to: number, used: number): void {
  const { sec, nsec } = toInstant(used);
  const value = {
    ru_utime: { tv_sec: sec, tv_usec: Math.floor(nsec / 1000) },
    ru_stime: { tv_sec: 0, tv_usec: 0 },
    ru_maxrss: Math.floor(task.process.space.residentBytes / 1024),
    rest: new Array<number>(13).fill(0),
  };
  rusage.write(task.memory, to, value, task.abi);
}
