import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe } from "vitest";
import { checkGolden } from "../../cli/testing/checks.ts";
import { cCompiler, expect, firstUseOf, type LinuxBed, type Observed, test, thread } from "../../cli/testing/index.ts";
import { explain } from "../../cli/testing/verdict.ts";

/** Sets FS to `block`, fails once, uses FS, and exits with 3. */
const wide = (linux: LinuxBed): Promise<Observed> =>
  linux.run(linux.asm`
    mov eax, 158
    mov edi, 0x1002
    lea rsi, [rip + block]
    syscall
    mov eax, 158
    mov edi, 0x1002
    mov rsi, -4096
    syscall
    mov rax, fs:[0]
    mov eax, 1
    mov edi, 1
    lea rsi, [rip + text]
    mov edx, 6
    syscall
    mov edi, 3
    mov eax, 231
    syscall
  block:
    .quad 0x1234
  text:
    .ascii "hello\n"
  `);

/** Takes a TLS entry, loads GS from it and uses it. */
const narrow = (linux32: LinuxBed): Promise<Observed> =>
  linux32.run(linux32.asm`
    mov eax, 243
    lea ebx, [desc]
    int 0x80
    mov eax, dword ptr [desc]
    lea eax, [eax * 8 + 3]
    mov gs, eax
    mov ecx, gs:[0]
    mov ebx, 0
    mov eax, 1
    int 0x80
  desc:
    .long -1, 0x804a000, 0xfffff, 0x51
  `);

/** Dies of an access through FS without any TLS. */
const dying = (linux: LinuxBed): Promise<Observed> => linux.run(linux.asm`mov rax, fs:[0]`);

test("what a 64-bit guest does", async ({ linux }) => {
  const run = await wide(linux.with({ watch: true }));
  expect(run).toExit(3);
  expect(run).toPrint("hello\n");
  expect(run).toPrint(/^hel/);
  expect(run).toPrint("", "stderr");
  expect(run).toHaveFsBase(0x401053n);
  expect(run).toHaveGsBase(0);
  expect(run).toHaveCalled("arch_prctl", { args: ["ARCH_SET_FS", /^0x/], times: 2 });
  expect(run).toHaveFailed("arch_prctl", "EPERM", { times: 1 });
  expect(run).toHavePunched("SetFsBase");
  expect(run).toHavePunched(["ClearTls", "SetFsBase"]);
  expect(run).toHavePunched(["...", "SetFsBase"]);
  expect(run).toHavePunched({ SetFsBase: 1, GetFsBase: 0 }, 1);
  expect(run).toHaveNoFindings();
  expect(run).toTraceLike(`
    arch_prctl(ARCH_SET_FS, <block>) = 0
        SetFsBase <block> granted by direct: fs_base 0x0 → <block>
    ...
    write(1, "hello\\n", 6) = 6
    ...
    +++ exited with 3 +++`);
  expect(run).toHappen(thread(1).sets("fs", 0x401053).before(firstUseOf("fs")));
  expect(run).toHappen(thread(1).fails("arch_prctl", "EPERM").after(thread(1).asks("SetFsBase")));
  expect(run).not.toHappen(thread(1).calls("write").before(thread(1).calls("arch_prctl")));
});

test("what a 32-bit guest does", async ({ linux32 }) => {
  const run = await narrow(linux32.with({ watch: true }));
  expect(run).toExit(0);
  expect(run).toHaveTlsEntry(12, { base_addr: 0x804a000, limit: 0xfffff, limit_in_pages: true, seg_32bit: true });
  expect(run).toHaveGsBase(0x804a000);
  expect(run).toHappen(thread(1).sets(12, 0x804a000).before(firstUseOf("gs")));
  expect(run).toHaveNoFindings();
});

test("a guest that dies", async ({ linux }) => {
  const run = await dying(linux);
  expect(run).toBeKilledBy("SIGSEGV");
  expect(run.status).toBe(139);
  expect(run.faults.join("\n")).toContain("page fault reading 0x0");
});

describe("a fault", () => {
  test("is injected into this test's runs only", async ({ linux, inject }) => {
    expect(await wide(linux)).toExit(3);
    inject("SetFsBase:error=EINVAL");
    const run = await wide(linux);
    expect(run).toHaveFailed("arch_prctl", "EINVAL");
    expect(run).toBeKilledBy("SIGSEGV");
  });
  test("is gone in the next", async ({ linux }) => {
    expect(await wide(linux)).toExit(3);
  });
  test("that is written wrongly is refused at once", ({ inject }) => {
    expect(() => inject("SetFsBase:melt")).toThrow('there is no fault "melt"');
  });
});

describe("under another provider and seed", () => {
  test.override({ provider: "linux-userland", seed: 7 });
  test("a guest sees the same", async ({ linux }) => {
    const run = await wide(linux);
    expect(run).toExit(3);
    expect(run.provider).toBe("linux-userland");
    expect(run.seed).toBe(7);
    expect((await wide(linux)).digest).toBe(run.digest);
  });
});

