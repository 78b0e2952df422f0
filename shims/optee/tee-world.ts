/** What policies and fault injectors may know of TAs: a thread is an instance. */
import { MemoryFault } from "../../emulator/errors.ts";
import type { Findings, GuestWorld } from "../../providers/findings.ts";
import type { Injector, InjectorWorld } from "../../providers/injector.ts";
import type { Instance } from "./instance.ts";
import type { Tee } from "./tee.ts";

/** A TEE's instances, for a gate that is made before the TEE. Until `tee` is set there are none. */
export class TeeWorld implements GuestWorld, InjectorWorld {
  tee: Tee | undefined;
  injector: Injector | undefined;
  /** What an audit finds, where there is one. */
  findings: Findings | undefined;

  mappingAt(thread: number, address: bigint): string | undefined {
    const region = this.process(thread)?.memory.space.regionAt(Number(address));
    return region === undefined ? undefined : (region.backing?.name ?? "");
  }

  word(thread: number, address: bigint, bytes: 4 | 8): bigint | undefined {
    const memory = this.process(thread)?.memory.space.memory;
    if (memory === undefined) return undefined;
    try {
      return bytes === 8 ? memory.u64(Number(address)) : BigInt(memory.u32(Number(address)));
    } catch (error) {
      if (error instanceof MemoryFault) return undefined;
      throw error;
    }
  }

  process(thread: number): Instance | undefined {
    for (const instance of this.tee?.instances ?? []) if (instance.id === thread) return instance;
    return undefined;
  }

  wide(): boolean {
    return true;
  }

  poke(thread: number, address: bigint, value: bigint, bytes: 4 | 8): boolean {
    const memory = this.process(thread)?.memory.space.memory;
    const image = new Uint8Array(8);
    new DataView(image.buffer).setBigUint64(0, value, true);
    return memory?.writeSome(Number(address), image.subarray(0, bytes)) === bytes;
  }
}
