/** The commands around tests: names, options and help. What a command does is loaded when it is asked for. */
import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { addGateOptions, addGuestOptions, type CommandContext, collecting } from "../guest-options.ts";
import { parseCount, parseSeed } from "../options.ts";
import type { BisectOptions } from "./bisect.ts";
import type { TestOptions } from "./command.ts";
import { addConform } from "./conform-options.ts";
import type { DiffOptions } from "./diff.ts";
import type { RecordOptions } from "./record.ts";

const TEST_HELP = `
A test is an entry of a file named shimbed.json, beside its guests:
  { "version": 1, "tests": [{ "name": "starts", "file": "guest.s", "exit": 0, "stdout": "hello\\n",
    "tokens": ["ClearTls", "SetFsBase"], "matrix": { "provider": ["direct", "linux-userland"], "seed": [0, 1] } }] }
The schema is shimbed/manifest.schema.json of this package; "$schema" may point to it.

Exit status: 0 when everything passed, 1 when something did not, 125 for a manifest that is wrong.

Examples:
  shimbed test                              all tests beneath this directory
  shimbed test tls --filter arch=i386       those with these words in their names
  shimbed test --reporter human --reporter junit=report.xml
  shimbed test --shard 2/4 --reporter json=results-2.json
  shimbed test --merge results-*.json       one report of all shards
  shimbed test --repeat 10                  every run must be the same ten times
  shimbed test --update                     write golden traces anew`;

const RECORD_HELP = `
The guest runs twice: once to see which files it uses, and once from copies of these, which is what is recorded and shown.
Everything in the copies belongs to root. What changes this machine or does not come again is refused: --bind …:rw, --clock host.

Examples:
  shimbed record -o run.rec ./a.out one two
  echo input | shimbed record -o run.rec --root / python3 script.py
  shimbed replay run.rec`;

const DIFF_HELP = `
Threads are compared each with its like, in the order in which they began. The guest's input is empty. With --native, shimbed shows
the guest this machine's files, as with --root /.

Exit status: 0 when both are alike, 1 when not.

Examples:
  shimbed diff one.rec two.rec
  shimbed diff --with-provider windows-userland ./a.out
  shimbed diff --with-seed 7 ./threads
  shimbed diff --root ./glibc-2.36 --with-root ./glibc-2.41 /bin/true
  shimbed diff --native ./a.out one two
  shimbed diff --with-inject SetFsBase:offset=16 ./a.out`;

const BISECT_HELP = `
Exit status: 1 when something was found, 0 when nothing makes the run end otherwise.

Examples:
  shimbed bisect --inject SetFsBase:offset=16 --inject openat:error=ENOENT --inject @syscall:canary ./a.out
  shimbed bisect --seeds 0..999 ./threads
  shimbed bisect --seeds 0..99 --status 0 -p linux-userland --host-events storm ./threads`;

/** What adds each command of this folder. */
export const TEST_COMMANDS = [
  { name: "test", add: addTest },
  { name: "record", add: addRecord },
  { name: "replay", add: addReplay },
  { name: "diff", add: addDiff },
  { name: "bisect", add: addBisect },
  { name: "conform", add: addConform },
] as const;

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

function addRecord(program: Command, context: CommandContext): void {
  const command = program
    .command("record")
    .description(
      "run a guest and keep all that it takes to run it again anywhere: its files, input, options and trace",
    );
  const environment = addGuestOptions(command);
  addGateOptions(command);
  command
    .requiredOption("-o, --output <file>", "the recording")
    .option(
      "--input <file>",
      "what the guest reads from standard input; else what a pipe brings, and nothing from a terminal",
    )
    .addHelpText("after", RECORD_HELP)
    .action(async (guest: string, args: string[], options: Omit<RecordOptions, "environment">) => {
      const { record } = await import("./record.ts");
      context.status = await record(guest, args, { ...options, environment });
    });
}

function addReplay(program: Command, context: CommandContext): void {
  program
    .command("replay")
    .description("run a recording again, and stop where it goes another way than when it was recorded")
    .argument("<recording>", "what `shimbed record -o` wrote")
    .option("-q, --quiet", "do not pass on what the guest prints")
    .addHelpText(
      "after",
      "\nExit status: the guest's; 1 when the run goes another way, 125 for a file that is no whole recording.",
    )
    .action(async (file: string, options: { quiet?: boolean }) => {
      const { replay } = await import("./record.ts");
      context.status = await replay(file, options);
    });
}

function addDiff(program: Command, context: CommandContext): void {
  const command = program
    .command("diff")
    .description("show where two runs part: two recordings, or a guest under two providers, seeds, roots, or natively");
  const environment = addGuestOptions(command);
  addGateOptions(command);
  command
    .option("--with-provider <name>", "compare with a run under this provider")
    .addOption(new Option("--with-seed <n>", "compare with a run with this seed").argParser(parseSeed))
    .option("--with-root <dir>", "compare with a run with this root, for example another build of a libc")
    .addOption(collecting("--with-inject <rule>", "compare with a run with this fault; may be given again"))
    .option("--native", "compare with a run on this machine's own kernel, by strace")
    .addOption(
      new Option(
        "--by <what>",
        "what of a step counts: exact lines, their shape without addresses, or calls and errors",
      ).choices(["exact", "shape", "calls"]),
    )
    .addHelpText("after", DIFF_HELP)
    .action(async (first: string, rest: string[], options: Omit<DiffOptions, "environment">) => {
      const { diff } = await import("./diff.ts");
      context.status = await diff(first, rest, { ...options, environment });
    });
}

function addBisect(program: Command, context: CommandContext): void {
  const command = program
    .command("bisect")
    .description("find the fewest faults, or the smallest seed, that make a run end or print otherwise");
  const environment = addGuestOptions(command);
  addGateOptions(command);
  command
    .addOption(new Option("--seeds <from..to>", "look among these seeds").argParser(parseSeeds))
    .addOption(new Option("--status <n>", "a run is good when it ends with this status").argParser(parseStatus))
    .addHelpText("after", BISECT_HELP)
    .action(async (guest: string, args: string[], options: Omit<BisectOptions, "environment">) => {
      const { bisect } = await import("./bisect.ts");
      context.status = await bisect(guest, args, { ...options, environment });
    });
}

/** `0..99` */
function parseSeeds(text: string): { from: number; to: number } {
  const [, from = Number.NaN, to = Number.NaN] = (/^(\d+)\.\.(\d+)$/.exec(text) ?? []).map(Number);
  if (!(from <= to)) throw new InvalidArgumentError("It takes FROM..TO, for example 0..99.");
  return { from, to };
}

function parseStatus(text: string): number {
  const status = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(status <= 255)) throw new InvalidArgumentError("A status is a number from 0 to 255.");
  return status;
}

/** `2/4` */
function parseShard(text: string): { index: number; count: number } {
  const [, index = 0, count = 0] = (/^(\d+)\/(\d+)$/.exec(text) ?? []).map(Number);
  if (index < 1 || index > count) throw new InvalidArgumentError("It takes i/n with i from 1 to n, for example 2/4.");
  return { index, count };
}
