/**
 * The segment registers around a handler. Sigreturn loads whatever selectors the frame names: a guest could load the same with
 * `mov` or `iret` itself, but here the kernel does it on its behalf, and a selector of GS brings a TLS base with it. So it goes
 * through the gate as any change of TLS does, in one request, and only when a selector differs from the one that is loaded,
 * which is when Linux reloads it too (reload_segments in arch/x86/kernel/signal_32.c).
 */
import { gdtLayouts } from "../../../emulator/descriptors.ts";
import type { SegmentName } from "../../../emulator/privileged.ts";
import type { Task } from "../task.ts";

export type Selectors = Partial<Record<SegmentName, number>>;

const { userCs32, userCs64 = userCs32, userDs } = gdtLayouts.x86_64;
const FAULT_SHIFT = 16n;

/** An exception that the return to user mode raises. */
export interface RefusedSelector {
  readonly vector: number;
  readonly errorCode: number;
}

/**
 * Loads the selectors that are not loaded yet. Data segments that cannot be loaded become null, as Linux makes them.
 * @returns what the CPU refuses of CS and SS, which then are as before; "denied" when the provider gives no token
 */
export function loadSelectors(task: Task, wanted: Selectors, call: string): RefusedSelector | "denied" | undefined {
  const cpu = task.kernel.gate.guestCpu(task.tid);
  const selectors: Selectors = {};
  let changes = false;
  for (const segment of ["gs", "fs", "ds", "es", "cs", "ss"] as const) {
    const selector = wanted[segment];
    if (selector === undefined || selector === cpu.selector(segment)) continue;
    selectors[segment] = selector;
    changes = true;
  }
  if (!changes) return undefined;
  const outcome = task.punch({ kind: "LoadSelectors", selectors }, call);
  if (outcome.kind !== "ok") return "denied";
  if (outcome.value === 0n) return undefined;
  return { vector: Number(outcome.value >> FAULT_SHIFT), errorCode: Number(outcome.value & 0xffffn) };
}

/** The segments of a handler: of a 64-bit one only CS, and SS where it was no good. False when the provider refuses. */
export function enterHandler(task: Task, wide: boolean): boolean {
  const refused = task.signals.refused !== undefined;
  const wanted: Selectors = wide
    ? { cs: userCs64, ...(refused ? { ss: userDs } : {}) }
    : { cs: userCs32, ss: userDs, ds: userDs, es: userDs };
  return loadSelectors(task, wanted, "signal delivery") === undefined;
}

/** A selector that sigreturn loads into a data segment: privilege 3, or null (usrseg in signal_32.c). */
export function userSelector(selector: number): number {
  return selector <= 3 ? selector : selector | 3;
}

export const flatDataSelector = userDs;
export const wideCodeSelector = userCs64;
