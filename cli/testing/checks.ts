/** What can be expected of a run. vitest's matchers and the manifests of `shimbed test` share these. */
import { fromDescriptor, type UserDesc } from "../../emulator/descriptors.ts";
import type { FindingKind } from "../../providers/findings.ts";
import { formatFinding } from "../../providers/findings.ts";
import type { LedgerRecord } from "../../providers/ledger.ts";
import { hex } from "../../providers/ledger-format.ts";
import type { Request } from "../../providers/requests.ts";
import { signalName } from "../../shims/linux/signals/numbers.ts";
import type { CallEvent } from "../../shims/linux/trace/trace.ts";
import { endText } from "./excerpt.ts";
import type { Observed } from "./observed.ts";
import { matchPattern, patternLines } from "./trace-pattern.ts";
import type { Verdict } from "./verdict.ts";

export type RequestKind = Request["kind"];

/** What a descriptor is to be like; what is left out may be anything. */
export type ExpectedEntry = Partial<Omit<UserDesc, "entry_number">>;

export function checkExit(run: Observed, code: number): Verdict {
  const { end } = run;
  const pass = end.kind === "ended" && end.status.kind === "exited" && end.status.code === code;
  return { pass, headline: `expected the guest ${pass ? "not " : ""}to exit with ${code}, but it ${endText(end)}` };
}

/** @param signal `SIGSEGV` */
export function checkKilled(run: Observed, signal: string): Verdict {
  const { end } = run;
  const pass = end.kind === "ended" && end.status.kind === "killed" && signalName(end.status.signal) === signal;
  const at = run.events.findLastIndex((event) => event.kind === "signal");
  return {
    pass,
    headline: `expected ${signal} ${pass ? "not " : ""}to kill the guest, but it ${endText(end)}`,
    focus: at < 0 ? undefined : at,
  };
}

/** @param wanted all that it prints as a string, or a pattern within it */
export function checkOutput(run: Observed, wanted: string | RegExp, stream: "stdout" | "stderr" = "stdout"): Verdict {
  const got = run[stream];
  const pass = typeof wanted === "string" ? got === wanted : wanted.test(got);
  const name = stream === "stdout" ? "standard output" : "standard error";
  if (pass) return { pass, headline: `expected ${name} not to be ${quote(wanted)}` };
  if (typeof wanted !== "string")
    return { pass, headline: `expected ${name} to match ${wanted}, but it is ${quote(got)}` };
  const at = difference(wanted.split("\n"), got.split("\n"));
  return {
    pass,
    headline: `expected other text on ${name}: line ${at + 1} differs`,
    details: [`expected ${lineOf(wanted, at)}`, `but got  ${lineOf(got, at)}`],
  };
}

function quote(text: string | RegExp): string {
  return typeof text === "string" ? JSON.stringify(text) : String(text);
}

function lineOf(text: string, at: number): string {
  const line = text.split("\n")[at];
  return line === undefined ? "the end of the text" : JSON.stringify(line);
}

function difference(a: readonly string[], b: readonly string[]): number {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  return at;
}

/** The last base that a thread had, of those that were seen. */
export function checkBase(run: Observed, segment: "fs" | "gs", base: number | bigint, thread = 1): Verdict {
  const name = `${segment.toUpperCase()} base`;
  const id = run.threadId(thread);
  const state = id === undefined ? undefined : run.lastState(id);
  if (id === undefined || state === undefined)
    return { pass: false, headline: `expected ${name} ${hex(base)} in thread ${thread}, but nothing was seen of it` };
  const got = segment === "fs" ? state.fsBase : state.gsBase;
  const pass = got === BigInt(base);
  const change = run.states.findLast((one) => one.thread === id);
  return {
    pass,
    headline: pass
      ? `expected thread ${thread} to have another ${name} than ${hex(base)}`
      : `expected thread ${thread} to have ${name} ${hex(base)}, but it has ${hex(got)}`,
    focus: change?.event,
  };
}

