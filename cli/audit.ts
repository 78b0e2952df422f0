/** `shimbed audit`, `audit verify` and `audit suggest`. */
import { readFileSync } from "node:fs";
import { UserError } from "../emulator/errors.ts";
import { auditTable, formatAuditTable, perfettoTrace } from "../providers/audit.ts";
import { type Finding, formatFinding } from "../providers/findings.ts";
import type { LedgerRecord } from "../providers/ledger.ts";
import { readRecords, type Verification, verifyLedger } from "../providers/ledger-file.ts";
import { hex } from "../providers/ledger-format.ts";
import { suggestPolicy } from "../providers/policy-suggest.ts";
import { endLines, type GuestReport, runToEnd } from "./guest-run.ts";
import { MANY_RECORDS } from "./kept-records.ts";
import type { GuestOptions } from "./options.ts";
import { openSink, print, reason } from "./output.ts";
import { endToJson } from "./run.ts";
import { superviseTa, type TaRun } from "./ta.ts";
import { isRecording, readRecording } from "./testing/recording-file.ts";
import { auditStored, inStore } from "./testing/stored-run.ts";

export interface AuditOptions extends GuestOptions {
  readonly strict?: boolean;
  readonly perfetto?: string;
}

export interface SuggestOptions extends GuestOptions {
  readonly output?: string;
}

const FOUND = 1;

/** One run that was looked at. */
interface Audited {
  readonly name: string;
  readonly provider: string;
  readonly status: number;
  readonly records: readonly LedgerRecord[];
  readonly findings: readonly Finding[];
  /** What else there is to say, for people and in JSON. */
  readonly lines: readonly string[];
  readonly json: object;
}

/**
 * Prints the table and the findings of a run, of recordings or of a ledger.
 * @param ta the guest, where it is a trusted application
 */
export async function audit(
  guest: string | undefined,
  args: readonly string[],
  options: AuditOptions,
  ta?: TaRun,
): Promise<number> {
  const { perfetto, strict } = options;
  const runs = await auditedRuns(guest, args, options, ta);
  const sink = openSink(options.output);
  try {
    runs.forEach((run, index) => {
      if (options.json) sink.write(`${JSON.stringify(auditedJson(run))}\n`);
      else {
        if (runs.length > 1) sink.write(`${index === 0 ? "" : "\n"}${run.name}, provider ${run.provider}:\n`);
        for (const line of auditedLines(run)) sink.write(`${line}\n`);
      }
    });
  } finally {
    sink.close();
  }
  if (perfetto !== undefined) {
    const file = openSink(perfetto);
    file.write(JSON.stringify(perfettoTrace(runs)));
    file.close();
  }
  if (strict && runs.some(({ findings }) => findings.length > 0)) return FOUND;
  return runs.find(({ status }) => status !== 0)?.status ?? 0;
}

async function auditedRuns(
  guest: string | undefined,
  args: readonly string[],
  options: AuditOptions,
  ta: TaRun | undefined,
): Promise<Audited[]> {
  if (options.ledger !== undefined) return [ofLedger(options.ledger, guest)];
  if (ta !== undefined) return [await ofTa(ta, options)];
  const name = named(guest);
  if (!isRecording(name)) return [await ofRun(name, args, options)];
  const runs: Audited[] = [];
  for (const file of [name, ...args]) runs.push(await ofRecording(file, options));
  return runs;
}

function auditedLines({ lines, records, findings }: Audited): string[] {
  const rows = auditTable(records);
  const found = findings.length === 0 ? ["no findings"] : findings.map(formatFinding);
  const table = rows.length === 0 ? ["no token was asked for"] : formatAuditTable(rows);
  return [...lines, ...table, "", ...found];
}

function auditedJson({ json, provider, records, findings }: Audited): object {
  const threads = auditTable(records).map((row) => ({
    ...row,
    requests: Object.fromEntries(row.requests),
    firstBase: hex(row.firstBase),
    lastBase: hex(row.lastBase),
  }));
  return { ...json, provider, threads, findings };
}

