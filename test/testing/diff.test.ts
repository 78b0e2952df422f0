import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { align } from "../../cli/testing/align.ts";
import { minimize } from "../../cli/testing/bisect.ts";
import { compare, type World } from "../../cli/testing/compare.ts";
import { parseStrace } from "../../cli/testing/native-run.ts";
import { ROOT, shimbed } from "./program.ts";

/** The same cases in every run. */
fc.configureGlobal({ seed: 1 });

const WIDE = join(ROOT, "fixtures/bin/tls-x86_64");
const native = process.platform === "linux" && process.arch === "x64";

describe("align", () => {
  const letters = fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 40 });

  it("covers both sequences, with equal stretches that are equal", () => {
    fc.assert(
      fc.property(letters, letters, (a, b) => {
        let [atA, atB] = [0, 0];
        for (const {
          same,
          a: [fromA, toA],
          b: [fromB, toB],
        } of align(a, b)) {
          expect([fromA, fromB]).toEqual([atA, atB]);
          if (same) expect(a.slice(fromA, toA)).toEqual(b.slice(fromB, toB));
          [atA, atB] = [toA, toB];
        }
        expect([atA, atB]).toEqual([a.length, b.length]);
      }),
    );
  });

  it("finds as much alike as the longest common subsequence has", () => {
    fc.assert(
      fc.property(letters, letters, (a, b) => {
        const alike = align(a, b)
          .filter(({ same }) => same)
          .reduce((sum, { a: [from, to] }) => sum + to - from, 0);
        expect(alike).toBe(longestCommon(a, b));
      }),
    );
  });

  it("takes a million elements with few differences in its stride", () => {
    const a = Array.from({ length: 1_000_000 }, (_, index) => String(index % 1000));
    const b = a.toSpliced(10, 1).toSpliced(500_000, 0, "new").toSpliced(900_000, 3);
    expect(align(a, b).filter(({ same }) => !same)).toHaveLength(3);
  });
});

function longestCommon(a: readonly string[], b: readonly string[]): number {
  let row = new Array<number>(b.length + 1).fill(0);
  for (const x of a) {
    const next = [0];
    for (const [j, y] of b.entries()) next.push(x === y ? (row[j] ?? 0) + 1 : Math.max(row[j + 1] ?? 0, next[j] ?? 0));
    row = next;
  }
  return row.at(-1) ?? 0;
}

describe("bisect", () => {
  it("finds subsets of which nothing can be left out", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.nat(30), { minLength: 1 }), fc.nat(5), async (all, count) => {
        const culprits = all.filter((_, index) => index % 3 === 0).slice(0, count + 1);
        const found = await minimize(all, async (some) => culprits.every((one) => some.includes(one)));
        expect([...found].sort()).toEqual([...culprits].sort());
      }),
    );
  });

  it("names the fault that does it", () => {
    const rules = ["SetGsBase:error=EPERM", "SetFsBase:offset=16", "@signal:canary"].flatMap((rule) => [
      "--inject",
      rule,
    ]);
    expect(shimbed("/", ["bisect", ...rules, WIDE])).toEqual({
      status: 1,
      err: "",
      out: "--inject SetFsBase:offset=16\n1 of 3 faults: none of these can be left out; 5 runs\n",
    });
  });

  it("looks through seeds", () => {
    expect(shimbed("/", ["bisect", "--seeds", "0..3", WIDE])).toEqual({
      status: 0,
      err: "",
      out: "no seed from 0 to 3 makes the run end otherwise, 5 runs\n",
    });
    expect(shimbed("/", ["bisect", "--seeds", "5..9", "--status", "1", WIDE])).toEqual({
      status: 1,
      err: "",
      out: "seed 5 makes the run end otherwise: status 0, 2 runs\n",
    });
  });
});

