/**
 * x87, SSE and AVX state in a signal frame (arch/x86/kernel/fpu/signal.c, regset.c). On a CPU without XSAVE it is the FXSAVE image;
 * on one with it an XSAVE image, which says so in bytes that FXSAVE leaves alone, and ends with a word. On i386 an FSAVE header of
 * 112 bytes comes before either.
 */
import type { Cpu } from "../../../emulator/cpu.ts";
import type { GuestMemory } from "../../../emulator/guest-memory.ts";
import type { Machine } from "../../../emulator/machine.ts";
import type { Task } from "../task.ts";

export const FXSAVE_BYTES = 512;
/** `struct _fpstate_32` up to its FXSAVE image. */
const FSAVE_BYTES = 112;
/** Says that an FXSAVE image follows (X86_FXSR_MAGIC). */
const FXSR_MAGIC = 0;
const FCW_INIT = 0x37f;
const MXCSR_INIT = 0x1f80;
const MXCSR_AT = 24;
/** The x87 registers in the FXSAVE image and in the FSAVE header. */
const XMM_ST_AT = 32;
const FSAVE_ST_AT = 28;

export const XSAVE_BYTES = 832;
/** Offsets in an XSAVE image, and state components (SDM vol. 1, 13.4). */
const XsaveAt = { bv: 512, compaction: 520, avx: 576 } as const;
const State = { x87: 1, sse: 2, avx: 4, all: 7 } as const;
/** `struct _fpx_sw_bytes` (asm/sigcontext.h), in the bytes that FXSAVE leaves to software; a kernel without XSAVE writes none. */
const Software = { magic1: 464, extendedSize: 468, xfeatures: 472, xstateSize: 480, end: 512 } as const;
const FP_XSTATE_MAGIC1 = 0x4650_5853;
const FP_XSTATE_MAGIC2 = 0x4650_5845;
const MAGIC2_BYTES = 4;

function alignDown(value: number, to: number): number {
  return Math.floor(value / to) * to;
}

/** Bytes that the state of the CPU takes in a frame, but for the FSAVE header. */
export function fpuBytes({ processor }: Machine): number {
  return processor === "x86-64-v3" ? XSAVE_BYTES + MAGIC2_BYTES : FXSAVE_BYTES;
}

/** Where the state goes below `sp`: the image itself lies on a multiple of 64 (fpu__alloc_mathframe). */
export function placeFpu({ kernel }: Task, sp: number, narrow: boolean): number {
  const image = alignDown(sp - fpuBytes(kernel.machine), 64);
  return narrow ? image - FSAVE_BYTES : image;
}

/** What frames are put together in, so that a signal needs no new memory. */
export class FrameScratch {
  /** As frames of i386 have them, one behind the other: the FSAVE header, and `fpu`. */
  readonly narrow = new Uint8Array(FSAVE_BYTES + XSAVE_BYTES + MAGIC2_BYTES);
  readonly fsave = this.narrow.subarray(0, FSAVE_BYTES);
  readonly fsaveView = new DataView(this.narrow.buffer, 0, FSAVE_BYTES);
  /** An XSAVE image and the word after it; without XSAVE its beginning, an FXSAVE image. */
  readonly fpu = this.narrow.subarray(FSAVE_BYTES);
  readonly fpuView = new DataView(this.narrow.buffer, FSAVE_BYTES);
  /** The same as far as they are written without XSAVE, and read in any case. */
  readonly fpuWritten = this.fpu.subarray(0, Software.magic1);
  readonly narrowWritten = this.narrow.subarray(0, FSAVE_BYTES + Software.magic1);
  readonly narrowRead = this.narrow.subarray(0, FSAVE_BYTES + FXSAVE_BYTES);
  readonly fxsave = this.fpu.subarray(0, FXSAVE_BYTES);
  readonly xsave = this.fpu.subarray(0, XSAVE_BYTES);
  /** A frame of x86-64 but for its siginfo. */
  readonly frame = new Uint8Array(312);
  readonly view = new DataView(this.frame.buffer);
  /** The beginning of it is for i386 a frame with siginfo, or a context that is read, or both ends of the plain frame. */
  readonly info = this.frame.subarray(0, 268);
  readonly context = this.frame.subarray(0, 88);
  readonly plainHead = this.frame.subarray(0, 96);
  readonly plainTail = this.frame.subarray(96, 108);
  /** What a new program and a handler start with: an XSAVE image that has no component, and begins as an FXSAVE image. */
  readonly fresh = new Uint8Array(XSAVE_BYTES);
  readonly freshFxsave = this.fresh.subarray(0, FXSAVE_BYTES);

