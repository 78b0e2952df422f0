/** `shimbed mutate`: every fault in turn, and whether somebody notices. */
import { createHash } from "node:crypto";
import { UserError } from "../emulator/errors.ts";
import { type Mutant, mutants, mutationScore } from "../providers/mutants.ts";
import { type GuestReport, runToEnd } from "./guest-run.ts";
import type { GuestOptions } from "./options.ts";
import { openSink, print, type Sink } from "./output.ts";
import { endToJson, endToText } from "./run.ts";

export interface MutateOptions extends GuestOptions {
  /** Percent. */
  readonly atLeast?: number;
}

interface Tried {
  readonly report: GuestReport;
  /** All that the guest wrote, as a hash. */
  readonly output: string;
}

interface Result {
  readonly mutant: Mutant;
  readonly noticed: boolean;
  /** What somebody saw, or why nobody could. */
  readonly how: string;
}

const FEW_RECORDS = 64;
const PATIENCE = 20;
const LEAST_SECONDS = 5;
const BELOW = 1;
const WORDS = { noticed: "noticed", survived: "SURVIVED", equivalent: "equivalent" } as const;
const WORD_WIDTH = Math.max(...Object.values(WORDS).map((word) => word.length));

/**
 * Runs the guest as it is and then with each fault.
 * @returns 0, or 1 when fewer faults were noticed than there were to be
 * @throws UserError when the guest does not end by itself without faults
 */
export async function mutate(guest: string, args: readonly string[], options: MutateOptions): Promise<number> {
  const plain: GuestOptions = { ...options, json: false };
  const started = performance.now();
  const clean = await tryOnce(guest, args, plain);
  const { kind } = clean.report.end;
  if (kind === "interrupted") return clean.report.status;
  if (kind !== "ended")
    throw new UserError(
      `${guest} ${endToText(clean.report.end)} without any fault: there is nothing to compare with`,
      125,
    );
  const seconds = Math.max(LEAST_SECONDS, (PATIENCE * (performance.now() - started)) / 1000);
  const limited = { ...plain, timeout: options.timeout ?? seconds };
  const list = mutants(clean.report.targets, { provider: options.provider, abi: clean.report.abi });
  const sink = options.output === undefined ? standardOutput : openSink(options.output);
  try {
    const name = [guest, ...args].join(" ");
    if (!options.json) sink.write(`${name}, provider ${options.provider}: ${list.length} faults\n\n`);
    const width = Math.max(0, ...list.map(({ title }) => title.length));
    const results: Result[] = [];
    for (const mutant of list) {
      const tried = await tryOnce(guest, args, { ...limited, inject: [mutant.rule.text] });
      if (tried.report.end.kind === "interrupted") return tried.report.status;
      const result = compare(mutant, clean, tried);
      results.push(result);
      if (!options.json) sink.write(`${line(result, width)}\n`);
    }
    const score = mutationScore(results);
    if (options.json) sink.write(`${JSON.stringify(toJson(guest, args, options, clean.report, results))}\n`);
    else {
      sink.write(`\n${score.noticed} of ${score.tried} faults noticed: ${percentText(score.percent)} %\n`);
      for (const { rule } of score.survivors) sink.write(`to try a survivor: --inject ${rule.text}\n`);
    }
    return score.percent < (options.atLeast ?? 0) ? BELOW : 0;
  } finally {
    sink.close();
  }
}

const standardOutput: Sink = { write: print, flush: () => {}, close: () => {} };

async function tryOnce(guest: string, args: readonly string[], options: GuestOptions): Promise<Tried> {
  const hash = createHash("sha256");
  const streams = {
    input: new Uint8Array(0),
    output: (fd: 1 | 2, bytes: Uint8Array): void => {
      hash.update(Uint8Array.of(fd)).update(bytes);
    },
  };
  const report = await runToEnd({
    guest,
    args,
    options,
    keptRecords: FEW_RECORDS,
    audit: true,
    countsTargets: true,
    streams,
  });
  return { report, output: hash.digest("hex") };
}

/** A finding that the run without faults had too says nothing. */
function compare(mutant: Mutant, clean: Tried, { report, output }: Tried): Result {
  const before = endToText(clean.report.end);
  const end = endToText(report.end);
  const known = new Set(clean.report.findings.map(({ kind, thread }) => `${kind} ${thread}`));
  const fresh = report.findings.filter(({ kind, thread }) => !known.has(`${kind} ${thread}`));
  const signs: string[] = [];
  if (end !== before) signs.push(`the guest ${end}`);
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

function toJson(
  guest: string,
  args: readonly string[],
  { provider, seed }: MutateOptions,
  clean: GuestReport,
  results: readonly Result[],
): object {
  const { noticed, tried, percent, survivors } = mutationScore(results);
  return {
    guest,
    args,
    provider,
    seed,
    clean: { ...endToJson(clean.end), findings: clean.findings },
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
