/** `shimbed run`. */
import os from "node:os";
import { recordToJson } from "../providers/ledger-format.ts";
import { endLines, type GuestEnd, type GuestReport, runToEnd } from "./guest-run.ts";
import { FEW_RECORDS, MANY_RECORDS } from "./kept-records.ts";
import type { GuestOptions } from "./options.ts";
import { openSink } from "./output.ts";

/** Runs a guest and says what there is to say at its end. */
export async function runGuest(guest: string, args: readonly string[], options: GuestOptions): Promise<number> {
  const sink = openSink(options.output);
  try {
    const keptRecords = options.json ? MANY_RECORDS : FEW_RECORDS;
    const report = await runToEnd({ guest, args, options, keptRecords });
    if (options.json) sink.write(`${JSON.stringify(reportToJson(guest, args, options, report))}\n`);
    else {
      for (const line of endLines(report, options)) sink.write(`${line}\n`);
      if (report.faults.length > 0 && (await isTaFile(guest)))
        sink.write(
          `shimbed: ${guest} is a trusted application: give the commands it shall run, with --commands FILE\n`,
        );
    }
    return report.status;
  } finally {
    sink.close();
  }
}

/** Asked when a guest died, as that is what becomes of one that is run as a program of Linux. */
async function isTaFile(guest: string): Promise<boolean> {
  const { isTa } = await import("./ta.ts");
  return isTa(guest);
}

function reportToJson(guest: string, args: readonly string[], options: GuestOptions, report: GuestReport): object {
  return {
    guest,
    args,
    provider: options.provider,
    seed: options.seed,
    ...endToJson(report.end),
    status: report.status,
    faults: report.faults,
    notes: report.notes,
    unsupported: Object.fromEntries(report.unsupported),
    ledger: report.records.map(recordToJson),
  };
}

/** The end in JSON's terms. */
export function endToJson(end: GuestEnd): object {
  if (end.kind === "panic") return { end: "panic", message: end.message };
  if (end.kind !== "ended") return { end: end.kind, ...("signal" in end ? { signal: end.signal } : {}) };
  const { status } = end;
  return status.kind === "exited" ? { end: "exited", code: status.code } : { end: "killed", signal: status.signal };
}

/** The end in a few words: `exits with 3`, `is killed by SIGSEGV`. */
export function endToText(end: GuestEnd): string {
  switch (end.kind) {
    case "ended":
      return end.status.kind === "exited"
        ? `exits with ${end.status.code}`
        : `is killed by ${signalName(end.status.signal)}`;
    case "interrupted":
      return `is interrupted by ${signalName(end.signal)}`;
    case "timeout":
      return "runs out of time";
    case "blocks":
      return "runs out of blocks";
    case "deadlock":
      return "waits for ever";
    case "panic":
      return "makes the host fail";
  }
}

function signalName(signal: number): string {
  return Object.entries(os.constants.signals).find(([, number]) => number === signal)?.[0] ?? `signal ${signal}`;
}
