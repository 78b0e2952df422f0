/** `shimbed conform`: our suite of the x86 TLS ABI on providers, on this machine's own kernel, and under other systems. */
import os from "node:os";
import path from "node:path";
import { providerInfos, providerNames } from "../../providers/registry.ts";
import { print } from "../output.ts";
import { writeReports } from "./command.ts";
import type { Arch } from "./conform-arch.ts";
import { checkTemplate, commandFor, type Limits, type Outcome, runOutside, type Template } from "./conform-outside.ts";
import { type Probe, readSuite, type Suite } from "./conform-suite.ts";
import { runTaProbe } from "./conform-ta.ts";
import { markdown, putTable } from "./conform-table.ts";
import { testError } from "./execute.ts";
import type { Case } from "./manifest.ts";
import { runPool } from "./pool.ts";
import { Progress } from "./progress.ts";
import { isFailure } from "./results.ts";
import type { CaseResult } from "./run-case.ts";

export interface ConformOptions {
  /** Names, or `all`. */
  readonly provider?: readonly string[];
  readonly arch?: Arch;
  readonly native?: boolean;
  readonly with?: readonly string[];
  readonly with32?: readonly string[];
  readonly reporter?: readonly string[];
  readonly json?: boolean;
  readonly workers?: number;
  readonly list?: boolean;
  /** A file to put the table into, or standard output. */
  readonly markdown?: string | true;
  /** Seconds for a probe. */
  readonly timeout?: number;
}

/** A system and what came of each probe on it. */
export interface SystemResults {
  /** A provider, `native`, or a command. */
  readonly system: string;
  readonly kind: "provider" | "native" | "command";
  readonly results: readonly ProbeResult[];
}

interface ProbeResult {
  readonly probe: Probe;
  readonly passed: boolean;
  /** Whether it was expected to pass or fail as it did. */
  readonly result: CaseResult;
}

const FAILED_STATUS = 1;
/** The longest that a probe takes is a nap of a millisecond. */
const TIMEOUT_SECONDS = 15;

/**
 * Runs the probes whose names have one of `filters` in them.
 * @returns 0, or 1 when something came out otherwise than it is expected to
 */
export async function conform(filters: readonly string[], options: ConformOptions): Promise<number> {
  const start = performance.now();
  const suite = readSuite();
  const probes = suite.probes.filter(
    ({ name, arch }) =>
      (options.arch === undefined || arch === options.arch) &&
      (filters.length === 0 || filters.some((filter) => name.includes(filter))),
  );
  if (probes.length === 0) throw testError(`no probe has ${filters.join(" or ")} in its name`);
  if (options.list) {
    print(probes.map(({ arch, name }) => `${arch}/${name}\n`).join(""));
    return 0;
  }
  const runs = planned(suite, probes, options);
  const total = runs.reduce((sum, { count }) => sum + count, 0);
  const progress = new Progress(total, process.stderr);
  const systems: SystemResults[] = [];
  for (const { run } of runs) systems.push(await run(progress));
  progress.end();
  const cases = systems.flatMap(({ results }) => results.map(({ result }) => result));
  if (options.markdown !== undefined) {
    const table = markdown(suite, systems);
    if (options.markdown === true) print(table);
    else putTable(options.markdown, table);
  } else {
    const reporters = options.reporter ?? [options.json ? "json" : "human"];
    const results = { format: "shimbed-results", version: 1, shards: ["1/1"], cases } as const;
    writeReports(reporters, results, performance.now() - start);
  }
  return cases.some(isFailure) ? FAILED_STATUS : 0;
}

function isTaProbe({ native }: Probe): boolean {
  return native === undefined;
}

interface Planned {
  readonly count: number;
  readonly run: (progress: Progress) => Promise<SystemResults>;
}

function planned(suite: Suite, probes: readonly Probe[], options: ConformOptions): Planned[] {
  const { native = false, with: wide = [], with32 = [] } = options;
  const limits = { workers: options.workers ?? os.availableParallelism(), timeout: options.timeout ?? TIMEOUT_SECONDS };
  const only32 = with32.map((text) => ({ text, arch: "i386" }) as const);
  const templates: Template[] = [...wide.map((text) => templateOf(text, with32.length > 0)), ...only32];
  for (const template of templates) checkTemplate(template);
  const alone = native || templates.length > 0;
  const providers = providersOf(options.provider ?? (alone ? [] : ["direct"]));
  const linux = probes.filter((probe) => !isTaProbe(probe));
  const runs = providers.map((provider) => onProvider(suite, probes, provider, limits));
  if (native) runs.push(onCommands("native", "native", nativeCommands(linux), limits, suite));
  for (const template of templates) {
    const pairs = linux.flatMap((probe) => {
      const command = commandFor(template, probe);
      return command === undefined ? [] : [{ probe, command }];
    });
    runs.push(onCommands(template.text.split(/\s/)[0] ?? "", "command", pairs, limits, suite));
  }
  return runs;
}

