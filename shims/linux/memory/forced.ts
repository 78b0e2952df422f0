/**
 * Another process's memory whatever its protection says (FOLL_FORCE): what /proc/pid/mem and debuggers use. Only memory that is
 * shared and may not be written stays as it is.
 */
import { type AddressSpace, PROT_READ, PROT_WRITE } from "../../../emulator/memory.ts";

/** Calls `copy` region by region, each made accessible for it. @returns bytes up to the first place that cannot be reached */
function byRegion(
  space: AddressSpace,
  address: number,
  bytes: Uint8Array,
  needed: number,
  copy: (at: number, part: Uint8Array) => number,
): number {
  let done = 0;
  while (done < bytes.length) {
    const at = address + done;
    const region = space.regionAt(at);
    if (region === undefined || (needed === PROT_WRITE && region.shared && !(region.prot & PROT_WRITE))) break;
    const part = bytes.subarray(done, done + Math.min(region.end - at, bytes.length - done));
    const closed = (region.prot & needed) === 0;
    const length = region.end - region.start;
    if (closed) space.protect(region.start, length, region.prot | PROT_READ | needed);
    const copied = copy(at, part);
    if (closed) space.protect(region.start, length, region.prot);
    done += copied;
    if (copied < part.length) break;
  }
  return done;
}

/** @returns how many bytes could be read */
export function readForced(space: AddressSpace, address: number, into: Uint8Array): number {
  return byRegion(space, address, into, PROT_READ, (at, part) => space.memory.readSome(at, part));
}

/** @returns how many bytes could be written */
export function writeForced(space: AddressSpace, address: number, from: Uint8Array): number {
  return byRegion(space, address, from, PROT_WRITE, (at, part) => space.memory.writeSome(at, part));
}
