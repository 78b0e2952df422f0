import MCapstone, { type CapstoneHandle, type CapstoneModule } from "@alexaltea/capstone-js";

/** One decoded instruction, or one byte that starts none (`text` is then `(bad)`). */
export interface DisassembledInstruction {
  readonly address: number;
  /** In bytes. */
  readonly size: number;
  readonly bytes: Uint8Array;
  /** Intel syntax, for example `mov qword ptr fs:[0x28], rax`. */
  readonly text: string;
}

export interface DisassembleOptions {
  readonly bits: 32 | 64;
  /** Where the first byte lies; branch targets are printed relative to it. */
  readonly address: number;
  /** How many lines at most; all the bytes when left out. */
  readonly count?: number;
}

/** Turns x86 machine code into text with Capstone. Instances are independent; `close` frees the engine's memory. */
export class Disassembler {
  readonly #module: CapstoneModule;
  readonly #handles = new Map<32 | 64, CapstoneHandle>();

  /** Use `createDisassembler`, which loads the engine. */
  constructor(module: CapstoneModule) {
    this.#module = module;
  }

  /**
   * Decodes `bytes` from their start. What is no instruction, or an instruction cut off by the end, becomes one `(bad)` line
   * per byte, so the sizes of the lines always add up to the bytes they cover.
   */
  disassemble(bytes: Uint8Array, options: DisassembleOptions): DisassembledInstruction[] {
    const { bits, address, count = Number.POSITIVE_INFINITY } = options;
    const lines: DisassembledInstruction[] = [];
    if (count <= 0 || bytes.length === 0) return lines;
    // 15 bytes are the longest instruction; more than the lines can need would only be copied.
    const window = bytes.subarray(0, Math.min(bytes.length, count * 15));
    this.#handle(bits).disasm_iter(window, address, (found) => {
      const operands = found.op_str === "" ? "" : ` ${found.op_str}`;
      lines.push({
        address: Number(found.address),
        size: found.size,
        bytes: Uint8Array.from(found.bytes),
        text: found.id === 0 ? "(bad)" : `${found.mnemonic}${operands}`,
      });
      return lines.length < count;
    });
    return lines;
  }

  /** Frees the engine's handles. A later call makes new ones. */
  close(): void {
    for (const handle of this.#handles.values()) handle.close();
    this.#handles.clear();
  }

  #handle(bits: 32 | 64): CapstoneHandle {
    const known = this.#handles.get(bits);
    if (known !== undefined) return known;
    const { Capstone, ARCH_X86, MODE_32, MODE_64, OPT_SKIPDATA, OPT_ON } = this.#module;
    const handle = new Capstone(ARCH_X86, bits === 64 ? MODE_64 : MODE_32);
    // Go on behind an undecodable byte instead of stopping at it.
    handle.option(OPT_SKIPDATA, OPT_ON);
    this.#handles.set(bits, handle);
    return handle;
  }
}

/** Loads Capstone (about 50 ms), once per call: a program that needs one disassembler keeps it. */
export async function createDisassembler(): Promise<Disassembler> {
  return new Disassembler(await MCapstone());
}
