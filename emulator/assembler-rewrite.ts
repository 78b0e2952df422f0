import {
  checkImmediate,
  checkStatement,
  type Fail,
  fitsSigned32,
  REGISTER,
  type RewriteContext,
  sizeOf,
  splitOperands,
} from "./assembler-checks.ts";
import { AssemblyError, type Statement } from "./assembler-source.ts";

/** Emitting more from one directive is a mistake in the number, and takes Keystone minutes. */
const FILL_MAX = 1 << 20;
const ALIGN_MAX = 4096;

const PASSED_ON: ReadonlySet<string> = new Set(
  (
    "byte short long int quad 2byte 4byte 8byte octa float single double zero skip space fill align balign p2align set equ " +
    "rept endr irp irpc macro endm if else elseif endif ifdef ifndef uleb128 sleb128"
  ).split(" "),
);
/** Mean something to a linker or a debugger only. */
const DROPPED: ReadonlySet<string> = new Set("text globl global local weak hidden type size file ident".split(" "));
const REPEATING: ReadonlySet<string> = new Set("rept fill zero skip space".split(" "));

const PREFIX_BYTES: Readonly<Record<string, number>> = {
  bnd: 0xf2,
  notrack: 0x3e,
  addr32: 0x67,
  data16: 0x66,
  cs: 0x2e,
  ds: 0x3e,
  es: 0x26,
  fs: 0x64,
  gs: 0x65,
  ss: 0x36,
};
const PREFIX_NAMES = new Set(["lock", "rep", "repe", "repz", "repne", "repnz"]);
const BLOCK_START = /^(macro|rept|irpc?|ifn?(def)?)$/;
const BLOCK_END = /^(endm|endr|endif)$/;
const BRANCH = /^(j\w+|call)$/;
const SHORT_ONLY = /^(loop\w*|jcxz|jecxz|jrcxz)$/;
const IDENTIFIER = /^[A-Za-z_.$][\w.$]*$/;

/** The lines for Keystone that mean what GNU as would make of the statement, without its labels. */
export function rewrite(statement: Statement, context: RewriteContext): string[] {
  const fail: Fail = (reason) => new AssemblyError(statement.line, statement.text, reason);
  const { body } = statement;
  if (body === "") return [];
  checkStatement(body, context, fail);
  if (/^[\w.$]+\s*=/.test(body)) return [body];
  if (body.startsWith(".")) return rewriteDirective(body, context, fail);
  return rewriteInstruction(statement, body, context, fail);
}

function rewriteDirective(body: string, context: RewriteContext, fail: Fail): string[] {
  const [, name = "", rest = ""] = /^\.(\w+)\s*([\s\S]*)$/.exec(body) ?? [];
  // Keystone makes nothing of a `.word` out of range, without an error, and does not know `.hword`.
  if (name === "word" || name === "value" || name === "hword") return [`.short ${rest}`];
  if (name === "ascii") return stringBytes(rest, false, fail);
  if (name === "asciz" || name === "string") return stringBytes(rest, true, fail);
  if (/^(double|float|single)$/.test(name)) return [floatBytes(rest, name === "double" ? 8 : 4, fail)];
  if (name === "code32" || name === "code64") {
    context.bits = name === "code32" ? 32 : 64;
    return [body];
  }
  if (name === `${context.syntax}_syntax` || name.startsWith("cfi_") || DROPPED.has(name)) return [];
  if (REPEATING.has(name) && !/^[\w(.]/.test(rest)) throw fail("a count cannot be negative");
  if (REPEATING.has(name) && Number(/^\w+/.exec(rest)?.[0]) > FILL_MAX)
    throw fail(`more than ${FILL_MAX} of anything is a mistake`);
  if (/^(align|balign|p2align)$/.test(name)) {
    const value = Number(/^\w+/.exec(rest)?.[0]);
    if ((name === "p2align" ? 2 ** value : value) > ALIGN_MAX)
      throw fail(`the alignment can be ${ALIGN_MAX} bytes at most`);
  }
  if (BLOCK_START.test(name)) context.blockDepth++;
  if (BLOCK_END.test(name)) context.blockDepth--;
  if (name === "macro") context.macros.add(/^[^\s,]+/.exec(rest)?.[0] ?? "");
  if (!PASSED_ON.has(name)) {
    throw fail(
      `the directive .${name} is not supported; all of the source becomes one block of bytes, without sections or symbols`,
    );
  }
  return [body];
}

/** Keystone knows few escapes and never ends on a string that does not, so strings become bytes here. */
function stringBytes(rest: string, terminated: boolean, fail: Fail): string[] {
  const bytes: number[] = [];
  let left = rest;
  for (;;) {
    const literal = /^\s*"((?:\\[\s\S]|[^"\\])*)"\s*/.exec(left);
    if (literal?.[1] === undefined) throw fail("a string in double quotes is expected");
    bytes.push(...escapedBytes(literal[1], fail));
    if (terminated) bytes.push(0);
    left = left.slice(literal[0].length);
    if (left === "") break;
    if (!left.startsWith(",")) throw fail("strings are separated by commas");
    left = left.slice(1);
  }
  return bytes.length === 0 ? [] : [`.byte ${bytes.map((b) => `0x${b.toString(16)}`).join(",")}`];
}

