/** `shimbed mutate`: every fault in turn, and whether somebody notices. */
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import path from "node:path";
import { UserError } from "../emulator/errors.ts";
import type { Finding } from "../providers/findings.ts";
import { HostPanic } from "../providers/lifecycle.ts";
import { type Mutant, type MutationScore, mutants, mutationScore } from "../providers/mutants.ts";
import { runToEnd } from "./guest-run.ts";
import { FEW_RECORDS } from "./kept-records.ts";
import type { GuestOptions } from "./options.ts";
import { openSink, print, type Sink } from "./output.ts";
import { endToJson, endToText } from "./run.ts";
import { superviseTa, type TaRun } from "./ta.ts";
import { GuestFiles } from "./testing/guest-files.ts";
import { MANIFEST_NAME, readCases } from "./testing/manifest.ts";
import { tryCase } from "./testing/run-case.ts";

export interface MutateOptions extends GuestOptions {
  /** Percent. */
  readonly atLeast?: number;
}

/** What one run came to. */
interface Tried {
  readonly status: number;
  /** Whether it ended by itself; `interrupted` by the user's Ctrl-C. */
  readonly how: "ended" | "interrupted" | "stopped";
  /** Its end, in words after "the guest". */
  readonly end: string;
  readonly endJson: object;
  /** All that the guest wrote, as a hash. */
  readonly output: string;
  /** What a client of a trusted application saw, a line for each command, and why the application died. */
  readonly results: readonly string[];
  readonly findings: readonly Finding[];
  readonly targets: ReadonlyMap<string, number>;
  readonly abi: "x86_64" | "i386";
}

/** Runs the guest once with these faults, for so many seconds at most. */
type TryOnce = (inject: readonly string[] | undefined, seconds: number | undefined) => Promise<Tried>;

interface Result {
  readonly mutant: Mutant;
  readonly noticed: boolean;
  /** What somebody saw, or why nobody could. */
  readonly how: string;
}

const PATIENCE = 20;
const LEAST_SECONDS = 5;
const BELOW = 1;
const SIGNAL_STATUS = 128;
const WORDS = { noticed: "noticed", survived: "SURVIVED", equivalent: "equivalent" } as const;
const WORD_WIDTH = Math.max(...Object.values(WORDS).map((word) => word.length));

/** A guest or a test, and how it is run. */
interface Subject {
  readonly name: string;
  /** In JSON's terms. */
  readonly what: object;
  readonly provider: string;
  readonly tryOnce: TryOnce;
}

/**
 * Runs the guest, or each of the tests, as it is and then with each fault.
 * @param guest a program, or a place that `shimbed test` takes; then `args` are places too
 * @param ta the guest, where it is a trusted application
 * @returns 0, or 1 when fewer faults were noticed than there were to be
 * @throws UserError when the guest does not end by itself without faults, or a test does not pass
 */
export async function mutate(
  guest: string,
  args: readonly string[],
  options: MutateOptions,
  ta?: TaRun,
): Promise<number> {
  const subjects = isTests(guest) ? testSubjects([guest, ...args]) : [guestSubject(guest, args, options, ta)];
  const sink = options.output === undefined ? standardOutput : openSink(options.output);
  try {
    const all: Result[] = [];
    for (const [index, subject] of subjects.entries()) {
      if (!options.json && index > 0) sink.write("\n");
      const results = await mutateOne(subject, options, sink);
      if (typeof results === "number") return results;
      all.push(...results);
    }
    const score = mutationScore(all);
    if (subjects.length > 1 && !options.json)
      sink.write(`\nin all: ${score.noticed} of ${score.tried} faults noticed: ${percentText(score.percent)} %\n`);
    return score.percent < (options.atLeast ?? 0) ? BELOW : 0;
  } finally {
    sink.close();
  }
}

