// The processor x86-64-v3: what CPUID says of it, the states that XSAVE and its like keep, and the images of signal frames.
import { describe, expect, test } from "vitest";
import { Reg } from "../../emulator/cpu.ts";
import { loadNative } from "../../emulator/native.ts";
import { assemble, CODE, close, DATA, type Guest, guestOf, poke, runGuest } from "./guest.ts";

const possible = loadNative().lacksForV3().length === 0;
const v3 = { processor: "x86-64-v3" } as const;

/** Where the YMM registers' upper halves and the header of an image lie. */
const [HEADER, UPPER] = [512, 576];

/** An image in which every register of the three parts has something of its own. */
function fullImage(): Uint8Array {
  const image = new Uint8Array(832);
  for (let i = 0; i < 8; i++) for (let k = 0; k < 10; k++) image[32 + 16 * i + k] = 1 + i * 10 + k;
  for (let i = 0; i < 256; i++) image[160 + i] = (i * 7 + 3) & 0xff;
  for (let i = 0; i < 256; i++) image[UPPER + i] = (i * 5 + 1) & 0xff;
  image.set([0x7f, 0x03, 0, 0, 0xff]);
  image.set([0x80, 0x3f, 0, 0, 0xff, 0xff], 24);
  image[HEADER] = 7;
  return image;
}

function run(source: string, before: (guest: Guest) => void = () => {}, bits: 32 | 64 = 64): Guest & { end: unknown } {
  const guest = guestOf(bits, `${source}\nint3`, v3);
  before(guest);
  const end = runGuest(guest);
  return { ...guest, end };
}

const done = { vector: 3 };
const memory = (guest: Guest, at: number, length: number): Uint8Array => guest.space.memory.bytes(at, length);

test("a machine says which processor it has, x86-64-v2 unless asked", () => {
  const guest = guestOf(64, "int3");
  expect(guest.machine.processor).toBe("x86-64-v2");
  close(guest);
});

test.skipIf(possible)("a host without AVX2 is told what it lacks", () => {
  expect(() => guestOf(64, "int3", v3)).toThrow(/lacks .*AVX2/);
});

