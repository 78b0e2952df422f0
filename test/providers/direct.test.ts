import { describe, expect, test } from "vitest";
import { decodeDescriptor, flatData, type GdtLayout, toDescriptor, type UserDesc } from "../../emulator/descriptors.ts";
import type { SegmentName } from "../../emulator/privileged.ts";
import { DirectProvider } from "../../providers/direct.ts";
import type { Request, Result } from "../../providers/requests.ts";
import { fakePlatform } from "./fake-cpu.ts";

function setup(layout: GdtLayout = "x86_64") {
  const platform = fakePlatform(layout);
  const provider = new DirectProvider(platform);
  const ask = (request: Request): Result => provider.getPunchthroughTokenFor(request).execute();
  return { cpu: platform.cpu, provider, ask };
}

const flat = (entry_number: number, base_addr = 0x8000): UserDesc => flatData(entry_number, base_addr);
const EMPTY: UserDesc = {
  ...flat(0, 0),
  limit: 0,
  seg_32bit: false,
  limit_in_pages: false,
  useable: false,
  read_exec_only: true,
  seg_not_present: true,
};

describe("provider direct", () => {
  test("a token changes nothing before it is executed", () => {
    const { cpu, provider } = setup();
    provider.getPunchthroughTokenFor({ kind: "SetFsBase", address: 0x1000n });
    provider.getPunchthroughTokenFor({ kind: "ClearTls" });
    expect(cpu.writes).toEqual([]);
  });

  test("reads bases back, also those the guest wrote itself", () => {
    const { cpu, ask } = setup();
    ask({ kind: "SetFsBase", address: 0x1000n });
    ask({ kind: "SetGsBase", address: 0x2000n });
    expect(ask({ kind: "GetFsBase" })).toEqual({ kind: "ok", value: 0x1000n });
    expect(ask({ kind: "GetGsBase" })).toEqual({ kind: "ok", value: 0x2000n });
    cpu.bases.fs = 0xdead000n;
    expect(ask({ kind: "GetFsBase" })).toEqual({ kind: "ok", value: 0xdead000n });
  });

  test("a base outside user space is EPERM and changes nothing", () => {
    const { cpu, ask } = setup();
    for (const address of [0x7ffffffff000n, 0x800000000000n, -1n])
      for (const kind of ["SetFsBase", "SetGsBase"] as const)
        expect(ask({ kind, address })).toEqual({ kind: "failure", errno: 1 });
    expect(cpu.writes).toEqual([]);
  });

  test("does not change the description it was given", () => {
    const { ask } = setup();
    const desc = Object.freeze(flat(-1));
    expect(ask({ kind: "SetThreadArea", desc })).toEqual({
      kind: "ok",
      value: 0n,
      desc: { ...desc, entry_number: 12 },
    });
  });

  test("takes entry -1 also as an unsigned word", () => {
    const { ask } = setup();
    expect(ask({ kind: "SetThreadArea", desc: flat(0xffffffff) })).toMatchObject({ desc: { entry_number: 12 } });
    expect(ask({ kind: "SetLdtEntry", desc: flat(0xffffffff), legacy: false })).toEqual({ kind: "failure", errno: 22 });
  });

  test("an SS that points to a changed entry is renewed as by IRET, and kept where it no longer loads", () => {
    const { cpu, ask } = setup();
    ask({ kind: "SetThreadArea", desc: flat(12, 0x1000) });
    cpu.loadSelector("ss", 0x63);
    ask({ kind: "SetThreadArea", desc: flat(12, 0x2000) });
    expect(cpu.bases.ss).toBe(0x2000n);
    ask({ kind: "SetThreadArea", desc: { ...EMPTY, entry_number: 12 } });
    expect([cpu.selectors.ss, cpu.bases.ss]).toEqual([0x63, 0x2000n]);
  });

  test("exec leaves no base, no selector, no TLS entry and no LDT", () => {
    const { cpu, ask } = setup();
    ask({ kind: "SetThreadArea", desc: flat(14) });
    ask({ kind: "SetLdtEntry", desc: flat(3), legacy: false });
    cpu.loadSelector("gs", 0x73);
    cpu.loadSelector("fs", 0x1f);
    ask({ kind: "ClearTls" });
    expect(cpu.gdt.slice(12, 15)).toEqual([0n, 0n, 0n]);
    expect(cpu.ldtSize).toBe(0);
    expect([cpu.selectors.fs, cpu.selectors.gs, cpu.fsBase, cpu.gsBase]).toEqual([0, 0, 0n, 0n]);
  });
});

