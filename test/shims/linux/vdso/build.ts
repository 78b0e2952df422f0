/**
 * Makes the images of the vDSO: a small shared object whose functions make the system call, so that time stays the run's own.
 * Keystone is slow to load, so the images are kept in shims/linux/loader/vdso-images.ts. To make them anew:
 *
 *     npx tsx test/shims/linux/vdso/build.ts > shims/linux/loader/vdso-images.ts && npx biome format --write shims/linux/loader/vdso-images.ts
 */
import { type Assembler, createAssembler } from "../../../../emulator/assembler.ts";

interface Function {
  readonly names: readonly string[];
  readonly version: string;
  readonly source: string;
  /**
   * Call frame information: [bytes of code after which it holds (below 0: counted from the end), bytes from the stack pointer to
   * the caller's, the register that was pushed or popped there].
   */
  readonly frames?: readonly (readonly [number, number, number])[];
}

/** Registers of i386 as DWARF numbers them. */
const Dwarf = { ecx: 1, edx: 2, ebx: 3, ebp: 5 } as const;

const both = (name: string): string[] => [`__vdso_${name}`, name];
const wide = (name: string, number: number): Function => ({
  names: both(name),
  version: "LINUX_2.6",
  source: `mov eax, ${number}; syscall; ret`,
});
const narrow = (name: string, number: number, args: number): Function => ({
  names: [`__vdso_${name}`],
  version: "LINUX_2.6",
  source: [
    "push ebx",
    ...["ebx", "ecx", "edx"].slice(0, args).map((register, index) => `mov ${register}, [esp + ${8 + 4 * index}]`),
    `mov eax, ${number}`,
    "int 0x80; pop ebx; ret",
  ].join("; "),
  frames: [
    [1, 8, Dwarf.ebx],
    [-1, 4, Dwarf.ebx],
  ],
});

/** What each machine has, in the order of its addresses (arch/x86/entry/vdso). */
const FUNCTIONS = {
  x86_64: [
    wide("clock_gettime", 228),
    wide("gettimeofday", 96),
    wide("clock_getres", 229),
    wide("time", 201),
    wide("getcpu", 309),
  ],
  i386: [
    {
      names: ["__kernel_vsyscall"],
      version: "LINUX_2.5",
      // sysenter returns behind the `int 0x80`, and a call that is to be made again goes through it.
      source: "push ecx; push edx; push ebp; mov ebp, esp; sysenter; int 0x80; pop ebp; pop edx; pop ecx; ret",
      frames: [
        [1, 8, Dwarf.ecx],
        [2, 12, Dwarf.edx],
        [3, 16, Dwarf.ebp],
        [10, 12, Dwarf.ebp],
        [11, 8, Dwarf.edx],
        [12, 4, Dwarf.ecx],
      ],
    },
    // Debuggers and unwinders know these two by their bytes.
    { names: ["__kernel_sigreturn"], version: "LINUX_2.5", source: "pop eax; mov eax, 119; int 0x80" },
    { names: ["__kernel_rt_sigreturn"], version: "LINUX_2.5", source: "mov eax, 173; int 0x80" },
    narrow("clock_gettime", 265, 2),
    narrow("gettimeofday", 78, 2),
    narrow("clock_getres", 266, 2),
    narrow("time", 13, 1),
    narrow("clock_gettime64", 403, 2),
    narrow("getcpu", 318, 3),
  ],
} as const satisfies Record<string, readonly Function[]>;

type Machine = keyof typeof FUNCTIONS;

const SONAME = { x86_64: "linux-vdso.so.1", i386: "linux-gate.so.1" } as const;
const VERSIONS = { x86_64: ["LINUX_2.6"], i386: ["LINUX_2.6", "LINUX_2.5"] } as const;
/** Bytes of __kernel_vsyscall up to where sysenter returns to. */
const LANDING = 9;
const ALIGN = 16;

interface Image {
  readonly bytes: Uint8Array;
  readonly symbols: ReadonlyMap<string, number>;
  readonly landing: number;
}

