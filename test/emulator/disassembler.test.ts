import { afterAll, beforeAll, expect, test } from "vitest";
import { createDisassembler, type Disassembler } from "../../emulator/disassembler.ts";

let disassembler: Disassembler;
beforeAll(async () => {
  disassembler = await createDisassembler();
});
afterAll(() => disassembler.close());

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"));
const text = (hex: string, bits: 32 | 64): string[] =>
  disassembler.disassemble(bytes(hex), { bits, address: 0x1000 }).map((line) => line.text);

test.each([
  ["0f05", "syscall"],
  ["cd80", "int 0x80"],
  ["64488b042528000000", "mov rax, qword ptr fs:[0x28]"],
  ["f3480faed0", "wrfsbase rax"],
  ["f30f1efa", "endbr64"],
  ["8ee0", "mov fs, eax"],
  ["48cb", "retfq"],
  ["e8fbffffff", "call 0x1000"],
  ["f00fb107", "lock cmpxchg dword ptr [rdi], eax"],
])("64-bit %s is %s", (hex, expected) => {
  expect(text(hex, 64)).toEqual([expected]);
});

test("the word size decides", () => {
  expect(text("40", 32)).toEqual(["inc eax"]);
  expect(text("65a114000000", 32)).toEqual(["mov eax, dword ptr gs:[0x14]"]);
  expect(text("ea341200003300", 32)).toEqual(["ljmp 0x33:0x1234"]);
});

test("a line has address, size and bytes, up to the top of user space", () => {
  expect(disassembler.disassemble(bytes("90b805000000"), { bits: 64, address: 0x7fffffffe000 })).toEqual([
    { address: 0x7fffffffe000, size: 1, bytes: bytes("90"), text: "nop" },
    { address: 0x7fffffffe001, size: 5, bytes: bytes("b805000000"), text: "mov eax, 5" },
  ]);
});

test("what is no instruction is (bad), byte by byte, and the rest still decodes", () => {
  expect(text("0690", 64)).toEqual(["(bad)", "nop"]);
  // Cut off by the end.
  expect(text("9048b8", 64)).toEqual(["nop", "(bad)", "(bad)"]);
});

test("count limits the lines, and nothing gives nothing", () => {
  const options = { bits: 64, address: 0 } as const;
  expect(disassembler.disassemble(bytes("9090c3"), { ...options, count: 2 })).toHaveLength(2);
  expect(disassembler.disassemble(bytes("90"), { ...options, count: 0 })).toEqual([]);
  expect(disassembler.disassemble(new Uint8Array(0), options)).toEqual([]);
});

test("random bytes decode to lines that cover them without a gap", () => {
  let state = 12345;
  const random = Uint8Array.from({ length: 20_000 }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return state >>> 24;
  });
  for (const bits of [32, 64] as const) {
    let at = 0x400000;
    for (const line of disassembler.disassemble(random, { bits, address: 0x400000 })) {
      expect(line.address).toBe(at);
      expect(line.bytes).toHaveLength(line.size);
      at += line.size;
    }
    expect(at).toBe(0x400000 + random.length);
  }
});

test("an instance works again after close", async () => {
  const own = await createDisassembler();
  const nop = (): string | undefined => own.disassemble(bytes("90"), { bits: 64, address: 0 })[0]?.text;
  expect(nop()).toBe("nop");
  own.close();
  expect(nop()).toBe("nop");
  own.close();
});
