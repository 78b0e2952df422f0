/** Linux error numbers as handlers use them: `task.fail(Errno.EINVAL, "why")`. */
import { Errno as GuestErrno } from "../../providers/errno.ts";

export { errnoName } from "../../providers/errno.ts";

/** Those that guests see, and the kernel's own, which never reach one (linux/errno.h). */
export const Errno = {
  ...GuestErrno,
  ERESTARTSYS: 512,
  ERESTARTNOINTR: 513,
  ERESTARTNOHAND: 514,
  ERESTART_RESTARTBLOCK: 516,
} as const;

/** A call's result is an error when it lies in -4095..-1 (Linux, asm/unistd.h IS_ERR_VALUE). */
export function isError(result: number): boolean {
  return result < 0 && result >= -4095;
}

/** Results from -MAX_ERRNO to -1 are errors (include/linux/err.h). */
export const MAX_ERRNO = 4095;
