/** The FPU's registers as a tracer reads and writes them, of the task in the CPU (arch/x86/kernel/fpu/regset.c). */
import { fsaveHeader, hasXsave, mergeFsaveHeader } from "../signals/fpstate.ts";
import type { Task } from "../task.ts";

/** `struct user_i387_ia32_struct`: an FSAVE image. */
export const FSAVE_BYTES = 108;
/** In an XSAVE image: where the kernel says which components there can be, and the header. */
const XsaveAt = { xcr0: 464, header: 512, data: 576 } as const;
const COMPONENTS = 7;

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

/** The XSAVE image, in the standard layout; undefined on a CPU without XSAVE. */
export function getXsave(task: Task): Uint8Array | undefined {
  if (!hasXsave(task)) return undefined;
  const image = task.cpu.xsave();
  image.fill(0, XsaveAt.xcr0, XsaveAt.header);
  image[XsaveAt.xcr0] = COMPONENTS;
  return image;
}

/** False where the header, or MXCSR, is one that the CPU refuses. */
export function putXsave({ cpu }: Task, image: Uint8Array): boolean {
  const present = image[XsaveAt.header] ?? 0;
  if ((present & ~COMPONENTS) !== 0) return false;
  if (image.subarray(XsaveAt.header + 1, XsaveAt.data).some((byte) => byte !== 0)) return false;
  return cpu.xrstor(image);
}
