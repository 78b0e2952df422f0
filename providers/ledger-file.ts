import { createHash } from "node:crypto";
import { UserError } from "../emulator/errors.ts";
import type { LedgerRecord } from "./ledger.ts";
import { recordToJson } from "./ledger-format.ts";

/** What a ledger file begins with; ledger.schema.json has the whole format. */
export interface LedgerHeader {
  readonly provider: string;
  readonly guest?: readonly string[];
  readonly seed?: number;
}

function hashOf(line: string): string {
  return createHash("sha256").update(line).digest("hex");
}

function endLine(records: number, previous: string): string {
  return JSON.stringify({ end: true, records, previous });
}

/**
 * Writes a ledger as JSON lines, each with the hash of the one before. A line goes out in one call of `write`, so a run that
 * is killed leaves whole lines, and `verifyLedger` then finds them right but without an end.
 */
export class LedgerWriter {
  readonly #write: (text: string) => void;
  #previous: string;
  #records = 0;

  /** @param write puts text, with its line end, where it is kept */
  constructor(write: (text: string) => void, header: LedgerHeader) {
    this.#write = write;
    this.#previous = this.#put(JSON.stringify({ format: "shimbed-ledger", version: 1, ...header }));
  }

  /** To be subscribed to a ledger. */
  readonly record = (record: LedgerRecord): void => {
    this.#records++;
    const json = { ...(recordToJson(record) as object), previous: this.#previous };
    this.#previous = this.#put(JSON.stringify(json));
  };

  /** The run has come to its end. */
  end(): void {
    this.#put(endLine(this.#records, this.#previous));
  }

  #put(line: string): string {
    this.#write(`${line}\n`);
    return hashOf(line);
  }
}

export type Verification =
  /** `complete`: with the end that a run writes which was not killed. */
  | { readonly ok: true; readonly complete: boolean; readonly records: number }
  /** `line` counts from 1. */
  | { readonly ok: false; readonly line: number; readonly problem: string };

/**
 * Looks whether a ledger file is as it was written: finds every line that was changed, dropped, added or moved. The lines are
 * the file's, split at line ends; a last line without one was cut off by a kill and does not count.
 */
export function verifyLedger(lines: readonly string[]): Verification {
  // A whole file ends in a line end, so that there is nothing after the last one.
  const whole = lines.slice(0, -1);
  const torn = (lines.at(-1) ?? "") !== "";
  const [header] = whole;
  if (header === undefined) return { ok: false, line: 1, problem: "there is no header" };
  const first = parse(header);
  if (first?.format !== "shimbed-ledger")
    return { ok: false, line: 1, problem: "this is no header of a shimbed ledger" };
  if (first.version !== 1) return { ok: false, line: 1, problem: "its version is not 1" };
  let previous = hashOf(header);
  let sequence: number | undefined;
  for (const [index, line] of whole.entries()) {
    if (index === 0) continue;
    const broken = (problem: string): Verification => ({ ok: false, line: index + 1, problem });
    const json = parse(line);
    if (json === undefined) return broken("the line is not as it was written");
    if (json.previous !== previous) return broken("the line before was changed, dropped or moved, or this one added");
    if (json.end === true) {
      if (line !== endLine(index - 1, previous)) return broken("the end was changed");
      if (index !== whole.length - 1 || torn)
        return { ok: false, line: index + 2, problem: "there is more after the end" };
      return { ok: true, complete: true, records: index - 1 };
    }
    if (typeof json.sequence !== "number") return broken("this is no record");
    if (sequence !== undefined && json.sequence !== sequence + 1) return broken("a record is missing before this one");
    sequence = json.sequence;
    previous = hashOf(line);
  }
  return { ok: true, complete: false, records: whole.length - 1 };
}

/** A line's object, if the line is just what the writer makes of it. */
function parse(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== "object" || value === null || JSON.stringify(value) !== line) return undefined;
    return { ...value };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/**
 * The records of a ledger file that has been verified.
 * @throws UserError at a line that is no record
 */
export function readRecords(lines: readonly string[]): LedgerRecord[] {
  const records: LedgerRecord[] = [];
  for (const [index, line] of lines.entries()) {
    const json = parse(line);
    if (json === undefined || "format" in json || json.end === true) continue;
    const { previous: _, ...rest } = json;
    const record = revive(rest, "");
    if (!isRecord(record)) throw new UserError(`line ${index + 1} of the ledger is no record`, 125);
    records.push(record);
  }
  return records;
}

const BIG_KEYS: ReadonlySet<string> = new Set(["pc", "address", "value", "fsBase", "gsBase", "raw"]);

/** What `recordToJson` made of a value with this key, as it was. */
function revive(value: unknown, key: string): unknown {
  if (typeof value === "string" && /^0x[0-9a-f]+$/.test(value)) {
    if (BIG_KEYS.has(key)) return BigInt(value);
    if (key === "base_addr") return Number(value);
  }
  if (Array.isArray(value)) return value.map((item) => revive(item, key));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, revive(field, name)]));
}

function isRecord(value: unknown): value is LedgerRecord {
  if (typeof value !== "object" || value === null) return false;
  const record: Partial<Record<keyof LedgerRecord, unknown>> = value;
  const { sequence, thread, pc, call, provider, request, outcome, before, after } = record;
  return (
    typeof sequence === "number" &&
    typeof thread === "number" &&
    typeof pc === "bigint" &&
    typeof call === "string" &&
    typeof provider === "string" &&
    [request, outcome].every((part) => typeof part === "object" && part !== null && "kind" in part) &&
    [before, after].every((part) => typeof part === "object" && part !== null && "descriptors" in part)
  );
}
