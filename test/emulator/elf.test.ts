import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  checkSpan,
  ElfError,
  type ElfImage,
  type ElfReader,
  type ElfRole,
  EM_386,
  EM_X86_64,
  parseElf,
  readerOf,
} from "../../emulator/elf.ts";
import { readDynamic } from "../../emulator/elf-dynamic.ts";
import { ElfSymbols } from "../../emulator/elf-symbols.ts";

const SOURCE = `
__thread int counter = 7;
int own_table[4] = { 1, 2, 3, 4 };
int helper(int x) { return x + counter + own_table[0]; }
int main(int argc, char **argv) { (void)argv; return helper(argc); }
`;
const USER_END_64 = 0x7ffffffff000;
const USER_END_32 = 0xffffe000;

let directory: string;
const built = new Map<string, Uint8Array>();

function build(name: string, compiler: string, ...flags: string[]): void {
  const out = join(directory, name);
  execFileSync(compiler, ["-O1", "-g0", ...flags, "-o", out, join(directory, "a.c")], { stdio: "pipe" });
  built.set(name, readFileSync(out));
}

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "shimbed-elf-"));
  writeFileSync(join(directory, "a.c"), SOURCE);
  build("pie", "gcc");
  build("static", "gcc", "-static");
  build("static-pie", "gcc", "-static-pie");
  build("no-pie", "gcc", "-no-pie");
  build("pie32", "gcc", "-m32");
  build("static32", "gcc", "-m32", "-static");
  build("musl", "musl-gcc", "-static");
  build("library", "gcc", "-shared", "-fPIC", "-Wl,-soname,libown.so.1", "-Wl,-rpath,$ORIGIN/lib");
  build("stripped", "gcc", "-s");
});
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string): Uint8Array {
  const bytes = built.get(name);
  if (bytes === undefined) throw new Error(`${name} was not built`);
  return bytes;
}

function errorOf(source: Uint8Array | ElfReader, role?: ElfRole): ElfError {
  try {
    parseElf(source, "guest", role);
  } catch (error) {
    if (error instanceof ElfError) return error;
    throw error;
  }
  throw new Error("parsed");
}

/** A changed copy; `at` of a program header field comes from `programHeader`. */
function patched(
  bytes: Uint8Array,
  ...changes: [at: number, size: 1 | 2 | 4 | 8, value: number | bigint][]
): Uint8Array {
  const copy = Uint8Array.from(bytes);
  const view = new DataView(copy.buffer);
  for (const [at, size, value] of changes) {
    if (size === 1) view.setUint8(at, Number(value));
    else if (size === 2) view.setUint16(at, Number(value), true);
    else if (size === 4) view.setUint32(at, Number(value), true);
    else view.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), true);
  }
  return copy;
}

/** Offset of the n-th program header of a type in a 64-bit file. */
function programHeader(bytes: Uint8Array, type: number, nth = 0): number {
  const image = parseElf(bytes, "guest");
  const found = image.programHeaders.flatMap((h, i) => (h.type === type ? [image.phoff + i * image.phentsize] : []))[
    nth
  ];
  if (found === undefined) throw new Error(`no program header ${nth} of type ${type}`);
  return found;
}

/** What readelf -lW says about PT_LOADs. */
function readelfLoads(name: string): number[][] {
  const text = execFileSync("readelf", ["-lW", join(directory, name)], { encoding: "utf8" });
  return [...text.matchAll(/^ {2}LOAD +(\S+) (\S+) \S+ (\S+) (\S+)/gm)].map((m) => m.slice(1).map(Number));
}

