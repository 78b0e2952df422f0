// Two builds of a C library, and guests compared with this machine's own kernel.
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compiled, ROOT } from "./program.ts";

const LOADER = "/lib64/ld-linux-x86-64.so.2";
const folder = mkdtempSync(join(tmpdir(), "shimbed-roots-"));
afterAll(() => rmSync(folder, { recursive: true }));

const isLinux = process.platform === "linux" && process.arch === "x64";
const compiles = isLinux && existsSync(LOADER) && spawnSync("gcc", ["--version"]).status === 0;
const traces = isLinux && spawnSync("strace", ["-V"]).status === 0;

/** A C library of two functions. The second build sets up its TLS block elsewhere, and asks one thing more. */
const LIBRARY = `
static long call(long n, long a, long b) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b) : "rcx", "r11", "memory");
  return result;
}
static long block[16];
void library_start(void) {
  block[BUILD] = (long)&block[BUILD];
  call(158, 0x1002, (long)&block[BUILD]);
  if (BUILD == 2) call(186, 0, 0);
  call(39, 0, 0);
}
void library_exit(int status) { call(231, status, 0); }
`;
const PROGRAM = `
void library_start(void);
void library_exit(int);
void _start(void) { library_start(); library_exit(3); }
`;

/** A root with the host's dynamic linker, the program, and one build of its library. */
function makeRoot(name: string, build: number): string {
  const root = join(folder, name);
  for (const place of ["lib64", "lib"]) mkdirSync(join(root, place), { recursive: true });
  copyFileSync(LOADER, join(root, LOADER));
  const flags = ["-O1", "-nostdlib", "-fno-stack-protector", "-fPIC"];
  writeFileSync(join(folder, "library.c"), LIBRARY);
  writeFileSync(join(folder, "program.c"), PROGRAM);
  const library = join(root, "lib/libmini.so");
  execFileSync("gcc", [
    ...flags,
    "-shared",
    "-Wl,-soname,libmini.so",
    `-DBUILD=${build}`,
    join(folder, "library.c"),
    "-o",
    library,
  ]);
  const program = join(root, "program");
  execFileSync("gcc", [...flags, "-pie", "-Wl,-rpath,/lib", join(folder, "program.c"), library, "-o", program]);
  return root;
}

describe.skipIf(!compiles)("diff --with-root", () => {
  it("shows where two builds of a library part, with the TLS of both", () => {
    const [one, two, same] = [makeRoot("one", 1), makeRoot("two", 2), join(folder, "same")];
    cpSync(one, same, { recursive: true });
    expect(compiled(folder, ["diff", "--root", one, "--with-root", same, "/program"])).toMatchObject({
      status: 0,
      out: expect.stringContaining("alike: "),
    });
    const { status, out } = compiled(folder, ["diff", "--root", one, "--with-root", two, "/program"]);
    expect(status).toBe(1);
    expect(out).toContain("thread 1: the first difference is at step");
    expect(out).toMatch(/^\+ {0,2}gettid\(\)/m);
    expect(out).toMatch(/FS base 0x[0-9a-f]+/);
  });
});

describe.skipIf(!traces)("diff --native", () => {
  it.each([
    [join(ROOT, "fixtures/bin/tls-x86_64")],
    [join(ROOT, "fixtures/bin/tls-i386")],
    [join(ROOT, "fixtures/bin/conform-x86_64"), "arch_prctl.both"],
    [join(ROOT, "fixtures/bin/conform-i386"), "entries.fills_holes"],
    ["/bin/echo", "hello"],
    // A process of its own, and a program that it executes.
    ["/bin/sh", "-c", "/bin/true; exit 3"],
  ])("finds %s alike", (...command) => {
    const { status, out } = compiled(folder, ["diff", "--native", ...command]);
    expect({ status, out }).toMatchObject({ status: 0, out: expect.stringContaining("alike: ") });
  });
});
