/** A segment register by the name assembly gives it. */
export type SegmentName = "cs" | "ss" | "ds" | "es" | "fs" | "gs";

/**
 * The CPU state a guest may change only through the gate in `providers/`: segment bases, selectors and descriptors.
 * It is always the state of the context and address space that the CPU is in now.
 */
export interface PrivilegedState {
  /** MSR_FS_BASE (0xc0000100). Setting is a `wrmsr`: it throws on a non-canonical address and leaves the selector alone. */
  fsBase: bigint;
  /** MSR_GS_BASE (0xc0000101), as the guest sees it through `%gs`. Set like `fsBase`. */
  gsBase: bigint;
  /** MSR_KERNEL_GS_BASE (0xc0000102), what `swapgs` would exchange. Set like `fsBase`. */
  kernelGsBase: bigint;
  /**
   * Loads a selector as `mov` to that segment register does: the hidden base, limit and attributes are taken from the
   * descriptor, a null selector clears them. False, with nothing changed, where hardware would raise #GP, #NP or #SS.
   */
  loadSelector(segment: SegmentName, selector: number): boolean;
  /** The raw 8-byte GDT descriptor with this index (0 to 15). */
  gdtEntry(index: number): bigint;
  /** Writes a GDT descriptor. Loaded segment registers keep their hidden copy until they are loaded again. */
  setGdtEntry(index: number, descriptor: bigint): void;
  /** The raw LDT descriptor with this index (0 to `ldtSize` - 1). */
  ldtEntry(index: number): bigint;
  /** Writes an LDT descriptor below `ldtSize`. Loaded segment registers keep their hidden copy. */
  setLdtEntry(index: number, descriptor: bigint): void;
  /** Entries in the LDT, 0 when there is none, at most 8192. Growing adds empty descriptors; setting 0 drops the table. */
  ldtSize: number;
  /** CR4.FSGSBASE: without it `rdfsbase` and its like raise #UD. */
  fsgsbase: boolean;
  /** The same state in place, for where BigInts cost too much; undefined where a CPU has none to show. */
  readonly inPlace?: StateInPlace;
}

/**
 * What a CPU keeps of its privileged state in memory, as words of 32 bits, low halves first. Writing here is what the setters do,
 * without their checks.
 */
export interface StateInPlace {
  /** Registers and segment registers; `StateWord` says where. */
  readonly words: Uint32Array;
  /** The GDT, two words for each entry. */
  readonly gdt: Uint32Array;
}

/** Places in `StateInPlace.words` (emulator/native/layout.h): RIP, and of each segment register selector and base. */
export const StateWord = { rip: 32, es: 46, ss: 58, ds: 64, fs: 70, fsBase: 72, gs: 76, gsBase: 78 } as const;
