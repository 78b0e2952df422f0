/** Scheduling as far as one CPU and turns have it: sched_*, getcpu, membarrier (kernel/sched/syscalls.c). */

import { Errno } from "../errno.ts";
import { schedPolicy } from "../kinds/flags.ts";
import { int, pid, pointer, size, uintHex } from "../kinds/kinds.ts";
import { i32, struct, structIn, structOut, timespec, timespec64, u32, u64, valueOut } from "../kinds/structs.ts";
import { Cap } from "../process/capabilities.ts";
import { Resource } from "../process/limits.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";

const SCHED_OTHER = 0;
const SCHED_FIFO = 1;
const SCHED_RR = 2;
const RESET_ON_FORK = 0x4000_0000;
const SCHED_BATCH = 3;
const SCHED_IDLE = 5;
const SCHED_DEADLINE = 6;
const POLICIES = [SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE, SCHED_DEADLINE];
const PRIORITY_POLICIES = [SCHED_OTHER, SCHED_FIFO, SCHED_RR, 3, 5, 6, 7];
const MAX_PRIORITY = 99;
/** SCHED_OTHER's slice as sched_rr_get_interval tells it, and RR_TIMESLICE. */
const RR_NS = 100_000_000;
const OTHER_NS = 4_000_000;
/** membarrier: all commands are no-ops where threads take turns on one CPU; MEMBARRIER_CMD_QUERY's answer. */
const MEMBARRIER_COMMANDS = 0x3ff;
const PRIVATE_EXPEDITED = { 8: 16, 32: 64, 128: 256 } as const;

const schedParam = struct({ sched_priority: i32 });
const schedAttr = struct(
  {
    size: u32,
    sched_policy: u32,
    sched_flags: u64,
    sched_nice: i32,
    sched_priority: u32,
    sched_runtime: u64,
    sched_deadline: u64,
    sched_period: u64,
  },
  ["size", "sched_policy"],
);
/** SCHED_ATTR_SIZE_VER0, and the size with the utilization clamps. */
const SCHED_ATTR_BYTES = 48;
const SCHED_ATTR_LARGEST = 56;
const SCHED_FLAGS = 0x7f;
const SCHED_FLAG_RESET_ON_FORK = 1;
/** Below this the deadline scheduler cannot tell times (DL_SCALE), and the longest period (kernel.sched_deadline_period_max_us). */
const DL_SHORTEST_NS = 1024;
const DL_SHORTEST_PERIOD_NS = 100_000;
const DL_LONGEST_PERIOD_NS = 2 ** 22 * 1000;

function targetOf(task: Task, pid: number): Task | undefined {
  return pid === 0 ? task : task.kernel.tasks.get(pid);
}

const nobody = (task: Task, pid: number): number => task.fail(Errno.ESRCH, `there is no thread ${pid}`);

function schedYield(task: Task): number {
  const { scheduler } = task.kernel;
  task.yields = scheduler.readyCount > 0;
  scheduler.attention = true;
  return 0;
}

/** One CPU, in a mask of one word of the ABI. */
function getAffinity(task: Task, pid: number, length: number, mask: number): number {
  const { word } = task.abi;
  if (length * 8 < 1 || length % word !== 0) return task.fail(Errno.EINVAL, `the mask's size is a multiple of ${word}`);
  if (targetOf(task, pid) === undefined) return nobody(task, pid);
  const bytes = new Uint8Array(word);
  bytes[0] = 1;
  task.memory.write(mask, bytes);
  return word;
}

function setAffinity(task: Task, pid: number, length: number, mask: number): number {
  const wanted = length === 0 ? 0 : task.memory.bytes(mask, Math.min(length, task.abi.word))[0];
  const target = targetOf(task, pid);
  if (target === undefined) return nobody(task, pid);
  const own = task.process.cred;
  if (!own.capable(Cap.CAP_SYS_NICE) && target.cred.ruid !== own.euid)
    return task.fail(Errno.EPERM, "another user's thread");
  return ((wanted ?? 0) & 1) === 0 ? task.fail(Errno.EINVAL, "none of these CPUs is there") : 0;
}

