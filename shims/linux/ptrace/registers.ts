/**
 * `struct user_regs_struct` of both word sizes (asm/user_64.h, asm/user32.h), read from and written to the task in the CPU as
 * arch/x86/kernel/ptrace.c does. What touches TLS goes through the gate.
 */
import { Reg } from "../../../emulator/cpu.ts";
import { Flag } from "../../../emulator/x86.ts";
import { x86_64 } from "../abi.ts";
import { loadSelectors, type RefusedSelector, type Selectors } from "../signals/segments.ts";
import type { Tracee } from "./tracee.ts";

/** What a tracer may set: FLAG_MASK. */
const FLAGS = 0x5_4dd5;
/** asm/user32.h: how many registers, in 32-bit words. */
export const NARROW_REGISTERS = 17;
export const WIDE_REGISTERS = 27;

type Segment = "cs" | "ss" | "ds" | "es" | "fs" | "gs";
type Slot = number | "orig" | "flags" | "fsBase" | "gsBase" | Segment;

const { r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, rip, rsp } = Reg;
const WIDE: readonly Slot[] = [
  ...[r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi],
  "orig",
  rip,
  "cs",
  "flags",
  rsp,
  "ss",
  "fsBase",
  "gsBase",
  "ds",
  "es",
  "fs",
  "gs",
];
const NARROW: readonly Slot[] = [
  ...[rbx, rcx, rdx, rsi, rdi, rbp, rax],
  "ds",
  "es",
  "fs",
  "gs",
  "orig",
  rip,
  "cs",
  "flags",
  rsp,
  "ss",
];

function get(tracee: Tracee, slot: Slot): bigint {
  const { task } = tracee;
  const { cpu } = task;
  switch (slot) {
    case "orig":
      return BigInt.asUintN(64, BigInt(tracee.orig));
    case "flags": {
      const flags = cpu.regLow(Reg.rflags);
      return BigInt(tracee.forcedTf ? flags & ~Flag.TF : flags);
    }
    case "fsBase":
      return task.kernel.gate.state(task.tid).fsBase;
    case "gsBase":
      return task.kernel.gate.state(task.tid).gsBase;
    case "cs":
    case "ss":
      return BigInt(tracee.refused?.[slot] ?? cpu.selector(slot));
    case "ds":
    case "es":
    case "fs":
    case "gs":
      return BigInt(task.kernel.gate.guestCpu(task.tid).selector(slot));
    default:
      return cpu.regBig(slot);
  }
}

/** The registers of the task in the CPU, 64-bit words. */
export function getWide(tracee: Tracee): bigint[] {
  return WIDE.map((slot) => get(tracee, slot));
}

/** The same as a 32-bit tracer sees them. */
export function getNarrow(tracee: Tracee): number[] {
  return NARROW.map((slot) => Number(BigInt.asUintN(32, get(tracee, slot))));
}

/** True where the kernel's answer is EIO. */
type Refused = boolean;

/** Writes one register; `index` counts 64-bit words. */
export function putWide(tracee: Tracee, index: number, value: bigint): Refused {
  const slot = WIDE[index];
  return slot === undefined || put(tracee, slot, BigInt.asUintN(64, value), false);
}

/** Writes one register as a 32-bit tracer does; `index` counts 32-bit words. */
export function putNarrow(tracee: Tracee, index: number, value: number): Refused {
  const slot = NARROW[index];
  return slot === undefined || put(tracee, slot, BigInt(value >>> 0), true);
}

function put(tracee: Tracee, slot: Slot, value: bigint, narrow: boolean): Refused {
  const { cpu } = tracee.task;
  switch (slot) {
    case "orig":
      tracee.orig = narrow ? Number(value) | 0 : Number(BigInt.asIntN(64, value));
      return false;
    case "flags":
      putFlags(tracee, Number(value & 0xffff_ffffn));
      return false;
    case "fsBase":
    case "gsBase":
      return putBase(tracee, slot === "fsBase" ? "fs" : "gs", value);
    case "cs":
    case "ss":
    case "ds":
    case "es":
    case "fs":
    case "gs":
      return putSelector(tracee, slot, Number(value & 0xffffn), narrow);
    default:
      cpu.setRegBig(slot, value);
      return false;
  }
}

/** set_flags: a TF that the tracer sets is the program's own. */
function putFlags(tracee: Tracee, value: number): void {
  const { cpu } = tracee.task;
  let wanted = value;
  if ((value & Flag.TF) !== 0) tracee.forcedTf = false;
  else if (tracee.forcedTf) wanted |= Flag.TF;
  cpu.setReg(Reg.rflags, (cpu.regLow(Reg.rflags) & ~FLAGS) | (wanted & FLAGS));
}

/** A base that is there already is not asked for again: that is what writing back all registers does. */
function putBase({ task }: Tracee, segment: "fs" | "gs", address: bigint): Refused {
  if (address >= BigInt(x86_64.userEnd)) return true;
  const state = task.kernel.gate.state(task.tid);
  if ((segment === "fs" ? state.fsBase : state.gsBase) === address) return false;
  const kind = segment === "fs" ? "SetFsBase" : "SetGsBase";
  return task.punch({ kind, address, keepsSelector: true }, "ptrace").kind !== "ok";
}

/**
 * set_segment_reg. A 64-bit tracer that sets the selector of FS or GS leaves the base alone where programs set bases themselves
 * (FSGSBASE); a 32-bit one, and an older CPU, take it from the descriptor.
 */
function putSelector(tracee: Tracee, segment: Segment, selector: number, narrow: boolean): Refused {
  const { task } = tracee;
  if (selector !== 0 && (selector & 3) !== 3) return true;
  if ((segment === "cs" || segment === "ss") && selector === 0) return true;
  const { gate } = task.kernel;
  const keepsBase = (segment === "fs" || segment === "gs") && !narrow && task.cpu.fsgsbase;
  const before = gate.state(task.tid);
  const wanted: Selectors = { [segment]: selector };
  const refused = loadSelectors(task, wanted, "ptrace");
  if (refused === "denied") return true;
  if (refused !== undefined) keepRefused(tracee, segment, selector, refused);
  else if (segment === "cs" || segment === "ss") tracee.refused = undefined;
  return keepsBase && putBase(tracee, segment, segment === "fs" ? before.fsBase : before.gsBase);
}

function keepRefused(tracee: Tracee, segment: Segment, selector: number, { vector, errorCode }: RefusedSelector): void {
  const { cpu } = tracee.task;
  const cs = segment === "cs" ? selector : (tracee.refused?.cs ?? cpu.selector("cs"));
  const ss = segment === "ss" ? selector : (tracee.refused?.ss ?? cpu.selector("ss"));
  tracee.refused = { cs, ss, vector, errorCode };
}
