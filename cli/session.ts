/** One guest from its first instruction to its end: machine, gate, files and kernel, put together. */
import { ElfError, EM_386 } from "../emulator/elf.ts";
import { UserError } from "../emulator/errors.ts";
import { HostMemory } from "../emulator/host-memory.ts";
import { Machine, type Processor } from "../emulator/machine.ts";
import { type AssembledGate, assembleGate, type GateAssembly } from "../providers/assembly.ts";
import type { HostEvents } from "../providers/host-events.ts";
import { Ledger } from "../providers/ledger.ts";
import { fullTable } from "../shims/linux/calls/all.ts";
import { HostClock, VirtualClock } from "../shims/linux/clock.ts";
import { errnoName } from "../shims/linux/errno.ts";
import { KernelWorld } from "../shims/linux/guest-world.ts";
import { findProgram } from "../shims/linux/loader/program.ts";
import type { HostNetwork } from "../shims/linux/net/host.ts";
import { startFirst } from "../shims/linux/process/exec.ts";
import { Random } from "../shims/linux/random.ts";
import { type RunEnd, type RunLimits, run } from "../shims/linux/run.ts";
import type { SignalPort } from "../shims/linux/signals/signal-port.ts";
import { Kernel } from "../shims/linux/task.ts";
import { type CallFilter, EventTracer, type TraceConsumer } from "../shims/linux/trace/trace.ts";
import { VfsError } from "../shims/linux/vfs/error.ts";
import { type Entry, KERNEL } from "../shims/linux/vfs/inode.ts";
import type { LowerOptions } from "../shims/linux/vfs/lower.ts";
import type { MemoryStreams } from "../shims/linux/vfs/memory-stream.ts";
import { type Bind, makeRoot } from "../shims/linux/vfs/root.ts";
import type { FileTable, Vfs } from "../shims/linux/vfs/vfs.ts";
import { find, type WalkContext } from "../shims/linux/vfs/walk.ts";

/** What we may take ourselves, apart from guest memory, for what guests with little memory make us keep. */
const KEPT_BYTES = 256 * 2 ** 20;
/** And for guests with much memory. */
const MOST_KEPT_BYTES = 2 * 2 ** 30;

export interface SessionOptions {
  /** Absolute path of the program: within `root` where that has such a file, else of the host. */
  readonly program: string;
  /** Where the guest finds a program of the host instead: an absolute path, the same on every machine. */
  readonly programAt?: string | undefined;
  readonly argv: readonly string[];
  /** `NAME=value` each. */
  readonly envp: readonly string[];
  readonly provider: string;
  readonly root?: string | undefined;
  readonly binds?: readonly Bind[] | undefined;
  /** Guest directory to start in. If left out the one we are in, or `/` where the guest does not have that. */
  readonly cwd?: string | undefined;
  readonly user: { readonly uid: number; readonly gid: number };
  readonly seed: number;
  readonly clock: "virtual" | "host";
  /** Where the guest's TCP and UDP go; to a loopback of the run's own if left out. */
  readonly hostNetwork?: HostNetwork | undefined;
  /** Bytes that one process may map. */
  readonly maxMemory?: number | undefined;
  /** Bytes of this machine's memory that the guest's memory may take. */
  readonly hostMemory: number;
  /** x86-64-v2 if left out. */
  readonly processor?: Processor | undefined;
  /** Segment limits and rights are checked as hardware does, which costs much. */
  readonly strictSegments?: boolean | undefined;
  /** How many records the ledger keeps. */
  readonly keptRecords: number;
  readonly signals: SignalPort;
  /** Who is told of system calls, and of which. */
  readonly trace?: { readonly consumer: TraceConsumer; readonly filter?: CallFilter } | undefined;
  /** Host descriptors that become the guest's 0, 1 and 2. */
  readonly stdio?: readonly [number, number, number] | undefined;
  /** Standard streams of our own in place of the host's. */
  readonly streams?: MemoryStreams | undefined;
  /** What stands around the provider: policy, faults, audit. */
  readonly around?: Pick<GateAssembly, "policy" | "inject" | "audit" | "asLitebox" | "symbolOf"> | undefined;
  /** What `around` knows of guest threads, where it had to be made before. */
  readonly world?: KernelWorld | undefined;
  /** What the provider's host does on its own account; nothing if left out. */
  readonly hostEvents?: HostEvents | undefined;
  /** Asked before each call, by name: what it answers without being carried out. Not asked where `around` has faults. */
  readonly answer?: ((name: string) => number | undefined) | undefined;
  /** How files of the host show, and who is told of their use. */
  readonly lower?: LowerOptions | undefined;
}

/** A guest that is ready to run. */
export class Session {
  readonly kernel: Kernel;
  /** The gate with what stands around the provider. */
  readonly assembled: AssembledGate;
  /** The program's word size; one that cannot be started is refused when it is. */
  readonly abi: "x86_64" | "i386";
  readonly #machine: Machine;
  readonly #vfs: Vfs;
  readonly #files: FileTable;
  readonly #program: string;
  readonly #cwd: Entry;
  readonly #options: SessionOptions;