describe("diff", () => {
  it("shows where a fault makes a run go another way, with the TLS of both", () => {
    const done = shimbed("/", ["diff", "--with-inject", "SetFsBase:offset=16", WIDE]);
    expect([done.status, done.err]).toEqual([1, ""]);
    expect(done.out).toMatchSnapshot();
  });

  it.each([[["--with-provider", "linux-userland"]], [["--with-seed", "9"]]])(
    "finds none for a well-behaved guest %s",
    (words) => {
      const done = shimbed("/", ["diff", ...words, WIDE]);
      expect([done.status, done.err]).toEqual([0, ""]);
      expect(done.out).toMatch(/^alike: \d+ steps in 1 thread$/m);
    },
  );

  it.skipIf(!native)("finds none between shimbed and this machine's kernel", () => {
    for (const guest of [WIDE, join(ROOT, "fixtures/bin/tls-i386")]) {
      const done = shimbed("/", ["diff", "--native", guest]);
      expect([done.status, done.err]).toEqual([0, ""]);
    }
  });

  it("refuses what it cannot compare", () => {
    expect(shimbed("/", ["diff", WIDE]).err).toContain(
      "diff takes two recordings, or a guest with --native or one of --with-…",
    );
    expect(shimbed("/", ["diff", "--native", "--with-seed", "1", WIDE]).err).toContain("are two differences at once");
  });

  it("compares each thread with its like, whatever came between", () => {
    const step = (thread: number, text: string) => ({ thread, text: `${text}() = 0`, name: text, outcome: "ok" });
    const a: World = { name: "A", status: 0, steps: [step(1, "a"), step(2, "x"), step(1, "b"), step(2, "y")] };
    const b: World = { name: "B", status: 0, steps: [step(2, "x"), step(2, "z"), step(1, "a"), step(1, "b")] };
    const { lines, same } = compare(a, b, "exact", false);
    expect(same).toBe(false);
    expect(lines).toEqual([
      "--- A",
      "+++ B",
      "",
      "thread 2: the first difference is at step 2 of 2 and 2 of 2",
      "  x() = 0",
      "- y() = 0",
      "+ z() = 0",
      "  alike in this thread: 1 step",
      "  TLS at the first difference:",
      "    A: never set",
      "    B: never set",
    ]);
  });

  it("colours what differs", () => {
    const world = (text: string): World => ({
      name: text,
      status: 0,
      steps: [{ thread: 1, text, name: text, outcome: "" }],
    });
    const { lines } = compare(world("a"), world("b"), "exact", true);
    expect(lines).toContain("\x1b[31m- a\x1b[0m");
    expect(lines).toContain("\x1b[32m+ b\x1b[0m");
  });
});

it("strace's lines become steps", () => {
  const text = `
100 execve("/a", ["/a"], 0x7ffe /* 0 vars */) = 0
100 arch_prctl(ARCH_SET_FS, 0x5000) = 0
100 clone3({flags=CLONE_VM|CLONE_THREAD|CLONE_SETTLS, tls=0x6000}, 88) = 101
101 read(0,  <unfinished ...>
100 openat(AT_FDCWD, "/x", O_RDONLY) = -1 ENOENT (No such file or directory)
101 <... read resumed>"", 1) = 0
101 exit(0) = ?
101 +++ exited with 0 +++
100 --- SIGSEGV {si_signo=SIGSEGV} ---
100 +++ killed by SIGSEGV +++
`;
  const tls = (fsBase: string) => ({ fsBase, gsBase: "0x0", fs: "0x0", gs: "0x0" });
  expect(
    parseStrace(text).map(({ thread, name, outcome, tls: state }) => [thread, name, outcome, state?.fsBase]),
  ).toEqual([
    [1, "arch_prctl", "ok", tls("0x5000").fsBase],
    [1, "clone3", "ok", undefined],
    [1, "openat", "ENOENT", undefined],
    [2, "read", "ok", "0x6000"],
    [2, "exit", "?", undefined],
    [2, "end", "", undefined],
    [1, "signal", "", undefined],
    [1, "end", "", undefined],
  ]);
});
