import { afterEach, describe, expect, test } from "vitest";
import { Reg, StopKind } from "../../emulator/cpu.ts";
import {
  assemble,
  type Bits,
  CODE,
  close,
  DATA,
  DATA_END,
  describeStop,
  type Guest,
  guestOf,
  newGuest,
  poke,
  runGuest,
  STACK,
} from "./guest.ts";

const open: Guest[] = [];
function guest(bits: Bits, source: string | Uint8Array, options?: Parameters<typeof newGuest>[1]): Guest {
  const made = typeof source === "string" ? guestOf(bits, source, options) : newGuest(bits, options);
  if (typeof source !== "string") poke(made, CODE, source);
  open.push(made);
  return made;
}
afterEach(() => {
  for (const made of open.splice(0)) close(made);
});

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));

describe("stops", () => {
  test("syscall sets RCX and R11 and leaves RIP behind it", () => {
    const g = guest(64, "stc; mov eax, 39; syscall; nop");
    expect(runGuest(g)).toEqual({ what: "syscall", rip: CODE + 8 });
    expect(g.cpu.reg(Reg.rcx)).toBe(CODE + 8);
    expect(g.cpu.reg(Reg.r11)).toBe(g.cpu.reg(Reg.rflags));
    expect(g.cpu.reg(Reg.rflags) & 1).toBe(1);
    expect(g.cpu.reg(Reg.rax)).toBe(39);
  });
  test.each([32, 64] as const)("int 0x80 from %i-bit code", (bits) => {
    const g = guest(bits, "mov eax, 20; int 0x80");
    expect(runGuest(g)).toEqual({ what: "int80", rip: CODE + 7 });
  });
  test("sysenter from 32-bit code", () => {
    const g = guest(32, "mov eax, 20; sysenter");
    expect(runGuest(g).what).toBe("sysenter");
    expect(g.cpu.reg(Reg.rax)).toBe(20);
  });

  const faults: readonly [Bits, string, string, number, number, number][] = [
    [64, "int3 is a trap: RIP is past it", "nop; int3", 3, 0, 2],
    [64, "int 3", "int 3", 3, 0, 2],
    [32, "into with overflow", "mov al, 0x7f; inc al; into", 4, 0, 5],
    [64, "int1", "nop; .byte 0xf1", 1, 0, 2],
    [64, "ud2", "nop; ud2", 6, 0, 1],
    [64, "division by zero", "xor ecx, ecx; div ecx", 0, 0, 2],
    [64, "an interrupt that ring 3 may not call", "int 0x21", 13, 0x21 * 8 + 2, 0],
    [64, "the same with a prefix", "nop; .byte 0x66, 0xcd, 0x20", 13, 0x20 * 8 + 2, 1],
    [64, "a read through a pointer that is not canonical", "mov rax, 0x8000000000000000; mov rcx, [rax]", 13, 0, 10],
    [64, "a push there is a stack fault", "mov rsp, 0x8000000000000000; push rax", 12, 0, 10],
    [64, "a read relative to RBP too", "mov rbp, 0x8000000000000000; mov eax, [rbp+8]", 12, 0, 10],
    [32, "into in 32-bit code without overflow goes on", "xor eax, eax; into; ud2", 6, 0, 3],
    [64, "bound's opcode", ".byte 0x62, 0x05, 0, 0, 0, 0", 6, 0, 0],
    [
      32,
      "bound out of range",
      `mov dword ptr [${DATA}], 1; mov dword ptr [${DATA + 4}], 2; xor eax, eax; bound eax, [${DATA}]`,
      5,
      0,
      22,
    ],
    [32, "aam by zero", "mov al, 5; aam 0", 0, 0, 2],
  ];
  test.each(faults)("%i-bit: %s", (bits, _name, source, vector, code, offset) => {
    const g = guest(bits, source);
    const stop = runGuest(g);
    expect(stop).toMatchObject({ what: "exception", vector, code, rip: CODE + offset });
    expect(stop.software).toBe(vector === 3 || vector === 4);
  });

  const privileged = [
    "cli",
    "sti",
    "hlt",
    "rdmsr",
    "wrmsr",
    "mov rax, cr0",
    "mov cr3, rax",
    "mov rax, dr0",
    "lgdt [rsp]",
    "lidt [rsp]",
    "lldt ax",
    "ltr ax",
    "swapgs",
    "invlpg [rsp]",
    "clts",
    "wbinvd",
    "invd",
    "lmsw ax",
    "sysret",
    "in al, 0x60",
    "in eax, dx",
    "out dx, al",
    "out 0x80, eax",
    "insb",
    "rep outsb",
  ];
  test.each(privileged)("%s raises #GP in ring 3", (source) => {
    expect(runGuest(guest(64, source))).toMatchObject({ what: "exception", vector: 13, code: 0, rip: CODE });
  });

  const undefinedBytes: readonly [Bits, string, string][] = [
    [64, "vaddps", "c5 f0 58 c2"],
    [64, "vaddpd, three bytes", "c4 e1 71 58 c2"],
    [32, "vaddps", "c5 f0 58 c2"],
    [64, "evex", "62 f1 74 48 58 c2"],
    [64, "lock nop", "f0 90"],
    [64, "lock add to a register", "f0 01 c8"],
    [64, "lock mov", "f0 89 08"],
    [64, "lock bt with a register", "f0 0f a3 c8"],
    [64, "lock btc with a register", "f0 0f bb c8"],
    [64, "call far with a register", "ff d8"],
    [64, "jmp far with a register", "ff e8"],
    [64, "push es in 64-bit code", "06"],
    [64, "daa in 64-bit code", "27"],
    [64, "xgetbv", "0f 01 d0"],
    [64, "rdrand", "0f c7 f0"],
    [64, "rdpid", "f3 0f c7 f8"],
    [64, "ud1", "0f b9 c0"],
    [64, "ud0", "0f ff c0"],
    [64, "cmpxchg8b with a register", "0f c7 c8"],
    [64, "lea with a register", "8d c0"],
    [64, "mov cs", "8e c8"],
    [64, "vmcall", "0f 01 c1"],
    [64, "jmpe", "0f b8 00"],
  ];
  test.each(undefinedBytes)("%i-bit: %s is undefined", (bits, _name, bytes) => {
    expect(runGuest(guest(bits, hex(bytes)))).toMatchObject({ what: "exception", vector: 6, rip: CODE });
  });
  test("an undefined byte at the end of the last page does not ask for the next page", () => {
    const g = guest(64, "ud2");
    poke(g, CODE + 0x1fff, hex("06"));
    g.cpu.setReg(Reg.rip, CODE + 0x1fff);
    expect(runGuest(g)).toMatchObject({ vector: 6, rip: CODE + 0x1fff });
  });
  test("sixteen bytes of prefixes are too many", () => {
    expect(runGuest(guest(64, hex(`${"66".repeat(15)}90`)))).toMatchObject({ vector: 13, rip: CODE });
    expect(runGuest(guest(64, hex(`${"66".repeat(14)}90 0f0b`)))).toMatchObject({ vector: 6, rip: CODE + 15 });
  });
  test("TF stops after each instruction", () => {
    const g = guest(64, "mov eax, 1; mov ecx, 2; rep stosb");
    g.cpu.setReg(Reg.rdi, DATA);
    g.cpu.setReg(Reg.rflags, 0x102);
    expect(runGuest(g)).toMatchObject({ vector: 1, rip: CODE + 5 });
    expect(runGuest(g)).toMatchObject({ vector: 1, rip: CODE + 10 });
    expect(g.cpu.reg(Reg.rcx)).toBe(2);
  });
  test("interrupt ends the next run, once", () => {
    const g = guest(64, "1: inc rax; cmp rax, 1000000; jne 1b; ud2");
    g.cpu.interrupt();
    expect(runGuest(g).what).toBe("interrupted");
    expect(runGuest(g)).toMatchObject({ vector: 6 });
    expect(g.cpu.reg(Reg.rax)).toBe(1000000);
  });
  test("a jump to address 0 is a page fault there", () => {
    expect(runGuest(guest(64, "xor eax, eax; jmp rax"))).toMatchObject({
      vector: 14,
      address: 0,
      access: "fetch",
      code: 0x14,
      rip: 0,
    });
    expect(runGuest(guest(32, "xor eax, eax; call eax"))).toMatchObject({
      vector: 14,
      address: 0,
      access: "fetch",
      rip: 0,
    });
  });
});

