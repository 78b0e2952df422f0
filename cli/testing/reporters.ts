/** Results for people, TAP consumers, CI systems (JUnit XML) and programs. */
import { isFailure, type Results, totals } from "./results.ts";
import type { CaseResult } from "./run-case.ts";

export const reporterNames = ["human", "tap", "junit", "json"] as const;
export type ReporterName = (typeof reporterNames)[number];

export interface ReportContext {
  /** Wall clock of the whole command. */
  readonly ms: number;
  readonly color: boolean;
}

/** The whole report as text. */
export function report(name: ReporterName, results: Results, context: ReportContext): string {
  switch (name) {
    case "human":
      return human(results, context);
    case "tap":
      return tap(results);
    case "junit":
      return junit(results, context);
    case "json":
      return `${JSON.stringify({ ...results, totals: totals(results.cases) }, null, 1)}\n`;
  }
}

/** Escape sequences where the terminal takes them. */
export function paint(text: string, color: "red" | "green" | "yellow" | "bold" | "dim", on: boolean): string {
  const codes = { red: 31, green: 32, yellow: 33, bold: 1, dim: 2 } as const;
  return on ? `\x1b[${codes[color]}m${text}\x1b[0m` : text;
}

/** Failures first, then what was left out, then the numbers. */
function human({ cases }: Results, { ms, color }: ReportContext): string {
  const lines: string[] = [];
  for (const one of cases.filter(isFailure)) {
    lines.push(`${paint(one.status.toUpperCase(), "red", color)} ${paint(one.id, "bold", color)}`);
    lines.push(...one.message.split("\n").map((line) => (line === "" ? "" : `  ${line}`)), "");
  }
  const skipped = new Map<string, number>();
  for (const { status, message } of cases)
    if (status === "skipped") skipped.set(message, (skipped.get(message) ?? 0) + 1);
  for (const [reason, count] of skipped) lines.push(paint(`skipped ${count}: ${reason}`, "yellow", color));
  const updated = cases.filter((one) => one.updated).length;
  if (updated > 0) lines.push(`golden traces written: ${updated}`);
  lines.push(summary(cases, ms, color));
  return `${lines.join("\n")}\n`;
}

function summary(cases: readonly CaseResult[], ms: number, color: boolean): string {
  const { all, passed, skipped, ...bad } = totals(cases);
  const parts = [paint(`${passed} passed`, "green", color)];
  for (const [name, count] of Object.entries(bad)) if (count > 0) parts.push(paint(`${count} ${name}`, "red", color));
  if (skipped > 0) parts.push(paint(`${skipped} skipped`, "yellow", color));
  const seconds = ms / 1000;
  const rate = seconds > 0 ? `, ${Math.round(all / seconds)} runs/s` : "";
  return `${all} runs: ${parts.join(", ")} in ${seconds.toFixed(2)} s${rate}`;
}

/** TAP version 14. */
function tap({ cases }: Results): string {
  const lines = ["TAP version 14", `1..${cases.length}`];
  for (const [index, one] of cases.entries()) {
    const ok = isFailure(one) ? "not ok" : "ok";
    const skip = one.status === "skipped" ? ` # SKIP ${one.message}` : "";
    lines.push(`${ok} ${index + 1} - ${one.id.replace(/[\\#]/g, "\\$&")}${skip}`);
    if (!isFailure(one)) continue;
    lines.push("  ---", `  status: ${one.status}`, `  duration_ms: ${one.ms.toFixed(1)}`, "  message: |");
    lines.push(...one.message.split("\n").map((line) => `    ${line}`), "  ...");
  }
  return `${lines.join("\n")}\n`;
}

/** As Jenkins and GitLab read it. */
function junit({ cases }: Results, { ms }: ReportContext): string {
  const { all, failed, error, hung, skipped } = totals(cases);
  const lines = [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites><testsuite name="shimbed" tests="${all}" failures="${failed}" errors="${error + hung}" skipped="${skipped}" time="${(ms / 1000).toFixed(3)}">`,
  ];
  for (const one of cases) {
    const slash = one.id.split(" [")[0]?.lastIndexOf("/") ?? -1;
    const classname = slash < 0 ? "shimbed" : one.id.slice(0, slash);
    const head = `<testcase classname="${xml(classname)}" name="${xml(one.id.slice(slash + 1))}" time="${(one.ms / 1000).toFixed(3)}"`;
    if (one.status === "passed") lines.push(`${head}/>`);
    else if (one.status === "skipped") lines.push(`${head}><skipped message="${xml(one.message)}"/></testcase>`);
    else {
      const element = one.status === "failed" ? "failure" : "error";
      const [first = ""] = one.message.split("\n");
      lines.push(
        `${head}><${element} type="${one.status}" message="${xml(first)}">${xml(one.message)}</${element}></testcase>`,
      );
    }
  }
  lines.push("</testsuite></testsuites>");
  return `${lines.join("\n")}\n`;
}

/** XML 1.0 has no way to write most control characters. */
function xml(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "\n": "&#10;",
  };
  return text.replace(CONTROL, "\ufffd").replace(/[&<>"\n]/g, (character) => entities[character] ?? character);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const CONTROL = /[\0-\x08\x0b\x0c\x0e-\x1f]/g;
