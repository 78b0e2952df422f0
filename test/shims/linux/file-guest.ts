import { MemoryFault } from "../../../emulator/errors.ts";
import { Machine } from "../../../emulator/machine.ts";
import { Gate } from "../../../providers/gate.ts";
import { createProvider } from "../../../providers/registry.ts";
import { type Abi, i386, x86_64 } from "../../../shims/linux/abi.ts";
import { attributeCalls } from "../../../shims/linux/calls/attributes.ts";
import { directoryCalls } from "../../../shims/linux/calls/directory.ts";
import { extendedAttributeCalls } from "../../../shims/linux/calls/extended-attributes.ts";
import { fcntlCalls } from "../../../shims/linux/calls/fcntl.ts";
import { fdCalls } from "../../../shims/linux/calls/fd.ts";
import { fileCalls } from "../../../shims/linux/calls/file.ts";
import { ioctlCalls } from "../../../shims/linux/calls/ioctl.ts";
import { mountCalls } from "../../../shims/linux/calls/mount.ts";
import { openCalls } from "../../../shims/linux/calls/open.ts";
import { pathCalls } from "../../../shims/linux/calls/path.ts";
import { pollCalls } from "../../../shims/linux/calls/poll.ts";
import { statCalls } from "../../../shims/linux/calls/stat.ts";
import { transferCalls } from "../../../shims/linux/calls/transfer.ts";
import { VirtualClock } from "../../../shims/linux/clock.ts";
import { Errno } from "../../../shims/linux/errno.ts";
import { Mm } from "../../../shims/linux/memory/mm.ts";
import { Credentials } from "../../../shims/linux/process/credentials.ts";
import { Limits } from "../../../shims/linux/process/limits.ts";
import { Random } from "../../../shims/linux/random.ts";
import { KernelSignals } from "../../../shims/linux/signals/kernel.ts";
import type { SignalPort } from "../../../shims/linux/signals/signal-port.ts";
import { type Result, type Row, SyscallTable } from "../../../shims/linux/table.ts";
import { Kernel, Process, Task } from "../../../shims/linux/task.ts";
import { VfsError } from "../../../shims/linux/vfs/error.ts";
import { makeRoot, type RootOptions } from "../../../shims/linux/vfs/root.ts";
import type { Vfs } from "../../../shims/linux/vfs/vfs.ts";
import { Wait } from "../../../shims/linux/wait.ts";
import { fakePlatform } from "../../providers/fake-cpu.ts";

const ROWS: readonly Row[] = [
  ...openCalls,
  ...fileCalls,
  ...fcntlCalls,
  ...fdCalls,
  ...mountCalls,
  ...pathCalls,
  ...statCalls,
  ...attributeCalls,
  ...extendedAttributeCalls,
  ...directoryCalls,
  ...pollCalls,
  ...ioctlCalls,
  ...transferCalls,
];

const ARENA = 0x10_0000;
const ARENA_SIZE = 0x40_0000;

export type Argument = number | string | Uint8Array;

/** A process without code whose system calls the test makes by name; strings and bytes become guest buffers. */
export class FileGuest {
  readonly machine = new Machine({ maxMemory: 2 ** 28 });
  readonly vfs: Vfs;
  readonly kernel: Kernel;
  readonly process: Process;
  readonly task: Task;
  readonly abi: Abi;
  readonly program: string;
  /** Signals the calls sent. */
  readonly signals: number[] = [];
  #next = ARENA;

  constructor(options: Partial<RootOptions> & { uid?: number; abi?: Abi } = {}) {
    const { uid = 1000, abi = x86_64 } = options;
    this.abi = abi;
    const clock = new VirtualClock();
    const random = new Random(1);
    const entropy = random.stream("dev");
    const root = makeRoot(
      {
        frames: {
          allocate: () => this.machine.physical.allocate(),
          release: (frame) => this.machine.physical.release(frame),
          bytes: (frame) => this.machine.physical.bytes(frame),
          beforeWrite: (frame) => this.machine.physical.beforeWrite(frame),
        },
        realtimeMs: () => Math.floor(clock.bootSec * 1000 + clock.now() / 1e6),
        randomBytes: (into) => entropy.fill(into),
      },
      { user: { uid, gid: uid, name: "user" }, ...options },
    );
    this.vfs = root.vfs;
    this.program = root.program;
    const signals: SignalPort = {
      state: new KernelSignals(),
      raiseFault: () => {},
      send: (_, signal) => this.signals.push(signal),
      interrupts: () => false,
      deliver: () => {},
      childEnded: () => {},
      execed: () => {},
      killForMemory: () => {},
      nextTimer: () => Number.POSITIVE_INFINITY,
      runTimers: () => {},
    };
    const platform = fakePlatform();
    const gate = new Gate({ platform, provider: createProvider("direct", platform) });
    const table = new SyscallTable(ROWS, [x86_64, i386]);
    this.kernel = new Kernel({ machine: this.machine, gate, vfs: this.vfs, clock, random, table, signals });
    root.attach(this.kernel);
    const space = this.machine.newSpace(abi.userEnd);
    space.map(ARENA, ARENA_SIZE, 3);
    const mm = new Mm({
      space,
      abi,
      mmapBase: 0x7000_0000,
      startBrk: 0,
      startStack: 0,
      argStart: 0,
      argEnd: 0,
      envStart: 0,
      envEnd: 0,
      auxv: new Uint8Array(16),
    });
    const fs = { root: this.vfs.root, cwd: this.vfs.root, umask: 0o22 };
    const { kernel } = this;
    const cred = new Credentials(uid, uid);
    const pid = kernel.newPid();
    const files = root.files;
    this.process = new Process({ kernel, pid, parent: undefined, mm, files, fs, cred, limits: Limits.initial() });
    this.task = new Task(this.process, pid);
    this.process.tasks.add(this.task);
    kernel.processes.set(pid, this.process);
    kernel.tasks.set(pid, this.task);
    kernel.current = this.task;
  }

