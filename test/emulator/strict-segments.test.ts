// Strict segments: 32-bit code against segments with limits, compared with the host's processor where there is one.
import { afterEach, describe, expect, test } from "vitest";
import { Reg } from "../../emulator/cpu.ts";
import { toDescriptor, type UserDesc } from "../../emulator/descriptors.ts";
import { expectAlike } from "./alike.ts";
import { compare, leaves } from "./deviations.ts";
import { CODE, close, DATA, type Guest, guestOf, runGuest } from "./guest.ts";
import {
  localDescriptor,
  nativeRunner,
  numbers,
  runNatively,
  type Snippet,
  SnippetGuest,
  segmentSnippet,
} from "./snippets.ts";

const open: Guest[] = [];
function guest(source: string, strictSegments = true): Guest {
  const made = guestOf(32, source, { strictSegments });
  open.push(made);
  return made;
}
afterEach(() => {
  for (const made of open.splice(0)) close(made);
});

function setTls(g: Guest, limit: number, kind: Partial<UserDesc> = {}): void {
  g.cpu.privileged.setGdtEntry(12, toDescriptor(localDescriptor(DATA, limit, kind)));
}
const load = "mov eax, 0x63; mov gs, eax;";
const AT = CODE + 7;

describe("through GS", () => {
  test.each([
    ["the last word within the limit", "mov ebx, gs:[0xffc]", undefined],
    ["one byte beyond the limit", "mov ebx, gs:[0xffd]", 13],
    ["a store beyond it", "mov gs:[0x1000], ebx", 13],
    ["below the segment's base", "mov ebx, gs:[-4]", 13],
  ] as const)("%s", (_name, access, vector) => {
    for (const strict of [true, false]) {
      const g = guest(`${load} ${access}; ud2`, strict);
      setTls(g, 0xfff);
      const stop = runGuest(g);
      if (vector !== undefined && strict) expect(stop).toMatchObject({ vector, code: 0, rip: AT });
      else if (vector === undefined) expect(stop).toMatchObject({ vector: 6 });
      else expect(stop.vector).not.toBe(13);
    }
  });
  test("a null selector", () => {
    const g = guest("nop; mov ebx, gs:[0]");
    g.space.map(0, 0x1000, 3);
    expect(runGuest(g)).toMatchObject({ vector: 13, code: 0, rip: CODE + 1 });
  });
  test("a read-only segment can be read, not written, nor locked", () => {
    for (const [access, vector] of [
      ["mov ebx, gs:[0]", 6],
      ["mov gs:[0], ebx", 13],
      ["lock inc dword ptr gs:[0]", 13],
      ["pop dword ptr gs:[0]", 13],
    ] as const) {
      const g = guest(`push ebx; ${load} ${access}; ud2`);
      setTls(g, 0xfff, { read_exec_only: true });
      expect(runGuest(g).vector).toBe(vector);
    }
  });
  test("an expand-down segment holds what is above its limit", () => {
    for (const [access, vector] of [
      ["mov ebx, gs:[0x1000]", 6],
      ["mov ebx, gs:[0xfff]", 13],
      ["mov ebx, gs:[0]", 13],
    ] as const) {
      const g = guest(`${load} ${access}; ud2`);
      setTls(g, 0xfff, { contents: 1 });
      expect(runGuest(g).vector).toBe(vector);
    }
  });
});

describe("through DS, ES and SS", () => {
  test("loaded and put back by the guest, in code that has run before", () => {
    const g = guest("1: mov ebx, [0x1000]; mov ds, eax; int 0x80; jmp 1b");
    setTls(g, 0xfff);
    g.space.map(0x1000, 0x1000, 3);
    const seen: unknown[] = [];
    for (const selector of [0x2b, 0x63]) {
      g.cpu.setReg(Reg.rax, selector);
      seen.push(runGuest(g).what);
    }
    expect(seen).toEqual(["int80", "int80"]);
    expect(runGuest(g)).toMatchObject({ vector: 13, rip: CODE });
    g.cpu.privileged.loadSelector("ds", 0x2b);
    expect(runGuest(g).what).toBe("int80");
  });
  test("a push below the stack segment's limit is a stack fault", () => {
    const g = guest("mov ss, eax; mov esp, 2; push ebx");
    setTls(g, 0xfff);
    g.cpu.setReg(Reg.rax, 0x63);
    expect(runGuest(g)).toMatchObject({ vector: 12, code: 0 });
    expect(g.cpu.reg(Reg.rsp)).toBe(2);
  });
  test("rep stos stops at the limit with the registers of what was done", () => {
    const g = guest("mov es, eax; mov edi, 0xff0; mov ecx, 100; rep stosb");
    setTls(g, 0xfff);
    g.cpu.setReg(Reg.rax, 0x63);
    expect(runGuest(g)).toMatchObject({ vector: 13 });
    expect([g.cpu.reg(Reg.rcx), g.cpu.reg(Reg.rdi)]).toEqual([84, 0x1000]);
  });
});

test("a budget and a single step pass checked instructions as one", () => {
  const g = guest(`${load} 1: inc dword ptr gs:[0]; inc ecx; jmp 1b`);
  setTls(g, 0xfff);
  for (let i = 0; i < 50; i++) expect(runGuest(g, 1).what).toBe("budget");
  expect(g.space.memory.u32(DATA)).toBeGreaterThan(10);
  const whole = guest(`${load} 1: inc dword ptr gs:[0]; inc ecx; jmp 1b`);
  setTls(whole, 0xfff);
  runGuest(whole, 50);
  expect([whole.cpu.reg(Reg.rcx), whole.cpu.reg(Reg.rip)]).toEqual([g.cpu.reg(Reg.rcx), g.cpu.reg(Reg.rip)]);
  const step = guest(`${load} inc dword ptr gs:[0]; ud2`);
  setTls(step, 0xfff);
  const rips: unknown[] = [];
  for (let i = 0; i < 4; i++) {
    step.cpu.setReg(Reg.rflags, 0x102);
    rips.push(runGuest(step).rip);
  }
  expect(rips).toEqual([CODE + 5, CODE + 7, CODE + 14, CODE + 14]);
});

const runner = nativeRunner(32);
test.skipIf(runner === undefined)("random code with segments of all kinds ends as on this machine's processor", () => {
  const random = numbers(5);
  const list: Snippet[] = [];
  while (list.length < 4000) {
    const s = segmentSnippet(random);
    if (!leaves(s, 32)) list.push(s);
  }
  const host = runNatively(runner ?? "", list);
  const strict = new SnippetGuest(32, { strictSegments: true });
  const differences = list.map((s, i) => {
    const [theirs, ours] = [host[i], strict.step(s)];
    return theirs && ours ? compare(s, 32, theirs, ours, true) : `${Buffer.from(s.code).toString("hex")} did not end`;
  });
  strict.close();
  expectAlike(differences);
});
