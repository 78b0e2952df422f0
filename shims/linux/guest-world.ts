/** What policies, audits and fault injectors may know of guest threads. */
import type { AddressSpace } from "../../emulator/memory.ts";
import type { GuestWorld } from "../../providers/findings.ts";
import type { InjectorWorld } from "../../providers/injector.ts";
import { SpaceWorld } from "../../providers/space-world.ts";
import type { Kernel, Process } from "./task.ts";

/** A kernel's threads, for a gate that is made before the kernel. Until `kernel` is set there are none. */
export class KernelWorld extends SpaceWorld implements GuestWorld, InjectorWorld {
  kernel: Kernel | undefined;

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

  protected space(thread: number): AddressSpace | undefined {
    return this.process(thread)?.space;
  }
}
