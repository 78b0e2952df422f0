/** ptrace(2). */
import { readUserDesc, writeUserDesc } from "../../../emulator/descriptors.ts";
import { MemoryFault } from "../../../emulator/errors.ts";
import { Errno } from "../errno.ts";
import { ArchPrctl } from "../kinds/flags.ts";
import { choice, pid, pointer } from "../kinds/kinds.ts";
import { Cap } from "../process/capabilities.ts";
import { attach, detach, interrupt, listen, setOptions, traceMe } from "../ptrace/attach.ts";
import { inContextOf } from "../ptrace/context.ts";
import { readForced, writeForced } from "../ptrace/memory.ts";
import { Ptrace } from "../ptrace/numbers.ts";
import { fsave, fxsave, narrowGeneral, type RegSet, regSet, wideGeneral } from "../ptrace/regsets.ts";
import { syscallInfo } from "../ptrace/syscall-info.ts";
import type { Tracee } from "../ptrace/tracee.ts";
import { peekUser, pokeUser } from "../ptrace/user-area.ts";
import { type FilterChain, filtersOf } from "../seccomp/state.ts";
import { readSet, writeSet } from "../signals/kinds.ts";
import { NSIG, Signal } from "../signals/numbers.ts";
import { wideCodeSelector } from "../signals/segments.ts";
import { sendToProcess, setBlocked } from "../signals/send.ts";
import { SIGINFO_BYTES, SigInfo } from "../signals/siginfo.ts";
import { SIGSET_BYTES } from "../signals/signal-set.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { tlsErrno } from "../tls-errno.ts";

/** A request on a stopped tracee. */
interface Request {
  readonly task: Task;
  readonly tracee: Tracee;
  readonly code: number;
  readonly address: number;
  readonly data: number;
  /** The fourth argument without rounding. */
  readonly exact: bigint;
}

const RSEQ_CONFIGURATION_BYTES = 24;
const PEEKSIGINFO_SHARED = 1;
/** struct seccomp_metadata: the number of a filter, and its flags. */
const METADATA_BYTES = 16;
const FILTER_FLAG_LOG = 2;

function ptrace(task: Task, code: number, id: number, address: number, data: number): number {
  if (code === Ptrace.PTRACE_TRACEME) return traceMe(task);
  const { kernel, abi, cpu } = task;
  const target = kernel.tasks.get(id);
  if (target === undefined) return task.fail(Errno.ESRCH, `there is no thread ${id}`);
  const exact = abi.word === 8 ? cpu.regBig(abi.args[3]) : BigInt(data);
  if (code === Ptrace.PTRACE_ATTACH || code === Ptrace.PTRACE_SEIZE)
    return attach(task, target, code === Ptrace.PTRACE_SEIZE, address, exact);
  const { tracee } = target;
  if (tracee === undefined || tracee.tracer !== task) return task.fail(Errno.ESRCH, "this thread does not trace it");
  if (code === Ptrace.PTRACE_INTERRUPT) return interrupt(task, tracee);
  if (code === Ptrace.PTRACE_KILL) return kill(target);
  if (!tracee.isFrozen) return task.fail(Errno.ESRCH, "it is not stopped");
  return answer({ task, tracee, code, address, data, exact });
}

function kill(target: Task): number {
  sendToProcess(target.process, SigInfo.sent(Signal.SIGKILL, 0, 0, 0));
  return 0;
}

