// Segments, modes and contexts of the processor, in ring 3.
import { afterEach, describe, expect, test } from "vitest";
import { Reg } from "../../emulator/cpu.ts";
import { type Bits, CODE, close, DATA, type Guest, guestOf, type newGuest, poke, runGuest, STACK } from "./guest.ts";

const open: Guest[] = [];
function guest(bits: Bits, source: string, options?: Parameters<typeof newGuest>[1]): Guest {
  const made = guestOf(bits, source, options);
  open.push(made);
  return made;
}
afterEach(() => {
  for (const made of open.splice(0)) close(made);
});

/** A raw descriptor from base, limit, access byte and flags (G, D, L, AVL as bits 3 to 0). */
function descriptor(base: number, limit: number, access: number, flags = 4): bigint {
  const low = (BigInt(base & 0xffff) << 16n) | BigInt(limit & 0xffff);
  const high = (base >>> 24) * 2 ** 24 + (flags << 20) + (limit & 0xf0000) + (access << 8) + ((base >>> 16) & 0xff);
  return (BigInt(high) << 32n) | low;
}
const DATA_RW = 0xf2;

describe("FS and GS bases", () => {
  test("are seen by the next instruction, also in a block that has run before", () => {
    const g = guest(64, "1: mov rax, fs:[8]; mov rbx, gs:[16]; syscall; jmp 1b");
    const { privileged } = g.cpu;
    for (let i = 0; i < 4; i++) {
      g.space.memory.setU64(DATA + i * 64 + 8, BigInt(i + 1));
      g.space.memory.setU64(DATA + i * 64 + 16, BigInt(i + 100));
      privileged.fsBase = BigInt(DATA + i * 64);
      privileged.gsBase = BigInt(DATA + i * 64);
      expect(runGuest(g).what).toBe("syscall");
      expect([g.cpu.reg(Reg.rax), g.cpu.reg(Reg.rbx)]).toEqual([i + 1, i + 100]);
    }
  });
  test("a base that is not canonical is refused", () => {
    const { privileged } = guest(64, "ud2").cpu;
    for (const register of ["fsBase", "gsBase", "kernelGsBase"] as const) {
      privileged[register] = 0x7fffffffffffn;
      expect(() => Object.assign(privileged, { [register]: 0x8000_0000_0000n })).toThrow(/canonical/);
      privileged[register] = 0xffff_8000_0000_0000n;
      expect(privileged[register]).toBe(0xffff_8000_0000_0000n);
    }
  });
  test("the guest may change them with FSGSBASE instructions while CR4 allows it", () => {
    const source = `mov eax, ${DATA}; wrfsbase rax; mov ecx, 0x1234; wrgsbase rcx; rdfsbase rbx; rdgsbase rdx; mov dword ptr fs:[4], 77; ud2`;
    const g = guest(64, source);
    expect(runGuest(g).vector).toBe(6);
    expect(g.cpu.privileged.fsBase).toBe(BigInt(DATA));
    expect(g.cpu.privileged.gsBase).toBe(0x1234n);
    expect([g.cpu.reg(Reg.rbx), g.cpu.reg(Reg.rdx)]).toEqual([DATA, 0x1234]);
    expect(g.space.memory.u32(DATA + 4)).toBe(77);
    const old = guest(64, source, { fsgsbase: false });
    expect(runGuest(old)).toMatchObject({ vector: 6, rip: CODE + 5 });
  });
  test("wrfsbase with an address that is not canonical raises #GP", () => {
    const g = guest(64, "mov rax, 0x8000000000000000; wrfsbase rax");
    g.cpu.privileged.fsBase = 5n;
    expect(runGuest(g)).toMatchObject({ vector: 13, code: 0, rip: CODE + 10 });
    expect(g.cpu.privileged.fsBase).toBe(5n);
    const half = guest(64, "mov rax, 0x8000000000000000; wrgsbase eax; mov rax, -1; wrfsbase rax; rdfsbase rcx; ud2");
    expect(runGuest(half).vector).toBe(6);
    expect(half.cpu.regSigned(Reg.rcx)).toBe(-1);
  });
  test("FSGSBASE instructions do not exist in 32-bit code", () => {
    const g = guest(32, ".byte 0xf3, 0x0f, 0xae, 0xc0");
    expect(runGuest(g)).toMatchObject({ vector: 6, rip: CODE });
  });
  test("a null selector clears the base, and the MSR may be set after", () => {
    const g = guest(64, "xor eax, eax; mov fs, ax; mov ax, 3; mov gs, ax; syscall; mov rax, fs:[0]; ud2");
    g.cpu.privileged.fsBase = 0x5000n;
    g.cpu.privileged.gsBase = 0x5000n;
    runGuest(g);
    expect([g.cpu.privileged.fsBase, g.cpu.privileged.gsBase, g.cpu.selector("gs")]).toEqual([0n, 0n, 3]);
    g.cpu.privileged.fsBase = BigInt(DATA);
    expect(runGuest(g).vector).toBe(6);
  });
});