  /** A guest buffer that stays until the next call of `reset`. */
  buffer(content: number | Uint8Array): number {
    const length = typeof content === "number" ? content : content.length;
    const at = this.#next;
    if (at + length > ARENA + ARENA_SIZE) throw new RangeError("the test's guest memory is full");
    this.#next += Math.ceil((length + 1) / 16) * 16;
    if (typeof content !== "number") this.task.memory.write(at, content);
    return at;
  }

  reset(): void {
    this.#next = ARENA;
  }

  /** What the handler answers: a number, or a Wait that has not been attempted again. */
  call(name: string, ...args: Argument[]): Result {
    const found = ROWS.find((row) => row.name === name && row.numbers[this.abi.name] !== undefined);
    if (!found) throw new RangeError(`no call ${name} on ${this.abi.name}`);
    const numbers = args.map((argument) => {
      if (typeof argument === "number") return argument;
      return this.buffer(typeof argument === "string" ? Buffer.from(`${argument}\0`, "latin1") : argument);
    });
    const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = numbers;
    this.task.abi = this.abi;
    try {
      return found.handler(this.task, a, b, c, d, e, f);
    } catch (error) {
      if (error instanceof VfsError) return -error.errno;
      if (error instanceof MemoryFault) return -Errno.EFAULT;
      throw error;
    }
  }

  /** As `call`, for calls that do not have to wait: errors come as their names. */
  sys(name: string, ...args: Argument[]): number | string {
    const result = this.call(name, ...args);
    if (result instanceof Wait) return "waits";
    if (typeof result !== "number") throw new TypeError(`${name} settled`);
    return result < 0 ? errnoName(-result) : result;
  }

  /** A call that must succeed. */
  ok(name: string, ...args: Argument[]): number {
    const result = this.sys(name, ...args);
    if (typeof result !== "number") throw new Error(`${name}(${args.join(", ")}) answered ${result}`);
    return result;
  }

  bytes(address: number, length: number): Uint8Array {
    return this.task.memory.bytes(address, length);
  }

  text(address: number, length: number): string {
    return Buffer.from(this.bytes(address, length)).toString("latin1");
  }

  readFile(path: string): string {
    const fd = this.ok("open", path, 0, 0);
    let text = "";
    const buffer = this.buffer(4096);
    for (let got = this.ok("read", fd, buffer, 4096); got > 0; got = this.ok("read", fd, buffer, 4096)) {
      text += this.text(buffer, got);
    }
    this.ok("close", fd);
    return text;
  }

  writeFile(path: string, text: string, mode = 0o644): void {
    const fd = this.ok("open", path, 0o1101, mode);
    this.ok("write", fd, Buffer.from(text, "latin1"), text.length);
    this.ok("close", fd);
  }

  readLink(path: string): string {
    const buffer = this.buffer(4096);
    return this.text(buffer, this.ok("readlink", path, buffer, 4096));
  }

  names(path: string): string[] {
    const fd = this.ok("open", path, 0o200000, 0);
    const names: string[] = [];
    const buffer = this.buffer(32768);
    for (let got = this.ok("getdents64", fd, buffer, 32768); got > 0; got = this.ok("getdents64", fd, buffer, 32768)) {
      const view = Buffer.from(this.bytes(buffer, got));
      for (let at = 0; at < got; at += view.readUInt16LE(at + 16)) {
        names.push(view.toString("latin1", at + 19, view.indexOf(0, at + 19)));
      }
    }
    this.ok("close", fd);
    return names.filter((name) => name !== "." && name !== "..").sort();
  }

  close(): void {
    this.process.files.release();
    this.vfs.close();
    this.machine.close();
  }
}

function errnoName(errno: number): string {
  return Object.entries(Errno).find(([, value]) => value === errno)?.[0] ?? String(errno);
}