/** Writes the policy that a run or a ledger needs. */
export async function suggest(
  guest: string | undefined,
  args: readonly string[],
  options: SuggestOptions,
): Promise<number> {
  const { ledger, output } = options;
  let status = 0;
  let records: readonly LedgerRecord[];
  if (ledger !== undefined) records = ofLedger(ledger, guest).records;
  else {
    // Standard output is the policy's.
    const stdio = [0, 2, 2] as const;
    const report = await runToEnd({ guest: named(guest), args, options, keptRecords: MANY_RECORDS, stdio });
    for (const line of endLines(report, options)) process.stderr.write(`${line}\n`);
    ({ records, status } = report);
  }
  const text = `${JSON.stringify(suggestPolicy(records), undefined, 2)}\n`;
  if (output === undefined) print(text);
  else {
    const sink = openSink(output);
    sink.write(text);
    sink.close();
  }
  return status;
}

/** Says whether a ledger is as it was written. Status 1 when not. */
export function verify(file: string, options: { readonly json?: boolean }): number {
  const result = verifyLedger(readLines(file));
  if (options.json) print(`${JSON.stringify(result)}\n`);
  else if (result.ok) print(`${file}: ${result.records} records, all as they were written${cutOff(result)}\n`);
  else print(`${file}: line ${result.line}: ${result.problem}\n`);
  return result.ok ? 0 : FOUND;
}

function cutOff(result: Verification): string {
  return result.ok && !result.complete
    ? "; the end is missing, so the run was killed or lines are gone after them"
    : "";
}

async function ofRun(guest: string, args: readonly string[], options: AuditOptions): Promise<Audited> {
  const report = await runToEnd({ guest, args, options, keptRecords: MANY_RECORDS, audit: true });
  return audited(guest, { guest, args, seed: options.seed }, options, report);
}

/** A run that a recording holds. Provider, seed and faults are the recording's. */
async function ofRecording(file: string, options: AuditOptions): Promise<Audited> {
  const { run, files } = readRecording(file);
  const report = await inStore(files, (store) => auditStored(run, store, MANY_RECORDS));
  const [guest = run.program, ...args] = run.argv;
  const { provider, seed } = run;
  return audited(file, { recording: file, guest, args, seed }, { ...options, provider }, report);
}

function audited(name: string, what: object, options: AuditOptions, report: GuestReport): Audited {
  const { status, end, records, findings, faults, notes } = report;
  const json = { ...what, ...endToJson(end), status, faults, notes };
  const provider = records[0]?.provider ?? options.provider;
  return { name, provider, status, records, findings, lines: endLines(report, options), json };
}

/** The results of its commands go to standard output, but for JSON's sake into the object. */
async function ofTa(ta: TaRun, { json, provider }: AuditOptions): Promise<Audited> {
  const results: string[] = [];
  const report = await superviseTa(ta, {
    json,
    audit: true,
    keptRecords: MANY_RECORDS,
    out: json ? (text) => results.push(text) : print,
    log: (text) => process.stderr.write(text),
  });
  const { status, records, findings, notes } = report;
  return {
    name: ta.guest,
    provider: records[0]?.provider ?? provider,
    status,
    records,
    findings,
    lines: notes,
    json: { guest: ta.guest, status, notes, results: results.map((line): unknown => JSON.parse(line)) },
  };
}

/** Records of a file, and the misuses of tokens that they tell of. */
function ofLedger(file: string, guest: string | undefined): Audited {
  if (guest !== undefined)
    throw new UserError(`--ledger reads a ledger instead of running a guest: leave out ${guest} or --ledger`, 125);
  const lines = readLines(file);
  const result = verifyLedger(lines);
  if (!result.ok) throw new UserError(`${file} cannot be trusted: line ${result.line}: ${result.problem}`, 125);
  const records = readRecords(lines);
  const findings = records.flatMap(({ outcome, thread, request, sequence }): Finding[] => {
    if (outcome.kind !== "misuse") return [];
    return [{ kind: `token-${outcome.misuse}`, thread, detail: `${request.kind}, by thread ${outcome.by}`, sequence }];
  });
  const said = result.complete ? [] : [`shimbed: ${file} has ${result.records} records${cutOff(result)}`];
  const provider = records[0]?.provider ?? "unknown";
  const json = { ledger: file, complete: result.complete };
  return { name: file, provider, status: 0, records, findings, lines: said, json };
}

/** The lines of a file, as `verifyLedger` takes them. */
function readLines(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split("\n");
  } catch (error) {
    throw new UserError(`cannot read the ledger ${file}: ${reason(error)}`, 125);
  }
}

function named(guest: string | undefined): string {
  if (guest === undefined)
    throw new UserError("name a guest or a recording, or a ledger to read with --ledger FILE", 125);
  return guest;
}
