/** return, log and panic: how a TA ends and what it says. */
import { Reg } from "../../../emulator/cpu.ts";
import type { Call } from "../call.ts";
import { hexLong, size, text } from "../kinds.ts";
import { Tee } from "../results.ts";
import { arg, type Leave, type Row, row } from "../table.ts";

/** Longer lines are cut. */
const LOG_MAX = 65536;

/** Ends the entry; the word in the register is what the caller gets, all 64 bits. */
export function leave(call: Call): Leave {
  return { kind: "return", value: call.tee.machine.cpu.regBig(Reg.rdi) };
}

/** A line for whoever watches. As in OP-TEE, text that cannot be read is not an error. */
export function log(call: Call, buffer: number, length: number): number {
  if (length === 0) return Tee.SUCCESS;
  const bytes = call.memory.bytes(buffer, Math.min(length, LOG_MAX));
  call.tee.log(call.instance, Buffer.from(bytes).toString("utf8"));
  return Tee.SUCCESS;
}

export function panic(_call: Call, code: number): Leave {
  return { kind: "panic", code };
}

export const logCalls: readonly Row[] = [
  row(0, "return", [arg("ret", hexLong)], leave),
  row(1, "log", [arg("buf", text(1)), arg("len", size)], log),
  row(2, "panic", [arg("code", hexLong)], panic),
];