describe("programs of every kind", () => {
  test.each([
    ["pie", 64, "dyn", "/lib64/ld-linux-x86-64.so.2"],
    ["no-pie", 64, "exec", "/lib64/ld-linux-x86-64.so.2"],
    ["static", 64, "exec", undefined],
    ["static-pie", 64, "dyn", undefined],
    ["musl", 64, "exec", undefined],
    ["pie32", 32, "dyn", "/lib/ld-linux.so.2"],
    ["static32", 32, "exec", undefined],
  ] as const)("%s", (name, bits, type, interpreter) => {
    const image = parseElf(file(name), name);
    expect(image).toMatchObject({ name, bits, type, interpreter, machine: bits === 64 ? EM_X86_64 : EM_386 });
    expect(image.loads.map((l) => [l.offset, l.vaddr, l.filesz, l.memsz])).toEqual(readelfLoads(name));
    expect(image.programHeaders).toHaveLength(image.phnum);
    expect(image.entry).toBeGreaterThan(image.span.start);
    expect(image.entry).toBeLessThan(image.span.end);
    expect(image.span.start % 4096).toBe(0);
    expect(image.alignment).toBeGreaterThanOrEqual(4096);
    expect(image.tls?.memsz).toBeGreaterThanOrEqual(4);
    expect(image.stackFlags).toBe(6);
    expect(() => checkSpan(image, bits === 64 ? USER_END_64 : USER_END_32)).not.toThrow();
  });

  test("a program of this machine, read through a file of which only the headers are asked for", () => {
    const whole = readFileSync("/bin/ls");
    let bytesRead = 0;
    const inner = readerOf(whole);
    const reader = {
      size: inner.size,
      read(offset: number, length: number) {
        bytesRead += length;
        return inner.read(offset, length);
      },
    };
    const image = parseElf(reader, "/bin/ls");
    expect(image.bits).toBe(64);
    expect(readDynamic(reader, image).needed).toContain("libc.so.6");
    expect(bytesRead).toBeLessThan(40_000);
  });

  test("the dynamic linker, whose own PT_INTERP would not count", () => {
    const linker = readFileSync("/lib64/ld-linux-x86-64.so.2");
    expect(parseElf(linker, "ld.so", "interpreter")).toMatchObject({ type: "dyn", interpreter: undefined });
    expect(parseElf(file("pie"), "pie", "interpreter").interpreter).toBeUndefined();
  });
});

describe("PT_DYNAMIC", () => {
  const dynamic = (name: string) => readDynamic(file(name), parseElf(file(name), name));

  test("the libraries a program needs", () => {
    expect(dynamic("pie")).toEqual({ needed: ["libc.so.6"], soname: undefined, rpath: undefined, runpath: undefined });
    expect(dynamic("pie32").needed).toEqual(["libc.so.6"]);
    expect(dynamic("static").needed).toEqual([]);
  });

  test("soname and search path of a library", () => {
    expect(dynamic("library")).toMatchObject({ soname: "libown.so.1", runpath: "$ORIGIN/lib" });
  });
});

describe("symbols", () => {
  const symbols = (name: string): ElfSymbols => new ElfSymbols(file(name), parseElf(file(name), name));
  const addressOf = (name: string, symbol: string): number => {
    const text = execFileSync("nm", [join(directory, name)], { encoding: "utf8" });
    return Number.parseInt(new RegExp(`^(\\S+) \\S ${symbol}$`, "m").exec(text)?.[1] ?? "", 16);
  };

  test.each(["pie", "static", "static-pie", "pie32", "static32", "musl"])("of %s", (name) => {
    const helper = addressOf(name, "helper");
    const table = symbols(name);
    expect(table.lookup(helper)).toBe("helper");
    expect(table.lookup(helper + 4)).toBe("helper+0x4");
    expect(table.lookup(addressOf(name, "own_table") + 15)).toBe("own_table+0xf");
    expect(table.lookup(parseElf(file(name), name).span.end + 4096)).toBeUndefined();
    expect(table.lookup(0x7fff_0000_0000)).toBeUndefined();
  });

  test("of a stripped program and a stripped library: what the dynamic table has", () => {
    expect(symbols("stripped").lookup(parseElf(file("stripped"), "").entry)).toBeUndefined();
    const table = symbols("library");
    const helper = addressOf("library", "helper");
    expect(table.lookup(helper + 1)).toBe("helper+0x1");
    const path = join(directory, "library-stripped");
    execFileSync("strip", ["-o", path, join(directory, "library")]);
    const bytes = readFileSync(path);
    expect(new ElfSymbols(bytes, parseElf(bytes, "")).lookup(helper + 1)).toBe("helper+0x1");
  });
});

