/** clone, clone3, fork, vfork, unshare (kernel/fork.c). */

import { Errno } from "../errno.ts";
import { pointer, size, word } from "../kinds/kinds.ts";
import { PAGE } from "../memory/pages.ts";
import { unshareFiles, unshareFs } from "../memory/sharing.ts";
import { adopt, beyondRun, newNamespaces } from "../namespaces/make.ts";
import { Clone, type CloneRequest, clone } from "../process/clone.ts";
import { NSIG, Signal } from "../signals/numbers.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import {
  ARGS_SIZE_VER0,
  type CloneArgs,
  CSIGNAL,
  cloneArgs,
  cloneFlags,
  readCloneArgs,
  tidOut,
  unshareFlags,
} from "./clone-kinds.ts";

const TWO_32 = 2 ** 32;
/** CLONE_CLEAR_SIGHAND and CLONE_INTO_CGROUP: clone3 alone has room for them. */
const CLEAR_SIGHAND = 1;
const INTO_CGROUP = 2;
const ARGS_SIZE_VER2 = 88;
const MAX_PID_NS_LEVEL = 32;

/** A process as fork and vfork make it. */
function plain(flags: number): CloneRequest {
  return {
    flags,
    clearHandlers: false,
    exitSignal: Signal.SIGCHLD,
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

/** struct clone_args in the size the caller knows (copy_struct_from_user); what it does not know is 0. */
function readArgs(task: Task, at: number, bytes: number): CloneArgs | number {
  if (bytes > PAGE) return task.fail(Errno.E2BIG, "struct clone_args is larger than a page");
  if (bytes < ARGS_SIZE_VER0) return task.fail(Errno.EINVAL, "struct clone_args is too small");
  const raw = task.memory.bytes(at, bytes);
  if (raw.subarray(ARGS_SIZE_VER2).some((byte) => byte !== 0)) {
    return task.fail(Errno.E2BIG, "struct clone_args has fields that this kernel does not know");
  }
  return readCloneArgs(raw);
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
  if (beyondRun(flags & UNSHARE_NAMESPACES))
    return task.fail(Errno.EPERM, "there is one namespace of this kind in a run");
  if ((flags & UNSHARE_NAMESPACES) !== 0) {
    const made = newNamespaces(task, flags & UNSHARE_NAMESPACES);
    if (typeof made === "number") return made;
    adopt(task, made);
  }
  if ((flags & Clone.CLONE_FILES) !== 0) unshareFiles(task);
  if ((flags & Clone.CLONE_FS) !== 0) unshareFs(task);
  return 0;
}

const family = "process";
const namespaces = "new namespaces of users, names, IPC and cgroups; of the other kinds EPERM";

export const cloneCalls: readonly Row[] = [
  row("clone", { x86_64: 56 }, [cloneFlags, pointer, tidOut, pointer, word], oldClone, { family, support: namespaces }),
  row(
    "clone",
    { i386: 120 },
    [cloneFlags, pointer, tidOut, word, pointer],
    (task, flags, stack, parentTid, tls, childTid) => oldClone(task, flags, stack, parentTid, childTid, tls),
    { family, support: namespaces },
  ),
  row("clone3", { x86_64: 435, i386: 435 }, [cloneArgs, size], clone3, {
    family,
    support: `${namespaces}; CLONE_INTO_CGROUP EBADF`,
  }),
  row("fork", { x86_64: 57, i386: 2 }, [], fork, { family }),
  row("vfork", { x86_64: 58, i386: 190 }, [], vfork, { family }),
  row("unshare", { x86_64: 272, i386: 310 }, [unshareFlags], unshare, { family, support: namespaces }),
];
