/** Processes: exec and exit, limits, personality. */

import { Errno } from "../errno.ts";
import { resource } from "../kinds/flags.ts";
import { dirfd, int, type Kind, pid, uintHex } from "../kinds/kinds.ts";
import { environment, path, stringList } from "../kinds/memory.ts";
import { type Field, shownAs, struct, structIn, structOut, u64, ulong } from "../kinds/structs.ts";
import { MAX_ARG_STRLEN } from "../loader/loader.ts";
import { Cap } from "../process/capabilities.ts";
import { exec } from "../process/exec.ts";
import { exitProcess, exitTask } from "../process/exit.ts";
import { type Limit, Resource } from "../process/limits.ts";
import { type Result, type Row, row, settled } from "../table.ts";
import type { Process, Task } from "../task.ts";
import { pathArgument } from "../vfs/call-context.ts";
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW } from "../vfs/flags.ts";

const MAX_POINTERS = 2 ** 24;

/** The strings of argv or envp; a null array counts as an empty one, as in Linux. */
function stringsAt(task: Task, list: number): Uint8Array[] | number {
  const strings: Uint8Array[] = [];
  if (list === 0) return strings;
  const { memory, abi } = task;
  for (let index = 0; index < MAX_POINTERS; index++) {
    const at = ulong.read(memory, list + index * abi.word, abi);
    if (at === 0) return strings;
    const text = memory.cstring(at, MAX_ARG_STRLEN);
    if (text === undefined) return task.fail(Errno.E2BIG, `a string of ${MAX_ARG_STRLEN} bytes or more`);
    strings.push(Buffer.from(text, "latin1"));
  }
  return task.fail(Errno.E2BIG, "too many strings");
}

function execve(task: Task, pathname: number, argv: number, envp: number): Result {
  const name = pathArgument(task, pathname);
  if (name === "") return task.fail(Errno.ENOENT, "the path is empty");
  const args = stringsAt(task, argv);
  if (typeof args === "number") return args;
  const env = stringsAt(task, envp);
  if (typeof env === "number") return env;
  return exec(task, task.process.fs.cwd, name, args, env);
}

function execveat(task: Task, fd: number, pathname: number, argv: number, envp: number, flags: number): Result {
  if ((flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) !== 0) return task.fail(Errno.EINVAL, "unknown flags");
  const name = pathArgument(task, pathname);
  if (name === "" && (flags & AT_EMPTY_PATH) === 0) return task.fail(Errno.ENOENT, "the path is empty");
  const { process } = task;
  const args = stringsAt(task, argv);
  if (typeof args === "number") return args;
  const env = stringsAt(task, envp);
  if (typeof env === "number") return env;
  const follow = (flags & AT_SYMLINK_NOFOLLOW) === 0;
  if (fd === AT_FDCWD || name.startsWith("/")) return exec(task, process.fs.cwd, name, args, env, { follow });
  const file = process.files.get(fd);
  if (file === undefined) return task.fail(Errno.EBADF, `descriptor ${fd} is not open`);
  // What AT_EXECFN says then, and what a script's interpreter is given (fs/exec.c, alloc_bprm).
  const shown = name === "" ? `/dev/fd/${fd}` : `/dev/fd/${fd}/${name}`;
  const isHidden = process.files.closeOnExec(fd);
  return exec(task, file.entry, name, args, env, { shown, isHidden, follow: follow || name === "" });
}

function exit(task: Task, status: number): Result {
  exitTask(task, status);
  return settled;
}

function exitGroup(task: Task, status: number): Result {
  // Told of before the ends of the threads.
  task.kernel.tracer?.leave(task, undefined);
  exitProcess(task.process, { kind: "exited", code: status & 0xff });
  return settled;
}

const INFINITY = Number.POSITIVE_INFINITY;
/** From here up a 64-bit limit is RLIM_INFINITY: nothing a guest could have is larger. */
const HUGE = 2 ** 63;
const NR_OPEN = 1_048_576;
/** RLIM_INFINITY of the 32-bit struct, and of the old i386 getrlimit. */
const INFINITY_32 = 0xffff_ffff;
const OLD_INFINITY = 0x7fff_ffff;

function limitText(infinity: string): (value: number) => string {
  return (value) => {
    if (value >= HUGE || value === INFINITY_32) return infinity;
    return value > 0 && value % 1024 === 0 ? `${value / 1024}*1024` : String(value);
  };
}

const rlimit = struct({
  rlim_cur: shownAs(ulong, limitText("RLIM_INFINITY")),
  rlim_max: shownAs(ulong, limitText("RLIM_INFINITY")),
});
const rlimit64 = struct({
  rlim_cur: shownAs(u64, limitText("RLIM64_INFINITY")),
  rlim_max: shownAs(u64, limitText("RLIM64_INFINITY")),
});

/** A limit for a struct whose largest number is `top`. */
const bounded = (value: number, top: number): number => (value >= top ? top : value);
const ALL_ONES_64 = 2 ** 64;

function writeLimit(task: Task, to: number, limit: Limit, infinity: number): void {
  const { memory, abi } = task;
  const word = abi.word === 8 ? ALL_ONES_64 : infinity;
  if (abi.word === 8) writeLimit64(task, to, limit);
  else rlimit.write(memory, to, { rlim_cur: bounded(limit.soft, word), rlim_max: bounded(limit.hard, word) }, abi);
}

