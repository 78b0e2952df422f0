/** What can be told of a guest thread from its address space alone, for policies, audits and fault injectors. */
import { MemoryFault } from "../emulator/errors.ts";
import type { AddressSpace } from "../emulator/memory.ts";

export abstract class SpaceWorld {
  /** The address space that a thread runs in; undefined where there is no such thread. */
  protected abstract space(thread: number): AddressSpace | undefined;

  mappingAt(thread: number, address: bigint): string | undefined {
    const region = this.space(thread)?.regionAt(Number(address));
    return region === undefined ? undefined : (region.backing?.name ?? "");
  }

  word(thread: number, address: bigint, bytes: 4 | 8): bigint | undefined {
    const memory = this.space(thread)?.memory;
    if (memory === undefined) return undefined;
    try {
      return bytes === 8 ? memory.u64(Number(address)) : BigInt(memory.u32(Number(address)));
    } catch (error) {
      if (error instanceof MemoryFault) return undefined;
      throw error;
    }
  }

  poke(thread: number, address: bigint, value: bigint, bytes: 4 | 8): boolean {
    const image = new Uint8Array(8);
    new DataView(image.buffer).setBigUint64(0, value, true);
    return this.space(thread)?.memory.writeSome(Number(address), image.subarray(0, bytes)) === bytes;
  }
}
