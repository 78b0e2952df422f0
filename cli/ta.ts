/** Trusted applications: `shimbed run TA --commands FILE` and `shimbed trace`. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { UserError } from "../emulator/errors.ts";
import { Ledger } from "../providers/ledger.ts";
import { readTa } from "../shims/optee/binary.ts";
import { runCommands } from "../shims/optee/run-commands.ts";
import { TeeWorld } from "../shims/optee/tee-world.ts";
import { Around } from "./around.ts";
import { hostEvents } from "./guest-run.ts";
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
  punchthrough: "--punchthrough",
  count: "--count",
};
/** So many records tell who set FS base last. */
const FEW_RECORDS = 64;

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

export interface TaRun {
  /** With its options parsed. */
  readonly command: Command;
  /** File of the application. */
  readonly guest: string;
  /** Words after it that are no options. */
  readonly rest: readonly string[];
  /** Whether its system calls are printed. */
  readonly trace: boolean;
}

/**
 * Runs a trusted application.
 * @returns the exit status
 * @throws UserError for options and files that do not fit
 */
export async function runTa({ command, guest, rest, trace }: TaRun): Promise<number> {
  const options = command.opts<Omit<GuestOptions, "environment"> & TaOptions>();
  const { provider, seed, clock, timeout, maxMemory, json, ldelf, ta, storage, huk, commands } = options;
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
  const around = new Around(options, world);
  const call = around.gate.inject?.find(({ target }) => target.on === "call");
  if (call !== undefined)
    throw new UserError(`--inject ${call.text}: system calls can be injected into programs of Linux only`, 125);
  const ledger = new Ledger(FEW_RECORDS);
  const own = openSink(options.output);
  try {
    around.follow(ledger, { provider, guest: [guest], seed });
    const toFile = options.output !== undefined;
    const status = await runCommands({
      ta: guest,
      tas: ta,
      commands,
      trace,
      json,
      // Lines of results are the output of the run; the trace and the log accompany it.
      out: toFile && (json || !trace) ? (text) => own.write(text) : print,
      log: (text) => own.write(text),
      provider,
      around: { ...around.gate, ledger },
      world,
      seed,
      clock,
      ldelf,
      storage,
      huk,
      maxMemory,
      timeoutMs: timeout === undefined ? undefined : timeout * 1000,
      hostEvents: hostEvents(options),
    });
    around.end();
    for (const note of around.notes(world.injector)) own.write(`${note}\n`);
    return status;
  } finally {
    own.close();
    around.close();
  }
}