function getScheduler(task: Task, pid: number): number {
  if (pid < 0) return task.fail(Errno.EINVAL, "a negative thread id");
  const target = targetOf(task, pid);
  if (target === undefined) return nobody(task, pid);
  return target.policy | (target.resetOnFork ? RESET_ON_FORK : 0);
}

function getParam(task: Task, pid: number, to: number): number {
  if (pid < 0 || to === 0) return task.fail(Errno.EINVAL, "a negative thread id or no struct");
  const target = targetOf(task, pid);
  if (target === undefined) return nobody(task, pid);
  schedParam.write(task.memory, to, { sched_priority: target.priority }, task.abi);
  return 0;
}

function change(task: Task, pid: number, policy: number | undefined, from: number): number {
  if (pid < 0 || from === 0) return task.fail(Errno.EINVAL, "a negative thread id or no struct");
  const { sched_priority } = schedParam.read(task.memory, from, task.abi);
  const target = targetOf(task, pid);
  if (target === undefined) return nobody(task, pid);
  if (policy !== undefined) return setPolicy(task, target, policy, sched_priority);
  const kept = target.policy | (target.resetOnFork ? RESET_ON_FORK : 0);
  return setPolicy(task, target, kept, sched_priority);
}

/** Why a change needs CAP_SYS_NICE; undefined where it does not (user_check_sched_setscheduler). */
function privilegeFor(task: Task, target: Task, policy: number, priority: number, resets: boolean): string | undefined {
  const { limits, cred } = target.process;
  if (policy === SCHED_FIFO || policy === SCHED_RR) {
    const limit = limits.soft(Resource.RLIMIT_RTPRIO);
    const isNew = policy !== target.policy && limit === 0;
    if (isNew || (priority > target.priority && priority > limit))
      return "real-time policies are for privileged processes";
  }
  if (policy === SCHED_DEADLINE) return "SCHED_DEADLINE is for privileged processes";
  if (target.policy === SCHED_IDLE && policy !== SCHED_IDLE && 20 - target.nice > limits.soft(Resource.RLIMIT_NICE))
    return "SCHED_IDLE stays";
  const { euid } = task.process.cred;
  if (euid !== cred.euid && euid !== cred.ruid) return "another user's thread";
  return target.resetOnFork && !resets ? "SCHED_RESET_ON_FORK stays" : undefined;
}

function setPolicy(
  task: Task,
  target: Task,
  policy: number,
  sched_priority: number,
  deadline?: Task["deadline"],
): number {
  const wanted = policy & ~RESET_ON_FORK;
  if (!POLICIES.includes(wanted) || (wanted === SCHED_DEADLINE && deadline === undefined))
    return task.fail(Errno.EINVAL, `there is no policy ${wanted}, or not with these parameters`);
  const realtime = wanted === SCHED_FIFO || wanted === SCHED_RR;
  if (realtime ? sched_priority < 1 || sched_priority > MAX_PRIORITY : sched_priority !== 0) {
    return task.fail(Errno.EINVAL, `priority ${sched_priority} does not go with the policy`);
  }
  const resets = (policy & RESET_ON_FORK) !== 0;
  const privilege = task.process.cred.capable(Cap.CAP_SYS_NICE)
    ? undefined
    : privilegeFor(task, target, wanted, sched_priority, resets);
  if (privilege !== undefined) return task.fail(Errno.EPERM, privilege);
  target.resetOnFork = resets;
  target.policy = wanted;
  target.priority = sched_priority;
  target.deadline = deadline ?? { runtime: 0, deadline: 0, period: 0 };
  return 0;
}

function setScheduler(task: Task, pid: number, policy: number, from: number): number {
  if (policy < 0) return task.fail(Errno.EINVAL, `there is no policy ${policy}`);
  return change(task, pid, policy, from);
}

