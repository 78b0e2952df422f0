/** Patterns of traces: lines in order, `...` for any number of lines or any text, `<name>` for what must come again the same. */

type Captures = ReadonlyMap<string, string>;

/** How far a pattern got. */
export interface PatternMatch {
  readonly matched: boolean;
  /** Pattern lines that matched at most, and the trace line that the next one failed on first. */
  readonly patternLine: number;
  readonly traceLine: number;
  /** What `<name>` stood for, as far as it got. */
  readonly captures: Captures;
}

const SKIP = "...";
const NAME = /<([A-Za-z_]\w*)>/;

/** A pattern's lines, without the indentation they have in common with the test around them, and without blank ones. */
export function patternLines(pattern: string): string[] {
  return pattern
    .split("\n")
    .map((line) => squeeze(line))
    .filter((line) => line !== "");
}

/** Only words count: strace's columns do not. */
function squeeze(line: string): string {
  return line.trim().replace(/\s+/g, " ");
}

/** Looks whether all of `trace` is as the pattern says. */
export function matchPattern(pattern: readonly string[], trace: readonly string[]): PatternMatch {
  const lines = trace.map(squeeze);
  let best: PatternMatch = { matched: false, patternLine: 0, traceLine: 0, captures: new Map() };
  /** States that have failed already: pattern line, trace line and captures. */
  const failed = new Set<string>();
  const attempt = (at: number, from: number, captures: Captures): PatternMatch | undefined => {
    if (at > best.patternLine) best = { matched: false, patternLine: at, traceLine: from, captures };
    const wanted = pattern[at];
    if (wanted === undefined)
      return from === lines.length ? { matched: true, patternLine: at, traceLine: from, captures } : undefined;
    const key = `${at} ${from} ${[...captures].join()}`;
    if (failed.has(key)) return undefined;
    const found = wanted === SKIP ? skip(at, from, captures) : attemptLine(wanted, at, from, captures);
    if (found === undefined) failed.add(key);
    return found;
  };
  const skip = (at: number, from: number, captures: Captures): PatternMatch | undefined => {
    for (let next = from; next <= lines.length; next++) {
      const found = attempt(at + 1, next, captures);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  const attemptLine = (wanted: string, at: number, from: number, captures: Captures): PatternMatch | undefined => {
    const line = lines[from];
    if (line === undefined) return undefined;
    const after = matchLine(wanted, line, captures);
    return after === undefined ? undefined : attempt(at + 1, from + 1, after);
  };
  return attempt(0, 0, new Map()) ?? best;
}

function matchLine(wanted: string, line: string, captures: Captures): Captures | undefined {
  const fresh: string[] = [];
  const parts = wanted.split(/(\.\.\.|<[A-Za-z_]\w*>)/).map((part) => {
    if (part === SKIP) return ".*";
    const [, name] = NAME.exec(part) ?? [];
    if (name === undefined) return literal(part);
    const known = captures.get(name);
    if (known !== undefined) return literal(known);
    if (fresh.includes(name)) return `\\k<${name}>`;
    fresh.push(name);
    return `(?<${name}>[^\\s,(){}\\[\\]]+)`;
  });
  const found = new RegExp(`^${parts.join("")}$`).exec(line);
  if (found === null) return undefined;
  if (fresh.length === 0) return captures;
  const after = new Map(captures);
  for (const name of fresh) after.set(name, found.groups?.[name] ?? "");
  return after;
}

function literal(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
}
