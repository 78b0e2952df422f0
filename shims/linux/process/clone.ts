/** Making threads and processes (kernel/fork.c, copy_process; arch/x86/kernel/process.c, copy_thread). */
import { type CpuContext, Reg } from "../../../emulator/cpu.ts";
import { readUserDesc } from "../../../emulator/descriptors.ts";
import { MemoryFault } from "../../../emulator/errors.ts";
import type { Outcome, Request } from "../../../providers/requests.ts";
import { Errno } from "../errno.ts";
import { adopt, beyondRun, newNamespaces } from "../namespaces/make.ts";
import { Event, type Event as PtraceEvent } from "../ptrace/numbers.ts";
import { beginEvent, stopInCall } from "../ptrace/stops.ts";
import { link, type Tracee } from "../ptrace/tracee.ts";
import { setSeccomp } from "../seccomp/state.ts";
import { Signal } from "../signals/numbers.ts";
import { inheritSignals } from "../signals/port.ts";
import type { Result } from "../table.ts";
import { PID_MAX, Process, Task } from "../task.ts";
import { tlsErrno, unlessTlsBase } from "../tls-errno.ts";
import { demandDescriptors, install } from "../vfs/call-context.ts";
import { Wait, WaitQueue } from "../wait.ts";
import { Cap } from "./capabilities.ts";
import { Resource } from "./limits.ts";
import { PidFile } from "./pid-file.ts";

/** uapi/linux/sched.h. The low byte of clone's flags is the signal at the child's end. */
export const Clone = {
  CLONE_NEWTIME: 0x80,
  CLONE_VM: 0x100,
  CLONE_FS: 0x200,
  CLONE_FILES: 0x400,
  CLONE_SIGHAND: 0x800,
  CLONE_PIDFD: 0x1000,
  CLONE_PTRACE: 0x2000,
  CLONE_VFORK: 0x4000,
  CLONE_PARENT: 0x8000,
  CLONE_THREAD: 0x1_0000,
  CLONE_NEWNS: 0x2_0000,
  CLONE_SYSVSEM: 0x4_0000,
  CLONE_SETTLS: 0x8_0000,
  CLONE_PARENT_SETTID: 0x10_0000,
  CLONE_CHILD_CLEARTID: 0x20_0000,
  CLONE_DETACHED: 0x40_0000,
  CLONE_UNTRACED: 0x80_0000,
  CLONE_CHILD_SETTID: 0x100_0000,
  CLONE_NEWCGROUP: 0x200_0000,
  CLONE_NEWUTS: 0x400_0000,
  CLONE_NEWIPC: 0x800_0000,
  CLONE_NEWUSER: 0x1000_0000,
  CLONE_NEWPID: 0x2000_0000,
  CLONE_NEWNET: 0x4000_0000,
  CLONE_IO: 0x8000_0000,
} as const;
const SCHED_DEADLINE = 6;
const NAMESPACES =
  Clone.CLONE_NEWTIME |
  Clone.CLONE_NEWNS |
  Clone.CLONE_NEWCGROUP |
  Clone.CLONE_NEWUTS |
  Clone.CLONE_NEWIPC |
  Clone.CLONE_NEWUSER |
  Clone.CLONE_NEWPID |
  Clone.CLONE_NEWNET;

/** struct kernel_clone_args. Addresses of 0 in the id pointers are addresses, not absence: the flags say what is meant. */
export interface CloneRequest {
  /** CLONE_*, without the signal. */
  readonly flags: number;
  readonly clearHandlers: boolean;
  readonly exitSignal: number;
  /** The child's stack pointer; 0 for the parent's. */
  readonly stack: number;
  readonly tls: number;
  readonly pidfd: number;
  readonly parentTid: number;
  readonly childTid: number;
  /** The ids that clone3 asks for, innermost first. */
  readonly setTid: readonly number[];
}

