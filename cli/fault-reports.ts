/** Reports on guest faults, on their way to the user: the disassembler is loaded for the first one only. */
import type { Disassemble } from "../shims/linux/fault.ts";

interface Instruction {
  readonly mark: string;
  readonly bytes: Uint8Array;
  readonly address: bigint;
  readonly wide: boolean;
}

/** Gathers reports while the guest runs, when nothing can be loaded, and gives them out as text. */
export class FaultReports {
  #lines: string[] = [];
  #instructions: Instruction[] = [];
  #count = 0;

  /** For the shim: one report. */
  readonly report = (lines: readonly string[]): void => {
    this.#lines.push(...lines);
  };

  /** For the shim: stands in for an instruction whose text comes later. */
  readonly disassemble: Disassemble = (bytes, address, wide) => {
    const mark = `\0${this.#count++}\0`;
    this.#instructions.push({ mark, bytes: Uint8Array.from(bytes), address, wide });
    return mark;
  };

  /** The lines gathered since the last time. */
  async take(): Promise<string[]> {
    if (this.#lines.length === 0) return [];
    let text = this.#lines.join("\n");
    const instructions = this.#instructions;
    this.#lines = [];
    this.#instructions = [];
    const { createDisassembler } = await import("../emulator/disassembler.ts");
    const disassembler = await createDisassembler();
    for (const { mark, bytes, address, wide } of instructions) {
      const options = { bits: wide ? 64 : 32, address: Number(address), count: 1 } as const;
      const [first] = disassembler.disassemble(bytes, options);
      const code = Buffer.from(first?.bytes ?? bytes.subarray(0, 1)).toString("hex");
      text = text.replace(mark, () => `${first?.text ?? "(bad)"}  (${code})`);
    }
    disassembler.close();
    return text.split("\n");
  }
}
