import { afterEach, describe, expect, test } from "vitest";
import { Reg, StopKind } from "../../emulator/cpu.ts";
import { SharedPages } from "../../emulator/memory.ts";
import { loadNative } from "../../emulator/native.ts";
import { NativeEngine } from "../../emulator/native-engine.ts";
import {
  assemble,
  type Bits,
  CODE,
  close,
  DATA,
  describeStop,
  enterUser,
  type Guest,
  guestOf,
  newGuest,
  poke,
  runGuest,
  STACK,
  userEnd,
} from "./guest.ts";

const RX = 5;
const RW = 3;
const RWX = 7;

const open: Guest[] = [];
function guest(bits: Bits, source: string): Guest {
  const made = guestOf(bits, source);
  open.push(made);
  return made;
}
afterEach(() => {
  for (const made of open.splice(0)) close(made);
});

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));
/** `mov eax, n; ret` */
const returns = (n: number): Uint8Array => Uint8Array.of(0xb8, n, 0, 0, 0, 0xc3);

/** Calls a function of the guest by `call rbx; syscall` at CODE and gives back EAX. */
function call(g: Guest, address: number, space = g.space): number {
  g.cpu.setReg(Reg.rip, CODE);
  g.cpu.setReg(Reg.rsp, STACK);
  g.cpu.setReg(Reg.rbx, address);
  let kind = g.cpu.run();
  while (
    kind === StopKind.exception &&
    g.cpu.stopVector === 14 &&
    space.resolve(g.cpu.stopAddress, g.cpu.stopAccess) === "ok"
  )
    kind = g.cpu.run();
  expect(describeStop(g.cpu, kind).what).toBe("syscall");
  return g.cpu.regLow(Reg.rax);
}
const caller = "call rbx; syscall";