/** @returns the results, or the status to end with where the user ended it */
async function mutateOne(subject: Subject, options: MutateOptions, sink: Sink): Promise<Result[] | number> {
  const { name, provider, tryOnce } = subject;
  const started = performance.now();
  const clean = await tryOnce(undefined, options.timeout);
  if (clean.how === "interrupted") return clean.status;
  if (clean.how !== "ended")
    throw new UserError(`${name} ${clean.end} without any fault: there is nothing to compare with`, 125);
  const seconds = options.timeout ?? Math.max(LEAST_SECONDS, (PATIENCE * (performance.now() - started)) / 1000);
  const list = mutants(clean.targets, { provider, abi: clean.abi });
  if (!options.json) sink.write(`${name}, provider ${provider}: ${list.length} faults\n\n`);
  const width = Math.max(0, ...list.map(({ title }) => title.length));
  const results: Result[] = [];
  for (const mutant of list) {
    const tried = await tryOnce([mutant.rule.text], seconds);
    if (tried.how === "interrupted") return tried.status;
    const result = compare(mutant, clean, tried);
    results.push(result);
    if (!options.json) sink.write(`${line(result, width)}\n`);
  }
  if (options.json) sink.write(`${JSON.stringify(toJson(subject, clean, results))}\n`);
  else for (const text of scoreLines(mutationScore(results), results)) sink.write(`${text}\n`);
  return results;
}

function guestSubject(guest: string, args: readonly string[], options: MutateOptions, ta: TaRun | undefined): Subject {
  const { provider, seed } = options;
  const tryOnce = ta === undefined ? programs(guest, args, options) : applications(ta);
  return { name: [guest, ...args].join(" "), what: { guest, args, provider, seed }, provider, tryOnce };
}

/** Tests of faults are left out: what they expect is another fault's doing. */
function testSubjects(places: readonly string[]): Subject[] {
  const files = new GuestFiles();
  const cases = readCases(places).filter(({ skip, inject }) => skip === undefined && inject.length === 0);
  if (cases.length === 0) throw new UserError(`${places.join(", ")}: every test there has faults of its own`, 125);
  return cases.map((one) => {
    const { id, provider, seed, arch } = one;
    const tryOnce: TryOnce = async (inject = []) => {
      const { run, failures, targets } = await tryCase(one, files, inject);
      const passed = failures.length === 0;
      const first = failures[0] ?? "";
      return {
        status: passed ? 0 : 1,
        how: inject.length > 0 || passed ? "ended" : "stopped",
        end: passed ? "passes" : `fails (${first})`,
        endJson: { passed },
        output: "",
        results: failures,
        findings: run.findings,
        targets,
        abi: arch,
      };
    };
    return { name: id, what: { test: id, provider, seed }, provider, tryOnce };
  });
}

/** Whether `shimbed test` would take it: a directory, or a manifest. */
function isTests(guest: string): boolean {
  return path.basename(guest) === MANIFEST_NAME || statSync(guest, { throwIfNoEntry: false })?.isDirectory() === true;
}

const standardOutput: Sink = { write: print, flush: () => {}, close: () => {} };

function scoreLines(score: MutationScore, results: readonly Result[]): string[] {
  const { noticed, tried, percent, survivors } = score;
  const equivalent = results.length - tried;
  const besides = equivalent === 0 ? "" : ` (${equivalent} more that nobody can notice here)`;
  return [
    "",
    `${noticed} of ${tried} faults noticed${besides}: ${percentText(percent)} %`,
    ...survivors.map(({ rule }) => `to try a survivor: --inject ${rule.text}`),
  ];
}

function programs(guest: string, args: readonly string[], options: MutateOptions): TryOnce {
  const plain: GuestOptions = { ...options, json: false };
  return async (inject, seconds) => {
    const hash = createHash("sha256");
    const streams = {
      input: new Uint8Array(0),
      output: (fd: 1 | 2, bytes: Uint8Array): void => {
        hash.update(Uint8Array.of(fd)).update(bytes);
      },
    };
    const { status, end, findings, targets, abi } = await runToEnd({
      guest,
      args,
      options: {
        ...plain,
        ...(inject === undefined ? {} : { inject }),
        ...(seconds === undefined ? {} : { timeout: seconds }),
      },
      keptRecords: FEW_RECORDS,
      audit: true,
      countsTargets: true,
      streams,
    });
    const how = end.kind === "ended" || end.kind === "interrupted" ? end.kind : "stopped";
    const output = hash.digest("hex");
    return {
      status,
      how,
      end: endToText(end),
      endJson: endToJson(end),
      output,
      results: [],
      findings,
      targets,
      abi,
    };
  };
}

