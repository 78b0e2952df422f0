/** clone, clone3, fork, vfork, unshare (kernel/fork.c). */
import { Clone, type CloneRequest, clone } from "../clone.ts";
import { Errno } from "../errno.ts";
import { flagText, type Kind, pointer, scalar, size, word } from "../kinds.ts";
import { fills } from "../kinds-memory.ts";
import { unshareFiles, unshareFs } from "../sharing.ts";
import { NSIG } from "../signals/numbers.ts";
import { shownAs, struct, structIn, u32, u64, valueOut } from "../structs.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";

const PAGE = 4096;
const CSIGNAL = 0xff;
const SIGCHLD = 17;
const TWO_32 = 2 ** 32;
/** CLONE_CLEAR_SIGHAND and CLONE_INTO_CGROUP: clone3 alone has room for them. */
const CLEAR_SIGHAND = 1;
const INTO_CGROUP = 2;
const ARGS_SIZE_VER0 = 64;
const ARGS_SIZE_VER2 = 88;
const MAX_PID_NS_LEVEL = 32;

/** A process as fork and vfork make it. */
function plain(flags: number): CloneRequest {
  return {
    flags,
    clearHandlers: false,
    exitSignal: SIGCHLD,
    stack: 0,
    tls: 0,
    pidfd: 0,
    parentTid: 0,
    childTid: 0,
    setTid: [],
  };
}

function fork(task: Task): Result {
  return clone(task, plain(0));
}

function vfork(task: Task): Result {
  return clone(task, plain(Clone.CLONE_VFORK | Clone.CLONE_VM));
}

function oldClone(task: Task, given: number, stack: number, parentTid: number, childTid: number, tls: number): Result {
  const flags = (given & ~CSIGNAL) >>> 0;
  if ((flags & Clone.CLONE_PIDFD) !== 0 && (flags & Clone.CLONE_PARENT_SETTID) !== 0) {
    return task.fail(Errno.EINVAL, "CLONE_PIDFD and CLONE_PARENT_SETTID would write to one place");
  }
  return clone(task, {
    flags,
    clearHandlers: false,
    exitSignal: given & CSIGNAL,
    stack,
    tls,
    parentTid,
    childTid,
    pidfd: parentTid,
    setTid: [],
  });
}

const hex64 = shownAs(u64, (value) => (value === 0 ? "NULL" : `0x${value.toString(16)}`));
const cloneArgs = struct({
  flags_low: u32,
  flags_high: u32,
  pidfd: hex64,
  child_tid: hex64,
  parent_tid: hex64,
  exit_signal: u64,
  stack: hex64,
  stack_size: hex64,
  tls: hex64,
  set_tid: hex64,
  set_tid_size: u64,
  cgroup: u64,
});

/** struct clone_args in the size the caller knows (copy_struct_from_user); what it does not know is 0. */
function readArgs(task: Task, at: number, bytes: number): ReturnType<typeof cloneArgs.read> | number {
  if (bytes > PAGE) return task.fail(Errno.E2BIG, "struct clone_args is larger than a page");
  if (bytes < ARGS_SIZE_VER0) return task.fail(Errno.EINVAL, "struct clone_args is too small");
  const raw = task.memory.bytes(at, bytes);
  if (raw.subarray(ARGS_SIZE_VER2).some((byte) => byte !== 0)) {
    return task.fail(Errno.E2BIG, "struct clone_args has fields that this kernel does not know");
  }
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  const field = (offset: number): number =>
    offset + 8 > bytes ? 0 : view.getUint32(offset, true) + view.getUint32(offset + 4, true) * TWO_32;
  return {
    flags_low: view.getUint32(0, true),
    flags_high: view.getUint32(4, true),
    pidfd: field(8),
    child_tid: field(16),
    parent_tid: field(24),
    exit_signal: field(32),
    stack: field(40),
    stack_size: field(48),
    tls: field(56),
    set_tid: field(64),
    set_tid_size: field(72),
    cgroup: field(80),
  };
}

function clone3(task: Task, at: number, bytes: number): Result {
  const args = readArgs(task, at, bytes);
  if (typeof args === "number") return args;
  const { flags_low: flags, flags_high: high, exit_signal: exitSignal, set_tid: tids, set_tid_size: count } = args;
  const invalid = (why: string): number => task.fail(Errno.EINVAL, why);
  if (count > MAX_PID_NS_LEVEL || (tids === 0) !== (count === 0)) return invalid("set_tid and its size do not agree");
  if (exitSignal > NSIG) return invalid(`there is no signal ${exitSignal}`);
  const intoGroup = (high & INTO_CGROUP) !== 0;
  if (intoGroup && (args.cgroup > 0x7fff_ffff || bytes < ARGS_SIZE_VER2)) return invalid("no descriptor of a cgroup");
  const setTid = Array.from({ length: count }, (_, index) => task.memory.i32(tids + 4 * index));
  if (high >= 4) return invalid("unknown flags");
  if ((flags & (Clone.CLONE_DETACHED | (CSIGNAL & ~Clone.CLONE_NEWTIME))) !== 0) return invalid("unknown flags");
  const clearHandlers = (high & CLEAR_SIGHAND) !== 0;
  if (clearHandlers && (flags & Clone.CLONE_SIGHAND) !== 0) {
    return invalid("CLONE_SIGHAND does not go with CLONE_CLEAR_SIGHAND");
  }
  if ((flags & (Clone.CLONE_THREAD | Clone.CLONE_PARENT)) !== 0 && exitSignal !== 0) {
    return invalid("CLONE_THREAD and CLONE_PARENT take no exit signal");
  }
  const { stack, stack_size: stackSize } = args;
  if ((stack === 0) !== (stackSize === 0)) return invalid("stack and its size do not agree");
  if (stack + stackSize > task.process.space.end) return invalid("the stack lies outside user space");
  if (intoGroup) return task.fail(Errno.EBADF, "there are no cgroups");
  const request: CloneRequest = {
    flags,
    clearHandlers,
    exitSignal,
    stack: stack + stackSize,
    tls: args.tls,
    pidfd: args.pidfd,
    parentTid: args.parent_tid,
    childTid: args.child_tid,
    setTid,
  };
  return clone(task, request);
}

