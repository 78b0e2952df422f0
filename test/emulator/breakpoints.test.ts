import { afterEach, describe, expect, test } from "vitest";
import { Reg } from "../../emulator/cpu.ts";
import type { MachineOptions } from "../../emulator/machine.ts";
import { loadNative } from "../../emulator/native.ts";
import { Flag } from "../../emulator/x86.ts";
import { assemble, type Bits, CODE, close, DATA, type Guest, guestOf, runGuest } from "./guest.ts";

const open: Guest[] = [];
function guest(bits: Bits, source: string, options?: MachineOptions): Guest {
  const made = guestOf(bits, source, options);
  open.push(made);
  return made;
}
afterEach(() => {
  for (const made of open.splice(0)) close(made);
});

const [EXECUTE, WRITES, ACCESSES] = [0, 1, 3];
/** One breakpoint, the third. */
function put({ cpu }: Guest, address: number, kind: number, length: 0 | 1 | 2 | 3 = 0): void {
  cpu.setBreakpoints(Float64Array.of(0, 0, address, 0), ((1 << 4) | ((kind | (length << 2)) << 24)) >>> 0);
}
/** Where it stops, as distances from the start, until something else than a breakpoint ends it. */
function stops(g: Guest, budget?: number): number[] {
  const found: number[] = [];
  for (;;) {
    const stop = runGuest(g, budget);
    if (stop.what !== "exception" || stop.vector !== 1) return found;
    expect(g.cpu.stopDebug & 0xf).toBe(4);
    found.push(g.cpu.reg(Reg.rip) - CODE);
    if (found.length > 20) return found;
  }
}
const lengthOf = (bits: Bits, source: string): number => assemble(bits, source).length;

describe.each([32, 64] as const)("breakpoints of %i-bit code", (bits) => {
  const store = `mov dword ptr [${DATA}], 1`;
  test.each([undefined, 1000])("on data: after the instruction, and only for what is watched (budget %s)", (budget) => {
    const code = `nop; ${store}; nop; mov eax, [${DATA}]; int 0x80`;
    const stored = 1 + lengthOf(bits, store);
    const read = stored + 1 + lengthOf(bits, `mov eax, [${DATA}]`);
    for (const [address, kind, length, where] of [
      [DATA, WRITES, 3, [stored]],
      [DATA + 3, WRITES, 0, [stored]],
      [DATA, ACCESSES, 1, [stored, read]],
      [DATA + 4, ACCESSES, 3, []],
    ] as const) {
      const g = guest(bits, code);
      put(g, address, kind, length);
      expect(stops(g, budget)).toEqual(where);
      expect(g.cpu.regLow(Reg.rax)).toBe(1);
    }
  });
  test("on data: each element of a string", () => {
    const g = guest(bits, `mov edi, ${DATA}; mov esi, ${DATA + 64}; mov ecx, 8; rep movsb; int 0x80`);
    put(g, DATA + 2, WRITES, 1);
    const at = lengthOf(bits, `mov edi, ${DATA}; mov esi, ${DATA + 64}; mov ecx, 8`);
    expect(stops(g)).toEqual([at, at]);
  });
  test("on an instruction: before it, in a loop, and not with RF", () => {
    const g = guest(bits, "mov ecx, 3; inc eax; dec ecx; jnz 0x401005; int 0x80");
    put(g, CODE + 5, EXECUTE);
    for (let round = 0; round < 3; round++) {
      expect(runGuest(g)).toMatchObject({ vector: 1, rip: CODE + 5 });
      expect(g.cpu.regLow(Reg.rax)).toBe(round);
      g.cpu.setReg(Reg.rflags, g.cpu.regLow(Reg.rflags) | Flag.RF);
    }
    expect(runGuest(g).what).toBe("int80");
    g.cpu.setBreakpoints(new Float64Array(4), 0);
    g.cpu.setReg(Reg.rip, CODE);
    expect(runGuest(g).what).toBe("int80");
  });
  test("that are moved, and taken away in between", () => {
    const g = guest(bits, "nop; nop; nop; int 0x80");
    for (const at of [1, 2, 1, 0]) {
      g.cpu.setReg(Reg.rip, CODE);
      put(g, CODE + at, EXECUTE);
      expect(runGuest(g)).toMatchObject({ vector: 1, rip: CODE + at });
      g.cpu.setBreakpoints(new Float64Array(4), 0);
      g.cpu.setReg(Reg.rip, CODE);
      expect(runGuest(g).what).toBe("int80");
    }
  });
  test("with single steps both are told", () => {
    const g = guest(bits, `${store}; nop`);
    put(g, DATA, WRITES, 3);
    g.cpu.setReg(Reg.rflags, Flag.TF);
    expect(runGuest(g)).toMatchObject({ vector: 1, rip: CODE + lengthOf(bits, store) });
    expect(g.cpu.stopDebug).toBe(0x4004);
    expect(runGuest(g)).toMatchObject({ vector: 1 });
    expect(g.cpu.stopDebug).toBe(0x4000);
  });
});

test.skipIf(loadNative().lacksForV3().length > 0)("vector instructions of x86-64-v3 trap too", () => {
  const code = `vmovups [${DATA}], ymm0; vptest xmm0, [${DATA}]; setz al; syscall`;
  const g = guest(64, code, { processor: "x86-64-v3" });
  put(g, DATA + 8, ACCESSES, 3);
  const first = lengthOf(64, `vmovups [${DATA}], ymm0`);
  expect(stops(g)).toEqual([first, first + lengthOf(64, `vptest xmm0, [${DATA}]`)]);
  expect(g.cpu.regLow(Reg.rax) & 0xff).toBe(1);
});
