/** What a change of the LDT does to segment registers that are loaded from it (flush_ldt in arch/x86/kernel/ldt.c). */
import type { SegmentName } from "../../../emulator/privileged.ts";
import { Vector } from "../../../emulator/x86.ts";
import type { Task } from "../task.ts";
import { SiCode, Signal } from "./numbers.ts";
import type { RefusedSelector } from "./segments.ts";
import { forceSignal } from "./send.ts";
import { SigInfo } from "./siginfo.ts";

/** Bit of a selector: the descriptor is in the LDT. */
const LOCAL = 4;
const VECTOR_SHIFT = 16n;
const CODE_MASK = 0xffffn;

/** The LDT of the caller's address space is another than before, for all who share it. */
export function ldtChanged(task: Task): void {
  const { kernel, process } = task;
  for (const { mm, tasks } of kernel.processes.values()) {
    if (mm !== process.mm) continue;
    for (const other of tasks) other.ldtChanged = other !== task;
  }
  // Its DS and ES are loaded anew with the entry.
  reload(task, ["cs", "ss"]);
}

/** A thread goes back to its program, and takes notice of a change that another has made. */
export function refreshLdt(task: Task): void {
  task.ldtChanged = false;
  reload(task, ["ds", "es", "cs", "ss"]);
}

function reload(task: Task, segments: readonly SegmentName[]): void {
  const cpu = task.kernel.gate.guestCpu(task.tid);
  const selectors: Partial<Record<SegmentName, number>> = {};
  let any = false;
  for (const segment of segments) {
    const selector = cpu.selector(segment);
    if ((selector & LOCAL) === 0) continue;
    selectors[segment] = selector;
    any = true;
  }
  if (!any) return;
  const outcome = task.punch({ kind: "LoadSelectors", selectors }, "modify_ldt");
  if (outcome.kind !== "ok" || outcome.value === 0n) return;
  const by = { vector: Number(outcome.value >> VECTOR_SHIFT), errorCode: Number(outcome.value & CODE_MASK) };
  refuseReturn(task, { cs: cpu.selector("cs"), ss: cpu.selector("ss") }, by);
}

/** The IRET back to the program finds CS or SS no good: a signal says so. */
export function refuseReturn(task: Task, { cs, ss }: { cs: number; ss: number }, by: RefusedSelector): void {
  const { signals } = task;
  signals.refused = { cs, ss };
  // With a stack segment of the LDT Linux returns from a read-only copy of its stack (espfix64): a fault there becomes a double
  // fault, and that a plain #GP.
  const espfix = (ss & LOCAL) !== 0;
  signals.trapno = espfix ? Vector.GP : by.vector;
  signals.errorCode = espfix ? 0 : by.errorCode;
  const signal = signals.trapno === Vector.GP ? Signal.SIGSEGV : Signal.SIGBUS;
  forceSignal(task, SigInfo.sent(signal, SiCode.SI_KERNEL, 0, 0));
}
