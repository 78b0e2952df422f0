/**
 * What runs: a `Kernel` per run, its `Process`es, and their `Task`s (threads). What Linux lets processes share (address space,
 * file table, working directory) is an object of its own here, so that every mix of clone flags is a matter of references.
 */
import { type Cpu, type CpuContext, Reg, type StopKind } from "../../emulator/cpu.ts";
import type { Machine } from "../../emulator/machine.ts";
import type { AddressSpace, Backing, GuestMemory } from "../../emulator/memory.ts";
import type { Gate } from "../../providers/gate.ts";
import type { HostEvents } from "../../providers/host-events.ts";
import type { Outcome, Request } from "../../providers/requests.ts";
import type { Abi } from "./abi.ts";
import type { Clock } from "./clock.ts";
import type { Credentials } from "./credentials.ts";
import { FutexTable } from "./futex.ts";
import type { Limits } from "./limits.ts";
import { initialPrctl, type PrctlState } from "./prctl-state.ts";
import type { Random, RandomStream } from "./random.ts";
import { ReadOnlyFile } from "./read-only-file.ts";
import { Scheduler } from "./scheduler.ts";
import type { SignalPort } from "./signal-port.ts";
import { ProcessSignals, TaskSignals } from "./signals/state.ts";
import type { Plan, Result, SyscallTable } from "./table.ts";
import type { Tracer } from "./tracer.ts";
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
  readonly hostname?: string;
  /** Bytes of guest memory one process may map (RLIMIT_AS of the first process); unlimited when omitted. */
  readonly maxMemory?: number;
}