function getAttr(task: Task, pid: number, to: number, length: number, flags: number): number {
  if (to === 0 || pid < 0 || length < SCHED_ATTR_BYTES || length > 4096 || flags !== 0) {
    return task.fail(Errno.EINVAL, "no such thread id, size or flags");
  }
  const target = targetOf(task, pid);
  if (target === undefined) return nobody(task, pid);
  const { memory, abi } = task;
  const value = {
    size: Math.min(length, SCHED_ATTR_LARGEST),
    sched_policy: target.policy,
    sched_flags: target.resetOnFork ? SCHED_FLAG_RESET_ON_FORK : 0,
    sched_nice: target.priority > 0 || target.policy === SCHED_DEADLINE ? 0 : target.nice,
    sched_priority: target.priority,
    sched_runtime: target.deadline.runtime,
    sched_deadline: target.deadline.deadline,
    sched_period: target.deadline.period,
  };
  schedAttr.write(memory, to, value, abi);
  // The utilization clamps, and fields that this kernel does not know.
  memory.fill(to + SCHED_ATTR_BYTES, length - SCHED_ATTR_BYTES, 0);
  return 0;
}

/** SCHED_DEADLINE's parameters; undefined where they are none (__checkparam_dl). */
function deadlineOf(attr: {
  sched_runtime: number;
  sched_deadline: number;
  sched_period: number;
}): Task["deadline"] | undefined {
  const { sched_runtime: runtime, sched_deadline: deadline } = attr;
  if (deadline === 0 || deadline >= 2 ** 63 || attr.sched_period >= 2 ** 63) return undefined;
  const period = attr.sched_period || deadline;
  if (runtime < DL_SHORTEST_NS || runtime > deadline || deadline > period) return undefined;
  if (period < DL_SHORTEST_PERIOD_NS || period > DL_LONGEST_PERIOD_NS) return undefined;
  return { runtime, deadline, period };
}

/** sched_setattr: the struct in the size the caller knows (sched_copy_attr). */
function setAttr(task: Task, pid: number, from: number, given: number): number {
  if (from === 0 || pid < 0 || given !== 0) return task.fail(Errno.EINVAL, "no struct, a negative thread id, or flags");
  const { memory, abi } = task;
  const bytes = memory.u32(from) || SCHED_ATTR_BYTES;
  if (bytes < SCHED_ATTR_BYTES || bytes > 4096) {
    memory.setU32(from, SCHED_ATTR_LARGEST);
    return task.fail(Errno.E2BIG, "no size of struct sched_attr");
  }
  const attr = schedAttr.read(memory, from, abi);
  const rest = bytes > SCHED_ATTR_LARGEST ? memory.bytes(from + SCHED_ATTR_LARGEST, bytes - SCHED_ATTR_LARGEST) : [];
  if (rest.some((byte) => byte !== 0)) {
    memory.setU32(from, SCHED_ATTR_LARGEST);
    return task.fail(Errno.E2BIG, "struct sched_attr has fields that this kernel does not know");
  }
  const { sched_policy, sched_priority, sched_flags, sched_nice } = attr;
  if (sched_policy >= 2 ** 31 || sched_flags > SCHED_FLAGS)
    return task.fail(Errno.EINVAL, "no policy, or unknown flags");
  const target = targetOf(task, pid);
  if (target === undefined) return nobody(task, pid);
  const policy = sched_policy | ((sched_flags & SCHED_FLAG_RESET_ON_FORK) === 0 ? 0 : RESET_ON_FORK);
  const result = setPolicy(task, target, policy, sched_priority | 0, deadlineOf(attr));
  if (result === 0 && (sched_policy === SCHED_OTHER || sched_policy === SCHED_BATCH)) {
    const nice = Math.max(-20, Math.min(19, sched_nice));
    if (nice < target.nice && !task.process.cred.capable(Cap.CAP_SYS_NICE)) {
      return task.fail(Errno.EPERM, "only root lowers a nice value");
    }
    target.nice = nice;
  }
  return result;
}

function priorityRange(realtime: number): (task: Task, policy: number) => number {
  return (task, policy) => {
    if (!PRIORITY_POLICIES.includes(policy)) return task.fail(Errno.EINVAL, `there is no policy ${policy}`);
    return policy === SCHED_FIFO || policy === SCHED_RR ? realtime : 0;
  };
}