const UNSHARED = Clone.CLONE_FS | Clone.CLONE_FILES;
/** What a process with one thread has for itself anyway. */
const ALONE = Clone.CLONE_THREAD | Clone.CLONE_SIGHAND | Clone.CLONE_VM;
const UNSHARE_NAMESPACES = 0x7e02_0080;

/** unshare(2), ksys_unshare. */
function unshare(task: Task, given: number): number {
  const { process } = task;
  let flags = given;
  if (given >= TWO_32) return task.fail(Errno.EINVAL, "unknown flags");
  if ((flags & Clone.CLONE_NEWUSER) !== 0) flags |= Clone.CLONE_THREAD | Clone.CLONE_FS;
  if ((flags & Clone.CLONE_VM) !== 0) flags |= Clone.CLONE_SIGHAND;
  if ((flags & Clone.CLONE_SIGHAND) !== 0) flags |= Clone.CLONE_THREAD;
  if ((flags & Clone.CLONE_NEWNS) !== 0) flags |= Clone.CLONE_FS;
  const known = UNSHARED | ALONE | UNSHARE_NAMESPACES | Clone.CLONE_SYSVSEM;
  if ((flags & ~known) !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  if ((flags & ALONE) !== 0 && process.tasks.size > 1) return task.fail(Errno.EINVAL, "the process has other threads");
  if ((flags & Clone.CLONE_VM) !== 0 && process.mm.users > 1) return task.fail(Errno.EINVAL, "others share the memory");
  if ((flags & UNSHARE_NAMESPACES) !== 0) {
    return task.fail(Errno.EPERM, "new namespaces are for privileged processes");
  }
  if ((flags & Clone.CLONE_FILES) !== 0) unshareFiles(task);
  if ((flags & Clone.CLONE_FS) !== 0) unshareFs(task);
  return 0;
}

const NAMES = Object.entries(Clone).filter(([name]) => name !== "CLONE_NEWTIME");

/** `CLONE_VM|CLONE_VFORK|SIGCHLD`, as strace. */
function flagsText(flags: number, signal: number): string {
  const name = signal === SIGCHLD ? "SIGCHLD" : String(signal);
  if (flags === 0) return signal === 0 ? "0" : name;
  const text = flagText("CLONE_", NAMES, flags);
  return signal === 0 ? text : `${text}|${name}`;
}

const cloneFlags: Kind = scalar("pointer", (value) => flagsText((value & ~CSIGNAL) >>> 0, value & CSIGNAL));
const unshareFlags: Kind = scalar("pointer", (value) => flagsText(value, 0));
const argsIn: Kind = structIn({
  ...cloneArgs,
  show: (a) => {
    const clear = (a.flags_high & CLEAR_SIGHAND) !== 0 ? "CLONE_CLEAR_SIGHAND|" : "";
    const place = (value: number): string => (value === 0 ? "NULL" : `0x${value.toString(16)}`);
    return (
      `{flags=${clear}${flagsText(a.flags_low, 0)}, child_tid=${place(a.child_tid)}, ` +
      `parent_tid=${place(a.parent_tid)}, exit_signal=${a.exit_signal}, stack=${place(a.stack)}, ` +
      `stack_size=${place(a.stack_size)}, tls=${place(a.tls)}}`
    );
  },
});
const tidOut: Kind = {
  ...valueOut(u32),
  print: (value, at) =>
    value === 0 ? "NULL" : at.result !== undefined && at.result > 0 ? tidText(value, at) : hexText(value),
};
const tidText = fills((at, c) => `[${c.task.memory.u32(at)}]`).print;
const hexText = (value: number): string => `0x${value.toString(16)}`;

const family = "process";
const namespaces = "namespaces answer EPERM";

export const cloneCalls: readonly Row[] = [
  row("clone", { x86_64: 56 }, [cloneFlags, pointer, tidOut, pointer, word], oldClone, { family, support: namespaces }),
  row(
    "clone",
    { i386: 120 },
    [cloneFlags, pointer, tidOut, word, pointer],
    (task, flags, stack, parentTid, tls, childTid) => oldClone(task, flags, stack, parentTid, childTid, tls),
    { family, support: namespaces },
  ),
  row("clone3", { x86_64: 435, i386: 435 }, [argsIn, size], clone3, {
    family,
    support: "namespaces answer EPERM, cgroups EBADF",
  }),
  row("fork", { x86_64: 57, i386: 2 }, [], fork, { family }),
  row("vfork", { x86_64: 58, i386: 190 }, [], vfork, { family }),
  row("unshare", { x86_64: 272, i386: 310 }, [unshareFlags], unshare, { family, support: namespaces }),
];