/** A command that does not name the word size is for 64-bit guests, where another is given for 32-bit ones. */
function templateOf(text: string, other: boolean): Template {
  return { text, arch: other && !text.includes("{arch}") ? "x86_64" : undefined };
}

function providersOf(names: readonly string[]): string[] {
  const unknown = names.find((name) => name !== "all" && !providerNames.includes(name));
  if (unknown !== undefined)
    throw testError(`unknown provider "${unknown}": choose from all, ${providerNames.join(", ")}`);
  return providerNames.filter((name) => names.includes(name) || names.includes("all"));
}

function onProvider(suite: Suite, probes: readonly Probe[], provider: string, limits: Limits): Planned {
  const { abis = [], shims = [] } = providerInfos.find(({ name }) => name === provider) ?? {};
  const serves = (probe: Probe): boolean => shims.includes(isTaProbe(probe) ? "optee" : "linux");
  const own = probes.filter((probe) => abis.includes(probe.arch) && serves(probe));
  return {
    count: own.length,
    run: async (progress) => {
      const { workers, timeout } = limits;
      const cases = own.filter((probe) => !isTaProbe(probe)).map((probe) => caseOf(probe, provider, timeout));
      const raw = await runPool(cases, { workers, repeat: 1, update: false, progress: (one) => progress.add(one) });
      // Those of TAs come last.
      for (const probe of own.filter(isTaProbe)) {
        const result = await runTaProbe(probe.guest, probe.name, provider, idOf(probe, provider));
        raw.push(result);
        progress.add(result);
      }
      const results = own.map((probe, index): ProbeResult => {
        const got = raw[index];
        if (got === undefined) throw new Error(`${probe.name} has no result`);
        return { probe, passed: !isFailure(got), result: judged(got, suite.known(provider, probe)) };
      });
      return { system: provider, kind: "provider", results };
    },
  };
}

/** What is known to fail is left out of the count, and noticed when it does not fail any more. */
export function judged(got: CaseResult, known: string | undefined): CaseResult {
  if (known === undefined) return got;
  return isFailure(got)
    ? { ...got, status: "skipped", message: `known to fail: ${known}` }
    : { ...got, status: "failed", message: `it passes, but is known to fail: ${known}` };
}

/** The probe as a test of a manifest. Odd TLS is what the probes are about: all findings are allowed. */
function caseOf(probe: Probe, provider: string, timeout: number): Case {
  const { arch, name, guest, strict } = probe;
  return {
    id: idOf(probe, provider),
    directory: path.dirname(guest),
    file: path.basename(guest),
    flags: [],
    root: undefined,
    args: [name],
    env: {},
    input: "",
    timeout,
    provider,
    arch,
    seed: 0,
    inject: [],
    cpu: "x86-64-v2",
    strictSegments: strict,
    expected: { exit: 0, stdout: `ok ${name}\n`, findings: "any" },
    golden: undefined,
    skip: undefined,
  };
}

function idOf({ arch, name }: Probe, system: string): string {
  return `conform/${arch}/${name} [${system}]`;
}

interface Pair {
  readonly probe: Probe;
  readonly command: readonly [string, ...string[]];
}

function nativeCommands(probes: readonly Probe[]): Pair[] {
  if (process.platform !== "linux" || process.arch !== "x64")
    throw testError("--native needs Linux on x86-64: the guests are programs for it");
  return probes.map((probe) => ({ probe, command: [probe.guest, probe.name] }));
}

function onCommands(
  system: string,
  kind: "native" | "command",
  pairs: readonly Pair[],
  limits: Limits,
  suite: Suite,
): Planned {
  const probes = pairs.map(({ probe }) => probe);
  return {
    count: pairs.length,
    run: async (progress) => {
      const results: ProbeResult[] = [];
      const commands = pairs.map(({ command }) => command);
      await runOutside(commands, probes, limits, (index, outcome) => {
        const probe = probes[index];
        if (probe === undefined) return;
        const result = outsideResult(probe, system, outcome, kind === "native" ? suite.kernel : undefined);
        results[index] = { probe, passed: outcome.passed, result };
        progress.add(result);
      });
      return { system, kind, results };
    },
  };
}

/** @param kernel where the native results come from that this one is compared with */
function outsideResult(probe: Probe, system: string, outcome: Outcome, kernel: string | undefined): CaseResult {
  const { passed, ms, message } = outcome;
  const asRecorded = kernel !== undefined && passed === (probe.native === "ok");
  const then = kernel === undefined || asRecorded ? "" : `\non ${kernel}: ${probe.native}`;
  return {
    id: idOf(probe, system),
    status: passed || asRecorded ? "passed" : outcome.skipped === undefined ? "failed" : "skipped",
    ms,
    message: passed || asRecorded ? "" : message + then,
    digest: "",
    updated: false,
  };
}
