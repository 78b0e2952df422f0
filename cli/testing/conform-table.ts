/** The table of the conformance suite, for a page in Markdown. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { reason } from "../output.ts";
import type { SystemResults } from "./conform.ts";
import { arches } from "./conform-arch.ts";
import type { Suite } from "./conform-suite.ts";
import { testError } from "./execute.ts";

type Results = SystemResults["results"];

/** A row for each group of probes with how many pass on each system, the sums, and what is known to fail and why. */
export function markdown(suite: Suite, systems: readonly SystemResults[]): string {
  const groups = [...new Set(suite.probes.map(groupOf))].filter((group) =>
    systems.some(({ results }) => results.some(({ probe }) => groupOf(probe) === group)),
  );
  const row = (title: string, pick: (results: Results) => Results): string =>
    `| ${[title, ...systems.map(({ results }) => cell(pick(results)))].join(" | ")} |`;
  const lines = [
    `| probes of | ${systems.map(({ system }) => `\`${system}\``).join(" | ")} |`,
    `| --- | ${systems.map(() => "---:").join(" | ")} |`,
    ...groups.map((group) => row(group, (results) => results.filter(({ probe }) => groupOf(probe) === group))),
    ...arches.map((arch) => row(`all, ${arch}`, (results) => results.filter(({ probe }) => probe.arch === arch))),
  ];
  const notes = [...systems.flatMap(knownFailures), ...systems.flatMap(({ kind, system }) => version(kind, system))];
  return `${[...lines, ...(notes.length === 0 ? [] : ["", ...notes])].join("\n")}\n`;
}

const START = "<!-- conform -->\n";
const END = "<!-- /conform -->";

/** Puts the table between its marks in a page. @throws UserError when the page has none */
export function putTable(file: string, table: string): void {
  let page: string;
  try {
    page = readFileSync(file, "utf8");
  } catch (error) {
    throw testError(`cannot read ${file}: ${reason(error)}`);
  }
  const [start, end] = [page.indexOf(START), page.indexOf(END)];
  if (start < 0 || end < start) throw testError(`${file} has no place for the table: ${START.trim()} and ${END}`);
  writeFileSync(file, page.slice(0, start + START.length) + table + page.slice(end));
}

function groupOf({ name }: { readonly name: string }): string {
  return name.split(".")[0] ?? name;
}

/** `12/14`; a dash where the system runs none of them. */
function cell(results: Results): string {
  if (results.length === 0) return "–";
  return `${results.filter(({ passed }) => passed).length}/${results.length}`;
}

/** What a provider's platform does otherwise: which probes show it, and why. */
function knownFailures({ kind, system, results }: SystemResults): string[] {
  if (kind !== "provider") return [];
  const reasons = new Map<string, string[]>();
  for (const { probe, result } of results) {
    if (result.status !== "skipped") continue;
    const key = `\`${system}\` (${probe.arch}), ${result.message}`;
    reasons.set(key, [...(reasons.get(key) ?? []), probe.name]);
  }
  return [...reasons].map(([reason, names]) => `- ${reason}: ${names.join(", ")}`);
}

/** What a command says of itself. */
function version(kind: SystemResults["kind"], system: string): string[] {
  if (kind !== "command") return [];
  const program = system.replaceAll("{arch}", "x86_64");
  const said = spawnSync(program, ["--version"], { encoding: "utf8", timeout: 5000 });
  const [line = ""] = (said.stdout ?? "").split("\n");
  return line === "" ? [] : [`- \`${system}\`: ${line.replace(/ \(.*/, "")}`];
}
