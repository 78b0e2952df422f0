import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fixtures, ROOT, shimbed } from "../world/harness.ts";

const demo64 = join(ROOT, "fixtures/bin/tls-x86_64");
const plain = fixtures("tls").find(({ name }) => name === "le-static-musl-i386")?.file ?? "";

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "shimbed-mutate-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe("mutate", () => {
  test("a line for each fault, and the score", () => {
    const { stdout, stderr, status } = shimbed(["mutate", demo64]);
    expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
    expect(stdout).toMatch(/provider direct: 21 faults\n\n/);
    expect(stdout).toMatch(/^noticed +GetFsBase fails +the guest exits with 2$/m);
    expect(stdout).toMatch(/^noticed +SetFsBase has its token executed twice +finding token-reused$/m);
    expect(stdout).toMatch(/^equivalent .*the provider has nothing to put back$/m);
    expect(stdout).toMatch(/\n19 of 19 faults noticed \(2 more that nobody can notice here\): 100 %\n$/);
    expect(shimbed(["mutate", "--at-least", "100", demo64]).status).toBe(0);
  });

  test("survivors are named with what to type, and --at-least fails", () => {
    const { stdout, status } = shimbed(["mutate", "--at-least", "100", plain]);
    expect(status).toBe(1);
    expect(stdout).toMatch(/^SURVIVED +SetThreadArea fails$/m);
    expect(stdout).toMatch(/^to try a survivor: --inject SetThreadArea:error=EINVAL:when=1$/m);
    const file = join(dir, "report.json");
    expect(shimbed(["mutate", "--json", "-o", file, plain]).status).toBe(0);
    const report = JSON.parse(readFileSync(file, "utf8"));
    expect(report.survivors).toContain("SetThreadArea:error=EINVAL:when=1");
    expect(report.mutants.length).toBeGreaterThanOrEqual(report.tried);
    expect(report.percent).toBeCloseTo((100 * report.noticed) / report.tried);
  });

  test("what does not end by itself cannot be compared with", () => {
    const { stderr, status } = shimbed(["mutate", "--max-blocks", "10", demo64]);
    expect({ stderr, status }).toEqual({
      stderr: expect.stringMatching(/runs out of blocks without any fault/),
      status: 125,
    });
    expect(shimbed(["mutate", "--at-least", "101", demo64]).stderr).toMatch(/--at-least.*101.*0 to 100/);
  });
});

describe("mutate with tests", () => {
  const manifest = (name: string, tests: readonly object[]): string => {
    const place = join(dir, name);
    mkdirSync(place);
    writeFileSync(join(place, "sets.s"), readFileSync(join(ROOT, "fixtures/testing/sets-fs.s")));
    writeFileSync(join(place, "shimbed.json"), JSON.stringify({ version: 1, tests }));
    return place;
  };

  test("a fault is noticed when a test does not pass", () => {
    const place = manifest("good", [
      { name: "a", file: "sets.s", exit: 3 },
      { name: "b", file: "sets.s", exit: 3, matrix: { provider: ["linux-userland"] } },
      { name: "of a fault", file: "sets.s", exit: 1, matrix: { inject: ["SetFsBase:error=EPERM"] } },
    ]);
    const { stdout, stderr, status } = shimbed(["mutate", "--at-least", "100", place]);
    expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
    expect(stdout).toMatch(/^noticed +SetFsBase fails +expected the guest to exit with 3, but it exited with 1$/m);
    expect(stdout.match(/^\S.*, provider \S+: \d+ faults$/gm)).toHaveLength(2);
    expect(stdout).toMatch(/\n\nin all: (\d+) of \1 faults noticed: 100 %\n$/);
    const lines = shimbed(["mutate", "--json", place]).stdout.trimEnd().split("\n");
    expect(lines.map((one) => JSON.parse(one).provider)).toEqual(["direct", "linux-userland"]);
  });

  test("one that does not pass by itself says nothing", () => {
    const place = manifest("bad", [{ name: "a", file: "sets.s", exit: 4 }]);
    expect(shimbed(["mutate", join(place, "shimbed.json")])).toMatchObject({
      status: 125,
      stderr: expect.stringMatching(/a.* fails \(expected the guest to exit with 4, .*\) without any fault/),
    });
  });
});

describe("run --explore", () => {
  test("says when every seed ends alike", () => {
    const { stdout, stderr, status } = shimbed(["run", "--explore", "5", "--seed", "3", demo64]);
    expect({ stdout, status }).toEqual({ stdout: "", status: 0 });
    expect(stderr).toBe("5 seeds, 3 to 7: all end alike\n  5  exits with 0  (seeds 3, 4, 5, 6, 7)\n");
  });

  test("tells which do not, and the seed shows it again", () => {
    const show = ["--root", "/", "/bin/mktemp", "-u"];
    const { stderr, status } = shimbed(["run", "--json", "--explore", "3", ...show]);
    expect(status).toBe(1);
    const { ends, alike } = JSON.parse(stderr);
    expect({ alike, count: ends.length }).toEqual({ alike: false, count: 3 });
    for (const { seeds, stdout } of ends)
      expect(shimbed(["run", "--seed", String(seeds[0]), ...show]).stdout).toBe(stdout.head);
    expect(shimbed(["run", "--explore", "3", ...show]).stderr).toMatch(
      /^3 seeds, 0 to 2: 3 different ends\n(.*\n)+ +to see it again: the same command with --seed 2 for --explore\n$/,
    );
  });

  test("a wrong count is refused", () => {
    expect(shimbed(["run", "--explore", "0", demo64])).toMatchObject({ status: 125, stdout: "" });
  });
});
