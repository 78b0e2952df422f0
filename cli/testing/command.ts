/** `shimbed test`. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { hostCode, openSink, print } from "../output.ts";
import { testError } from "./execute.ts";
import { type Case, readCases } from "./manifest.ts";
import { runPool } from "./pool.ts";
import { Progress } from "./progress.ts";
import { type ReporterName, report, reporterNames } from "./reporters.ts";
import { isFailure, mergeResults, type Results, readResults } from "./results.ts";

export interface TestOptions {
  /** `NAME` or `NAME=FILE`. */
  readonly reporter?: readonly string[];
  /** `2/4`. */
  readonly shard?: { readonly index: number; readonly count: number };
  readonly workers?: number;
  readonly repeat?: number;
  readonly update?: boolean;
  readonly rerunFailed?: boolean;
  /** Only cases with this in their id. */
  readonly filter?: string;
  readonly merge?: boolean;
  readonly list?: boolean;
}

const FAILED_STATUS = 1;

/** Runs the tests in these directories, or merges results. @returns 0 when all passed, 1 when some did not */
export async function testCommand(places: readonly string[], options: TestOptions): Promise<number> {
  const reporters = options.reporter ?? ["human"];
  for (const text of reporters) parseReporter(text);
  const start = performance.now();
  const results = options.merge ? mergeResults(places.map(readResults)) : await runTests(places, options);
  if (results === undefined) return 0;
  // What ran in other processes, maybe at the same time, is best told by its sum.
  const ms = options.merge ? results.cases.reduce((sum, one) => sum + one.ms, 0) : performance.now() - start;
  writeReports(reporters, results, ms);
  return results.cases.some(isFailure) ? FAILED_STATUS : 0;
}

/**
 * Writes reports to standard output or to files.
 * @param reporters `NAME` or `NAME=FILE` each
 */
export function writeReports(reporters: readonly string[], results: Results, ms: number): void {
  for (const { name, file } of reporters.map(parseReporter)) {
    const color = file === undefined && process.stdout.isTTY === true && process.env.NO_COLOR === undefined;
    const text = report(name, results, { ms, color });
    if (file === undefined) print(text);
    else {
      const sink = openSink(file);
      sink.write(text);
      sink.close();
    }
  }
}

interface Reporter {
  readonly name: ReporterName;
  /** Standard output if undefined. */
  readonly file: string | undefined;
}

function parseReporter(text: string): Reporter {
  const [given = "", ...rest] = text.split("=");
  const name = reporterNames.find((known) => known === given);
  if (name === undefined) throw testError(`there is no reporter "${given}": choose one of ${reporterNames.join(", ")}`);
  return { name, file: rest.length === 0 ? undefined : rest.join("=") };
}

async function runTests(places: readonly string[], options: TestOptions): Promise<Results | undefined> {
  const { shard = { index: 1, count: 1 }, repeat = 1, update = false } = options;
  const wanted = readCases(places.length === 0 ? ["."] : places).filter(({ id }) => id.includes(options.filter ?? ""));
  if (wanted.length === 0) throw testError(`no test has "${options.filter}" in its name`);
  const cases = options.rerunFailed ? failedBefore(wanted) : wanted;
  // Neighbours are alike in what they cost, so that every n-th makes even shards.
  const own = cases.filter((_, index) => index % shard.count === shard.index - 1);
  if (options.list) {
    print(own.map(({ id }) => `${id}\n`).join(""));
    return undefined;
  }
  const progress = new Progress(own.length, process.stderr);
  const workers = options.workers ?? os.availableParallelism();
  const results = await runPool(own, { workers, repeat, update, progress: (result) => progress.add(result) });
  progress.end();
  remember(results.filter(isFailure).map(({ id }) => id));
  return { format: "shimbed-results", version: 1, shards: [`${shard.index}/${shard.count}`], cases: results };
}

/** Where the failures of the last run from this directory are kept. */
function memoryFile(): string {
  const cache = process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), ".cache");
  const name = createHash("sha256").update(process.cwd()).digest("hex").slice(0, 16);
  return path.join(cache, "shimbed", `failed-${name}.json`);
}

/** It is a convenience only: where there is no such place, --rerun-failed says so. */
function remember(failed: readonly string[]): void {
  const file = memoryFile();
  try {
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, JSON.stringify(failed));
  } catch (error) {
    if (hostCode(error) === undefined) throw error;
  }
}

function failedBefore(cases: readonly Case[]): Case[] {
  let failed: unknown;
  try {
    failed = JSON.parse(readFileSync(memoryFile(), "utf8"));
  } catch (error) {
    if (hostCode(error) === undefined && !(error instanceof SyntaxError)) throw error;
  }
  if (!Array.isArray(failed)) throw testError("--rerun-failed: no run from this directory is remembered");
  const ids: readonly unknown[] = failed;
  if (ids.length === 0) throw testError("--rerun-failed: nothing failed the last time");
  const again = cases.filter(({ id }) => ids.includes(id));
  if (again.length === 0) throw testError("--rerun-failed: none of the tests that failed the last time is among these");
  return again;
}
