/**
 * The debug registers of a thread as its tracer sees them: breakpoints that Linux checks as it takes them
 * (arch/x86/kernel/ptrace.c, hw_breakpoint.c).
 */
import type { Cpu } from "../../../emulator/cpu.ts";
import { x86_64 } from "../abi.ts";
import { Errno } from "../errno.ts";

interface Breakpoint {
  readonly address: bigint;
  /** Two bits of length and two of kind, as DR7 has them. */
  readonly field: number;
  readonly enabled: boolean;
}

const COUNT = 4;
const DR6 = 6;
const DR7 = 7;
/** DR6 without its causes. */
const DR6_RESERVED = 0xffff_0ff0n;
const DR7_RESERVED = 0xffff_ffff_0000_fc00n;
const FIELDS_FROM = 16;
const EXECUTE = 0;
const WRITES = 1;
const PORTS = 2;
/** By the upper bits of the field. */
const LENGTHS = [1n, 2n, 8n, 4n] as const;
const STUB: Breakpoint = { address: 0n, field: WRITES, enabled: false };

/** The errno for one that Linux does not take, 0 for one that it does. */
function checked({ address, field }: Breakpoint): number {
  const kind = field & 3;
  const length = LENGTHS[field >> 2] ?? 1n;
  if (kind === PORTS || (kind === EXECUTE && length !== 1n)) return Errno.EINVAL;
  if ((address & (length - 1n)) !== 0n || address + length - 1n >= BigInt(x86_64.userEnd)) return Errno.EINVAL;
  return 0;
}

export class DebugRegisters {
  #breakpoints: readonly (Breakpoint | undefined)[] = [];
  #control = 0n;
  /** What raised the last debug exception, as DR6 has it. */
  status = 0n;

  get(index: number): bigint {
    if (index < COUNT) return this.#breakpoints[index]?.address ?? 0n;
    if (index === DR6) return this.status ^ DR6_RESERVED;
    return index === DR7 ? this.#control : 0n;
  }

  /** An errno, or 0. */
  set(index: number, value: bigint): number {
    if (index === DR6) this.status = value ^ DR6_RESERVED;
    else if (index === DR7) return this.#setControl(value);
    else if (index < COUNT) return this.#put(index, { ...(this.#breakpoints[index] ?? STUB), address: value });
    else return Errno.EIO;
    return 0;
  }

  /** All or nothing. */
  #setControl(value: bigint): number {
    const before = this.#breakpoints;
    const control = Number(value & ~DR7_RESERVED & 0xffff_ffffn);
    for (let index = 0; index < COUNT; index++) {
      const enabled = ((control >> (2 * index)) & 3) !== 0;
      const old = this.#breakpoints[index];
      if (old === undefined && !enabled) continue;
      const field = (control >>> (FIELDS_FROM + 4 * index)) & 0xf;
      const error = this.#put(index, { address: old?.address ?? 0n, field, enabled });
      if (error === 0) continue;
      this.#breakpoints = before;
      return error;
    }
    this.#control = value;
    return 0;
  }

  #put(index: number, breakpoint: Breakpoint): number {
    const error = checked(breakpoint);
    if (error !== 0) return error;
    const now = [...this.#breakpoints];
    now[index] = breakpoint;
    this.#breakpoints = now;
    return 0;
  }

  /** There is one that is enabled. */
  get armed(): boolean {
    return this.#breakpoints.some((b) => b?.enabled);
  }

  /** Among those of `hits`, bits as in DR6, is one on an instruction. */
  executes(hits: number): boolean {
    return this.#breakpoints.some((b, index) => b !== undefined && hits & (1 << index) && (b.field & 3) === EXECUTE);
  }

  /** execve takes them away (flush_ptrace_hw_breakpoint). */
  flush(cpu: Cpu): void {
    this.#breakpoints = [];
    disarm(cpu);
  }

  /** Puts them into the processor. */
  arm(cpu: Cpu): void {
    const addresses = new Float64Array(COUNT);
    let control = 0;
    this.#breakpoints.forEach((b, index) => {
      if (!b?.enabled) return;
      addresses[index] = Number(b.address);
      control |= (1 << (2 * index)) | (b.field << (FIELDS_FROM + 4 * index));
    });
    cpu.setBreakpoints(addresses, control >>> 0);
  }
}

/** The processor has none. */
export function disarm(cpu: Cpu): void {
  cpu.setBreakpoints(new Float64Array(COUNT), 0);
}