describe("code that changes", () => {
  const JIT = 0x5000000;
  test("in the block that runs, by its own store", () => {
    const g = guest(
      64,
      `
      lea rdi, [rip+target+1]
      mov byte ptr [rdi], 9
      target: mov eax, 1
      syscall`,
    );
    g.space.protect(CODE, 0x2000, RWX);
    expect(runGuest(g).what).toBe("syscall");
    expect(g.cpu.reg(Reg.rax)).toBe(9);
  });
  test("in another page, by the guest, again and again", () => {
    const g = guest(
      64,
      `
      mov ebx, ${JIT}
      mov ebp, 100
    1: mov [rbx+1], bpl
      call rbx
      add esi, eax
      dec ebp
      jnz 1b
      syscall`,
    );
    g.space.map(JIT, 0x1000, RWX);
    g.space.memory.write(JIT, returns(0));
    expect(runGuest(g).what).toBe("syscall");
    expect(g.cpu.reg(Reg.rsi)).toBe(5050);
  });
  test("through another mapping of the same memory", () => {
    const g = guest(64, `${caller}`);
    const pages = new SharedPages(g.machine.physical, "", 0x1000);
    g.space.map(JIT, 0x1000, RX, { backing: pages, shared: true });
    g.space.map(JIT + 0x10000, 0x1000, RW, { backing: pages, shared: true });
    poke(g, CODE + 0x800, assemble(64, "mov [rcx], al; syscall", CODE + 0x800));
    g.space.memory.write(JIT + 0x10000, returns(0));
    for (let i = 1; i < 20; i++) {
      g.cpu.setReg(Reg.rip, CODE + 0x800);
      g.cpu.setReg(Reg.rax, i);
      g.cpu.setReg(Reg.rcx, JIT + 0x10001);
      g.space.resolve(JIT + 0x10001, "write");
      expect(runGuest(g).what).toBe("syscall");
      expect(call(g, JIT)).toBe(i);
    }
  });
  test("by the shim", () => {
    const g = guest(64, caller);
    g.space.map(JIT, 0x1000, RWX);
    for (let i = 1; i < 20; i++) {
      g.space.memory.write(JIT, returns(i));
      expect(call(g, JIT)).toBe(i);
      g.space.memory.setU8(JIT + 1, i + 100);
      expect(call(g, JIT)).toBe(i + 100);
    }
  });
  test("under W^X, by flips of the protection", () => {
    const g = guest(64, caller);
    g.space.map(JIT, 0x1000, RW);
    for (let i = 1; i < 20; i++) {
      g.space.protect(JIT, 0x1000, RW);
      expect(() => g.space.memory.write(JIT, returns(i))).not.toThrow();
      g.cpu.setReg(Reg.rip, JIT);
      expect(runGuest(g)).toMatchObject({ vector: 14, access: "fetch", address: JIT });
      g.space.protect(JIT, 0x1000, RX);
      expect(call(g, JIT)).toBe(i);
    }
  });
  test("with the mapping, at the same address", () => {
    const g = guest(64, caller);
    for (let i = 1; i < 20; i++) {
      g.space.map(JIT, 0x1000, RWX);
      g.space.memory.write(JIT, returns(i));
      expect(call(g, JIT)).toBe(i);
      if (i % 2 === 0) g.space.unmap(JIT, 0x1000);
    }
    g.space.discard(JIT, 0x1000);
    g.space.memory.write(JIT, returns(77));
    expect(call(g, JIT)).toBe(77);
  });
  test("in an instruction that lies in two pages, when the second changes", () => {
    const g = guest(64, caller);
    g.space.map(JIT, 0x2000, RWX);
    g.space.memory.write(JIT + 0xffe, returns(5));
    expect(call(g, JIT + 0xffe)).toBe(5);
    g.space.memory.setU8(JIT + 0xfff, 6);
    expect(call(g, JIT + 0xffe)).toBe(6);
    g.space.memory.setU8(JIT + 0x1000, 1);
    expect(call(g, JIT + 0xffe)).toBe(0x106);
    g.space.map(JIT + 0x1000, 0x1000, RWX);
    g.space.memory.write(JIT + 0x1000, hex("02 00 00 c3"));
    expect(call(g, JIT + 0xffe)).toBe(0x206);
  });
  test("in frames that are freed and used again", () => {
    const g = guest(64, caller);
    const seen: number[] = [];
    for (let i = 1; i < 50; i++) {
      const at = JIT + i * 0x1000;
      g.space.map(at, 0x1000, RWX);
      g.space.memory.write(at, returns(i));
      seen.push(call(g, at));
      g.space.unmap(at, 0x1000);
    }
    expect(seen).toEqual(seen.map((_, i) => i + 1));
  });
});

