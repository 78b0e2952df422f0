/** Thread-local storage: arch_prctl, set_thread_area, modify_ldt, rseq, robust lists. All changes go through the gate. */
import { readUserDesc, type UserDesc, writeUserDesc } from "../../../emulator/descriptors.ts";
import { isTlsDescriptor } from "../../../providers/linux-tls.ts";
import { ldtEntries } from "../../../providers/state.ts";
import { Errno } from "../errno.ts";
import { ArchPrctl, archPrctlCode, rseqFlags } from "../kinds/flags.ts";
import { int, type Kind, pid, pointer, scalar, size, uintHex, word } from "../kinds/kinds.ts";
import { fills, pointsTo } from "../kinds/memory.ts";
import { address, valueOut } from "../kinds/structs.ts";
import { ldtChanged } from "../signals/ldt.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { tlsErrno, unlessTlsBase } from "../tls-errno.ts";

/** x87 and SSE: what a CPU without XSAVE has as features (asm/fpu/types.h). */
const FEATURES_X87_SSE = 3;
const XFEATURE_MAX = 20;
const LDT_ENTRY_BYTES = 8;
const USER_DESC_BYTES = 16;
/** What modify_ldt(2, …) shows at most (read_default_ldt). */
const DEFAULT_LDT_BYTES = 128;

/** strace's `{entry_number=12, base_addr=0xf7fb8540, limit=0x0fffff, …}`. */
function userDescText(d: UserDesc, wide: boolean): string {
  const bit = (value: boolean): number => (value ? 1 : 0);
  const fixed = (value: number): string => (value === 0 ? "00000000" : `0x${value.toString(16).padStart(6, "0")}`);
  const lm = wide ? `, lm=${bit(d.lm)}` : "";
  const base = d.base_addr === 0 ? "00000000" : `0x${d.base_addr.toString(16).padStart(8, "0")}`;
  return (
    `{entry_number=${d.entry_number}, base_addr=${base}, limit=${fixed(d.limit)}, seg_32bit=${bit(d.seg_32bit)}, ` +
    `contents=${d.contents}, read_exec_only=${bit(d.read_exec_only)}, limit_in_pages=${bit(d.limit_in_pages)}, ` +
    `seg_not_present=${bit(d.seg_not_present)}, useable=${bit(d.useable)}${lm}}`
  );
}

const userDescIn: Kind = pointsTo((at, c) => userDescText(readUserDesc(c.task.memory, at), c.abi.word === 8));
const userDescOut: Kind = fills((at, c) => userDescText(readUserDesc(c.task.memory, at), c.abi.word === 8));

/** The second argument of arch_prctl is what the code makes of it. */
const archPrctlArgument: Kind = {
  shape: "pointer",
  moment: "exit",
  print: (value, at) => {
    const code = at.args[0];
    if (code === ArchPrctl.ARCH_GET_FS || code === ArchPrctl.ARCH_GET_GS) return valueOut(address).print(value, at);
    return word.print(value, at);
  },
};

function setBase(task: Task, kind: "SetFsBase" | "SetGsBase", value: number): number {
  const refused = unlessTlsBase(task, kind === "SetFsBase" ? "FS" : "GS", value);
  if (refused !== 0) return refused;
  const short = task.kernel.gate.shortWay;
  if (short?.setBase(kind === "SetFsBase" ? "fs" : "gs", value, task.tid, task.callName)) return 0;
  const address = task.kernel.gate.asLitebox ? task.cpu.regBig(task.abi.args[1]) : BigInt(value);
  const outcome = task.punch({ kind, address });
  return outcome.kind === "ok" ? 0 : tlsErrno(task, outcome);
}

function getBase(task: Task, kind: "GetFsBase" | "GetGsBase", to: number): number {
  const segment = kind === "GetFsBase" ? "fs" : "gs";
  const base = task.kernel.gate.shortWay?.getBase(segment, task.tid, task.callName);
  if (base !== undefined) {
    task.memory.setNum64(to, base);
    return 0;
  }
  const outcome = task.punch({ kind });
  if (outcome.kind !== "ok") return tlsErrno(task, outcome);
  task.memory.setU64(to, outcome.value);
  return 0;
}

