import { type AssemblyError, outsideQuotes, type Statement } from "./assembler-source.ts";

/** What the rewriting of a statement depends on besides its text. */
export interface RewriteContext {
  /** `.code32` and `.code64` change it for the statements behind them. */
  bits: 32 | 64;
  readonly syntax: "intel" | "att";
  /** All labels of the source; constants (`x = 5`) are not among them. */
  readonly labels: ReadonlySet<string>;
  /** Statements rewritten so far that need a label of their own. */
  temporaries: number;
  readonly macros: Set<string>;
  /** How deep in `.macro`, `.rept` and `.if` the statement lies, where a label of ours may come twice or not at all. */
  blockDepth: number;
  /** Jumps whose range Keystone does not check; `after` labels the instruction behind, from which the distance counts. */
  readonly jumps: CheckedJump[];
}

interface CheckedJump {
  readonly after: string;
  readonly target: string;
  readonly reach: 8 | 32;
  readonly statement: Statement;
}

/** Makes the error for the statement at hand. */
export type Fail = (reason: string) => AssemblyError;

/** Names that stand for a register in an operand. */
export const REGISTER =
  /^([re]?(ax|bx|cx|dx|si|di|bp|sp)|[abcd][lh]|(si|di|bp|sp)l|r(8|9|1[0-5])[bwd]?|[re]ip|[re]iz|[cdefgs]s|st|[xyzk]?mm?\d+|[cd]r\d+|k\d)$/i;

/**
 * Whether Keystone may see this: it never ends on many a statement that is not well formed.
 *
 * @throws {AssemblyError}
 */
export function checkStatement(body: string, context: RewriteContext, fail: Fail): void {
  if (context.syntax === "intel" && body.startsWith("%")) throw fail(PERCENT);
  const constant = /^[A-Za-z_.$][\w.$]*\s*=(?!=)/.exec(body)?.[0];
  if (constant === undefined && !/^[A-Za-z_.$\\][\w.$\\]*(\s|$)/.test(body)) {
    throw fail("a statement starts with a label, an instruction or a directive");
  }
  if (context.blockDepth === 0 && body.replace(QUOTED, "").includes("\\")) {
    throw fail("a backslash belongs into a .macro");
  }
  const isDirective = constant !== undefined || body.startsWith(".");
  const plain = body.replace(QUOTED, "0");
  if (isDirective && !/^\.(macro|type|cfi_\w+)\b/.test(body)) {
    const stray =
      /[^\w\s$.+\-*/()<>&|^~!=,\\%]/.exec(plain)?.[0] ?? (constant !== undefined ? /,/.exec(plain)?.[0] : undefined);
    if (stray !== undefined) throw fail(`${stray} has no place here`);
  }
  if (!isDirective && plain.includes("=")) throw fail("= has no place in an instruction");
  checkOperators(constant === undefined ? body : `x ${body.slice(constant.length)}`, context, fail);
  if (!isDirective) checkText(body, context, fail);
}

const QUOTED = /"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'/g;
const PERCENT = "% belongs to AT&T syntax, and this is read as Intel syntax";

