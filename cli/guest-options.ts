/** What every command takes that runs a guest, and what their helps share. */
import { Argument, type Command, Option } from "commander";
import { processors } from "../emulator/machine.ts";
import { injectHelp } from "../providers/inject-rule.ts";
import type { Bind } from "../shims/linux/vfs/root.ts";
import {
  type EnvironmentChange,
  parseBind,
  parseCount,
  parseGuestPath,
  parseSeconds,
  parseSeed,
  parseSize,
  parseUnset,
  parseUser,
  parseVariable,
} from "./options.ts";

export const EXIT_STATUS = `
Exit status:
  the guest's own, or 128+n when signal n ended it
  124  out of time (--timeout) or blocks (--max-blocks), or every thread waits for ever
  125  shimbed itself failed or was asked wrongly
  126  the guest is there but is no program that shimbed runs
  127  there is no such guest
  130  ended by Ctrl-C (143 by SIGTERM)`;

export const FILES = `
Files:
  Without --root the guest sees nothing of this machine but its own program and the dynamic linker and libraries that it
  names, read-only, each under its own path. What it writes stays in memory. --root DIR shows DIR as / (still nothing is
  written there), --bind HOST:GUEST adds a file or directory, and only :rw lets the guest change it.`;

/** What is known of the whole command line before a command starts. */
export interface CommandContext {
  /** The exit status of the command that ran. */
  status: number;
}

/** Adds the guest and what every command takes that runs one; the list returned fills with `-E` and `-U` in their order. */
export function addGuestOptions(command: Command, needsGuest = true): readonly EnvironmentChange[] {
  const environment: EnvironmentChange[] = [];
  const change = (flags: string, text: string, parse: (text: string) => EnvironmentChange): Option =>
    new Option(flags, text).argParser((value: string) => {
      environment.push(parse(value));
      return true;
    });
  const asMemory = new Option("--max-memory <size>", "let the guest map at most this much, for example 512M");
  command
    .passThroughOptions()
    .addArgument(
      new Argument(needsGuest ? "<guest>" : "[guest]", "the program: a path, or a name that is looked for in PATH"),
    )
    .addArgument(new Argument("[args...]", "its arguments, passed on untouched"))
    .option("-p, --provider <name>", "who grants changes of thread-local storage (see `shimbed providers`)", "direct")
    .option("-L, --root <dir>", "show DIR as the guest's /; a guest that lies there is started from there")
    .addOption(
      new Option(
        "--bind <host:guest[:rw]>",
        "show a file or directory at GUEST; :rw lets the guest change it",
      ).argParser((text: string, before: readonly Bind[] = []) => [...before, parseBind(text)]),
    )
    .addOption(change("-E, --env <name[=value]>", "set a variable, or pass on this machine's value", parseVariable))
    .addOption(change("-U, --unset-env <name>", "leave a variable out again, after --host-env", parseUnset))
    .option("--host-env", "start from this machine's environment instead of an empty one")
    .option("--argv0 <name>", "what the guest finds as its own name")
    .addOption(new Option("--cwd <dir>", "start in this directory of the guest").argParser(parseGuestPath))
    .addOption(new Option("--user <uid[:gid]>", "run as this user; your own ids if left out").argParser(parseUser))
    .addOption(
      new Option("--seed <n>", "choose addresses, random bytes and thread turns; the same seed gives the same run")
        .default(0)
        .argParser(parseSeed),
    )
    .addOption(
      new Option("--clock <which>", "virtual time, which skips sleeps and repeats exactly, or the host's")
        .choices(["virtual", "host"])
        .default("virtual"),
    )
    .addOption(
      new Option("--net <which>", "a loopback of the run's own and nothing else, or the host's network")
        .choices(["none", "host"])
        .default("none"),
    )
    .addOption(new Option("--timeout <seconds>", "end the run after this much real time").argParser(parseSeconds))
    .addOption(new Option("--max-blocks <n>", "end the run after so many basic blocks").argParser(parseCount))
    .addOption(asMemory.argParser(parseSize))
    .addOption(
      new Option(
        "--cpu <model>",
        "the processor that the guest sees; x86-64-v3 has AVX2 and is slower (x86-64-v2)",
      ).choices(processors),
    )
    .option("--strict-segments", "enforce segment limits and read-only data segments, as hardware does");
  return environment;
}

/** Adds what may stand around the provider. */
export function addGateOptions(command: Command): void {
  command
    .option("--policy <file>", "allow, deny or answer requests by the rules of a JSON file")
    .option("--policy-dry-run", "allow everything, and say at the end what the policy would have denied")
    .addOption(collecting("--inject <rule>", "inject a fault, TARGET:FAULT[:when=N]; may be given again"))
    .addOption(
      new Option("--host-events <how>", "what the host does of its own at moments that the seed decides")
        .choices(["none", "some", "storm"])
        .default("none"),
    )
    .addOption(new Option("--as <whom>", "answer as LiteBox does where that differs from Linux").choices(["litebox"]));
}

/** The file that the ledger of a run goes to. */
export function ledgerOption(): Option {
  return new Option("--ledger <file>", "write each token to FILE, as JSON lines that `shimbed audit verify` can check");
}

/** What `--inject` takes. */
export function injectionHelp(): string {
  const [form = "", ...lines] = injectHelp();
  return `\nRules of --inject, ${form}:\n${lines.map((line) => `  ${line}`).join("\n")}`;
}

/** An option whose values make a list. */
export function collecting(flags: string, text: string): Option {
  return new Option(flags, text).argParser((value: string, before: readonly string[] = []) => [...before, value]);
}
