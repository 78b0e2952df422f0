import type { Cpu } from "../../emulator/cpu.ts";
import { Reg } from "../../emulator/cpu.ts";
import type { Disassembler } from "../../emulator/disassembler.ts";
import { HostEvents } from "../../providers/host-events.ts";
import type { Kernel } from "../../shims/linux/task.ts";
import type { Segment, SegmentUse } from "./observed.ts";

interface Instruction {
  readonly address: bigint;
  readonly text: string;
}

/** What a block of code does first with each segment register. */
type BlockUses = ReadonlyMap<Segment, Instruction>;

const SEGMENTS: readonly Segment[] = ["fs", "gs"];
/** Longer blocks than this end at some page anyway. */
const BLOCK_BYTES = 512;
const ENDS_BLOCK = /^(j|call|ret|iret|syscall|sysenter|int|loop|hlt|ud2|\(bad\))/;

/**
 * Sees when threads first use FS and GS: lets the guest run block by block and reads the code of each before it runs. It goes in
 * where a run loop looks for events of the host, of which it causes none. Runs become some ten times slower, and virtual time
 * passes a little differently.
 */
export class SegmentWatch extends HostEvents {
  readonly uses: SegmentUse[] = [];
  readonly #disassembler: Disassembler;
  readonly #events: () => number;
  readonly #seen = new Set<string>();
  readonly #blocks = new Map<bigint, BlockUses>();
  #kernel: Kernel | undefined;

  /** @param events tells how many events there are so far */
  constructor(disassembler: Disassembler, events: () => number) {
    super("none", 0, []);
    this.#disassembler = disassembler;
    this.#events = events;
    // The run loop reads it before each block.
    Object.defineProperty(this, "blocksLeft", { get: () => this.#beforeBlock() });
  }

  /** To be called before the run. */
  watch(kernel: Kernel): void {
    this.#kernel = kernel;
  }

  override ran(): undefined {
    return undefined;
  }

  #beforeBlock(): number {
    const task = this.#kernel?.current;
    if (task === undefined) return 1;
    const { cpu, memory, tid } = task;
    const address = cpu.regBig(Reg.rip);
    let block = this.#blocks.get(address);
    if (block === undefined) {
      const code = new Uint8Array(BLOCK_BYTES);
      block = this.#scan(code.subarray(0, memory.readSome(Number(address), code)), address, cpu);
      // Code that is written while it runs is rare, and looked at once only.
      this.#blocks.set(address, block);
    }
    for (const [segment, { address: at, text }] of block) {
      const key = `${tid} ${segment}`;
      if (this.#seen.has(key)) continue;
      this.#seen.add(key);
      this.uses.push({ thread: tid, segment, event: this.#events(), address: at, instruction: text });
    }
    return 1;
  }

  #scan(code: Uint8Array, start: bigint, cpu: Cpu): BlockUses {
    const uses = new Map<Segment, Instruction>();
    const lines = this.#disassembler.disassemble(code, { bits: cpu.wide ? 64 : 32, address: Number(start) });
    for (const { address, text } of lines) {
      for (const segment of SEGMENTS)
        if (!uses.has(segment) && text.includes(`${segment}:[`)) uses.set(segment, { address: BigInt(address), text });
      if (ENDS_BLOCK.test(text)) break;
    }
    return uses;
  }
}