describe("what Linux refuses with ENOEXEC", () => {
  const cases: [name: string, change: (b: Uint8Array) => Uint8Array, says: RegExp][] = [
    ["an empty file", () => new Uint8Array(0), /is empty/],
    [
      "a text file",
      () => new TextEncoder().encode("hello world, this is a text file\n".repeat(3)),
      /not an ELF file.*68 65 6c 6c/,
    ],
    ["four bytes", (b) => b.subarray(0, 4), /ends 4 bytes into its ELF header/],
    ["63 bytes", (b) => b.subarray(0, 63), /ends 63 bytes into its ELF header/],
    ["a header only", (b) => b.subarray(0, 64), /program headers should lie at offset 0x40.*truncated/],
    ["half the program headers", (b) => b.subarray(0, 200), /the file ends at 0xc8/],
    ["aarch64", (b) => patched(b, [18, 2, 183]), /aarch64 program.*shimbed runs x86 and x86-64/],
    ["big-endian PowerPC", (b) => patched(b, [5, 1, 2], [18, 2, 20 << 8]), /PowerPC program, big-endian/],
    ["an unknown machine", (b) => patched(b, [18, 2, 999]), /machine 999/],
    ["an object file", (b) => patched(b, [16, 2, 1]), /object file.*linked/],
    ["a core dump", (b) => patched(b, [16, 2, 4]), /core dump/],
    ["x32", (b) => patched(b, [54, 2, 32]), /e_phentsize.*x32/],
    ["e_phentsize", (b) => patched(b, [54, 2, 57]), /57 bytes each/],
    ["no program headers", (b) => patched(b, [56, 2, 0]), /e_phnum is 0/],
    ["too many program headers", (b) => patched(b, [56, 2, 1171]), /at most 1170/],
    ["program headers beyond the end", (b) => patched(b, [32, 8, 1n << 40n]), /0x10000000000/],
    ["program headers at -56", (b) => patched(b, [32, 8, -56n]), /should lie at/],
    ["a short PT_INTERP", (b) => patched(b, [programHeader(b, 3) + 32, 8, 1]), /2 to 4096 bytes/],
    ["a long PT_INTERP", (b) => patched(b, [programHeader(b, 3) + 32, 8, 4097]), /2 to 4096 bytes/],
    ["a PT_INTERP without NUL", (b) => patched(b, [programHeader(b, 3) + 32, 8, 5]), /NUL/],
  ];
  test.each(cases)("%s", (_name, change, says) => {
    const error = errorOf(change(file("pie")));
    expect(error.message).toMatch(says);
    expect(error.message).toMatch(/^cannot run guest: /);
    expect(error).toMatchObject({ errno: "ENOEXEC", kills: false, exitCode: 126 });
  });

  test("a PT_INTERP outside the file is EIO, at a negative offset EINVAL", () => {
    const at = programHeader(file("pie"), 3) + 8;
    expect(errorOf(patched(file("pie"), [at, 8, 1n << 30n]))).toMatchObject({ errno: "EIO", kills: false });
    expect(errorOf(patched(file("pie"), [at, 8, -1n]))).toMatchObject({ errno: "EINVAL", kills: false });
  });

  test("a damaged dynamic linker is ELIBBAD, a short one EIO", () => {
    expect(errorOf(patched(file("pie"), [18, 2, 183]), "interpreter").errno).toBe("ELIBBAD");
    expect(errorOf(patched(file("pie"), [54, 2, 1]), "interpreter").errno).toBe("ELIBBAD");
    expect(errorOf(new TextEncoder().encode("hello\n"), "interpreter").errno).toBe("EIO");
    expect(errorOf(patched(file("pie"), [16, 2, 1]), "interpreter")).toMatchObject({ errno: "EINVAL", kills: true });
  });
});