/** In AT&T syntax Keystone never ends on a number with a point. */
function floatBytes(rest: string, size: 4 | 8, fail: Fail): string {
  const values = rest.split(",").map((text) => {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (Number.isNaN(value)) throw fail(`${text.trim()} is not a decimal number`);
    const view = new DataView(new ArrayBuffer(8));
    if (size === 8) view.setFloat64(0, value, true);
    else view.setFloat32(0, value, true);
    return `0x${view.getBigUint64(0, true).toString(16)}`;
  });
  return `.${size}byte ${values.join(",")}`;
}

const ESCAPES: Readonly<Record<string, number>> = { b: 8, f: 12, n: 10, r: 13, t: 9, '"': 34, "\\": 92 };

function escapedBytes(text: string, fail: Fail): number[] {
  const encoder = new TextEncoder();
  const bytes: number[] = [];
  for (const [piece] of text.matchAll(/\\x[0-9a-fA-F]+|\\[0-7]{1,3}|\\[\s\S]|[^\\]+/g)) {
    if (!piece.startsWith("\\")) bytes.push(...encoder.encode(piece));
    else if (piece.length > 2 && piece[1] === "x") bytes.push(Number.parseInt(piece.slice(2), 16) & 0xff);
    else if (/^\\[0-7]/.test(piece)) bytes.push(Number.parseInt(piece.slice(1), 8) & 0xff);
    else {
      const value = ESCAPES[piece.slice(1)];
      if (value === undefined) throw fail(`the escape ${piece} is not known`);
      bytes.push(value);
    }
  }
  return bytes;
}

function rewriteInstruction(statement: Statement, body: string, context: RewriteContext, fail: Fail): string[] {
  const [, written = "", rest = ""] = /^(\S+)\s*([\s\S]*)$/.exec(body) ?? [];
  if (context.macros.has(written)) return [body];
  if (!/^[A-Za-z_$\\][\w.$\\]*$/.test(written)) throw fail(`${written} is no instruction`);
  const mnemonic = written.toLowerCase();
  const prefix = PREFIX_BYTES[mnemonic];
  if (prefix !== undefined) return [`.byte 0x${prefix.toString(16)}`, ...continued(statement, rest, context, fail)];
  if (PREFIX_NAMES.has(mnemonic)) return [mnemonic, ...continued(statement, rest, context, fail)];
  if (mnemonic === "endbr64") return [".byte 0xf3,0x0f,0x1e,0xfa"];
  if (mnemonic === "endbr32") return [".byte 0xf3,0x0f,0x1e,0xfb"];

  const far = farJump(mnemonic, rest, context);
  if (far !== undefined) return far;
  checkImmediate(mnemonic, rest, context, fail);
  const isShort = SHORT_ONLY.test(mnemonic);
  if (
    context.blockDepth === 0 &&
    (isShort || (BRANCH.test(mnemonic) && context.bits === 64 && /^(0x[0-9a-f]+|\d)$/.test(rest)))
  ) {
    const after = `.Lafter_${context.temporaries++}`;
    context.jumps.push({ after, target: rest, reach: isShort ? 8 : 32, statement });
    return [body, `${after}:`];
  }
  if (context.syntax === "att")
    return [`${mnemonic} ${BRANCH.test(mnemonic) && !rest.startsWith("*") ? rest : absoluteAtt(rest, context)}`.trim()];
  return rewriteIntel(mnemonic, rest, context, fail);
}

function continued(statement: Statement, rest: string, context: RewriteContext, fail: Fail): string[] {
  return rest === "" ? [] : rewriteInstruction(statement, rest, context, fail);
}

/** `ljmp selector:offset`, which Keystone encodes with 16 bits of offset or not at all. 64-bit code has no such form. */
function farJump(mnemonic: string, rest: string, context: RewriteContext): string[] | undefined {
  const opcode = /^(ljmp|jmp)$/.test(mnemonic) ? "0xea" : /^(lcall|call)$/.test(mnemonic) ? "0x9a" : undefined;
  if (opcode === undefined || context.bits === 64) return undefined;
  const operands =
    context.syntax === "att"
      ? /^\$([^,]+),\s*\$([^,]+)$/.exec(rest)
      : /^(0x[0-9a-f]+|\d)\s*[:,]\s*([^:,[\]]+)$/.exec(rest);
  if (operands === null) return undefined;
  return [`.byte ${opcode}`, `.long ${operands[2]}`, `.short ${operands[1]}`];
}

