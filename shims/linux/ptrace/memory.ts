/** A tracer's way to memory: page permissions do not stop it (FOLL_FORCE of mm/gup.c). */
import { PROT_READ, PROT_WRITE } from "../../../emulator/memory.ts";
import { PAGE_SIZE } from "../../../emulator/physical-memory.ts";
import type { Process } from "../task.ts";

/** Reads; the number of bytes up to the first that is not there. */
export function readForced(process: Process, address: number, into: Uint8Array): number {
  return pagewise(process, address, into.length, PROT_READ, (at, from, to) =>
    process.mm.space.memory.readSome(at, into.subarray(from, to)),
  );
}

/** Writes, also into code; a page of a private mapping becomes the process's own. The number of bytes written. */
export function writeForced(process: Process, address: number, from: Uint8Array): number {
  return pagewise(process, address, from.length, PROT_WRITE, (at, start, end) =>
    process.mm.space.memory.writeSome(at, from.subarray(start, end)),
  );
}

function pagewise(
  { mm: { space } }: Process,
  address: number,
  length: number,
  needed: number,
  copy: (at: number, from: number, to: number) => number,
): number {
  let done = 0;
  while (done < length) {
    const at = address + done;
    if (!(at >= 0 && at < space.end)) break;
    const page = at - (at % PAGE_SIZE);
    const end = Math.min(length, done + page + PAGE_SIZE - at);
    const region = space.regionAt(at);
    const forbidden = region !== undefined && (region.prot & needed) === 0;
    // Nobody may write to a file through a mapping that does not allow it.
    if (forbidden && needed === PROT_WRITE && region.shared) break;
    if (forbidden) space.protect(page, PAGE_SIZE, region.prot | PROT_READ | needed);
    let copied = 0;
    try {
      copied = copy(at, done, end);
    } finally {
      if (forbidden) space.protect(page, PAGE_SIZE, region.prot);
    }
    done += copied;
    if (done < end) break;
  }
  return done;
}
