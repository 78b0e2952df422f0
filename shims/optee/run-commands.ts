/** `shimbed run TA --commands FILE` and `shimbed trace`: from a command file to lines and an exit status. */
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { createDisassembler, type Disassembler } from "../../emulator/disassembler.ts";
import { UserError } from "../../emulator/errors.ts";
import { eventToJson, formatEvent, formatStep, type ShownEvent, stepToJson } from "./commands/format.ts";
import { parseCommands } from "./commands/parse.ts";
import { runSteps } from "./commands/run.ts";
import { TeeHost, type TeeHostOptions } from "./host.ts";
import { Interrupted } from "./watchdog.ts";

export interface RunCommandsOptions extends Omit<TeeHostOptions, "tas" | "watch" | "catchSignals"> {
  readonly ta: string;
  /** More TAs and libraries, beside those the command file names. */
  readonly tas?: readonly string[] | undefined;
  /** The command file; without one the TA is opened and closed. */
  readonly commands?: string | undefined;
  /** Whether system calls and entries are told too. */
  readonly trace?: boolean | undefined;
  /** Whether the tokens are told that entries take. */
  readonly tokens?: boolean | undefined;
  /** One JSON object per line instead of text. */
  readonly json?: boolean | undefined;
  /** Where the commands' results go, and all of JSON: whole lines. */
  out(text: string): void;
  /** Where the TA's log, the trace and panics go. */
  log(text: string): void;
}

const NOT_AS_EXPECTED = 1;
const SIGNAL_STATUS = 128;
const openAndClose = '[{"func_id":"open_session"},{"func_id":"close_session"}]';

/**
 * Runs the commands in order.
 * @returns the exit status: 0, or 1 when something was not as expected, or 128 + the signal that ended it
 * @throws UserError for wrong files and options
 */
export async function runCommands(options: RunCommandsOptions): Promise<number> {
  const { commands, json = false, trace = false } = options;
  const file = parseCommands(commands === undefined ? openAndClose : readText(commands), commands ?? "");
  const beside = file.tas.map((name) => resolve(dirname(commands ?? "."), name));
  const teller = new Teller(options, json, trace);
  const host = new TeeHost({
    ...options,
    tas: [options.ta, ...(options.tas ?? []), ...beside],
    watch: (event) => teller.tell(event),
    catchSignals: true,
  });
  const { ledger } = host.tee.gate;
  const stopTelling = options.tokens ? ledger.subscribe((record) => teller.tell({ kind: "token", record })) : undefined;
  try {
    if (host.storageDamage !== undefined)
      options.log(`shimbed: the storage ${options.storage} cannot be trusted: ${host.storageDamage}\n`);
    let steps = 0;
    let failed = 0;
    for (const step of runSteps(host.tee, file, host.main.uuid)) {
      await teller.flush();
      options.out(`${json ? JSON.stringify(stepToJson(step)) : formatStep(step)}\n`);
      steps++;
      if (step.failures.length > 0) failed++;
    }
    await teller.flush();
    if (json) options.out(`${JSON.stringify({ event: "end", ok: failed === 0, steps, failed })}\n`);
    else if (failed > 0) options.out(`${failed} of ${steps} commands did not end as expected\n`);
    return failed > 0 ? NOT_AS_EXPECTED : 0;
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    await teller.flush();
    return SIGNAL_STATUS + error.signal;
  } finally {
    stopTelling?.();
    teller.close();
    host.close();
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : error;
    throw new UserError(`cannot read the commands ${path}: ${code}`, 125);
  }
}

/** Writes events as they come. A panic waits for the disassembler, and what follows it waits too. */
class Teller {
  readonly #options: RunCommandsOptions;
  readonly #json: boolean;
  readonly #trace: boolean;
  readonly #waiting: ShownEvent[] = [];
  #disassembler: Disassembler | undefined;

  constructor(options: RunCommandsOptions, json: boolean, trace: boolean) {
    this.#options = options;
    this.#json = json;
    this.#trace = trace;
  }

  tell(event: ShownEvent): void {
    if (!this.#trace && event.kind !== "token" && event.kind !== "log" && event.kind !== "panic") return;
    if (event.kind === "panic" || this.#waiting.length > 0) this.#waiting.push(event);
    else this.#write(event, undefined);
  }

  async flush(): Promise<void> {
    for (const event of this.#waiting.splice(0)) {
      let instruction: string | undefined;
      if (event.kind === "panic" && event.report.bytes.length > 0) {
        this.#disassembler ??= await createDisassembler();
        const { bytes, pc } = event.report;
        [{ text: instruction } = { text: undefined }] = this.#disassembler.disassemble(bytes, {
          bits: 64,
          address: pc,
          count: 1,
        });
      }
      this.#write(event, instruction);
    }
  }

  #write(event: ShownEvent, instruction: string | undefined): void {
    if (this.#json) this.#options.out(`${JSON.stringify(eventToJson(event, instruction))}\n`);
    else this.#options.log(`${formatEvent(event, instruction)}\n`);
  }

  close(): void {
    this.#disassembler?.close();
  }
}
