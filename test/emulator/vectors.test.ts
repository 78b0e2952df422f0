// VEX-encoded instructions, BMI and LZCNT end as on the host's processor, one by one and within a block.
import { describe, expect, test } from "vitest";
import { Reg } from "../../emulator/cpu.ts";
import { loadNative } from "../../emulator/native.ts";
import { expectAlike } from "./alike.ts";
import { assemble, CODE, close, DATA, DATA_END, guestOf, poke, runGuest } from "./guest.ts";
import { nativeRunner, numbers, runNatively, SnippetGuest } from "./snippets.ts";
import { compareVectors, vectorSnippet } from "./vector-snippets.ts";

// `npx tsx test/emulator/fuzz-engine.ts --cpu x86-64-v3 100000 1` runs more.
const COUNT = 2500;
const v3 = { processor: "x86-64-v3" } as const;
const possible = loadNative().lacksForV3().length === 0;

const bytes = (length: number, f: (i: number) => number): Uint8Array => Uint8Array.from({ length }, (_, i) => f(i));

describe.skipIf(!possible).each([64, 32] as const)("one instruction of %i-bit code", (bits) => {
  const runner = nativeRunner(bits);
  test.skipIf(runner === undefined)("ends as on this machine's processor", () => {
    const random = numbers(11);
    const list = Array.from({ length: COUNT }, () => vectorSnippet(random, bits));
    const host = runNatively(runner ?? "", list);
    const guest = new SnippetGuest(bits, { ...v3, strictSegments: true });
    const differences = list.map((s, i) => {
      const [theirs, ours] = [host[i], guest.step(s)];
      if (theirs && ours) return compareVectors(s, theirs, ours);
      return `${Buffer.from(s.code).toString("hex")} did not end`;
    });
    guest.close();
    expectAlike(differences);
  });
});