/** arch_prctl(2): do_arch_prctl_64 for native calls, do_arch_prctl_common for both. */
function archPrctl(task: Task, code: number, argument: number): number {
  const native = task.abi.word === 8;
  switch (code) {
    case ArchPrctl.ARCH_SET_FS:
    case ArchPrctl.ARCH_SET_GS:
      if (!native) break;
      return setBase(task, code === ArchPrctl.ARCH_SET_FS ? "SetFsBase" : "SetGsBase", argument);
    case ArchPrctl.ARCH_GET_FS:
    case ArchPrctl.ARCH_GET_GS:
      if (!native) break;
      return getBase(task, code === ArchPrctl.ARCH_GET_FS ? "GetFsBase" : "GetGsBase", argument);
    case ArchPrctl.ARCH_MAP_VDSO_32:
    case ArchPrctl.ARCH_MAP_VDSO_64:
      if (!native) break;
      return task.fail(Errno.EEXIST, "the vDSO of a process cannot be mapped again");
    case ArchPrctl.ARCH_GET_CPUID:
      return 1;
    case ArchPrctl.ARCH_SET_CPUID:
      return task.fail(Errno.ENODEV, "the CPU cannot make CPUID fault");
    case ArchPrctl.ARCH_GET_XCOMP_SUPP:
    case ArchPrctl.ARCH_GET_XCOMP_PERM:
    case ArchPrctl.ARCH_GET_XCOMP_GUEST_PERM:
      // The kernel writes 64 bits, from 32-bit calls too.
      task.memory.setNum64(argument, FEATURES_X87_SSE);
      return 0;
    case ArchPrctl.ARCH_REQ_XCOMP_PERM:
    case ArchPrctl.ARCH_REQ_XCOMP_GUEST_PERM:
      if (argument >= XFEATURE_MAX) return task.fail(Errno.EINVAL, `there is no CPU feature ${argument}`);
      return task.fail(Errno.EOPNOTSUPP, "the CPU has no features that need permission");
    default:
  }
  return task.fail(Errno.EINVAL, native ? "unknown code" : "unknown code, or one for 64-bit calls only");
}

/** set_thread_area(2) of i386 and of i386 calls on x86-64 (arch/x86/kernel/tls.c). */
function setThreadArea(task: Task, pointerToDesc: number): number {
  const { memory } = task;
  const short = task.kernel.gate.shortWay;
  if (short !== undefined) {
    memory.readWords(pointerToDesc, short.desc);
    if (short.setThreadArea(task.tid, task.callName)) return 0;
  }
  const desc = readUserDesc(memory, pointerToDesc);
  // Linux tells the number of a free entry before it sets the entry: where it cannot, nothing has changed. The provider decides;
  // this only puts EINVAL before EFAULT.
  if (desc.entry_number === -1 && isTlsDescriptor(desc)) memory.setU32(pointerToDesc, desc.entry_number >>> 0);
  const outcome = task.punch({ kind: "SetThreadArea", desc });
  if (outcome.kind !== "ok") return tlsErrno(task, outcome);
  // The entry's number goes back only where the guest asked for a free one.
  if (desc.entry_number === -1 && outcome.desc !== undefined) memory.setU32(pointerToDesc, outcome.desc.entry_number);
  return 0;
}

function getThreadArea(task: Task, pointerToDesc: number): number {
  const { memory } = task;
  const entry_number = memory.i32(pointerToDesc);
  const short = task.kernel.gate.shortWay;
  if (short?.getThreadArea(entry_number, task.tid, task.callName)) {
    memory.writeWords(pointerToDesc, short.desc);
    return 0;
  }
  const outcome = task.punch({ kind: "GetThreadArea", entry_number });
  if (outcome.kind !== "ok") return tlsErrno(task, outcome);
  if (outcome.desc !== undefined) writeUserDesc(memory, pointerToDesc, outcome.desc);
  return 0;
}