/** What the ledger says last of a TLS entry. Entries of a parent that a thread began with count. */
export function checkEntry(run: Observed, entry: number, wanted: ExpectedEntry, thread = 1): Verdict {
  const id = run.threadId(thread);
  const isAbout = (record: LedgerRecord): boolean => record.after.descriptors.some(({ index }) => index === entry);
  const own = run.records.findLast((record) => record.thread === id && isAbout(record));
  const record = own ?? run.records.findLast(isAbout);
  const raw = record?.after.descriptors.find(({ index }) => index === entry)?.raw ?? 0n;
  const where = `TLS entry ${entry} of thread ${thread}`;
  const focus = record === undefined ? undefined : eventOf(run, record);
  if (raw === 0n) return { pass: false, headline: `expected ${where} to be set, but it is empty`, focus };
  const seen = fromDescriptor(entry, raw);
  const wrong = keysOf(wanted).filter((key) => wanted[key] !== undefined && wanted[key] !== seen[key]);
  const pass = wrong.length === 0;
  return {
    pass,
    headline: pass ? `expected ${where} to be different, but so it is` : `expected ${where} to be different`,
    details: (pass ? keysOf(wanted) : wrong).map(
      (key) => `${key}: expected ${shown(wanted[key])}, but it is ${shown(seen[key])}`,
    ),
    focus,
  };
}

function keysOf(wanted: ExpectedEntry): (keyof ExpectedEntry)[] {
  const all = Object.keys(fromDescriptor(0, 0n)).filter((key): key is keyof ExpectedEntry => key !== "entry_number");
  return all.filter((key) => key in wanted);
}

function shown(value: number | boolean | undefined): string {
  return typeof value === "number" ? hex(value) : String(value);
}

function eventOf(run: Observed, record: LedgerRecord): number | undefined {
  const at = run.events.findIndex((event) => event.kind === "call" && event.tokens.includes(record));
  return at < 0 ? undefined : at;
}

/** What a call is to be like: its arguments from the first on, each as the trace prints it, or a pattern within that. */
export interface ExpectedCall {
  readonly args?: readonly (string | RegExp)[];
  /** How often; at least once if left out. */
  readonly times?: number;
}

export function checkCalled(run: Observed, name: string, wanted: ExpectedCall = {}): Verdict {
  return checkCalls(run, name, wanted, "", () => true);
}

/** @param error any if left out */
export function checkFailed(
  run: Observed,
  name: string,
  error: string | undefined,
  wanted: ExpectedCall = {},
): Verdict {
  const what = error === undefined ? "failed " : `failed (${error}) `;
  return checkCalls(
    run,
    name,
    wanted,
    what,
    (call) => call.error !== undefined && (error ?? call.error) === call.error,
  );
}

function checkCalls(
  run: Observed,
  name: string,
  { args = [], times }: ExpectedCall,
  what: string,
  fits: (call: CallEvent) => boolean,
): Verdict {
  const named: number[] = [];
  const found: number[] = [];
  for (const [at, event] of run.events.entries()) {
    if (event.kind !== "call" || event.name !== name) continue;
    named.push(at);
    if (fits(event) && args.every((wanted, index) => fitsText(wanted, event.args[index]))) found.push(at);
  }
  const pass = times === undefined ? found.length > 0 : found.length === times;
  const list = args.length === 0 ? "" : `(${args.join(", ")}, …)`;
  const wantedText = times === undefined ? "at least 1" : String(times);
  const others = named.length === found.length ? "" : `; ${name} was called ${counted(named.length)} in all`;
  const calls = (times ?? 1) === 1 ? "call" : "calls";
  const headline =
    `expected ${pass ? "not " : ""}${wantedText} ${what}${calls} of ${name}${list}, ` +
    `but there ${found.length === 1 ? "is" : "are"} ${found.length}${others}`;
  return { pass, headline, focus: found.at(-1) ?? named.at(-1) };
}

function counted(count: number): string {
  return count === 1 ? "once" : `${count} times`;
}

function fitsText(wanted: string | RegExp, got: string | undefined): boolean {
  return got !== undefined && (typeof wanted === "string" ? wanted === got : wanted.test(got));
}

/** Kinds in their order, where `...` skips any number, or how often each comes; a kind alone is to come at all. */
export type ExpectedTokens =
  | RequestKind
  | readonly (RequestKind | "...")[]
  | Readonly<Partial<Record<RequestKind, number>>>;

