/** `shimbed trace`. */
import { syscallNames } from "../shims/linux/kinds/names.ts";
import type { Family } from "../shims/linux/table.ts";
import { CountTrace, JsonTrace, TextTrace } from "../shims/linux/trace/trace-text.ts";
import { TraceFilter, type Vocabulary } from "./filter.ts";
import { endLines, type GuestReport, runToEnd } from "./guest-run.ts";
import { FEW_RECORDS } from "./kept-records.ts";
import type { GuestOptions } from "./options.ts";
import { openSink } from "./output.ts";
import { endToJson } from "./run.ts";

export interface TraceOptions extends GuestOptions {
  readonly expression?: readonly string[];
  readonly punchthrough?: boolean;
  readonly count?: boolean;
}

/** Every family there is; the type keeps it complete. */
const FAMILIES: Readonly<Record<Family, true>> = {
  tls: true,
  memory: true,
  file: true,
  signal: true,
  process: true,
  thread: true,
  time: true,
  network: true,
  system: true,
  ipc: true,
};

/** Runs a guest and prints its calls. */
export async function traceGuest(guest: string, args: readonly string[], options: TraceOptions): Promise<number> {
  const filter = new TraceFilter(options.expression ?? [], vocabulary());
  const sink = openSink(options.output);
  const write = (line: string): void => sink.write(`${line}\n`);
  try {
    const counts = options.count ? new CountTrace() : undefined;
    const printer = options.json
      ? new JsonTrace(write)
      : new TextTrace({ write, tokens: options.punchthrough ?? false });
    const trace = { consumer: counts ?? printer, filter };
    const report = await runToEnd({ guest, args, options, keptRecords: FEW_RECORDS, trace });
    for (const line of counts?.lines() ?? []) write(line);
    if (options.json) write(JSON.stringify(summary(report)));
    else for (const line of endLines(report, options)) write(line);
    return report.status;
  } finally {
    sink.close();
  }
}

/** The last line of a trace in JSON. */
function summary(report: GuestReport): object {
  const { status, faults, notes } = report;
  const unsupported = Object.fromEntries(report.unsupported);
  return { kind: "summary", ...endToJson(report.end), status, faults, notes, unsupported };
}

function vocabulary(): Vocabulary {
  const names = [...Object.values(syscallNames.x86_64), ...Object.values(syscallNames.i386)];
  return { names: new Set(names.filter((name) => name !== undefined)), families: new Set(Object.keys(FAMILIES)) };
}