/** modify_ldt(2). On x86-64 the result is an `unsigned int` that is not sign-extended: -EFAULT reads 4294967282. */
function modifyLdt(task: Task, func: number, ptr: number, bytecount: number): number {
  let result: number;
  switch (func) {
    case 0:
      result = readLdt(task, ptr, bytecount);
      break;
    case 1:
    case 0x11:
      result = writeLdt(task, ptr, bytecount, func === 1);
      break;
    case 2:
      result = Math.min(bytecount, DEFAULT_LDT_BYTES);
      if (!clear(task, ptr, result)) result = task.fail(Errno.EFAULT, `cannot write at 0x${ptr.toString(16)}`);
      break;
    default:
      result = task.fail(Errno.ENOSYS, "unknown function");
  }
  return task.abi.word === 8 ? result >>> 0 : result;
}

function clear(task: Task, at: number, length: number): boolean {
  return task.memory.writeSome(at, new Uint8Array(length)) === length;
}

function writeLdt(task: Task, ptr: number, bytecount: number, legacy: boolean): number {
  if (bytecount !== USER_DESC_BYTES) return task.fail(Errno.EINVAL, `${bytecount} bytes are no struct user_desc`);
  const bytes = new Uint8Array(USER_DESC_BYTES);
  if (task.memory.readSome(ptr, bytes) < USER_DESC_BYTES) {
    return task.fail(Errno.EFAULT, `cannot read at 0x${ptr.toString(16)}`);
  }
  const outcome = task.punch({ kind: "SetLdtEntry", desc: readUserDesc(task.memory, ptr), legacy });
  if (outcome.kind !== "ok") return tlsErrno(task, outcome);
  ldtChanged(task);
  return 0;
}

/** What the guest has set, as the kernel keeps it; the rest of the buffer is zeroed (read_ldt). */
function readLdt(task: Task, ptr: number, bytecount: number): number {
  const entries = ldtEntries({ cpu: task.cpu, layout: "x86_64" });
  if (entries.length === 0) return 0;
  const wanted = Math.min(bytecount, 8192 * LDT_ENTRY_BYTES);
  const bytes = new Uint8Array(wanted);
  const view = new DataView(bytes.buffer);
  for (const [index, raw] of entries.entries()) {
    if ((index + 1) * LDT_ENTRY_BYTES > wanted) break;
    view.setBigUint64(index * LDT_ENTRY_BYTES, raw, true);
  }
  if (task.memory.writeSome(ptr, bytes) < wanted)
    return task.fail(Errno.EFAULT, `cannot write at 0x${ptr.toString(16)}`);
  return wanted;
}

function setTidAddress(task: Task, tidptr: number): number {
  task.clearChildTid = tidptr;
  return task.tid;
}

/** struct robust_list_head: three words of the call's ABI. */
function setRobustList(task: Task, head: number, length: number): number {
  const expected = 3 * task.abi.word;
  if (length !== expected) return task.fail(Errno.EINVAL, `the head of a robust list has ${expected} bytes`);
  if (task.abi.word === 8) task.robustList = head;
  else task.compatRobustList = head;
  return 0;
}

function getRobustList(task: Task, tid: number, headTo: number, lengthTo: number): number {
  const { kernel, memory, abi } = task;
  const target = tid === 0 ? task : kernel.tasks.get(tid);
  if (target === undefined) return task.fail(Errno.ESRCH, `there is no thread ${tid}`);
  if (target.process !== task.process && target.process.cred.ruid !== task.process.cred.euid) {
    return task.fail(Errno.EPERM, "another user's thread");
  }
  if (abi.word === 8) {
    memory.setNum64(lengthTo, 3 * abi.word);
    memory.setNum64(headTo, target.robustList);
  } else {
    memory.setU32(lengthTo, 3 * abi.word);
    memory.setU32(headTo, target.compatRobustList);
  }
  return 0;
}

const RSEQ_FLAG_UNREGISTER = 1;
/** The size before the struct grew, and offsetof(struct rseq, end) (uapi/linux/rseq.h). */
const ORIG_RSEQ_SIZE = 32;
const RSEQ_SIZE = 28;
const RSEQ_ALIGN = 32;
const RSEQ_CPU_UNINITIALIZED = 0xffff_ffff;

