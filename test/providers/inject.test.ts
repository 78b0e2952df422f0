import { describe, expect, test } from "vitest";
import { UserError } from "../../emulator/errors.ts";
import { injectHelp, parseInjectRule, strikesAt } from "../../providers/inject-rule.ts";
import { mutants, mutationScore } from "../../providers/mutants.ts";
import { served } from "./event-matrix.ts";
import { clean, runLibc, symptoms } from "./libc-guest.ts";

describe("rules", () => {
  test.each([
    ["arch_prctl:error=EPERM:when=2", { on: "call", name: "arch_prctl" }, "error", 1],
    ["SetFsBase:offset=-16", { on: "request", kind: "SetFsBase" }, "offset", -16],
    ["SETTLS:nothing", { on: "request", kind: "SETTLS" }, "nothing", 0],
    ["token:deny", { on: "request", kind: "token" }, "deny", 0],
    ["SetThreadArea:base=0x7000", { on: "request", kind: "SetThreadArea" }, "base", 0x7000],
    ["@exception:lose-base:when=3+", { on: "event", event: "exception" }, "lose-base", 0],
  ])("%s", (text, target, fault, value) => {
    expect(parseInjectRule(text)).toMatchObject({ text, target, fault, value });
  });

  test.each([
    ["3", [3]],
    ["3+", [3, 4, 5, 6, 7, 8]],
    ["2+3", [2, 5, 8]],
    ["2..4", [2, 3, 4]],
    ["1..7+2", [1, 3, 5, 7]],
  ])("when=%s as strace has it", (when, hits) => {
    const rule = parseInjectRule(`SetFsBase:nothing:when=${when}`);
    expect([1, 2, 3, 4, 5, 6, 7, 8].filter((count) => strikesAt(rule, count))).toEqual(hits);
  });

  test.each([
    ["", "write TARGET:FAULT"],
    ["SetFsBase", "write TARGET:FAULT"],
    ["SetCr3:nothing", '"SetCr3" is no request'],
    ["@lunch:lose-base", "there is no event @lunch: choose one of @syscall"],
    ["SetFsBase:explode", 'there is no fault "explode" for SetFsBase: choose one of deny=N, error=N, unsupported'],
    ["SetFsBase:error=EWHAT", 'error needs an errno, as EINVAL or 22, not "EWHAT"'],
    ["SetFsBase:nothing=1", "nothing takes no value"],
    ["SetFsBase:offset=x", 'offset needs a number, not "x"'],
    ["SetFsBase:nothing:when=0", "when=0 is none of N, N+"],
    ["SetFsBase:nothing:when=4..2", "when=4..2 is none of"],
    ["SetFsBase:nothing:how=2", 'unknown part "how=2"'],
  ])("%s is refused", (text, message) => {
    expect(() => parseInjectRule(text)).toThrow(UserError);
    expect(() => parseInjectRule(text)).toThrow(message);
  });

  test("the help names every fault", () => {
    expect(injectHelp().join("\n")).toContain("  offset=N: the base is off by so many bytes");
  });
});

describe.each(served)("mutants on %s, %i bits", (provider, bits) => {
  const run = (inject: readonly string[]) => runLibc(bits, { provider, inject });
  const quiet = run([]);

  test("a guest that uses TLS as a C library does runs clean", () => {
    expect({ end: quiet.end, reports: quiet.reports }).toEqual(clean);
    // A kernel platform does leave TLS behind at exec: that is found, and nothing else.
    const kernel = provider === "linux-kernel" || provider === "lvbs";
    expect(symptoms(quiet)).toEqual(kernel ? ["exec-not-cleared", "changed-by-host"] : []);
  });

  test("are noticed, nearly all", () => {
    const known = new Set(quiet.findings.map(({ kind, detail }) => `${kind} ${detail}`));
    const results = mutants(quiet.counts, { provider, abi: bits === 64 ? "x86_64" : "i386" }).map((mutant) => {
      const mutated = run([mutant.rule.text]);
      const findings = mutated.findings.filter(({ kind, detail }) => !known.has(`${kind} ${detail}`));
      return { mutant, noticed: symptoms({ ...mutated, findings }).length > 0 };
    });
    const { percent, tried, survivors } = mutationScore(results);
    expect(tried).toBeGreaterThan(50);
    expect(percent, survivors.map(({ rule }) => rule.text).join(", ")).toBeGreaterThanOrEqual(95);
    console.log(
      provider,
      bits,
      percent,
      survivors.map(({ rule }) => rule.text),
    );
    // What is called equivalent is not noticed either.
    for (const { mutant, noticed } of results)
      if (mutant.equivalent !== undefined) expect(noticed, mutant.rule.text).toBe(false);
  });
});