/** Makes a thread or a process. The result is its id, for CLONE_VFORK once it is done with the memory. */
export function clone(task: Task, request: CloneRequest): Result {
  const refused = refusal(task, request);
  if (refused !== 0) return refused;
  const { flags } = request;
  const { kernel } = task;
  const namespaces = (flags & NAMESPACES) === 0 ? undefined : newNamespaces(task, flags & NAMESPACES);
  if (typeof namespaces === "number") return namespaces;
  const tls = tlsRequest(task, request);
  if (typeof tls === "number") return tls;
  const chosen = chooseTid(task, request.setTid);
  if (chosen < 0) return chosen;
  if ((flags & Clone.CLONE_PIDFD) !== 0) {
    demandDescriptors(task);
    // The child is made only where its descriptor can be told.
    task.memory.setU32(request.pidfd, task.memory.u32(request.pidfd));
  }
  const tid = chosen === 0 ? kernel.newPid() : chosen;
  const isThread = (flags & Clone.CLONE_THREAD) !== 0;
  const process = isThread ? task.process : newProcess(task, tid, request);
  const child = new Task(process, tid);
  const outcome = startContext(task, child, request.stack, tls);
  if (outcome !== undefined && outcome.kind !== "ok") {
    if (!isThread) process.mm.release();
    if (!isThread) process.commonFiles.release();
    return tlsErrno(task, outcome);
  }
  inherit(task, child, request);
  if (namespaces !== undefined) adopt(child, namespaces);
  enter(task, child);
  if ((flags & Clone.CLONE_PIDFD) !== 0) {
    task.memory.setU32(request.pidfd, install(task, PidFile.of(process, isThread ? child : undefined, 0), true));
  }
  if ((flags & Clone.CLONE_PARENT_SETTID) !== 0) tellTid(task, request.parentTid, tid);
  if ((flags & Clone.CLONE_CHILD_SETTID) !== 0) tellTid(child, request.childTid, tid);
  const event = task.tracee === undefined ? undefined : traceChild(task.tracee, child, request);
  kernel.scheduler.ready(child);
  const vfork = (flags & Clone.CLONE_VFORK) !== 0;
  return event !== undefined || vfork ? awaitChild(task, child, event, vfork) : tid;
}

/** A tracer may want to trace the child too, and to be told of it (kernel_clone, ptrace_init_task). */
function traceChild(tracee: Tracee, child: Task, request: CloneRequest): PtraceEvent | undefined {
  const { flags, exitSignal } = request;
  let event: PtraceEvent | undefined;
  if ((flags & Clone.CLONE_UNTRACED) === 0) {
    if ((flags & Clone.CLONE_VFORK) !== 0) event = Event.vfork;
    else event = (flags & Clone.CLONE_THREAD) === 0 && exitSignal === Signal.SIGCHLD ? Event.fork : Event.clone;
    if (!tracee.wants(event)) event = undefined;
  }
  if (event !== undefined || (flags & Clone.CLONE_PTRACE) !== 0) {
    const traced = link(tracee.tracer, child, tracee.seized, tracee.options);
    if (tracee.seized) traced.trapStop = true;
    else child.signals.pending.set.add(Signal.SIGSTOP);
    child.signals.attention = true;
  }
  return event;
}

/** What copy_process refuses, in its order. */
function refusal(task: Task, { flags }: CloneRequest): number {
  const { kernel, process } = task;
  const invalid = (why: string): number => task.fail(Errno.EINVAL, why);
  const has = (flag: number): boolean => (flags & flag) !== 0;
  if (has(Clone.CLONE_FS) && has(Clone.CLONE_NEWNS | Clone.CLONE_NEWUSER)) {
    return invalid("CLONE_FS does not go with a new mount or user namespace");
  }
  if (has(Clone.CLONE_THREAD) && !has(Clone.CLONE_SIGHAND)) return invalid("CLONE_THREAD needs CLONE_SIGHAND");
  if (has(Clone.CLONE_SIGHAND) && !has(Clone.CLONE_VM)) return invalid("CLONE_SIGHAND needs CLONE_VM");
  if (has(Clone.CLONE_THREAD) && has(Clone.CLONE_NEWUSER | Clone.CLONE_NEWPID)) {
    return invalid("CLONE_THREAD does not go with a new user or process namespace");
  }
  if (has(Clone.CLONE_PIDFD) && has(Clone.CLONE_DETACHED))
    return invalid("CLONE_PIDFD does not go with CLONE_DETACHED");
  // A signal that waits is handled before, so that it has one receiver.
  if (kernel.signals.interrupts(task)) return -Errno.ERESTARTNOINTR;
  const limit = process.limits.soft(Resource.RLIMIT_NPROC);
  const { cred } = process;
  const unlimited = cred.ruid === 0 || cred.capable(Cap.CAP_SYS_RESOURCE) || cred.capable(Cap.CAP_SYS_ADMIN);
  if (!unlimited && kernel.tasks.size >= limit && tasksOf(task) >= limit) {
    return task.fail(Errno.EAGAIN, "RLIMIT_NPROC is reached");
  }
  if (kernel.tasks.size >= kernel.maxTasks || kernel.processes.size >= PID_MAX - 400) {
    return task.fail(Errno.EAGAIN, `there are ${kernel.tasks.size} threads`);
  }
  if (task.policy === SCHED_DEADLINE && !task.resetOnFork)
    return task.fail(Errno.EAGAIN, "a thread of SCHED_DEADLINE makes no others");
  if (has(Clone.CLONE_NEWIPC) && has(Clone.CLONE_SYSVSEM))
    return invalid("CLONE_SYSVSEM does not go with a new namespace of its objects");
  if (beyondRun(flags & NAMESPACES)) return task.fail(Errno.EPERM, "there is one namespace of this kind in a run");
  return 0;
}

