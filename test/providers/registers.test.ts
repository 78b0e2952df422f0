import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asmProgram, codeAddress } from "../../cli/testing/asm-program.ts";
import { createAssembler } from "../../emulator/assembler.ts";
import { type RealOptions, runReal } from "./real-guest.ts";

/** A handler of SIGILL steps over `ud2`; the status says whether rcx and r11 have come through that. */
const HANDLED = `
  lea rax, [rip + handler]
  mov [rip + act], rax
  lea rax, [rip + restorer]
  mov [rip + act + 16], rax
  mov eax, 13
  mov edi, 4
  lea rsi, [rip + act]
  xor edx, edx
  mov r10d, 8
  syscall
  mov eax, 158
  mov edi, 0x1002
  lea rsi, [rip + act]
  syscall
  mov ecx, 0x1111
  mov r11d, 0x2222
  ud2
  xor edi, edi
  cmp rcx, 0x1111
  jne lost
  cmp r11, 0x2222
  je end
lost:
  mov edi, 1
end:
  mov eax, 231
  syscall
handler:
  add qword ptr [rdx + 168], 2
  ret
restorer:
  mov eax, 15
  syscall
act:
  .quad 0, 0x4000004, 0, 0
`;

/** Ends with AT_HWCAP2, or with 99 after its own wrfsbase where that bit is set. */
const OWN_BASE = `
  lea rbx, [rsp + 8]
arguments:
  add rbx, 8
  cmp qword ptr [rbx - 8], 0
  jne arguments
environment:
  add rbx, 8
  cmp qword ptr [rbx - 8], 0
  jne environment
vector:
  add rbx, 16
  cmp qword ptr [rbx - 16], 26
  jne vector
  mov rdi, [rbx - 8]
  test edi, 2
  jz end
  mov eax, 0x5000
  wrfsbase rax
  mov edi, 99
end:
  mov eax, 231
  syscall
`;
const BLINDLY = `
  mov eax, 0x5000
  wrfsbase rax
  xor edi, edi
  mov eax, 231
  syscall
`;

let folder = "";
const guests = new Map<string, string>();

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "shimbed-registers-"));
  // Guests have ids of their own.
  chmodSync(folder, 0o755);
  const assembler = await createAssembler();
  for (const [name, source] of Object.entries({ handled: HANDLED, ownBase: OWN_BASE, blindly: BLINDLY })) {
    const bytes = assembler.assemble(source, { bits: 64, address: codeAddress[64] });
    const file = join(folder, name);
    writeFileSync(file, asmProgram(64, bytes), { mode: 0o755 });
    guests.set(name, file);
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const ends = async (guest: string, options: RealOptions): Promise<string> =>
  (await runReal(guests.get(guest) ?? "", [], options)).end;

describe("16: rcx and r11 after a handler", () => {
  test.each(["direct", "linux-userland", "linux-kernel", "windows-userland"])(
    "come through on %s",
    async (provider) => {
      expect(await ends("handled", { provider })).toBe("exit 0");
    },
  );

  test.each(["linux-kernel", "windows-userland"])("are lost where %s leaves by the fast way", async (provider) => {
    const run = await runReal(guests.get("handled") ?? "", [], { provider, inject: ["@sigreturn:sysret"] });
    expect(run.end).toBe("exit 1");
    expect(run.counts.get("@sigreturn sysret")).toBe(1);
  });

  test("are lost on SNP with LiteBox's answers, as it leaves by sysretq", async () => {
    expect(await ends("handled", { provider: "linux-kernel", asLitebox: true })).toBe("exit 1");
    expect(await ends("handled", { provider: "linux-userland", asLitebox: true })).toBe("exit 0");
  });
});

describe("8: CR4.FSGSBASE off", () => {
  const inject = ["cpu:no-fsgsbase"];

  test("a guest that asks AT_HWCAP2 is told, and does not use it", async () => {
    expect(await ends("ownBase", {})).toBe("exit 99");
    expect(await ends("ownBase", { inject })).toBe("exit 0");
  });

  test("one that does not ask gets SIGILL", async () => {
    expect(await ends("blindly", {})).toBe("exit 0");
    expect(await ends("blindly", { inject })).toBe("signal 4");
  });

  test.each(["linux-userland", "windows-userland", "linux-kernel"])("host code of %s cannot run", async (provider) => {
    expect(await ends("handled", { provider, inject })).toMatch(/^panic: .*wrfsbase raises #UD: CR4.FSGSBASE is off/);
  });
});
