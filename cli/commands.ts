/** The command line: names, options and help. What a command does is loaded when it is asked for. */
import { Command, Option } from "commander";
import { addAudit, addMutate } from "./audit-options.ts";
import type { RunOptions } from "./explore.ts";
import {
  addGateOptions,
  addGuestOptions,
  type CommandContext,
  collecting,
  EXIT_STATUS,
  FILES,
  injectionHelp,
  ledgerOption,
} from "./guest-options.ts";
import { parseCount } from "./options.ts";
import { print } from "./output.ts";
import { addTaOptions, runIfTa, TA_HELP } from "./ta-options.ts";
import { TEST_COMMANDS } from "./testing/options.ts";
import type { TraceOptions } from "./trace.ts";

const RUN_EXAMPLES = `
Examples:
  shimbed run ./a.out one two              arguments after the guest are the guest's, whatever they look like
  shimbed run ls -l --color=never          a name without a slash is looked for in PATH
  shimbed run --root / python3 -c 'print(1)'          with this machine's files, read-only
  shimbed run --root ./rootfs /bin/sh                 inside an unpacked distribution
  shimbed run --bind ./data:/data:rw ./a.out /data/x  one directory it may change
  shimbed run -E LANG=C -E TERM ./a.out    two variables, TERM with this machine's value; nothing else is set
  shimbed run --timeout 10 --max-memory 256M ./untrusted
  shimbed run --json -o report.json ./a.out
  shimbed run -p linux-userland --as litebox --host-events storm ./a.out
  shimbed run --policy policy.json --ledger ledger.jsonl ./a.out
  shimbed run --inject SetFsBase:offset=16 ./a.out          what if the base were off by 16?
  shimbed run --explore 100 ./a.out                         does it end alike with each of 100 seeds?
  shimbed run ta.elf --commands commands.json               a trusted application`;

const TRACE_EXAMPLES = `
Expressions of -e (several -e: any of the names; a leading ! leaves out):
  tls memory file signal process thread time network system ipc   classes of calls (%file as well)
  openat,read        calls by name       /^mq_   calls by pattern       !futex   all but these
  failed             only calls that failed; also status=failed and status=successful

Examples:
  shimbed trace -e tls -P ./a.out          TLS calls, each with the token that it took
  shimbed trace -e file -e failed ./a.out  which files it did not find
  shimbed trace -c ./a.out                 how often it makes each call
  shimbed trace --json -o calls.jsonl ./a.out         one JSON object a line
  shimbed trace -e arch_prctl -P --inject arch_prctl:error=EPERM ./a.out
  shimbed trace ta.elf --commands commands.json       a trusted application and its system calls`;

/** What adds each command, in the order of the help. */
const COMMANDS: readonly {
  readonly name: string;
  readonly add: (program: Command, context: CommandContext) => void;
}[] = [
  { name: "run", add: addRun },
  { name: "trace", add: addTrace },
  { name: "doctor", add: addDoctor },
  { name: "providers", add: addProviders },
  { name: "audit", add: addAudit },
  { name: "mutate", add: addMutate },
  ...TEST_COMMANDS,
  { name: "demo", add: addDemo },
];

/**
 * Commander's program. The chosen command leaves its status in `context`. Where `words` start with a command, the others
 * are left out, whose options would take longer to describe than a short guest takes to run.
 */
export function makeProgram(version: string, context: CommandContext, words: readonly string[]): Command {
  const program = new Command("shimbed")
    .description(
      "Runs x86 and x86-64 Linux programs under the Unicorn CPU emulator, with a Linux written in TypeScript beneath them.\n" +
        "Every change of thread-local storage passes through one gate, which asks a provider for a token and records it.",
    )
    .version(version, "-V, --version", "print the version and end")
    .helpOption("-h, --help", "print this help and end")
    .option("--debug", "with an error of shimbed itself, print where it happened (also SHIMBED_DEBUG=1)")
    .enablePositionalOptions()
    .helpCommand("help [command]", "print the help of a command")
    .addHelpText(
      "after",
      `
Examples:
  shimbed run ./a.out one two
  shimbed trace -e tls -P ./a.out
  shimbed doctor

\`shimbed help run\` shows the options of run.`,
    );
  const chosen = COMMANDS.filter(({ name }) => name === words[0]);
  for (const { add } of chosen.length > 0 ? chosen : COMMANDS) add(program, context);
  return program;
}

