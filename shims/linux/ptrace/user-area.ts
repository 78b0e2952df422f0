/** `struct user` as PTRACE_PEEKUSER and PTRACE_POKEUSER see it: registers, debug registers, and words that are zero. */
import { getNarrow, getWide, NARROW_REGISTERS, putNarrow, putWide, WIDE_REGISTERS } from "./registers.ts";
import type { Tracee } from "./tracee.ts";

/** Sizes and places in bytes (asm/user_64.h, asm/user32.h). */
const LAYOUT = {
  8: { registers: 8 * WIDE_REGISTERS, debug: 848, end: 928 },
  4: { registers: 4 * NARROW_REGISTERS, debug: 252, end: 288 },
} as const;
/** DR6 without its causes. */
const DR6_RESERVED = 0xffff_0ff0n;
/** The enable bits of DR7: such a breakpoint this CPU does not have. */
const DR7_ENABLES = 0xffn;
const DR6 = 6;
const DR7 = 7;

/** Undefined for EIO. `word` is the tracer's. */
export function peekUser(tracee: Tracee, offset: number, word: 4 | 8): bigint | undefined {
  const layout = LAYOUT[word];
  if (offset % word !== 0 || offset >= layout.end) return undefined;
  if (offset < layout.registers) {
    const index = offset / word;
    return word === 8 ? getWide(tracee)[index] : BigInt(getNarrow(tracee)[index] ?? 0);
  }
  const debug = (offset - layout.debug) / word;
  if (debug < 0 || debug > DR7) return 0n;
  return (tracee.debug[debug] ?? 0n) ^ (debug === DR6 ? DR6_RESERVED : 0n);
}

/** False for EIO; "no breakpoints" where a hardware breakpoint is to be switched on. */
export function pokeUser(tracee: Tracee, offset: number, value: bigint, word: 4 | 8): boolean | "no breakpoints" {
  const layout = LAYOUT[word];
  if (offset % word !== 0 || offset >= layout.end) return false;
  const index = offset / word;
  if (offset < layout.registers) {
    const refused = word === 8 ? putWide(tracee, index, value) : putNarrow(tracee, index, Number(value));
    return !refused;
  }
  const debug = (offset - layout.debug) / word;
  // A 32-bit tracer may write to what nobody reads.
  if (debug < 0 || debug > DR7) return word === 4;
  return pokeDebug(tracee, debug, value);
}

function pokeDebug(tracee: Tracee, index: number, value: bigint): boolean | "no breakpoints" {
  if (index === 4 || index === 5) return false;
  if (index === DR7 && (value & DR7_ENABLES) !== 0n) return "no breakpoints";
  tracee.debug[index] = index === DR6 ? value ^ DR6_RESERVED : value;
  return true;
}
