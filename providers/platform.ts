import type { GdtLayout } from "../emulator/descriptors.ts";
import type { PrivilegedState, SegmentName } from "../emulator/privileged.ts";

/** The part of the emulated CPU a platform works on. */
export interface PlatformCpu {
  readonly privileged: PrivilegedState;
  selector(segment: SegmentName): number;
  /** General registers, RIP and RFLAGS by their numbers (emulator/cpu.ts). */
  regBig(register: number): bigint;
  setRegBig(register: number, value: bigint): void;
}

/** What a provider is built over. */
export interface Platform {
  readonly cpu: PlatformCpu;
  readonly layout: GdtLayout;
}

/** Where a platform keeps what a guest thread has in FS and GS. */
export interface SegmentHome {
  fsBase: bigint;
  gsBase: bigint;
  selector(segment: "fs" | "gs"): number;
  loadSelector(segment: "fs" | "gs", selector: number): boolean;
}

/** A guest thread's CPU as the shim is to see it while the platform has its own values in FS and GS. */
export class GuestView implements PlatformCpu, PrivilegedState {
  readonly #cpu: PlatformCpu;
  readonly #home: SegmentHome;

  constructor(cpu: PlatformCpu, home: SegmentHome) {
    this.#cpu = cpu;
    this.#home = home;
  }

  get privileged(): PrivilegedState {
    return this;
  }
  selector(segment: SegmentName): number {
    return segment === "fs" || segment === "gs" ? this.#home.selector(segment) : this.#cpu.selector(segment);
  }
  regBig(register: number): bigint {
    return this.#cpu.regBig(register);
  }
  setRegBig(register: number, value: bigint): void {
    this.#cpu.setRegBig(register, value);
  }
  loadSelector(segment: SegmentName, selector: number): boolean {
    if (segment === "fs" || segment === "gs") return this.#home.loadSelector(segment, selector);
    return this.#cpu.privileged.loadSelector(segment, selector);
  }
  get fsBase(): bigint {
    return this.#home.fsBase;
  }
  set fsBase(base: bigint) {
    this.#home.fsBase = base;
  }
  get gsBase(): bigint {
    return this.#home.gsBase;
  }
  set gsBase(base: bigint) {
    this.#home.gsBase = base;
  }
  get fsgsbase(): boolean {
    return this.#cpu.privileged.fsgsbase;
  }
  set fsgsbase(on: boolean) {
    this.#cpu.privileged.fsgsbase = on;
  }
  get kernelGsBase(): bigint {
    return this.#cpu.privileged.kernelGsBase;
  }
  set kernelGsBase(base: bigint) {
    this.#cpu.privileged.kernelGsBase = base;
  }
  gdtEntry(index: number): bigint {
    return this.#cpu.privileged.gdtEntry(index);
  }
  setGdtEntry(index: number, descriptor: bigint): void {
    this.#cpu.privileged.setGdtEntry(index, descriptor);
  }
  ldtEntry(index: number): bigint {
    return this.#cpu.privileged.ldtEntry(index);
  }
  setLdtEntry(index: number, descriptor: bigint): void {
    this.#cpu.privileged.setLdtEntry(index, descriptor);
  }
  get ldtSize(): number {
    return this.#cpu.privileged.ldtSize;
  }
  set ldtSize(entries: number) {
    this.#cpu.privileged.ldtSize = entries;
  }
}
