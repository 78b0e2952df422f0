// A dynamic linker that is no shared object has its place, as klibc's has: the kernel maps it there and gives AT_BASE 0.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createAssembler } from "../../emulator/assembler.ts";
import { guest, native } from "./harness.ts";

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "shimbed-fixed-linker-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** An ELF file of type EXEC: one page at `address`, its code behind the headers, and the linker's name if it has one. */
function elf(address: number, code: Uint8Array, linker?: string): Uint8Array {
  const image = Buffer.alloc(0x1000);
  image.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  image.writeUInt16LE(2, 16);
  image.writeUInt16LE(62, 18);
  image.writeUInt32LE(1, 20);
  image.writeUInt32LE(address + 0x200, 24);
  image.writeUInt32LE(64, 32);
  image.writeUInt16LE(64, 52);
  image.writeUInt16LE(56, 54);
  image.writeUInt16LE(linker === undefined ? 1 : 2, 56);
  const header = (index: number, type: number, offset: number, size: number): void => {
    const at = 64 + 56 * index;
    image.writeUInt32LE(type, at);
    image.writeUInt32LE(5, at + 4);
    for (const [field, value] of [offset, address + offset, address + offset, size, size].entries())
      image.writeUInt32LE(value, at + 8 + 8 * field);
    image.writeUInt32LE(0x1000, at + 48);
  };
  header(0, 1, 0, 0x1000);
  if (linker !== undefined) {
    image.write(`${linker}\0`, 0x400, "latin1");
    header(1, 3, 0x400, linker.length + 1);
  }
  image.set(code, 0x200);
  return image;
}

test("it is mapped where it says, and its base is 0", async () => {
  const assembler = await createAssembler();
  // AT_BASE, which is 7, lies behind the environment's end.
  const source = `
    lea rsi, [rsp + 8]
  envp: lodsq; test rax, rax; jnz envp
  auxv: lodsq; test rax, rax; jnz auxv
  find: lodsq; mov rbx, rax; lodsq; cmp rbx, 7; jne find
    lea rdi, [rax + 9]
    mov rax, 0x200300
    jmp rax`;
  const code = new Uint8Array(0x200);
  code.set(assembler.assemble(source, { bits: 64, address: 0x200200 }));
  code.set(assembler.assemble("mov eax, 60; syscall", { bits: 64, address: 0x200300 }), 0x100);
  const linker = join(dir, "ld.so");
  writeFileSync(linker, elf(0x200000, code), { mode: 0o755 });
  const program = join(dir, "program");
  const never = assembler.assemble("ud2", { bits: 64, address: 0x400200 });
  writeFileSync(program, elf(0x400000, never, linker), { mode: 0o755 });
  const kernel = native([program]);
  expect(kernel).toMatchObject({ status: 9, stdout: "" });
  expect(guest(program, [])).toMatchObject({ status: kernel.status, stdout: "" });
});
