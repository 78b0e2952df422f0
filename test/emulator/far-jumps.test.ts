// Jumps to another selector, after instructions and blocks that leave their own address in the instruction pointer.
import { afterEach, describe, expect, test } from "vitest";
import { Reg } from "../../emulator/cpu.ts";
import { assemble, CODE, close, type Guest, guestOf, poke, runGuest, STACK } from "./guest.ts";

const open: Guest[] = [];
afterEach(() => {
  for (const guest of open.splice(0)) close(guest);
});

describe("far jumps", () => {
  // Instructions that are told where they are, some followed by a branch within their translation.
  test.each([
    [64, "cpuid"],
    [64, "cpuid; fcmovb st, st(1)"],
    [32, "cpuid"],
    [32, "cpuid; arpl [esp + 48], ax"],
  ] as const)("in %i bits after %s", (bits, before) => {
    const [JUMP, TARGET] = [CODE + 0x100, CODE + 0x200];
    const g = guestOf(bits, `mov edi, 5; mov ebp, ${JUMP}; jmp ${bits === 64 ? "rbp" : "ebp"}`);
    open.push(g);
    const far = [...[0, 8, 16, 24].map((at) => (TARGET >> at) & 0xff), g.cpu.selector("cs"), 0];
    // jmp far [rsp + 16], or the address in the instruction
    const jump = bits === 64 ? [0xff, 0x6c, 0x24, 0x10] : [0xea, ...far];
    poke(g, JUMP, assemble(bits, `${before}; .byte ${jump.join(", ")}`, JUMP));
    poke(g, TARGET, assemble(bits, `dec edi; jz 1f; jmp ${bits === 64 ? "rbp" : "ebp"}; 1: int 0x80`, TARGET));
    const stack = STACK - 64;
    g.space.memory.write(stack + 16, Uint8Array.from(far));
    g.cpu.setReg(Reg.rsp, stack);
    expect(runGuest(g, 100).what).toBe("int80");
    expect(g.cpu.regLow(Reg.rdi)).toBe(0);
  });
});
