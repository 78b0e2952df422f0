import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readCases } from "../../cli/testing/manifest.ts";
import { UserError } from "../../emulator/errors.ts";
import { type Done, ROOT, shimbed as run } from "./program.ts";

const folder = mkdtempSync(join(tmpdir(), "shimbed-command-"));
afterAll(() => rmSync(folder, { recursive: true }));

const shimbed = (cwd: string, ...args: readonly string[]): Done => run(cwd, args, { cache: join(folder, "cache") });

function tests(name: string, manifest: unknown, files: Readonly<Record<string, string>> = {}): string {
  const directory = join(folder, name);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "shimbed.json"), typeof manifest === "string" ? manifest : JSON.stringify(manifest));
  for (const [file, text] of Object.entries(files)) writeFileSync(join(directory, file), text);
  return directory;
}

function thrown(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof Error) return error.message;
  }
  throw new Error("nothing was thrown");
}

const EXIT_3 = "mov edi, 3\nmov eax, 231\nsyscall";
const timeless = (text: string): string => text.replaceAll(/in [\d.]+ s, \d+ runs\/s/g, "in … s");

describe("the tests that come along", () => {
  const shards: unknown[] = [];
  let whole: Record<string, unknown> = {};
  const essence = (text: string): Record<string, unknown> => {
    const { cases, totals, shards: parts } = JSON.parse(text);
    return { totals, parts, cases: cases.map(({ ms: _, ...one }: { ms: number }) => one) };
  };

  beforeAll(() => {
    cpSync(join(ROOT, "fixtures/testing"), join(folder, "own"), { recursive: true });
  });

  it("pass, twice the same", () => {
    const done = shimbed(folder, "test", "own", "--repeat", "2", "--workers", "2");
    expect({ ...done, out: timeless(done.out) }).toEqual({
      status: 0,
      err: "",
      out: "skipped 1: shows how runs are left out\n18 runs: 17 passed, 1 skipped in … s\n",
    });
  });

  it("give the same results in one piece and in shards that are merged", () => {
    const files = [1, 2, 3].map((index) => {
      const file = join(folder, `shard-${index}.json`);
      expect(shimbed(folder, "test", "own", "--shard", `${index}/3`, "--reporter", `json=${file}`).status).toBe(0);
      shards.push(file);
      return file;
    });
    const one = shimbed(folder, "test", "own", "--reporter", "json").out;
    const file = join(folder, "whole.json");
    writeFileSync(file, one);
    whole = essence(shimbed(folder, "test", "--merge", file, "--reporter", "json").out);
    expect(essence(shimbed(folder, "test", "--merge", ...files, "--reporter", "json").out)).toEqual(whole);
    expect(whole.totals).toEqual({ all: 18, passed: 17, failed: 0, error: 0, hung: 0, skipped: 1 });
  });

  it("cannot be merged when a shard is missing or there twice", () => {
    const [first, second] = [join(folder, "shard-1.json"), join(folder, "shard-2.json")];
    expect(shimbed(folder, "test", "--merge", first, second).err).toBe(
      "shimbed: cannot merge: there are no results of shard 3/3\n",
    );
    const third = join(folder, "shard-3.json");
    expect(shimbed(folder, "test", "--merge", first, second, second, third).err).toContain("is in two of the files");
    writeFileSync(join(folder, "other.json"), "{}");
    expect(shimbed(folder, "test", "--merge", join(folder, "other.json")).err).toContain(
      "these are no results of shimbed test",
    );
  });
});

