/** What policies and fault injectors may know of TAs: a thread is an instance. */
import type { AddressSpace } from "../../emulator/memory.ts";
import type { Findings, GuestWorld } from "../../providers/findings.ts";
import type { Injector, InjectorWorld } from "../../providers/injector.ts";
import { SpaceWorld } from "../../providers/space-world.ts";
import type { Instance } from "./instance.ts";
import type { Tee } from "./tee.ts";

/** A TEE's instances, for a gate that is made before the TEE. Until `tee` is set there are none. */
export class TeeWorld extends SpaceWorld implements GuestWorld, InjectorWorld {
  tee: Tee | undefined;
  injector: Injector | undefined;
  /** What an audit finds, where there is one. */
  findings: Findings | undefined;

  process(thread: number): Instance | undefined {
    for (const instance of this.tee?.instances ?? []) if (instance.id === thread) return instance;
    return undefined;
  }

  wide(): boolean {
    return true;
  }

  protected space(thread: number): AddressSpace | undefined {
    return this.process(thread)?.memory.space;
  }
}