function answer(request: Request): number {
  const { task, tracee, code, address, data, exact } = request;
  switch (code) {
    case Ptrace.PTRACE_PEEKTEXT:
    case Ptrace.PTRACE_PEEKDATA:
      return peek(request);
    case Ptrace.PTRACE_POKETEXT:
    case Ptrace.PTRACE_POKEDATA:
      return poke(request);
    case Ptrace.PTRACE_PEEKUSER:
    case Ptrace.PTRACE_POKEUSER:
      return user(request);
    case Ptrace.PTRACE_CONT:
    case Ptrace.PTRACE_SYSCALL:
    case Ptrace.PTRACE_SINGLESTEP:
    case Ptrace.PTRACE_SYSEMU:
    case Ptrace.PTRACE_SYSEMU_SINGLESTEP:
      return go(request);
    case Ptrace.PTRACE_DETACH:
      return detach(task, tracee, data);
    case Ptrace.PTRACE_LISTEN:
      return listen(task, tracee);
    case Ptrace.PTRACE_OLDSETOPTIONS:
    case Ptrace.PTRACE_SETOPTIONS:
      return setOptions(task, tracee, exact);
    case Ptrace.PTRACE_GETEVENTMSG:
      putWord(task, data, BigInt(tracee.message));
      return 0;
    case Ptrace.PTRACE_GETSIGINFO:
    case Ptrace.PTRACE_SETSIGINFO:
      return info(request);
    case Ptrace.PTRACE_PEEKSIGINFO:
      return peekInfo(request);
    case Ptrace.PTRACE_GETSIGMASK:
    case Ptrace.PTRACE_SETSIGMASK:
      return mask(request);
    case Ptrace.PTRACE_GETREGS:
    case Ptrace.PTRACE_SETREGS:
      return wholeSet(request, task.abi.word === 8 ? wideGeneral : narrowGeneral, code === Ptrace.PTRACE_SETREGS);
    case Ptrace.PTRACE_GETFPREGS:
    case Ptrace.PTRACE_SETFPREGS:
      return wholeSet(request, task.abi.word === 8 ? fxsave : fsave, code === Ptrace.PTRACE_SETFPREGS);
    case Ptrace.PTRACE_GETFPXREGS:
    case Ptrace.PTRACE_SETFPXREGS:
      if (task.abi.word === 8) break;
      return wholeSet(request, fxsave, code === Ptrace.PTRACE_SETFPXREGS);
    case Ptrace.PTRACE_GETREGSET:
    case Ptrace.PTRACE_SETREGSET:
      return set(request);
    case Ptrace.PTRACE_GET_THREAD_AREA:
      return getThreadArea(request);
    case Ptrace.PTRACE_SET_THREAD_AREA:
      return setThreadArea(request);
    case Ptrace.PTRACE_ARCH_PRCTL:
      if (task.abi.word === 4) break;
      return archPrctl(request);
    case Ptrace.PTRACE_GET_SYSCALL_INFO:
      return copyOut(
        request,
        inContextOf(task, tracee.task, () => syscallInfo(tracee)),
      );
    case Ptrace.PTRACE_GET_RSEQ_CONFIGURATION:
      return rseqConfiguration(request);
    case Ptrace.PTRACE_SECCOMP_GET_FILTER:
    case Ptrace.PTRACE_SECCOMP_GET_METADATA:
      return filter(request);
    default:
  }
  return task.fail(Errno.EIO, `${code} at 0x${address.toString(16)} is no request of this word size`);
}

function putWord({ memory, abi }: Task, at: number, value: bigint): void {
  if (abi.word === 8) memory.setU64(at, BigInt.asUintN(64, value));
  else memory.setU32(at, Number(BigInt.asUintN(32, value)));
}

function peek({ task, tracee, address, data }: Request): number {
  const bytes = new Uint8Array(task.abi.word);
  if (readForced(tracee.task.process, address, bytes) < bytes.length) return unreadable(task, address);
  task.memory.write(data, bytes);
  return 0;
}

function poke({ task, tracee, address, exact }: Request): number {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, exact, true);
  const { word } = task.abi;
  if (writeForced(tracee.task.process, address, bytes.subarray(0, word)) < word) return unreadable(task, address);
  return 0;
}

function unreadable(task: Task, address: number): number {
  return task.fail(Errno.EIO, `nothing that can be told of is at 0x${address.toString(16)}`);
}

function user({ task, tracee, code, address, data, exact }: Request): number {
  const { word } = task.abi;
  const bad = (): number => task.fail(Errno.EIO, `struct user takes no such value at ${address}`);
  if (code === Ptrace.PTRACE_PEEKUSER) {
    const value = inContextOf(task, tracee.task, () => peekUser(tracee, address, word));
    if (value === undefined) return bad();
    putWord(task, data, value);
    return 0;
  }
  const error = inContextOf(task, tracee.task, () => pokeUser(tracee, address, exact, word));
  if (error === Errno.EIO) return bad();
  return error === 0 ? 0 : task.fail(error, `no breakpoint is like that, or lies there`);
}

function go({ task, tracee, code, data }: Request): number {
  if (data < 0 || data > NSIG) return task.fail(Errno.EIO, `there is no signal ${data}`);
  const step = code === Ptrace.PTRACE_SINGLESTEP || code === Ptrace.PTRACE_SYSEMU_SINGLESTEP;
  const emulate = code === Ptrace.PTRACE_SYSEMU || code === Ptrace.PTRACE_SYSEMU_SINGLESTEP;
  tracee.resume({ trace: code === Ptrace.PTRACE_SYSCALL, emulate, step }, data);
  return 0;
}

