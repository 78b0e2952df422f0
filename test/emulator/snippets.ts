// Snippets of random machine code, how they end on the engine, and how on the host's own processor.
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { type CpuContext, Reg, StopKind } from "../../emulator/cpu.ts";
import { toDescriptor, type UserDesc } from "../../emulator/descriptors.ts";
import type { MachineOptions } from "../../emulator/machine.ts";
import { type Bits, CODE, close, DATA, type Guest, newGuest, STACK } from "./guest.ts";

const STACK_LOW = STACK - 0x4000;
const CODE_SIZE = 0x2000;
/** RLIMIT_STACK is mostly this. */
const STACK_MAY_GROW = 8n << 20n;

export interface Snippet {
  readonly registers: readonly bigint[];
  /** Status flags, DF and AC. */
  readonly flags: number;
  readonly mxcsr: number;
  /** Where it lies in the two pages of code. */
  readonly offset: number;
  readonly code: Uint8Array;
  /** DS, ES, FS and GS of 32-bit code; flat and null when left out. */
  readonly selectors?: readonly [number, number, number, number];
  /** The 16 YMM registers and MXCSR it starts with; memory then has what `vectorPattern` says. */
  readonly vectors?: Vectors;
}

export interface Vectors {
  readonly ymm: Uint8Array;
  readonly mxcsr: number;
}

/** How the first instruction ended. */
export interface Ending {
  /** Exception vector, 1 when the instruction was done. */
  readonly vector: number;
  readonly error: number;
  readonly address: bigint;
  readonly rip: bigint;
  readonly registers: readonly bigint[];
  readonly flags: number;
  readonly data: number;
  readonly stack: number;
  readonly fx: Uint8Array;
  readonly vectors?: Vectors;
}

/** How it ended on the host, in a program with memory of its own. */
export interface HostEnding extends Ending {
  readonly memory: HostMemory;
}

/** What the program that runs snippets natively has mapped beside what a snippet is given. */
class HostMemory {
  readonly #ranges: (readonly [start: bigint, end: bigint])[] = [];

  /** @param maps its /proc/self/maps */
  constructor(maps: string) {
    const given = [CODE, DATA, STACK_LOW].map(BigInt);
    for (const [, start = "", end = "", name = ""] of maps.matchAll(/^(\w+)-(\w+) (?:\S+ +){4}(.*)$/gm)) {
      const [from, to] = [BigInt(`0x${start}`), BigInt(`0x${end}`)];
      if (given.some((address) => from <= address && address < to) || name === "[vsyscall]") continue;
      // An access below the stack makes it grow.
      this.#ranges.push([name === "[stack]" ? from - STACK_MAY_GROW : from, to]);
    }
  }

  has(address: bigint): boolean {
    return this.#ranges.some(([start, end]) => start <= address && address < end);
  }
}

/** A small generator of numbers, the same everywhere (mulberry32). */
export function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const prefixes = [0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65];
const lockable = [0x01, 0x09, 0x29, 0x31, 0x81, 0x83, 0x87, 0xf7, 0xff];
const floatOpcodes = [
  0x2a, 0x2c, 0x2d, 0x2e, 0x2f, 0x51, 0x58, 0x59, 0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f, 0x7c, 0x7d, 0xc2, 0xd0, 0xe6,
];
const lockable2 = [0xa3, 0xab, 0xb3, 0xba, 0xbb, 0xb1, 0xc1, 0xc7];

/** The start of an SSE instruction that computes with floating-point numbers. */
function floatOpcode(random: (below: number) => number, bits: Bits): number[] {
  const code = [...([[], [0x66], [0xf2], [0xf3]][random(4)] ?? [])];
  if (bits === 64 && random(3) === 0) code.push(0x40 + random(16));
  if (random(8) === 0) return [0x66, 0x0f, 0x3a, [0x08, 0x09, 0x0a, 0x0b, 0x40, 0x41][random(6)] ?? 0x40];
  const op = floatOpcodes[random(floatOpcodes.length)] ?? 0x58;
  return [...code, 0x0f, op];
}

