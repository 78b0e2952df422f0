/** One case of a manifest: run, and compared with what is expected. */
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { AssemblyError } from "../../emulator/assembler-source.ts";
import { UserError } from "../../emulator/errors.ts";
import { Interrupts } from "../../emulator/interrupts.ts";
import { checkExit, checkFindings, checkGolden, checkKilled, checkOutput, checkPunched, checkTrace } from "./checks.ts";
import { execute, testError } from "./execute.ts";
import type { Guest, GuestFiles } from "./guest-files.ts";
import type { Case, Expectation } from "./manifest.ts";
import type { Observed } from "./observed.ts";
import { explain, type Verdict } from "./verdict.ts";

/** `error`: it could not be run at all. `hung`: it had to be killed with its worker. */
export type CaseStatus = "passed" | "failed" | "error" | "hung" | "skipped";

/** What became of a case; plain data. */
export interface CaseResult {
  readonly id: string;
  readonly status: CaseStatus;
  /** Wall clock. */
  readonly ms: number;
  /** Why it did not pass, or was skipped; empty for one that passed. */
  readonly message: string;
  /** Of all that a run gives (see `Observed`); empty where there was none. */
  readonly digest: string;
  /** The golden trace was written anew. */
  readonly updated: boolean;
}

export interface CaseOptions {
  /** Write golden traces instead of comparing. */
  readonly update: boolean;
  /** How often to run it; all runs must have the same digest. */
  readonly repeat: number;
}

/** What one run of a case came to, with faults beside its own. */
export interface CaseTrial {
  readonly run: Observed;
  /** Headlines of what was not as expected. */
  readonly failures: readonly string[];
  /** How often each target of faults came up. */
  readonly targets: ReadonlyMap<string, number>;
}

/** Runs a case once, with more faults. @throws UserError or AssemblyError when it cannot be run */
export async function tryCase(one: Case, files: GuestFiles, inject: readonly string[]): Promise<CaseTrial> {
  const targets = new Map<string, number>();
  const run = await runOnce({ ...one, inject: [...one.inject, ...inject] }, files, targets);
  const failures = verdicts(one, run).filter(({ pass }) => !pass);
  return { run, failures: failures.map(({ headline }) => headline), targets };
}

/** Runs a case in this process. Never throws for what is wrong with the case. */
export async function runCase(one: Case, files: GuestFiles, options: CaseOptions): Promise<CaseResult> {
  const start = performance.now();
  const { id } = one;
  const result = (status: CaseStatus, message = "", digest = "", updated = false): CaseResult => ({
    id,
    status,
    ms: performance.now() - start,
    message,
    digest,
    updated,
  });
  if (one.skip !== undefined) return result("skipped", one.skip);
  try {
    const run = await runOnce(one, files);
    for (let again = 1; again < options.repeat; again++) {
      const other = await runOnce(one, files);
      if (other.digest !== run.digest) return result("failed", unlike(run, other), run.digest);
    }
    const updated = options.update && updateGolden(one, run);
    const failures = verdicts(one, run).filter(({ pass }) => !pass);
    if (failures.length === 0) return result("passed", "", run.digest, updated);
    return result("failed", failureText(run, failures), run.digest, updated);
  } catch (error) {
    if (error instanceof UserError || error instanceof AssemblyError) return result("error", error.message);
    throw error;
  }
}

async function runOnce(one: Case, files: GuestFiles, targets?: Map<string, number>): Promise<Observed> {
  const guest = await guestOf(one, files);
  const interrupts = new Interrupts();
  interrupts.alarmIn(one.timeout * 1000);
  try {
    return await execute(
      {
        file: guest.file,
        ...(one.root === undefined ? { at: guest.at } : { root: path.resolve(one.directory, one.root) }),
        args: one.args,
        env: one.env,
        input: one.input,
        timeout: one.timeout,
        provider: one.provider,
        seed: one.seed,
        inject: one.inject,
        cpu: one.cpu,
        strictSegments: one.strictSegments,
      },
      interrupts,
      targets,
    );
  } finally {
    interrupts.close();
  }
}

async function guestOf(one: Case, files: GuestFiles): Promise<Guest> {
  const { file, arch, flags } = one;
  const bits = arch === "i386" ? 32 : 64;
  if (one.root !== undefined) return { file, at: file };
  const absolute = path.resolve(one.directory, file);
  if (statSync(absolute, { throwIfNoEntry: false })?.isFile() !== true)
    throw testError(`there is no guest ${absolute}`);
  if (file.endsWith(".s")) return files.asm(readFileSync(absolute, "utf8"), bits);
  if (file.endsWith(".c")) return files.c(readFileSync(absolute, "utf8"), bits, flags);
  return { file: absolute, at: `/${path.basename(file)}` };
}

function verdicts(one: Case, run: Observed): Verdict[] {
  const { exit, signal, stdout, stderr, tokens, trace, findings }: Expectation = one.expected;
  const list: Verdict[] = [];
  if (exit !== undefined) list.push(checkExit(run, exit));
  if (signal !== undefined) list.push(checkKilled(run, signal));
  if (stdout !== undefined) list.push(checkOutput(run, wantedText(stdout)));
  if (stderr !== undefined) list.push(checkOutput(run, wantedText(stderr), "stderr"));
  if (tokens !== undefined) list.push(checkPunched(run, tokens));
  if (trace !== undefined) list.push(checkTrace(run, trace.join("\n")));
  if (findings !== "any") list.push(checkFindings(run, findings));
  if (one.golden !== undefined) {
    const golden = readGolden(one.golden);
    list.push(
      golden === undefined
        ? { pass: false, headline: `there is no golden trace ${one.golden}; --update writes it` }
        : checkGolden(run, golden),
    );
  }
  return list;
}

function wantedText(text: string | { readonly match: string }): string | RegExp {
  return typeof text === "string" ? text : new RegExp(text.match);
}

function readGolden(file: string): string | undefined {
  return statSync(file, { throwIfNoEntry: false }) === undefined ? undefined : readFileSync(file, "utf8");
}

function updateGolden(one: Case, run: Observed): boolean {
  const { golden } = one;
  const text = run.trace(true);
  if (golden === undefined || readGolden(golden) === text) return false;
  mkdirSync(path.dirname(golden), { recursive: true });
  writeFileSync(golden, text);
  return true;
}

/** Every failed check, and one excerpt that shows the point of the first. */
function failureText(run: Observed, failures: readonly Verdict[]): string {
  const [first, ...others] = failures;
  if (first === undefined) return "";
  const more = others.flatMap(({ headline, details = [] }) => [headline, ...details.map((line) => `  ${line}`)]);
  return explain(run, { ...first, details: [...(first.details ?? []), ...more.map((line) => `also ${line}`)] });
}

function unlike(first: Observed, second: Observed): string {
  const at = first.lines.findIndex(({ text }, index) => text !== second.lines[index]?.text);
  const verdict: Verdict =
    at < 0
      ? { pass: false, headline: "two runs with the same inputs differ in what they print, or in how they end" }
      : {
          pass: false,
          headline: `two runs with the same inputs differ from trace line ${at + 1} on`,
          details: [`first:  ${first.lines[at]?.text}`, `second: ${second.lines[at]?.text ?? "(the end)"}`],
          focus: first.lines[at]?.event,
        };
  return explain(first, verdict);
}