function addDemo(program: Command, context: CommandContext): void {
  program
    .command("demo")
    .description("show what shimbed does: the shipped guests and a program of this machine, with traces and ledgers")
    .action(async () => {
      const { demo } = await import("./demo.ts");
      context.status = await demo();
    });
}

function addRun(program: Command, context: CommandContext): void {
  const command = program.command("run").description("run a guest");
  const environment = addGuestOptions(command);
  addGateOptions(command);
  addTaOptions(command);
  command
    .addOption(ledgerOption())
    .addOption(
      new Option("--explore <n>", "run with n seeds from --seed on, and report which end otherwise")
        .argParser(parseCount)
        .conflicts("ledger"),
    )
    .option("--json", "report the end of the run as one JSON object on standard error, ledger included")
    .option("-o, --output <file>", "write what shimbed reports to FILE instead of standard error")
    .addHelpText("after", `${FILES}\n${EXIT_STATUS}\n${TA_HELP}\n${injectionHelp()}\n${RUN_EXAMPLES}`)
    .action(async (guest: string, args: string[], options: Omit<RunOptions, "environment">) => {
      const status = await runIfTa(command, guest, args, false);
      if (status !== undefined) context.status = status;
      else if (options.explore !== undefined) {
        const { explore } = await import("./explore.ts");
        context.status = await explore(guest, args, { ...options, environment }, options.explore);
      } else {
        const { runGuest } = await import("./run.ts");
        context.status = await runGuest(guest, args, { ...options, environment });
      }
    });
}

function addTrace(program: Command, context: CommandContext): void {
  const command = program.command("trace").description("run a guest and print its system calls, as strace does");
  const environment = addGuestOptions(command);
  addGateOptions(command);
  addTaOptions(command);
  command
    .addOption(ledgerOption())
    .addOption(collecting("-e, --expression <what>", "print only these calls (see below); may be given again"))
    .option("-P, --punchthrough", "print under each call the tokens it took: request, provider, state before and after")
    .addOption(
      new Option("-c, --count", "print a table at the end instead: how often each call was made and failed").conflicts(
        "json",
      ),
    )
    .option("--json", "print one JSON object a line")
    .option("-o, --output <file>", "write the trace to FILE instead of standard error")
    .addHelpText("after", `${FILES}\n${EXIT_STATUS}\n${TA_HELP}\n${injectionHelp()}\n${TRACE_EXAMPLES}`)
    .action(async (guest: string, args: string[], options: Omit<TraceOptions, "environment">) => {
      const status = await runIfTa(command, guest, args, true);
      if (status !== undefined) {
        context.status = status;
        return;
      }
      const { traceGuest } = await import("./trace.ts");
      context.status = await traceGuest(guest, args, { ...options, environment });
    });
}

function addDoctor(program: Command, context: CommandContext): void {
  program
    .command("doctor")
    .description("check that every part of shimbed works here, and say what to type where one does not")
    .option("--json", "print the checks as JSON")
    .addHelpText("after", "\nExit status: 0 when everything that shimbed needs works, 1 otherwise.")
    .action(async (options: { json?: boolean }) => {
      const { doctor } = await import("./doctor.ts");
      context.status = await doctor(options);
    });
}

function addProviders(program: Command, context: CommandContext): void {
  program
    .command("providers")
    .description("list the providers that -p takes, or tell more of one")
    .argument("[name]", "a provider")
    .option("--json", "print JSON")
    .action(async (name: string | undefined, options: { json?: boolean }) => {
      const { listProviders } = await import("./providers.ts");
      context.status = listProviders(name, options);
    });
}

/** Makes commander speak as the rest of shimbed does, and end by throwing. */
export function takeOver(program: Command): void {
  const quiet = { writeOut: print, writeErr: () => {}, outputError: () => {} };
  program.exitOverride().configureOutput(quiet);
  for (const command of program.commands) takeOver(command);
}