/** Random bytes with the shapes that matter: prefixes, every opcode map, VEX and EVEX, LOCK, the page's end. */
export function snippet(random: (below: number) => number, bits: Bits): Snippet {
  const byte = (): number => random(256);
  const code: number[] = [];
  const shape = random(12);
  for (let n = random(4) === 0 ? random(4) : 0; n > 0; n--) code.push(prefixes[random(prefixes.length)] ?? 0x66);
  if (shape === 0) code.push(random(2) === 0 ? 0xc5 : 0xc4);
  else if (shape === 1) code.push(0x62);
  else if (shape === 2) {
    code.push(0xf0);
    if (random(2) === 0) code.push(0x0f, lockable2[random(lockable2.length)] ?? 0xa3);
    else code.push(lockable[random(lockable.length)] ?? 1);
  } else {
    if (bits === 64 && random(3) === 0) code.push(0x40 + random(16));
    if (shape < 7) code.push(0x0f);
    if (shape === 5) code.push(0x38);
    if (shape === 6) code.push(0x3a);
  }
  // Half of them under some MXCSR, and then more of what looks at it.
  let mxcsr = 0x1f80;
  if (random(2) === 0) {
    mxcsr = (random(0x40) << 7) | (random(4) === 0 ? random(0x40) : 0);
    mxcsr |= random(4) << 13;
    if (random(4) === 0) mxcsr |= [0x40, 0x8000, 0x8040][random(3)] ?? 0;
    if (random(4) === 0) code.splice(0, code.length, ...floatOpcode(random, bits));
  }
  while (code.length < 24) code.push(byte());
  // Addresses that often hit: most registers point into the data, some are small, some are anything.
  const registers = Array.from({ length: bits === 64 ? 16 : 8 }, (_, i) => {
    const kind = random(16);
    if (i === 4) return BigInt(STACK - 0x800);
    if (i === 1 || kind === 0) return BigInt(random(8));
    if (kind === 1) return (BigInt(random(2 ** 32)) << (bits === 64 ? 32n : 0n)) | BigInt(byte());
    return BigInt(DATA + 0x800 + 0x40 * random(32) + (kind === 2 ? random(16) : 0));
  });
  const flags = (random(2) * 0x8d5) & (random(0x1000) | 0);
  const atEnd = random(8) === 0;
  const length = atEnd ? 1 + random(10) : code.length;
  return {
    registers,
    flags: flags | (random(8) === 0 ? 0x400 : 0) | (random(8) === 0 ? 0x40000 : 0),
    mxcsr,
    offset: atEnd ? CODE_SIZE - length : 0x40,
    code: Uint8Array.from(code.slice(0, length)),
  };
}

/** A present, writable, byte-granular 32-bit data segment, but for what `kind` says. */
export const localDescriptor = (base_addr: number, limit: number, kind: Partial<UserDesc> = {}): UserDesc => ({
  entry_number: 0,
  base_addr,
  limit,
  seg_32bit: true,
  contents: 0,
  read_exec_only: false,
  limit_in_pages: false,
  seg_not_present: false,
  useable: true,
  lm: false,
  ...kind,
});

/** The LDT of 32-bit snippets, as in native-snippets.c: limits, read-only, expand-down, code. */
const localDescriptors: readonly UserDesc[] = [
  localDescriptor(DATA, 0xfff),
  localDescriptor(DATA, 0x17ff, { read_exec_only: true }),
  localDescriptor(DATA, 0xfff, { contents: 1 }),
  localDescriptor(0, 0xfffff, { contents: 2, read_exec_only: true, limit_in_pages: true }),
  localDescriptor(0, 0xfffff, { contents: 2, limit_in_pages: true }),
  localDescriptor(DATA, 0x7ff, { contents: 1, seg_32bit: false }),
  localDescriptor(0, 0xfffff, { limit_in_pages: true }),
  localDescriptor(0, 0x600, { limit_in_pages: true }),
];

/** A snippet of 32-bit code whose segments are often not flat. */
export function segmentSnippet(random: (below: number) => number): Snippet {
  const plain = snippet(random, 32);
  const selector = (other: number): number => (random(3) === 0 ? other : (random(localDescriptors.length) << 3) | 7);
  const code = [...plain.code];
  if (random(2) === 0) code.unshift([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65][random(6)] ?? 0x64);
  const registers = plain.registers.map((value, i) => {
    if (i === 4 || random(4) === 0) return value;
    // Offsets around the limits.
    return BigInt([0xff0, 0x1000, 0x17f0, 0x7f0, 0, 0xfff0, 0x800][random(7)] ?? 0) + BigInt(random(32));
  });
  const length = Math.min(code.length, 0x2000 - plain.offset);
  return {
    ...plain,
    registers,
    code: Uint8Array.from(code.slice(0, length)),
    selectors: [selector(0x2b), selector(0x2b), selector(0), selector(0)],
  };
}

function digest(bytes: Uint8Array): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  let h = 1;
  for (const word of words) h = (Math.imul(h, 0x01000193) + word) | 0;
  return h >>> 0;
}

function pattern(length: number): Uint8Array {
  const words = new Uint32Array(length / 4);
  for (let i = 0; i < words.length; i++) words[i] = 0x3f800000 + Math.imul(i, 0x01010101);
  return new Uint8Array(words.buffer);
}

