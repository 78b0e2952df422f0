/**
 * What runs: a `Kernel` per run, its `Process`es, and their `Task`s (threads). What Linux lets processes share (address space,
 * file table, working directory) is an object of its own here, so that every mix of clone flags is a matter of references.
 */
import { type Cpu, type CpuContext, Reg, type StopKind } from "../../emulator/cpu.ts";
import type { HostMemory } from "../../emulator/host-memory.ts";
import type { Machine } from "../../emulator/machine.ts";
import type { AddressSpace, GuestMemory } from "../../emulator/memory.ts";
import type { Gate } from "../../providers/gate.ts";
import type { HostEvents } from "../../providers/host-events.ts";
import type { Outcome, Request } from "../../providers/requests.ts";
import type { Abi } from "./abi.ts";
import type { AioTotal } from "./aio/context.ts";
import type { Clock } from "./clock.ts";
import { Ipc } from "./ipc/ipc.ts";
import { Vdso } from "./loader/vdso.ts";
import type { Mm } from "./memory/mm.ts";
import type { MemoryPolicy } from "./memory/policy.ts";
import type { NamespaceSet } from "./namespaces/set.ts";
import type { HostNetwork } from "./net/host.ts";
import { Network } from "./net/network.ts";
import type { Credentials } from "./process/credentials.ts";
import { Identities } from "./process/identities.ts";
import type { Limits } from "./process/limits.ts";
import { initialPrctl, type PrctlState } from "./process/prctl-state.ts";
import { Usage } from "./process/usage.ts";
import { UserCounts } from "./process/user-counts.ts";
import type { DebugRegisters } from "./ptrace/debug-registers.ts";
import type { Tracee } from "./ptrace/tracee.ts";
import type { Random, RandomStream } from "./random.ts";
import type { Seccomp } from "./seccomp/state.ts";
import { Settings } from "./settings.ts";
import type { SignalPort } from "./signals/signal-port.ts";
import { ProcessSignals, TaskSignals } from "./signals/state.ts";
import type { Plan, Result, SyscallTable } from "./table.ts";
import { FutexTable, type PiFutex } from "./thread/futex.ts";
import { Scheduler } from "./thread/scheduler.ts";
import type { Tracer } from "./trace/tracer.ts";
import type { UserDispatch } from "./user-dispatch.ts";
import type { FileTable, FsContext, Vfs } from "./vfs/vfs.ts";
import { type Wait, WaitQueue } from "./wait.ts";

export interface KernelOptions {
  readonly machine: Machine;
  readonly gate: Gate;
  readonly vfs: Vfs;
  readonly clock: Clock;
  readonly random: Random;
  readonly table: SyscallTable;
  readonly signals: SignalPort;
  readonly tracer?: Tracer;
  /** What the provider's host does on its own account; nothing when omitted. */
  readonly hostEvents?: HostEvents | undefined;
  /** What a call by this name is to answer without being carried out, undefined for most: a fault injector's. */
  readonly injectCall?: ((name: string) => number | undefined) | undefined;
  readonly hostname?: string;
  /** The host's network, for TCP and UDP; a loopback of the run's own when omitted. */
  readonly hostNetwork?: HostNetwork | undefined;
  /** How much this process itself may take for what it keeps for its guests; without end when omitted. */
  readonly hostMemory?: Pick<HostMemory, "look"> | undefined;
  /** Bytes of guest memory one process may map (RLIMIT_AS of the first process); unlimited when omitted. */
  readonly maxMemory?: number;
}

/** So many IPC namespaces are worth a look at which of them are in use. */
const MANY_IPCS = 64;
/** PID_MAX_DEFAULT. */
export const PID_MAX = 32768;
/** Where ids go on after the highest one (RESERVED_PIDS). */
const FIRST_PID_AGAIN = 300;
/** A process of its own takes some hundred KiB, as Linux' own rule for a machine of 1 GiB has it. */
const MAX_TASKS = 8192;
const BYTES_PER_TASK = 2 ** 18;
const FEWEST_TASKS = 64;
/** Open files may take a tenth of memory, 1 KiB each (files_maxfiles_init). */
const BYTES_PER_FILE = 10 * 2 ** 10;
const MEMORY_BYTES = 8 * 2 ** 30;