describe("descriptors", () => {
  const load = "mov gs, ax; mov ebx, gs:[0]; ud2";
  test.each([32, 64] as const)("a TLS entry of the GDT works, %i-bit", (bits) => {
    const g = guest(bits, load);
    g.cpu.privileged.setGdtEntry(12, descriptor(DATA + 8, 0xfffff, DATA_RW, 0xc));
    g.space.memory.setU32(DATA + 8, 4711);
    g.cpu.setReg(Reg.rax, 0x63);
    expect(runGuest(g).vector).toBe(6);
    expect(g.cpu.reg(Reg.rbx)).toBe(4711);
    expect(g.cpu.privileged.gsBase).toBe(BigInt(DATA + 8));
    expect(g.cpu.selector("gs")).toBe(0x63);
    expect(g.cpu.privileged.gdtEntry(12) & 0x100_0000_0000n).not.toBe(0n);
  });
  const refused: readonly [string, bigint, number, number, number][] = [
    ["an empty entry", 0n, 0x63, 13, 0x60],
    ["a segment that is not present", descriptor(0, 0xfffff, 0x72, 0xc), 0x63, 11, 0x60],
    ["an index beyond the table", 0n, 0x8b, 13, 0x88],
    ["an LDT selector without an LDT", 0n, 0x07, 13, 4],
    ["a kernel's segment", descriptor(0, 0xfffff, 0x92, 0xc), 0x63, 13, 0x60],
    ["code that cannot be read", descriptor(0, 0xfffff, 0xf8, 0xc), 0x63, 13, 0x60],
    ["a system descriptor", descriptor(0, 0xfffff, 0xe2, 0xc), 0x63, 13, 0x60],
  ];
  test.each(refused)("%s is refused on load", (_name, raw, selector, vector, code) => {
    for (const bits of [32, 64] as const) {
      const g = guest(bits, `nop; ${load}`);
      g.cpu.privileged.setGdtEntry(12, raw);
      g.cpu.setReg(Reg.rax, selector);
      expect(runGuest(g)).toMatchObject({ vector, code, rip: CODE + 1 });
      expect(g.cpu.selector("gs")).toBe(0);
      expect(g.cpu.privileged.loadSelector("gs", selector)).toBe(false);
    }
  });
  test("SS takes no null selector from 32-bit code, no read-only data and no other ring", () => {
    for (const [selector, raw, vector] of [
      [0, 0n, 13],
      [3, 0n, 13],
      [0x63, descriptor(0, 0xfffff, 0xf0, 0xc), 13],
      [0x60, descriptor(0, 0xfffff, DATA_RW, 0xc), 13],
      [0x63, descriptor(0, 0xfffff, 0x72, 0xc), 12],
    ] as const) {
      const g = guest(32, "mov ss, ax; ud2");
      g.cpu.privileged.setGdtEntry(12, raw);
      g.cpu.setReg(Reg.rax, selector);
      expect(runGuest(g)).toMatchObject({ vector, code: selector & 0xfffc, rip: CODE });
      expect(g.cpu.privileged.loadSelector("ss", selector)).toBe(false);
      expect(g.cpu.selector("ss")).toBe(0x2b);
    }
  });
  test("a rewritten descriptor counts when the selector is loaded again", () => {
    const g = guest(32, "mov gs, ax; mov ebx, gs:[0]; int 0x80; mov ecx, gs:[0]; mov gs, ax; mov edx, gs:[0]; ud2");
    for (let i = 0; i < 4; i++) g.space.memory.setU32(DATA + 4 * i, 100 + i);
    g.cpu.privileged.setGdtEntry(13, descriptor(DATA, 0xfffff, DATA_RW, 0xc));
    g.cpu.setReg(Reg.rax, 0x6b);
    runGuest(g);
    g.cpu.privileged.setGdtEntry(13, descriptor(DATA + 8, 0xfffff, DATA_RW, 0xc));
    expect(runGuest(g).vector).toBe(6);
    expect([Reg.rbx, Reg.rcx, Reg.rdx].map((r) => g.cpu.reg(r))).toEqual([100, 100, 102]);
    g.cpu.privileged.setGdtEntry(13, descriptor(DATA + 4, 0xfffff, DATA_RW, 0xc));
    expect(g.cpu.privileged.loadSelector("gs", 0x6b)).toBe(true);
    expect(g.cpu.privileged.gsBase).toBe(BigInt(DATA + 4));
  });
  test("the LDT grows, keeps its entries, and belongs to its address space", () => {
    const g = guest(32, "mov gs, ax; mov ebx, gs:[0]; ud2");
    const { privileged } = g.cpu;
    expect(privileged.ldtSize).toBe(0);
    privileged.ldtSize = 3;
    privileged.setLdtEntry(2, descriptor(DATA, 0xfffff, DATA_RW, 0xc));
    privileged.ldtSize = 8192;
    expect(privileged.ldtEntry(2)).toBe(descriptor(DATA, 0xfffff, DATA_RW, 0xc));
    expect(() => privileged.setLdtEntry(8192, 1n)).toThrow();
    expect(() => Object.assign(privileged, { ldtSize: 8193 })).toThrow();
    g.space.memory.setU32(DATA, 99);
    g.cpu.setReg(Reg.rax, 0x17);
    expect(runGuest(g).vector).toBe(6);
    expect(g.cpu.reg(Reg.rbx)).toBe(99);
    const other = g.space.fork();
    const empty = g.machine.newSpace(0x1000000);
    g.machine.activate(empty);
    expect(privileged.ldtSize).toBe(0);
    expect(privileged.loadSelector("gs", 0x17)).toBe(false);
    g.machine.activate(other);
    expect(privileged.loadSelector("gs", 0x17)).toBe(true);
    privileged.setLdtEntry(2, 0n);
    g.machine.activate(g.space);
    expect(privileged.ldtEntry(2)).toBe(descriptor(DATA, 0xfffff, DATA_RW | 1, 0xc));
    privileged.ldtSize = 0;
    expect(privileged.loadSelector("gs", 0x17)).toBe(false);
  });
  test("DS with a base moves accesses, in new blocks and old ones", () => {
    const g = guest(32, "1: mov ebx, [4]; int 0x80; mov ds, eax; jmp 1b");
    g.cpu.privileged.setGdtEntry(12, descriptor(DATA, 0xfffff, DATA_RW, 0xc));
    g.space.map(0, 0x1000, 3);
    g.space.memory.setU32(4, 1);
    g.space.memory.setU32(DATA + 4, 2);
    const seen: number[] = [];
    for (const selector of [0x63, 0x2b, 0x63]) {
      runGuest(g);
      seen.push(g.cpu.reg(Reg.rbx));
      g.cpu.setReg(Reg.rax, selector);
    }
    runGuest(g);
    seen.push(g.cpu.reg(Reg.rbx));
    expect(seen).toEqual([1, 2, 1, 2]);
  });
  test("a 16-bit stack segment wraps at 64 KiB", () => {
    const g = guest(32, "mov ss, eax; push ebx; ud2");
    g.cpu.privileged.setGdtEntry(12, descriptor(DATA, 0xffff, DATA_RW, 0));
    g.space.map(DATA + 0xf000, 0x1000, 3);
    g.cpu.setReg(Reg.rax, 0x63);
    g.cpu.setReg(Reg.rbx, 0x1234);
    g.cpu.setReg(Reg.rsp, 0x10000);
    expect(runGuest(g).vector).toBe(6);
    expect(g.space.memory.u32(DATA + 0xfffc)).toBe(0x1234);
    expect(g.cpu.reg(Reg.rsp)).toBe(0x1fffc);
  });
  test("what ring 3 may look at: sgdt, sidt, sldt, str, smsw, lsl, lar, verr", () => {
    const g = guest(
      64,
      `
      sgdt [${DATA}]; sidt [${DATA + 16}]; sldt eax; str ebx; smsw ecx
      mov edx, 0x7b; lsl esi, edx; setz dil; mov edx, 0x33; lar r8d, edx; verr dx; setz r9b; mov edx, 0x63; verw dx; setz r10b; ud2`,
    );
    expect(runGuest(g).vector).toBe(6);
    expect(g.space.memory.u16(DATA)).toBe(127);
    expect(g.space.memory.u64(DATA + 2)).toBe(0xfffffe0000001000n);
    const [ldt, task, msw, cpuNode, found, rights, readable, writable] = [
      Reg.rax,
      Reg.rbx,
      Reg.rcx,
      Reg.rsi,
      Reg.rdi,
      Reg.r8,
      Reg.r9,
      Reg.r10,
    ].map((r) => g.cpu.reg(r));
    expect([ldt, task, (msw ?? 0) & 0xffff, cpuNode, (found ?? 0) & 1, rights, readable, writable]).toEqual([
      0, 0x40, 0x33, 0, 1, 0xa0fb00, 1, 0,
    ]);
  });
});