describe("what Linux finds too late, and kills the process for", () => {
  const second = (b: Uint8Array): number => programHeader(b, 1, 1);
  const cases: [name: string, change: (b: Uint8Array) => Uint8Array, says: RegExp][] = [
    ["more bytes in the file than in memory", (b) => patched(b, [second(b) + 40, 8, 1]), /p_filesz.*p_memsz/],
    ["offset and address that disagree", (b) => patched(b, [second(b) + 8, 8, 0x1001]), /must agree/],
    ["an offset beyond any file", (b) => patched(b, [second(b) + 8, 8, -4096n]), /beyond any file/],
    ["an address in the kernel's half", (b) => patched(b, [second(b) + 16, 8, 0xffffffff80000000n]), /user space ends/],
    ["memory of 2^47 bytes", (b) => patched(b, [second(b) + 40, 8, 1n << 47n]), /user space ends/],
    ["memory of 2^64-1 bytes", (b) => patched(b, [second(b) + 40, 8, -1n]), /user space ends/],
  ];
  test.each(cases)("%s", (_name, change, says) => {
    let error: unknown;
    try {
      checkSpan(parseElf(change(file("static")), "guest"), USER_END_64);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(ElfError);
    expect(error).toMatchObject({ errno: "EINVAL", kills: true, message: expect.stringMatching(says) });
  });

  test("nothing to load: refused for ET_DYN, while ET_EXEC starts and faults", () => {
    const without = (b: Uint8Array): Uint8Array => {
      const image = parseElf(b, "");
      return patched(
        b,
        ...image.programHeaders.flatMap((h, i): [number, 4, number][] =>
          h.type === 1 ? [[image.phoff + 56 * i, 4, 0]] : [],
        ),
      );
    };
    expect(errorOf(without(file("static-pie")))).toMatchObject({ errno: "EINVAL", kills: true });
    expect(parseElf(without(file("static")), "").span).toEqual({ start: 0, end: 0 });
  });
});

describe("what Linux accepts all the same", () => {
  const cases: [name: string, change: (b: Uint8Array) => Uint8Array][] = [
    [
      "wrong class, data encoding, versions and header size",
      (b) => patched(b, [4, 1, 1], [5, 1, 2], [6, 1, 9], [20, 4, 7], [52, 2, 1]),
    ],
    ["a truncated file with whole headers", (b) => b.subarray(0, 4096)],
    ["a segment far beyond the end of the file", (b) => patched(b, [programHeader(b, 1, 2) + 8, 8, 1n << 45n])],
    ["a segment of a terabyte", (b) => patched(b, [programHeader(b, 1, 3) + 40, 8, 1n << 40n])],
    ["overlapping segments", (b) => patched(b, [programHeader(b, 1, 2) + 16, 8, 0x401000])],
    ["an alignment that is no power of two", (b) => patched(b, [programHeader(b, 1, 2) + 48, 8, 3])],
    [
      "an incongruent segment without bytes",
      (b) => patched(b, [programHeader(b, 1, 2) + 8, 8, 1], [programHeader(b, 1, 2) + 32, 8, 0]),
    ],
    ["section headers that point anywhere", (b) => patched(b, [40, 8, -1n], [58, 2, 1], [60, 2, 65535])],
  ];
  test.each(cases)("%s", (_name, change) => {
    const image = parseElf(change(file("static")), "guest");
    expect(image.bits).toBe(64);
    expect(() => checkSpan(image, USER_END_64)).not.toThrow();
  });

  test("i486 as i386, and any class with it", () => {
    expect(parseElf(patched(file("static32"), [18, 2, 6], [4, 1, 2]), "")).toMatchObject({ bits: 32, machine: EM_386 });
  });

  test("the last PT_GNU_STACK wins and the largest power of two aligns", () => {
    const b = file("static");
    expect(parseElf(patched(b, [programHeader(b, 0x6474e551) + 4, 4, 7]), "").stackFlags).toBe(7);
    expect(parseElf(patched(b, [programHeader(b, 1, 1) + 48, 8, 0x200000]), "").alignment).toBe(0x200000);
  });
});

/** Counts what is read, so that a hostile size shows. */
class CountingReader implements ElfReader {
  readonly size: number;
  bytesRead = 0;
  readonly #inner: ElfReader;

  constructor(bytes: Uint8Array) {
    this.#inner = readerOf(bytes);
    this.size = bytes.length;
  }

  read(offset: number, length: number): Uint8Array {
    const bytes = this.#inner.read(offset, length);
    this.bytesRead += bytes.length;
    return bytes;
  }
}

test("ten thousand damaged files: an image or an ElfError, in bounded time and memory", () => {
  let state = 20_240_229;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const bases = ["pie", "musl", "pie32", "library", "stripped"].map(file);
  const extremes = [
    0n,
    1n,
    0xfffn,
    0x1000n,
    0x7fffffffn,
    0xffffffffn,
    1n << 47n,
    (1n << 63n) - 1n,
    1n << 63n,
    (1n << 64n) - 1n,
  ];
  let parsed = 0;
  let slowest = 0;
  for (let i = 0; i < 10_000; i++) {
    const base = bases[random(bases.length)] ?? new Uint8Array(0);
    let bytes = Uint8Array.from(base);
    const image = parseElf(base, "");
    const tableEnd = image.phoff + image.phnum * image.phentsize;
    for (let n = random(4); n >= 0; n--) {
      const kind = random(10);
      // Headers, the section headers at the end, PT_DYNAMIC and the whole file.
      const regions: [number, number][] = [
        [4, tableEnd],
        [image.sections.offset, bytes.length],
        [image.dynamic?.offset ?? 0, (image.dynamic?.offset ?? 0) + (image.dynamic?.filesz ?? bytes.length)],
        [0, bytes.length],
      ];
      const [from, to] = regions[kind < 5 ? 0 : random(4)] ?? [0, bytes.length];
      const at = Math.min(from + random(Math.max(1, to - from)), bytes.length - 1);
      if (bytes.length < 16) break;
      if (kind === 9) bytes = bytes.slice(0, random(2) === 0 ? random(tableEnd + 64) : random(bytes.length));
      else if (kind >= 6) {
        const aligned = Math.min(at - (at % 8), bytes.length - 8);
        new DataView(bytes.buffer).setBigUint64(aligned, extremes[random(extremes.length)] ?? 0n, true);
      } else bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
    }
    const reader = new CountingReader(bytes);
    const started = process.cpuUsage();
    let result: ElfImage | undefined;
    try {
      result = parseElf(reader, "guest", random(4) === 0 ? "interpreter" : "program");
      checkSpan(result, result.bits === 64 ? USER_END_64 : USER_END_32);
    } catch (error) {
      if (!(error instanceof ElfError)) throw error;
      expect(error.message).toMatch(/^cannot run guest: .{20,400}$/);
    }
    expect(reader.bytesRead).toBeLessThanOrEqual(64 + 65536 + 4096);
    if (result !== undefined) {
      parsed++;
      const { needed } = readDynamic(reader, result);
      const symbol = new ElfSymbols(reader, result).lookup(result.entry + random(4096));
      expect(needed.every((n) => n !== "") && symbol !== "").toBe(true);
      // The symbol and string tables at most once each, the rest in small pieces.
      expect(reader.bytesRead).toBeLessThanOrEqual(3 * bytes.length + 65536 * 2 + 4096 * 4096);
    }
    const { user, system } = process.cpuUsage(started);
    slowest = Math.max(slowest, (user + system) / 1000);
  }
  expect(parsed).toBeGreaterThan(1000);
  expect(parsed).toBeLessThan(9000);
  expect(slowest).toBeLessThan(500);
});
