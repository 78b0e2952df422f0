/** Options of trusted applications. They may stand after the application too, as nothing else could be meant there. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { collecting } from "./guest-options.ts";
import type { TaRun } from "./ta.ts";

/** What only a trusted application takes. */
export interface TaOptions {
  readonly commands?: string;
  readonly ldelf?: string;
  readonly ta?: readonly string[];
  readonly storage?: string;
  readonly huk?: Uint8Array;
}

export const TA_HELP = `
Trusted applications:
  shimbed run TA.elf --commands FILE.json runs a trusted application for OP-TEE. FILE says which sessions are opened, which
  commands are invoked with which parameters, and what is expected; fixtures/ta/commands.schema.json describes it. Results
  go to standard output, the application's log and its panics to standard error. The status is 0, or 1 when a command did
  not end as expected. Also taken: -p, --as, --policy, --inject, --host-events, --ledger, --seed, --clock, --timeout,
  --max-memory, --cpu, --json (an object a line) and -o; trace takes -P too, which shows the token of each entry.`;

const HUK_HEX = /^([\da-f]{2}){32}$/i;

export function addTaOptions(command: Command): void {
  command
    .option("--commands <file>", "run a trusted application, with the commands of a JSON file (see below)")
    .option("--ldelf <file>", "load it with this real ldelf instead of shimbed's own loader")
    .addOption(collecting("--ta <file>", "another trusted application or library that it may use; may be given again"))
    .option("--storage <file>", "keep its secure storage in this file; in memory if left out")
    .addOption(
      new Option("--huk <hex>", "the hardware unique key, 32 bytes, that the storage's keys come from").argParser(
        parseHuk,
      ),
    );
}

function parseHuk(text: string): Uint8Array {
  if (!HUK_HEX.test(text)) throw new InvalidArgumentError("A hardware unique key is 64 hexadecimal digits.");
  return Uint8Array.from(Buffer.from(text, "hex"));
}

/** The trusted application that `guest` is; undefined where it is a program of Linux. */
export async function taNamed(command: Command, guest: string, args: readonly string[]): Promise<TaRun | undefined> {
  const after = args.some((word) => word === "--commands" || word.startsWith("--commands="));
  const { commands, ldelf, ta, storage, huk } = command.opts<TaOptions>();
  if (!after && [commands, ldelf, ta, storage, huk].every((option) => option === undefined)) return undefined;
  const { isTa } = await import("./ta.ts");
  // A program of Linux may have an argument of that name.
  if (commands === undefined && after && !isTa(guest)) return undefined;
  const { operands, unknown } = command.parseOptions([...args]);
  return { command, guest, rest: [...operands, ...unknown] };
}

/** Runs `guest` if it is a trusted application; undefined where it is a program of Linux. */
export async function runIfTa(
  command: Command,
  guest: string,
  args: readonly string[],
  trace: boolean,
): Promise<number | undefined> {
  const named = await taNamed(command, guest, args);
  if (named === undefined) return undefined;
  const { runTa } = await import("./ta.ts");
  return runTa(named, trace);
}
