import { GDT_ENTRIES } from "./descriptors.ts";
import { TestbedError } from "./errors.ts";
import type { NativeEngine } from "./native-engine.ts";
import type { PrivilegedState, SegmentName, StateInPlace } from "./privileged.ts";

/** Register numbers: the encoding order of the general registers, then the instruction pointer and the flags. */
export const Reg = {
  rax: 0,
  rcx: 1,
  rdx: 2,
  rbx: 3,
  rsp: 4,
  rbp: 5,
  rsi: 6,
  rdi: 7,
  r8: 8,
  r9: 9,
  r10: 10,
  r11: 11,
  r12: 12,
  r13: 13,
  r14: 14,
  r15: 15,
  rip: 16,
  rflags: 17,
} as const;

/** Why a run ended. */
export const StopKind = {
  /** `syscall`: RCX and R11 are set as the instruction sets them, RIP is past it. */
  syscall: 0,
  /** `int 0x80`, RIP past it. */
  int80: 1,
  /** `sysenter`: hardware keeps no return address, so RIP means nothing. */
  sysenter: 2,
  /** An exception: `stopVector` and the fields after it say which. RIP is at the instruction for faults, past it for traps. */
  exception: 3,
  /** The budget of basic blocks is used up; RIP is at the block that has not run. */
  budget: 4,
  /** `interrupt()` was called or a signal came. */
  interrupted: 5,
} as const;
export type StopKind = (typeof StopKind)[keyof typeof StopKind];

export type AccessKind = "read" | "write" | "fetch";
const accessNames: readonly AccessKind[] = ["read", "write", "fetch"];

const segmentNumbers: Record<SegmentName, number> = { es: 0, cs: 1, ss: 2, ds: 3, fs: 4, gs: 5 };

// Where the CPU state keeps them (emulator/native/layout.h): the hidden flags, and for each segment register 24 bytes
// from byte 184 with the selector first and the base at 8.
const hiddenFlagsWord = 176 / 4;
const HF_CS64 = 1 << 15;
const segmentWords = 184 / 4;
const wordsPerSegment = 24 / 4;
const fsBaseQuad = (184 + 24 * segmentNumbers.fs + 8) / 8;
const gsBaseQuad = (184 + 24 * segmentNumbers.gs + 8) / 8;

/** Bytes of an XSAVE image with x87, SSE and AVX state. */
const xsaveSize = 832;

/** Registers, segments with their hidden parts, TLS descriptors, x87, SSE and AVX of one guest thread. */
export interface CpuContext {
  readonly bytes: Uint8Array;
}

const rflagsIndex: number = Reg.rflags;
const failedKind = 6;
const two32 = 4294967296;

const lowerHalfEnd = 1n << 47n;

function checkCanonical(value: bigint, name: string): bigint {
  if (value >= 0n && value < lowerHalfEnd) return value;
  if (BigInt.asUintN(64, BigInt.asIntN(48, value)) !== BigInt.asUintN(64, value)) {
    throw new TestbedError(`${name} = 0x${value.toString(16)} is not a canonical address; wrmsr would raise #GP`);
  }
  return BigInt.asUintN(64, value);
}

function noGdtEntry(index: number): TestbedError {
  return new TestbedError(`there is no GDT entry ${index}: it has ${GDT_ENTRIES}`);
}

class NativePrivilegedState implements PrivilegedState {
  readonly inPlace: StateInPlace;
  readonly #engine: NativeEngine;
  readonly #state: BigUint64Array;
  readonly #gdt: BigUint64Array;
  #fsgsbase = false;