describe("several spaces", () => {
  test("execute one page at one address with different neighbours", () => {
    const g = guest(64, "call rbx; syscall");
    const JIT = 0x5000000;
    const pages = new SharedPages(g.machine.physical, "", 0x1000);
    const other = g.machine.newSpace(userEnd[64]);
    for (const [i, space] of [g.space, other].entries()) {
      space.map(JIT, 0x1000, RX, { backing: pages, shared: true });
      space.map(JIT + 0x1000, 0x1000, RWX);
      space.memory.write(JIT + 0x1000, Uint8Array.of(i + 1, 0, 0, 0, 0xc3));
    }
    g.machine.physical.bytes(pages.frame(0))[0xfff] = 0xb8;
    const stub = g.space.memory.bytes(CODE, 0x1000);
    other.map(CODE, 0x1000, RWX);
    other.memory.write(CODE, stub);
    other.map(STACK - 0x1000, 0x1000, RW);
    for (let turn = 0; turn < 6; turn++) {
      const space = turn % 2 === 0 ? g.space : other;
      g.machine.activate(space);
      expect(call(g, JIT + 0xfff, space)).toBe((turn % 2) + 1);
    }
    g.machine.activate(g.space);
    other.close();
    expect(call(g, JIT + 0xfff)).toBe(1);
  });
  test("a fork's stores do not show in the parent, nor the parent's code in the child", () => {
    const g = guest(64, `mov [${DATA}], eax; mov esi, [${DATA}]; syscall`);
    g.space.memory.setU32(DATA, 5);
    const child = g.space.fork();
    const run = (value: number): number => {
      g.cpu.setReg(Reg.rip, CODE);
      g.cpu.setReg(Reg.rax, value);
      expect(runGuest(g).what).toBe("syscall");
      return g.cpu.reg(Reg.rsi);
    };
    expect(run(6)).toBe(6);
    expect(child.memory.u32(DATA)).toBe(5);
    g.machine.activate(child);
    expect(run(7)).toBe(7);
    expect(g.space.memory.u32(DATA)).toBe(6);
    child.protect(CODE, 0x1000, RWX);
    child.memory.setU8(CODE, 0x90);
    g.machine.activate(g.space);
    expect(run(8)).toBe(8);
  });
  test.each(["mov byte ptr [r12], al", "rep stosb"])("a fork's loop that changes itself by %s", (store) => {
    // The page is shared with the child until the store, in the block that runs.
    const JIT = 0x5000000;
    const g = guest(64, "jmp r13");
    g.space.map(JIT, 0x1000, RWX);
    const loop = `mov ebp, 3; 1: mov ebx, 1; mov eax, ebp; mov ecx, 1; mov rdi, r12; ${store}; dec ebp; jnz 1b; syscall`;
    const code = assemble(64, loop, JIT);
    g.space.memory.write(JIT, code);
    g.cpu.setReg(Reg.r13, JIT);
    g.cpu.setReg(Reg.r12, JIT + 6);
    const start = g.cpu.saveContext();
    expect(runGuest(g).what).toBe("syscall");
    expect(g.cpu.regLow(Reg.rbx)).toBe(2);
    g.space.memory.write(JIT, code);
    const child = g.space.fork();
    g.machine.activate(child);
    for (let i = 0; i < 2; i++) {
      g.cpu.restoreContext(start);
      g.cpu.setReg(Reg.rip, CODE);
      expect(runGuest({ ...g, space: child }).what).toBe("syscall");
      expect(g.cpu.regLow(Reg.rbx)).toBe(2);
    }
  });
  test("the stack of a fork is copied by pushes", () => {
    const g = guest(64, "push rax; pop rcx; push rax; syscall");
    g.space.memory.setU64(STACK - 8, 1n);
    const child = g.space.fork();
    g.cpu.setReg(Reg.rax, 42);
    runGuest(g);
    expect(child.memory.u64(STACK - 8)).toBe(1n);
    expect(g.space.memory.u64(STACK - 8)).toBe(42n);
  });
  test("a space that is closed while the CPU is in it leaves nothing to run", () => {
    const g = guest(64, "syscall; jmp 0x401000");
    runGuest(g);
    g.space.close();
    expect(runGuest(g)).toMatchObject({ vector: 14, access: "fetch" });
  });
});

describe("snapshots", () => {
  test("bring back memory, registers, mappings and the time stamp, any number of times", () => {
    const g = guest(64, `1: inc dword ptr [${DATA}]; rdtsc; mov ebx, eax; syscall; jmp 1b`);
    const mapped = () => [...g.space.regions()].map((r) => [r.start, r.end, r.prot]);
    runGuest(g);
    const before = mapped();
    const snapshot = g.machine.snapshot();
    const results: number[][] = [];
    for (let i = 0; i < 3; i++) {
      for (let k = 0; k <= i; k++) runGuest(g);
      g.space.map(0x9000000, 0x1000, RW);
      g.machine.newSpace(0x100000).map(0x1000, 0x1000, RW);
      g.space.unmap(DATA + 0x1000, 0x1000);
      g.machine.restore(snapshot);
      expect(mapped()).toEqual(before);
      runGuest(g);
      results.push([g.space.memory.u32(DATA), g.cpu.reg(Reg.rbx), g.cpu.reg(Reg.rip)]);
      g.machine.restore(snapshot);
    }
    expect(results).toEqual([results[0], results[0], results[0]]);
    expect(results[0]?.[0]).toBe(2);
  });
  test("two machines side by side know nothing of each other", () => {
    const a = guest(64, `inc dword ptr [${DATA}]; syscall; jmp 0x401000`);
    const b = guest(64, `dec dword ptr [${DATA}]; syscall; jmp 0x401000`);
    for (let i = 0; i < 5; i++) {
      runGuest(a);
      runGuest(b);
    }
    expect([a.space.memory.u32(DATA), b.space.memory.u32(DATA)]).toEqual([5, 0xfffffffb]);
  });
});

