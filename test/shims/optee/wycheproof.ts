// npx tsx test/shims/optee/wycheproof.ts DIR [NAME]
//
// Runs the vectors of Project Wycheproof (https://github.com/C2SP/wycheproof, DIR is its folder testvectors_v1) through the system calls
// of a TA. A row for each file that is about something the TEE has: how many vectors agree, how many of those that may go
// either way are taken, and how many are about what a TA cannot ask for (with the first reason). Status 1 when one disagrees.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Probe } from "./probe.ts";
import { runGroup, type Verdict } from "./wycheproof-groups.ts";

const [directory, only = ""] = process.argv.slice(2);
if (directory === undefined || !existsSync(directory)) {
  process.stderr.write("usage: wycheproof.ts DIR [NAME]\n");
  process.exit(2);
}

const totals = { agree: 0, either: 0, not: 0, wrong: 0 };
for (const file of readdirSync(directory).filter((name) => name.endsWith(".json") && name.includes(only))) {
  const content: { readonly algorithm?: string; readonly testGroups: readonly Record<string, unknown>[] } = JSON.parse(
    readFileSync(join(directory, file), "utf8"),
  );
  const counts = { agree: 0, either: 0, not: 0, wrong: 0 };
  const wrong: string[] = [];
  let reason: string | undefined;
  let known = false;
  const probe = new Probe();
  for (const group of content.testGroups) {
    const run = runGroup(probe, file, group);
    if (run === undefined) continue;
    known = true;
    for (const { id, expected, verdict } of run) {
      const found: Verdict = verdict;
      if (typeof found !== "string") {
        counts.not++;
        reason ??= found.not;
      } else if (expected === "acceptable") {
        if (found === "valid") counts.either++;
        counts.agree++;
      } else if (found === expected) counts.agree++;
      else {
        counts.wrong++;
        wrong.push(`${id} is ${expected}`);
      }
    }
  }
  probe.close();
  if (!known || counts.agree + counts.wrong === 0) continue;
  for (const name of ["agree", "either", "not", "wrong"] as const) totals[name] += counts[name];
  const notes = [
    counts.either > 0 ? `${counts.either} acceptable ones taken` : "",
    counts.not > 0 ? `${counts.not} not for a TA (${reason})` : "",
    wrong.length > 0 ? `WRONG: ${wrong.slice(0, 12).join(", ")}` : "",
  ].filter((note) => note !== "");
  process.stdout.write(
    `${file.replace("_test.json", "").padEnd(42)}${String(counts.agree).padStart(5)} agree  ${notes.join("; ")}\n`,
  );
}
process.stdout.write(
  `${totals.agree} agree (${totals.either} acceptable ones taken), ${totals.not} not for a TA, ${totals.wrong} wrong\n`,
);
if (totals.wrong > 0 || totals.agree === 0) process.exitCode = 1;
