/** The commands `audit` and `mutate`: names, options and help. */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { AuditOptions, SuggestOptions } from "./audit.ts";
import {
  addGateOptions,
  addGuestOptions,
  type CommandContext,
  EXIT_STATUS,
  FILES,
  injectionHelp,
} from "./guest-options.ts";
import type { MutateOptions } from "./mutate.ts";
import { addTaOptions, taNamed } from "./ta-options.ts";

const AUDIT_HELP = `
Prints a table of what each guest thread asked for, then the findings: tokens dropped, stale, reused or used on the wrong
thread, bases outside any mapping, TLS that changed without a token, broken self-pointers and canaries, and more. A ledger's
file holds tokens only, so that fewer kinds of findings can be told from it than from a run. A recording (of shimbed record) is
run again, with its own provider, seed and faults; several are looked at one after the other. The status is that of the guest
(0 for a ledger), and 1 with --strict where something was found.

Examples:
  shimbed audit ./a.out
  shimbed audit --strict -p linux-userland --host-events storm ./a.out
  shimbed audit --perfetto tls.json ./a.out          then open tls.json at https://ui.perfetto.dev
  shimbed run --ledger tls.jsonl ./a.out; shimbed audit --ledger tls.jsonl
  shimbed record -o a.rec ./a.out; shimbed audit a.rec
  shimbed audit -p lvbs ta.elf --commands commands.json
  shimbed audit verify tls.jsonl
  shimbed audit suggest ./a.out > policy.json`;

const VERIFY_HELP = `
Exit status: 0 when every line is as it was written, 1 when not. A file without an end is that of a run that was killed; what
it holds counts as right, and a line says so.`;

const SUGGEST_HELP = `
The guest's own output goes to standard error, so that the policy can be redirected.

Examples:
  shimbed audit suggest ./a.out > policy.json
  shimbed audit suggest --ledger tls.jsonl -o policy.json
  shimbed run --policy policy.json ./a.out`;

const MUTATE_HELP = `
The guest runs once as it is, and then once for each fault that can strike it, with its output kept back and its input empty.
A fault is noticed when the guest ends or prints otherwise (a trusted application: answers a command otherwise), or an audit finds something. What cannot be noticed by anybody on
this provider is listed as equivalent and does not count. --timeout and --max-blocks are those of one run; without them a run
may take twenty times what the first took, and at least 5 seconds.

Exit status: 0, or 1 when the score is below --at-least.

A directory, or a manifest (see shimbed help test), stands for all its tests: a fault is noticed when a test does not pass.

Examples:
  shimbed mutate ./tls-test
  shimbed mutate ./tests
  shimbed mutate -p linux-userland --at-least 95 ./tls-test
  shimbed mutate -p lvbs ta.elf --commands commands.json`;

export function addAudit(program: Command, context: CommandContext): void {
  const command = program
    .command("audit")
    .description("run a guest, or read a ledger, and tell what is wrong with its thread-local storage")
    .enablePositionalOptions()
    .helpCommand(false);
  const environment = addGuestOptions(command, false);
  addGateOptions(command);
  addTaOptions(command);
  command
    .addOption(ledgerToRead())
    .option("--strict", "end with status 1 when there are findings")
    .option(
      "--perfetto <file>",
      "write a trace that ui.perfetto.dev opens: threads as tracks, tokens and findings as events",
    )
    .option("--json", "print one JSON object")
    .option("-o, --output <file>", "write the report to FILE instead of standard error")
    .addHelpText("after", `${FILES}\n${EXIT_STATUS}\n${AUDIT_HELP}`)
    .action(async (guest: string | undefined, args: string[], options: Omit<AuditOptions, "environment">) => {
      const ta = guest === undefined ? undefined : await taNamed(command, guest, args);
      const { audit } = await import("./audit.ts");
      // Options may stand after an application.
      const all = ta === undefined ? options : command.opts<Omit<AuditOptions, "environment">>();
      context.status = await audit(guest, args, { ...all, environment }, ta);
    });
  command
    .command("verify")
    .description("find every record of a ledger that was changed, dropped, added or moved")
    .argument("<file>", "what `shimbed run --ledger FILE` wrote")
    .option("--json", "print one JSON object")
    .addHelpText("after", VERIFY_HELP)
    .action(async (file: string, options: { json?: boolean }) => {
      const { verify } = await import("./audit.ts");
      context.status = verify(file, options);
    });
  addSuggest(command, context);
}

function addSuggest(audit: Command, context: CommandContext): void {
  const command = audit.command("suggest").description("write the smallest policy that allows what a run did");
  const environment = addGuestOptions(command, false);
  command
    .addOption(ledgerToRead())
    .option("-o, --output <file>", "write the policy to FILE instead of standard output")
    .addHelpText("after", SUGGEST_HELP)
    .action(async (guest: string | undefined, args: string[], options: Omit<SuggestOptions, "environment">) => {
      const { suggest } = await import("./audit.ts");
      context.status = await suggest(guest, args, { ...options, environment });
    });
}

export function addMutate(program: Command, context: CommandContext): void {
  const command = program
    .command("mutate")
    .description("inject every fault into a guest in turn, and score how many are noticed");
  const environment = addGuestOptions(command);
  addTaOptions(command);
  command
    .addOption(new Option("--at-least <percent>", "end with status 1 when fewer are noticed").argParser(parsePercent))
    .option("--json", "print one JSON object")
    .option("-o, --output <file>", "write the report to FILE instead of standard output")
    .addHelpText("after", `${MUTATE_HELP}\n${injectionHelp()}`)
    .action(async (guest: string, args: string[], options: Omit<MutateOptions, "environment">) => {
      const ta = await taNamed(command, guest, args);
      const { mutate } = await import("./mutate.ts");
      if (ta === undefined) context.status = await mutate(guest, args, { ...options, environment });
      else {
        const all = command.opts<Omit<MutateOptions, "environment">>();
        context.status = await mutate(guest, [], { ...all, environment }, ta);
      }
    });
}

function ledgerToRead(): Option {
  return new Option("--ledger <file>", "read the ledger that a run wrote, instead of running a guest");
}

function parsePercent(text: string): number {
  const percent = /^\d{1,3}(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (!(percent <= 100)) throw new InvalidArgumentError("It takes a percentage from 0 to 100.");
  return percent;
}
