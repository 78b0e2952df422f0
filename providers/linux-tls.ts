import {
  type DecodedDescriptor,
  decodeDescriptor,
  fromDescriptor,
  GDT_ENTRIES,
  type GdtLayout,
  type GdtLayoutInfo,
  gdtLayouts,
  isEmpty,
  isZero,
  toDescriptor,
  type UserDesc,
} from "../emulator/descriptors.ts";
import type { PrivilegedState, SegmentName } from "../emulator/privileged.ts";
import { Vector } from "../emulator/x86.ts";
import { Errno } from "./errno.ts";
import type { PlatformCpu } from "./platform.ts";
import type { Request, Result } from "./requests.ts";

/** TASK_SIZE_MAX with four-level page tables, arch/x86/include/asm/page_64_types.h. Exclusive. */
export const TASK_SIZE_MAX = 0x7ffffffff000n;
/** asm/ldt.h. */
const LDT_ENTRIES = 8192;

export const DONE: Result = Object.freeze({ kind: "ok", value: 0n });
export const UNSUPPORTED: Result = Object.freeze({ kind: "unsupported" });

export function failure(errno: number): Result {
  return { kind: "failure", errno };
}

/**
 * Does a request on `cpu` as a Linux kernel does (arch/x86/kernel process_64.c, tls.c and ldt.c). On the native i386
 * layout there are no FS and GS base requests, as such a kernel has no arch_prctl codes for them.
 */
export function executeAsLinux(cpu: PlatformCpu, layout: GdtLayout, request: Request): Result {
  const { privileged } = cpu;
  const info = gdtLayouts[layout];
  switch (request.kind) {
    case "SetFsBase":
      return layout === "i386" ? UNSUPPORTED : setBase(cpu, "fs", request.address, request.keepsSelector);
    case "GetFsBase":
      return layout === "i386" ? UNSUPPORTED : { kind: "ok", value: privileged.fsBase };
    case "SetGsBase":
      return layout === "i386" ? UNSUPPORTED : setBase(cpu, "gs", request.address, request.keepsSelector);
    case "GetGsBase":
      return layout === "i386" ? UNSUPPORTED : { kind: "ok", value: privileged.gsBase };
    case "SetThreadArea":
      return setThreadArea(cpu, info, request.desc);
    case "GetThreadArea":
      return getThreadArea(privileged, info, request.entry_number);
    case "SetLdtEntry":
      // A 32-bit kernel also reloads FS when it returns to user mode.
      return setLdtEntry(cpu, request.desc, request.legacy, layout === "i386" ? LDT_REFRESH_I386 : LDT_REFRESH);
    case "LoadSelectors":
      return loadSelectors(cpu, request.selectors);
    case "ClearTls":
      return clearTls(privileged, info);
  }
}

/**
 * do_arch_prctl_64: the selector goes too, so that a later context switch does not bring its base back; not so where a tracer writes
 * to `struct user` (putreg in arch/x86/kernel/ptrace.c).
 */
function setBase(cpu: PlatformCpu, segment: "fs" | "gs", address: bigint, keepsSelector = false): Result {
  const { privileged } = cpu;
  if (address < 0n || address >= TASK_SIZE_MAX) return failure(Errno.EPERM);
  if (cpu.selector(segment) !== 0 && !keepsSelector) privileged.loadSelector(segment, 0);
  if (segment === "fs") privileged.fsBase = address;
  else privileged.gsBase = address;
  return DONE;
}

/** tls_desc_okay: a present 32-bit data segment, or no segment at all. */
export function isTlsDescriptor(desc: UserDesc): boolean {
  if (isEmpty(desc) || isZero(desc)) return true;
  return desc.seg_32bit && desc.contents <= 1 && !desc.seg_not_present;
}

/** do_set_thread_area, for the running thread. */
function setThreadArea(cpu: PlatformCpu, { tlsFirst, tlsLast }: GdtLayoutInfo, desc: UserDesc): Result {
  const { privileged } = cpu;
  if (!isTlsDescriptor(desc)) return failure(Errno.EINVAL);
  let entry = desc.entry_number | 0;
  if (entry === -1) {
    entry = tlsFirst;
    while (entry <= tlsLast && privileged.gdtEntry(entry) !== 0n) entry++;
    if (entry > tlsLast) return failure(Errno.ESRCH);
  }
  if (entry < tlsFirst || entry > tlsLast) return failure(Errno.EINVAL);
  privileged.setGdtEntry(entry, isEmpty(desc) || isZero(desc) ? 0n : toDescriptor(desc));

  // Linux reloads these four itself, and the IRET back to user mode reloads SS.
  const modified = (entry << 3) | 3;
  for (const segment of TLS_REFRESH) if (cpu.selector(segment) === modified) reload(privileged, segment, modified);
  return { kind: "ok", value: 0n, desc: { ...desc, entry_number: entry } };
}