describe("page faults are exact", () => {
  test("a read and a write of nothing", () => {
    expect(runGuest(guest(64, "mov eax, 0x1000; mov ecx, [rax]"))).toMatchObject({
      vector: 14,
      code: 4,
      address: 0x1000,
      access: "read",
      rip: CODE + 5,
    });
    expect(runGuest(guest(64, "mov eax, 0x1000; mov [rax+8], ecx"))).toMatchObject({
      code: 6,
      address: 0x1008,
      access: "write",
      rip: CODE + 5,
    });
  });
  test("a write to a page without that right", () => {
    expect(runGuest(guest(64, `stc; mov [${CODE}], al`))).toMatchObject({
      code: 7,
      address: CODE,
      access: "write",
      rip: CODE + 1,
    });
  });
  test("a fetch from data", () => {
    expect(runGuest(guest(64, `mov eax, ${DATA}; jmp rax`))).toMatchObject({
      code: 0x15 - 1 + 1,
      access: "fetch",
      address: DATA,
      rip: DATA,
    });
  });
  test("flags and registers are those before the instruction", () => {
    const g = guest(
      64,
      `mov eax, -1; add eax, 1; mov ecx, 7; mov rdi, ${DATA_END}; xadd [rdi-4], ecx; lock xadd [rdi], ecx; ud2`,
    );
    expect(runGuest(g)).toMatchObject({ vector: 14, address: DATA_END, access: "write" });
    expect(g.cpu.reg(Reg.rcx)).toBe(0);
    // The last flags are those of 0 + 7.
    expect(g.cpu.reg(Reg.rflags) & 0x8d5).toBe(0);
  });
  test("an arithmetic instruction that faults leaves the flags of the one before", () => {
    const g = guest(64, "mov eax, -1; add eax, 1; mov ecx, 0x1000; sub [rcx], eax");
    expect(runGuest(g)).toMatchObject({ vector: 14, address: 0x1000 });
    expect(g.cpu.reg(Reg.rflags) & 0x8d5).toBe(0x55);
  });
  test("a store across two pages names the second and writes nothing", () => {
    const g = guest(64, `mov rax, -1; mov [${DATA_END - 3}], rax`);
    expect(runGuest(g)).toMatchObject({ address: DATA_END, access: "write", rip: CODE + 7 });
    expect(g.space.memory.u16(DATA_END - 3)).toBe(0);
  });
  test("push, pop to memory, call and ret leave the stack pointer", () => {
    const low = STACK - 0x4000;
    const push = guest(64, `mov rsp, ${low}; push rax`);
    expect(runGuest(push)).toMatchObject({ address: low - 8, access: "write" });
    expect(push.cpu.reg(Reg.rsp)).toBe(low);
    const pop = guest(64, "push 5; mov eax, 0x1000; pop qword ptr [rax]");
    expect(runGuest(pop)).toMatchObject({ address: 0x1000, access: "write" });
    expect(pop.cpu.reg(Reg.rsp)).toBe(STACK - 8);
    const call = guest(64, `mov rsp, ${low}; call 1f; 1: nop`);
    expect(runGuest(call)).toMatchObject({ address: low - 8, access: "write", rip: CODE + 7 });
    expect(call.cpu.reg(Reg.rsp)).toBe(low);
    const ret = guest(32, "mov esp, 0x1000; ret 8");
    expect(runGuest(ret)).toMatchObject({ address: 0x1000, access: "read", rip: CODE + 5 });
    expect(ret.cpu.reg(Reg.rsp)).toBe(0x1000);
    const leave = guest(64, "mov ebp, 0x2000; leave");
    expect(runGuest(leave)).toMatchObject({ address: 0x2000, access: "read", rip: CODE + 5 });
    expect(leave.cpu.reg(Reg.rsp)).toBe(STACK);
  });
  test.each([32, 64] as const)("an instruction that goes on in a missing page, %i-bit", (bits) => {
    const g = guest(bits, "ud2");
    poke(g, CODE + 0x1ffd, hex("b8 01 00"));
    g.cpu.setReg(Reg.rip, CODE + 0x1ffd);
    expect(runGuest(g)).toMatchObject({ vector: 14, address: CODE + 0x2000, access: "fetch", rip: CODE + 0x1ffd });
  });
  test("running off the end of a page", () => {
    const g = guest(64, "ud2");
    poke(g, CODE + 0x1ffe, hex("90 90"));
    g.cpu.setReg(Reg.rip, CODE + 0x1ffe);
    expect(runGuest(g)).toMatchObject({ vector: 14, address: CODE + 0x2000, access: "fetch", rip: CODE + 0x2000 });
  });
});

