/** What all futex calls ask of an address. */
import { PROT_WRITE } from "../../../emulator/memory.ts";
import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";

/** A futex word and who may use it. */
export interface Word {
  readonly at: number;
  /** FUTEX_PRIVATE_FLAG. */
  readonly isPrivate: boolean;
}

/** EFAULT and EINVAL of a futex's address (get_futex_key); a private one need not be mapped. */
export function checkAddress(task: Task, { at, isPrivate }: Word): number {
  if (at % 4 !== 0) return task.fail(Errno.EINVAL, "the address of a futex is a multiple of 4");
  if (at + 4 > task.process.space.end) return task.fail(Errno.EFAULT, "the futex lies outside user space");
  if (isPrivate) return 0;
  task.memory.u32(at);
  // Private memory that may only be read has no page of its own that could be known by all.
  const region = task.process.space.regionAt(at);
  const known = region === undefined || region.shared || region.backing?.frame !== undefined;
  return known || (region.prot & PROT_WRITE) !== 0 ? 0 : task.fail(Errno.EFAULT, "the futex cannot be written");
}