/** Names `uname` answers; sethostname and setdomainname change them. */
export interface UtsNames {
  hostname: string;
  domainname: string;
}

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
  readonly scheduler: Scheduler;
  readonly futexes: FutexTable;
  readonly uts: UtsNames;
  readonly maxMemory: number | undefined;
  readonly processes = new Map<number, Process>();
  readonly tasks = new Map<number, Task>();
  /** Calls without a row: how often each was answered ENOSYS, for the summary at the end. */
  readonly unsupported = new Map<string, number>();
  /** The process whose end is the run's. */
  first: Process | undefined;
  /** The task whose registers are in the CPU and whose address space is active. */
  current: Task | undefined;
  #lastPid = 0;
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
    this.scheduler = new Scheduler(options.random.stream("schedule"));
    this.futexes = new FutexTable();
    this.uts = { hostname: options.hostname ?? "shimbed", domainname: "(none)" };
    this.maxMemory = options.maxMemory;
    this.#lastPid = 1000 + options.random.stream("pid").below(8000);
  }

  /** Inode number of another piece of anonymous shared memory. */
  newSharedId(): number {
    return ++this.#lastSharedId;
  }

  /** The next free process or thread id; they rise and wrap at 32768 as Linux's do. */
  newPid(): number {
    do {
      this.#lastPid = this.#lastPid >= 32767 ? 300 : this.#lastPid + 1;
    } while (this.tasks.has(this.#lastPid) || this.processes.has(this.#lastPid));
    return this.#lastPid;
  }
}

/** An address space with what the kernel remembers of it (Linux's mm_struct). Shared by CLONE_VM. */
export class Mm {
  readonly space: AddressSpace;
  /** ABI of the program that was executed into it. */
  readonly abi: Abi;
  /** mmap searches down from here. */
  readonly mmapBase: number;
  readonly startBrk: number;
  brk: number;
  /** Where the program, its arguments and its environment lie, for /proc. */
  readonly startStack: number;
  readonly argStart: number;
  readonly argEnd: number;
  readonly envStart: number;
  readonly envEnd: number;
  readonly auxv: Uint8Array;
  /** Address of `int $0x80; ret` for sysenter's return; 0 when there is no vDSO. */
  vdsoLanding = 0;
  /** Where i386 handlers without SA_RESTORER return to: the vDSO's __kernel_sigreturn and __kernel_rt_sigreturn, or 0. */
  vdsoSigreturn = 0;
  vdsoRtSigreturn = 0;
  /** What the heap's mappings are known by. */
  readonly heap: Backing = { name: "[heap]", dev: 0, ino: 0 };
  /** Processes that share it. */
  users = 1;
  readonly #readOnly = new WeakMap<Backing, ReadOnlyFile>();
  /** Some mapping may be one that mprotect must not make writable. */
  hasReadOnly = false;

  constructor(o: {
    space: AddressSpace;
    abi: Abi;
    mmapBase: number;
    startBrk: number;
    brk?: number;
    startStack: number;
    argStart: number;
    argEnd: number;
    envStart: number;
    envEnd: number;
    auxv: Uint8Array;
  }) {
    this.space = o.space;
    this.abi = o.abi;
    this.mmapBase = o.mmapBase;
    this.startBrk = o.startBrk;
    this.brk = o.brk ?? o.startBrk;
    this.startStack = o.startStack;
    this.argStart = o.argStart;
    this.argEnd = o.argEnd;
    this.envStart = o.envStart;
    this.envEnd = o.envEnd;
    this.auxv = o.auxv;
  }

  /** A file as a shared mapping shows it that mprotect must not make writable. */
  readOnly(backing: Backing): ReadOnlyFile {
    this.hasReadOnly = true;
    let file = this.#readOnly.get(backing);
    if (file === undefined) {
      file = new ReadOnlyFile(backing);
      this.#readOnly.set(backing, file);
    }
    return file;
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

export class Process {
  readonly kernel: Kernel;
  readonly pid: number;
  parent: Process | undefined;
  readonly children = new Set<Process>();
  pgid: number;
  sid: number;
  mm: Mm;
  files: FileTable;
  fs: FsContext;
  cred: Credentials;
  limits: Limits;
  /** Absolute guest path of the program. */
  exe = "";
  personality = 0;
  dumpable = true;
  noNewPrivs = false;
  /** MEMBARRIER_CMD_REGISTER_* it has given. */
  membarriers = 0;
  nice = 0;
  readonly prctl: PrctlState = initialPrctl();
  readonly tasks = new Set<Task>();
  readonly signals = new ProcessSignals();
  /** How it ends or ended; set before `ended` while its tasks are being taken down. */
  status: ExitStatus | undefined;
  /** A zombie, or gone. */
  ended = false;
  /** Woken when a child changes state. */
  readonly childEvents = new WaitQueue();
  /** Woken when it executes another program: its vfork parent goes on. */
  readonly execEvents = new WaitQueue();
  /** It has executed a program since it was forked: setpgid by the parent is over. */
  execed = false;
  /** Monotonic time of its start, ns. */
  readonly startTime: number;
  /** CPU time used by its dead threads and by children waited for, ns. */
  cpuTime = 0;
  childrenCpuTime = 0;

  constructor(options: ProcessOptions) {
    this.kernel = options.kernel;
    this.pid = options.pid;
    this.parent = options.parent;
    this.pgid = options.parent?.pgid ?? options.pid;
    this.sid = options.parent?.sid ?? options.pid;
    this.mm = options.mm;
    this.files = options.files;
    this.fs = options.fs;
    this.cred = options.cred;
    this.limits = options.limits;
    this.startTime = options.kernel.clock.now();
  }

  /** CPU time used by all its threads, ns. */
  get usedCpu(): number {
    let total = this.cpuTime;
    for (const task of this.tasks) total += task.usedCpu;
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
  pdeathsig = 0;
  /** SCHED_* and the priority that belongs to it, as sched_setscheduler set them. */
  policy = 0;
  priority = 0;
  readonly signals = new TaskSignals();
  /** CPU time used in turns that are over, ns, and when the one in progress began. */
  cpuTime = 0;
  startedTurn = 0;
  /** What restart_syscall goes on with. */
  restart: (() => Result) | undefined;

  constructor(process: Process, tid: number) {
    this.kernel = process.kernel;
    this.process = process;
    this.tid = tid;
    this.abi = process.abi;
  }

  /** CPU time used, ns: virtual time that passed while it was in the CPU. */
  get usedCpu(): number {
    const { kernel } = this;
    return kernel.current === this ? this.cpuTime + kernel.clock.now() - this.startedTurn : this.cpuTime;
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

  /** Asks the gate on behalf of the call in progress, or of what `call` names. */
  punch(request: Request, call: string = this.plan?.row.name ?? ""): Outcome {
    return this.kernel.gate.punchThrough(request, { thread: this.tid, pc: this.cpu.regBig(Reg.rip), call });
  }
}