/** What a string instruction left behind. */
function stringState(g: Guest): number[] {
  return [Reg.rcx, Reg.rsi, Reg.rdi].map((r) => g.cpu.reg(r));
}

describe("rep movs and rep stos", () => {
  test("a fault in the middle leaves the counters of what was done", () => {
    const g = guest(64, `mov rdi, ${DATA_END - 100}; mov ecx, 300; mov al, 0x55; rep stosb; ud2`);
    expect(runGuest(g)).toMatchObject({ vector: 14, address: DATA_END, access: "write", rip: CODE + 14 });
    expect(stringState(g)).toEqual([200, 0, DATA_END]);
    expect(g.space.memory.u8(DATA_END - 1)).toBe(0x55);
    g.space.map(DATA_END, 0x1000, 3);
    expect(runGuest(g)).toMatchObject({ vector: 6 });
    expect(stringState(g)).toEqual([0, 0, DATA_END + 200]);
  });
  test("an element across two pages", () => {
    const g = guest(64, `mov rdi, ${DATA_END - 12}; mov ecx, 5; mov rax, -1; rep stosq`);
    expect(runGuest(g)).toMatchObject({ address: DATA_END, access: "write" });
    expect(stringState(g)).toEqual([4, 0, DATA_END - 4]);
    expect(g.space.memory.u32(DATA_END - 4)).toBe(0);
  });
  test("the source is touched first", () => {
    const g = guest(64, `mov rsi, 0x1000; mov rdi, 0x2000; mov ecx, 5; .byte 0xf3, 0xa5`);
    expect(runGuest(g)).toMatchObject({ address: 0x1000, access: "read" });
    expect(stringState(g)).toEqual([5, 0x1000, 0x2000]);
  });
  test("backwards over a page boundary and into a missing page", () => {
    const g = guest(64, `std; mov rsi, ${DATA + 0x1ffc}; mov rdi, ${DATA + 0xffc}; mov ecx, 0x500; .byte 0xf3, 0xa5`);
    for (let i = 0; i < 0x400; i++) g.space.memory.setU32(DATA + 0x1000 + 4 * i, i + 1);
    expect(runGuest(g)).toMatchObject({ address: DATA - 4, access: "write" });
    expect(stringState(g)).toEqual([0x100, DATA + 0xffc, DATA - 4]);
    expect(g.space.memory.u32(DATA)).toBe(1);
    expect(g.space.memory.u32(DATA + 0xffc)).toBe(0x400);
  });
  test("overlapping copies repeat a pattern as element by element", () => {
    const g = guest(64, `mov rsi, ${DATA}; lea rdi, [rsi+3]; mov ecx, 20; rep movsb; ud2`);
    g.space.memory.write(DATA, hex("010203"));
    runGuest(g);
    expect([...g.space.memory.bytes(DATA, 10)]).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3, 1]);
  });
  test("a count of zero touches nothing, address size 32 wraps the registers", () => {
    const g = guest(64, "xor ecx, ecx; xor edi, edi; rep stosb; ud2");
    expect(runGuest(g)).toMatchObject({ vector: 6 });
    const h = guest(64, `mov rdi, 0x100000000 + ${DATA}; mov rcx, 0x100000002; mov al, 7; .byte 0x67; rep stosb; ud2`);
    expect(runGuest(h)).toMatchObject({ vector: 6 });
    expect(stringState(h)).toEqual([0, 0, DATA + 2]);
  });
  test("32-bit, with 16-bit addresses and a segment override", () => {
    const g = guest(32, `mov edi, 0x12340000 + 0xfffe; mov ecx, 3; .byte 0x67; rep stosb; ud2`);
    g.space.map(0x10000 - 0x1000, 0x1000, 3);
    expect(runGuest(g)).toMatchObject({ address: 0, access: "write" });
    expect(stringState(g)).toEqual([1, 0, 0x12340000]);
  });
  test("code that is copied over is translated anew", () => {
    const g = guest(
      64,
      `
      mov r8d, ${DATA}
      call r8
      mov rsi, ${DATA + 0x100}; mov rdi, ${DATA}; mov ecx, 6; rep movsb
      call r8
      ud2`,
    );
    g.space.protect(DATA, 0x1000, 7);
    g.space.memory.write(DATA, hex("bb 01000000 c3"));
    g.space.memory.write(DATA + 0x100, hex("bb 02000000 c3"));
    expect(runGuest(g)).toMatchObject({ vector: 6 });
    expect(g.cpu.reg(Reg.rbx)).toBe(2);
  });
  test("the rest of the block is what a copy over it left there", () => {
    const code = assemble(64, "mov ecx, 5; rep movsb; mov ebx, 1; ud2", DATA);
    const g = guest(64, `mov rsi, ${DATA + 0x100}; mov rdi, ${DATA + 7}; mov eax, ${DATA}; jmp rax`);
    g.space.protect(DATA, 0x1000, 7);
    g.space.memory.write(DATA, code);
    g.space.memory.write(DATA + 0x100, hex("bb 02000000"));
    expect(runGuest(g)).toMatchObject({ vector: 6 });
    expect(g.cpu.reg(Reg.rbx)).toBe(2);
  });
  test.each([
    ["rep stosb", "mov al, 7; mov ecx, 16; rep stosb", 7],
    ["rep movsb that repeats a byte", "mov esi, edi; inc edi; mov ecx, 16; rep movsb", 7],
    ["stmxcsr", "stmxcsr [rdi]", 0x1f],
  ])("a page that %s makes private to the child of a fork is read in its new place", (_, instructions, second) => {
    const g = guest(64, `mov edi, ${DATA}; mov dl, [rdi]; ${instructions}; movzx ebx, byte ptr [${DATA + 1}]; ud2`);
    g.space.memory.fill(DATA, 0x1000, 0x55);
    g.space.memory.setU8(DATA, 7);
    const child = g.space.fork();
    g.machine.activate(child);
    expect(runGuest(g)).toMatchObject({ vector: 6 });
    expect(g.cpu.reg(Reg.rbx)).toBe(second);
    expect(child.memory.u8(DATA + 1)).toBe(second);
    expect(g.space.memory.u8(DATA + 1)).toBe(0x55);
  });
  test("a long one can be counted and interrupted", () => {
    const g = guest(64, `mov edi, 0x10000000; mov ecx, 0x800000; mov al, 1; rep stosb; ud2`);
    g.space.map(0x10000000, 0x800000, 3);
    for (let i = 0; i < 7; i++) expect(runGuest(g, 1).what).toBe("budget");
    expect(g.cpu.reg(Reg.rip)).toBe(CODE + 12);
    expect(runGuest(g)).toMatchObject({ vector: 6 });
  });
});