/** What memory has before a snippet with vectors: the words of its registers, mixed. */
function vectorPattern(ymm: Uint8Array, length: number): Uint8Array {
  const from = new Uint32Array(ymm.buffer, ymm.byteOffset, 128);
  const words = new Uint32Array(length / 4);
  for (let i = 0; i < words.length; i++) words[i] = from[(i * 5 + (i >> 7)) % 128] ?? 0;
  return new Uint8Array(words.buffer);
}

/** An image of XSAVE with these registers. */
function vectorImage({ ymm, mxcsr }: Vectors): Uint8Array {
  const image = new Uint8Array(832);
  image.set([0x7f, 0x03]);
  new DataView(image.buffer).setUint32(24, mxcsr, true);
  for (let i = 0; i < 16; i++) {
    image.set(ymm.subarray(32 * i, 32 * i + 16), 160 + 16 * i);
    image.set(ymm.subarray(32 * i + 16, 32 * i + 32), 576 + 16 * i);
  }
  image[512] = 7;
  return image;
}

function vectorsOf(image: Uint8Array): Vectors {
  const ymm = new Uint8Array(512);
  for (let i = 0; i < 16; i++) {
    ymm.set(image.subarray(160 + 16 * i, 176 + 16 * i), 32 * i);
    ymm.set(image.subarray(576 + 16 * i, 592 + 16 * i), 32 * i + 16);
  }
  return { ymm, mxcsr: new DataView(image.buffer, image.byteOffset).getUint32(24, true) };
}

function startImage(mxcsr: number): Uint8Array {
  const image = new Uint8Array(512);
  image.set([0x7f, 0x03]);
  image.set([mxcsr & 0xff, mxcsr >> 8], 24);
  for (let i = 0; i < 256; i++) image[160 + i] = i * 37 + 5;
  return image;
}

/** An engine that is put back to the same state before each snippet. */
export class SnippetGuest {
  readonly guest: Guest;
  readonly #start: CpuContext;
  readonly #data = pattern(0x2000);
  readonly #stack = pattern(0x5000);
  readonly #code = new Uint8Array(CODE_SIZE).fill(0xcc);
  readonly #scratch = new Uint8Array(0x5000);

  constructor(bits: Bits, options?: MachineOptions) {
    this.guest = newGuest(bits, options);
    const { cpu } = this.guest;
    if (bits === 64) {
      cpu.privileged.fsBase = 0x1000n;
      cpu.privileged.gsBase = 0x2000n;
    }
    if (bits === 32) {
      cpu.privileged.ldtSize = localDescriptors.length;
      for (const [i, d] of localDescriptors.entries()) cpu.privileged.setLdtEntry(i, toDescriptor(d));
    }
    this.#start = cpu.saveContext();
  }

  close(): void {
    close(this.guest);
  }