  /** @throws UserError when an option or the program does not fit */
  constructor(options: SessionOptions) {
    const { user, root, binds, stdio, streams, lower } = options;
    this.#options = options;
    this.#machine = new Machine({
      maxMemory: options.hostMemory,
      strictSegments: options.strictSegments ?? false,
      ...(options.processor === undefined ? {} : { processor: options.processor }),
    });
    const machine = this.#machine;
    const clock = options.clock === "host" ? new HostClock() : new VirtualClock();
    const random = new Random(options.seed);
    const device = random.stream("device");
    const guestRoot = makeRoot(
      {
        frames: machine.physical,
        realtimeMs: () => Math.floor(clock.bootSec * 1000 + (clock.bootNsec + clock.now()) / 1e6),
        randomBytes: (into) => device.fill(into),
        maxFileBytes: options.maxMemory,
      },
      {
        program: options.program,
        user: { ...user, name: "user" },
        libraryPath: variable(options.envp, "LD_LIBRARY_PATH") ?? "",
        ...(root === undefined ? {} : { root }),
        ...(binds === undefined ? {} : { binds }),
        ...(stdio === undefined ? {} : { stdio }),
        ...(streams === undefined ? {} : { streams }),
        ...(options.programAt === undefined ? {} : { programAt: options.programAt }),
        ...(lower === undefined ? {} : { lower }),
        hostNetwork: options.hostNetwork !== undefined,
      },
    );
    this.#vfs = guestRoot.vfs;
    this.#files = guestRoot.files;
    this.#program = guestRoot.program;
    this.#cwd = options.cwd === undefined ? guestRoot.cwd : this.#directory(options.cwd);
    this.abi = this.#abi();
    const ledger = new Ledger(options.keptRecords);
    const world = options.world ?? new KernelWorld();
    this.assembled = assembleGate({
      ...options.around,
      platform: { cpu: machine.cpu, layout: "x86_64" },
      provider: options.provider,
      abi: this.abi,
      shim: "linux",
      ledger,
      world,
      now: () => clock.now(),
    });
    this.kernel = new Kernel({
      machine,
      gate: this.assembled.gate,
      hostEvents: options.hostEvents,
      injectCall: this.assembled.injector?.call ?? options.answer,
      vfs: guestRoot.vfs,
      clock,
      random,
      table: fullTable(),
      signals: options.signals,
      hostNetwork: options.hostNetwork,
      ...(options.trace === undefined ? {} : { tracer: new EventTracer({ ...options.trace, ledger }) }),
      hostMemory: new HostMemory(
        Math.min(options.hostMemory, MOST_KEPT_BYTES) + KEPT_BYTES,
        () => machine.physical.peak,
      ),
      ...(options.maxMemory === undefined ? {} : { maxMemory: options.maxMemory }),
    });
    world.kernel = this.kernel;
    guestRoot.attach(this.kernel);
  }

  /**
   * Starts the program and runs it to its end or a limit.
   * @throws UserError 126 or 127 when the program cannot be started
   */
  async run(limits: RunLimits = {}): Promise<RunEnd> {
    const { argv, envp, user } = this.#options;
    startFirst(this.kernel, {
      path: this.#program,
      argv: argv.map(asBytes),
      envp: envp.map(asBytes),
      files: this.#files,
      fs: { root: this.#vfs.root, cwd: this.#cwd, umask: 0o22 },
      uid: user.uid,
      gid: user.gid,
    });
    return run(this.kernel, limits);
  }

  /** Lets go of everything; stores into files of the host reach them, and the terminal is as before. */
  close(): void {
    this.#vfs.close();
    this.#machine.close();
  }

  #abi(): "x86_64" | "i386" {
    try {
      const { image } = findProgram(this.#walker(), this.#cwd, this.#program, []).main;
      return image.machine === EM_386 ? "i386" : "x86_64";
    } catch (error) {
      if (error instanceof VfsError || error instanceof ElfError) return "x86_64";
      throw error;
    }
  }

  /** Somebody who may look everywhere in the guest. */
  #walker(): WalkContext {
    return { root: this.#vfs.root, cwd: this.#vfs.root, creds: KERNEL };
  }

  #directory(path: string): Entry {
    const { root } = this.#vfs;
    try {
      const entry = find(this.#walker(), root, asBytes(path), true);
      if (entry.inode.isDirectory) return entry;
    } catch (error) {
      if (!(error instanceof VfsError)) throw error;
      throw new UserError(`cannot start in --cwd ${path}: ${errnoName(error.errno)} in the guest`, 125);
    }
    throw new UserError(`cannot start in --cwd ${path}: it is no directory in the guest`, 125);
  }
}

/** Text of the command line as the guest's bytes, one character each. */
function asBytes(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

/** The value of the last variable of that name. */
function variable(envp: readonly string[], name: string): string | undefined {
  return envp.findLast((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);
}