const mixed = `
  mov ecx, 50
1: lea rdi, [${DATA}]
  mov eax, ecx
  push rcx
  mov ecx, 40
  rep stosd
  call 3f
  pop rcx
  test cl, 1
  jz 2f
  add rbx, rax
  push rcx; mov eax, 39; syscall; pop rcx
2: dec ecx
  jnz 1b
  ud2
3: xor edx, edx
  imul rax, rax, 1103515245
  mov r9d, 7
  div r9
  add rbx, rdx
  ret`;

/** Runs to an exception in slices; the stops on the way, without the budget's, and the end state. */
function inSlices(slice: () => number | undefined): { stops: number; blocks: number; state: bigint[] } {
  const g = guest(64, mixed);
  let stops = 0;
  for (;;) {
    const kind = g.cpu.run(slice());
    if (kind === StopKind.exception) break;
    if (kind !== StopKind.budget) stops++;
  }
  const state = Array.from({ length: 18 }, (_, r) => g.cpu.regBig(r));
  return { stops, blocks: g.cpu.blocks, state };
}

describe("the budget of basic blocks", () => {
  test("is exact: a budget of n runs n blocks", () => {
    const g = guest(64, "1: inc rax; jmp 1b");
    for (const n of [0, 1, 2, 10, 100_000]) {
      const before = g.cpu.reg(Reg.rax);
      const blocks = g.cpu.blocks;
      expect(runGuest(g, n)).toEqual({ what: "budget", rip: CODE });
      expect(g.cpu.reg(Reg.rax) - before).toBe(n);
      expect(g.cpu.blocks - blocks).toBe(n);
      expect(g.cpu.budgetLeft).toBe(0);
    }
  });
  test("counts the bytes of the blocks that ran, over any number of them", () => {
    const g = guest(64, "1: inc rax; jmp 1b");
    let bytes = 0;
    for (const n of [1, 2047, 2048, 2049, 4096, 50_000]) {
      runGuest(g, n);
      expect(g.cpu.codeBytes - bytes).toBe(5 * n);
      bytes = g.cpu.codeBytes;
    }
  });
  test("any split gives the same end and the same count", () => {
    const whole = inSlices(() => 1e9);
    for (const size of [1, 2, 3, 7, 50]) expect(inSlices(() => size)).toEqual(whole);
    let seed = 1;
    const random = (): number => {
      seed = (seed * 48271) % 2147483647;
      return seed % 20;
    };
    expect(inSlices(random)).toEqual(whole);
  });
  test("counting and not counting in turns changes no result", () => {
    const whole = inSlices(() => undefined);
    let turn = 0;
    const turns = inSlices(() => (turn++ % 2 === 0 ? 3 : undefined));
    expect(turns.state).toEqual(whole.state);
    expect(turns.stops).toBe(whole.stops);
    expect(whole.blocks).toBe(0);
  });
  test("is left alone by a stop of another kind", () => {
    const g = guest(64, "nop; jmp 1f; 1: ud2");
    runGuest(g, 10);
    expect(g.cpu.budgetLeft).toBe(8);
  });
});

