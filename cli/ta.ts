/** Trusted applications: `shimbed run TA --commands FILE` and `shimbed trace`. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { UserError } from "../emulator/errors.ts";
import type { Finding } from "../providers/findings.ts";
import type { CallErrors } from "../providers/inject-rule.ts";
import { Ledger, type LedgerRecord } from "../providers/ledger.ts";
import { readTa } from "../shims/optee/binary.ts";
import { resultOf } from "../shims/optee/results.ts";
import { runCommands } from "../shims/optee/run-commands.ts";
import { TeeWorld } from "../shims/optee/tee-world.ts";
import { Around } from "./around.ts";
import { hostEvents } from "./guest-run.ts";
import { FEW_RECORDS } from "./kept-records.ts";
import type { GuestOptions } from "./options.ts";
import { openSink, print } from "./output.ts";
import type { TaOptions } from "./ta-options.ts";

/** Options that have a meaning for programs of Linux only, by commander's names. */
const LINUX_ONLY: Readonly<Record<string, string>> = {
  root: "--root",
  bind: "--bind",
  env: "--env",
  unsetEnv: "--unset-env",
  hostEnv: "--host-env",
  argv0: "--argv0",
  cwd: "--cwd",
  user: "--user",
  maxBlocks: "--max-blocks",
  strictSegments: "--strict-segments",
  explore: "--explore",
  expression: "--expression",
  count: "--count",
};

/** What `utee_get_time:error=…` may say. */
export const TEE_ERRORS: CallErrors = {
  number: (text) => resultOf(text) ?? (/^0x[0-9a-f]{8}$/i.test(text) ? Number(text) : undefined),
  wanted: "a result, as TEE_ERROR_GENERIC or 0xffff0000",
};

/** Whether a file is a trusted application, or a library of one. */
export function isTa(file: string): boolean {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch {
    // Whoever runs it says what is wrong.
    return false;
  }
  try {
    readTa(bytes, file);
    return true;
  } catch (error) {
    if (error instanceof UserError) return false;
    throw error;
  }
}

/** A trusted application on the command line. */
export interface TaRun {
  /** With its options parsed. */
  readonly command: Command;
  /** File of the application. */
  readonly guest: string;
  /** Words after it that are no options. */
  readonly rest: readonly string[];
}

/** How it is run. */
export interface TaSupervision {
  /** Whether its system calls are told of. */
  readonly trace?: boolean;
  readonly json?: boolean | undefined;
  /** Faults in place of those of the options. */
  readonly inject?: readonly string[];
  /** Whether to look for what is wrong with TLS, and to count what faults could strike at. */
  readonly audit?: boolean;
  /** How many records the ledger keeps. */
  readonly keptRecords: number;
  /** Where results go, and where its log, the trace and panics go: whole lines. */
  out(text: string): void;
  log(text: string): void;
}

export interface TaReport {
  /** What our own process ends with. */
  readonly status: number;
  readonly records: readonly LedgerRecord[];
  readonly findings: readonly Finding[];
  readonly targets: ReadonlyMap<string, number>;
  /** Lines about the policy and the faults. */
  readonly notes: readonly string[];
}

/** The options of a command that runs one. */
function taOptions(command: Command): Omit<GuestOptions, "environment"> & TaOptions {
  return command.opts<Omit<GuestOptions, "environment"> & TaOptions>();
}

/**
 * Runs a trusted application.
 * @returns the exit status
 * @throws UserError for options and files that do not fit
 */
export async function runTa(ta: TaRun, trace: boolean): Promise<number> {
  const { json, output } = taOptions(ta.command);
  const own = openSink(output);
  try {
    const toFile = output !== undefined;
    const { status, notes } = await superviseTa(ta, {
      trace,
      json,
      keptRecords: FEW_RECORDS,
      // Lines of results are the output of the run; the trace and the log accompany it.
      out: toFile && (json || !trace) ? (text) => own.write(text) : print,
      log: (text) => own.write(text),
    });
    for (const note of notes) own.write(`${note}\n`);
    return status;
  } finally {
    own.close();
  }
}

/**
 * Runs one and tells what came of it.
 * @throws UserError for options and files that do not fit; HostPanic where the platform's own code fails
 */
export async function superviseTa({ command, guest, rest }: TaRun, how: TaSupervision): Promise<TaReport> {
  const options = taOptions(command);
  const { provider, seed, clock, timeout, maxMemory, cpu, ldelf, ta, storage, huk, commands } = options;
  if (rest.length > 0)
    throw new UserError(`a trusted application takes no arguments, and "${rest[0]}" is one: use the command file`, 125);
  if (commands === undefined)
    throw new UserError(
      "--ldelf, --ta, --storage and --huk are for trusted applications: give --commands FILE too",
      125,
    );
  for (const [name, flag] of Object.entries(LINUX_ONLY))
    if (command.getOptionValue(name) !== undefined)
      throw new UserError(`${flag} is for programs of Linux, not for trusted applications`, 125);
  const world = new TeeWorld();
  const { audit = false } = how;
  const inject = how.inject ?? options.inject ?? (audit ? [] : undefined);
  const around = new Around({ ...options, ...(inject === undefined ? {} : { inject }) }, world, undefined, TEE_ERRORS);
  const ledger = new Ledger(how.keptRecords);
  try {
    around.follow(ledger, { provider, guest: [guest], seed });
    const status = await runCommands({
      ta: guest,
      tas: ta,
      commands,
      trace: how.trace,
      tokens: command.getOptionValue("punchthrough") === true,
      json: how.json,
      out: how.out,
      log: how.log,
      provider,
      around: { ...around.gate, audit, ledger },
      world,
      seed,
      clock,
      ldelf,
      storage,
      huk,
      maxMemory,
      processor: cpu,
      timeoutMs: timeout === undefined ? undefined : timeout * 1000,
      hostEvents: hostEvents(options),
    });
    around.end();
    return {
      status,
      records: ledger.records(),
      findings: world.findings?.list ?? [],
      targets: world.injector?.counts ?? new Map(),
      notes: around.notes(world.injector),
    };
  } finally {
    around.close();
  }
}
