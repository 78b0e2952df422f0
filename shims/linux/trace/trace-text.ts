/** Trace events as strace's text, as JSON lines, and as a table of counts. */
import { getSystemErrorMap } from "node:util";
import { formatRecord, recordToJson } from "../../../providers/ledger-format.ts";
import { signalName } from "../signals/numbers.ts";
import type { ExitStatus } from "../task.ts";
import type { CallEvent, TraceConsumer, TraceEvent, UnfinishedEvent } from "./trace.ts";

/** strace's column of the equals sign. */
const COLUMN = 39;

const messages: ReadonlyMap<string, string> = new Map([...getSystemErrorMap().values()]);

/** Takes lines without line ends. */
export type LineSink = (line: string) => void;

export interface TextTraceOptions {
  readonly write: LineSink;
  /** Shows each token under the call that took it. */
  readonly tokens?: boolean;
}

function outcome(event: CallEvent): string {
  if (event.error === undefined) return event.returned;
  const message = event.why ?? messages.get(event.error);
  return `${event.returned} ${event.error}${message === undefined ? "" : ` (${message})`}`;
}

function endText(status: ExitStatus): string {
  if (status.kind === "exited") return `+++ exited with ${status.code} +++`;
  return `+++ killed by ${signalName(status.signal)}${status.core === true ? " (core dumped)" : ""} +++`;
}

/** strace's lines; `[pid 1234]` stands before them from the second task on. */
export class TextTrace implements TraceConsumer {
  readonly #write: LineSink;
  readonly #tokens: boolean;
  #first: number | undefined;
  #several = false;

  constructor(options: TextTraceOptions) {
    this.#write = options.write;
    this.#tokens = options.tokens ?? false;
  }

  event(event: TraceEvent): void {
    const id = event.tid;
    this.#first ??= id;
    if (id !== this.#first) this.#several = true;
    const prefix = this.#several ? `[pid ${String(id).padStart(5)}] ` : "";
    switch (event.kind) {
      case "call":
        this.#write(prefix + callText(event));
        if (this.#tokens) for (const token of event.tokens) this.#write(`${prefix}    ${formatRecord(token)}`);
        break;
      case "unfinished":
        this.#write(`${prefix}${event.name}(${event.args.join(", ")}${open(event)}<unfinished ...>`);
        break;
      case "signal":
        this.#write(`${prefix}--- ${event.text} ---`);
        break;
      case "ended":
        this.#write(prefix + endText(event.status));
        break;
    }
  }
}

/** What stands between the arguments that are known and the mark. */
function open({ args, complete }: UnfinishedEvent): string {
  return complete || args.length === 0 ? " " : ", ";
}

function callText(event: CallEvent): string {
  const { name, args, told } = event;
  const head =
    told === undefined ? `${name}(${args.join(", ")})` : `<... ${name} resumed>${args.slice(told).join(", ")})`;
  return `${head.padEnd(COLUMN)} = ${outcome(event)}`;
}

/** One JSON object a line. Numbers above 2^53 do not occur; addresses stand in `args` as text. */
export class JsonTrace implements TraceConsumer {
  readonly #write: LineSink;

  constructor(write: LineSink) {
    this.#write = write;
  }

  event(event: TraceEvent): void {
    if (event.kind !== "call") {
      this.#write(JSON.stringify(event));
      return;
    }
    const { told: _, tokens, ...call } = event;
    this.#write(JSON.stringify({ ...call, tokens: tokens.map(recordToJson) }));
  }
}

interface Count {
  calls: number;
  errors: number;
}

/** How often each call was made and failed. */
export class CountTrace implements TraceConsumer {
  readonly #counts = new Map<string, Count>();

  event(event: TraceEvent): void {
    if (event.kind !== "call") return;
    const count = this.#counts.get(event.name) ?? { calls: 0, errors: 0 };
    count.calls++;
    if (event.error !== undefined) count.errors++;
    this.#counts.set(event.name, count);
  }

  /** The table's lines, the most frequent call first. */
  lines(): string[] {
    const rows = [...this.#counts].sort(([a, x], [b, y]) => y.calls - x.calls || (a < b ? -1 : 1));
    const total = { calls: 0, errors: 0 };
    const lines = ["    calls    errors  syscall", "--------- ---------  ----------------"];
    const line = (name: string, { calls, errors }: Count): string =>
      `${String(calls).padStart(9)} ${(errors === 0 ? "" : String(errors)).padStart(9)}  ${name}`;
    for (const [name, count] of rows) {
      total.calls += count.calls;
      total.errors += count.errors;
      lines.push(line(name, count));
    }
    lines.push("--------- ---------  ----------------", line("total", total));
    return lines;
  }
}
