import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AssembleOptions, type Assembler, createAssembler } from "../../emulator/assembler.ts";
import { AssemblyError } from "../../emulator/assembler-source.ts";
import { createDisassembler, type Disassembler } from "../../emulator/disassembler.ts";

let assembler: Assembler;
let disassembler: Disassembler;
let directory: string;

beforeAll(async () => {
  assembler = await createAssembler();
  disassembler = await createDisassembler();
  directory = mkdtempSync(join(tmpdir(), "shimbed-assembler-"));
});
afterAll(() => {
  disassembler.close();
  rmSync(directory, { recursive: true });
});

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const assemble = (source: string, options: AssembleOptions): string => hex(assembler.assemble(source, options));

/** What GNU as and ld make of the source at this address. */
function gnu(source: string, { bits, address = 0, syntax = "intel" }: AssembleOptions): string {
  const file = (name: string): string => join(directory, name);
  writeFileSync(file("a.s"), `${syntax === "intel" ? ".intel_syntax noprefix\n" : ""}${source}\n`);
  execFileSync("as", [bits === 64 ? "--64" : "--32", "-o", file("a.o"), file("a.s")], { stdio: "pipe" });
  const emulation = bits === 64 ? "elf_x86_64" : "elf_i386";
  const place = ["-e", "0", `-Ttext=0x${address.toString(16)}`, "--oformat", "binary"];
  execFileSync("ld", ["-m", emulation, ...place, "-o", file("a.bin"), file("a.o")], { stdio: "pipe" });
  return hex(readFileSync(file("a.bin")));
}

function errorOf(source: string, options: AssembleOptions = { bits: 64 }): AssemblyError {
  try {
    assembler.assemble(source, options);
  } catch (error) {
    if (error instanceof AssemblyError) return error;
    throw error;
  }
  throw new Error(`assembled: ${source}`);
}

const INTEL_64 = [
  "mov rax, 0x1122334455667788; mov rax, 10; mov rax, -1; mov eax, 0xffffffff; mov rax, 0xffffffff",
  "syscall; int 0x80; int 80; sysenter; cpuid; rdtsc; ud2; hlt; int3; endbr64; pause; mfence",
  "mov fs, eax; mov gs, ebx; mov ax, fs; mov eax, gs; push fs; pop gs; mov fs, word ptr [rax]",
  "wrfsbase rax; wrfsbase eax; rdfsbase rcx; wrgsbase rdx; rdgsbase r15; swapgs; rdmsr",
  "mov rbx, fs:[0x28]; mov rbx, fs:0x28; mov fs:[0x28], rbx; mov rbx, fs:[-8]; mov ebx, gs:[0xfffffffffffffff8]",
  "cmp rbx, fs:[0x28]; add qword ptr fs:[0x10], 1; movzx ecx, word ptr fs:[0]; call qword ptr fs:[0x10]",
  "mov eax, fs:[rax+rbx*2-8]; mov rax, [rbp-8]; lea r15, [r14+r13*8+0x12345678]; lea rax, [rbx*8]; mov eax, [ebx]",
  "mov rbx, [0x1000]; mov rbx, ds:[0x1000]; mov qword ptr [0x1000], 5; jmp qword ptr [0x1000]",
  "x = 8\nmov rbx, fs:[x]\n.set y, 10\nmov eax, y",
  "lea rax, [rip+x]\nmov rbx, [rip + x]\ncmp byte ptr [rip+x], 5\nx: .quad 5, x, x+8",
  "movabs rax, offset x\nmov eax, offset x\npush offset x\nmov rbx, [x]\nmov rbx, [x+8]\nx: nop",
  "call x\njmp x\njne x\njrcxz x\nloop x\njmp short x\njmp near ptr x\njmp x+1\njmp .+2\njmp .\nx: ret; nop",
  "jz x\n.skip 200\nx: nop\njmp x\n.skip 100\nloop .",
  "1: dec eax; jnz 1b; jmp 1f; nop\n1: jmp 1b",
  '.asciz "hi\\n"; .ascii "a;b # c // d", "e"; .asciz "\\x41\\101\\"\\\\\\t"; .string "é"; .asciz ""',
  ".byte 1, 2, 0xff, 'a', -1; .word 10; .hword 7; .value 9; .short 65535; .long 99; .int 5; .quad 10; .octa 1",
  ".double 1.5, -2; .float 2.5, 1e5; .zero 8; .space 4; .skip 4, 0x90; .fill 3, 1, 10",
  "nop\n.align 8\nnop\n.balign 16, 0xcc\n.skip 9\n.p2align 4\nx: .quad x",
  ".rept 3\nnop\n.endr\n.macro m a\nmov eax, \\a\n.endm\nm 5\nm 10\n.if 1\nnop\n.else\nhlt\n.endif",
  ".text\n.globl _start\n_start: nop /* f\ng */ ; nop # c\n# d",
  "lock inc dword ptr [rax]; rep movsb; rep stosq; repne scasb; data16 nop; bnd jmp rax; notrack jmp rax",
  "pushf; popf; iret; iretd; iretq; retf; lret; retfq; lretq; ret 8; push 5; push -1; push 0x12345678; leave",
  "ljmp [rax]; jmp fword ptr [rax]; call fword ptr [rax]; lcall [rax]; lldt ax; ltr ax; verw ax; lss esp, [rax]",
  "fld st(1); fxch st(1); fstp tbyte ptr [rax]; fxsave [rax]; fxsave64 [rax]; movq xmm0, rax; pshufd xmm0, xmm1, 27",
  "mov eax, 017; mov eax, 0b101; mov eax, 0x1f; mov al, ';'; mov al, '#'; imul rax, rbx, 1000; shl eax, 3; sar rax, 1",
  'mov edx, b-a\na: .ascii "hello"\nb: .quad b-a',
  "MOV RAX, RBX\n\tmov\trax ,\trbx\na: b: xchg rax, rbx",
];
const INTEL_32 = [
  "mov eax, gs:[0]; mov eax, gs:0x14; mov ebx, gs:[0x14]; mov dword ptr gs:[0], 5; mov ebx, gs:[-4]; call dword ptr gs:[0x10]",
  "int 0x80; sysenter; push gs; pop fs; pushf; popf; iret; pusha; popa; les eax, [eax]; into; inc eax; aam; daa; arpl ax, ax",
  "call x\nx: pop ebx\nmov eax, offset x\nmov ebx, [x+4]\npush offset x\nlea eax, [x]\nmov dword ptr [esp], offset x",
  "ljmp 0x33:x\nlcall 0x33:0x1234\njmp 0x33:0x1234\nx: ljmp [eax]; jmp fword ptr [eax]; retf",
  "push 0xffffffff; push 5; mov ebx, [0xfffff000]; mov ax, [bx]; jecxz x\ncall 0xf0000000\nx: nop",
];
const ATT_64 = [
  "movl $10,%eax; addq $100,%rsp; movl 12(%rax),%ebx; int $80; .byte 10; .quad 99; imul $10,%ebx,%eax; enter $16,$0",
  "mov %fs:0x28,%rbx; mov %rbx,%fs:40; movq $5,%fs:16; call *%fs:0x10; mov 0x1000,%rbx; mov %fs:-8,%rbx",
  "x=8\nmov %fs:x,%rbx\njmp *%rax; call *(%rax); jmp *0x10(%rax); mov 16(,%rbx,4),%eax; fld %st(1)",
  "lea x(%rip),%rax\nmovl $x,%ebx\nmovabs $x,%rax\njne 1f\n1: jmp x+1\nloop x\nx: nop; nop; .double 2.5",
  "pushf; iret; lret; lretq; ret $8; push $5; rep stosq; lock incl (%rax); wrfsbase %rax; endbr64; cmpb $65,(%rdi)",
];
const ATT_32 = ["mov %gs:0x14,%ebx; push $x\nljmp $51,$x\nx: pushf; iret; call 1f\n1: pop %ebx"];

