/**
 * Ends turns inside basic blocks too. The engine counts blocks, and a race like `n++` lies within one: so a turn that is over goes
 * on for a few instructions, one at a time, before another task is let in.
 */
import { type Cpu, Reg, StopKind } from "../../../emulator/cpu.ts";
import type { GuestMemory } from "../../../emulator/memory.ts";
import { Flag, Vector } from "../../../emulator/x86.ts";

export const INSTRUCTION_PREFIXES: ReadonlySet<number> = new Set([
  0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3,
]);
/** Instructions that see or set the flags, or enter the kernel: pop ss, mov to a segment, pushf, popf, int3, int, into, iret, int1. */
const LEFT_ALONE: ReadonlySet<number> = new Set([0x17, 0x8e, 0x9c, 0x9d, 0xcc, 0xcd, 0xce, 0xcf, 0xf1]);
/** Behind 0x0f: syscall, sysret, sysenter, sysexit. */
const LEFT_ALONE_0F: ReadonlySet<number> = new Set([0x05, 0x07, 0x34, 0x35]);
const HEAD_BYTES = 4;

export class Stepper {
  readonly #cpu: Cpu;
  readonly #head = new Uint8Array(HEAD_BYTES);

  constructor(cpu: Cpu) {
    this.#cpu = cpu;
  }

  /**
   * Runs up to `count` instructions.
   * @returns true when the CPU has stopped with an exception that is to be answered
   */
  step(memory: GuestMemory, count: number): boolean {
    const cpu = this.#cpu;
    for (let done = 0; done < count; done++) {
      const flags = cpu.regLow(Reg.rflags);
      // Where the guest itself steps, a trap is its own.
      if ((flags & Flag.TF) !== 0 || !this.#mayStep(memory)) return false;
      cpu.setReg(Reg.rflags, flags | Flag.TF);
      const kind = cpu.run(HEAD_BYTES);
      cpu.setReg(Reg.rflags, cpu.regLow(Reg.rflags) & ~Flag.TF);
      if (kind !== StopKind.exception) return false;
      if (cpu.stopVector !== Vector.DB) return true;
    }
    return false;
  }

  #mayStep(memory: GuestMemory): boolean {
    const cpu = this.#cpu;
    const head = this.#head;
    if (memory.readSome(cpu.reg(Reg.rip), head) < HEAD_BYTES) return false;
    const { wide } = cpu;
    let at = 0;
    for (;;) {
      const byte = head[at] ?? 0;
      if (!INSTRUCTION_PREFIXES.has(byte) && !(wide && byte >= 0x40 && byte <= 0x4f)) break;
      if (++at > HEAD_BYTES - 2) return false;
    }
    const code = head[at] ?? 0;
    return code === 0x0f ? !LEFT_ALONE_0F.has(head[at + 1] ?? 0) : !LEFT_ALONE.has(code);
  }
}