  constructor() {
    const view = new DataView(this.fresh.buffer);
    view.setUint16(0, FCW_INIT, true);
    view.setUint32(MXCSR_AT, MXCSR_INIT, true);
  }
}

/** @throws MemoryFault */
export function saveFpu(task: Task, at: number, narrow: boolean): void {
  const { cpu, memory, kernel } = task;
  const { scratch } = kernel.signals.state;
  const extended = hasXsave(task);
  if (extended) saveExtended(cpu, scratch, narrow);
  else cpu.fxsave(scratch.fxsave);
  if (narrow) {
    fsaveHeader(cpu, scratch);
    memory.write(at, extended ? scratch.narrow : scratch.narrowWritten);
  } else memory.write(at, extended ? scratch.fpu : scratch.fpuWritten);
}

/** The CPU has XSAVE, and AVX as the one component that FXSAVE does not know. */
export function hasXsave({ kernel }: Task): boolean {
  return kernel.machine.processor === "x86-64-v3";
}

/** UC_FP_XSTATE in uc_flags, where frames have XSAVE images (asm/ucontext.h). */
export function extendedFlag(task: Task): number {
  return hasXsave(task) ? 1 : 0;
}

/** copy_fpstate_to_sigframe and save_xstate_epilog. */
function saveExtended(cpu: Cpu, { fpu, fpuView: view, xsave }: FrameScratch, narrow: boolean): void {
  cpu.xsave(xsave);
  // Programs from before XSAVE change these two without saying so.
  view.setUint32(XsaveAt.bv, view.getUint32(XsaveAt.bv, true) | State.x87 | State.sse, true);
  fpu.fill(0, Software.magic1, Software.end);
  view.setUint32(Software.magic1, FP_XSTATE_MAGIC1, true);
  view.setUint32(Software.extendedSize, XSAVE_BYTES + MAGIC2_BYTES + (narrow ? FSAVE_BYTES : 0), true);
  view.setUint32(Software.xfeatures, State.all, true);
  view.setUint32(Software.xstateSize, XSAVE_BYTES, true);
  view.setUint32(XSAVE_BYTES, FP_XSTATE_MAGIC2, true);
}

/** convert_from_fxsr on a 64-bit kernel, which puts CS and DS where the pointers' segments were. */
export function fsaveHeader(cpu: Cpu, scratch: FrameScratch): Uint8Array {
  const { fpuView: fx, fsave: header, fsaveView: view } = scratch;
  const status = fx.getUint16(2, true);
  view.setUint32(0, 0xffff_0000 | fx.getUint16(0, true), true);
  view.setUint32(4, 0xffff_0000 | status, true);
  view.setUint32(8, tagWord(scratch, status), true);
  view.setUint32(12, fx.getUint32(8, true), true);
  view.setUint32(16, cpu.selector("cs"), true);
  view.setUint32(20, fx.getUint32(16, true), true);
  view.setUint32(24, 0xffff_0000 | cpu.selector("ds"), true);
  for (let i = 0; i < 8; i++) {
    const [from, to] = [XMM_ST_AT + 16 * i, FSAVE_ST_AT + 10 * i];
    for (let byte = 0; byte < 10; byte += 2) view.setUint16(to + byte, fx.getUint16(from + byte));
  }
  view.setUint16(108, status, true);
  view.setUint16(110, FXSR_MAGIC, true);
  return header;
}

/** The two-bit tags of FSAVE (valid 0, zero 1, special 2, empty 3) from FXSAVE's one-bit ones and the registers. */
function tagWord({ fpu: image, fpuView: view }: FrameScratch, status: number): number {
  const top = (status >> 11) & 7;
  const used = image[4] ?? 0;
  let tags = 0;
  for (let i = 0; i < 8; i++) {
    let tag = 3;
    if (used & (1 << i)) {
      const at = XMM_ST_AT + 16 * ((i - top) & 7);
      const exponent = view.getUint16(at + 8, true) & 0x7fff;
      const high = view.getUint32(at + 4, true);
      const low = view.getUint32(at, true);
      if (exponent === 0x7fff) tag = 2;
      else if (exponent === 0) tag = high === 0 && low === 0 ? 1 : 2;
      else tag = high & 0x8000_0000 ? 0 : 2;
    }
    tags |= tag << (2 * i);
  }
  return 0xffff_0000 | tags;
}