test("alarms in the middle of a run change nothing in it", () => {
  const native = loadNative();
  const source = `mov ecx, 10000000; 1: inc qword ptr [${DATA}]; mov rdx, [${DATA}]; add rbx, rdx; dec ecx; jnz 1b; ud2`;
  const g = guest(64, source);
  let interruptions = 0;
  let stop = {};
  do {
    native.alarm(1 + (interruptions % 3));
    stop = runGuest(g);
    native.alarm(0);
    interruptions++;
  } while ("what" in stop && stop.what === "interrupted");
  expect(stop).toMatchObject({ vector: 6 });
  expect(interruptions).toBeGreaterThan(1);
  expect(g.cpu.regBig(Reg.rbx)).toBe(50_000_005_000_000n);
});

test("rdtsc goes its own way, the same in every run", () => {
  const values = [0, 1].map(() => {
    const g = guest(64, "rdtsc; mov ebx, eax; rdtscp; mov esi, ecx; syscall");
    g.cpu.timeStamp = 1000;
    runGuest(g);
    return [g.cpu.regLow(Reg.rbx), g.cpu.regLow(Reg.rax), g.cpu.regLow(Reg.rsi)];
  });
  expect(values[0]).toEqual([1064, 1128, 0]);
  expect(values[1]).toEqual(values[0]);
});

test("CPUID says what runs", () => {
  const g = guest(64, "mov eax, r8d; xor ecx, ecx; cpuid; mov esi, ecx; syscall; jmp 0x401000");
  const cpuid = (leaf: number): number[] => {
    g.cpu.setReg(Reg.r8, leaf);
    runGuest(g);
    return [Reg.rax, Reg.rbx, Reg.rsi, Reg.rdx].map((r) => g.cpu.regLow(r));
  };
  const bit = (value: number | undefined, n: number): number => ((value ?? 0) >>> n) & 1;
  const [, , c1, d1] = cpuid(1);
  // fpu tsc cx8 cmov mmx fxsr sse sse2
  expect([0, 4, 8, 15, 23, 24, 25, 26].map((n) => bit(d1, n))).toEqual(Array(8).fill(1));
  // sse3 pclmul ssse3 cx16 sse4.1 sse4.2 movbe popcnt aes, then fma xsave osxsave avx f16c rdrand
  expect([0, 1, 9, 13, 19, 20, 22, 23, 25].map((n) => bit(c1, n))).toEqual(Array(9).fill(1));
  expect([12, 26, 27, 28, 29, 30].map((n) => bit(c1, n))).toEqual(Array(6).fill(0));
  const [, b7, c7, d7] = cpuid(7);
  expect([b7, c7, d7]).toEqual([1, 0, 0]);
  const [, , , d81] = cpuid(0x80000001);
  expect([11, 20, 27, 29].map((n) => bit(d81, n))).toEqual([1, 1, 1, 1]);
});

