import MKeystone, { type KeystoneModule } from "@alexaltea/keystone-js";
import type { RewriteContext } from "./assembler-checks.ts";
import { rewrite } from "./assembler-rewrite.ts";
import { AssemblyError, type Statement, splitStatements } from "./assembler-source.ts";
import { TestbedError } from "./errors.ts";

export interface AssembleOptions {
  readonly bits: 32 | 64;
  /** Where the first byte will lie, 0 when left out; labels and branches count from it. */
  readonly address?: number | bigint;
  /** Intel when left out. */
  readonly syntax?: "intel" | "att";
}

/** A statement with the lines that Keystone gets for it. */
interface Piece {
  readonly statement: Statement;
  readonly labels: readonly string[];
  readonly lines: readonly string[];
}

/** What a run of Keystone gave: bytes, or why there are none. */
type Outcome = { readonly bytes: Uint8Array } | { readonly reason: string };

/** Keystone gives up at some statements without an error; output that does not end in this was cut short. */
const SENTINEL = [0x5e, 0x27, 0xa5, 0x0d, 0x91, 0xc3, 0x3c, 0x7e];
const SENTINEL_LINE = `.byte ${SENTINEL.map((b) => `0x${b.toString(16)}`).join(",")}`;

/**
 * Assembles x86 with Keystone, made to mean what GNU as makes of the same source where Keystone 0.9.2 does not: decimal
 * numbers in AT&T syntax, absolute operands in 64-bit code, alignment, strings, `1b`/`1f`, `offset`, far jumps, `pushf`,
 * `iret`, `endbr64`. What would silently be assembled to something else is refused: sections and unknown directives,
 * immediates and displacements that do not fit, a bare label as an operand, `loop` out of reach. All of the source becomes
 * one block of bytes. The checks cover common slips only: Keystone never ends on some malformed statements, so this is for
 * sources of the user's own, not for text from strangers.
 */
export class Assembler {
  readonly #keystone: KeystoneModule;
  readonly #complaints: string[];
  #broken = false;

  /** Use `createAssembler`, which loads the engine. `complaints` is where the engine's messages appear. */
  constructor(keystone: KeystoneModule, complaints: string[]) {
    this.#keystone = keystone;
    this.#complaints = complaints;
  }

  /**
   * The machine code of `source`. Labels may be used before they are defined. `#`, `//` and block comments are comments,
   * `;` separates statements.
   *
   * @throws {AssemblyError} naming the line and the reason
   */
  assemble(source: string, options: AssembleOptions): Uint8Array {
    const syntax = options.syntax ?? "intel";
    const address = BigInt.asUintN(64, BigInt(options.address ?? 0));
    const statements = splitStatements(source);
    const labels = labelsOf(statements);
    const context: RewriteContext = {
      bits: options.bits,
      syntax,
      labels,
      macros: new Set(),
      temporaries: 0,
      blockDepth: 0,
      jumps: [],
    };
    const pieces = statements.map((statement) => ({
      statement,
      labels: statement.labels.map((label) => `${label}:`),
      lines: rewrite(statement, context),
    }));

    // Keystone aligns from the start of the block instead of from address 0, so the block starts at a page.
    const before = Number(address % 4096n);
    const head = before === 0 ? [] : [`.skip 0x${before.toString(16)}`];
    const tail = [SENTINEL_LINE, ...context.jumps.map((jump) => `.quad ${jump.after}, ${jump.target}`)];
    const run = (lines: readonly string[]): Outcome =>
      this.#run([...head, ...lines].join("\n"), options.bits, syntax, address - BigInt(before));

    const outcome = run([...pieces.flatMap((p) => [...p.labels, ...p.lines]), ...tail]);
    if ("reason" in outcome) throw this.#locate(pieces, outcome.reason, run);
    const tailStart = outcome.bytes.length - 16 * context.jumps.length;
    if (!endsInSentinel(outcome.bytes, tailStart)) throw this.#locateSilence(pieces, run);
    const targets = new DataView(outcome.bytes.buffer, tailStart);
    for (const [i, jump] of context.jumps.entries()) {
      const distance = BigInt.asIntN(64, targets.getBigUint64(16 * i + 8, true) - targets.getBigUint64(16 * i, true));
      if (BigInt.asIntN(jump.reach, distance) !== distance) {
        throw failure(
          jump.statement,
          `the target is ${distance} bytes away, and this instruction reaches ${jump.reach} bits`,
        );
      }
    }
    return outcome.bytes.slice(before, tailStart - SENTINEL.length);
  }