/** Text that Keystone takes silently for something else, or never ends on. */
function checkText(body: string, context: RewriteContext, fail: Fail): void {
  outsideQuotes(body, (part) => {
    const att = context.syntax === "att";
    if (/\P{ASCII}/u.test(part)) throw fail("outside of strings only ASCII has a meaning");
    // Keystone gives every expansion of a macro the same number.
    if (part.includes("\\@")) throw fail("\\@ is not supported");
    if (!att && part.includes("%")) throw fail(PERCENT);
    if ((part.match(/\[/g)?.length ?? 0) !== (part.match(/\]/g)?.length ?? 0)) throw fail("a bracket has no partner");
    if (!att && /[\w)]\[/.test(part) && !/\bptr\[/i.test(part))
      throw fail("write the displacement inside the brackets: [rbp-8]");
    return part;
  });
}

/** Keystone never ends on many an operator without its operands. */
function checkOperators(body: string, context: RewriteContext, fail: Fail): void {
  const [, name = "", rest = ""] = /^(\S+)\s*([\s\S]*)$/.exec(body) ?? [];
  const text = rest.replace(QUOTED, "0");
  const binary = /<<|>>|[=!<>]=|&&|\|\||[|&^<>/=,:]/g;
  if ((text.match(/\(/g)?.length ?? 0) !== (text.match(/\)/g)?.length ?? 0)) throw fail("a parenthesis has no partner");
  for (const found of text.matchAll(binary)) {
    const before = text.slice(0, found.index).trimEnd();
    const after = text.slice(found.index + found[0].length).trimStart();
    const mayBeEmpty = found[0] === "," && (/^\.(p2)?align$|^\.balign$/.test(name) || context.syntax === "att");
    if (mayBeEmpty && after !== "") continue;
    if (!/[\w)\].$]$/.test(before) || !/^[\w(.$%[~!*@\\+-]/.test(after))
      throw fail(`an operand is missing at ${found[0]}`);
  }
  // A star, percent or dollar starts an operand in AT&T syntax; an operator is not followed by one that takes two operands.
  const stray = (
    context.syntax === "att"
      ? /[`{}?\\]|["'(]$|[-+/~!%$*]\s*($|,)|[$%]\s*[^\w.$(~+-]|[$~!+-]\s*[%*/&)]/
      : /[`{}?]|["'(]$|[-+*/~!%]\s*($|,|[*/%&)])|(^|,)\s*[)%*/]/
  ).exec(text)?.[0];
  if (stray !== undefined) throw fail(`${stray.trim()} does not belong here`);
}

/** Keystone cuts an immediate that is too large for its operand, silently. */
export function checkImmediate(mnemonic: string, rest: string, context: RewriteContext, fail: Fail): void {
  const list = splitOperands(rest);
  const att = context.syntax === "att";
  if (att) list.reverse();
  const source = list[list.length - 1] ?? "";
  const literal = (att ? /^\$(-?)(0x[0-9a-f]+|\d)$/i : /^(-?)(0x[0-9a-f]+|\d)$/i).exec(source);
  if (literal?.[2] === undefined) return;
  const value = literal[1] === "-" ? -BigInt(literal[2]) : BigInt(literal[2]);
  const tooLarge = (bits: number): AssemblyError => fail(`${source} does not fit into ${bits} bits`);
  if (/^(retf?|lret|enter)$/.test(mnemonic)) {
    if (value < 0n || value > 0xffffn) throw tooLarge(16);
  } else if (/^push[lq]?$/.test(mnemonic)) {
    const fits = context.bits === 32 ? value < 1n << 32n : value < 1n << 31n || value >= (1n << 64n) - (1n << 31n);
    if (!fits || value < -(1n << 31n)) throw tooLarge(32);
  } else if (list.length > 1) {
    const bits = sizeOf((list[0] ?? "").replace(/^%/, ""));
    const limit = 1n << BigInt(bits ?? 64);
    // As much as the operand can hold, with a sign or without; 64-bit operands Keystone checks itself.
    if (bits !== undefined && bits < 64 && (value >= limit || value < -limit / 2n)) throw tooLarge(bits);
  }
}

export function fitsSigned32(value: bigint): boolean {
  return value < 1n << 31n || value >= (1n << 64n) - (1n << 31n);
}

/** Bits of a general register or of an operand with `… ptr`. */
export function sizeOf(operand: string): 8 | 16 | 32 | 64 | undefined {
  const pointer = /^(byte|word|dword|qword)\s+ptr\b/i.exec(operand)?.[1]?.toLowerCase();
  if (pointer !== undefined) return pointer === "byte" ? 8 : pointer === "word" ? 16 : pointer === "dword" ? 32 : 64;
  if (!REGISTER.test(operand)) return undefined;
  if (/^([abcd][lh]|(si|di|bp|sp)l|r\d+b)$/i.test(operand)) return 8;
  if (/^((ax|bx|cx|dx|si|di|bp|sp)|r\d+w)$/i.test(operand)) return 16;
  if (/^(e(ax|bx|cx|dx|si|di|bp|sp)|r\d+d)$/i.test(operand)) return 32;
  return /^r(ax|bx|cx|dx|si|di|bp|sp|\d+)$/i.test(operand) ? 64 : undefined;
}

/** At commas outside of brackets, parentheses and quotes. */
export function splitOperands(text: string): string[] {
  const list = text.match(/(?:'(?:\\.|[^'])'|\[[^\]]*\]|\([^)]*\)|[^,])+/g) ?? [];
  return list.map((o) => o.trim());
}
