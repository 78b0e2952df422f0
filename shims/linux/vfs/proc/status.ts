/** What /proc/[pid] tells of a process in text: stat, statm, status, limits (proc(5)). */

import { shownId } from "../../namespaces/user.ts";
import { Resource } from "../../process/limits.ts";
import { filtersOf, seccompMode } from "../../seccomp/state.ts";
import { NSIG, SIG_DFL, SIG_IGN } from "../../signals/numbers.ts";
import { SignalSet } from "../../signals/signal-set.ts";
import type { Process, Task } from "../../task.ts";
import { memoryUse, residentBytes } from "./memory-use.ts";

const PAGE = 4096;
/** USER_HZ. */
const TICKS = 100;

const STATES = {
  R: "R (running)",
  S: "S (sleeping)",
  T: "T (stopped)",
  t: "t (tracing stop)",
  Z: "Z (zombie)",
} as const;

function state(process: Process, task: Task | undefined): keyof typeof STATES {
  if (task?.tracee?.stop !== undefined) return "t";
  if (process.status) return "Z";
  if (task?.wait?.pause) return "T";
  // Woken and not yet in the CPU is as good as running.
  return task?.wait && !task.queued ? "S" : "R";
}

/** Signals that are ignored, and signals that have a handler. */
function dispositions(process: Process): { ignored: SignalSet; caught: SignalSet } {
  const [ignored, caught] = [new SignalSet(), new SignalSet()];
  for (let signal = 1; signal <= NSIG; signal++) {
    const { handler } = process.signals.hand.get(signal);
    if (handler === SIG_IGN) ignored.add(signal);
    else if (handler !== SIG_DFL) caught.add(signal);
  }
  return { ignored, caught };
}

/** The first 31 signals of a set, as stat shows them. */
const low = (set: SignalSet | undefined): number => (set?.lo ?? 0) & 0x7fff_ffff;

/** proc_pid_stat(5): 52 fields. */
export function statText(process: Process, task: Task | undefined): string {
  const { mm } = process;
  const ticks = (ns: number): number => Math.floor((ns * TICKS) / 1e9);
  const { user, system } = process.used;
  const id = task?.tid ?? process.pid;
  const fields: (number | string)[] = [
    id,
    `(${task?.comm ?? ""})`,
    state(process, task),
    process.ppid,
    process.pgid,
    process.sid,
  ];
  const pty = process.kernel.vfs.ptyOf(process.sid);
  // tty_nr, tpgid, flags, minflt, cminflt, majflt, cmajflt
  fields.push(pty?.device ?? 0, pty?.foreground ?? -1, 0x400000, 0, 0, 0, 0);
  // utime, stime, cutime, cstime, priority, nice, num_threads, itrealvalue, starttime
  const waited = process.childrenUsage;
  fields.push(ticks(user), ticks(system), ticks(waited.user), ticks(waited.system));
  const nice = task?.nice ?? 0;
  const realtime = (task?.priority ?? 0) > 0;
  fields.push(realtime ? -1 - (task?.priority ?? 0) : 20 + nice, nice, process.tasks.size, 0);
  fields.push(ticks(process.startTime));
  // vsize, rss, rsslim, startcode, endcode, startstack, kstkesp, kstkeip
  const use = memoryUse(mm);
  fields.push(use.size, residentBytes(use) / PAGE, limitText(process.limits.soft(Resource.RLIMIT_RSS)));
  fields.push(0, 0, mm.startStack, 0, 0);
  // signal, blocked, sigignore, sigcatch, wchan, nswap, cnswap, exit_signal, processor, rt_priority, policy
  const { ignored, caught } = dispositions(process);
  fields.push(low(task?.signals.pending.set), low(task?.signals.blocked), low(ignored), low(caught));
  fields.push(0, 0, 0, process.signals.exitSignal, 0, task?.priority ?? 0, task?.policy ?? 0);
  // delayacct_blkio_ticks, guest_time, cguest_time, start_data, end_data, start_brk
  fields.push(0, 0, 0, 0, 0, mm.startBrk);
  fields.push(mm.argStart, mm.argEnd, mm.envStart, mm.envEnd, 0);
  return `${fields.join(" ")}\n`;
}

function limitText(value: number): string {
  return value === Number.POSITIVE_INFINITY ? "18446744073709551615" : String(value);
}

export function statmText(process: Process): string {
  const use = memoryUse(process.mm);
  const { size, file, shared, program, data, stack } = use;
  const bytes = [size, residentBytes(use), file + shared, program, 0, data + stack, 0];
  return `${bytes.map((count) => count / PAGE).join(" ")}\n`;
}

function memoryText({ mm }: Process): string {
  const use = memoryUse(mm);
  const resident = residentBytes(use);
  const lines: readonly (readonly [string, number])[] = [
    ["VmPeak", use.size],
    ["VmSize", use.size],
    ["VmLck", mm.locks.bytes],
    ["VmPin", 0],
    ["VmHWM", resident],
    ["VmRSS", resident],
    ["RssAnon", use.anonymous],
    ["RssFile", use.file],
    ["RssShmem", use.shared],
    ["VmData", use.data],
    ["VmStk", use.stack],
    ["VmExe", use.program],
    ["VmLib", use.libraries],
    ["VmPTE", use.tables],
    ["VmSwap", 0],
    ["HugetlbPages", 0],
  ];
  const text = lines.map(([name, bytes]) => `${name}:\t${String(bytes / 1024).padStart(8)} kB\n`).join("");
  return `${text}CoreDumping:\t0\nTHP_enabled:\t0\nuntag_mask:\t0xffffffffffffffff\n`;
}

