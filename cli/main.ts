/** From the words of the command line to an exit status; every error ends here as one paragraph. */
import { readFileSync, writeSync } from "node:fs";
import { CommanderError } from "commander";
import { UserError } from "../emulator/errors.ts";
import { makeProgram, takeOver } from "./commands.ts";
import type { CommandContext } from "./guest-options.ts";

/** Asked wrongly, or failed itself; as env(1) and timeout(1) say it. */
const OWN_FAILURE = 125;

/**
 * Runs one command.
 * @param words what follows the program's name
 * @returns the exit status
 */
export async function main(words: readonly string[]): Promise<number> {
  const context: CommandContext = { status: 0 };
  const debug = process.env.SHIMBED_DEBUG === "1" || words[0] === "--debug";
  try {
    const program = makeProgram(version(), context, words);
    takeOver(program);
    if (words.length === 0) throw new UserError("a command is missing; `shimbed --help` lists them", OWN_FAILURE);
    await program.parseAsync(words, { from: "user" });
    return context.status;
  } catch (error) {
    return complain(error, words.find((word) => word !== "--debug") ?? "", debug);
  }
}

/** Says what went wrong and gives the exit status. */
function complain(error: unknown, command: string, debug: boolean): number {
  if (error instanceof CommanderError) {
    // Help and version were asked for and have been printed.
    if (error.exitCode === 0) return 0;
    say(commanderMessage(error, command));
    return OWN_FAILURE;
  }
  if (error instanceof UserError) {
    say(error.message);
    if (debug) sayStack(error);
    return error.exitCode;
  }
  say(
    `internal error: ${error instanceof Error ? error.message : String(error)}. This is a mistake in shimbed: please report ` +
      "it with the command that you gave, what `shimbed doctor` prints, and what SHIMBED_DEBUG=1 adds here",
  );
  if (debug) sayStack(error);
  return OWN_FAILURE;
}

/** Commander's complaint in our form: one line, without its `error: `, and where to read on. */
function commanderMessage(error: CommanderError, command: string): string {
  const text = error.message
    .replace(/^error: /, "")
    .replace(/\s*\n\s*/g, " ")
    .replace(/\.$/, "");
  switch (error.code) {
    case "commander.unknownCommand":
      // Somebody forgot `run`.
      if (command.includes("/")) return `${text}; to run that program, \`shimbed run ${command}\``;
      return `${text}; \`shimbed --help\` lists the commands`;
    case "commander.unknownOption":
    case "commander.missingArgument":
    case "commander.excessArguments":
      return `${text}; ${command.startsWith("-") ? "`shimbed --help`" : `\`shimbed help ${command}\``} shows what it takes`;
    default:
      return text;
  }
}

function say(paragraph: string): void {
  toStandardError(`shimbed: ${paragraph}\n`);
}

function sayStack(error: unknown): void {
  for (let at = error; at instanceof Error; at = at.cause) toStandardError(`${at.stack ?? at.message}\n`);
}

/** Standard error is where failures are told; when it fails itself there is nobody left to tell. */
function toStandardError(text: string): void {
  try {
    writeSync(2, text);
  } catch {}
}

function version(): string {
  // Compiled code lies one directory deeper than the sources.
  for (const place of ["../package.json", "../../package.json"]) {
    try {
      const found: unknown = JSON.parse(readFileSync(new URL(place, import.meta.url), "utf8"));
      if (typeof found === "object" && found !== null && "version" in found) return String(found.version);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }
  return "unknown";
}
