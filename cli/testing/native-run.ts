/** A guest on this machine's own kernel, seen through strace. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import type { World } from "./compare.ts";
import { testError } from "./execute.ts";
import type { Step, StepTls } from "./steps.ts";

export interface NativeRun {
  /** Absolute. */
  readonly program: string;
  readonly argv0: string;
  readonly args: readonly string[];
  /** `NAME=value` each. */
  readonly envp: readonly string[];
  readonly input: Uint8Array;
  /** Milliseconds of real time. */
  readonly timeout: number;
}

const NO_TLS: StepTls = { fsBase: "0x0", gsBase: "0x0", fs: "0x0", gs: "0x0" };
/** So that the kernel places things as often as possible where it did the last time. */
const SAME_PLACES = ["setarch", "-R"];

/**
 * Runs a guest natively.
 * @throws UserError where that cannot be
 */
export function runNatively(run: NativeRun): World {
  if (process.platform !== "linux" || process.arch !== "x64")
    throw testError("--native needs Linux on x86-64, which runs such guests itself");
  const strace = inPath("strace") ?? missing("strace");
  const places = inPath("setarch") === undefined ? [] : SAME_PLACES;
  const folder = mkdtempSync(path.join(os.tmpdir(), "shimbed-strace-"));
  try {
    const output = path.join(folder, "trace");
    const env = Object.fromEntries(
      run.envp.map((one) => [one.slice(0, one.indexOf("=")), one.slice(one.indexOf("=") + 1)]),
    );
    const variables = Object.entries(env).flatMap(([name, value]) => ["-E", `${name}=${value}`]);
    const unset = Object.keys(process.env)
      .filter((name) => !(name in env))
      .flatMap((name) => ["-E", name]);
    const words = [
      "-f",
      "-a",
      "1",
      "-o",
      output,
      ...unset,
      ...variables,
      "--argv0",
      run.argv0,
      run.program,
      ...run.args,
    ];
    const input = path.join(folder, "input");
    writeFileSync(input, run.input);
    const all = [...places, strace, ...straceWords(strace, words)];
    // A pipe, as with shimbed: Node gives its children sockets, which a shell takes for a remote login.
    const done = spawnSync("/bin/sh", ["-c", 'cat "$0" | "$@"', input, ...all], {
      timeout: run.timeout,
      killSignal: "SIGKILL",
      maxBuffer: 2 ** 28,
    });
    if (!existsSync(output)) throw testError(`strace could not run the guest: ${done.stderr.toString("utf8").trim()}`);
    const status = done.signal === null ? (done.status ?? undefined) : 128 + os.constants.signals[done.signal];
    return { name: "native", steps: parseStrace(readFileSync(output, "latin1")), status };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Not every strace knows --argv0; then the guest's name is its path. */
function straceWords(strace: string, words: readonly string[]): string[] {
  const help = spawnSync(strace, ["--help"], { encoding: "utf8" }).stdout;
  if (help.includes("--argv0")) return [...words];
  const at = words.indexOf("--argv0");
  return [...words.slice(0, at), ...words.slice(at + 2)];
}

function inPath(name: string): string | undefined {
  const places = (process.env.PATH ?? "").split(":");
  return places.map((place) => path.join(place, name)).find((file) => existsSync(file));
}

function missing(name: string): never {
  throw testError(`--native needs ${name}, which is not in PATH: install it`);
}

/**
 * Steps from what `strace -f` wrote. The execve that strace itself makes is left out, and so are lines of calls that wait: they
 * are told of when they have ended.
 */
export function parseStrace(text: string): Step[] {
  const threads = new Map<string, number>();
  const waiting = new Map<string, string>();
  const tls = new Map<string, StepTls>();
  const number = (pid: string): number => {
    const known = threads.get(pid) ?? threads.size + 1;
    threads.set(pid, known);
    return known;
  };
  const steps: Step[] = [];
  for (const line of text.split("\n")) {
    const [, pid, rest] = /^(\d+) +(.*)$/.exec(line) ?? [];
    if (pid === undefined || rest === undefined) continue;
    const first = threads.size === 0;
    const thread = number(pid);
    const begun = /^(.*?)\s*<unfinished \.\.\.>$/.exec(rest)?.[1];
    if (begun !== undefined) {
      waiting.set(pid, begun);
      continue;
    }
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest)?.[1];
    const whole = resumed === undefined ? rest : (waiting.get(pid) ?? "") + resumed;
    waiting.delete(pid);
    if (first && whole.startsWith("execve(")) continue;
    const step = stepOf(thread, whole);
    const before = tls.get(pid) ?? NO_TLS;
    const after = tlsAfter(whole, before);
    tls.set(pid, after);
    const [, child] = /^(?:clone|clone3|fork|vfork)\(.*\) += (\d+)$/.exec(whole) ?? [];
    if (child !== undefined) {
      number(child);
      tls.set(child, { ...before, fsBase: /\btls=(0x[0-9a-f]+)/.exec(whole)?.[1] ?? before.fsBase });
    }
    const changed = after !== before || steps.every((other) => other.thread !== thread);
    steps.push(changed ? { ...step, tls: after } : step);
  }
  return steps;
}

function stepOf(thread: number, text: string): Step {
  if (text.startsWith("+++")) return { thread, text, name: "end", outcome: "" };
  if (text.startsWith("---")) return { thread, text, name: "signal", outcome: "" };
  const name = /^(\w+)\(/.exec(text)?.[1] ?? "?";
  const result = /\) += (\S+)(?: (E[A-Z0-9]+))?/.exec(text);
  const error = result?.[2];
  return { thread, text, name, outcome: error ?? (result === null || result[1] === "?" ? "?" : "ok") };
}

/** What calls make of FS and GS; what the guest does by instructions of its own, strace does not see. */
function tlsAfter(text: string, before: StepTls): StepTls {
  const [, which, base] = /^arch_prctl\(ARCH_SET_(FS|GS), (0x[0-9a-f]+)\) += 0$/.exec(text) ?? [];
  if (base !== undefined) return which === "FS" ? { ...before, fsBase: base } : { ...before, gsBase: base };
  return /^execve\(.*\) += 0$/.test(text) ? NO_TLS : before;
}