/** @param thread only what this one asked for */
export function checkPunched(run: Observed, wanted: ExpectedTokens, thread?: number): Verdict {
  const id = thread === undefined ? undefined : run.threadId(thread);
  const records = run.records.filter(
    (record) => record.outcome.kind !== "misuse" && (thread === undefined || record.thread === id),
  );
  const kinds = records.map(({ request }) => request.kind);
  const by = thread === undefined ? "" : ` by thread ${thread}`;
  if (typeof wanted === "string") {
    const at = kinds.indexOf(wanted);
    const record = records[at];
    return {
      pass: at >= 0,
      headline: `expected ${at >= 0 ? "no" : "a"} ${wanted}${by}, but there ${at >= 0 ? "is one" : "is none"}`,
      focus: record === undefined ? undefined : eventOf(run, record),
    };
  }
  if (isOrder(wanted)) return checkOrder(run, records, wanted, by);
  const details: string[] = [];
  for (const [kind, times] of Object.entries(wanted)) {
    const got = kinds.filter((one) => one === kind).length;
    if (got !== times) details.push(`${kind}: expected ${times}, but there ${got === 1 ? "is" : "are"} ${got}`);
  }
  const pass = details.length === 0;
  return { pass, headline: `expected ${pass ? "other numbers" : "so many"} tokens${by}`, details };
}

function isOrder(wanted: ExpectedTokens): wanted is readonly (RequestKind | "...")[] {
  return Array.isArray(wanted);
}

function checkOrder(
  run: Observed,
  records: readonly LedgerRecord[],
  wanted: readonly (RequestKind | "...")[],
  by: string,
): Verdict {
  const kinds = records.map(({ request }) => request.kind);
  const { matched, patternLine, traceLine } = matchPattern(wanted, kinds);
  if (matched) return { pass: true, headline: `expected the tokens${by} not to come as ${wanted.join(", ")}` };
  const record = records[traceLine];
  const missing = wanted[patternLine];
  return {
    pass: false,
    headline: `expected tokens${by} in another order`,
    details: [
      `expected ${wanted.join(", ")}`,
      `but got  ${kinds.join(", ") || "none"}`,
      missing === undefined
        ? `there should be none from ${kinds[traceLine]} (${traceLine + 1}.) on`
        : `${missing} should come ${traceLine + 1}., but ${kinds[traceLine] === undefined ? "there are no more" : `there is ${kinds[traceLine]}`}`,
    ],
    focus: record === undefined ? undefined : eventOf(run, record),
  };
}

/** Nothing wrong with TLS, but for kinds that are expected. */
export function checkFindings(run: Observed, allowed: readonly FindingKind[] = []): Verdict {
  const found = run.findings.filter(({ kind }) => !allowed.includes(kind));
  const [first] = found;
  const record = run.records.find(({ sequence }) => sequence === first?.sequence);
  return {
    pass: found.length === 0,
    headline:
      found.length === 0
        ? "expected the audit to find something wrong, but it found nothing"
        : `expected nothing wrong, but the audit found ${found.length === 1 ? "this" : `${found.length} things`}`,
    details: found.map(formatFinding),
    focus: record === undefined ? undefined : eventOf(run, record),
  };
}

/** The whole trace against a pattern (see trace-pattern.ts); with tokens where the pattern has some. */
export function checkTrace(run: Observed, pattern: string): Verdict {
  const wanted = patternLines(pattern);
  const tokens = wanted.some((line) => /(granted|denied) by /.test(line));
  const lines = tokens ? run.lines : run.lines.filter(({ token }) => !token);
  const match = matchPattern(
    wanted,
    lines.map(({ text }) => text),
  );
  if (match.matched) return { pass: true, headline: "expected a trace that is not like the pattern" };
  const { patternLine, traceLine, captures } = match;
  const line = lines[traceLine];
  const next = wanted[patternLine];
  const got = line === undefined ? "the trace ends" : `there is\n    ${line.text}`;
  return {
    pass: false,
    headline:
      next === undefined
        ? `expected the trace to end after the pattern's last line, but ${got}`
        : `expected line ${patternLine + 1} of the pattern\n    ${next}\n  but ${got}`,
    details: [...captures].map(([name, value]) => `<${name}> is ${value}`),
    focus: line?.event ?? run.events.length - 1,
  };
}

/** The whole trace, as text, against the recorded one. */
export function checkGolden(run: Observed, golden: string): Verdict {
  const wanted = golden.split("\n");
  const lines = run.trace(true).split("\n");
  const at = difference(wanted, lines);
  if (at >= wanted.length && at >= lines.length)
    return { pass: true, headline: "expected another trace than the golden one" };
  const show = (line: string | undefined): string => (line === undefined || line === "" ? "(the end)" : line);
  return {
    pass: false,
    headline: `expected the golden trace, but line ${at + 1} differs`,
    details: [`golden: ${show(wanted[at])}`, `now:    ${show(lines[at])}`],
    focus: run.lines[at]?.event ?? run.events.length - 1,
  };
}