describe.skipIf(!possible)("x86-64-v3", () => {
  test("a block of them computes, stores and gives flags", () => {
    const guest = guestOf(
      64,
      `vmovdqu ymm0, [rdi]
       vpaddd ymm1, ymm0, [rdi + 32]
       vmovdqu [rdi + 64], ymm1
       vpcmpeqd ymm2, ymm1, ymm1
       vpmovmskb eax, ymm2
       vptest ymm2, ymm2
       setc bl
       vpxor xmm3, xmm3, xmm3
       vucomiss xmm3, [rip + there]
       seta cl
       blsr edx, eax
       vzeroupper
       int3
       there: .float -1.0`,
      v3,
    );
    poke(
      guest,
      DATA,
      bytes(64, (i) => i),
    );
    guest.cpu.setReg(Reg.rdi, DATA);
    expect(runGuest(guest)).toMatchObject({ vector: 3 });
    expect(guest.space.memory.bytes(DATA + 64, 32)).toEqual(bytes(32, (i) => 2 * i + 32));
    expect(guest.cpu.reg(Reg.rax)).toBe(0xffffffff);
    expect(guest.cpu.reg(Reg.rbx) & 0xff).toBe(1);
    expect(guest.cpu.reg(Reg.rcx) & 0xff).toBe(1);
    expect(guest.cpu.reg(Reg.rdx)).toBe(0xfffffffe);
    expect(guest.cpu.xsave()[512]).toBe(2);
    close(guest);
  });

  test("a block without them that the engine has a hand in is itself again", () => {
    const guest = guestOf(
      64,
      "vzeroupper\njmp next\nnext: mov ecx, 32\nmov al, 7\nrep stosb\nxor eax, eax\ncpuid\nint3",
      v3,
    );
    guest.cpu.setReg(Reg.rdi, DATA);
    expect(runGuest(guest)).toMatchObject({ vector: 3 });
    expect(guest.space.memory.bytes(DATA, 33)).toEqual(bytes(33, (i) => (i < 32 ? 7 : 0)));
    expect(guest.cpu.reg(Reg.rax)).toBe(0xd);
    close(guest);
  });

  test("legacy SSE leaves the upper halves, VEX.128 clears them", () => {
    const guest = guestOf(
      64,
      "vmovdqu ymm0, [rdi]\nvmovdqa ymm1, ymm0\npunpcklbw xmm0, xmm1\nvpaddb xmm1, xmm1, xmm1\nint3",
      v3,
    );
    poke(
      guest,
      DATA,
      bytes(32, (i) => i + 1),
    );
    guest.cpu.setReg(Reg.rdi, DATA);
    runGuest(guest);
    const image = guest.cpu.xsave();
    expect(image.subarray(576, 592)).toEqual(bytes(16, (i) => i + 17));
    expect(image.subarray(592, 608)).toEqual(new Uint8Array(16));
    close(guest);
  });

  test("a store into the code that runs is seen by what follows", () => {
    const guest = guestOf(64, "vmovdqu [rsi], ymm0\nmov eax, 1\nint3", v3);
    guest.space.protect(CODE, 0x1000, 7);
    const image = new Uint8Array(832);
    image[512] = 7;
    const code = assemble(64, "mov eax, 2\nint3");
    image.set(code, 160);
    guest.cpu.xrstor(image);
    const first = assemble(64, "vmovdqu [rsi], ymm0").length;
    guest.cpu.setReg(Reg.rsi, CODE + first);
    expect(runGuest(guest)).toMatchObject({ vector: 3 });
    expect(guest.cpu.reg(Reg.rax)).toBe(2);
    close(guest);
  });

  test("a store over two pages is done whole or not at all", () => {
    const guest = guestOf(64, "vmovdqu [rdi], ymm0\nint3", v3);
    guest.cpu.xrstor(new Uint8Array(832));
    poke(guest, DATA_END - 16, new Uint8Array(16).fill(0xaa));
    guest.cpu.setReg(Reg.rdi, DATA_END - 16);
    expect(runGuest(guest)).toMatchObject({ vector: 14, address: DATA_END, access: "write", rip: CODE });
    expect(guest.space.memory.bytes(DATA_END - 16, 16)).toEqual(new Uint8Array(16).fill(0xaa));
    close(guest);
  });

  test("masked moves leave alone what the mask leaves out, also where nothing is mapped", () => {
    const guest = guestOf(
      64,
      "vmovdqu ymm1, [rsi]\nvpmaskmovd ymm0, ymm1, [rdi]\nvpmaskmovd [rdi], ymm1, ymm1\nint3",
      v3,
    );
    const mask = new Uint8Array(32);
    mask.fill(0xff, 0, 16);
    poke(guest, DATA, mask);
    poke(guest, DATA_END - 16, new Uint8Array(16).fill(7));
    guest.cpu.setReg(Reg.rsi, DATA);
    guest.cpu.setReg(Reg.rdi, DATA_END - 16);
    expect(runGuest(guest)).toMatchObject({ vector: 3 });
    expect(guest.cpu.xsave().subarray(160, 176)).toEqual(new Uint8Array(16).fill(7));
    expect(guest.space.memory.bytes(DATA_END - 16, 16)).toEqual(new Uint8Array(16).fill(0xff));
    close(guest);
  });

  test("unmasked exceptions are raised, with the flags that the host's processor leaves", () => {
    const guest = guestOf(64, "vdivps ymm0, ymm0, ymm1\nint3", v3);
    const image = new Uint8Array(832);
    image.set([0x7f, 0x03]);
    image.set([0x80, 0x1d], 24); // division by zero is not masked
    image[512] = 7;
    for (let i = 0; i < 4; i++) image.set([0, 0, 0x80, 0x3f], 160 + 4 * i);
    guest.cpu.xrstor(image);
    expect(runGuest(guest)).toMatchObject({ vector: 19, rip: CODE });
    expect(guest.cpu.xsave()[24]).toBe(0x85); // 0/0 in the upper half, 1/0 in the lower
    expect(guest.cpu.xsave().subarray(160, 176)).toEqual(image.subarray(160, 176));
    close(guest);
  });

  test("x86-64-v2 has none of them", () => {
    for (const source of ["vpxor xmm0, xmm0, xmm0", "vzeroupper", "andn eax, ebx, ecx", "vaddps ymm0, ymm0, ymm1"]) {
      const guest = guestOf(64, source);
      expect(runGuest(guest)).toMatchObject({ vector: 6 });
      close(guest);
    }
  });

  test("engines come and go with their stubs", () => {
    for (let i = 0; i < 50; i++) {
      const guest = guestOf(64, "vpaddd ymm0, ymm0, ymm0\nvzeroall\nint3", v3);
      expect(runGuest(guest)).toMatchObject({ vector: 3 });
      close(guest);
    }
  });
});
