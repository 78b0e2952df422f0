/** The command line of `shimbed conform`. */
import { Argument, type Command, Option } from "commander";
import { type CommandContext, collecting } from "../guest-options.ts";
import { parseCount, parseSeconds } from "../options.ts";
import type { ConformOptions } from "./conform.ts";
import { arches } from "./conform-arch.ts";

const CONFORM_HELP = `
Each probe runs in a machine or process of its own and prints "ok NAME" or what it got and what it expected. What a provider's
platform is known to do otherwise counts as skipped, with the reason; when it does pass, that is a failure too.

Exit status: 0 when everything came out as expected, 1 when not.

Examples:
  shimbed conform                                   on direct
  shimbed conform -p all entries clone              groups of probes, or single ones, on every provider
  shimbed conform --native                          on this machine's own kernel, compared with the recorded results
  shimbed conform --with 'qemu-{arch} {exe}'        under another system; {exe} is the guest, its arguments go behind
  shimbed conform --with './emu64 {exe}' --with32 './emu32 {exe}'
  shimbed conform --reporter human --reporter junit=report.xml
  shimbed conform --native -p all --markdown        a table`;

export function addConform(program: Command, context: CommandContext): void {
  program
    .command("conform")
    .description("run our suite of the x86 TLS ABI on providers, natively, or under another system")
    .addArgument(new Argument("[filters...]", "only probes with one of these in their names"))
    .addOption(
      collecting("-p, --provider <name>", "a provider, or all of them; may be given again; direct if left out"),
    )
    .addOption(new Option("--arch <which>", "only guests of this word size").choices(arches))
    .option("--native", "run them on this machine's own kernel")
    .addOption(collecting("--with <command>", "run them under another system; {exe} and {arch} are filled in"))
    .addOption(collecting("--with32 <command>", "the same for 32-bit guests, where that is another command"))
    .addOption(
      collecting("--reporter <name[=file]>", "human, tap, junit or json, as with `shimbed test`; may be given again"),
    )
    .option("--json", "the same as --reporter json")
    .addOption(new Option("--workers <n>", "so many at a time; one for each core if left out").argParser(parseCount))
    .option("--list", "print the names of the probes, and run none")
    .addOption(new Option("--timeout <seconds>", "for each probe; 15 if left out").argParser(parseSeconds))
    .option(
      "--markdown [file]",
      "print a table of all that was run, or put it into FILE between <!-- conform --> and its end",
    )
    .addHelpText("after", CONFORM_HELP)
    .action(async (filters: string[], options: ConformOptions) => {
      const { conform } = await import("./conform.ts");
      context.status = await conform(filters, options);
    });
}