describe("GNU as assembles the same bytes", () => {
  test.each(INTEL_64)("64-bit Intel: %s", (source) => {
    const options = { bits: 64, address: 0x400000 } as const;
    expect(assemble(source, options)).toBe(gnu(source, options));
  });
  test.each(INTEL_32)("32-bit Intel: %s", (source) => {
    const options = { bits: 32, address: 0x8048000 } as const;
    expect(assemble(source, options)).toBe(gnu(source, options));
  });
  test.each(ATT_64)("64-bit AT&T: %s", (source) => {
    const options = { bits: 64, address: 0x400000, syntax: "att" } as const;
    expect(assemble(source, options)).toBe(gnu(source, options));
  });
  test.each(ATT_32)("32-bit AT&T: %s", (source) => {
    const options = { bits: 32, address: 0x8048000, syntax: "att" } as const;
    expect(assemble(source, options)).toBe(gnu(source, options));
  });
});

// The meaning is the same; GNU as takes another form, and some of these depend on its version.
test.each([
  ["mov fs, ax", "668ee0"],
  ["mov rax, [0x1122334455667788]", "48a18877665544332211"],
  ["mov rax, offset x\nx:", "48b80a00400000000000"],
  ["jmp 0x400000", "ebfe"],
  ["nop dword ptr [rax]", "0f1820"],
])("%s has a form of its own", (source, bytes) => {
  expect(assemble(source, { bits: 64, address: 0x400000 })).toBe(bytes);
});

describe("addresses", () => {
  test("labels and alignment count from the address, which need not be aligned", () => {
    expect(assemble("nop\n.balign 16, 0xcc\nx: .quad x", { bits: 64, address: 0x40000c })).toBe(
      "90cccccc" + "1000400000000000",
    );
  });

  test("a bigint beyond 2^53 and the top of user space are exact", () => {
    expect(assemble("x: .quad x", { bits: 64, address: 0xffff_8000_0000_1238n })).toBe("381200000080ffff");
    expect(assemble("nop\nx: movabs rax, offset x", { bits: 64, address: 0x7fff_ffff_e000 })).toBe(
      "9048b801e0ffffff7f0000",
    );
  });

  test(".code32 and .code64 change the word size", () => {
    expect(assemble(".code32\ninc eax\npushf\n.code64\npushf\nmov rax, rbx", { bits: 64 })).toBe("409c9c4889d8");
  });

  test("nothing gives nothing", () => {
    expect(assemble("  # only a comment\n\n", { bits: 64 })).toBe("");
  });
});