  /** One run of Keystone. Nothing it allocates outlives the call. */
  #run(source: string, bits: 32 | 64, syntax: "intel" | "att", address: bigint): Outcome {
    if (this.#broken) throw new TestbedError("this assembler crashed on an earlier source; create another one");
    const ks = this.#keystone;
    const text = new TextEncoder().encode(`${source}\n\0`);
    this.#complaints.length = 0;
    // Handle, encoding, size and count, each a pointer or size_t of 4 bytes; the text behind them.
    const block = ks._malloc(16 + text.length);
    if (block === 0) throw new TestbedError(`no memory for ${text.length} bytes of assembly`);
    let handle = 0;
    let encoding = 0;
    try {
      for (let i = 0; i < 16; i += 4) ks.setValue(block + i, 0, "i32");
      for (const [i, byte] of text.entries()) ks.setValue(block + 16 + i, byte, "i8");
      const opened = ks._ks_open(ks.ARCH_X86, bits === 64 ? ks.MODE_64 : ks.MODE_32, block);
      if (opened !== ks.ERR_OK) throw new TestbedError(`keystone does not open: ${ks.strerror(opened)}`);
      handle = ks.getValue(block, "i32");
      // Intel is what it opens with; asking for it explicitly changes the lexer, which then never ends on some numbers.
      if (syntax === "att") ks._ks_option(handle, ks.OPT_SYNTAX, ks.OPT_SYNTAX_ATT);
      const failed = ks._ks_asm(handle, block + 16, address, block + 4, block + 8, block + 12);
      encoding = ks.getValue(block + 4, "i32");
      const size = ks.getValue(block + 8, "i32");
      if (failed !== 0) return { reason: readable(ks.strerror(ks._ks_errno(handle))) };
      const complaint = this.#complaints.find((line) => line.startsWith("error: "));
      if (complaint !== undefined) return { reason: complaint.slice("error: ".length) };
      const bytes = new Uint8Array(size);
      for (let i = 0; i < size; i++) bytes[i] = ks.getValue(encoding + i, "i8");
      return { bytes };
    } catch (error) {
      if (!(error instanceof Error && error.name === "RuntimeError")) throw error;
      // The heap is in an unknown state, so nothing is freed, and nothing may run in it again.
      this.#broken = true;
      throw new AssemblyError(
        0,
        "",
        "keystone crashed on this source; leave parts out to find the statement it does not stand",
      );
    } finally {
      if (!this.#broken) {
        if (encoding !== 0) ks._ks_free(encoding);
        if (handle !== 0) ks._ks_close(handle);
        ks._free(block);
      }
    }
  }

  /**
   * Finds the statement that made Keystone fail, as it does not tell: the shortest start of the source that fails alike
   * when only labels and constants follow.
   */
  #locate(pieces: readonly Piece[], reason: string, run: (lines: string[]) => Outcome): AssemblyError {
    const units = unitsOf(pieces);
    const fails = (count: number): boolean => {
      const outcome = run(
        units.flatMap((unit, i) => unit.flatMap((p) => [...p.labels, ...(i < count ? p.lines : definitions(p))])),
      );
      return "reason" in outcome && outcome.reason === reason;
    };
    return this.#search(units, reason, fails);
  }

  /** The same where Keystone stopped without a word: the shortest start that the sentinel does not come out behind. */
  #locateSilence(pieces: readonly Piece[], run: (lines: string[]) => Outcome): AssemblyError {
    const units = unitsOf(pieces);
    const fails = (count: number): boolean => {
      const outcome = run([
        ...units.slice(0, count).flatMap((unit) => unit.flatMap((p) => [...p.labels, ...p.lines])),
        SENTINEL_LINE,
        ...units.slice(count).flatMap((unit) => unit.flatMap((p) => [...p.labels, ...definitions(p)])),
      ]);
      return "bytes" in outcome && !endsInSentinel(outcome.bytes, outcome.bytes.length);
    };
    return this.#search(units, "keystone stops here without saying why", fails);
  }

  #search(units: readonly (readonly Piece[])[], reason: string, fails: (count: number) => boolean): AssemblyError {
    let good = 0;
    let bad = units.length;
    while (bad - good > 1) {
      const middle = (good + bad) >>> 1;
      if (fails(middle)) bad = middle;
      else good = middle;
    }
    const culprit = units[bad - 1]?.[0];
    if (culprit === undefined) return new AssemblyError(0, "", reason);
    return failure(culprit.statement, reason);
  }
}

/** Loads Keystone (about 40 ms), once per call: a program that assembles more than once keeps what it gets. */
export async function createAssembler(): Promise<Assembler> {
  const complaints: string[] = [];
  const keystone = await MKeystone({ print: () => undefined, printErr: (line) => complaints.push(line) });
  return new Assembler(keystone, complaints);
}

function labelsOf(statements: readonly Statement[]): Set<string> {
  const labels = new Set<string>();
  for (const statement of statements) {
    for (const label of statement.labels) {
      if (labels.has(label)) throw failure(statement, `the label ${label} is defined already`);
      labels.add(label);
    }
  }
  return labels;
}

function failure(statement: Statement, reason: string): AssemblyError {
  return new AssemblyError(statement.line, statement.text, reason);
}

/** Statements, with `.macro`, `.rept`, `.irp` and `.if` blocks in one piece, as half of one is an error of its own. */
function unitsOf(pieces: readonly Piece[]): Piece[][] {
  const units: Piece[][] = [];
  let depth = 0;
  for (const piece of pieces) {
    const inside = depth > 0;
    const { body } = piece.statement;
    if (/^\.(macro|rept|irpc?|ifn?(def)?)\b/.test(body)) depth++;
    else if (/^\.(endm|endr|endif)\b/.test(body)) depth--;
    const last = units[units.length - 1];
    if (inside && last !== undefined) last.push(piece);
    else units.push([piece]);
  }
  return units;
}

/** The lines that other statements may refer to: constants, and labels that the rewriting added. */
function definitions(piece: Piece): string[] {
  return piece.lines.filter((line) => line.endsWith(":") || /^(\.(set|equ)\b|[\w.$]+\s*=)/.test(line));
}

function endsInSentinel(bytes: Uint8Array, end: number): boolean {
  return SENTINEL.every((byte, i) => bytes[end - SENTINEL.length + i] === byte);
}

function readable(reason: string): string {
  const text = reason.replace(/\s*\(KS_ERR_\w+\)$/, "");
  return text.charAt(0).toLowerCase() + text.slice(1);
}