/** All that the processes of one run share. Two runs side by side have two kernels. */
export class Kernel {
  readonly machine: Machine;
  readonly gate: Gate;
  readonly vfs: Vfs;
  readonly clock: Clock;
  readonly random: Random;
  /** Bytes of getrandom and /dev/urandom. */
  readonly entropy: RandomStream;
  /** Addresses and AT_RANDOM of new programs. */
  readonly layoutRandom: RandomStream;
  readonly table: SyscallTable;
  readonly signals: SignalPort;
  readonly tracer: Tracer | undefined;
  readonly hostEvents: HostEvents | undefined;
  readonly injectCall: ((name: string) => number | undefined) | undefined;
  readonly scheduler: Scheduler;
  readonly futexes: FutexTable;
  readonly identities = new Identities();
  readonly vdso: Vdso;
  readonly net: Network;
  /** What the first process is in, of a user namespace without a name. */
  readonly namespaces: NamespaceSet;
  #ipcs: readonly Ipc[] = [];
  readonly settings = new Settings();
  /** Asynchronous I/O of all processes. */
  readonly aioTotal: AioTotal = { requests: 0 };
  readonly inotify = { instances: new UserCounts(), watches: new UserCounts() };
  readonly maxMemory: number | undefined;
  readonly hostMemory: Pick<HostMemory, "look"> | undefined;
  /** Most threads of all processes at once (kernel.threads-max). */
  readonly maxTasks: number;
  readonly processes = new Map<number, Process>();
  readonly tasks = new Map<number, Task>();
  /** Calls without a row: how often each was answered ENOSYS, for the summary at the end. */
  readonly unsupported = new Map<string, number>();
  /** Programs that were not executed, as the provider does not serve their word size: how often each. */
  readonly notServed = new Map<string, number>();
  /** The process whose end is the run's. */
  first: Process | undefined;
  /** The task whose registers are in the CPU and whose address space is active. */
  current: Task | undefined;
  #lastPid = 0;
  #pidsWrapped = false;
  #lastSharedId = 0;

  constructor(options: KernelOptions) {
    this.machine = options.machine;
    this.gate = options.gate;
    this.vfs = options.vfs;
    this.clock = options.clock;
    this.random = options.random;
    this.entropy = options.random.stream("entropy");
    this.layoutRandom = options.random.stream("layout");
    this.table = options.table;
    this.signals = options.signals;
    this.tracer = options.tracer;
    this.hostEvents = options.hostEvents;
    this.injectCall = options.injectCall;
    this.scheduler = new Scheduler(options.random.stream("schedule"));
    this.futexes = new FutexTable();
    this.vdso = new Vdso(options.machine.physical);
    this.net = new Network(this, options.hostNetwork);
    const uts = { hostname: options.hostname ?? "shimbed", domainname: "(none)", owner: undefined };
    this.namespaces = { uts, ipc: { ipc: this.newIpc(), owner: undefined }, cgroup: { owner: undefined } };
    this.maxMemory = options.maxMemory;
    this.hostMemory = options.hostMemory;
    const { maxMemory = Number.POSITIVE_INFINITY } = options;
    this.maxTasks = Math.min(MAX_TASKS, Math.max(FEWEST_TASKS, Math.floor(maxMemory / BYTES_PER_TASK)));
    this.settings.set("fs.file-max", Math.floor(this.memoryBytes / BYTES_PER_FILE));
    this.#lastPid = 1000 + options.random.stream("pid").below(8000);
  }

  /** Memory the guests believe in, as sysinfo and /proc/meminfo tell it. */
  get memoryBytes(): number {
    return Math.min(MEMORY_BYTES, this.maxMemory ?? MEMORY_BYTES);
  }

  /** What the task in the CPU shares by key or name. */
  get ipc(): Ipc {
    return (this.current?.namespaces ?? this.namespaces).ipc.ipc;
  }

