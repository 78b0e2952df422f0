/** Time, waiting, cancellation (4.10 and chapter 7). */
import type { Call } from "../call.ts";
import { toTeeTime } from "../clock.ts";
import { TimeCategory } from "../constants.ts";
import { outU32, time, timeCategory, ulong } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { fail, Tee } from "../results.ts";
import { arg, type Row, row } from "../table.ts";

const SECONDS_END = 2 ** 32;
const TIMEOUT_INFINITE = 0xffff_ffff;

function getCancellationFlag(call: Call, out: number): number {
  const cancelled = call.session?.isCancelled(call.tee.clock.now()) ?? false;
  call.memory.setU32(out, cancelled ? 1 : 0);
  return Tee.SUCCESS;
}

function setMask(call: Call, out: number, masked: boolean): number {
  const { session } = call;
  if (session === undefined) return fail(Tee.ERROR_BAD_STATE, "there is no session");
  const before = session.cancelMasked;
  session.cancelMasked = masked;
  call.memory.setU32(out, before ? 1 : 0);
  return Tee.SUCCESS;
}

/** Waits in the TEE's own time. A wait that only a cancellation could end, and none is on its way, would never end. */
function wait(call: Call, timeout: number): number {
  const { clock } = call.tee;
  const { session } = call;
  const now = clock.now();
  if (session?.isCancelled(now)) return fail(Tee.ERROR_CANCEL);
  const cancelAt = session === undefined || session.cancelMasked ? Number.POSITIVE_INFINITY : session.cancelAt;
  if (cancelAt <= now + timeout) {
    clock.wait(cancelAt - now);
    return fail(Tee.ERROR_CANCEL);
  }
  if (timeout >= TIMEOUT_INFINITE) fail(Tee.ERROR_CANCEL, "nothing would ever end this wait");
  clock.wait(timeout);
  return Tee.SUCCESS;
}

function getTime(call: Call, category: number, out: number): number {
  const { clock, taTimes } = call.tee;
  let milliseconds: number;
  switch (category) {
    case TimeCategory.SYSTEM:
      milliseconds = clock.now();
      break;
    case TimeCategory.REE:
      milliseconds = clock.ree();
      break;
    case TimeCategory.TA_PERSISTENT: {
      const offset = taTimes.get(call.instance.uuid);
      if (offset === undefined) return fail(Tee.ERROR_TIME_NOT_SET, "the TA has not set it");
      milliseconds = clock.ree() + offset;
      break;
    }
    default:
      return fail(Tee.ERROR_BAD_PARAMETERS, "no such kind of time");
  }
  const { seconds, millis } = toTeeTime(milliseconds);
  call.memory.check(MemoryAccess.WRITE, out, 8);
  call.memory.setU32(out, seconds);
  call.memory.setU32(out + 4, millis);
  // Seconds go round after 2^32; the answer is there and marked (7.2.3).
  return Math.floor(milliseconds / 1000) >= SECONDS_END ? Tee.ERROR_OVERFLOW : Tee.SUCCESS;
}

function setTaTime(call: Call, given: number): number {
  call.memory.check(MemoryAccess.READ, given, 8);
  const seconds = call.memory.u32(given);
  const millis = call.memory.u32(given + 4);
  if (millis >= 1000) fail(Tee.ERROR_BAD_PARAMETERS, "a second has 1000 milliseconds");
  call.tee.taTimes.set(call.instance.uuid, seconds * 1000 + millis - call.tee.clock.ree());
  return Tee.SUCCESS;
}

export const timeCalls: readonly Row[] = [
  row(9, "get_cancellation_flag", [arg("cancel", outU32)], getCancellationFlag),
  row(10, "unmask_cancellation", [arg("old_mask", outU32)], (call, out) => setMask(call, out ?? 0, false)),
  row(11, "mask_cancellation", [arg("old_mask", outU32)], (call, out) => setMask(call, out ?? 0, true)),
  row(12, "wait", [arg("timeout", ulong)], wait),
  row(13, "get_time", [arg("cat", timeCategory), arg("time", time("exit"))], getTime),
  row(14, "set_ta_time", [arg("time", time("entry"))], setTaTime),
];
