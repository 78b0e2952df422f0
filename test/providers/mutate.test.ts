import { expect, test } from "vitest";
import { type Mutant, mutants, mutationScore } from "../../providers/mutants.ts";
import { fixtures } from "../world/harness.ts";
import { runReal } from "./real-guest.ts";

/** A static program of each C library and word size, and the shipped guest: every TLS call that a program makes. */
const guests = fixtures("tls", "prebuilt").filter(({ name }) =>
  /^((le|canary)-static-(glibc|musl)|tls-demo)-/.test(name),
);

/** musl on i386 has a second way where set_thread_area fails: modify_ldt. */
const FALLBACK = /^SetThreadArea:(error=EINVAL|unsupported|unimplemented|deny):when=1$/;

test("the TLS fixtures notice at least 95 % of all mutants, and the survivors are those we know", async () => {
  const all: { mutant: Mutant; noticed: boolean }[] = [];
  for (const { file, args, arch, name } of guests) {
    const run = (inject: string[]) => runReal(file, args, { abi: arch, audit: true, inject });
    const clean = await run([]);
    expect(clean.findings, name).toEqual([]);
    for (const mutant of mutants(clean.counts, { provider: "direct", abi: arch })) {
      const { end, output, findings } = await run([mutant.rule.text]);
      const noticed = end !== clean.end || output !== clean.output || findings.length > 0;
      all.push({ mutant, noticed });
      if (!noticed && mutant.equivalent === undefined) expect(`${name} ${mutant.rule.text}`).toMatch(/-musl-i386 /);
    }
  }
  const { percent, tried, survivors } = mutationScore(all);
  expect(tried).toBeGreaterThan(150);
  expect(percent).toBeGreaterThanOrEqual(95);
  for (const { rule } of survivors) expect(rule.text).toMatch(FALLBACK);
});
