/** What `trace -e` lets through: strace's expressions, as far as they choose calls. */
import { UserError } from "../emulator/errors.ts";

/** What a filter looks at. `family` is undefined for a call without a row. */
export interface TracedCall {
  readonly name: string;
  readonly family: string | undefined;
}

export interface Vocabulary {
  /** Names of all system calls, of both ABIs. */
  readonly names: ReadonlySet<string>;
  readonly families: ReadonlySet<string>;
}

/** Names that strace's users know for our families. */
const ALIASES: ReadonlyMap<string, string> = new Map([
  ["desc", "file"],
  ["net", "network"],
  ["clock", "time"],
  ["creds", "process"],
]);

type Test = (call: TracedCall) => boolean;

/** All `-e` options of one command together. */
export class TraceFilter {
  readonly #vocabulary: Vocabulary;
  readonly #wanted: Test[] = [];
  readonly #unwanted: Test[] = [];
  /** Which results pass: those of failed calls only, of successful ones only, or all. */
  status: "failed" | "successful" | "all" = "all";

  /** @throws UserError 125 for an expression that names nothing known */
  constructor(expressions: readonly string[], vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
    for (const expression of expressions) this.#add(expression);
  }

  /** Whether a call passes by its name and family. */
  admits(call: TracedCall): boolean {
    const wanted = this.#wanted.length === 0 || this.#wanted.some((test) => test(call));
    return wanted && !this.#unwanted.some((test) => test(call));
  }

  #add(expression: string): void {
    const equals = expression.indexOf("=");
    const qualifier = equals < 0 ? "trace" : expression.slice(0, equals);
    const value = equals < 0 ? expression : expression.slice(equals + 1);
    if (qualifier === "status") this.#setStatus(expression, value);
    else if (qualifier === "trace" || qualifier === "t") this.#addTrace(expression, value);
    else throw wrong(expression, `"${qualifier}" is no qualifier; there are trace= (may be left out) and status=`);
  }

  #setStatus(expression: string, value: string): void {
    if (value !== "failed" && value !== "successful" && value !== "all")
      throw wrong(expression, "status is one of failed, successful, all");
    this.status = value;
  }

  #addTrace(expression: string, value: string): void {
    const negated = value.startsWith("!");
    const words = (negated ? value.slice(1) : value).split(",").map((word) => word.trim());
    for (const word of words) {
      if (word === "") throw wrong(expression, "a name is missing");
      // A bare `failed` speaks of results, so it narrows what the names choose.
      if (word === "failed") this.status = negated ? "successful" : "failed";
      else (negated ? this.#unwanted : this.#wanted).push(this.#test(expression, word));
    }
  }

  #test(expression: string, word: string): Test {
    if (word === "all") return () => true;
    if (word === "none") return () => false;
    if (word.startsWith("/")) return byPattern(expression, word.slice(1));
    const bare = word.replace(/^[%?]/, "");
    const family = ALIASES.get(bare) ?? bare;
    const { names, families } = this.#vocabulary;
    // A plain word that names both (`time`, `signal`) means both, as in strace; `%time` means the class.
    const isClass = families.has(family);
    const isName = names.has(bare) && !word.startsWith("%");
    if (isClass || isName) {
      return (call) => (isClass && call.family === family) || (isName && call.name === bare);
    }
    // `?name` is for names that not every machine has.
    if (word.startsWith("?")) return () => false;
    const near = nearest(bare, [...families, ...names]);
    const hint = near === undefined ? `classes are ${[...families].sort().join(", ")}` : `did you mean ${near}?`;
    throw wrong(expression, `there is no call or class "${word}"; ${hint}`);
  }
}

function byPattern(expression: string, source: string): Test {
  let pattern: RegExp;
  try {
    pattern = new RegExp(source);
  } catch {
    throw wrong(expression, `/${source} is no regular expression`);
  }
  return ({ name }) => pattern.test(name);
}

function wrong(expression: string, why: string): UserError {
  return new UserError(`option -e ${expression}: ${why}`, 125);
}

/** The known word at the smallest edit distance, if it is near enough to be a slip. */
function nearest(word: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const far = distance(word, candidate);
    if (far >= least) continue;
    least = far;
    best = candidate;
  }
  return best;
}

/** Levenshtein's distance. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, replaced));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