function rrInterval(layout: typeof timespec): (task: Task, pid: number, to: number) => number {
  return (task, pid, to) => {
    if (pid < 0) return task.fail(Errno.EINVAL, "a negative thread id");
    const target = targetOf(task, pid);
    if (target === undefined) return nobody(task, pid);
    const slice = target.policy === SCHED_RR ? RR_NS : target.policy === SCHED_FIFO ? 0 : OTHER_NS;
    layout.write(task.memory, to, { tv_sec: 0, tv_nsec: slice }, task.abi);
    return 0;
  };
}

function getcpu(task: Task, cpu: number, node: number): number {
  if (cpu !== 0) task.memory.setU32(cpu, 0);
  if (node !== 0) task.memory.setU32(node, 0);
  return 0;
}

function membarrier(task: Task, command: number, flags: number): number {
  if (command === 0) return flags === 0 ? MEMBARRIER_COMMANDS : task.fail(Errno.EINVAL, "flags");
  // MEMBARRIER_CMD_FLAG_CPU goes with the rseq command alone.
  if (flags !== 0 && !(command === 128 && flags === 1)) return task.fail(Errno.EINVAL, "flags");
  if (command < 0 || (command & (command - 1)) !== 0 || (command & MEMBARRIER_COMMANDS) === 0) {
    return task.fail(Errno.EINVAL, `there is no command ${command}`);
  }
  const { process } = task;
  if (command === 512) return process.membarriers;
  if (command === 8 || command === 32 || command === 128) {
    return (process.membarriers & PRIVATE_EXPEDITED[command]) !== 0
      ? 0
      : task.fail(Errno.EPERM, "the process has not registered for it");
  }
  if (command === 4 || command === 16 || command === 64 || command === 256) process.membarriers |= command;
  return 0;
}

const family = "thread";
const kept = "kept; turns do not depend on it";

export const threadCalls: readonly Row[] = [
  row("sched_yield", { x86_64: 24, i386: 158 }, [], schedYield, { family }),
  row("sched_getaffinity", { x86_64: 204, i386: 242 }, [pid, size, pointer], getAffinity, {
    family,
    support: "there is one CPU",
  }),
  row("sched_setaffinity", { x86_64: 203, i386: 241 }, [pid, size, pointer], setAffinity, {
    family,
    support: "there is one CPU",
  }),
  row("sched_getscheduler", { x86_64: 145, i386: 157 }, [pid], getScheduler, { family }),
  row("sched_setscheduler", { x86_64: 144, i386: 156 }, [pid, schedPolicy, structIn(schedParam)], setScheduler, {
    family,
    support: kept,
  }),
  row("sched_getparam", { x86_64: 143, i386: 155 }, [pid, structOut(schedParam)], getParam, { family }),
  row(
    "sched_setparam",
    { x86_64: 142, i386: 154 },
    [pid, structIn(schedParam)],
    (task, pid, from) => change(task, pid, undefined, from),
    { family, support: kept },
  ),
  row("sched_getattr", { x86_64: 315, i386: 352 }, [pid, structOut(schedAttr), size, uintHex], getAttr, { family }),
  row("sched_setattr", { x86_64: 314, i386: 351 }, [pid, structIn(schedAttr), uintHex], setAttr, {
    family,
    support: kept,
  }),
  row("sched_get_priority_max", { x86_64: 146, i386: 159 }, [schedPolicy], priorityRange(MAX_PRIORITY), { family }),
  row("sched_get_priority_min", { x86_64: 147, i386: 160 }, [schedPolicy], priorityRange(1), { family }),
  row("sched_rr_get_interval", { x86_64: 148, i386: 161 }, [pid, structOut(timespec)], rrInterval(timespec), {
    family,
  }),
  row("sched_rr_get_interval_time64", { i386: 423 }, [pid, structOut(timespec64)], rrInterval(timespec64), { family }),
  row("getcpu", { x86_64: 309, i386: 318 }, [valueOut(u32), valueOut(u32), pointer], getcpu, {
    family,
    support: "there is one CPU",
  }),
  row("membarrier", { x86_64: 324, i386: 375 }, [int, uintHex], membarrier, {
    family,
    support: "threads take turns, so every barrier holds already",
  }),
];