describe("tests that do not pass", () => {
  let directory = "";
  beforeAll(() => {
    directory = tests(
      "bad",
      {
        version: 1,
        tests: [
          { name: "fine", file: "exit.s", exit: 3 },
          { name: "wrong", file: "exit.s", stdout: "hello\n" },
          { name: "missing", file: "missing.s" },
          { name: "malformed", file: "malformed.s" },
          { name: "endless", file: "endless.s", timeout: 0.2 },
          { name: "no golden", file: "exit.s", exit: 3, golden: "kept/{arch}.trace" },
        ],
      },
      { "exit.s": EXIT_3, "malformed.s": "nop\nfrobnicate eax", "endless.s": "again: jmp again" },
    );
  });

  it("are shown with what differs, and the others go on", () => {
    const done = shimbed(directory, "test");
    expect(done.status).toBe(1);
    expect(timeless(done.out).replaceAll(directory, "…")).toMatchSnapshot();
  });

  it("are run again alone", () => {
    const list = shimbed(directory, "test", "--rerun-failed", "--list").out;
    expect(list.split("\n").map((line) => line.split(" [")[0])).toEqual([
      "wrong",
      "missing",
      "malformed",
      "endless",
      "no golden",
      "",
    ]);
    expect(shimbed(ROOT, "test", directory, "--rerun-failed").err).toBe(
      "shimbed: --rerun-failed: no run from this directory is remembered\n",
    );
  });

  it("are updated where they have golden traces, and fail again when these are edited", () => {
    const update = shimbed(directory, "test", "--filter", "golden", "--update");
    expect(update.out).toContain("golden traces written: 1");
    expect(readdirSync(join(directory, "kept"))).toEqual(["x86_64.trace"]);
    expect(shimbed(directory, "test", "--filter", "golden").status).toBe(0);
    const file = join(directory, "kept/x86_64.trace");
    writeFileSync(file, readFileSync(file, "utf8").replace("exit_group(3)", "exit_group(4)"));
    const edited = shimbed(directory, "test", "--filter", "golden");
    expect(edited.status).toBe(1);
    expect(edited.out).toContain("expected the golden trace, but line 1 differs");
  });

  it("are in every report", () => {
    const files = ["tap", "junit", "json"].map((name) => `${name}=${join(directory, `report.${name}`)}`);
    const done = shimbed(directory, "test", ...files.flatMap((file) => ["--reporter", file]));
    expect(done).toEqual({ status: 1, out: "", err: "" });
    const read = (name: string): string =>
      readFileSync(join(directory, `report.${name}`), "utf8")
        .replaceAll(directory, "…")
        .replaceAll(/(duration_ms: |time=")[\d.]+/g, "$1…");
    expect(read("tap")).toMatchSnapshot();
    expect(read("junit")).toMatchSnapshot();
    expect(JSON.parse(read("json")).totals).toEqual({ all: 6, passed: 1, failed: 3, error: 2, hung: 0, skipped: 0 });
  });
});

describe("manifests that are wrong", () => {
  const test = { name: "a", file: "a.s" };
  it.each<[string, unknown]>([
    ["no JSON", "{ version: 1 }"],
    ["another version", { version: 2, tests: [test] }],
    ["no tests", { version: 1, tests: [] }],
    ["a test without a file", { version: 1, tests: [{ name: "a" }] }],
    ["an unknown field", { version: 1, tests: [{ ...test, exits: 0 }] }],
    ["a status out of range", { version: 1, tests: [{ ...test, exit: 256 }] }],
    ["an unknown architecture", { version: 1, tests: [{ ...test, matrix: { arch: ["arm"] } }] }],
    ["an unknown provider", { version: 1, tests: [{ ...test, matrix: { provider: ["windows"] } }] }],
    ["a rule that is none", { version: 1, tests: [{ ...test, matrix: { inject: ["SetFsBase:melt"] } }] }],
    ["an unknown finding", { version: 1, tests: [{ ...test, findings: ["leak"] }] }],
    ["an unknown request", { version: 1, tests: [{ ...test, tokens: ["SetBase"] }] }],
    ["an expression that is none", { version: 1, tests: [{ ...test, stdout: { match: "(" } }] }],
    ["two ends", { version: 1, tests: [{ ...test, exit: 0, signal: "SIGSEGV" }] }],
    ["two tests of one name", { version: 1, tests: [test, test] }],
  ])("%s", (name, manifest) => {
    const place = tests(`manifest-${name.replaceAll(" ", "-")}`, manifest, { "a.s": EXIT_3 });
    expect(() => readCases([place])).toThrow(UserError);
    const message = thrown(() => readCases([place]))
      .replaceAll(relative("", folder), "…")
      .replace(/ in JSON at position.*/, "");
    expect(message).toMatchSnapshot();
  });

  it("are all named at once, before anything runs", () => {
    const place = tests("several", { version: 1, tests: [{ name: "a" }] });
    tests("several/deep", { version: 3, tests: [{ name: "a", file: "a.s" }] });
    expect(shimbed(place, "test").err.split("\n")).toHaveLength(3);
  });

  it.each([
    ["a directory without any", ["test", "empty"]],
    ["no such directory", ["test", "nowhere"]],
    ["an unknown reporter", ["test", "own", "--reporter", "html"]],
    ["a shard that cannot be", ["test", "--shard", "5/4"]],
    ["a filter that fits nothing", ["test", "own", "--filter", "nothing"]],
  ])("%s", (_, args) => {
    mkdirSync(join(folder, "empty"), { recursive: true });
    const done = shimbed(folder, ...args);
    expect([done.status, done.out]).toEqual([125, ""]);
    expect(done.err).toMatchSnapshot();
  });
});
