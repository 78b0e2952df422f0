/**
 * `shimbed/test`: vitest's `test` and `expect` with guests in them. Each run has a machine of its own, nothing of the host but
 * the guest's files, and a trace, a ledger and an audit that the matchers read.
 */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { test as base, expect } from "vitest";
import type { FindingKind } from "../../providers/findings.ts";
import { parseInjectRule } from "../../providers/inject-rule.ts";
import { TEE_ERRORS } from "../ta.ts";
import {
  checkBase,
  checkCalled,
  checkEntry,
  checkExit,
  checkFailed,
  checkFindings,
  checkGolden,
  checkKilled,
  checkOutput,
  checkPunched,
  checkTrace,
  type ExpectedCall,
  type ExpectedEntry,
  type ExpectedTokens,
} from "./checks.ts";
import { testError } from "./execute.ts";
import { GuestFiles } from "./guest-files.ts";
import { LinuxBed } from "./linux-bed.ts";
import { Observed } from "./observed.ts";
import { TaBed, TaTestSession } from "./ta-bed.ts";
import type { Statement } from "./timeline.ts";
import { explain, type Verdict } from "./verdict.ts";

export type { FindingKind } from "../../providers/findings.ts";
export type { ExpectedCall, ExpectedEntry, ExpectedTokens } from "./checks.ts";
export type { RunOptions } from "./execute.ts";
export { cCompiler, type Guest } from "./guest-files.ts";
export type { LinuxBed } from "./linux-bed.ts";
export type { Observed } from "./observed.ts";
export type { CaseInput, Prepared } from "./prepared.ts";
export type { TaBed, TaTestSession } from "./ta-bed.ts";
export { firstUseOf, thread } from "./timeline.ts";
export { expect };

/**
 * vitest's `test` with more to ask for: `provider` and `seed` (change them with `test.override`), `linux` and `linux32`, which run
 * guests, `ta`, which opens sessions to trusted applications, and `inject`, which adds a fault to the runs that follow in the test.
 */
export const test = base
  .extend("provider", (): string => "direct")
  .extend("seed", (): number => 0)
  .extend("guestFiles", { scope: "worker" }, () => new GuestFiles())
  .extend("injections", (): string[] => [])
  .extend("inject", ({ injections }) => (rule: string): void => {
    checkRule(rule);
    injections.push(rule);
  })
  .extend(
    "linux",
    ({ guestFiles, provider, seed, injections }) => new LinuxBed(guestFiles, 64, { provider, seed }, injections),
  )
  .extend(
    "linux32",
    ({ guestFiles, provider, seed, injections }) => new LinuxBed(guestFiles, 32, { provider, seed }, injections),
  )
  .extend("ta", ({ provider, seed, injections }, { onCleanup }) => {
    const bed = new TaBed({ provider, seed }, injections);
    onCleanup(() => bed.close());
    return bed;
  });

/** Errors of system calls are an errno for `linux`, and a result of the TEE for `ta`. @throws UserError for a rule that is neither */
function checkRule(rule: string): void {
  try {
    parseInjectRule(rule, TEE_ERRORS);
  } catch {
    parseInjectRule(rule);
  }
}

/** What the matchers say of a run (`await linux.run(…)`). Each failure shows the trace near the point and the ledger. */
interface GuestMatchers {
  /** The first process exits with this code. */
  toExit(code: number): void;
  /** A signal kills the first process: `"SIGSEGV"`. */
  toBeKilledBy(signal: string): void;
  /** All of standard output (or error) as a string, or a pattern within it. */
  toPrint(text: string | RegExp, stream?: "stdout" | "stderr"): void;
  /** The last FS base that was seen of a thread, the first if left out. */
  toHaveFsBase(base: number | bigint, thread?: number): void;
  /** The last GS base that was seen of a thread, the first if left out. */
  toHaveGsBase(base: number | bigint, thread?: number): void;
  /** The last descriptor in a TLS entry, in the terms of `struct user_desc`; what is left out may be anything. */
  toHaveTlsEntry(entry: number, desc: ExpectedEntry, thread?: number): void;
  toHaveCalled(name: string, call?: ExpectedCall): void;
  /** A call failed, with this error (`"EPERM"`) where one is given. */
  toHaveFailed(name: string, error?: string, call?: ExpectedCall): void;
  /** Tokens that were asked for: a kind, kinds in order (`"..."` skips), or how many of each. */
  toHavePunched(tokens: ExpectedTokens, thread?: number): void;
  /** The audit found nothing wrong, but for the kinds given. */
  toHaveNoFindings(allowed?: readonly FindingKind[]): void;
  /** The whole trace against a pattern: lines in order, `...` skips, `<name>` is the same wherever it stands. */
  toTraceLike(pattern: string): void;
  /** The whole trace with its tokens against a file, beside the test's own if left out; `vitest -u` rewrites it. */
  toMatchGoldenTrace(file?: string): Promise<void>;
  /** A statement about the order of things: `thread(1).calls("openat").before(firstUseOf("fs"))`. */
  toHappen(statement: Statement): void;
}