/** The state a new program and a signal handler start with (fpu__clear_user_states). */
export function resetFpu(task: Task): void {
  const { cpu, kernel } = task;
  const { scratch } = kernel.signals.state;
  if (hasXsave(task)) cpu.xrstor(scratch.fresh);
  else cpu.fxrstor(scratch.freshFxsave);
}

/**
 * Loads the state a frame holds; none at address 0. False where it is no state the CPU takes; it is reset then.
 * @throws MemoryFault
 */
export function restoreFpu(task: Task, at: number, narrow: boolean): boolean {
  let restored = false;
  try {
    restored = at !== 0 && loadFpu(task, at, narrow);
  } finally {
    if (!restored) resetFpu(task);
  }
  return restored || at === 0;
}

/** @throws MemoryFault */
function loadFpu(task: Task, at: number, narrow: boolean): boolean {
  const { cpu, memory, kernel } = task;
  const { scratch } = kernel.signals.state;
  const image = narrow ? at + FSAVE_BYTES : at;
  const extended = hasXsave(task);
  memory.read(at, narrow ? scratch.narrowRead : scratch.fxsave);
  if (extended && !readExtended(memory, image, scratch, narrow)) return false;
  if (narrow) mergeFsaveHeader(scratch);
  return extended ? cpu.xrstor(scratch.xsave) : cpu.fxrstor(scratch.fxsave);
}

/**
 * Completes an image whose first 512 bytes are read, with just the components that the frame has (__fpu_restore_sig). False for a
 * header that the CPU refuses.
 * @throws MemoryFault
 */
function readExtended(memory: GuestMemory, at: number, scratch: FrameScratch, narrow: boolean): boolean {
  const { fpu, fpuView: view } = scratch;
  const components = framedComponents(memory, at, view);
  fpu.fill(0, XsaveAt.bv);
  if (components === undefined) {
    view.setUint32(XsaveAt.bv, State.x87 | State.sse, true);
    return true;
  }
  memory.read(at + XsaveAt.bv, fpu.subarray(XsaveAt.bv, XsaveAt.avx));
  const present = view.getUint32(XsaveAt.bv, true);
  if ((present & ~State.all) !== 0 || view.getUint32(XsaveAt.bv + 4, true) !== 0) return false;
  // What i386 restores goes through the kernel, which wants the standard layout and looks at all of the header.
  if (narrow && fpu.subarray(XsaveAt.compaction, XsaveAt.avx).some((byte) => byte !== 0)) return false;
  if (present & components & State.avx) memory.read(at + XsaveAt.avx, fpu.subarray(XsaveAt.avx, XSAVE_BYTES));
  view.setUint32(XsaveAt.bv, present & components, true);
  // MXCSR belongs to SSE.
  if ((components & State.sse) === 0) view.setUint32(MXCSR_AT, MXCSR_INIT, true);
  return true;
}

/**
 * Components that a frame says it has; undefined for one that has only an FXSAVE image (check_xstate_in_sigframe).
 * @throws MemoryFault
 */
function framedComponents(memory: GuestMemory, at: number, view: DataView): number | undefined {
  const size = view.getUint32(Software.xstateSize, true);
  if (view.getUint32(Software.magic1, true) !== FP_XSTATE_MAGIC1) return undefined;
  if (size < XsaveAt.avx || size > XSAVE_BYTES || size > view.getUint32(Software.extendedSize, true)) return undefined;
  if (memory.u32(at + size) !== FP_XSTATE_MAGIC2) return undefined;
  return view.getUint32(Software.xfeatures, true) & State.all;
}

/** The x87 part comes from the FSAVE header, SSE from the image (convert_to_fxsr). */
export function mergeFsaveHeader({ fpu: image, fpuView: fx, fsaveView: view }: FrameScratch): void {
  fx.setUint16(0, view.getUint16(0, true), true);
  fx.setUint16(2, view.getUint16(4, true), true);
  const tags = view.getUint16(8, true);
  let used = 0;
  for (let i = 0; i < 8; i++) if (((tags >> (2 * i)) & 3) !== 3) used |= 1 << i;
  image[4] = used;
  for (let i = 0; i < 8; i++) {
    const [from, to] = [FSAVE_ST_AT + 10 * i, XMM_ST_AT + 16 * i];
    for (let byte = 0; byte < 10; byte += 2) fx.setUint16(to + byte, view.getUint16(from + byte));
  }
}
