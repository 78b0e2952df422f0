import { Cpu, type CpuContext } from "./cpu.ts";
import { type GdtLayout, initialGdt } from "./descriptors.ts";
import { TestbedError, UserError } from "./errors.ts";
import { AddressSpace } from "./memory.ts";
import { loadNative, type NativeAddon } from "./native.ts";
import { NativeEngine } from "./native-engine.ts";
import { PhysicalMemory } from "./physical-memory.ts";

/**
 * Processors a guest can be shown, by the psABI's names: x86-64-v2, or with AVX, AVX2, FMA, F16C, BMI1, BMI2, LZCNT and XSAVE,
 * which the host's processor carries out.
 */
export const processors = ["x86-64-v2", "x86-64-v3"] as const;
export type Processor = (typeof processors)[number];

export interface MachineOptions {
  /** x86-64-v2 when left out. */
  processor?: Processor;
  /** Most guest memory in use at once, in bytes. What is over is refused as a kernel out of memory does. */
  maxMemory?: number;
  /** CR4.FSGSBASE, which Linux sets since 5.9: guests may use RDFSBASE and its like. True when left out. */
  fsgsbase?: boolean;
  /**
   * Limits, read-only and execute-only segments and null selectors are checked in 32-bit code, as hardware does; accesses
   * through FS, GS and segments that are not flat become slow. False when left out: only descriptor loads are checked.
   */
  strictSegments?: boolean;
  /** Whose selectors and TLS entries the GDT has: Linux on x86-64 when left out, or a native i386 Linux. */
  gdt?: GdtLayout;
}

/** A machine as it was at one moment: every address space, and the context the CPU was in. */
export interface Snapshot {
  readonly context: CpuContext;
  readonly timeStamp: number;
  readonly active: AddressSpace | undefined;
  readonly spaces: ReadonlyMap<AddressSpace, AddressSpace>;
}

const GiB = 1024 ** 3;
/** Address space set aside for physical memory. Nothing is used until it is touched. */
const windowBytes = 64 * GiB;

/** One emulated computer: a processor, physical memory, and any number of address spaces. */
export class Machine {
  readonly cpu: Cpu;
  readonly processor: Processor;
  readonly physical: PhysicalMemory;
  readonly #engine: NativeEngine;
  readonly #spaces = new Set<AddressSpace>();
  #active: AddressSpace | undefined;
  #open = true;

  constructor(options: MachineOptions = {}, addon: NativeAddon = loadNative()) {
    this.processor = options.processor ?? "x86-64-v2";
    const v3 = this.processor === "x86-64-v3";
    const missing = v3 ? addon.lacksForV3() : [];
    if (missing.length > 0) {
      throw new UserError(`this machine cannot show its guests x86-64-v3: it lacks ${missing.join(", ")}`, 125);
    }
    this.#engine = new NativeEngine(addon.engines, windowBytes, v3);
    this.physical = new PhysicalMemory(this.#engine, windowBytes);
    const gdt = this.physical.bytes(this.#engine.gdtFrame());
    this.cpu = new Cpu(this.#engine, addon.contextSize, gdt);
    if (options.maxMemory !== undefined) this.physical.limit(options.maxMemory);
    this.cpu.privileged.fsgsbase = options.fsgsbase ?? true;
    if (options.strictSegments) this.#engine.setStrictSegments(true);
    initialGdt(options.gdt ?? "x86_64").forEach((descriptor, index) => {
      this.cpu.privileged.setGdtEntry(index, descriptor);
    });
  }

  /** An empty address space whose user part ends at `end` (exclusive, page aligned). */
  newSpace(end: number): AddressSpace {
    const space = new AddressSpace(
      this.#engine,
      this.physical,
      this.cpu.stopWords,
      this.#engine.addSpace(end),
      end,
      (child) => this.#track(child),
    );
    return this.#track(space);
  }

  #track(space: AddressSpace): AddressSpace {
    this.#spaces.add(space);
    space.onClose = () => {
      this.#spaces.delete(space);
      if (this.#active === space) this.#active = undefined;
    };
    return space;
  }

  /** The address space the CPU is in. */
  get active(): AddressSpace | undefined {
    return this.#active;
  }

  /** Puts the CPU in an address space, with its LDT. */
  activate(space: AddressSpace): void {
    if (this.#active === space) return;
    this.#engine.activate(space.id);
    this.#active = space;
  }

  /** Keeps the whole machine as it is now. Private memory is kept copy-on-write; shared memory is not copied. */
  snapshot(): Snapshot {
    const spaces = new Map<AddressSpace, AddressSpace>();
    for (const space of [...this.#spaces]) {
      const copy = space.fork();
      this.#spaces.delete(copy);
      spaces.set(space, copy);
    }
    return { context: this.cpu.saveContext(), timeStamp: this.cpu.timeStamp, active: this.#active, spaces };
  }

  /** Puts the machine back as `snapshot` found it; the snapshot stays good for further restores. */
  restore(snapshot: Snapshot): void {
    for (const space of [...this.#spaces]) if (!snapshot.spaces.has(space)) space.close();
    for (const [space, copy] of snapshot.spaces) {
      if (!this.#spaces.has(space))
        throw new TestbedError("a snapshot holds an address space that has been closed since");
      space.become(copy);
    }
    this.#active = undefined;
    if (snapshot.active !== undefined) this.activate(snapshot.active);
    this.cpu.restoreContext(snapshot.context);
    this.cpu.timeStamp = snapshot.timeStamp;
  }

  /** Lets go of all memory. Views of guest memory become empty. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#engine.close();
  }
}