const RENAMED: Readonly<Record<string, string>> = { lret: "retf", lretq: "retfq", iret: "iretd" };

function rewriteIntel(written: string, rest: string, context: RewriteContext, fail: Fail): string[] {
  const wide = context.bits === 64;
  const isBranch = BRANCH.test(written);
  let mnemonic = RENAMED[written] ?? written;
  // Without a suffix Keystone takes the 16-bit form.
  if (mnemonic === "pushf" || mnemonic === "popf") mnemonic += wide ? "q" : "d";
  let operands = rest;
  if (isBranch) {
    operands = operands.replace(/^(short|near)\s+(ptr\s+)?/i, "");
    if (/^(far|fword)\s*(ptr\b)?/i.test(operands)) {
      operands = operands.replace(/^(far|fword)\s*(ptr\b)?/i, "");
      mnemonic = `l${mnemonic}`;
    }
    // A branch takes a symbol but no sum; a symbol of our own may be one.
    if (/^(\.|\$|[A-Za-z_.$][\w.$]*)\s*[+-]/.test(operands) || operands === "$") {
      const name = `.Ltarget_${context.temporaries++}`;
      return [`${name} = ${operands.replace(/^\$(?![\w.$])/, ".")}`, `${mnemonic} ${name}`];
    }
  }
  const list = splitOperands(operands);
  const bare = list.find((o) => context.labels.has(o));
  if (bare !== undefined && !isBranch) {
    throw fail(
      `${bare} alone means its contents to some assemblers and its address to others; write [${bare}] or offset ${bare}`,
    );
  }
  if (
    mnemonic === "mov" &&
    /^offset\s/i.test(list[1] ?? "") &&
    /^r\w+$/i.test(list[0] ?? "") &&
    sizeOf(list[0] ?? "") === 64
  ) {
    mnemonic = "movabs";
  }
  const isMove = mnemonic === "mov" || mnemonic === "movabs";
  const throughAccumulator = isMove && list.some((o) => /^(al|ax|eax|rax)$/i.test(o));
  const fixed = list.map((o) => {
    const operand = o.replace(/\boffset\s+(?:flat:)?/gi, "");
    return wide ? absoluteIntel(operand, throughAccumulator, fail) : operand;
  });
  if (mnemonic === "push" && !wide && IDENTIFIER.test(fixed[0] ?? "") && !REGISTER.test(fixed[0] ?? "")) {
    return [".byte 0x68", `.long ${fixed[0]}`];
  }
  return [`${mnemonic} ${fixed.join(", ")}`.trim()];
}

/**
 * In 64-bit code Keystone gives an address without a register the RIP-relative form, for 64-bit registers without the
 * correction, so `mov rbx, fs:[0x28]` reads elsewhere. An index of `riz` asks for the absolute form. Only moves through the
 * accumulator have a form with 64 bits of address, which Keystone gets right.
 */
function absoluteIntel(operand: string, throughAccumulator: boolean, fail: Fail): string {
  const parts = /^(.*?)(?:\[([^\]]*)\]|(?<=[c-gs]s:)\s*([^[\]\s].*))$/i.exec(operand);
  const inside = parts?.[2] ?? parts?.[3];
  if (parts === null || inside === undefined) return operand;
  const words = inside.match(/[A-Za-z_.$][\w.$]*/g) ?? [];
  const based = words.some((w) => REGISTER.test(w));
  const constant = /^-?(?:0x[0-9a-f]+|\d)$/i.exec(inside.trim())?.[0];
  const fits = [...inside.matchAll(/(?<![\w.$])(0x[0-9a-f]+|\d)/gi)].every(([n]) => fitsSigned32(BigInt(n)));
  if (!based && throughAccumulator && (constant === undefined || !fits)) return operand;
  if (!fits) throw fail("an address or displacement must fit into 32 bits with a sign; load it into a register first");
  return based ? operand : `${parts[1] ?? ""}[riz*1+${inside.trim()}]`;
}

function absoluteAtt(rest: string, context: RewriteContext): string {
  if (context.bits === 32) return rest;
  return rest.replace(
    /(^|[\s,*])((?:%[c-gs]s:)|)(-?0x[0-9a-f]+|-?\d|(?<=:)[A-Za-z_.][\w.]*)(?=\s*(,|$))/gi,
    "$1$2$3(,%riz,1)",
  );
}