describe.skipIf(!possible)("x86-64-v3", () => {
  test("CPUID names what is there, and nothing else of AVX", () => {
    const leaf = (eax: number, ecx = 0): number[] => {
      const guest = run(`mov eax, ${eax}\nmov ecx, ${ecx}\ncpuid`);
      const found = [Reg.rax, Reg.rbx, Reg.rcx, Reg.rdx].map((r) => guest.cpu.reg(r));
      close(guest);
      return found;
    };
    const bits = (word: number | undefined, ...numbers: number[]): boolean[] =>
      numbers.map((n) => (((word ?? 0) >>> n) & 1) === 1);
    expect(leaf(0)[0]).toBe(0xd);
    // FMA, MOVBE, XSAVE, OSXSAVE, AVX, F16C; RDRAND is not there
    expect(bits(leaf(1)[2], 12, 22, 26, 27, 28, 29, 30)).toEqual([true, true, true, true, true, true, false]);
    // FSGSBASE, BMI1, AVX2, BMI2; AVX-512F and ADX are not there
    expect(bits(leaf(7)[1], 0, 3, 5, 8, 16, 19)).toEqual([true, true, true, true, false, false]);
    expect(bits(leaf(0x80000001)[2], 5)).toEqual([true]);
    expect([0, 1, 2, 3].map((sub) => leaf(0xd, sub))).toEqual([
      [7, 832, 832, 0],
      [7, 832, 0, 0],
      [256, 576, 0, 0],
      [0, 0, 0, 0],
    ]);
    expect(leaf(8)).toEqual([0, 0, 0, 0]);
  });

  test("x86-64-v2 has neither XSAVE nor its CPUID leaves", () => {
    for (const source of ["xgetbv", "xsave [rdi]", "xrstor [rdi]"]) {
      const guest = guestOf(64, source);
      guest.cpu.setReg(Reg.rdi, DATA);
      expect(runGuest(guest)).toMatchObject({ vector: 6 });
      close(guest);
    }
  });

  test("XGETBV answers XCR0 and what is in use; XSETBV is the kernel's", () => {
    const xcr0 = run("mov rax, -1\nmov rdx, -1\nxor ecx, ecx\nxgetbv");
    expect([xcr0.cpu.reg(Reg.rax), xcr0.cpu.reg(Reg.rdx)]).toEqual([7, 0]);
    close(xcr0);
    const used = run("mov ecx, 1\nxgetbv", ({ cpu }) => cpu.xrstor(fullImage()));
    expect(used.cpu.reg(Reg.rax)).toBe(7);
    close(used);
    expect(run("mov ecx, 2\nxgetbv").end).toMatchObject({ vector: 13, code: 0 });
    expect(run("xor ecx, ecx\nxsetbv").end).toMatchObject({ vector: 13, code: 0 });
  });

  test("an image comes back as it went in, and a context keeps the upper halves", () => {
    const guest = guestOf(64, "int3", v3);
    expect(guest.cpu.xrstor(fullImage())).toBe(true);
    expect(guest.cpu.xsave().subarray(0, 28)).toEqual(fullImage().subarray(0, 28));
    expect(guest.cpu.xsave().subarray(32)).toEqual(fullImage().subarray(32));
    const context = guest.cpu.saveContext();
    const snapshot = guest.machine.snapshot();
    expect(guest.cpu.xrstor(new Uint8Array(832))).toBe(true);
    expect(guest.cpu.xsave()[HEADER]).toBe(0);
    expect(guest.cpu.fxrstor(fullImage().subarray(0, 512))).toBe(true);
    expect(guest.cpu.xsave().subarray(UPPER)).toEqual(new Uint8Array(256));
    guest.cpu.restoreContext(context);
    expect(guest.cpu.xsave().subarray(UPPER)).toEqual(fullImage().subarray(UPPER));
    expect(guest.cpu.fxrstor(new Uint8Array(512))).toBe(true);
    expect(guest.cpu.xsave().subarray(UPPER)).toEqual(fullImage().subarray(UPPER));
    expect(guest.cpu.xrstor(new Uint8Array(832))).toBe(true);
    guest.machine.restore(snapshot);
    expect(guest.cpu.xsave().subarray(160)).toEqual(fullImage().subarray(160));
    close(guest);
  });

  test("images with reserved bits are refused, and change nothing", () => {
    const guest = guestOf(64, "int3", v3);
    guest.cpu.xrstor(fullImage());
    for (const [at, value] of [
      [26, 1],
      [HEADER, 8],
      [HEADER + 8, 1],
      [HEADER + 16, 1],
    ] as const) {
      const image = new Uint8Array(832);
      image[at] = value;
      expect(guest.cpu.xrstor(image)).toBe(false);
    }
    expect(guest.cpu.xsave().subarray(32)).toEqual(fullImage().subarray(32));
    close(guest);
  });

  test.each([
    ["xsave", 7, 7],
    ["xsave", 4, 4],
    ["xsaveopt", 6, 6],
    ["xsavec", 5, 5],
  ])("%s with mask %i writes those parts alone", (name, mask, states) => {
    const guest = run(`mov eax, ${mask}\nxor edx, edx\n${name} [rdi]`, (g) => {
      g.cpu.xrstor(fullImage());
      g.cpu.setReg(Reg.rdi, DATA + 0x40);
      poke(g, DATA, new Uint8Array(0x1000).fill(0xee));
      poke(g, DATA + 0x40 + HEADER, new Uint8Array(64));
    });
    expect(guest.end).toMatchObject(done);
    const image = memory(guest, DATA + 0x40, 832);
    const part = (states & 1 ? image.subarray(32, 160) : undefined) ?? fullImage().subarray(32, 160);
    expect(part).toEqual(fullImage().subarray(32, 160));
    expect(image.subarray(160, 416)).toEqual(
      states & 2 ? fullImage().subarray(160, 416) : new Uint8Array(256).fill(0xee),
    );
    expect(image.subarray(UPPER)).toEqual(states & 4 ? fullImage().subarray(UPPER) : new Uint8Array(256).fill(0xee));
    expect(image.subarray(416, 512)).toEqual(new Uint8Array(96).fill(0xee));
    expect(image[HEADER]).toBe(states);
    expect(image[HEADER + 15]).toBe(name === "xsavec" ? 0x80 : 0);
    close(guest);
  });

  test("what is as after a reset is not written by XSAVEC and comes back as such", () => {
    const empty = (g: Guest): void => {
      g.cpu.setReg(Reg.rdi, DATA);
      poke(g, DATA, new Uint8Array(0x400).fill(0xee));
      poke(g, DATA + HEADER, new Uint8Array(64));
    };
    const guest = run("mov eax, -1\nmov edx, eax\nxsavec [rdi]", empty);
    expect([...memory(guest, DATA + HEADER, 16)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0x80]);
    expect(memory(guest, DATA, 512)).toEqual(new Uint8Array(512).fill(0xee));
    expect(memory(guest, DATA + UPPER, 256)).toEqual(new Uint8Array(256).fill(0xee));
    poke(guest, CODE, assemble(64, "mov eax, -1\nmov edx, eax\nxrstor [rdi]\nint3"));
    guest.cpu.xrstor(fullImage());
    guest.cpu.setReg(Reg.rip, CODE);
    expect(runGuest(guest)).toMatchObject(done);
    expect(guest.cpu.xsave()[HEADER]).toBe(0);
    close(guest);
  });

  test("what is not aligned or not there faults", () => {
    const at = (address: number, source: string): unknown => {
      const guest = run(`mov eax, 7\nxor edx, edx\n${source} [rdi]`, ({ cpu }) => {
        cpu.setReg(Reg.rdi, address);
        cpu.xrstor(fullImage());
      });
      close(guest);
      return guest.end;
    };
    for (const name of ["xsave", "xsavec", "xsaveopt", "xrstor"]) {
      expect(at(DATA + 0x20, name)).toMatchObject({ vector: 13, code: 0 });
      const access = name === "xrstor" ? "read" : "write";
      expect(at(DATA + 0x2000, name)).toMatchObject({ vector: 14, address: DATA + 0x2000, access });
    }
    expect(at(DATA + 0x2000 - 0x300, "xsave")).toMatchObject({ vector: 14, address: DATA + 0x2000 });
    expect(at(CODE + 0x1000, "xsave")).toMatchObject({ vector: 14, code: 7 });
  });

  test("32-bit code has eight registers of each kind", () => {
    const guest = run(
      "mov eax, 7\nxor edx, edx\nxsave [edi]",
      (g) => {
        g.cpu.xrstor(fullImage());
        g.cpu.setReg(Reg.rdi, DATA);
      },
      32,
    );
    expect(guest.end).toMatchObject(done);
    expect(memory(guest, DATA + 160, 128)).toEqual(fullImage().subarray(160, 288));
    expect(memory(guest, DATA + 288, 128)).toEqual(new Uint8Array(128));
    expect(memory(guest, DATA + UPPER + 128, 128)).toEqual(new Uint8Array(128));
    close(guest);
  });
});
