import { expect, it } from "vitest";
import { Progress } from "../../cli/testing/progress.ts";
import { report } from "../../cli/testing/reporters.ts";
import type { Results } from "../../cli/testing/results.ts";
import type { CaseResult, CaseStatus } from "../../cli/testing/run-case.ts";
import { matchPattern, patternLines } from "../../cli/testing/trace-pattern.ts";

const result = (id: string, status: CaseStatus, message = ""): CaseResult => ({
  id,
  status,
  ms: 2,
  message,
  digest: "",
  updated: false,
});
const results: Results = {
  format: "shimbed-results",
  version: 1,
  shards: ["1/1"],
  cases: [
    result("dir/a [seed=0]", "passed"),
    result("dir/b # [seed=0]", "failed", 'one <two> & "three"\n\u0001four'),
    result("c", "hung", "too long"),
    result("d", "skipped", "not here"),
  ],
};

it("people see failures first, in colour on a terminal", () => {
  const text = report("human", results, { ms: 2000, color: true });
  expect(text.split("\n")[0]).toBe("\x1b[31mFAILED\x1b[0m \x1b[1mdir/b # [seed=0]\x1b[0m");
  expect(report("human", results, { ms: 2000, color: false }).split("\n").at(-2)).toBe(
    "4 runs: 1 passed, 1 failed, 1 hung, 1 skipped in 2.00 s, 2 runs/s",
  );
});

it("XML and TAP take any text", () => {
  const junit = report("junit", results, { ms: 2000, color: false });
  expect(junit).toContain('tests="4" failures="1" errors="1" skipped="1" time="2.000"');
  expect(junit).toContain('classname="dir" name="b # [seed=0]"');
  expect(junit).toContain("one &lt;two&gt; &amp; &quot;three&quot;&#10;\ufffdfour</failure>");
  const tap = report("tap", results, { ms: 2000, color: false });
  expect(tap).toContain("not ok 2 - dir/b \\# [seed=0]\n");
  expect(tap).toContain("ok 4 - d # SKIP not here\n");
});

it("a bar is drawn on a terminal only, and taken away", () => {
  const draw = (isTTY: boolean): string => {
    let text = "";
    const progress = new Progress(2, { isTTY, write: (more) => (text += more) });
    progress.add(result("a", "failed"));
    progress.end();
    return text;
  };
  expect(draw(false)).toBe("");
  expect(draw(true).replaceAll("\r\x1b[K", "|")).toMatch(/^\|\[={15} {15}\] 1\/2, 1 failed, \d+\/s\|$/);
});

it.each<[string, string[], boolean]>([
  ["a\n...\nd", ["a", "b", "c", "d"], true],
  ["a\n...\nc", ["a", "b", "c", "d"], false],
  ["f(<x>) = 0\ng(<x>)", ["f(0x5) = 0", "g(0x5)"], true],
  ["f(<x>) = 0\ng(<x>)", ["f(0x5) = 0", "g(0x6)"], false],
  ["f(<x>, <x>)", ["f(1, 1)"], true],
  ["f(<x>, <x>)", ["f(1, 2)"], false],
  // The first f is not the one that g speaks of: the pattern goes back and takes the second.
  ["...\nf(<x>)\n...\ng(<x>)", ["f(1)", "f(2)", "g(2)"], true],
  ["write(1, ..., 6)   =   6", ['write(1, "a\\n"..., 6)                  = 6'], true],
  ["a.c", ["abc"], false],
  ["", [], true],
  ["...", ["a"], true],
])("the pattern %j on %j: %s", (pattern, trace, matched) => {
  expect(matchPattern(patternLines(pattern), trace).matched).toBe(matched);
});
