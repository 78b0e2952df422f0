/** Two runs side by side: where each thread's traces part, and what TLS was there. */
import { align, type Stretch } from "./align.ts";
import { paint } from "./reporters.ts";
import type { Step, StepTls } from "./steps.ts";

/** A run to compare, under a name. */
export interface World {
  readonly name: string;
  readonly steps: readonly Step[];
  readonly status: number | undefined;
}

/**
 * What makes two steps alike. `exact`: the whole line, but for the provider's name. `shape`: the same without addresses and
 * process ids, which another seed or another libc changes. `calls`: the call and its error.
 */
export type Likeness = "exact" | "shape" | "calls";

export interface Comparison {
  readonly lines: readonly string[];
  readonly same: boolean;
}

const CONTEXT = 4;
/** Lines of differences that are shown of a thread. */
const MOST_SHOWN = 24;

export function compare(a: World, b: World, likeness: Likeness, color: boolean): Comparison {
  const threads = [...new Set([...a.steps, ...b.steps].map(({ thread }) => thread))].sort((x, y) => x - y);
  const lines = [paint(`--- ${a.name}`, "red", color), paint(`+++ ${b.name}`, "green", color)];
  let different = 0;
  for (const thread of threads) {
    const mine = a.steps.filter((step) => step.thread === thread);
    const theirs = b.steps.filter((step) => step.thread === thread);
    const stretches = align(
      mine.map((step) => keyOf(step, likeness)),
      theirs.map((step) => keyOf(step, likeness)),
    );
    if (stretches.every(({ same }) => same)) continue;
    different++;
    lines.push("", ...threadLines(thread, [a, b], [mine, theirs], stretches, color));
  }
  const ends = a.status === b.status || a.status === undefined || b.status === undefined;
  if (!ends) lines.push("", `status of ${a.name}: ${a.status}`, `status of ${b.name}: ${b.status}`);
  if (different === 0 && ends)
    lines.push(`alike: ${counted(a.steps.length, "step")} in ${counted(threads.length, "thread")}`);
  return { lines, same: different === 0 && ends };
}

function keyOf({ text, tokens = [], name, outcome }: Step, likeness: Likeness): string {
  // Random bytes are nothing to compare. execve and rt_sigreturn come back with nothing, and strace still tells a result.
  const came = outcome === "?" ? "ok" : outcome;
  if (likeness === "calls" || (likeness === "shape" && name === "getrandom")) return `${name} ${came}`;
  const whole = [
    text.replace(/\s+= /, " = "),
    ...tokens.map((token) => token.replace(/(granted|denied) by \S+/, "$1")),
  ].join("\n");
  return likeness === "exact" ? whole : whole.replace(/0x[0-9a-f]+/g, "0x…").replace(/\b\d{4,}\b/g, "#");
}

function threadLines(
  thread: number,
  [a, b]: readonly [World, World],
  [mine, theirs]: readonly [readonly Step[], readonly Step[]],
  stretches: readonly Stretch[],
  color: boolean,
): string[] {
  const first = stretches.findIndex(({ same }) => !same);
  const point = stretches[first];
  if (point === undefined) return [];
  const alike = stretches.filter(({ same }) => same).reduce((sum, { a: [from, to] }) => sum + to - from, 0);
  const lines = [
    paint(
      `thread ${thread}: the first difference is at step ${point.a[0] + 1} of ${mine.length} and ${point.b[0] + 1} of ${theirs.length}`,
      "bold",
      color,
    ),
    ...context(mine, point.a[0]).map((text) => paint(`  ${text}`, "dim", color)),
  ];
  let shown = 0;
  let hidden = 0;
  for (const [
    index,
    {
      same,
      a: [fromA, toA],
      b: [fromB, toB],
    },
  ] of stretches.entries()) {
    if (index < first) continue;
    if (shown >= MOST_SHOWN) {
      if (!same) hidden += toA - fromA + toB - fromB;
      continue;
    }
    if (same) {
      lines.push(...between(mine.slice(fromA, toA)).map((text) => paint(`  ${text}`, "dim", color)));
      continue;
    }
    const gone = mine.slice(fromA, toA).slice(0, MOST_SHOWN);
    const come = theirs.slice(fromB, toB).slice(0, MOST_SHOWN);
    hidden += toA - fromA - gone.length + toB - fromB - come.length;
    lines.push(...gone.flatMap(withTokens).map((text) => paint(`- ${text}`, "red", color)));
    lines.push(...come.flatMap(withTokens).map((text) => paint(`+ ${text}`, "green", color)));
    shown += gone.length + come.length;
  }
  if (hidden > 0) lines.push(`  … and ${counted(hidden, "more line")} that differ`);
  lines.push(`  alike in this thread: ${counted(alike, "step")}`);
  lines.push(`  TLS at the first difference:`);
  lines.push(
    `    ${a.name}: ${tlsLine(tlsAt(mine, point.a[0]))}`,
    `    ${b.name}: ${tlsLine(tlsAt(theirs, point.b[0]))}`,
  );
  return lines;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function withTokens({ text, tokens = [] }: Step): string[] {
  return [text, ...tokens.map((token) => `    ${token}`)];
}

function context(steps: readonly Step[], at: number): string[] {
  const from = Math.max(0, at - CONTEXT);
  return [...(from > 0 ? [`… ${counted(from, "step")} before`] : []), ...steps.slice(from, at).map(({ text }) => text)];
}

/** What is alike between two differences, shortened. */
function between(steps: readonly Step[]): string[] {
  const texts = steps.map(({ text }) => text);
  if (texts.length <= 2 * CONTEXT) return texts;
  const left = texts.length - CONTEXT;
  return [...texts.slice(0, CONTEXT / 2), `… ${counted(left, "step")} alike`, ...texts.slice(-CONTEXT / 2)];
}

/** The thread's TLS as it was after the step at `at`, or the last one there is. */
function tlsAt(steps: readonly Step[], at: number): StepTls | undefined {
  return steps.slice(0, at + 1).findLast(({ tls }) => tls !== undefined)?.tls;
}

function tlsLine(tls: StepTls | undefined): string {
  return tls === undefined
    ? "never set"
    : `FS base ${tls.fsBase}, GS base ${tls.gsBase}, selectors fs ${tls.fs}, gs ${tls.gs}`;
}