export function statusText(process: Process, task: Task | undefined): string {
  const { kernel } = process;
  const cred = task?.cred ?? process.commonCred;
  const capabilities = (name: string, set: bigint) => `Cap${name}:\t${set.toString(16).padStart(16, "0")}\n`;
  const half = (word: number) => (word >>> 0).toString(16).padStart(8, "0");
  const signals = (name: string, set: SignalSet | undefined) =>
    `${name}:\t${half(set?.hi ?? 0)}${half(set?.lo ?? 0)}\n`;
  const { ignored, caught } = dispositions(process);
  const viewer = (kernel.current?.cred ?? cred).userNamespace;
  const named = (kind: "uid" | "gid", ...ids: readonly number[]) =>
    ids.map((id) => shownId(viewer, kind, id)).join("\t");
  const groups = cred.groups.map((group) => shownId(viewer, "gid", group)).join(" ");
  const queued = kernel.signals.state.counts.of(cred.ruid);
  return (
    `Name:\t${task?.comm ?? ""}\n` +
    (process.status ? "" : `Umask:\t${process.fs.umask.toString(8).padStart(4, "0")}\n`) +
    `State:\t${STATES[state(process, task)]}\n` +
    `Tgid:\t${process.pid}\nNgid:\t0\nPid:\t${task?.tid ?? process.pid}\nPPid:\t${process.ppid}\n` +
    `TracerPid:\t${task?.tracee?.tracer.tid ?? 0}\n` +
    `Uid:\t${named("uid", cred.ruid, cred.euid, cred.suid, cred.uid)}\n` +
    `Gid:\t${named("gid", cred.rgid, cred.egid, cred.sgid, cred.gid)}\n` +
    `FDSize:\t${Math.max(64, process.files.length)}\nGroups:\t${groups} \n` +
    `NStgid:\t${process.pid}\nNSpid:\t${task?.tid ?? process.pid}\nNSpgid:\t${process.pgid}\nNSsid:\t${process.sid}\n` +
    `Kthread:\t0\n${process.status ? "" : memoryText(process)}` +
    `Threads:\t${process.tasks.size}\n` +
    `SigQ:\t${queued}/${limitText(process.limits.soft(Resource.RLIMIT_SIGPENDING))}\n` +
    signals("SigPnd", task?.signals.pending.set) +
    signals("ShdPnd", process.signals.pending.set) +
    signals("SigBlk", task?.signals.blocked) +
    signals("SigIgn", ignored) +
    signals("SigCgt", caught) +
    capabilities("Inh", cred.inheritable) +
    capabilities("Prm", cred.permitted) +
    capabilities("Eff", cred.effective) +
    capabilities("Bnd", cred.bounding) +
    capabilities("Amb", cred.ambient) +
    `NoNewPrivs:\t${Number(process.noNewPrivs)}\n` +
    `Seccomp:\t${seccompMode(task?.seccomp)}\nSeccomp_filters:\t${task === undefined ? 0 : (filtersOf(task)?.count ?? 0)}\n` +
    `Speculation_Store_Bypass:\tvulnerable\nSpeculationIndirectBranch:\talways enabled\n` +
    `Cpus_allowed:\t1\nCpus_allowed_list:\t0\nMems_allowed:\t1\nMems_allowed_list:\t0\n` +
    `voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n`
  );
}

const LIMIT_ROWS: readonly (readonly [string, number, string])[] = [
  ["Max cpu time", Resource.RLIMIT_CPU, "seconds"],
  ["Max file size", Resource.RLIMIT_FSIZE, "bytes"],
  ["Max data size", Resource.RLIMIT_DATA, "bytes"],
  ["Max stack size", Resource.RLIMIT_STACK, "bytes"],
  ["Max core file size", Resource.RLIMIT_CORE, "bytes"],
  ["Max resident set", Resource.RLIMIT_RSS, "bytes"],
  ["Max processes", Resource.RLIMIT_NPROC, "processes"],
  ["Max open files", Resource.RLIMIT_NOFILE, "files"],
  ["Max locked memory", Resource.RLIMIT_MEMLOCK, "bytes"],
  ["Max address space", Resource.RLIMIT_AS, "bytes"],
  ["Max file locks", Resource.RLIMIT_LOCKS, "locks"],
  ["Max pending signals", Resource.RLIMIT_SIGPENDING, "signals"],
  ["Max msgqueue size", Resource.RLIMIT_MSGQUEUE, "bytes"],
  ["Max nice priority", Resource.RLIMIT_NICE, ""],
  ["Max realtime priority", Resource.RLIMIT_RTPRIO, ""],
  ["Max realtime timeout", Resource.RLIMIT_RTTIME, "us"],
];

export function limitsText(process: Process): string {
  const shown = (value: number) => (value === Number.POSITIVE_INFINITY ? "unlimited" : String(value)).padEnd(20);
  const lines = [`${"Limit".padEnd(25)} ${"Soft Limit".padEnd(20)} ${"Hard Limit".padEnd(20)} Units     `];
  for (const [name, resource, unit] of LIMIT_ROWS) {
    const limit = process.limits.get(resource);
    if (limit) lines.push(`${name.padEnd(25)} ${shown(limit.soft)} ${shown(limit.hard)} ${unit.padEnd(10)}`);
  }
  return `${lines.join("\n")}\n`;
}