describe("modes", () => {
  test("a far return to 32-bit code and a far jump back", () => {
    const g = guest(
      64,
      `
      mov r15, -1
      push 0x23
      push ${CODE + 0x100}
      .byte 0x48, 0xcb`,
    );
    const compat = guestOf(
      32,
      "inc eax; push eax; pop ebx; mov ecx, esp; int 0x80; .byte 0xea; .long 0x401200; .word 0x33",
    );
    const wide = guestOf(64, "inc rax; mov rdx, r15; ud2");
    open.push(compat, wide);
    g.space.protect(CODE, 0x2000, 7);
    g.space.memory.write(CODE + 0x100, compat.space.memory.bytes(CODE, 64));
    g.space.memory.write(CODE + 0x200, wide.space.memory.bytes(CODE, 64));
    expect(g.cpu.wide).toBe(true);
    expect(runGuest(g).what).toBe("int80");
    expect(g.cpu.wide).toBe(false);
    expect(g.cpu.reg(Reg.rcx)).toBe(STACK);
    expect(runGuest(g)).toMatchObject({ vector: 6 });
    expect(g.cpu.wide).toBe(true);
    expect([g.cpu.reg(Reg.rax), g.cpu.regSigned(Reg.rdx)]).toEqual([2, -1]);
  });
  test("iretq to 32-bit code and the trap back by a fault", () => {
    const g = guest(
      64,
      `
      push 0x2b; push ${STACK}; pushfq; push 0x23; push ${CODE + 40}; iretq`,
    );
    // `inc eax; dec eax` in 32-bit code
    poke(g, CODE + 40, Uint8Array.of(0x40, 0x48, 0x0f, 0x0b));
    expect(runGuest(g)).toMatchObject({ vector: 6, rip: CODE + 42 });
    expect(g.cpu.wide).toBe(false);
  });
  test("far transfers check the selector", () => {
    const g = guest(64, `push 0x1b; push ${CODE}; .byte 0x48, 0xcb`);
    expect(runGuest(g)).toMatchObject({ vector: 13, code: 0x18 });
    const null_ = guest(64, `push 0; push ${CODE}; .byte 0x48, 0xcb`);
    expect(runGuest(null_)).toMatchObject({ vector: 13, code: 0 });
    const kernel = guest(64, `push 0x10; push ${CODE}; .byte 0x48, 0xcb`);
    expect(runGuest(kernel)).toMatchObject({ vector: 13, code: 0x10 });
  });
  test("ring 3 cannot return to ring 0 nor raise IOPL", () => {
    const g = guest(64, "pushfq; or qword ptr [rsp], 0x3000; popfq; pushfq; pop rax; cli");
    expect(runGuest(g)).toMatchObject({ vector: 13, rip: CODE + 12 });
    expect(g.cpu.reg(Reg.rax) & 0x3000).toBe(0);
  });
});

