/**
 * Segment descriptors: the `struct user_desc` that Linux guests pass (asm/ldt.h), the raw 8-byte form the CPU reads
 * (Intel SDM volume 3, 3.4.5) and the GDT a Linux kernel sets up (arch/x86/include/asm/segment.h).
 */

/** `struct user_desc`, asm/ldt.h. The names are the kernel's. */
export interface UserDesc {
  /** Signed: -1 asks `set_thread_area` for a free entry. */
  entry_number: number;
  /** Unsigned 32-bit. */
  base_addr: number;
  /** Unsigned 32-bit; a descriptor holds the low 20 bits. In bytes, or in 4 KiB pages with `limit_in_pages`. */
  limit: number;
  seg_32bit: boolean;
  /** 0 data, 1 data that expands down, 2 code, 3 conforming code. */
  contents: number;
  read_exec_only: boolean;
  limit_in_pages: boolean;
  seg_not_present: boolean;
  useable: boolean;
  /** Read and written, but a descriptor made from it never has the long-mode bit, as in Linux. */
  lm: boolean;
}

/** What reading and writing a `user_desc` needs of guest memory. */
interface Words {
  u32(address: number): number;
  setU32(address: number, value: number): void;
}

const SEG_32BIT = 1 << 0;
const CONTENTS_SHIFT = 1;
const READ_EXEC_ONLY = 1 << 3;
const LIMIT_IN_PAGES = 1 << 4;
const SEG_NOT_PRESENT = 1 << 5;
const USEABLE = 1 << 6;
const LM = 1 << 7;

/** A `struct user_desc` from its four words. */
export function userDescOf(entry_number: number, base_addr: number, limit: number, flags: number): UserDesc {
  return {
    entry_number: entry_number | 0,
    base_addr,
    limit,
    seg_32bit: (flags & SEG_32BIT) !== 0,
    contents: (flags >> CONTENTS_SHIFT) & 3,
    read_exec_only: (flags & READ_EXEC_ONLY) !== 0,
    limit_in_pages: (flags & LIMIT_IN_PAGES) !== 0,
    seg_not_present: (flags & SEG_NOT_PRESENT) !== 0,
    useable: (flags & USEABLE) !== 0,
    lm: (flags & LM) !== 0,
  };
}

/** The fourth word of a `struct user_desc`. */
function flagsOf(desc: UserDesc): number {
  return (
    (desc.seg_32bit ? SEG_32BIT : 0) |
    ((desc.contents & 3) << CONTENTS_SHIFT) |
    (desc.read_exec_only ? READ_EXEC_ONLY : 0) |
    (desc.limit_in_pages ? LIMIT_IN_PAGES : 0) |
    (desc.seg_not_present ? SEG_NOT_PRESENT : 0) |
    (desc.useable ? USEABLE : 0) |
    (desc.lm ? LM : 0)
  );
}

/** Whether such a word describes a present 32-bit data segment, as every thread's own is. */
export function isPresentData(flags: number): boolean {
  return (flags & (SEG_32BIT | (2 << CONTENTS_SHIFT) | SEG_NOT_PRESENT)) === SEG_32BIT;
}

/**
 * Reads the 16-byte `struct user_desc` at a guest address. A guest with the 32-bit structure leaves the `lm` bit
 * undefined; nothing depends on it.
 * @throws MemoryFault when part of it cannot be read
 */
export function readUserDesc(memory: Pick<Words, "u32">, address: number): UserDesc {
  return userDescOf(memory.u32(address), memory.u32(address + 4), memory.u32(address + 8), memory.u32(address + 12));
}

/**
 * Writes all 16 bytes of a `struct user_desc`; the padding bits become zero, as in Linux' answers.
 * @throws MemoryFault when part of it cannot be written
 */
export function writeUserDesc(memory: Pick<Words, "setU32">, address: number, desc: UserDesc): void {
  memory.setU32(address, desc.entry_number >>> 0);
  memory.setU32(address + 4, desc.base_addr);
  memory.setU32(address + 8, desc.limit);
  memory.setU32(address + 12, flagsOf(desc));
}

/** `LDT_empty` of asm/desc.h: the documented way to ask for "no segment". Ignores `entry_number` and `lm`. */
export function isEmpty(desc: UserDesc): boolean {
  return isBlank(desc) && desc.read_exec_only && desc.seg_not_present;
}

/** `LDT_zero` of asm/desc.h: all zero but for the entry number, which `set_thread_area` also takes as "no segment". */
export function isZero(desc: UserDesc): boolean {
  return isBlank(desc) && !desc.read_exec_only && !desc.seg_not_present;
}

function isBlank(desc: UserDesc): boolean {
  return (
    desc.base_addr === 0 &&
    desc.limit === 0 &&
    desc.contents === 0 &&
    !desc.seg_32bit &&
    !desc.limit_in_pages &&
    !desc.useable
  );
}