describe("registers", () => {
  test("numbers and bigints in and out", () => {
    const g = guest(64, "mov rbx, rax; ud2");
    g.cpu.setReg(Reg.rax, -2);
    expect(g.cpu.regBig(Reg.rax)).toBe(0xfffffffffffffffen);
    runGuest(g);
    expect(g.cpu.regSigned(Reg.rbx)).toBe(-2);
    expect(g.cpu.regLow(Reg.rbx)).toBe(0xfffffffe);
    g.cpu.setRegBig(Reg.rax, 0x123456789abcdef0n);
    g.cpu.setReg(Reg.rip, CODE);
    runGuest(g);
    expect(g.cpu.regBig(Reg.rbx)).toBe(0x123456789abcdef0n);
    g.cpu.setReg(Reg.rcx, 0x7fffffffe000);
    expect(g.cpu.reg(Reg.rcx)).toBe(0x7fffffffe000);
  });
  test("flags that were set are seen by the guest", () => {
    const g = guest(64, "pushfq; pop rax; ud2");
    g.cpu.setReg(Reg.rflags, 0xad7);
    runGuest(g);
    expect(g.cpu.reg(Reg.rax) & 0xcd5).toBe(0xad7 & 0xcd5);
  });
  test("an instruction pointer may be set anywhere", () => {
    const g = guest(64, assemble(64, "ud2"));
    g.cpu.setRegBig(Reg.rip, 0x8000_0000_0000n);
    expect(describeStop(g.cpu, g.cpu.run())).toMatchObject({ vector: 13 });
    g.cpu.setReg(Reg.rip, 0x7ffffffff000);
    expect(describeStop(g.cpu, g.cpu.run())).toMatchObject({ vector: 14, access: "fetch", address: 0x7ffffffff000 });
  });
});
