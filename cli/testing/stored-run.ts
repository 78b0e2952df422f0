/** Runs from a recording's own files. */
import { createHash, type Hash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { processors } from "../../emulator/machine.ts";
import { parseHostEventMode } from "../../providers/host-events.ts";
import { type GuestReport, type GuestRun, runToEnd } from "../guest-run.ts";
import { FEW_RECORDS } from "../kept-records.ts";
import type { EnvironmentChange, GuestOptions } from "../options.ts";
import { writeAll } from "../output.ts";
import { testError } from "./execute.ts";
import { type KeptFile, restoreFiles } from "./file-store.ts";
import type { RecordedRun } from "./recording-file.ts";
import { type Step, StepTrace } from "./steps.ts";

/** What a guest prints: passed on or not, and told by its digest. */
export class Prints {
  readonly #pass: boolean;
  readonly #hashes: Readonly<Record<1 | 2, Hash>> = { 1: createHash("sha256"), 2: createHash("sha256") };

  constructor(pass: boolean) {
    this.#pass = pass;
  }

  readonly take = (fd: 1 | 2, bytes: Uint8Array): void => {
    this.#hashes[fd].update(bytes);
    if (!this.#pass) return;
    writeAll(fd, bytes, fd === 1 ? "standard output" : "standard error");
  };

  /** To be asked once. */
  digests(): { stdout: string; stderr: string } {
    return { stdout: this.#hashes[1].digest("hex"), stderr: this.#hashes[2].digest("hex") };
  }
}

/** Puts files into a directory of their own while `use` runs. */
export async function inStore<T>(files: readonly KeptFile[], use: (store: string) => Promise<T>): Promise<T> {
  const store = mkdtempSync(path.join(os.tmpdir(), "shimbed-files-"));
  try {
    restoreFiles(files, store);
    return await use(store);
  } finally {
    rmSync(store, { recursive: true, force: true });
  }
}

/** Runs the guest of a recording, its output kept back, and looks for what is wrong with its TLS. */
export function auditStored(run: RecordedRun, store: string, keptRecords: number): Promise<GuestReport> {
  return runToEnd({ ...guestRun(run, store, new Prints(false)), keptRecords, audit: true });
}

/**
 * Runs the guest of a recording.
 * @param take called with each step; what it throws ends the run and comes out
 */
export function runStored(
  run: RecordedRun,
  store: string,
  take: (step: Step) => void,
  prints: Prints,
): Promise<GuestReport> {
  const trace = new StepTrace(take);
  return runToEnd({
    ...guestRun(run, store, prints),
    keptRecords: FEW_RECORDS,
    trace: { consumer: trace },
    ready: ({ kernel }) => trace.watch(kernel),
  });
}

function guestRun(run: RecordedRun, store: string, prints: Prints): Omit<GuestRun, "keptRecords"> {
  const [, ...args] = run.argv;
  return {
    guest: run.program,
    args,
    options: storedOptions(run, store),
    streams: { input: Buffer.from(run.input, "base64"), output: prints.take },
    lower: { plain: true },
  };
}

function storedOptions(run: RecordedRun, store: string): GuestOptions {
  const { argv, envp, cwd, user, provider, seed, inject, hostEvents, as, maxMemory, maxBlocks, cpu, strictSegments } =
    run;
  const processor = processors.find((one) => one === cpu);
  if (processor !== cpu) throw testError(`the recording has --cpu ${cpu}, which there is not`);
  if (as !== undefined && as !== "litebox") throw testError(`the recording has --as ${as}, which there is not`);
  return {
    provider,
    seed,
    root: store,
    cwd,
    user,
    argv0: argv[0] ?? "",
    environment: envp.map(variableOf),
    clock: "virtual",
    net: "none",
    ...(inject === undefined ? {} : { inject }),
    ...(hostEvents === undefined ? {} : { hostEvents: parseHostEventMode(hostEvents) }),
    ...(as === undefined ? {} : { as }),
    ...(maxMemory === undefined ? {} : { maxMemory }),
    ...(maxBlocks === undefined ? {} : { maxBlocks }),
    ...(processor === undefined ? {} : { cpu: processor }),
    ...(strictSegments === undefined ? {} : { strictSegments }),
  };
}

function variableOf(text: string): EnvironmentChange {
  const equals = text.indexOf("=");
  return { kind: "set", name: text.slice(0, equals), value: text.slice(equals + 1) };
}
