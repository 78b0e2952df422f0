/** `struct user` as PTRACE_PEEKUSER and PTRACE_POKEUSER see it: registers, debug registers, and words that are zero. */
import { Errno } from "../errno.ts";
import { DebugRegisters } from "./debug-registers.ts";
import { getNarrow, getWide, NARROW_REGISTERS, putNarrow, putWide, WIDE_REGISTERS } from "./registers.ts";
import type { Tracee } from "./tracee.ts";

/** Sizes and places in bytes (asm/user_64.h, asm/user32.h). */
const LAYOUT = {
  8: { registers: 8 * WIDE_REGISTERS, debug: 848, end: 928 },
  4: { registers: 4 * NARROW_REGISTERS, debug: 252, end: 288 },
} as const;
const DEBUG_REGISTERS = 8;

/** Undefined for EIO. `word` is the tracer's. */
export function peekUser(tracee: Tracee, offset: number, word: 4 | 8): bigint | undefined {
  const layout = LAYOUT[word];
  if (offset % word !== 0 || offset >= layout.end) return undefined;
  if (offset < layout.registers) {
    const index = offset / word;
    return word === 8 ? getWide(tracee)[index] : BigInt(getNarrow(tracee)[index] ?? 0);
  }
  const debug = (offset - layout.debug) / word;
  if (debug < 0 || debug >= DEBUG_REGISTERS) return 0n;
  return (tracee.task.debug ?? new DebugRegisters()).get(debug);
}

/** An errno, or 0. */
export function pokeUser(tracee: Tracee, offset: number, value: bigint, word: 4 | 8): number {
  const layout = LAYOUT[word];
  if (offset % word !== 0 || offset >= layout.end) return Errno.EIO;
  const index = offset / word;
  if (offset < layout.registers) {
    const refused = word === 8 ? putWide(tracee, index, value) : putNarrow(tracee, index, Number(value));
    return refused ? Errno.EIO : 0;
  }
  const debug = (offset - layout.debug) / word;
  // A 32-bit tracer may write to what nobody reads.
  if (debug < 0 || debug >= DEBUG_REGISTERS) return word === 4 ? 0 : Errno.EIO;
  tracee.task.debug ??= new DebugRegisters();
  return tracee.task.debug.set(debug, value);
}
