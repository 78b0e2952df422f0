/** Priorities of I/O (uapi/linux/ioprio.h): kept and told, as nothing here waits for a disk. */

import { Errno } from "../errno.ts";
import { Cap } from "./capabilities.ts";
import type { Credentials } from "./credentials.ts";

export const IO_CLASS_SHIFT = 13;
export const IoClass = { NONE: 0, RT: 1, BE: 2, IDLE: 3 } as const;

/** Why nobody, or not this one, may have a priority (ioprio_check_cap): a positive errno, 0 where nothing speaks against it. */
export function ioPriorityRefusal(cred: Credentials, given: number): number {
  switch ((given >> IO_CLASS_SHIFT) & 7) {
    case IoClass.RT:
      return cred.capable(Cap.CAP_SYS_ADMIN) || cred.capable(Cap.CAP_SYS_NICE) ? 0 : Errno.EPERM;
    case IoClass.BE:
    case IoClass.IDLE:
      return 0;
    case IoClass.NONE:
      return (given & 7) === 0 ? 0 : Errno.EINVAL;
    default:
      return Errno.EINVAL;
  }
}
