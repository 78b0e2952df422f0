/** Probes under other systems: this machine's own kernel, or any command that runs a program. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import os from "node:os";
import { type Arch, arches } from "./conform-arch.ts";
import type { Probe } from "./conform-suite.ts";
import { testError } from "./execute.ts";

/** A command with `{exe}` in it, and maybe `{arch}`; the probe's name goes behind it. */
export interface Template {
  readonly text: string;
  readonly arch: Arch | undefined;
}

/** What became of one probe. */
export interface Outcome {
  readonly passed: boolean;
  /** Why there was nothing to see, where it says so. */
  readonly skipped?: string;
  /** What it printed, or how it ended; empty for one that passed. */
  readonly message: string;
  readonly ms: number;
}

export interface Limits {
  /** Probes at a time. */
  readonly workers: number;
  /** Seconds for one. */
  readonly timeout: number;
}

const SHOWN = 300;

/** @throws UserError for one without `{exe}`, or whose program is not there */
export function checkTemplate({ text, arch }: Template): void {
  if (!text.includes("{exe}"))
    throw testError(`the command "${text}" does not say where the guest goes: write {exe}, as in 'qemu-{arch} {exe}'`);
  const [first = ""] = text.trim().split(/\s+/);
  for (const one of arch === undefined ? arches : [arch]) {
    const program = first.replaceAll("{arch}", one);
    const places = program.includes("/") ? [""] : (process.env.PATH ?? "").split(":").map((place) => `${place}/`);
    if (!program.includes("{exe}") && !places.some((place) => existsSync(place + program)))
      throw testError(`there is no program ${program}`);
  }
}

/** The template's words for a probe, or undefined where it is for the other word size. */
export function commandFor(template: Template, probe: Probe): [string, ...string[]] | undefined {
  if (template.arch !== undefined && template.arch !== probe.arch) return undefined;
  const [first = "", ...words] = template.text
    .trim()
    .split(/\s+/)
    .map((word) => word.replaceAll("{exe}", probe.guest).replaceAll("{arch}", probe.arch));
  return [first, ...words, probe.name];
}

/** Runs commands, so many at a time, and gives what became of each in their order. */
export async function runOutside(
  commands: readonly (readonly [string, ...string[]])[],
  probes: readonly Probe[],
  { workers, timeout }: Limits,
  done: (index: number, outcome: Outcome) => void,
): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let index = next++; index < commands.length; index = next++) {
      const [command, probe] = [commands[index], probes[index]];
      if (command !== undefined && probe !== undefined) done(index, await runOne(command, probe, timeout));
    }
  };
  await Promise.all(Array.from({ length: Math.min(workers, commands.length) }, lane));
}

async function runOne(
  [program, ...words]: readonly [string, ...string[]],
  { name }: Probe,
  seconds: number,
): Promise<Outcome> {
  const start = performance.now();
  // Its own process group, so that what it left behind can be ended; no core files from guests that are meant to die.
  const child = spawn("/bin/sh", ["-c", 'ulimit -c 0; exec "$@"', "sh", program, ...words], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env.PATH },
    detached: true,
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("latin1").on("data", (text: string) => (output.stdout += text));
  child.stderr.setEncoding("latin1").on("data", (text: string) => (output.stderr += text));
  let hung = false;
  const timer = setTimeout(() => {
    hung = true;
    endGroup(child);
  }, seconds * 1000);
  const end = await new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.once("error", (error) => reject(testError(`cannot run ${program}: ${error.message}`)));
    // What a guest left running would keep the pipes open.
    child.once("exit", () => endGroup(child));
    child.once("close", (code, signal) => resolve({ code, signal }));
  }).finally(() => clearTimeout(timer));
  const ms = performance.now() - start;
  if (!hung && end.code === 0 && output.stdout === `ok ${name}\n`) return { passed: true, message: "", ms };
  const ending = hung ? "it hung" : end.signal === null ? `status ${end.code}` : `ended by ${end.signal}`;
  const skip = output.stdout.startsWith(`ok ${name} # skip `) ? output.stdout.trim().split(" # skip ")[1] : undefined;
  if (!hung && end.code === 0 && skip !== undefined) return { passed: false, skipped: skip, message: skip, ms };
  const said = [output.stdout.trim(), ending, output.stderr.trim()].filter((text) => text !== "").join("\n");
  return { passed: false, message: said.slice(0, SHOWN), ms };
}

function endGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, os.constants.signals.SIGKILL);
  } catch {
    // Nobody of it is left.
  }
}
