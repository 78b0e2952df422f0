/** The commands around tests: names, options and help. What a command does is loaded when it is asked for. */
import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { type CommandContext, collecting } from "../guest-options.ts";
import { parseCount } from "../options.ts";
import type { TestOptions } from "./command.ts";

const TEST_HELP = `
A test is an entry of a file named shimbed.json, beside its guests:
  { "version": 1, "tests": [{ "name": "starts", "file": "guest.s", "exit": 0, "stdout": "hello\\n",
    "tokens": ["ClearTls", "SetFsBase"], "matrix": { "provider": ["direct", "linux-userland"], "seed": [0, 1] } }] }
The schema is cli/testing/manifest.schema.json; "$schema" may point to it.

Exit status: 0 when everything passed, 1 when something did not, 125 for a manifest that is wrong.

Examples:
  shimbed test                              all tests beneath this directory
  shimbed test tls --filter arch=i386       those with these words in their names
  shimbed test --reporter human --reporter junit=report.xml
  shimbed test --shard 2/4 --reporter json=results-2.json
  shimbed test --merge results-*.json       one report of all shards
  shimbed test --repeat 10                  every run must be the same ten times
  shimbed test --update                     write golden traces anew`;

/** Adds all commands of this folder. */
export function addTestCommands(program: Command, context: CommandContext): void {
  addTest(program, context);
}

function addTest(program: Command, context: CommandContext): void {
  program
    .command("test")
    .description("run guests and compare what they do with what their manifests expect")
    .addArgument(new Argument("[places...]", "directories or manifests; this directory if left out"))
    .addOption(
      collecting(
        "--reporter <name[=file]>",
        "human, tap, junit or json, to standard output or a file; may be given again",
      ),
    )
    .addOption(new Option("--shard <i/n>", "run every n-th test only, from the i-th on").argParser(parseShard))
    .addOption(new Option("--workers <n>", "so many processes; one for each core if left out").argParser(parseCount))
    .addOption(
      new Option("--repeat <n>", "run each test so often, and fail where two runs differ").argParser(parseCount),
    )
    .option("--filter <text>", "only tests with this in their name")
    .option("--rerun-failed", "only tests that failed the last time from this directory")
    .option("--update", "write golden traces instead of comparing")
    .option("--list", "print the names of the tests, and run none")
    .option("--merge", "the arguments are results that --reporter json wrote: report them together")
    .addOption(new Option("--worker").hideHelp())
    .addHelpText("after", TEST_HELP)
    .action(async (places: string[], options: TestOptions & { worker?: boolean }) => {
      if (options.worker) {
        const { work } = await import("./worker.ts");
        context.status = await work();
        return;
      }
      const { testCommand } = await import("./command.ts");
      context.status = await testCommand(places, options);
    });
}

/** `2/4` */
function parseShard(text: string): { index: number; count: number } {
  const [, index = 0, count = 0] = (/^(\d+)\/(\d+)$/.exec(text) ?? []).map(Number);
  if (index < 1 || index > count) throw new InvalidArgumentError("It takes i/n with i from 1 to n, for example 2/4.");
  return { index, count };
}
