import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Reg, StopKind } from "../../emulator/cpu.ts";
import { Machine } from "../../emulator/machine.ts";
import { PROT_EXEC, PROT_READ, PROT_WRITE } from "../../emulator/memory.ts";
import type { NativeAddon } from "../../emulator/native.ts";

const sources = join(import.meta.dirname, "../../emulator/native");
const headers = [
  join(dirname(process.execPath), "../include/node"),
  join(homedir(), ".cache/node-gyp", process.versions.node, "include/node"),
].find((folder) => existsSync(join(folder, "node_api.h")));

describe("an addon over the shared libunicorn", () => {
  const folder = mkdtempSync(join(tmpdir(), "shimbed-shared-"));
  let addon: NativeAddon;

  beforeAll(() => {
    if (headers === undefined) throw new Error("Node's headers are not here; `npm run setup` brings them");
    const file = join(folder, "shared.node");
    const sourceFiles = readdirSync(sources).filter((name) => name.endsWith(".cc"));
    const flags = ["-shared", "-fPIC", "-O1", "-std=gnu++20", "-fvisibility=hidden", "-DNAPI_VERSION=8"];
    const names = ["-DSHIMBED_STATIC_UNICORN=0", "-DNODE_GYP_MODULE_NAME=shared", `-I${headers}`];
    execFileSync("c++", [...flags, ...names, ...sourceFiles, "-lunicorn", "-lpthread", "-o", file], { cwd: sources });
    addon = createRequire(import.meta.url)(file);
  }, 600_000);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Runs code at 0x10000 with a page of data at 0x20000 in RDI. */
  function runCode(code: readonly number[], after: (machine: Machine, kind: StopKind) => void): void {
    const machine = new Machine({}, addon);
    try {
      const space = machine.newSpace(0x7ffffffff000);
      machine.activate(space);
      space.map(0x10000, 0x1000, PROT_READ | PROT_WRITE | PROT_EXEC);
      space.map(0x20000, 0x1000, PROT_READ | PROT_WRITE);
      space.memory.write(0x10000, Uint8Array.from(code));
      const { cpu } = machine;
      cpu.enterUser(true, 0x33, 0x2b);
      cpu.setReg(Reg.rip, 0x10000);
      cpu.setReg(Reg.rdi, 0x20000);
      after(machine, cpu.run());
    } finally {
      machine.close();
    }
  }

  test("is one that takes the shared library's functions over", () => {
    expect(addon.staticUnicorn).toBe(false);
  });

  test("has our x87, and our CMPXCHG", () => {
    const divide = [0xdb, 0xe3, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0xdf, 0xe0, 0x0f, 0x05];
    runCode(divide, ({ cpu }) => expect(cpu.reg(Reg.rax) & 0x3f).toBe(4));
    const exchange = [
      0x48, 0xb8, 0, 0, 0, 0, 0xef, 0xbe, 0xad, 0xde, 0xb9, 2, 0, 0, 0, 0xf0, 0x0f, 0xb1, 0x0f, 0x0f, 0x05,
    ];
    runCode(exchange, ({ cpu }) => expect(cpu.regBig(Reg.rax)).toBe(0xdeadbeef00000000n));
  });

  test("raises an SSE exception that LDMXCSR has unmasked, and none before", () => {
    // pxor xmm0, xmm0; divss xmm0, xmm0; mov dword [rdi], 0x1f00; ldmxcsr [rdi]; divss xmm0, [rdi + 8]
    const code = [0x66, 0x0f, 0xef, 0xc0, 0xf3, 0x0f, 0x5e, 0xc0, 0xc7, 0x07, 0x00, 0x1f, 0, 0, 0x0f, 0xae, 0x17];
    runCode([...code, 0x66, 0x0f, 0xef, 0xc0, 0xf3, 0x0f, 0x5e, 0x47, 0x08], ({ cpu }, kind) => {
      expect([kind, cpu.stopVector, cpu.reg(Reg.rip)]).toEqual([StopKind.exception, 19, 0x10000 + 21]);
      expect(cpu.fxsave().slice(24, 26)).toEqual(Uint8Array.of(0x01, 0x1f));
    });
  });

  test("stops at a system call", () => {
    runCode([0xb8, 39, 0, 0, 0, 0x0f, 0x05], ({ cpu }, kind) => {
      expect(kind).toBe(StopKind.syscall);
      expect(cpu.reg(Reg.rax)).toBe(39);
      expect(cpu.reg(Reg.rcx)).toBe(0x10007);
    });
  });

  test("stores, and faults exactly in the middle of rep stosb", () => {
    // mov ecx, 0x1010; mov al, 7; rep stosb
    runCode([0xb9, 0x10, 0x10, 0, 0, 0xb0, 7, 0xf3, 0xaa], (machine, kind) => {
      const { cpu } = machine;
      expect(kind).toBe(StopKind.exception);
      expect([cpu.stopVector, cpu.stopAddress, cpu.stopAccess]).toEqual([14, 0x21000, "write"]);
      expect([cpu.reg(Reg.rip), cpu.reg(Reg.rdi), cpu.reg(Reg.rcx)]).toEqual([0x10007, 0x21000, 0x10]);
      expect(machine.active?.memory.u8(0x20fff)).toBe(7);
    });
  });

  test("refuses VEX and executes RDFSBASE", () => {
    runCode([0xc5, 0xf8, 0x77], ({ cpu }, kind) => {
      expect([kind, cpu.stopVector]).toEqual([StopKind.exception, 6]);
    });
    // wrfsbase rdi; rdfsbase rax; int 0x80
    runCode([0xf3, 0x48, 0x0f, 0xae, 0xd7, 0xf3, 0x48, 0x0f, 0xae, 0xc0, 0xcd, 0x80], ({ cpu }, kind) => {
      expect([kind, cpu.reg(Reg.rax)]).toEqual([StopKind.int80, 0x20000]);
    });
  });

  test("sees code that changes itself", () => {
    // mov byte [rip+1], 0x2a (the immediate of the next instruction); mov al, 0; int 0x80
    runCode([0xc6, 0x05, 0x01, 0, 0, 0, 0x2a, 0xb0, 0x00, 0xcd, 0x80], ({ cpu }, kind) => {
      expect([kind, cpu.regLow(Reg.rax) & 0xff]).toEqual([StopKind.int80, 0x2a]);
    });
  });
});
