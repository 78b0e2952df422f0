/** What a failure shows of a run: its end, the trace lines nearest to the point, and the ledger. */
import { formatFinding } from "../../providers/findings.ts";
import { formatRecord } from "../../providers/ledger-format.ts";
import { signalName } from "../../shims/linux/signals/numbers.ts";
import type { Observed, ObservedEnd } from "./observed.ts";

const LINES_BEFORE = 8;
const LINES_AFTER = 3;
const MOST_RECORDS = 12;
const MOST_OUTPUT = 12;
const MOST_THREADS = 8;

/** `exited with 0`, `was killed by SIGSEGV`, … */
export function endText(end: ObservedEnd): string {
  switch (end.kind) {
    case "ended":
      return end.status.kind === "exited"
        ? `exited with ${end.status.code}`
        : `was killed by ${signalName(end.status.signal)}`;
    case "timeout":
      return `still ran after ${end.seconds} s`;
    case "blocks":
      return "still ran when its blocks were used up";
    case "deadlock":
      return `would wait for ever: ${end.waiting.join("; ")}`;
    case "panic":
      return `ended by the platform's failure: ${end.message}`;
    case "session":
      return end.dead === undefined ? "is alive" : `is dead: ${end.dead}`;
  }
}

/**
 * The trace, tokens under their calls, around an event, and the ledger.
 * @param focus index of the event to mark; the trace's end if left out
 */
export function excerpt(run: Observed, focus?: number): string {
  const lines: string[] = [];
  const threads = run.threads.map((id, index) => `, thread ${index + 1} is ${id}`).slice(0, MOST_THREADS);
  lines.push(`${run.guest} ${endText(run.end)} (provider ${run.provider}, seed ${run.seed}${threads.join("")})`);
  lines.push(...section("trace", traceAround(run, focus)));
  lines.push(...section("ledger", ledgerLines(run)));
  lines.push(...section("findings", run.findings.map(formatFinding)));
  lines.push(...section("faults", run.faults));
  lines.push(...section("standard error", run.stderr.split("\n").slice(0, MOST_OUTPUT)));
  return lines.join("\n");
}

/** Nothing at all where there is nothing to show, but for the ledger and the trace. */
function section(title: string, lines: readonly string[]): string[] {
  const shown = lines.filter((line, index) => line !== "" || index < lines.length - 1);
  return shown.length === 0 ? [] : ["", `${title}:`, ...shown.map((line) => `  ${line}`)];
}

function traceAround(run: Observed, focus: number | undefined): string[] {
  const { lines } = run;
  if (lines.length === 0) return ["(no system call)"];
  const at = focus === undefined ? -1 : lines.findIndex(({ event }) => event === focus);
  const middle = at < 0 ? lines.length - 1 : at;
  const from = Math.max(0, middle - LINES_BEFORE);
  const to = Math.min(lines.length, middle + LINES_AFTER + 1);
  const shown = lines
    .slice(from, to)
    .map(({ text }, index) => (at < 0 ? text : `${from + index === at ? "> " : "  "}${text}`));
  if (from > 0) shown.unshift(`... ${counted(from)} before`);
  if (to < lines.length) shown.push(`... ${counted(lines.length - to)} after`);
  return shown;
}

function counted(lines: number): string {
  return lines === 1 ? "1 line" : `${lines} lines`;
}

function ledgerLines(run: Observed): string[] {
  const { records } = run;
  if (records.length === 0) return ["(no token was asked for)"];
  const shown = records.slice(-MOST_RECORDS).map((record) => {
    const { sequence, thread, call } = record;
    return `${String(sequence).padStart(3)}  thread ${run.ordinal(thread)} in ${call}: ${formatRecord(record)}`;
  });
  if (records.length > MOST_RECORDS) shown.unshift(`... ${records.length - MOST_RECORDS} entries before`);
  return shown;
}
