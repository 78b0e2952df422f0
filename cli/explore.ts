/** `shimbed run --explore N`: whether a guest ends alike whatever the seed. */
import { createHash, type Hash } from "node:crypto";
import type { TraceConsumer, TraceEvent } from "../shims/linux/trace/trace.ts";
import { type GuestReport, runToEnd } from "./guest-run.ts";
import { FEW_RECORDS } from "./kept-records.ts";
import type { GuestOptions } from "./options.ts";
import { openSink } from "./output.ts";
import { endToJson, endToText } from "./run.ts";

export interface RunOptions extends GuestOptions {
  /** How many seeds to try. */
  readonly explore?: number;
}

/** Seeds after which a guest ended and printed alike. */
interface Group {
  readonly report: GuestReport;
  readonly stdout: Output;
  readonly stderr: Output;
  /** Calls that failed, each with its error, and what an audit found. */
  readonly failures: readonly string[];
  readonly findings: readonly string[];
  readonly seeds: number[];
}

/** What a guest wrote, as far as it matters for telling whether it is the same. */
class Output {
  readonly #hash: Hash = createHash("sha256");
  bytes = 0;
  /** The first of it. */
  head = "";

  add(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.bytes += bytes.length;
    if (this.head.length < HEAD)
      this.head += Buffer.from(bytes)
        .toString("utf8")
        .slice(0, HEAD - this.head.length);
  }

  digest(): string {
    return this.#hash.digest("hex");
  }
}

/** Errors that only tell who came first, as in every program with threads. */
const TIMELY: ReadonlySet<string> = new Set(["EAGAIN", "EINTR", "ETIMEDOUT", "ECHILD", "EINPROGRESS"]);

/** Which calls failed, whatever their arguments and however often. */
class Failures implements TraceConsumer {
  readonly #calls = new Set<string>();

  event(event: TraceEvent): void {
    if (event.kind !== "call" || event.error === undefined || TIMELY.has(event.error)) return;
    this.#calls.add(`${event.name} ${event.error}`);
  }

  list(): string[] {
    return [...this.#calls].sort();
  }
}

const HEAD = 60;
/** So many seeds of a group are named. */
const NAMED = 5;

/**
 * Runs the guest with `count` seeds, its output kept back and its input empty.
 * @returns 0 when all of them ended alike, else 1; or the status of the signal that ended it
 */
export async function explore(
  guest: string,
  args: readonly string[],
  options: RunOptions,
  count: number,
): Promise<number> {
  const sink = openSink(options.output);
  try {
    const groups = new Map<string, Group>();
    for (let seed = options.seed; seed < options.seed + count; seed++) {
      const stdout = new Output();
      const stderr = new Output();
      const streams = {
        input: new Uint8Array(0),
        output: (fd: 1 | 2, bytes: Uint8Array) => (fd === 1 ? stdout : stderr).add(bytes),
      };
      const failed = new Failures();
      const report = await runToEnd({
        guest,
        args,
        options: { ...options, seed, json: false },
        keptRecords: FEW_RECORDS,
        audit: true,
        trace: { consumer: failed, filter: { admits: () => true, status: "failed" } },
        streams,
      });
      if (report.end.kind === "interrupted") return report.status;
      const failures = failed.list();
      const findings = [...new Set(report.findings.map((finding) => finding.kind))].sort();
      const key = JSON.stringify([endToJson(report.end), stdout.digest(), stderr.digest(), failures, findings]);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { report, stdout, stderr, failures, findings, seeds: [seed] });
      else group.seeds.push(seed);
    }
    const sorted = [...groups.values()].sort((a, b) => b.seeds.length - a.seeds.length);
    if (options.json) sink.write(`${JSON.stringify(toJson(guest, args, options, count, sorted))}\n`);
    else for (const line of lines(options, count, sorted)) sink.write(`${line}\n`);
    return sorted.length === 1 ? 0 : 1;
  } finally {
    sink.close();
  }
}

function lines(options: RunOptions, count: number, groups: readonly Group[]): string[] {
  const last = options.seed + count - 1;
  const [most] = groups;
  const found = groups.length === 1 ? "all end alike" : `${groups.length} different ends`;
  const text = [`${count} seeds, ${options.seed} to ${last}: ${found}`];
  for (const group of groups) {
    const { seeds, report, stdout, stderr } = group;
    const named = seeds.slice(0, NAMED).join(", ") + (seeds.length > NAMED ? ", …" : "");
    text.push(`  ${String(seeds.length).padStart(String(count).length)}  ${endToText(report.end)}  (seeds ${named})`);
    if (groups.length > 1)
      for (const [name, output] of [
        ["output", stdout],
        ["errors", stderr],
      ] as const)
        if (output.bytes > 0) text.push(`       ${name}: ${output.bytes} bytes, ${JSON.stringify(output.head)}`);
    const fresh = group.failures.filter((call) => !most?.failures.includes(call));
    const missing = (most?.failures ?? []).filter((call) => !group.failures.includes(call));
    if (fresh.length > 0) text.push(`       fails: ${fresh.join(", ")}`);
    if (missing.length > 0) text.push(`       does not fail: ${missing.join(", ")}`);
    if (group.findings.length > 0) text.push(`       findings: ${group.findings.join(", ")}`);
    for (const line of group === most ? [] : report.faults) text.push(`       ${line}`);
    if (group !== most) text.push(`       to see it again: the same command with --seed ${seeds[0]} for --explore`);
  }
  return text;
}

function toJson(
  guest: string,
  args: readonly string[],
  { provider, seed }: RunOptions,
  count: number,
  groups: readonly Group[],
): object {
  const ends = groups.map(({ report, stdout, stderr, failures, findings, seeds }) => ({
    seeds,
    ...endToJson(report.end),
    status: report.status,
    stdout: { bytes: stdout.bytes, head: stdout.head },
    stderr: { bytes: stderr.bytes, head: stderr.head },
    failed_calls: failures,
    findings,
    faults: report.faults,
  }));
  return { guest, args, provider, seed, count, alike: groups.length === 1, ends };
}