test.skipIf(cCompiler() === undefined)("a guest in C with threads", async ({ linux }) => {
  const guest = linux.c(
    `#include <pthread.h>
     static __thread long own = 1;
     static void *body(void *arg) { own = 2; return arg; }
     int main(void) {
       pthread_t other;
       if (pthread_create(&other, 0, body, 0) || pthread_join(other, 0)) return 2;
       return own == 1 ? 0 : 1;
     }`,
    "-static",
    "-pthread",
  );
  const run = await linux.with({ watch: true }).run(guest);
  expect(run).toExit(0);
  expect(run.threads).toHaveLength(2);
  expect(run).toHavePunched("SetFsBase", 2);
  expect(run).toHappen(thread(2).asks("SetFsBase").before(firstUseOf("fs")));
  expect(run).toHaveNoFindings();
});

test("a fresh machine for each run costs little", async ({ linux }) => {
  const guest = await linux.asm`
    mov edi, 0
    mov eax, 231
    syscall`;
  const times: number[] = [];
  for (let i = 0; i < 30; i++) {
    const start = process.cpuUsage();
    expect(await linux.run(guest)).toExit(0);
    const { user, system } = process.cpuUsage(start);
    times.push((user + system) / 1000);
  }
  // The processor's time, and the best, as the machine that runs this may be busy.
  expect(Math.min(...times)).toBeLessThan(10);
});

describe("failures show the trace near the point, and the ledger", () => {
  type Expect = (run: Observed) => unknown;
  const cases: Record<string, Expect> = {
    toExit: (run) => expect(run).toExit(0),
    "not.toExit": (run) => expect(run).not.toExit(3),
    toBeKilledBy: (run) => expect(run).toBeKilledBy("SIGSEGV"),
    toPrint: (run) => expect(run).toPrint("hullo\n"),
    "toPrint of a pattern": (run) => expect(run).toPrint(/^bye/),
    toHaveFsBase: (run) => expect(run).toHaveFsBase(0x5000),
    "toHaveFsBase of a thread that is not there": (run) => expect(run).toHaveFsBase(0x5000, 2),
    toHaveGsBase: (run) => expect(run).toHaveGsBase(0x5000),
    toHaveCalled: (run) => expect(run).toHaveCalled("openat", { args: ["AT_FDCWD"] }),
    "toHaveCalled with times": (run) => expect(run).toHaveCalled("arch_prctl", { times: 3 }),
    toHaveFailed: (run) => expect(run).toHaveFailed("arch_prctl", "EINVAL"),
    toHavePunched: (run) => expect(run).toHavePunched("SetGsBase"),
    "toHavePunched in order": (run) => expect(run).toHavePunched(["SetFsBase", "SetFsBase"]),
    "toHavePunched with counts": (run) => expect(run).toHavePunched({ SetFsBase: 2, GetFsBase: 1 }),
    toTraceLike: (run) =>
      expect(run).toTraceLike(`
        arch_prctl(ARCH_SET_FS, <block>) = 0
        arch_prctl(ARCH_SET_FS, <block>) = 0
        ...`),
    "toTraceLike with lines left": (run) => expect(run).toTraceLike("arch_prctl(...) = 0"),
    toHappen: (run) => expect(run).toHappen(thread(1).calls("write").before(thread(1).asks("SetFsBase"))),
    "toHappen of a thread that is not there": (run) => expect(run).toHappen(thread(2).calls("write")),
    "firstUseOf without a watch": (run) => expect(run).toHappen(thread(1).calls("write").after(firstUseOf("fs"))),
  };
  test.each(Object.entries(cases))("%s", async (_, fail) => {
    const linux = await wideRun();
    expect(() => fail(linux)).toThrowErrorMatchingSnapshot();
  });

  /** Outside of fixtures, which `test.each` does not have. */
  const runs = new Map<string, Promise<Observed>>();
  const wideRun = (): Promise<Observed> => runs.get("wide") ?? Promise.reject(new Error("the run below came first"));

  test.beforeEach(({ linux }) => {
    if (!runs.has("wide")) runs.set("wide", wide(linux));
  });

  test("toHaveTlsEntry", async ({ linux32 }) => {
    const run = await narrow(linux32);
    expect(() => expect(run).toHaveTlsEntry(12, { base_addr: 0x5000, useable: false })).toThrowErrorMatchingSnapshot();
    expect(() => expect(run).toHaveTlsEntry(13, {})).toThrowErrorMatchingSnapshot();
  });

  test("a guest that died", async ({ linux }) => {
    const run = await dying(linux);
    expect(() => expect(run).toExit(0)).toThrowErrorMatchingSnapshot();
    expect(() => expect(run).toBeKilledBy("SIGBUS")).toThrowErrorMatchingSnapshot();
  });

  test("toHaveNoFindings", async ({ linux, inject }) => {
    inject("SetFsBase:twice");
    const run = await wide(linux);
    expect(() => expect(run).toHaveNoFindings()).toThrowErrorMatchingSnapshot();
    expect(run).toHaveNoFindings(["token-reused"]);
  });

  test("toMatchGoldenTrace", async ({ linux, inject }) => {
    const file = "__golden__/wide.trace";
    await expect(await wide(linux)).toMatchGoldenTrace(file);
    inject("SetFsBase:offset=16");
    const golden = readFileSync(join(import.meta.dirname, file), "utf8");
    const other = await wide(linux);
    expect(explain(other, checkGolden(other, golden))).toMatchSnapshot();
  });

  test("something that is no run", () => {
    expect(() => expect(3).toExit(0)).toThrow(
      "this matcher takes what `await linux.run(…)` or `await ta.open(…)` gives",
    );
  });
});
