/** What policies, audits and fault injectors may know of guest threads. */
import { MemoryFault } from "../../emulator/errors.ts";
import type { GuestWorld } from "../../providers/findings.ts";
import type { InjectorWorld } from "../../providers/injector.ts";
import type { Kernel, Process } from "./task.ts";

/** A kernel's threads, for a gate that is made before the kernel. Until `kernel` is set there are none. */
export class KernelWorld implements GuestWorld, InjectorWorld {
  kernel: Kernel | undefined;

  mappingAt(thread: number, address: bigint): string | undefined {
    const region = this.process(thread)?.space.regionAt(Number(address));
    return region === undefined ? undefined : (region.backing?.name ?? "");
  }

  word(thread: number, address: bigint, bytes: 4 | 8): bigint | undefined {
    const memory = this.process(thread)?.space.memory;
    if (memory === undefined) return undefined;
    try {
      return bytes === 8 ? memory.u64(Number(address)) : BigInt(memory.u32(Number(address)));
    } catch (error) {
      if (error instanceof MemoryFault) return undefined;
      throw error;
    }
  }

  process(thread: number): Process | undefined {
    // A child that clone is making runs its first request before it is among the others.
    const current = this.kernel?.current;
    return current?.tid === thread ? current.process : this.kernel?.tasks.get(thread)?.process;
  }

  wide(thread: number): boolean {
    const { kernel } = this;
    if (kernel?.current?.tid === thread) return kernel.machine.cpu.wide;
    return this.process(thread)?.abi.word !== 4;
  }

  poke(thread: number, address: bigint, value: bigint, bytes: 4 | 8): boolean {
    const memory = this.process(thread)?.space.memory;
    const image = new Uint8Array(8);
    new DataView(image.buffer).setBigUint64(0, value, true);
    return memory?.writeSome(Number(address), image.subarray(0, bytes)) === bytes;
  }
}