describe("hostile calls into the addon", () => {
  const values: readonly unknown[] = [
    undefined,
    null,
    Number.NaN,
    -1,
    0.5,
    3,
    5000,
    2 ** 31,
    2 ** 32,
    2 ** 53,
    2 ** 60,
    Number.POSITIVE_INFINITY,
    1n,
    -1n,
    2n ** 70n,
    "x",
    {},
    [],
    true,
    () => 0,
    new Uint8Array(0),
    new Uint8Array(8),
    new Float64Array(1),
    Symbol("s"),
  ];
  const others = ["constructor", "close", "run"];
  const methods = Object.getOwnPropertyNames(NativeEngine.prototype).filter((name) => !others.includes(name));

  test("never end the host process", () => {
    const native = loadNative();
    const engine = new NativeEngine(native.engines, 64 * 1024 * 1024);
    engine.addSpace(0x100000);
    engine.activate(0);
    let seed = 7;
    const random = (n: number): number => {
      seed = (seed * 48271) % 2147483647;
      return seed % n;
    };
    let thrown = 0;
    let calls = 0;
    for (const name of methods) {
      const method: unknown = Reflect.get(engine, name);
      if (typeof method !== "function") continue;
      for (let i = 0; i < 300; i++) {
        // Frames belong to whoever holds them, and giving back another's is no question of the types.
        if (name === "releaseFrame" && i > 5) break;
        const args = Array.from({ length: random(9) }, () => values[random(values.length)]);
        if (i % 3 === 0) args[0] = 0;
        calls++;
        try {
          Reflect.apply(method, engine, args);
        } catch {
          thrown++;
        }
      }
    }
    expect(thrown).toBeGreaterThan(calls / 3);
    for (const bytes of [1, 0xff, 0x55]) {
      const context = new Uint8Array(native.contextSize).fill(bytes);
      engine.restoreContext(context);
      engine.fxrstor(new Uint8Array(512).fill(bytes));
      engine.fxsave(new Uint8Array(512));
      for (let i = 0; i < 3; i++) engine.run();
    }
    engine.close();
    for (const name of methods) {
      const method: unknown = Reflect.get(engine, name);
      if (typeof method === "function") expect(() => Reflect.apply(method, engine, [0, 0, 0])).toThrow(/closed/);
    }
    expect(() => engine.run()).toThrow(/closed/);
    for (const name of methods) {
      // Nor does a number that no engine has reach one.
      const call: unknown = Reflect.get(native.engines, name);
      if (typeof call !== "function") throw new Error(`${name} is no function`);
      for (const number of values) expect(() => Reflect.apply(call, undefined, [number, 0, 0])).toThrow(/closed/);
    }
    for (const value of values) expect(() => Reflect.apply(native.engines.close, undefined, [value])).toThrow();
    for (const size of [0, -1, Number.NaN, 2 ** 50, 100])
      expect(() => new NativeEngine(native.engines, size)).toThrow();
  });
  test("views of memory are empty once the machine is closed", () => {
    const g = newGuest(64);
    const view = g.machine.physical.bytes(1);
    expect(view.length).toBe(4096);
    close(g);
    expect(view.length).toBe(0);
    expect(() => g.cpu.run()).toThrow(/closed/);
    expect(() => g.space.memory.u8(DATA)).toThrow(/closed/);
  });
  test("machines opened and closed give their memory back", () => {
    const grown = [1, 2, 3].map(() => {
      const before = process.memoryUsage.rss();
      for (let i = 0; i < 50; i++) {
        const g = guestOf(64, "syscall");
        expect(g.cpu.run()).toBe(StopKind.syscall);
        close(g);
      }
      return process.memoryUsage.rss() - before;
    });
    // 50 machines that stay would hold 150 MB, every time.
    expect(Math.min(...grown)).toBeLessThan(75e6);
  });
});

test("a guest of another word size needs no other machine", () => {
  const g = guest(64, "mov rax, -1; syscall");
  runGuest(g);
  const small = g.machine.newSpace(userEnd[32]);
  small.map(CODE, 0x1000, RWX);
  small.memory.write(CODE, assemble(32, "inc eax; int 0x80"));
  g.machine.activate(small);
  enterUser(g.cpu, 32);
  g.cpu.setReg(Reg.rip, CODE);
  expect(runGuest(g)).toEqual({ what: "int80", rip: CODE + 3 });
  expect(g.cpu.reg(Reg.rax)).toBe(0);
});