function info({ task, tracee, code, data }: Request): number {
  const { stop } = tracee;
  if (stop?.info === undefined) return task.fail(Errno.EINVAL, "it is in a group-stop");
  if (code === Ptrace.PTRACE_GETSIGINFO) stop.info.write(task.memory, data, task.abi);
  else {
    const given = SigInfo.read(task.memory, data, task.abi, task.memory.u32(data));
    if (given === undefined) return task.fail(Errno.E2BIG, "siginfo has bytes beyond what the kernel keeps");
    stop.info = given;
  }
  return 0;
}

/** ptrace_peek_siginfo: how many were copied. */
function peekInfo({ task, tracee, address, data }: Request): number {
  const { memory, abi } = task;
  const from = memory.num64(address);
  const flags = memory.u32(address + 8);
  const count = memory.i32(address + 12);
  if ((flags & ~PEEKSIGINFO_SHARED) !== 0 || count < 0)
    return task.fail(Errno.EINVAL, "unknown flags, or a negative number");
  const { signals, process } = tracee.task;
  const { pending } = (flags & PEEKSIGINFO_SHARED) !== 0 ? process.signals : signals;
  let copied = 0;
  try {
    for (const queued of pending.infos(from, count)) {
      queued.write(memory, data + SIGINFO_BYTES * copied, abi);
      copied++;
    }
  } catch (error) {
    if (!(error instanceof MemoryFault) || copied === 0) throw error;
  }
  return copied;
}

function mask({ task, tracee, code, address, data }: Request): number {
  if (address !== SIGSET_BYTES) return task.fail(Errno.EINVAL, `a set of signals has ${SIGSET_BYTES} bytes`);
  const { signals } = tracee.task;
  if (code === Ptrace.PTRACE_GETSIGMASK) writeSet(task.memory, data, signals.saved ?? signals.blocked);
  else {
    const wanted = readSet(task.memory, data);
    signals.saved = undefined;
    setBlocked(tracee.task, wanted);
  }
  return 0;
}

function wholeSet({ task, tracee, data }: Request, regset: RegSet, writes: boolean): number {
  if (writes) {
    const bytes = task.memory.bytes(data, regset.bytes);
    return inContextOf(task, tracee.task, () => regset.put(tracee, bytes));
  }
  const bytes = inContextOf(task, tracee.task, () => regset.get(tracee));
  if (typeof bytes === "number") return bytes;
  task.memory.write(data, bytes);
  return 0;
}

/** The set is chosen by the code that the tracee runs; iovec says where it goes, and then how long it is. */
function set({ task, tracee, code, address: type, data }: Request): number {
  const { memory, abi } = task;
  const wide = abi.word === 8;
  const at = wide ? memory.num64(data) : memory.u32(data);
  const length = wide ? memory.num64(data + 8) : memory.u32(data + 4);
  const result = inContextOf(task, tracee.task, () => {
    const regset = regSet(tracee.task.cpu.selector("cs") === wideCodeSelector, type);
    if (regset === undefined || length % regset.unit !== 0) return -Errno.EINVAL;
    const size = Math.min(length, regset.bytes);
    if (code === Ptrace.PTRACE_SETREGSET) {
      const refused = regset.put(tracee, memory.bytes(at, size));
      return refused === 0 ? size : refused;
    }
    const bytes = regset.get(tracee);
    return typeof bytes === "number" ? bytes : bytes.subarray(0, size);
  });
  if (typeof result === "number" && result < 0) return task.fail(-result, "no such set, or not one to have");
  if (typeof result !== "number") memory.write(at, result);
  const size = typeof result === "number" ? result : result.length;
  if (wide) memory.setNum64(data + 8, size);
  else memory.setU32(data + 4, size);
  return 0;
}

function getThreadArea({ task, tracee, data }: Request): number {
  const entry_number = task.cpu.regLow(task.abi.args[2]) | 0;
  if (entry_number < 0) return task.fail(Errno.EIO, "a negative entry");
  const outcome = inContextOf(task, tracee.task, () =>
    tracee.task.punch({ kind: "GetThreadArea", entry_number }, "ptrace"),
  );
  if (outcome.kind !== "ok") return tlsErrno(task, outcome);
  if (outcome.desc !== undefined) writeUserDesc(task.memory, data, outcome.desc);
  return 0;
}