declare module "vitest" {
  // `T` as vitest declares it: the two must have the same parameters.
  interface Matchers<T> extends GuestMatchers {}
}

interface MatcherResult {
  readonly pass: boolean;
  readonly message: () => string;
}

function judge(received: unknown, check: (run: Observed) => Verdict): MatcherResult {
  const run = observed(received);
  if (run === undefined) throw testError("this matcher takes what `await linux.run(…)` or `await ta.open(…)` gives");
  const verdict = check(run);
  return { pass: verdict.pass, message: () => explain(run, verdict) };
}

/** A run, or what has come of a session until now. */
function observed(received: unknown): Observed | undefined {
  if (received instanceof TaTestSession) return received.observed();
  return received instanceof Observed ? received : undefined;
}

expect.extend({
  toExit: (run: unknown, code: number) => judge(run, (it) => checkExit(it, code)),
  toBeKilledBy: (run: unknown, signal: string) => judge(run, (it) => checkKilled(it, signal)),
  toPrint: (run: unknown, text: string | RegExp, stream?: "stdout" | "stderr") =>
    judge(run, (it) => checkOutput(it, text, stream)),
  toHaveFsBase: (run: unknown, address: number | bigint, of?: number) =>
    judge(run, (it) => checkBase(it, "fs", address, of)),
  toHaveGsBase: (run: unknown, address: number | bigint, of?: number) =>
    judge(run, (it) => checkBase(it, "gs", address, of)),
  toHaveTlsEntry: (run: unknown, entry: number, desc: ExpectedEntry, of?: number) =>
    judge(run, (it) => checkEntry(it, entry, desc, of)),
  toHaveCalled: (run: unknown, name: string, call?: ExpectedCall) => judge(run, (it) => checkCalled(it, name, call)),
  toHaveFailed: (run: unknown, name: string, error?: string, call?: ExpectedCall) =>
    judge(run, (it) => checkFailed(it, name, error, call)),
  toHavePunched: (run: unknown, tokens: ExpectedTokens, of?: number) =>
    judge(run, (it) => checkPunched(it, tokens, of)),
  toHaveNoFindings: (run: unknown, allowed?: readonly FindingKind[]) => judge(run, (it) => checkFindings(it, allowed)),
  toTraceLike: (run: unknown, pattern: string) => judge(run, (it) => checkTrace(it, pattern)),
  toHappen: (run: unknown, statement: Statement) => judge(run, (it) => statement.check(it)),

  async toMatchGoldenTrace(received: unknown, file?: string): Promise<MatcherResult> {
    const run = observed(received);
    if (run === undefined) return judge(received, () => ({ pass: false, headline: "" }));
    const golden = goldenPath(this.testPath, this.currentTestName, file);
    const text = run.trace(true);
    try {
      // vitest's own rules decide what is written: a new file but not in CI, any with -u.
      await expect(text).toMatchFileSnapshot(golden);
    } catch (error) {
      const kept = readGolden(golden);
      if (kept === undefined) throw error;
      return judge(run, (it) => checkGolden(it, kept));
    }
    return { pass: true, message: () => `expected another trace than ${golden}` };
  },
});

function goldenPath(testFile: string | undefined, testName: string | undefined, file: string | undefined): string {
  const folder = path.dirname(testFile ?? ".");
  if (file !== undefined) return path.resolve(folder, file);
  const name = (testName ?? "trace").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "");
  return path.join(folder, "__golden__", path.basename(testFile ?? "test"), `${name}.trace`);
}

function readGolden(file: string): string | undefined {
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}