  newIpc(): Ipc {
    const ipc = new Ipc(this);
    if (this.#ipcs.length > MANY_IPCS) this.#forgetIpcs();
    this.#ipcs = [...this.#ipcs, ipc];
    return ipc;
  }

  /** Somebody has joined its namespace by a descriptor that outlived it. */
  rejoinIpc(ipc: Ipc): void {
    if (!this.#ipcs.includes(ipc)) this.#ipcs = [...this.#ipcs, ipc];
  }

  /** A process has ended and its descriptors and memory are gone. */
  leaveIpc(process: Process): void {
    for (const ipc of this.#ipcs) ipc.ended(process);
    if (this.#ipcs.length > 1) this.#forgetIpcs();
  }

  /** Those of namespaces that nobody is in any more go with all that they have. */
  #forgetIpcs(): void {
    const used = new Set<Ipc>([this.namespaces.ipc.ipc]);
    for (const { namespaces } of this.tasks.values()) used.add(namespaces.ipc.ipc);
    for (const ipc of this.#ipcs) if (!used.has(ipc)) ipc.close();
    this.#ipcs = this.#ipcs.filter((ipc) => used.has(ipc));
  }

  /** Inode number of another piece of anonymous shared memory. */
  newSharedId(): number {
    return ++this.#lastSharedId;
  }

  /** The next free process or thread id; they rise and wrap at 32768 as Linux's do. */
  newPid(): number {
    do {
      if (this.#lastPid >= PID_MAX - 1) {
        this.#lastPid = FIRST_PID_AGAIN - 1;
        this.#pidsWrapped = true;
      }
      this.#lastPid++;
    } while (this.isPidTaken(this.#lastPid));
    return this.#lastPid;
  }

  /** True while a thread, a process, a group or a session has this number. */
  isPidTaken(pid: number): boolean {
    if (this.tasks.has(pid) || this.processes.has(pid)) return true;
    if (!this.#pidsWrapped && pid > this.#lastPid) return false;
    for (const { pgid, sid } of this.processes.values()) if (pgid === pid || sid === pid) return true;
    return false;
  }
}

/** How a process ended: by `exit` with a status, or killed by a signal. */
export type ExitStatus =
  | { readonly kind: "exited"; readonly code: number }
  | {
      readonly kind: "killed";
      readonly signal: number;
      /** Linux would have written a core file, and wait4 says so (WCOREDUMP). */
      readonly core?: boolean;
    };

export interface ProcessOptions {
  readonly kernel: Kernel;
  readonly pid: number;
  readonly parent: Process | undefined;
  readonly mm: Mm;
  readonly files: FileTable;
  readonly fs: FsContext;
  readonly cred: Credentials;
  readonly limits: Limits;
}

/** A thread group: what its threads have in common, and its place among parents, groups and sessions. */
export class Process {
  readonly kernel: Kernel;
  readonly pid: number;
  parent: Process | undefined;
  /** The parent's thread that made it, or one that took its place: its end is what PR_SET_PDEATHSIG is about. */
  creator: Task | undefined;
  readonly children = new Set<Process>();
  pgid: number;
  sid: number;
  mm: Mm;
  /** What all its threads use but those that were made without CLONE_FILES and CLONE_FS. */
  commonFiles: FileTable;
  commonFs: FsContext;
  /** Of its first thread; every other one has its own, which libc keeps alike. */
  commonCred: Credentials;
  limits: Limits;
  /** Absolute guest path of the program. */
  exe = "";
  personality = 0;
  dumpable = true;
  noNewPrivs = false;
  /** /proc/pid/oom_score_adj, and the lowest value that it may get without being root. */
  oomScoreAdj = 0;
  oomScoreAdjMin = 0;
  /** What of its memory a core would have. */
  coredumpFilter = 0x33;
  /** MEMBARRIER_CMD_REGISTER_* it has given. */
  membarriers = 0;
  prctl: PrctlState = initialPrctl();
  readonly tasks = new Set<Task>();
  /** Its first thread where that is traced, also when it has ended and the tracer has not been told. */
  tracedLeader: Tracee | undefined;
  readonly signals = new ProcessSignals();
  /** How it ends or ended; set before `ended` while its tasks are being taken down. */
  status: ExitStatus | undefined;
  /** A zombie, or gone. */
  ended = false;
  /** Woken when a child changes state. */
  readonly childEvents = new WaitQueue();
  /** Woken when it has ended: for pidfds. */
  readonly endEvents = new WaitQueue();
  /** It has executed a program since it was forked: setpgid by the parent is over. */
  execed = false;
  /** How often the program asked what time it is. */
  clockReads = 0;
  /** Monotonic time of its start, ns. */
  readonly startTime: number;
  /** Of its dead threads, and of children waited for. */
  readonly usage = new Usage();
  readonly childrenUsage = new Usage();

  constructor(options: ProcessOptions) {
    this.kernel = options.kernel;
    this.pid = options.pid;
    this.parent = options.parent;
    this.pgid = options.parent?.pgid ?? options.pid;
    this.sid = options.parent?.sid ?? options.pid;
    this.mm = options.mm;
    this.commonFiles = options.files;
    this.commonFs = options.fs;
    this.commonCred = options.cred;
    this.limits = options.limits;
    this.startTime = options.kernel.clock.now();
  }

  /** The file table of its thread in the CPU, else the common one. */
  get files(): FileTable {
    const { current } = this.kernel;
    return current?.process === this && current.ownFiles !== undefined ? current.ownFiles : this.commonFiles;
  }

  /** The root, working directory and umask of its thread in the CPU, else the common ones. */
  get fs(): FsContext {
    const { current } = this.kernel;
    return current?.process === this && current.ownFs !== undefined ? current.ownFs : this.commonFs;
  }

  /** Who its thread in the CPU is, else its first one. */
  get cred(): Credentials {
    const { current } = this.kernel;
    return current?.process === this ? current.cred : this.commonCred;
  }

  /** CPU time used by all its threads, ns. */
  get usedCpu(): number {
    let total = this.usage.cpu;
    for (const task of this.tasks) total += task.usedCpu;
    return total;
  }

  /** What all its threads have used. */
  get used(): Usage {
    const total = new Usage();
    total.add(this.usage);
    for (const task of this.tasks) total.add(task.used);
    return total;
  }

  get ppid(): number {
    return this.parent?.pid ?? 1;
  }

  get space(): AddressSpace {
    return this.mm.space;
  }

  /** The program's own ABI; a single call's is `task.abi`. */
  get abi(): Abi {
    return this.mm.abi;
  }
}

export interface Rseq {
  readonly address: number;
  readonly length: number;
  readonly signature: number;
}

/** A thread, and the first argument of every handler: its registers are in the CPU while its call is answered. */
export class Task {
  readonly kernel: Kernel;
  readonly process: Process;
  /** Changes once, when a thread that is not the leader calls execve. */
  tid: number;
  /** ABI of the system call in progress, or of the last one. */
  abi: Abi;
  /** Number of the system call in progress, or of the last one; -1 before the first. */
  callNumber = -1;
  /** The row of that call, undefined where there is none. */
  plan: Plan | undefined;
  /** Somebody watches its system calls: bits of ptrace/numbers.ts, 0 for nobody. */
  work = 0;
  /** How the guest came in last; a restart needs to know the length of the instruction. */
  trap: StopKind | undefined;
  /** Sentence of the last failure, for the trace. */
  reason: string | undefined;
  /** PR_SET_NAME, at most 15 bytes. */
  comm = "";
  /** Registers while another task is in the CPU. */
  context: CpuContext | undefined;
  /** What it waits for, undefined while it can run. */
  wait: Wait | undefined;
  /** In the scheduler's queue of those that can run. */
  queued = false;
  dead = false;
  /** sched_yield: its turn is over. */
  yields = false;
  /** set_tid_address: zeroed and woken at exit. 0 for none. */
  clearChildTid = 0;
  /** Heads of the robust futex lists, as the 64-bit and the 32-bit call set them. */
  robustList = 0;
  compatRobustList = 0;
  rseq: Rseq | undefined;
  /** set_mempolicy; undefined for the default. */
  memoryPolicy: MemoryPolicy | undefined;
  /** Another thread has changed the LDT since it was in its code. */
  ldtChanged = false;
  /** Which of its calls become signals; undefined for none. */
  userDispatch: UserDispatch | undefined;
  /** Its turn was ended for others since it was last in its code: what rseq wants to know. */
  preempted = false;
  pdeathsig = 0;
  /** Made without CLONE_FILES, CLONE_FS: a file table and paths of its own beside those of its process. */
  ownFiles: FileTable | undefined;
  ownFs: FsContext | undefined;
  /** Undefined for the first thread of a process. */
  ownCred: Credentials | undefined;
  namespaces: NamespaceSet;
  /** Woken when it is done with its parent's memory (CLONE_VFORK); undefined where nobody waits for that. */
  vforked: WaitQueue | undefined;
  /** Woken when it has ended, for pidfds of threads; undefined where there are none. */
  endEvents: WaitQueue | undefined;
  /** Priority-inheriting futexes it owns and others wait for, and the one it waits for. */
  readonly ownedPi = new Set<PiFutex>();
  blockedOnPi: PiFutex | undefined;
  /** SCHED_* and the priority that belongs to it, as sched_setscheduler set them. */
  policy = 0;
  priority = 0;
  nice = 0;
  /** As ioprio_set keeps it. */
  ioprio = 0;
  /** SCHED_RESET_ON_FORK: what it makes has the default policy and no better nice value. */
  resetOnFork = false;
  /** SCHED_DEADLINE's parameters, ns; all 0 with other policies. */
  deadline = { runtime: 0, deadline: 0, period: 0 };
  readonly signals = new TaskSignals();
  /** Of turns that are over, and when the one in progress began. */
  readonly usage = new Usage();
  startedTurn = 0;
  /** Which calls it may make; undefined for all. */
  seccomp: Seccomp | undefined;
  /** What it is to the one who traces it; undefined for an untraced one. */
  tracee: Tracee | undefined;
  /** Its debug registers; undefined where nobody has touched them. They stay when its tracer goes. */
  debug: DebugRegisters | undefined;
  /** Whom it traces. */
  tracees: Set<Tracee> | undefined;
  /** What restart_syscall goes on with. */
  restart: (() => Result) | undefined;

  constructor(process: Process, tid: number) {
    this.kernel = process.kernel;
    this.process = process;
    this.tid = tid;
    this.namespaces = process.kernel.namespaces;
    this.abi = process.abi;
  }

  /** CPU time used, ns: virtual time that passed while it was in the CPU. */
  get usedCpu(): number {
    const { kernel } = this;
    // One that waits is still in the CPU when nobody else can run.
    return kernel.current === this && this.wait === undefined
      ? this.usage.cpu + kernel.clock.now() - this.startedTurn
      : this.usage.cpu;
  }

  /** What it has used, the turn in progress included. */
  get used(): Usage {
    const total = new Usage();
    total.add(this.usage);
    total.cpu = this.usedCpu;
    if (!this.dead) total.maxResident = Math.max(total.maxResident, this.process.space.residentBytes);
    return total;
  }

  /** Who it is: credentials are a thread's own (credentials(7)). */
  get cred(): Credentials {
    return this.ownCred ?? this.process.commonCred;
  }

  get memory(): GuestMemory {
    return this.process.mm.space.memory;
  }

  /** The CPU with this task's registers, while the task is the current one. */
  get cpu(): Cpu {
    return this.kernel.machine.cpu;
  }

  /** Ends a handler with an error: keeps the sentence for the trace and gives the result, -errno. */
  fail(errno: number, why?: string): number {
    this.reason = why;
    return -errno;
  }

  /** Name of the call in progress; empty where it has no row. */
  get callName(): string {
    return this.plan?.row.name ?? "";
  }

  /** Asks the gate on behalf of the call in progress, or of what `call` names. */
  punch(request: Request, call: string = this.callName): Outcome {
    return this.kernel.gate.punchThrough(request, { thread: this.tid, pc: this.cpu.regBig(Reg.rip), call });
  }
}
