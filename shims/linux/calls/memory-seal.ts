/** mseal: mappings that nobody may unmap, move or protect otherwise any more (mm/mseal.c). */
import { Errno } from "../errno.ts";
import { pointer, size, word } from "../kinds/kinds.ts";
import type { Mm } from "../memory/mm.ts";
import { isAligned, pageUp } from "../memory/pages.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";

/** Some of a range is sealed. */
export function isSealed(mm: Mm, start: number, length: number): boolean {
  return mm.seals.any && mm.seals.within(start, start + length) > 0;
}

/** The failure of a call that is not for sealed mappings. */
export const sealed = (task: Task): number => task.fail(Errno.EPERM, "the mapping is sealed");

function mseal(task: Task, start: number, given: number, flags: number): number {
  const { mm, space } = task.process;
  if (flags !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  if (!isAligned(start)) return task.fail(Errno.EINVAL, "the address is no multiple of the page size");
  const length = pageUp(given);
  const end = start + length;
  // Counted in 64 bits for 32-bit callers too.
  if (end >= 2 ** 64) return task.fail(Errno.EINVAL, "the range wraps around");
  if (length === 0) return 0;
  if (end > space.end || !space.isMapped(start, length))
    return task.fail(Errno.ENOMEM, "part of the range is not mapped");
  mm.seals.add(start, end);
  return 0;
}

export const memorySealCalls: readonly Row[] = [
  row("mseal", { x86_64: 462, i386: 462 }, [pointer, size, word], mseal, { family: "memory" }),
];