function tasksOf(task: Task): number {
  const uid = task.process.cred.ruid;
  let count = 0;
  for (const other of task.kernel.tasks.values()) if (other.cred.ruid === uid) count++;
  return count;
}

/** CLONE_SETTLS as a request: a base on x86-64, a user_desc on i386, whose entry number is never written back. */
function tlsRequest(task: Task, { flags, tls }: CloneRequest): Request | number | undefined {
  if ((flags & Clone.CLONE_SETTLS) === 0) return undefined;
  if (task.abi.word === 8) {
    const refused = unlessTlsBase(task, "FS", tls);
    return refused === 0 ? { kind: "SetFsBase", address: BigInt(tls) } : refused;
  }
  const desc = readUserDesc(task.memory, tls);
  if (desc.entry_number === -1) return task.fail(Errno.EINVAL, "clone takes no free TLS entry: -1 is none");
  return { kind: "SetThreadArea", desc };
}

/** alloc_pid for clone3's set_tid; 0 where none was asked for. */
function chooseTid(task: Task, setTid: readonly number[]): number {
  const [wanted] = setTid;
  if (wanted === undefined) return 0;
  if (setTid.length > 1) return task.fail(Errno.EINVAL, "there is one process namespace");
  if (wanted < 1 || wanted >= PID_MAX) return task.fail(Errno.EINVAL, `${wanted} is no process id`);
  const { cred } = task.process;
  if (!cred.capable(Cap.CAP_SYS_ADMIN) && !cred.capable(Cap.CAP_CHECKPOINT_RESTORE))
    return task.fail(Errno.EPERM, "choosing ids is for privileged processes");
  if (wanted === 1 || task.kernel.isPidTaken(wanted)) return task.fail(Errno.EEXIST, `${wanted} is in use`);
  return wanted;
}

function newProcess(task: Task, pid: number, { flags, exitSignal }: CloneRequest): Process {
  const { process: from, kernel } = task;
  const { files, fs } = from;
  const isSibling = (flags & Clone.CLONE_PARENT) !== 0;
  const shares = (flag: number): boolean => (flags & flag) !== 0;
  if (shares(Clone.CLONE_FILES)) files.users++;
  if (shares(Clone.CLONE_VM)) from.mm.users++;
  const process = new Process({
    kernel,
    pid,
    parent: isSibling ? from.parent : from,
    mm: shares(Clone.CLONE_VM) ? from.mm : from.mm.fork(),
    files: shares(Clone.CLONE_FILES) ? files : files.clone(),
    fs: shares(Clone.CLONE_FS) ? fs : { ...fs },
    cred: from.cred.clone(),
    limits: from.limits.clone(),
  });
  process.creator = isSibling ? from.creator : task;
  process.pgid = from.pgid;
  process.sid = from.sid;
  process.exe = from.exe;
  process.personality = from.personality;
  process.dumpable = from.dumpable;
  process.noNewPrivs = from.noNewPrivs;
  process.oomScoreAdj = from.oomScoreAdj;
  process.oomScoreAdjMin = from.oomScoreAdjMin;
  process.membarriers = from.membarriers;
  process.coredumpFilter = from.coredumpFilter;
  process.prctl = { ...from.prctl, subreaper: false, defaultSlack: from.prctl.timerSlack };
  if (from.signals.timers.cpuLimit !== undefined) process.signals.timers.limitCpu(process);
  process.signals.exitSignal = isSibling ? from.signals.exitSignal : exitSignal;
  return process;
}

