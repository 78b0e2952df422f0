/**
 * x87 and SSE state in a signal frame, as a kernel on a CPU with FXSR and without XSAVE writes it (arch/x86/kernel/fpu/signal.c,
 * regset.c): on x86-64 the FXSAVE image; on i386 an FSAVE header of 112 bytes before it.
 */
import type { Cpu } from "../../../emulator/cpu.ts";
import type { Task } from "../task.ts";

const FXSAVE_BYTES = 512;
/** FXSAVE leaves the rest of its area to software, which here writes nothing. */
const FXSAVE_WRITTEN = 464;
/** `struct _fpstate_32` up to its FXSAVE image. */
const FSAVE_BYTES = 112;
/** Says that an FXSAVE image follows (X86_FXSR_MAGIC). */
const FXSR_MAGIC = 0;
const FCW_INIT = 0x37f;
const MXCSR_INIT = 0x1f80;
const MXCSR_AT = 24;
const XMM_ST_AT = 32;

function alignDown(value: number, to: number): number {
  return Math.floor(value / to) * to;
}

/** Where the state goes below `sp`: the image itself lies on a multiple of 64 (fpu__alloc_mathframe). */
export function placeFpu(sp: number, narrow: boolean): number {
  const image = alignDown(sp - FXSAVE_BYTES, 64);
  return narrow ? image - FSAVE_BYTES : image;
}

/** What frames are put together in, so that a signal needs no new memory. */
export class FrameScratch {
  readonly fpu = new Uint8Array(FXSAVE_BYTES);
  /** A frame of x86-64 but for its siginfo. */
  readonly frame = new Uint8Array(312);
  readonly view = new DataView(this.frame.buffer);
  readonly fpuView = new DataView(this.fpu.buffer);
  readonly fsave = new Uint8Array(FSAVE_BYTES);
  readonly fsaveView = new DataView(this.fsave.buffer);
  /** What a new program and a handler start with. */
  readonly freshFpu = new Uint8Array(FXSAVE_BYTES);

  constructor() {
    const view = new DataView(this.freshFpu.buffer);
    view.setUint16(0, FCW_INIT, true);
    view.setUint32(MXCSR_AT, MXCSR_INIT, true);
  }
}

/** @throws MemoryFault */
export function saveFpu(task: Task, at: number, narrow: boolean): void {
  const { cpu, memory } = task;
  const { scratch } = task.kernel.signals.state;
  const image = cpu.fxsave(scratch.fpu);
  if (narrow) {
    memory.write(at, fsaveHeader(cpu, scratch));
    memory.write(at + FSAVE_BYTES, image.subarray(0, FXSAVE_WRITTEN));
  } else memory.write(at, image.subarray(0, FXSAVE_WRITTEN));
}

/** convert_from_fxsr on a 64-bit kernel, which puts CS and DS where the pointers' segments were. */
export function fsaveHeader(cpu: Cpu, scratch: FrameScratch): Uint8Array {
  const { fpu: image, fpuView: fx, fsave: header, fsaveView: view } = scratch;
  const status = fx.getUint16(2, true);
  view.setUint32(0, 0xffff_0000 | fx.getUint16(0, true), true);
  view.setUint32(4, 0xffff_0000 | status, true);
  view.setUint32(8, tagWord(scratch, status), true);
  view.setUint32(12, fx.getUint32(8, true), true);
  view.setUint32(16, cpu.selector("cs"), true);
  view.setUint32(20, fx.getUint32(16, true), true);
  view.setUint32(24, 0xffff_0000 | cpu.selector("ds"), true);
  for (let i = 0; i < 8; i++)
    for (let byte = 0; byte < 10; byte++) header[28 + 10 * i + byte] = image[XMM_ST_AT + 16 * i + byte] ?? 0;
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
export function resetFpu({ cpu, kernel }: Task): void {
  cpu.fxrstor(kernel.signals.state.scratch.freshFpu);
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
function loadFpu({ cpu, memory, kernel }: Task, at: number, narrow: boolean): boolean {
  const { scratch } = kernel.signals.state;
  memory.read(narrow ? at + FSAVE_BYTES : at, scratch.fpu);
  if (!narrow) return cpu.fxrstor(scratch.fpu);
  memory.read(at, scratch.fsave);
  mergeFsaveHeader(scratch);
  return cpu.fxrstor(scratch.fpu);
}

/** The x87 part comes from the FSAVE header, SSE from the image (convert_to_fxsr). */
export function mergeFsaveHeader({ fpu: image, fpuView: fx, fsave: header, fsaveView: view }: FrameScratch): void {
  fx.setUint16(0, view.getUint16(0, true), true);
  fx.setUint16(2, view.getUint16(4, true), true);
  const tags = view.getUint16(8, true);
  let used = 0;
  for (let i = 0; i < 8; i++) if (((tags >> (2 * i)) & 3) !== 3) used |= 1 << i;
  image[4] = used;
  for (let i = 0; i < 8; i++)
    for (let byte = 0; byte < 10; byte++) image[XMM_ST_AT + 16 * i + byte] = header[28 + 10 * i + byte] ?? 0;
}