  prepare(s: Snippet): void {
    const { cpu, space } = this.guest;
    cpu.restoreContext(this.#start);
    cpu.fxrstor(startImage(s.mxcsr));
    space.map(CODE, CODE_SIZE, 3);
    this.#code.set(s.code, s.offset);
    space.memory.write(CODE, this.#code);
    this.#code.fill(0xcc, s.offset, s.offset + s.code.length);
    space.protect(CODE, CODE_SIZE, 5);
    if (s.vectors) cpu.xrstor(vectorImage(s.vectors));
    space.memory.write(DATA, s.vectors ? vectorPattern(s.vectors.ymm, 0x2000) : this.#data);
    space.memory.write(STACK_LOW, s.vectors ? vectorPattern(s.vectors.ymm, 0x5000) : this.#stack);
    for (const [i, value] of s.registers.entries()) cpu.setRegBig(i, value);
    cpu.setReg(Reg.rip, CODE + s.offset);
    for (const [i, name] of (["ds", "es", "fs", "gs"] as const).entries()) {
      // What does not load becomes null, as when Linux returns from a signal.
      const { privileged } = cpu;
      if (s.selectors && !privileged.loadSelector(name, s.selectors[i] ?? 0)) privileged.loadSelector(name, 0);
    }
  }

  /** Runs the first instruction. */
  step(s: Snippet): Ending | undefined {
    this.prepare(s);
    const { cpu, space } = this.guest;
    cpu.setReg(Reg.rflags, s.flags | 0x102);
    const kind = cpu.run(64);
    if (kind !== StopKind.exception) return undefined;
    const part = (start: number, length: number): number => {
      const bytes = this.#scratch.subarray(0, length);
      space.memory.read(start, bytes);
      return digest(bytes);
    };
    return {
      vector: cpu.stopVector,
      error: cpu.stopErrorCode,
      address: cpu.stopVector === 14 ? cpu.stopAddressExact : 0n,
      rip: cpu.regBig(Reg.rip),
      registers: s.registers.map((_, i) => cpu.regBig(i)),
      flags: cpu.reg(Reg.rflags),
      data: part(DATA, 0x2000),
      stack: part(STACK_LOW, 0x5000),
      fx: cpu.fxsave(),
      ...(s.vectors ? { vectors: vectorsOf(cpu.xsave()) } : {}),
    };
  }

  /** Runs the whole of it for a while; nothing is promised but an end. */
  run(s: Snippet): StopKind {
    this.prepare(s);
    this.guest.cpu.setReg(Reg.rflags, s.flags | 2);
    return this.guest.cpu.run(20);
  }
}

const IN = 16 * 8 + 12 + 36 + 8 + 8;
const OUT = 16 + 16 + 16 * 8 + 16 + 512;
/** What each snippet has more of, and each result, when it is one with vectors. */
const VECTORS = 16 + 512;

/** The program that runs snippets on the host, or undefined where it cannot be built or run. */
export function nativeRunner(bits: Bits): string | undefined {
  const root = join(import.meta.dirname, "../..");
  const target = join(root, "fixtures/.build/tests", `native-snippets-${bits}`);
  mkdirSync(dirname(target), { recursive: true });
  const flags = [
    "-O2",
    "-static",
    "-fno-pie",
    "-no-pie",
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-mgeneral-regs-only",
    "-mno-red-zone",
  ];
  const source = join(import.meta.dirname, "native-snippets.c");
  const built = spawnSync("gcc", [`-m${bits}`, ...flags, "-Wl,-Ttext-segment=0x10000000", source, "-o", target]);
  return process.arch === "x64" && built.status === 0 ? target : undefined;
}

/** The endings of all snippets on the host; either all have vectors or none. */
export function runNatively(runner: string, snippets: readonly Snippet[]): HostEnding[] {
  const more = snippets[0]?.vectors ? VECTORS : 0;
  const [inSize, outSize] = [IN + more, OUT + more];
  const input = Buffer.alloc(inSize * snippets.length);
  for (const [k, s] of snippets.entries()) {
    const at = k * inSize;
    for (const [i, value] of s.registers.entries()) input.writeBigUInt64LE(value, at + 8 * i);
    input.writeUInt32LE(s.flags, at + 128);
    input.writeUInt32LE(s.offset, at + 132);
    input.writeUInt32LE(s.code.length, at + 136);
    input.set(s.code, at + 140);
    for (const [i, value] of (s.selectors ?? [0x2b, 0x2b, 0, 0]).entries())
      input.writeUInt16LE(value, at + 176 + 2 * i);
    input.writeUInt32LE(s.mxcsr, at + 184);
    if (s.vectors) {
      input.writeUInt32LE(s.vectors.mxcsr, at + IN);
      input.set(s.vectors.ymm, at + IN + 16);
    }
  }
  const run = spawnSync(runner, more ? ["vectors"] : [], { input, maxBuffer: outSize * snippets.length + 2 ** 17 });
  const maps = run.stdout?.length >= 4 ? run.stdout.readUInt32LE(0) : 0;
  const results = run.stdout?.subarray(4 + maps) ?? Buffer.alloc(0);
  if (run.status !== 0 || results.length !== outSize * snippets.length) {
    const done = Math.floor(results.length / outSize);
    const bytes = Buffer.from(snippets[done]?.code ?? []).toString("hex");
    throw new Error(
      `the native run ended after ${done} of ${snippets.length} snippets, at ${bytes} (${run.signal ?? run.status})`,
    );
  }
  const memory = new HostMemory(run.stdout.toString("latin1", 4, 4 + maps));
  return snippets.map((s, k) => {
    const out = results.subarray(k * outSize, (k + 1) * outSize);
    const vector = out.readUInt32LE(4);
    return {
      vector,
      error: out.readUInt32LE(8),
      address: vector === 14 ? out.readBigUInt64LE(16) : 0n,
      rip: out.readBigUInt64LE(24),
      registers: s.registers.map((_, i) => out.readBigUInt64LE(32 + 8 * i)),
      flags: out.readUInt32LE(160),
      data: out.readUInt32LE(164),
      stack: out.readUInt32LE(168),
      fx: Uint8Array.from(out.subarray(176, OUT)),
      ...(more ? { vectors: { mxcsr: out.readUInt32LE(OUT), ymm: Uint8Array.from(out.subarray(OUT + 16)) } } : {}),
      memory,
    };
  });
}