  constructor(engine: NativeEngine, registers: ArrayBuffer, gdt: Uint8Array) {
    this.#engine = engine;
    this.#state = new BigUint64Array(registers);
    this.#gdt = new BigUint64Array(gdt.buffer, gdt.byteOffset, GDT_ENTRIES);
    this.inPlace = {
      words: new Uint32Array(registers),
      gdt: new Uint32Array(gdt.buffer, gdt.byteOffset, 2 * GDT_ENTRIES),
    };
  }
  get fsBase(): bigint {
    return this.#state[fsBaseQuad] ?? 0n;
  }
  set fsBase(value: bigint) {
    this.#state[fsBaseQuad] = checkCanonical(value, "FS base");
  }
  get gsBase(): bigint {
    return this.#state[gsBaseQuad] ?? 0n;
  }
  set gsBase(value: bigint) {
    this.#state[gsBaseQuad] = checkCanonical(value, "GS base");
  }
  get kernelGsBase(): bigint {
    return this.#engine.kernelGsBase();
  }
  set kernelGsBase(value: bigint) {
    this.#engine.setKernelGsBase(checkCanonical(value, "kernel GS base"));
  }
  loadSelector(segment: SegmentName, selector: number): boolean {
    return this.#engine.loadSelector(segmentNumbers[segment], selector & 0xffff);
  }
  gdtEntry(index: number): bigint {
    const raw = this.#gdt[index];
    if (raw === undefined) throw noGdtEntry(index);
    return raw;
  }
  setGdtEntry(index: number, descriptor: bigint): void {
    if (!(index in this.#gdt)) throw noGdtEntry(index);
    this.#gdt[index] = descriptor;
  }
  ldtEntry(index: number): bigint {
    return this.#engine.ldtEntry(index);
  }
  setLdtEntry(index: number, descriptor: bigint): void {
    this.#engine.setLdtEntry(index, descriptor);
  }
  get fsgsbase(): boolean {
    return this.#fsgsbase;
  }
  set fsgsbase(on: boolean) {
    this.#fsgsbase = on;
    this.#engine.setFsGsBase(on);
  }
  get ldtSize(): number {
    return this.#engine.ldtSize();
  }
  set ldtSize(entries: number) {
    if (!this.#engine.resizeLdt(entries)) throw new TestbedError(`an LDT of ${entries} entries cannot be made`);
  }
}

/**
 * The emulated processor: x86-64 in ring 3, 64-bit or compatibility mode by its code segment. `run` returns; nothing
 * of ours is called while guest code runs. Registers are read and written in place between runs.
 */
export class Cpu {
  /** Segment bases, selectors and descriptors: for the gate in `providers/` only. */
  readonly privileged: PrivilegedState;
  readonly #engine: NativeEngine;
  readonly #contextSize: number;
  /** Two 32-bit halves for each register up to RIP, then the segment state; the hot path reads arguments from here. */
  readonly words: Uint32Array;
  readonly #big: BigUint64Array;
  /** The engine's stop block; word 7 counts the changes that make cached translations wrong. */
  readonly stopWords: Uint32Array;
  readonly #stopNumbers: Float64Array;

  /** @param gdt the frame that holds the GDT */
  constructor(engine: NativeEngine, contextSize: number, gdt: Uint8Array) {
    this.#engine = engine;
    this.#contextSize = contextSize;
    const registers = engine.registers();
    this.words = new Uint32Array(registers);
    this.#big = new BigUint64Array(registers);
    this.privileged = new NativePrivilegedState(engine, registers, gdt);
    const stop = engine.stopBlock();
    this.stopWords = new Uint32Array(stop);
    this.#stopNumbers = new Float64Array(stop);
    this.#stopNumbers[4] = -1;
  }

  /**
   * Runs guest code from RIP until something needs attention.
   * @param budget basic blocks that may run; unlimited when left out, and then nothing is counted.
   * @throws TestbedError when the engine itself gives up.
   */
  run(budget = -1): StopKind {
    this.#stopNumbers[4] = budget;
    this.#engine.run();
    const kind = this.stopWords[0] ?? failedKind;
    if (kind >= failedKind)
      throw new TestbedError(
        `libunicorn gave up at RIP 0x${this.reg(Reg.rip).toString(16)} (error ${this.stopWords[1]})`,
      );
    return kind as StopKind;
  }

  /** Makes the run that is going on, or the next one, end with `interrupted`. */
  interrupt(): void {
    this.#engine.interrupt();
  }

  /** Exception vector (SDM vol. 3, table 6-1). An address that is not canonical arrives as 13, as on hardware. */
  get stopVector(): number {
    return this.stopWords[1] ?? 0;
  }
  get stopErrorCode(): number {
    return this.stopWords[2] ?? 0;
  }
  /** Address of a page fault: exact, also inside `rep` and page-crossing accesses. */
  get stopAddress(): number {
    return this.#stopNumbers[2] ?? 0;
  }
  /** The same, also where a number would round: addresses of the kernel's half. */
  get stopAddressExact(): bigint {
    return BigInt(this.stopWords[18] ?? 0) | (BigInt(this.stopWords[19] ?? 0) << 32n);
  }
  get stopAccess(): AccessKind {
    return accessNames[this.stopWords[3] ?? 0] ?? "read";
  }
  /** True for `int3`, `into` and `int 4`: RIP is past the instruction. */
  get stopSoftware(): boolean {
    return this.stopWords[6] !== 0;
  }
  /** Of a debug exception: the breakpoints that raised it, and bit 14 for a single step, as DR6 has them. 0 for `int1`. */
  get stopDebug(): number {
    return this.stopWords[22] ?? 0;
  }
  /** Blocks left of the budget of the last run. */
  get budgetLeft(): number {
    return this.#stopNumbers[4] ?? 0;
  }
  /** Basic blocks counted so far, over all runs that had a budget. */
  get blocks(): number {
    return this.#stopNumbers[5] ?? 0;
  }
  /** Bytes of code that these blocks had: how much there was to do in them. */
  get codeBytes(): number {
    return this.#stopNumbers[10] ?? 0;
  }
  /** What the next `rdtsc` is near to: it advances by itself too, and never by the host's clock. */
  get timeStamp(): number {
    return this.#stopNumbers[7] ?? 0;
  }
  set timeStamp(value: number) {
    this.#stopNumbers[7] = value;
  }

  /** A register as a number: exact below 2^53. */
  reg(register: number): number {
    if (register === rflagsIndex) return this.stopWords[12] ?? 0;
    const i = register * 2;
    return (this.words[i] ?? 0) + (this.words[i + 1] ?? 0) * two32;
  }
  /** A register as a signed number: exact within ±2^53. */
  regSigned(register: number): number {
    const i = register * 2;
    return (this.words[i] ?? 0) + ((this.words[i + 1] ?? 0) | 0) * two32;
  }
  /** The low 32 bits, unsigned. */
  regLow(register: number): number {
    if (register === rflagsIndex) return this.stopWords[12] ?? 0;
    return this.words[register * 2] ?? 0;
  }
  regBig(register: number): bigint {
    if (register === rflagsIndex) return BigInt(this.stopWords[12] ?? 0);
    return this.#big[register] ?? 0n;
  }
  /** Sets all 64 bits; negative numbers are sign-extended. */
  setReg(register: number, value: number): void {
    if (register === rflagsIndex) {
      this.#engine.setFlags(value);
      return;
    }
    const i = register * 2;
    this.words[i] = value;
    this.words[i + 1] = Math.floor(value / two32);
  }
  setRegBig(register: number, value: bigint): void {
    if (register === rflagsIndex) this.#engine.setFlags(Number(value));
    else this.#big[register] = value;
  }

  /**
   * Breakpoints of the debug registers (SDM vol. 3, 17.2): an instruction is not begun, and after an access that is watched the
   * instruction ends and traps. What the host accesses for the guest is not seen.
   * @param addresses DR0 to DR3
   * @param control as DR7: what is enabled, each kind and length
   */
  setBreakpoints(addresses: Float64Array, control: number): void {
    this.#engine.setBreakpoints(addresses, control);
  }

  /** Whether guests may use `rdfsbase` and its like. */
  get fsgsbase(): boolean {
    return this.privileged.fsgsbase;
  }

  selector(segment: SegmentName): number {
    return (this.words[segmentWords + wordsPerSegment * segmentNumbers[segment]] ?? 0) & 0xffff;
  }
  /** True while CS is a 64-bit code segment. */
  get wide(): boolean {
    return ((this.words[hiddenFlagsWord] ?? 0) & HF_CS64) !== 0;
  }
  /**
   * Enters ring 3 through the code and stack selectors given, as a kernel's return to a new program does: DS and ES are
   * null in 64-bit code and like SS in 32-bit code.
   */
  enterUser(wide: boolean, cs: number, ss: number): void {
    this.#engine.enterUser(wide, cs, ss);
  }

  saveContext(into?: CpuContext): CpuContext {
    const context = into ?? { bytes: new Uint8Array(this.#contextSize) };
    this.#engine.saveContext(context.bytes);
    return context;
  }
  restoreContext(context: CpuContext): void {
    this.#engine.restoreContext(context.bytes);
  }
  /** x87 and SSE state in the layout of FXSAVE (SDM vol. 1, table 10-2), 512 bytes. */
  fxsave(image: Uint8Array = new Uint8Array(512)): Uint8Array {
    this.#engine.fxsave(image);
    return image;
  }
  /** Loads such an image; false, with nothing changed, when MXCSR has reserved bits (#GP on hardware). */
  fxrstor(image: Uint8Array): boolean {
    return this.#engine.fxrstor(image);
  }
  /**
   * x87, SSE and AVX state as XSAVE with all bits set in EDX:EAX leaves it, in the standard layout (SDM vol. 1, 13.4): 832
   * bytes, the upper halves of the YMM registers at 576. XSTATE_BV has a bit for each part that is not as after a reset.
   */
  xsave(image: Uint8Array = new Uint8Array(xsaveSize)): Uint8Array {
    this.#engine.xsave(image);
    return image;
  }
  /**
   * Loads such an image, in the standard or the compacted layout, as XRSTOR does: parts that XSTATE_BV leaves out as after
   * a reset. False, with nothing changed, where that raises #GP: for reserved bits in MXCSR or the header.
   */
  xrstor(image: Uint8Array): boolean {
    return this.#engine.xrstor(image);
  }
}