describe("errors name the line, its text and the reason", () => {
  test.each([
    ["nop\nfoo rax\nnop", 2, "invalid mnemonic"],
    ["nop\nnop\njmp x\ny: nop\njmp nowhere\nx: nop", 5, "cannot find a symbol"],
    ["nop; nop; mov [rdi], 10; nop", 1, "invalid operand"],
    [".rept 2\nnop\n.endr\nmov rax\n", 4, "invalid operand"],
    ["nop\nnop\ncmp rax, 0xffffffff\nx = 5", 3, "invalid operand"],
    ["a: nop\nb: nop\na: nop", 3, "the label a is defined already"],
    ["nop\n.data", 2, "the directive .data is not supported"],
    ['nop\n.incbin "secret"', 2, "the directive .incbin is not supported"],
    ["nop\nmov al, 256", 2, "does not fit into 8 bits"],
    ["push 0x80000000", 1, "does not fit into 32 bits"],
    ["mov rbx, [rax+0x80000000]", 1, "must fit into 32 bits"],
    ["mov eax, 1e", 1, "1e is not a number"],
    [".quad 0x10000000000000000", 1, "more than 64 bits"],
    ["mov rax, [rax", 1, "a bracket has no partner"],
    ["mov rax, x\nx: nop", 1, "[x] or offset x"],
    ["%rax", 1, "AT&T"],
    ['/* a\nb */ .asciz "abc', 2, "this string does not end"],
    ["nop\n/* x", 2, "this comment does not end"],
    ["nop\nloop x\n.skip 200\nx: nop", 2, "200 bytes away"],
    ["nop\njmp 0x100000000", 2, "bytes away"],
    [".skip 100000000", 1, "is a mistake"],
    [".zero ~8", 1, "negative"],
    [".word |", 1, "an operand is missing"],
    ["mov =bx, [x]", 1, "has no place here"],
    ["nop\nrep<movsb", 2, "a statement starts with"],
    ["mov eax, (1+2", 1, "a parenthesis has no partner"],
    ["é: nop", 1, "a statement starts with"],
    [".macro m\njmp x\\@\n.endm", 2, "\\@ is not supported"],
    [".word 65536", 1, "out of range"],
  ])("%j", (source, line, reason) => {
    const error = errorOf(source, { bits: 64, address: 0x400000 });
    expect(error.line).toBe(line);
    expect(error.reason).toContain(reason);
    expect(error.message).toMatch(/^cannot assemble line \d+, `/);
    expect(error.exitCode).toBe(125);
  });

  test("the last of a thousand lines is found quickly", () => {
    const source = `${"x: nop\n".replace("x", "start")}${"lea rax, [rip+start]\n".repeat(998)}bad`;
    expect(errorOf(source).line).toBe(1000);
  });

  test("an assembler goes on after errors", () => {
    errorOf("foo");
    expect(assemble("nop", { bits: 64 })).toBe("90");
  });
});

test("two assemblers are independent and thousands of runs do not use up memory", async () => {
  const other = await createAssembler();
  expect(hex(other.assemble("x: jmp x", { bits: 32 }))).toBe("ebfe");
  const source = `x: jmp x\n.ascii "${"a".repeat(1000)}"`;
  for (let i = 0; i < 100; i++) other.assemble(source, { bits: 64 });
  const grown: number[] = [];
  // What is only waiting to be collected does not grow by as much every time.
  while (grown.length < 4 && !grown.some((bytes) => bytes < 30 * 2 ** 20)) {
    const before = process.memoryUsage.rss();
    for (let i = 0; i < 2000; i++) other.assemble(source, { bits: 64 });
    grown.push(process.memoryUsage.rss() - before);
  }
  expect(Math.min(...grown)).toBeLessThan(30 * 2 ** 20);
});

test("a source of 100 kB is no trouble for the engine's small stack", () => {
  expect(assembler.assemble("mov rax, 5\n".repeat(10_000), { bits: 64 })).toHaveLength(70_000);
});

test("what was assembled disassembles to the same text", () => {
  for (const bits of [32, 64] as const) {
    const sp = bits === 64 ? "rsp" : "esp";
    const source = `nop\nmov eax, 5\nint 0x80\nlea ecx, [${sp} + 8]\njmp 0x1000\nret`;
    const lines = disassembler.disassemble(assembler.assemble(source, { bits, address: 0x1000 }), {
      bits,
      address: 0x1000,
    });
    expect(lines.map((l) => l.text)).toEqual(source.split("\n"));
  }
});