/** rseq(2), kernel/rseq.c. There is one CPU and one node, so the fields are all 0 while registered. */
function rseq(task: Task, at: number, length: number, flags: number, signature: number): number {
  const { memory } = task;
  const own = task.rseq;
  if ((flags & RSEQ_FLAG_UNREGISTER) !== 0) {
    if ((flags & ~RSEQ_FLAG_UNREGISTER) !== 0) return task.fail(Errno.EINVAL, "unknown flags");
    if (own === undefined || own.address !== at) return task.fail(Errno.EINVAL, "this area is not registered");
    if (own.length !== length) return task.fail(Errno.EINVAL, `it was registered with ${own.length} bytes`);
    if (own.signature !== signature) return task.fail(Errno.EPERM, "registered with another signature");
    writeRseq(task, at, length, RSEQ_CPU_UNINITIALIZED);
    task.rseq = undefined;
    return 0;
  }
  if (flags !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  if (own !== undefined) {
    if (own.address !== at || own.length !== length) return task.fail(Errno.EINVAL, "another area is registered");
    if (own.signature !== signature) return task.fail(Errno.EPERM, "registered with another signature");
    return task.fail(Errno.EBUSY, "registered already");
  }
  if (length < ORIG_RSEQ_SIZE || at % RSEQ_ALIGN !== 0) {
    return task.fail(Errno.EINVAL, `needs ${ORIG_RSEQ_SIZE} bytes aligned to ${RSEQ_ALIGN}`);
  }
  if (at + length > task.process.space.end) return task.fail(Errno.EFAULT, "the area lies outside user space");
  memory.setNum64(at + 8, 0);
  writeRseq(task, at, length, 0);
  task.rseq = { address: at, length, signature };
  return 0;
}

/** cpu_id_start, cpu_id, node_id and mm_cid. */
function writeRseq(task: Task, at: number, length: number, cpuId: number): void {
  const { memory } = task;
  memory.setU32(at, 0);
  memory.setU32(at + 4, cpuId);
  memory.setU32(at + 20, 0);
  if (length >= RSEQ_SIZE) memory.setU32(at + 24, 0);
}

const signatureKind = scalar("uint", (value) => `0x${value.toString(16)}`);

export const tlsCalls: readonly Row[] = [
  row("arch_prctl", { x86_64: 158, i386: 384 }, [archPrctlCode, archPrctlArgument], archPrctl, {
    family: "tls",
    support: "ARCH_CET_*, ARCH_SHSTK_* and address tagging answer EINVAL; ARCH_MAP_VDSO_* EEXIST",
  }),
  row("set_thread_area", { i386: 243 }, [userDescIn], setThreadArea, { family: "tls" }),
  row("get_thread_area", { i386: 244 }, [userDescOut], getThreadArea, { family: "tls" }),
  row("set_thread_area", { x86_64: 205 }, [userDescIn], notOnNative, {
    family: "tls",
    support: "answers ENOSYS, as a 64-bit kernel does",
  }),
  row("get_thread_area", { x86_64: 211 }, [userDescIn], notOnNative, {
    family: "tls",
    support: "answers ENOSYS, as a 64-bit kernel does",
  }),
  row("modify_ldt", { x86_64: 154, i386: 123 }, [int, userDescIn, size], modifyLdt, { family: "tls" }),
  row("set_tid_address", { x86_64: 218, i386: 258 }, [pointer], setTidAddress, { family: "tls" }),
  row("set_robust_list", { x86_64: 273, i386: 311 }, [pointer, size], setRobustList, { family: "tls" }),
  row("get_robust_list", { x86_64: 274, i386: 312 }, [pid, valueOut(address), valueOut(address)], getRobustList, {
    family: "tls",
  }),
  row("rseq", { x86_64: 334, i386: 386 }, [pointer, uintHex, rseqFlags, signatureKind], rseq, {
    family: "tls",
    support: "there is one CPU and one node, so the fields are all 0",
  }),
];

function notOnNative(task: Task): number {
  return task.fail(Errno.ENOSYS, "for i386 calls only");
}
