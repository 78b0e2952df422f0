/** What exceptions of guest code are called. */
import type { AccessKind } from "../../emulator/cpu.ts";
import type { Resolution } from "../../emulator/memory.ts";

/** `page fault reading 0x28 (nothing is mapped there)`. */
export function pageFaultText(access: AccessKind, address: number, why: Exclude<Resolution, "ok">): string {
  return `page fault ${doing[access]} 0x${address.toString(16)} (${whyFault[why]})`;
}

export function exceptionText(vector: number): string {
  return exceptionNames[vector] ?? `exception ${vector}`;
}

const doing = { read: "reading", write: "writing", fetch: "executing" } as const;
const whyFault = {
  unmapped: "nothing is mapped there",
  protection: "its mapping does not allow that",
  bus: "its memory is gone",
  memory: "there is no memory left",
} as const;

/** Intel SDM vol. 3, table 6-1. */
const exceptionNames: Readonly<Record<number, string>> = {
  0: "division by zero",
  1: "single step",
  3: "breakpoint",
  4: "overflow",
  5: "bound range exceeded",
  6: "invalid instruction",
  7: "no coprocessor",
  11: "segment not present",
  12: "stack segment fault",
  13: "general protection fault",
  16: "x87 exception",
  17: "alignment check",
  19: "SIMD exception",
};