function setThreadArea({ task, tracee, data }: Request): number {
  const entry_number = task.cpu.regLow(task.abi.args[2]) | 0;
  if (entry_number < 0) return task.fail(Errno.EIO, "a negative entry");
  const desc = { ...readUserDesc(task.memory, data), entry_number };
  const outcome = inContextOf(task, tracee.task, () => tracee.task.punch({ kind: "SetThreadArea", desc }, "ptrace"));
  return outcome.kind === "ok" ? 0 : tlsErrno(task, outcome);
}

/** do_arch_prctl_64 on the tracee: the code is the fourth argument, and its argument the third. */
function archPrctl({ task, tracee, address, data }: Request): number {
  const punch = (request: Parameters<Task["punch"]>[0]) =>
    inContextOf(task, tracee.task, () => tracee.task.punch(request, "ptrace"));
  switch (data) {
    case ArchPrctl.ARCH_SET_FS:
    case ArchPrctl.ARCH_SET_GS: {
      const kind = data === ArchPrctl.ARCH_SET_FS ? "SetFsBase" : "SetGsBase";
      const outcome = punch({ kind, address: task.cpu.regBig(task.abi.args[2]) });
      return outcome.kind === "ok" ? 0 : tlsErrno(task, outcome);
    }
    case ArchPrctl.ARCH_GET_FS:
    case ArchPrctl.ARCH_GET_GS: {
      const outcome = punch({ kind: data === ArchPrctl.ARCH_GET_FS ? "GetFsBase" : "GetGsBase" });
      if (outcome.kind !== "ok") return tlsErrno(task, outcome);
      task.memory.setU64(address, outcome.value);
      return 0;
    }
    default:
      return task.fail(Errno.EINVAL, "unknown code");
  }
}

/** As many bytes as the tracer has room for; the result says how many there are. */
function copyOut({ task, address: room, data }: Request, bytes: Uint8Array): number {
  task.memory.write(data, bytes.subarray(0, Math.min(room, bytes.length)));
  return bytes.length;
}

function rseqConfiguration(request: Request): number {
  const bytes = new Uint8Array(RSEQ_CONFIGURATION_BYTES);
  const view = new DataView(bytes.buffer);
  const { rseq } = request.tracee.task;
  if (rseq !== undefined) {
    view.setBigUint64(0, BigInt(rseq.address), true);
    view.setUint32(8, rseq.length, true);
    view.setUint32(12, rseq.signature, true);
  }
  return copyOut(request, bytes);
}

/** One filter of the tracee, the oldest being number 0 (seccomp_get_filter, seccomp_get_metadata). */
function filter({ task, tracee, code, address, data }: Request): number {
  if (!task.process.cred.capable(Cap.CAP_SYS_ADMIN) || task.seccomp !== undefined)
    return task.fail(Errno.EACCES, "for privileged processes without filters of their own");
  const filters = filtersOf(tracee.task);
  if (filters === undefined) return task.fail(Errno.EINVAL, "it has no filters");
  const metadata = code === Ptrace.PTRACE_SECCOMP_GET_METADATA;
  if (metadata && address < 8) return task.fail(Errno.EINVAL, "no room for the number of a filter");
  const number = metadata ? task.memory.num64(data) : address;
  let one: FilterChain | undefined = filters;
  while (one !== undefined && one.count - 1 !== number) one = one.before;
  if (one === undefined) return task.fail(Errno.ENOENT, `there is no filter ${number}`);
  if (metadata) {
    const size = Math.min(address, METADATA_BYTES);
    if (size >= METADATA_BYTES) task.memory.setNum64(data + 8, one.log ? FILTER_FLAG_LOG : 0);
    return size;
  }
  if (data !== 0) {
    for (const [index, { code: op, jt, jf, k }] of one.program.entries()) {
      task.memory.setU32(data + 8 * index, op | (jt << 16) | (jf << 24));
      task.memory.setU32(data + 8 * index + 4, k);
    }
  }
  return one.program.length;
}

export const ptraceCalls: readonly Row[] = [
  row("ptrace", { x86_64: 101, i386: 26 }, [choice("PTRACE_", Ptrace, "long"), pid, pointer, pointer], ptrace, {
    family: "process",
    support: "PTRACE_SINGLEBLOCK answers EIO; data breakpoints do not see what system calls access",
  }),
];
