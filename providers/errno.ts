/** The Linux errnos a platform answers with (asm-generic/errno-base.h), positive. */
export const Errno = { EPERM: 1, ESRCH: 3, EINVAL: 22 } as const;

/** `EPERM` for 1; `errno 5` for one that no platform of ours answers with. */
export function errnoName(errno: number): string {
  for (const [name, value] of Object.entries(Errno)) if (value === errno) return name;
  return `errno ${errno}`;
}
