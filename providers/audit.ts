import { type Finding, formatFinding } from "./findings.ts";
import type { LedgerRecord } from "./ledger.ts";
import { formatRecord } from "./ledger-format.ts";
import type { Request } from "./requests.ts";

/** What one guest thread asked for. */
export interface AuditRow {
  readonly thread: number;
  /** Requests by kind, in the order of their first. */
  readonly requests: ReadonlyMap<Request["kind"], number>;
  readonly done: number;
  readonly refused: number;
  readonly denied: number;
  readonly misused: number;
  /** FS base after the first and after the last record. */
  readonly firstBase: bigint;
  readonly lastBase: bigint;
}

/** A row for each thread, in the order in which they first asked. */
export function auditTable(records: readonly LedgerRecord[]): AuditRow[] {
  const threads = new Map<number, LedgerRecord[]>();
  for (const record of records) {
    const own = threads.get(record.thread);
    if (own === undefined) threads.set(record.thread, [record]);
    else own.push(record);
  }
  return [...threads].map(([thread, own]) => {
    const requests = new Map<Request["kind"], number>();
    const count = (...kinds: string[]): number => own.filter(({ outcome }) => kinds.includes(outcome.kind)).length;
    for (const { request, outcome } of own)
      if (outcome.kind !== "misuse") requests.set(request.kind, (requests.get(request.kind) ?? 0) + 1);
    return {
      thread,
      requests,
      done: count("ok"),
      refused: count("failure", "unsupported", "unimplemented"),
      denied: count("denied"),
      misused: count("misuse"),
      firstBase: own[0]?.after.fsBase ?? 0n,
      lastBase: own.at(-1)?.after.fsBase ?? 0n,
    };
  });
}

/** The table as lines of text. */
export function formatAuditTable(rows: readonly AuditRow[]): string[] {
  const head = ["thread", "done", "refused", "denied", "misused", "FS base", "requests"];
  const cells = rows.map((row) => [
    String(row.thread),
    String(row.done),
    String(row.refused),
    String(row.denied),
    String(row.misused),
    `0x${row.lastBase.toString(16)}`,
    [...row.requests].map(([kind, times]) => (times === 1 ? kind : `${kind} ×${times}`)).join(", "),
  ]);
  const widths = head.map((title, column) => Math.max(title.length, ...cells.map((row) => row[column]?.length ?? 0)));
  const last = head.length - 1;
  return [head, ...cells].map((row) =>
    row.map((text, column) => (column === last ? text : text.padEnd(widths[column] ?? 0))).join("  "),
  );
}

/** An event of the trace format that Perfetto's and Chrome's viewers open; `ts` in µs. */
interface TraceEvent {
  readonly name: string;
  readonly cat?: string;
  readonly ph: "i" | "M";
  readonly ts?: number;
  readonly pid: number;
  readonly tid: number;
  readonly s?: "t";
  readonly args: Readonly<Record<string, string | number>>;
}

export interface PerfettoTrace {
  readonly displayTimeUnit: "ns";
  readonly traceEvents: readonly TraceEvent[];
}

/** A run in such a trace. */
export interface TracedRun {
  readonly name: string;
  readonly provider: string;
  readonly records: readonly LedgerRecord[];
  readonly findings: readonly Finding[];
}

/**
 * A trace for ui.perfetto.dev: runs as processes, threads as tracks, tokens and findings as events on them. Records without a time
 * stand one µs apart.
 */
export function perfettoTrace(runs: readonly TracedRun[]): PerfettoTrace {
  return { displayTimeUnit: "ns", traceEvents: runs.flatMap((run, index) => eventsOf(run, index + 1)) };
}

function eventsOf({ name, provider, records, findings }: TracedRun, pid: number): TraceEvent[] {
  const threads = [...new Set([...records, ...findings].map(({ thread }) => thread))];
  const named: TraceEvent[] = threads.map((tid) => ({
    name: "thread_name",
    ph: "M",
    pid,
    tid,
    args: { name: `guest thread ${tid}` },
  }));
  const timeOf = (record: LedgerRecord): number => (record.time === undefined ? record.sequence : record.time / 1000);
  const times = new Map(records.map((record) => [record.sequence, timeOf(record)]));
  const event = (what: Omit<TraceEvent, "ph" | "s" | "pid">): TraceEvent => ({ ...what, ph: "i", s: "t", pid });
  const tokens = records.map((record): TraceEvent => {
    const { sequence, thread, pc, symbol, call, request, outcome } = record;
    const where = symbol === undefined ? `0x${pc.toString(16)}` : `0x${pc.toString(16)} ${symbol}`;
    const args = { what: formatRecord(record), call, where, sequence };
    const title = outcome.kind === "ok" ? request.kind : `${request.kind} (${outcome.kind})`;
    return event({ name: title, cat: "token", ts: timeOf(record), tid: thread, args });
  });
  const found = findings.map((finding): TraceEvent => {
    const { kind, thread, sequence } = finding;
    const ts = sequence === undefined ? 0 : (times.get(sequence) ?? 0);
    return event({ name: kind, cat: "finding", ts, tid: thread, args: { what: formatFinding(finding) } });
  });
  const process: TraceEvent = {
    name: "process_name",
    ph: "M",
    pid,
    tid: 0,
    args: { name: `${name}, provider ${provider}` },
  };
  return [process, ...named, ...tokens, ...found];
}