const TLS_REFRESH: readonly SegmentName[] = ["ds", "es", "fs", "gs", "ss"];
/** refresh_ldt_segments reloads DS and ES; the IRET back to user mode reloads SS and CS. FS and GS keep their base. */
const LDT_REFRESH: readonly SegmentName[] = ["ds", "es", "ss", "cs"];
const LDT_REFRESH_I386: readonly SegmentName[] = [...LDT_REFRESH, "fs"];

/**
 * A data segment register whose descriptor no longer loads becomes null (the fixup of `loadsegment`). An
 * SS or CS keeps what it had: that such a one is refused is found out at the IRET, by LoadSelectors.
 */
function reload(privileged: PrivilegedState, segment: SegmentName, selector: number): void {
  if (privileged.loadSelector(segment, selector) || segment === "ss" || segment === "cs") return;
  privileged.loadSelector(segment, 0);
}

/** do_get_thread_area. */
function getThreadArea(privileged: PrivilegedState, info: GdtLayoutInfo, entry_number: number): Result {
  const entry = entry_number | 0;
  if (entry < info.tlsFirst || entry > info.tlsLast) return failure(Errno.EINVAL);
  return { kind: "ok", value: 0n, desc: fromDescriptor(entry, privileged.gdtEntry(entry)) };
}

/** write_ldt of ldt.c; `legacy` is its `oldmode`. 16-bit segments are allowed, as with CONFIG_X86_16BIT. */
function setLdtEntry(cpu: PlatformCpu, desc: UserDesc, legacy: boolean, refresh: readonly SegmentName[]): Result {
  const { privileged } = cpu;
  const entry = desc.entry_number >>> 0;
  if (entry >= LDT_ENTRIES) return failure(Errno.EINVAL);
  if (desc.contents === 3 && (legacy || !desc.seg_not_present)) return failure(Errno.EINVAL);
  const clears = (legacy && desc.base_addr === 0 && desc.limit === 0) || isEmpty(desc);
  const raw = clears ? 0n : toDescriptor(legacy ? { ...desc, useable: false } : desc);

  // The table grows to hold the entry even where the entry is cleared, and never shrinks.
  if (entry >= privileged.ldtSize) privileged.ldtSize = entry + 1;
  privileged.setLdtEntry(entry, raw);
  for (const segment of refresh) {
    const selector = cpu.selector(segment);
    if ((selector & 4) !== 0) reload(privileged, segment, selector);
  }
  return DONE;
}

/** reload_segments of signal_32.c, and the IRET that loads CS and then SS. */
function loadSelectors(cpu: PlatformCpu, selectors: Readonly<Partial<Record<SegmentName, number>>>): Result {
  const { privileged } = cpu;
  for (const segment of ["gs", "fs", "ds", "es"] as const) {
    const selector = selectors[segment];
    if (selector !== undefined) reload(privileged, segment, selector);
  }
  const old = cpu.selector("cs");
  const { cs = old, ss = cpu.selector("ss") } = selectors;
  if (selectors.cs !== undefined && !privileged.loadSelector("cs", cs)) return refused(privileged, cs, Vector.NP);
  if (selectors.ss !== undefined && !privileged.loadSelector("ss", ss)) {
    if (cs !== old) privileged.loadSelector("cs", old);
    return refused(privileged, ss, Vector.SS);
  }
  return DONE;
}

/** What IRET raises for a selector: `absent` where all is right but the present bit. */
function refused(privileged: PrivilegedState, selector: number, absent: number): Result {
  const index = selector >> 3;
  let raw = 0n;
  if ((selector & 4) !== 0) raw = index < privileged.ldtSize ? privileged.ldtEntry(index) : 0n;
  else if (index < GDT_ENTRIES) raw = privileged.gdtEntry(index);
  const right = (selector & 3) === 3 && isUserSegment(decodeDescriptor(raw), absent === Vector.NP);
  const vector = right ? absent : Vector.GP;
  return { kind: "ok", value: (BigInt(vector) << 16n) | BigInt(selector & 0xfffc) };
}

/** Fit for CS (or else SS) in ring 3, present or not. */
function isUserSegment(descriptor: DecodedDescriptor, code: boolean): boolean {
  if (descriptor.type === "system" || descriptor.dpl !== 3) return false;
  return code ? descriptor.type === "code" : descriptor.type === "data" && descriptor.writable;
}

/**
 * What exec does: flush_thread clears the TLS entries, start_thread nulls FS and GS, and the new address space has no
 * LDT. The other segment registers belong to the program start, which sets all registers.
 */
function clearTls(privileged: PrivilegedState, { tlsFirst, tlsLast }: GdtLayoutInfo): Result {
  privileged.loadSelector("fs", 0);
  privileged.loadSelector("gs", 0);
  privileged.fsBase = 0n;
  privileged.gsBase = 0n;
  for (let entry = tlsFirst; entry <= tlsLast; entry++) privileged.setGdtEntry(entry, 0n);
  if (privileged.ldtSize !== 0) privileged.ldtSize = 0;
  return DONE;
}