/** Grows as it is written; all numbers little-endian. */
class Writer {
  readonly #bytes: number[] = [];
  readonly word: 4 | 8;

  constructor(word: 4 | 8) {
    this.word = word;
  }
  get at(): number {
    return this.#bytes.length;
  }
  u8(...values: number[]): void {
    this.#bytes.push(...values.map((value) => value & 0xff));
  }
  u16(value: number): void {
    this.u8(value, value >> 8);
  }
  u32(value: number): void {
    this.u8(value, value >> 8, value >> 16, value >> 24);
  }
  uword(value: number): void {
    this.u32(value);
    if (this.word === 8) this.u32(0);
  }
  align(to: number, filler = 0): void {
    while (this.at % to !== 0) this.u8(filler);
  }
  bytes(values: Iterable<number>): void {
    for (const value of values) this.#bytes.push(value);
  }
  result(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

/** The ELF specification's hash. */
function elfHash(name: string): number {
  let hash = 0;
  for (const character of name) {
    hash = (hash * 16 + character.charCodeAt(0)) >>> 0;
    const high = hash & 0xf000_0000;
    hash = (hash ^ (high >>> 24)) & ~high;
  }
  return hash >>> 0;
}

/** .eh_frame_hdr and .eh_frame, so that cancelled threads are unwound out of a call: for 32-bit functions that push. */
function unwindTables(functions: readonly { at: number; size: number; of: Function }[], at: number): Uint8Array {
  const described = functions.filter(({ of }) => of.frames !== undefined);
  const out = new Writer(4);
  const frameAt = 12 + 8 * described.length;
  const frame = new Writer(4);
  // One CIE: code aligned to 1, data to -4, return address in column 8, pointers relative and 32-bit; CFA is ESP + 4.
  const cie = [1, 0x7a, 0x52, 0, 1, 0x7c, 8, 1, 0x1b, 0x0c, 4, 4, 0x88, 1];
  while ((cie.length + 4) % 4 !== 0) cie.push(0);
  frame.u32(cie.length + 4);
  frame.u32(0);
  frame.u8(...cie);
  const places: number[] = [];
  for (const { at: start, size, of } of described) {
    places.push(frame.at);
    const rules: number[] = [];
    let passed = 0;
    let deep = 4;
    for (const [offset, depth, register] of of.frames ?? []) {
      const place = offset < 0 ? size + offset : offset;
      // DW_CFA_advance_loc, DW_CFA_def_cfa_offset, then DW_CFA_offset in units of 4 or DW_CFA_restore.
      rules.push(0x40 | (place - passed), 0x0e, depth);
      if (depth > deep) rules.push(0x80 | register, depth / 4);
      else rules.push(0xc0 | register);
      passed = place;
      deep = depth;
    }
    while ((rules.length + 1) % 4 !== 0) rules.push(0);
    frame.u32(4 + 8 + 1 + rules.length);
    frame.u32(frame.at);
    frame.u32(start - (at + frameAt + frame.at));
    frame.u32(size);
    frame.u8(0, ...rules);
  }
  frame.u32(0);
  out.u8(1, 0x1b, 0x03, 0x3b);
  out.u32(frameAt - 4);
  out.u32(described.length);
  for (const [index, { at: start }] of described.entries()) {
    out.u32(start - at);
    out.u32(frameAt + (places[index] ?? 0));
  }
  out.bytes(frame.result());
  return out.result();
}

/** Strings with their places. */
class Strings {
  readonly #places = new Map<string, number>();
  #text = "\0";

  of(text: string): number {
    const known = this.#places.get(text);
    if (known !== undefined) return known;
    const place = this.#text.length;
    this.#text += `${text}\0`;
    this.#places.set(text, place);
    return place;
  }
  get bytes(): Uint8Array {
    return Buffer.from(this.#text, "latin1");
  }
}

const PT = { LOAD: 1, DYNAMIC: 2, EH_FRAME: 0x6474_e550 } as const;
const DT = { HASH: 4, STRTAB: 5, SYMTAB: 6, STRSZ: 10, SYMENT: 11, SONAME: 14 } as const;
const DT_VERSYM = 0x6fff_fff0;
const DT_VERDEF = 0x6fff_fffc;
const DT_VERDEFNUM = 0x6fff_fffd;

/** Builds one image. Everything lies at its address, and the whole is one segment that may be read and executed. */
export function buildVdso(assembler: Assembler, machine: Machine): Image {
  const isWide = machine === "x86_64";
  const word = isWide ? 8 : 4;
  const functions: readonly Function[] = FUNCTIONS[machine];
  const versions: readonly string[] = VERSIONS[machine];
  const strings = new Strings();
  const out = new Writer(word);
  const headers = isWide ? 2 : 3;
  const [headSize, programSize] = isWide ? [64, 56] : [52, 32];
  const codeAt = Math.ceil((headSize + headers * programSize) / ALIGN) * ALIGN;

  const code = new Writer(word);
  const placed: { at: number; size: number; of: Function }[] = [];
  const symbols: { name: string; at: number; size: number; version: number }[] = [];
  for (const of of functions) {
    code.align(ALIGN, 0x90);
    const at = codeAt + code.at;
    const bytes = assembler.assemble(of.source, { bits: isWide ? 64 : 32, address: at });
    code.bytes(bytes);
    placed.push({ at, size: bytes.length, of });
    for (const name of of.names) {
      symbols.push({ name, at, size: bytes.length, version: versions.indexOf(of.version) + 2 });
    }
  }
  code.align(ALIGN);

  for (const { name } of symbols) strings.of(name);
  for (const name of [SONAME[machine], ...versions]) strings.of(name);
  const part = (start: number, bytes: Uint8Array): { at: number; bytes: Uint8Array; end: number } => ({
    at: start,
    bytes,
    end: Math.ceil((start + bytes.length) / 8) * 8,
  });
  const unwind = part(codeAt + code.at, isWide ? new Uint8Array(0) : unwindTables(placed, codeAt + code.at));
  const symtab = part(unwind.end, symbolTable(symbols, strings, word));
  const strtab = part(symtab.end, strings.bytes);
  const hash = part(strtab.end, hashTable(symbols.map(({ name }) => name)));
  const versym = part(hash.end, versionIndexes(symbols.map(({ version }) => version)));
  const verdef = part(versym.end, versionDefinitions([SONAME[machine], ...versions], strings));
  const dynamic = part(
    verdef.end,
    dynamicSection(word, [
      [DT.SONAME, strings.of(SONAME[machine])],
      [DT.HASH, hash.at],
      [DT.STRTAB, strtab.at],
      [DT.SYMTAB, symtab.at],
      [DT.STRSZ, strtab.bytes.length],
      [DT.SYMENT, isWide ? 24 : 16],
      [DT_VERDEF, verdef.at],
      [DT_VERDEFNUM, versions.length + 1],
      [DT_VERSYM, versym.at],
      [0, 0],
    ]),
  );

  out.bytes([0x7f, 0x45, 0x4c, 0x46, isWide ? 2 : 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  out.u16(3);
  out.u16(isWide ? 62 : 3);
  out.u32(1);
  out.uword(placed[0]?.at ?? 0);
  out.uword(headSize);
  out.uword(0);
  out.u32(0);
  for (const value of [headSize, programSize, headers, isWide ? 64 : 40, 0, 0]) out.u16(value);
  programHeader(out, PT.LOAD, 5, 0, dynamic.end, 4096);
  programHeader(out, PT.DYNAMIC, 4, dynamic.at, dynamic.bytes.length, word);
  if (!isWide) programHeader(out, PT.EH_FRAME, 4, unwind.at, unwind.bytes.length, 4);
  out.align(ALIGN);
  out.bytes(code.result());
  for (const { at, bytes } of [unwind, symtab, strtab, hash, versym, verdef, dynamic]) {
    while (out.at < at) out.u8(0);
    out.bytes(bytes);
  }
  out.align(8);
  const landing = isWide ? 0 : (symbols.find(({ name }) => name === "__kernel_vsyscall")?.at ?? 0) + LANDING;
  return { bytes: out.result(), symbols: new Map(symbols.map(({ name, at }) => [name, at])), landing };
}

function programHeader(out: Writer, type: number, flags: number, at: number, size: number, align: number): void {
  out.u32(type);
  if (out.word === 8) out.u32(flags);
  for (const value of [at, at, at, size, size]) out.uword(value);
  if (out.word === 4) out.u32(flags);
  out.uword(align);
}

function symbolTable(symbols: readonly { name: string; at: number; size: number }[], strings: Strings, word: 4 | 8) {
  const out = new Writer(word);
  const GLOBAL_FUNC = 0x12;
  /** Any defined section: the image has no table of them. */
  const SECTION = 1;
  out.bytes(new Uint8Array(word === 8 ? 24 : 16));
  for (const { name, at, size } of symbols) {
    out.u32(strings.of(name));
    if (word === 4) {
      out.u32(at);
      out.u32(size);
    }
    out.u8(GLOBAL_FUNC, 0);
    out.u16(SECTION);
    if (word === 8) {
      out.uword(at);
      out.uword(size);
    }
  }
  return out.result();
}

function hashTable(names: readonly string[]): Uint8Array {
  const buckets = new Array<number>(3).fill(0);
  const chains = new Array<number>(names.length + 1).fill(0);
  for (const [index, name] of names.entries()) {
    const bucket = elfHash(name) % buckets.length;
    chains[index + 1] = buckets[bucket] ?? 0;
    buckets[bucket] = index + 1;
  }
  const out = new Writer(4);
  for (const value of [buckets.length, chains.length, ...buckets, ...chains]) out.u32(value);
  return out.result();
}

function versionIndexes(versions: readonly number[]): Uint8Array {
  const out = new Writer(4);
  for (const version of [0, ...versions]) out.u16(version);
  return out.result();
}

/** Elf_Verdef and its Elf_Verdaux for each name; the first is the object's own (VER_FLG_BASE). */
function versionDefinitions(names: readonly string[], strings: Strings): Uint8Array {
  const out = new Writer(4);
  for (const [index, name] of names.entries()) {
    out.u16(1);
    out.u16(index === 0 ? 1 : 0);
    out.u16(index + 1);
    out.u16(1);
    out.u32(elfHash(name));
    out.u32(20);
    out.u32(index === names.length - 1 ? 0 : 28);
    out.u32(strings.of(name));
    out.u32(0);
  }
  return out.result();
}

function dynamicSection(word: 4 | 8, entries: readonly (readonly [number, number])[]): Uint8Array {
  const out = new Writer(word);
  for (const [tag, value] of entries) {
    out.uword(tag);
    out.uword(value);
  }
  return out.result();
}

/** The text of shims/linux/loader/vdso-images.ts before formatting. */
export function sourceOf(images: Readonly<Record<Machine, Image>>): string {
  const text = (machine: Machine): string => {
    const { bytes, symbols, landing } = images[machine];
    const place = (name: string): number => symbols.get(name) ?? 0;
    const base64 =
      Buffer.from(bytes)
        .toString("base64")
        .match(/.{1,100}/g) ?? [];
    return `  ${machine}: {
    vsyscall: ${place("__kernel_vsyscall")},
    landing: ${landing},
    sigreturn: ${place("__kernel_sigreturn")},
    rtSigreturn: ${place("__kernel_rt_sigreturn")},
    base64: [${base64.map((line) => `"${line}"`).join(", ")}].join(""),
  },`;
  };
  return `/**
 * The vDSO as an ELF image, by ABI, with the offsets of what the kernel itself refers to (0 for none).
 * Generated by test/shims/linux/vdso/build.ts; a test compares.
 */
export const vdsoImages = {
${text("x86_64")}
${text("i386")}
} as const;
`;
}

if (process.argv[1] === import.meta.filename) {
  const assembler = await createAssembler();
  const images = { x86_64: buildVdso(assembler, "x86_64"), i386: buildVdso(assembler, "i386") };
  process.stdout.write(sourceOf(images));
}