// Bits of the descriptor's upper 32-bit word.
const ACCESSED = 1 << 8;
const WRITABLE = 1 << 9;
const TYPE_CONTENTS_SHIFT = 10;
const CODE = 1 << 11;
const EXPAND_DOWN = 1 << 10;
const CONFORMING = 1 << 10;
const NOT_SYSTEM = 1 << 12;
const DPL_SHIFT = 13;
const PRESENT = 1 << 15;
const AVAILABLE = 1 << 20;
const LONG = 1 << 21;
const DEFAULT_32 = 1 << 22;
const GRANULAR = 1 << 23;

function join(high: number, low: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/**
 * The raw descriptor Linux makes of a `user_desc` (`fill_ldt`, asm/desc.h): a DPL 3 code or data segment, accessed bit
 * set, long-mode bit clear. Whether an empty description means an empty descriptor is the caller's rule.
 */
export function toDescriptor(desc: UserDesc): bigint {
  const { base_addr, limit } = desc;
  return join(descriptorHigh(base_addr, limit, flagsOf(desc)), descriptorLow(base_addr, limit));
}

/** The upper word of that descriptor, from the words of the `user_desc`. */
export function descriptorHigh(base: number, limit: number, flags: number): number {
  return (
    (base & 0xff000000) |
    ((base >>> 16) & 0xff) |
    (limit & 0xf0000) |
    ACCESSED |
    ((flags & READ_EXEC_ONLY) !== 0 ? 0 : WRITABLE) |
    (((flags >> CONTENTS_SHIFT) & 3) << TYPE_CONTENTS_SHIFT) |
    NOT_SYSTEM |
    (3 << DPL_SHIFT) |
    ((flags & SEG_NOT_PRESENT) !== 0 ? 0 : PRESENT) |
    ((flags & USEABLE) !== 0 ? AVAILABLE : 0) |
    ((flags & SEG_32BIT) !== 0 ? DEFAULT_32 : 0) |
    ((flags & LIMIT_IN_PAGES) !== 0 ? GRANULAR : 0)
  );
}

/** Its lower word. */
export function descriptorLow(base: number, limit: number): number {
  return ((base & 0xffff) << 16) | (limit & 0xffff);
}

/** The `user_desc` Linux gives back for a descriptor (`fill_user_desc`, arch/x86/kernel/tls.c). */
export function fromDescriptor(entry_number: number, raw: bigint): UserDesc {
  const high = highWord(raw);
  const low = lowWord(raw);
  return userDescOf(entry_number, baseOf(high, low), limitOf(high, low), userFlagsOf(high));
}

/** The flags of that `user_desc`, from the descriptor's upper word. */
export function userFlagsOf(high: number): number {
  return (
    ((high & DEFAULT_32) !== 0 ? SEG_32BIT : 0) |
    (((high >> TYPE_CONTENTS_SHIFT) & 3) << CONTENTS_SHIFT) |
    ((high & WRITABLE) === 0 ? READ_EXEC_ONLY : 0) |
    ((high & GRANULAR) !== 0 ? LIMIT_IN_PAGES : 0) |
    ((high & PRESENT) === 0 ? SEG_NOT_PRESENT : 0) |
    ((high & AVAILABLE) !== 0 ? USEABLE : 0) |
    ((high & LONG) !== 0 ? LM : 0)
  );
}

/** The limit as it stands in a descriptor. */
export function limitOf(high: number, low: number): number {
  return (high & 0xf0000) | (low & 0xffff);
}

function highWord(raw: bigint): number {
  return Number((raw >> 32n) & 0xffffffffn);
}

function lowWord(raw: bigint): number {
  return Number(raw & 0xffffffffn);
}

/** The base of a descriptor from its words. */
export function baseOf(high: number, low: number): number {
  return ((high & 0xff000000) | ((high & 0xff) << 16) | (low >>> 16)) >>> 0;
}

/** A descriptor as the CPU understands it, for traces, reports and checks. */
export interface DecodedDescriptor {
  base: number;
  /** Last valid offset in bytes, granularity applied; for an expand-down segment the last invalid one. */
  limit: number;
  type: "data" | "code" | "system";
  writable: boolean;
  readable: boolean;
  expandDown: boolean;
  conforming: boolean;
  dpl: number;
  present: boolean;
  /** Default operand size of code, stack width of data: 16, 32 or (code only) 64. */
  bits: 16 | 32 | 64;
}

/** Decodes a raw descriptor (Intel SDM volume 3, 3.4.5). */
export function decodeDescriptor(raw: bigint): DecodedDescriptor {
  const high = highWord(raw);
  const low = lowWord(raw);
  const limit = limitOf(high, low);
  const type = (high & NOT_SYSTEM) === 0 ? "system" : (high & CODE) !== 0 ? "code" : "data";
  return {
    base: baseOf(high, low),
    limit: (high & GRANULAR) !== 0 ? limit * 4096 + 4095 : limit,
    type,
    writable: type === "data" && (high & WRITABLE) !== 0,
    readable: type === "data" || (type === "code" && (high & WRITABLE) !== 0),
    expandDown: type === "data" && (high & EXPAND_DOWN) !== 0,
    conforming: type === "code" && (high & CONFORMING) !== 0,
    dpl: (high >> DPL_SHIFT) & 3,
    present: (high & PRESENT) !== 0,
    bits: type === "code" && (high & LONG) !== 0 ? 64 : (high & DEFAULT_32) !== 0 ? 32 : 16,
  };
}

/** One line about a raw descriptor, as `base 0x1000 limit 0xffffffff data rw 32-bit dpl 3`; `empty` for zero. */
export function formatDescriptor(raw: bigint): string {
  if (raw === 0n) return "empty";
  const d = decodeDescriptor(raw);
  const access = d.type === "data" ? (d.writable ? " rw" : " r") : d.type === "code" ? (d.readable ? " rx" : " x") : "";
  const shape = `${d.expandDown ? " expand-down" : ""}${d.conforming ? " conforming" : ""}`;
  const rest = `${d.type}${access}${shape} ${d.bits}-bit dpl ${d.dpl}${d.present ? "" : " not present"}`;
  return `base 0x${d.base.toString(16)} limit 0x${d.limit.toString(16)} ${rest}`;
}

/** Writable 32-bit data from a base to the end of the address space: what C libraries ask set_thread_area for. */
export function flatData(entry_number: number, base_addr: number): UserDesc {
  return {
    entry_number,
    base_addr,
    limit: 0xfffff,
    seg_32bit: true,
    contents: 0,
    read_exec_only: false,
    limit_in_pages: true,
    seg_not_present: false,
    useable: true,
    lm: false,
  };
}

/** Which kernel's GDT the guest sees: the 64-bit kernel's (also for i386 programs), or a native 32-bit kernel's. */
export type GdtLayout = "x86_64" | "i386";

/** Descriptors in the GDT we model. A native i386 kernel has 16 more, all of them out of user mode's reach. */
export const GDT_ENTRIES = 16;

/** The selectors and entries of a layout that user mode may know. */
export interface GdtLayoutInfo {
  /** First and last GDT entry of `set_thread_area`. */
  tlsFirst: number;
  tlsLast: number;
  /** User code selector of 32-bit programs, data selector, and code selector of 64-bit programs where there are any. */
  userCs32: number;
  userDs: number;
  userCs64: number | undefined;
  /** Selector whose limit holds CPU and NUMA node for `lsl`, where user mode can find it in the modelled part. */
  cpuNode: number | undefined;
}

/** arch/x86/include/asm/segment.h for both kernels. */
export const gdtLayouts: Readonly<Record<GdtLayout, GdtLayoutInfo>> = {
  x86_64: { tlsFirst: 12, tlsLast: 14, userCs32: 0x23, userDs: 0x2b, userCs64: 0x33, cpuNode: 0x7b },
  i386: { tlsFirst: 6, tlsLast: 8, userCs32: 0x73, userDs: 0x7b, userCs64: undefined, cpuNode: undefined },
};

// Access byte and flags as 0xF0AA: code 32/64-bit and data, flat 4 GiB, for ring 0 (0x9b/0x93) and ring 3 (0xfb/0xf3),
// with the accessed bit that lets a kernel map its GDT read-only.
const KERNEL_CODE32 = 0xc09b;
const KERNEL_CODE64 = 0xa09b;
const KERNEL_DATA = 0xc093;
const USER_CODE32 = 0xc0fb;
const USER_CODE64 = 0xa0fb;
const USER_DATA = 0xc0f3;
/** Read-only expand-down data, DPL 3: setup_getcpu in arch/x86/kernel/cpu/common.c. */
const CPU_NODE = 0x40f5;

function pack(flags: number, limit: number): bigint {
  return join(((flags & 0xf0ff) << 8) | (limit & 0xf0000), limit & 0xffff);
}

/**
 * The GDT of a Linux kernel before any program set a TLS entry: 16 raw descriptors. TSS and LDT entries are empty, the
 * task register and LDTR are not modelled through the table.
 */
export function initialGdt(layout: GdtLayout, cpu = 0, node = 0): bigint[] {
  const gdt = new Array<bigint>(GDT_ENTRIES).fill(0n);
  const flat = (flags: number): bigint => pack(flags, 0xfffff);
  if (layout === "x86_64") {
    gdt[1] = flat(KERNEL_CODE32);
    gdt[2] = flat(KERNEL_CODE64);
    gdt[3] = flat(KERNEL_DATA);
    gdt[4] = flat(USER_CODE32);
    gdt[5] = flat(USER_DATA);
    gdt[6] = flat(USER_CODE64);
    gdt[15] = pack(CPU_NODE, (node << 12) | cpu);
  } else {
    gdt[12] = flat(KERNEL_CODE32);
    gdt[13] = flat(KERNEL_DATA);
    gdt[14] = flat(USER_CODE32);
    gdt[15] = flat(USER_DATA);
  }
  return gdt;
}
