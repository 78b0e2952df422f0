import { decodeDescriptor, type GdtLayout, initialGdt } from "../../emulator/descriptors.ts";
import type { PrivilegedState, SegmentName } from "../../emulator/privileged.ts";
import type { Platform, PlatformCpu } from "../../providers/platform.ts";

/** Segment registers as hardware has them: a selector, and a hidden base that only a load renews. */
export class FakeCpu implements PlatformCpu, PrivilegedState {
  readonly gdt: bigint[];
  ldt: bigint[] = [];
  readonly selectors: Record<SegmentName, number>;
  readonly bases: Record<SegmentName, bigint> = { cs: 0n, ss: 0n, ds: 0n, es: 0n, fs: 0n, gs: 0n };
  kernelGsBase = 0n;
  fsgsbase = true;
  readonly registers: bigint[] = new Array<bigint>(18).fill(0n);
  /** Writes that reached the CPU, by name. */
  readonly writes: string[] = [];

  constructor(layout: GdtLayout = "x86_64") {
    this.gdt = initialGdt(layout);
    this.selectors = { cs: 0x33, ss: 0x2b, ds: 0, es: 0, fs: 0, gs: 0 };
  }

  get privileged(): PrivilegedState {
    return this;
  }

  regBig(register: number): bigint {
    return this.registers[register] ?? 0n;
  }

  setRegBig(register: number, value: bigint): void {
    this.registers[register] = value;
  }

  selector(segment: SegmentName): number {
    return this.selectors[segment];
  }

  get fsBase(): bigint {
    return this.bases.fs;
  }

  set fsBase(base: bigint) {
    this.writes.push("fsBase");
    this.bases.fs = base;
  }

  get gsBase(): bigint {
    return this.bases.gs;
  }

  set gsBase(base: bigint) {
    this.writes.push("gsBase");
    this.bases.gs = base;
  }

  loadSelector(segment: SegmentName, selector: number): boolean {
    this.writes.push(`load ${segment}`);
    if ((selector & ~3) === 0) {
      if (segment === "cs" || segment === "ss") return false;
      this.selectors[segment] = selector;
      this.bases[segment] = 0n;
      return true;
    }
    const table = (selector & 4) !== 0 ? this.ldt : this.gdt;
    const d = decodeDescriptor(table[selector >> 3] ?? 0n);
    if (d.type === "system" || !d.present || d.dpl !== 3) return false;
    if (segment === "cs" ? d.type !== "code" : segment === "ss" ? !d.writable : !d.readable) return false;
    this.selectors[segment] = selector;
    this.bases[segment] = BigInt(d.base);
    return true;
  }

  gdtEntry(index: number): bigint {
    const raw = this.gdt[index];
    if (raw === undefined) throw new RangeError(`no GDT entry ${index}`);
    return raw;
  }

  setGdtEntry(index: number, descriptor: bigint): void {
    this.writes.push(`gdt ${index}`);
    this.gdtEntry(index);
    this.gdt[index] = descriptor;
  }

  ldtEntry(index: number): bigint {
    const raw = this.ldt[index];
    if (raw === undefined) throw new RangeError(`no LDT entry ${index}`);
    return raw;
  }

  setLdtEntry(index: number, descriptor: bigint): void {
    this.writes.push(`ldt ${index}`);
    this.ldtEntry(index);
    this.ldt[index] = descriptor;
  }

  get ldtSize(): number {
    return this.ldt.length;
  }

  set ldtSize(size: number) {
    this.writes.push("ldtSize");
    this.ldt = Array.from({ length: size }, (_, index) => this.ldt[index] ?? 0n);
  }
}

export function fakePlatform(layout: GdtLayout = "x86_64"): Platform & { cpu: FakeCpu } {
  return { cpu: new FakeCpu(layout), layout };
}
