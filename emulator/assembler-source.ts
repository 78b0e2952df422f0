import { UserError } from "./errors.ts";

/** Assembly that cannot be assembled; the message names the line, its text and the reason. */
export class AssemblyError extends UserError {
  override readonly name = "AssemblyError";
  /** Counted from 1; 0 when no single line could be found. */
  readonly line: number;
  readonly reason: string;

  constructor(line: number, text: string, reason: string) {
    super(line === 0 ? `cannot assemble: ${reason}` : `cannot assemble line ${line}, \`${text}\`: ${reason}`, 125);
    this.line = line;
    this.reason = reason;
  }
}

/** One statement of the source: `labels: body`. */
export interface Statement {
  readonly line: number;
  /** As written, for messages. */
  readonly text: string;
  readonly labels: readonly string[];
  /** Instruction, directive or assignment with comments removed and numbers rewritten; empty for a lone label. */
  readonly body: string;
}

/** Splits the source at line ends and `;`, takes off comments (`#`, `//`, `/* *\/`) and resolves `1:` … `1b`, `1f`. */
export function splitStatements(source: string): Statement[] {
  const statements: Statement[] = [];
  const locals = new LocalLabels();
  for (const { line, text } of rawStatements(source)) {
    const labels: string[] = [];
    let body = text;
    for (;;) {
      const found = /^([A-Za-z_.$][\w.$]*|\d+)\s*:(?!:)\s*/.exec(body);
      if (found?.[1] === undefined) break;
      labels.push(/^\d/.test(found[1]) ? locals.define(found[1]) : found[1]);
      body = body.slice(found[0].length);
    }
    const rewritten = outsideQuotes(body, (part) => rewriteNumbers(part, line, text, locals));
    statements.push({ line, text, labels, body: rewritten.trim() });
  }
  return statements;
}

/** Applies `change` to what is not inside '…' or "…". */
export function outsideQuotes(text: string, change: (part: string) => string): string {
  return text
    .split(/("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])+')/)
    .map((part, i) => (i % 2 === 1 ? part : change(part)))
    .join("");
}

/** GNU as's local labels: a number may be defined many times, `1b` is the last before and `1f` the next one. */
class LocalLabels {
  readonly #defined = new Map<string, number>();

  define(number: string): string {
    const times = (this.#defined.get(number) ?? 0) + 1;
    this.#defined.set(number, times);
    return this.#name(number, times);
  }

  refer(number: string, direction: string): string {
    const times = this.#defined.get(number) ?? 0;
    return this.#name(number, direction === "b" ? times : times + 1);
  }

  #name(number: string, times: number): string {
    return `.Llocal_${number}_${times}`;
  }
}

function rawStatements(source: string): { line: number; text: string }[] {
  const found: { line: number; text: string }[] = [];
  let line = 1;
  let text = "";
  let startLine = 1;
  const end = (): void => {
    if (text.trim() !== "") found.push({ line: startLine, text: text.trim() });
    text = "";
  };
  // Comment, string, character or any single character, in this order of precedence.
  const token =
    /\/\*[\s\S]*?(?:\*\/|$(?![\s\S]))|\/\/[^\n]*|#[^\n]*|"(?:\\.|[^"\\\n])*"?|'(?:\\[^\n]|[^'\\\n])'|[\s\S]/g;
  for (const [piece] of source.matchAll(token)) {
    if (text.trim() === "") startLine = line;
    if (piece === "\n" || piece === ";") end();
    else if (piece.startsWith("/*")) {
      if (piece.length < 4 || !piece.endsWith("*/")) throw new AssemblyError(line, "/*", "this comment does not end");
      text += " ";
    } else if (piece.startsWith('"')) {
      if (piece.length < 2 || !piece.endsWith('"'))
        throw new AssemblyError(line, text + piece, "this string does not end");
      text += piece;
    } else if (!piece.startsWith("//") && !piece.startsWith("#")) text += piece;
    for (const c of piece) if (c === "\n") line++;
  }
  end();
  return found;
}

/**
 * Writes every number as hexadecimal with 0x. Keystone reads decimal digits as hexadecimal in AT&T syntax, takes `1e` for 0
 * and never ends on a number of more than 64 bits.
 */
function rewriteNumbers(part: string, line: number, text: string, locals: LocalLabels): string {
  if (/^\.(float|double|single)\b/.test(part)) return part;
  return part.replace(/(?<![\w.\\@])(?<![\w.]\$)(\d[\w.]*)/g, (token) => {
    const local = /^(\d+)([bf])$/.exec(token);
    if (local?.[1] !== undefined && local[2] !== undefined) return locals.refer(local[1], local[2]);
    const value = parseNumber(token);
    if (value === undefined)
      throw new AssemblyError(line, text, `${token} is not a number (12, 0x1f, 0b101, 017, 1fh)`);
    if (value >= 1n << 64n) throw new AssemblyError(line, text, `${token} has more than 64 bits`);
    // A digit means the same in every radix, and `st(1)` wants it plain.
    return /^\d$/.test(token) ? token : `0x${value.toString(16)}`;
  });
}

function parseNumber(token: string): bigint | undefined {
  const lower = token.toLowerCase();
  if (/^(0x[0-9a-f]+|0b[01]+|0|[1-9]\d*)$/.test(lower)) return BigInt(lower);
  if (/^0[0-7]+$/.test(lower)) return BigInt(`0o${lower.slice(1)}`);
  if (/^\d[0-9a-f]*h$/.test(lower)) return BigInt(`0x${lower.slice(0, -1)}`);
  return undefined;
}
