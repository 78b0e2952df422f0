// A page full of one instruction is one block for the translator, up to 512 of them. For some instructions it keeps a temporary
// each, and has no more than 512.
import { afterEach, expect, test } from "vitest";
import { StopKind } from "../../emulator/cpu.ts";
import { assemble, type Bits, CODE, close, type Guest, newGuest, poke } from "./guest.ts";

const open: Guest[] = [];
afterEach(() => {
  for (const guest of open.splice(0)) close(guest);
});

function runPageOf(bits: Bits, instruction: string): void {
  const guest = newGuest(bits);
  open.push(guest);
  const one = assemble(bits, instruction);
  const end = assemble(bits, "int 0x80");
  const count = Math.floor((4096 - end.length) / one.length);
  const code = new Uint8Array(count * one.length + end.length);
  for (let i = 0; i < count; i++) code.set(one, i * one.length);
  code.set(end, count * one.length);
  poke(guest, CODE, code);
  expect(guest.cpu.run()).toBe(StopKind.int80);
}

const instructions = [
  "pshufd xmm2, xmm1, 0x4e",
  "pcmpistri xmm2, xmm1, 1",
  "aeskeygenassist xmm2, xmm1, 1",
  "crc32 ecx, al",
  "fxch",
  "fmul st(1), st(0)",
  "fldpi",
  "fcomi st(0), st(1)",
  "fnstsw ax",
];

test.each(instructions)("%s", (instruction) => {
  runPageOf(64, instruction);
  runPageOf(32, instruction);
});