function writeLimit64(task: Task, to: number, limit: Limit): void {
  const { memory } = task;
  const value = (n: number): bigint => (n === INFINITY ? 0xffff_ffff_ffff_ffffn : BigInt(n));
  memory.setU64(to, value(limit.soft));
  memory.setU64(to + 8, value(limit.hard));
}

function getrlimit(infinity: number): (task: Task, which: number, to: number) => number {
  return (task, which, to) => {
    const limit = task.process.limits.get(which >>> 0);
    if (limit === undefined) return task.fail(Errno.EINVAL, `there is no resource ${which}`);
    writeLimit(task, to, limit, infinity);
    return 0;
  };
}

function setLimit(task: Task, process: Process, which: number, soft: number, hard: number): number {
  const limit = process.limits.get(which >>> 0);
  if (limit === undefined) return task.fail(Errno.EINVAL, `there is no resource ${which}`);
  if (soft > hard) return task.fail(Errno.EINVAL, "the soft limit is above the hard one");
  if (which === Resource.RLIMIT_NOFILE && hard > NR_OPEN) return task.fail(Errno.EPERM, `more than ${NR_OPEN} files`);
  if (hard > limit.hard && !task.process.cred.capable(Cap.CAP_SYS_RESOURCE))
    return task.fail(Errno.EPERM, "only root raises a hard limit");
  limit.soft = soft;
  limit.hard = hard;
  if (which === Resource.RLIMIT_CPU) process.signals.timers.limitCpu(process);
  if (which === Resource.RLIMIT_STACK) process.space.stackLimit = Math.min(soft, process.space.end);
  return 0;
}

const unbounded = (value: number, top: number): number => (value >= top ? INFINITY : value);

function setrlimit(task: Task, which: number, from: number): number {
  const { rlim_cur, rlim_max } = rlimit.read(task.memory, from, task.abi);
  const top = task.abi.word === 8 ? HUGE : INFINITY_32;
  return setLimit(task, task.process, which, unbounded(rlim_cur, top), unbounded(rlim_max, top));
}

function prlimit64(task: Task, pid: number, which: number, from: number, to: number): number {
  const { process, kernel, memory, abi } = task;
  const target = pid === 0 ? process : (kernel.processes.get(pid) ?? kernel.tasks.get(pid)?.process);
  const wanted = from === 0 ? undefined : rlimit64.read(memory, from, abi);
  if (target === undefined) return task.fail(Errno.ESRCH, `there is no process ${pid}`);
  const limit = target.limits.get(which >>> 0);
  if (limit === undefined) return task.fail(Errno.EINVAL, `there is no resource ${which}`);
  const own = process.cred;
  if (target !== process && !own.capable(Cap.CAP_SYS_RESOURCE) && target.cred.ruid !== own.ruid) {
    return task.fail(Errno.EPERM, "another user's process");
  }
  const old = { ...limit };
  if (wanted !== undefined) {
    const result = setLimit(task, target, which, unbounded(wanted.rlim_cur, HUGE), unbounded(wanted.rlim_max, HUGE));
    if (result < 0) return result;
  }
  if (to !== 0) writeLimit64(task, to, old);
  return 0;
}

function personality(task: Task, persona: number): number {
  const { process } = task;
  const old = process.personality;
  if (persona !== 0xffff_ffff) process.personality = persona;
  return old;
}

const limitOut = (of: Field<{ rlim_cur: number; rlim_max: number }>): Kind => structOut(of);
const family = "process";
const execKinds = [path, stringList, environment] as const;

export const processCalls: readonly Row[] = [
  row("execve", { x86_64: 59, i386: 11 }, execKinds, execve, { family, support: "set-user-ID bits have no effect" }),
  row("execveat", { x86_64: 322, i386: 358 }, [dirfd, path, stringList, environment, uintHex], execveat, {
    family,
    support: "set-user-ID bits have no effect",
  }),
  row("exit", { x86_64: 60, i386: 1 }, [int], exit, { family }),
  row("exit_group", { x86_64: 231, i386: 252 }, [int], exitGroup, { family }),
  row("getrlimit", { x86_64: 97 }, [resource, limitOut(rlimit)], getrlimit(INFINITY_32), { family }),
  row("getrlimit", { i386: 76 }, [resource, limitOut(rlimit)], getrlimit(OLD_INFINITY), { family }),
  row("ugetrlimit", { i386: 191 }, [resource, limitOut(rlimit)], getrlimit(INFINITY_32), { family }),
  row("setrlimit", { x86_64: 160, i386: 75 }, [resource, structIn(rlimit)], setrlimit, {
    family,
    support: "RSS, LOCKS and RTTIME are kept and not enforced",
  }),
  row("prlimit64", { x86_64: 302, i386: 340 }, [pid, resource, structIn(rlimit64), limitOut(rlimit64)], prlimit64, {
    family,
    support: "RSS, LOCKS and RTTIME are kept and not enforced",
  }),
  row("personality", { x86_64: 135, i386: 136 }, [uintHex], personality, {
    family,
    support: "READ_IMPLIES_EXEC, ADDR_NO_RANDOMIZE, ADDR_COMPAT_LAYOUT, STICKY_TIMEOUTS, UNAME26 and PER_LINUX32 count",
    returns: uintHex,
  }),
];
