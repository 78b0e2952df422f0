/** The FPU's registers as a tracer reads and writes them, of the task in the CPU (arch/x86/kernel/fpu/regset.c). */
import { fsaveHeader, mergeFsaveHeader } from "../signals/fpstate.ts";
import type { Task } from "../task.ts";

/** `struct user_i387_ia32_struct`: an FSAVE image. */
export const FSAVE_BYTES = 108;
export const FXSAVE_BYTES = 512;

/** The FXSAVE image. */
export function getFxsave({ cpu }: Task): Uint8Array {
  return cpu.fxsave();
}

/** False (EINVAL) where MXCSR has bits that the CPU does not know. */
export function putFxsave({ cpu }: Task, image: Uint8Array): boolean {
  return cpu.fxrstor(image);
}

/** The x87 part alone, as FSAVE writes it. */
export function getFsave({ cpu, kernel }: Task): Uint8Array {
  const { scratch } = kernel.signals.state;
  cpu.fxsave(scratch.fxsave);
  return fsaveHeader(cpu, scratch).slice(0, FSAVE_BYTES);
}

export function putFsave({ cpu, kernel }: Task, image: Uint8Array): void {
  const { scratch } = kernel.signals.state;
  cpu.fxsave(scratch.fxsave);
  scratch.fsave.set(image);
  mergeFsaveHeader(scratch);
  cpu.fxrstor(scratch.fxsave);
}