/** A trusted application's client sees results; its log is all that it writes. */
function applications(ta: TaRun): TryOnce {
  return async (inject: readonly string[] = []) => {
    const hash = createHash("sha256");
    const answers: string[] = [];
    const deaths: string[] = [];
    const abi = "x86_64";
    try {
      const { status, findings, targets } = await superviseTa(ta, {
        inject,
        audit: true,
        keptRecords: FEW_RECORDS,
        out: (text) => answers.push(text.trimEnd()),
        log: (text) => {
          hash.update(text);
          const death = /is dead: (.*)/.exec(text);
          if (death !== null) deaths.push(`it is dead: ${death[1]}`);
        },
      });
      const how = status > SIGNAL_STATUS ? "interrupted" : "ended";
      const end = status === 0 ? "answers as expected" : "does not answer as expected";
      const results = [...answers, ...deaths];
      return { status, how, end, endJson: { status }, output: hash.digest("hex"), results, findings, targets, abi };
    } catch (error) {
      // A command file that goes on after a failed command is told of like this; without a fault it is simply wrong.
      if (!(error instanceof HostPanic) && !(error instanceof UserError && inject.length > 0)) throw error;
      const end = error instanceof HostPanic ? "makes the host fail" : `is stopped: ${error.message}`;
      const nothing = { output: "", results: [...answers, ...deaths], findings: [], targets: new Map() };
      return { status: 125, how: "stopped", end, endJson: { end }, abi, ...nothing };
    }
  };
}

/** A finding that the run without faults had too says nothing. */
function compare(mutant: Mutant, clean: Tried, { end, output, results, findings }: Tried): Result {
  const known = new Set(clean.findings.map(({ kind, thread }) => `${kind} ${thread}`));
  const fresh = findings.filter(({ kind, thread }) => !known.has(`${kind} ${thread}`));
  const signs: string[] = [];
  const other = results.find((result, index) => result !== clean.results[index]);
  if (other !== undefined) signs.push((other.split("\n")[0] ?? "").replace(/ from TEE_ORIGIN_\w+/, ""));
  else if (end !== clean.end) signs.push(`the guest ${end}`);
  else if (output !== clean.output) signs.push("it prints something else");
  const kinds = [...new Set(fresh.map(({ kind }) => kind))];
  if (kinds.length > 0) signs.push(`${kinds.length === 1 ? "finding" : "findings"} ${kinds.join(", ")}`);
  const noticed = signs.length > 0;
  return { mutant, noticed, how: noticed ? signs.join("; ") : (mutant.equivalent ?? "") };
}

function line({ mutant, noticed, how }: Result, width: number): string {
  const word = mutant.equivalent !== undefined ? WORDS.equivalent : noticed ? WORDS.noticed : WORDS.survived;
  return `${word.padEnd(WORD_WIDTH)}  ${mutant.title.padEnd(width)}  ${how}`.trimEnd();
}

function percentText(percent: number): string {
  return Number.isInteger(percent) ? String(percent) : (Math.floor(percent * 10) / 10).toFixed(1);
}

function toJson({ what }: Subject, clean: Tried, results: readonly Result[]): object {
  const { noticed, tried, percent, survivors } = mutationScore(results);
  return {
    ...what,
    clean: { ...clean.endJson, findings: clean.findings },
    mutants: results.map(({ mutant: { rule, title, equivalent }, noticed: was, how }) => ({
      rule: rule.text,
      title,
      noticed: was,
      ...(equivalent === undefined ? {} : { equivalent }),
      how,
    })),
    noticed,
    tried,
    percent,
    survivors: survivors.map(({ rule }) => rule.text),
  };
}
