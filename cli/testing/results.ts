/** Results of `shimbed test` as a file: what shards leave behind, and what is merged, reported and run again. */
import { readFileSync } from "node:fs";
import { reason } from "../output.ts";
import { testError } from "./execute.ts";
import type { CaseResult, CaseStatus } from "./run-case.ts";

/** Results of one command, or of several shards together. */
export interface Results {
  readonly format: "shimbed-results";
  readonly version: 1;
  /** `2/4` each; `1/1` for a whole run. */
  readonly shards: readonly string[];
  readonly cases: readonly CaseResult[];
}

export type Totals = Readonly<Record<CaseStatus | "all", number>>;

const STATUSES: readonly string[] = ["passed", "failed", "error", "hung", "skipped"];

export function totals(cases: readonly CaseResult[]): Totals {
  const count = (status: CaseStatus): number => cases.filter((one) => one.status === status).length;
  return {
    all: cases.length,
    passed: count("passed"),
    failed: count("failed"),
    error: count("error"),
    hung: count("hung"),
    skipped: count("skipped"),
  };
}

/** True for what makes the command fail. */
export function isFailure({ status }: CaseResult): boolean {
  return status !== "passed" && status !== "skipped";
}

/** @throws UserError for a file that is not there or holds no results */
export function readResults(file: string): Results {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw testError(
      `cannot read results from ${file}: ${error instanceof SyntaxError ? "it is no JSON" : reason(error)}`,
    );
  }
  if (!isResults(value)) throw testError(`cannot read results from ${file}: these are no results of shimbed test`);
  return value;
}

function isResults(value: unknown): value is Results {
  if (typeof value !== "object" || value === null) return false;
  const { format, version, shards, cases }: Partial<Record<keyof Results, unknown>> = value;
  return (
    format === "shimbed-results" &&
    version === 1 &&
    Array.isArray(shards) &&
    Array.isArray(cases) &&
    cases.every(isCase)
  );
}

function isCase(value: unknown): value is CaseResult {
  if (typeof value !== "object" || value === null) return false;
  const { id, status, ms, message }: Partial<Record<keyof CaseResult, unknown>> = value;
  return (
    typeof id === "string" &&
    typeof status === "string" &&
    STATUSES.includes(status) &&
    typeof ms === "number" &&
    typeof message === "string"
  );
}

/**
 * Puts the results of shards together, in the order of ids.
 * @throws UserError when they do not belong together: other numbers of shards, one missing, a case twice
 */
export function mergeResults(parts: readonly Results[]): Results {
  const shards = parts.flatMap((part) => part.shards).sort();
  const counts = new Set(shards.map((shard) => Number(shard.split("/")[1])));
  const [count] = counts;
  if (counts.size !== 1 || count === undefined)
    throw testError(`cannot merge results of different shardings: ${shards.join(", ")}`);
  const missing = Array.from({ length: count }, (_, index) => `${index + 1}/${count}`).filter(
    (shard) => !shards.includes(shard),
  );
  if (missing.length > 0) throw testError(`cannot merge: there are no results of shard ${missing.join(", ")}`);
  const cases = parts.flatMap((part) => part.cases).sort((a, b) => (a.id < b.id ? -1 : 1));
  const twice = cases.find(({ id }, index) => cases[index + 1]?.id === id);
  if (twice !== undefined) throw testError(`cannot merge: ${twice.id} is in two of the files`);
  return { format: "shimbed-results", version: 1, shards: ["1/1"], cases };
}
