/** What a thread has agreed to do without (seccomp(2)). */
import { Work } from "../ptrace/numbers.ts";
import type { Task } from "../task.ts";
import type { Instruction } from "./bpf.ts";

/** A filter and those that were there before it. Shared by all who inherit it. */
export interface FilterChain {
  readonly program: readonly Instruction[];
  readonly log: boolean;
  readonly before: FilterChain | undefined;
  /** How many there are with it, and their instructions with four more for each before. */
  readonly count: number;
  readonly instructions: number;
}

export type Seccomp = { readonly mode: "strict" } | { readonly mode: "filter"; readonly filters: FilterChain };

/** MAX_INSNS_PER_PATH. */
const MOST_ON_A_PATH = 32768;
const PENALTY = 4;

/** SECCOMP_MODE_*. */
export function seccompMode(seccomp: Seccomp | undefined): 0 | 1 | 2 {
  if (seccomp === undefined) return 0;
  return seccomp.mode === "strict" ? 1 : 2;
}

export function setSeccomp(task: Task, seccomp: Seccomp): void {
  task.seccomp = seccomp;
  task.work |= Work.seccomp;
}

export function filtersOf(task: Task): FilterChain | undefined {
  return task.seccomp?.mode === "filter" ? task.seccomp.filters : undefined;
}

/** The chain with another filter; undefined where it would be too long. */
export function prepend(
  program: readonly Instruction[],
  log: boolean,
  before: FilterChain | undefined,
): FilterChain | undefined {
  const older = before === undefined ? 0 : before.instructions + PENALTY;
  const instructions = program.length + older;
  if (instructions > MOST_ON_A_PATH) return undefined;
  return { program, log, before, count: (before?.count ?? 0) + 1, instructions };
}

/** True where `chain` goes back to `ancestor`, or there is none. */
export function descends(chain: FilterChain | undefined, ancestor: FilterChain | undefined): boolean {
  if (ancestor === undefined) return true;
  for (let one = chain; one !== undefined; one = one.before) if (one === ancestor) return true;
  return false;
}