describe("contexts", () => {
  const state = `
    movups xmm3, [${DATA}]; movups xmm15, [${DATA + 16}]
    fldpi; fld1; ldmxcsr [${DATA + 32}]; fldcw [${DATA + 36}]
    mov ax, 0x63; mov gs, ax; mov rbx, 7; std; syscall
    fxsave [${DATA + 0x400}]; mov eax, gs:[0]; lodsb; ud2`;
  function prepared(): Guest {
    const g = guest(64, state);
    for (let i = 0; i < 32; i++) g.space.memory.setU8(DATA + i, i + 1);
    g.space.memory.setU32(DATA + 32, 0x7f80);
    g.space.memory.setU16(DATA + 36, 0x0f7f);
    g.space.memory.setU32(DATA + 64, 123);
    g.cpu.privileged.setGdtEntry(12, descriptor(DATA + 64, 0xfffff, DATA_RW, 0xc));
    g.cpu.privileged.fsBase = 0x1000n;
    g.cpu.privileged.kernelGsBase = 0x2000n;
    expect(runGuest(g).what).toBe("syscall");
    return g;
  }
  test("carry everything of a thread", () => {
    const g = prepared();
    const context = g.cpu.saveContext();
    const rip = g.cpu.reg(Reg.rip);
    // Another thread in between.
    g.cpu.privileged.setGdtEntry(12, 0n);
    g.cpu.privileged.loadSelector("gs", 0);
    g.cpu.privileged.fsBase = 1n;
    g.cpu.privileged.kernelGsBase = 1n;
    expect(g.cpu.fxrstor(new Uint8Array(512))).toBe(true);
    for (let r = 0; r < 16; r++) g.cpu.setReg(r, 0);
    g.cpu.setReg(Reg.rflags, 2);
    g.cpu.restoreContext(context);
    expect(g.cpu.reg(Reg.rip)).toBe(rip);
    expect(g.cpu.reg(Reg.rbx)).toBe(7);
    expect(g.cpu.privileged.fsBase).toBe(0x1000n);
    expect(g.cpu.privileged.kernelGsBase).toBe(0x2000n);
    expect(g.cpu.selector("gs")).toBe(0x63);
    expect(g.cpu.privileged.gdtEntry(12)).not.toBe(0n);
    g.cpu.setReg(Reg.rsi, DATA + 9);
    const mine = g.cpu.fxsave();
    expect(runGuest(g).vector).toBe(6);
    expect(g.cpu.reg(Reg.rsi)).toBe(DATA + 8);
    expect(g.cpu.reg(Reg.rax)).toBe(10);
    const theirs = g.space.memory.bytes(DATA + 0x400, 512);
    expect([...theirs.subarray(160, 416)]).toEqual([...mine.subarray(160, 416)]);
  });
  test("fxsave gives what the guest's own instruction gives, but for the last instruction's address", () => {
    const g = prepared();
    const mine = g.cpu.fxsave();
    g.cpu.setReg(Reg.rsi, DATA + 9);
    runGuest(g);
    const theirs = g.space.memory.bytes(DATA + 0x400, 512);
    // Bytes 5 to 23 hold the last x87 instruction and its operand, and from 464 on software may keep its own.
    for (const [from, to] of [
      [0, 5],
      [24, 32],
      [32, 160],
      [160, 416],
    ] as const) {
      expect([from, ...mine.subarray(from, to)]).toEqual([from, ...theirs.subarray(from, to)]);
    }
    expect(mine[4]).toBe(0xc0);
    expect(new DataView(mine.buffer).getUint32(24, true)).toBe(0x7f80);
  });
  test("fxrstor brings an image back, and refuses reserved bits of MXCSR", () => {
    const g = prepared();
    const image = g.cpu.fxsave();
    expect(g.cpu.fxrstor(new Uint8Array(512))).toBe(true);
    expect(g.cpu.fxsave()).not.toEqual(image);
    expect(g.cpu.fxrstor(image)).toBe(true);
    expect(g.cpu.fxsave()).toEqual(image);
    const bad = image.slice();
    bad[26] = 1;
    bad[160] = 99;
    expect(g.cpu.fxrstor(bad)).toBe(false);
    expect(g.cpu.fxsave()).toEqual(image);
  });
  test("rounding follows MXCSR and the x87 control word after a restore", () => {
    const g = guest(
      64,
      `cvtsd2si eax, [${DATA}]; fld qword ptr [${DATA}]; fistp dword ptr [${DATA + 8}]; syscall; jmp 0x401000`,
    );
    g.space.memory.write(DATA, new Uint8Array(new Float64Array([2.5]).buffer));
    const seen: number[] = [];
    for (const [mxcsr, control] of [
      [0x1f80, 0x37f],
      [0x5f80, 0xb7f],
      [0x3f80, 0x77f],
    ] as const) {
      const image = g.cpu.fxsave();
      const view = new DataView(image.buffer);
      view.setUint32(24, mxcsr, true);
      view.setUint16(0, control, true);
      expect(g.cpu.fxrstor(image)).toBe(true);
      const context = g.cpu.saveContext();
      g.cpu.fxrstor(new Uint8Array(512));
      g.cpu.restoreContext(context);
      runGuest(g);
      seen.push(g.cpu.regLow(Reg.rax), g.space.memory.u32(DATA + 8));
    }
    expect(seen).toEqual([2, 2, 3, 3, 2, 2]);
  });
});