/** What a thread has of the one that made it. */
function inherit(task: Task, child: Task, { flags, clearHandlers, childTid }: CloneRequest): void {
  const sharesMemory = (flags & Clone.CLONE_VM) !== 0;
  child.abi = task.abi;
  child.trap = task.trap;
  child.callNumber = task.callNumber;
  child.comm = task.comm;
  child.memoryPolicy = task.memoryPolicy;
  child.namespaces = task.namespaces;
  inheritPolicy(task, child);
  if (task.seccomp !== undefined) setSeccomp(child, task.seccomp);
  if (!sharesMemory) child.rseq = task.rseq;
  if ((flags & Clone.CLONE_CHILD_CLEARTID) !== 0) child.clearChildTid = childTid;
  if (child.process === task.process) {
    child.ownCred = task.cred.clone();
    if ((flags & Clone.CLONE_FILES) === 0) child.ownFiles = task.process.files.clone();
    else if (task.ownFiles !== undefined) {
      child.ownFiles = task.ownFiles;
      child.ownFiles.users++;
    }
    if ((flags & Clone.CLONE_FS) === 0) child.ownFs = { ...task.process.fs };
    else child.ownFs = task.ownFs;
  }
  inheritSignals(child, task, {
    shareHandlers: (flags & Clone.CLONE_SIGHAND) !== 0,
    clearHandlers,
    dropStack: sharesMemory && (flags & Clone.CLONE_VFORK) === 0,
  });
}

/** sched_fork. */
function inheritPolicy(task: Task, child: Task): void {
  const { resetOnFork } = task;
  const isRealtime = task.priority > 0;
  child.policy = resetOnFork && isRealtime ? 0 : task.policy;
  child.priority = resetOnFork ? 0 : task.priority;
  child.ioprio = task.ioprio;
  child.nice = resetOnFork && (isRealtime || task.nice < 0) ? 0 : task.nice;
}

function enter(task: Task, child: Task): void {
  const { kernel } = task;
  const { process } = child;
  process.tasks.add(child);
  kernel.tasks.set(child.tid, child);
  if (process === task.process) return;
  kernel.processes.set(process.pid, process);
  process.parent?.children.add(process);
}

/**
 * The child's registers: the parent's, with a result of 0. TLS is set while the CPU is in the child's context, by a token of the
 * child's.
 */
function startContext(task: Task, child: Task, stack: number, tls: Request | undefined): Outcome | undefined {
  const { kernel, cpu } = task;
  const { lifecycle } = kernel.gate;
  if (tls === undefined && lifecycle === undefined) {
    const rax = cpu.regBig(Reg.rax);
    const rsp = cpu.regBig(Reg.rsp);
    cpu.setReg(Reg.rax, 0);
    if (stack !== 0) cpu.setReg(Reg.rsp, stack);
    child.context = cpu.saveContext();
    cpu.setRegBig(Reg.rax, rax);
    cpu.setRegBig(Reg.rsp, rsp);
    return undefined;
  }
  const own: CpuContext = cpu.saveContext(task.context);
  task.context = own;
  cpu.setReg(Reg.rax, 0);
  if (stack !== 0) cpu.setReg(Reg.rsp, stack);
  kernel.machine.activate(child.process.mm.space);
  kernel.current = child;
  lifecycle?.threadStart(child.tid, task.tid, tls !== undefined);
  const outcome = tls === undefined ? undefined : child.punch(tls, "clone");
  if (outcome === undefined || outcome.kind === "ok") child.context = cpu.saveContext();
  else lifecycle?.threadExit(child.tid);
  kernel.gate.goesOn(child.tid);
  kernel.machine.activate(task.process.mm.space);
  cpu.restoreContext(own);
  kernel.current = task;
  return outcome;
}

/** Linux does not look whether it could write the id. */
function tellTid(task: Task, at: number, tid: number): void {
  try {
    task.memory.setU32(at, tid);
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
  }
}

/**
 * Stops for a tracer's event; CLONE_VFORK then waits until the child has executed a program or ended, and may stop again. Only the
 * parent's own death ends that wait early.
 */
function awaitChild(task: Task, child: Task, event: PtraceEvent | undefined, vfork: boolean): Result {
  const { tid } = child;
  const { tracee } = task;
  if (vfork) child.vforked = new WaitQueue();
  const queues = child.vforked === undefined ? [] : [child.vforked];
  if (tracee === undefined) {
    return new Wait({
      queues,
      attempt: () => (child.vforked === undefined ? tid : undefined),
      interrupted: () => (task.process.signals.fatal === 0 ? undefined : tid),
    });
  }
  let told = !vfork;
  if (event !== undefined) beginEvent(task, event, tid);
  return stopInCall(task, queues, () => {
    if (child.vforked !== undefined) return true;
    if (told || task.tracee !== tracee) return tid;
    told = true;
    beginEvent(task, Event.vforkDone, tid);
    return tracee.stop === undefined ? tid : true;
  });
}
