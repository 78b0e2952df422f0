/** A system call as others than its handler see it: tracers and filters. */
import type { Abi } from "./abi.ts";
import type { Task } from "./task.ts";

/** AUDIT_ARCH_* (uapi/linux/audit.h). */
export function auditArch(abi: Abi): number {
  return abi.word === 8 ? 0xc000_003e : 0x4000_0003;
}

/** A call's arguments, as wide as its ABI has them. */
export function argumentsOf({ abi, cpu }: Task): bigint[] {
  return abi.args.map((register) => (abi.word === 8 ? cpu.regBig(register) : BigInt(cpu.regLow(register))));
}