describe("selectors around a signal handler", () => {
  const load = (selectors: Partial<Record<SegmentName, number>>) => ({ kind: "LoadSelectors", selectors }) as const;

  test("data segments that do not load become null", () => {
    const { cpu, ask } = setup();
    ask({ kind: "SetThreadArea", desc: flat(12, 0x1000) });
    expect(ask(load({ gs: 0x63, fs: 0x6b, es: 0x2b }))).toEqual({ kind: "ok", value: 0n });
    expect([cpu.selectors.gs, cpu.gsBase, cpu.selectors.fs, cpu.selectors.es]).toEqual([0x63, 0x1000n, 0, 0x2b]);
  });

  test("CS and SS that do not load stay both, and the exception of the return is told", () => {
    const { cpu, ask } = setup();
    const absent = { ...flat(0), seg_not_present: true };
    ask({ kind: "SetLdtEntry", desc: { ...absent, contents: 2 }, legacy: false });
    ask({ kind: "SetLdtEntry", desc: { ...absent, entry_number: 1 }, legacy: false });
    const refused = (vector: number, code: number) => ({ kind: "ok", value: (BigInt(vector) << 16n) | BigInt(code) });
    expect(ask(load({ cs: 7, ss: 0x2b }))).toEqual(refused(11, 4));
    expect(ask(load({ cs: 0x23, ss: 0xf }))).toEqual(refused(12, 0xc));
    expect(ask(load({ cs: 0x23, ss: 0x23 }))).toEqual(refused(13, 0x20));
    expect(ask(load({ cs: 3 }))).toEqual(refused(13, 0));
    expect(ask(load({ cs: 0x1003 }))).toEqual(refused(13, 0x1000));
    expect([cpu.selectors.cs, cpu.selectors.ss]).toEqual([0x33, 0x2b]);
    expect(ask(load({ cs: 0x23, ss: 0x2b }))).toEqual({ kind: "ok", value: 0n });
    expect(cpu.selectors.cs).toBe(0x23);
  });
});

describe("provider direct on the native i386 layout", () => {
  test("has TLS entries 6 to 8", () => {
    const { cpu, ask } = setup("i386");
    for (const entry of [6, 7, 8])
      expect(ask({ kind: "SetThreadArea", desc: flat(-1) })).toMatchObject({ desc: { entry_number: entry } });
    expect(ask({ kind: "SetThreadArea", desc: flat(-1) })).toEqual({ kind: "failure", errno: 3 });
    expect(cpu.gdt[8]).toBe(toDescriptor(flat(8)));
    for (const entry of [5, 9, 12])
      expect(ask({ kind: "GetThreadArea", entry_number: entry })).toEqual({ kind: "failure", errno: 22 });
    ask({ kind: "ClearTls" });
    expect(cpu.gdt.slice(6, 9)).toEqual([0n, 0n, 0n]);
    expect(decodeDescriptor(cpu.gdt[14] ?? 0n).type).toBe("code");
  });

  test("has no requests for 64-bit bases", () => {
    const { cpu, ask } = setup("i386");
    for (const kind of ["GetFsBase", "GetGsBase"] as const) expect(ask({ kind })).toEqual({ kind: "unsupported" });
    for (const kind of ["SetFsBase", "SetGsBase"] as const)
      expect(ask({ kind, address: 0n })).toEqual({ kind: "unsupported" });
    expect(cpu.writes).toEqual([]);
  });

  test("a changed LDT entry also renews FS, as every return to user mode does", () => {
    const { cpu, ask } = setup("i386");
    ask({ kind: "SetLdtEntry", desc: flat(0, 0x1000), legacy: false });
    cpu.loadSelector("fs", 7);
    ask({ kind: "SetLdtEntry", desc: flat(0, 0x2000), legacy: false });
    expect(cpu.bases.fs).toBe(0x2000n);
  });
});
