import type { Result } from "../table.ts";
import type { Task } from "../task.ts";
import { Wait } from "../wait.ts";
import { VfsError } from "./error.ts";
import { LeaseBreak } from "./leases.ts";

/**
 * Does what a lease may stand in the way of, again each time one is given back. A holder who does not let go loses it when the time
 * is over (fs.lease-break-time).
 */
export function afterLeases(task: Task, nonblocking: boolean, run: () => Result): Result {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof LeaseBreak) || nonblocking) throw error;
    const { leases, written } = error;
    if (written !== undefined) written.writers++;
    const attempt = (): number | undefined => {
      try {
        const result = run();
        if (typeof result !== "number") throw new TypeError("what waits for a lease waits for nothing else");
        return result;
      } catch (failed) {
        if (failed instanceof LeaseBreak) return undefined;
        if (failed instanceof VfsError) return task.fail(failed.errno, failed.why);
        throw failed;
      }
    };
    const { deadline } = leases;
    return new Wait({
      queues: [leases.changed],
      attempt,
      ...(deadline !== undefined && { deadline }),
      timeout: () => attempt() ?? task.fail(error.errno, error.why),
      cleanup: () => {
        if (written !== undefined) written.writers--;
      },
    });
  }
}
