import { Reg } from "../../../emulator/cpu.ts";
import { Machine } from "../../../emulator/machine.ts";
import { Gate } from "../../../providers/gate.ts";
import type { Policy } from "../../../providers/policy.ts";
import { createProvider } from "../../../providers/registry.ts";
import { type Abi, i386, x86_64 } from "../../../shims/linux/abi.ts";
import { fullTable } from "../../../shims/linux/calls/all.ts";
import { VirtualClock } from "../../../shims/linux/clock.ts";
import { Dispatcher } from "../../../shims/linux/dispatch.ts";
import { errnoName, isError } from "../../../shims/linux/errno.ts";
import { syscallNames } from "../../../shims/linux/kinds/names.ts";
import { Mm } from "../../../shims/linux/memory/mm.ts";
import { Credentials } from "../../../shims/linux/process/credentials.ts";
import { Limits } from "../../../shims/linux/process/limits.ts";
import { Random } from "../../../shims/linux/random.ts";
import { Signals } from "../../../shims/linux/signals/port.ts";
import { Kernel, Process, Task } from "../../../shims/linux/task.ts";
import { EventTracer } from "../../../shims/linux/trace/trace.ts";
import { TextTrace } from "../../../shims/linux/trace/trace-text.ts";
import { makeRoot } from "../../../shims/linux/vfs/root.ts";

const ARENA = 0x10_0000;
const ARENA_BYTES = 0x20_0000;

export interface CallGuestOptions {
  readonly abi?: Abi;
  readonly uid?: number;
  readonly policy?: Policy;
  readonly maxMemory?: number;
}

/** A task without a program: the test puts a call's number and arguments into its registers and lets dispatch answer. */
export class CallGuest {
  readonly machine = new Machine({ maxMemory: 2 ** 28 });
  readonly gate: Gate;
  readonly kernel: Kernel;
  readonly process: Process;
  readonly task: Task;
  readonly dispatcher: Dispatcher;
  readonly abi: Abi;
  /** The trace so far. */
  readonly lines: string[] = [];
  #next = ARENA;

  constructor({ abi = x86_64, uid = 1000, policy, maxMemory }: CallGuestOptions = {}) {
    this.abi = abi;
    const clock = new VirtualClock();
    const random = new Random(1);
    const { physical } = this.machine;
    const root = makeRoot(
      {
        frames: {
          allocate: () => physical.allocate(),
          release: (frame) => physical.release(frame),
          bytes: (frame) => physical.bytes(frame),
          beforeWrite: (frame) => physical.beforeWrite(frame),
        },
        realtimeMs: () => 0,
        randomBytes: (into) => random.stream("dev").fill(into),
      },
      { user: { uid, gid: uid, name: "user" }, stdio: [] },
    );
    const platform = { cpu: this.machine.cpu, layout: "x86_64" as const };
    const provider = createProvider("direct", platform);
    this.gate = new Gate({ platform, provider, ...(policy && { policy }) });
    const consumer = new TextTrace({ write: (line) => this.lines.push(line), tokens: true });
    this.kernel = new Kernel({
      machine: this.machine,
      gate: this.gate,
      vfs: root.vfs,
      clock,
      random,
      table: fullTable(),
      signals: new Signals({ report: (lines) => this.lines.push(...lines) }),
      tracer: new EventTracer({ consumer, ledger: this.gate.ledger }),
      ...(maxMemory !== undefined && { maxMemory }),
    });
    root.attach(this.kernel);
    const space = this.machine.newSpace(abi.userEnd);
    this.machine.activate(space);
    space.map(ARENA, ARENA_BYTES, 3);
    const mm = new Mm({
      space,
      abi,
      mmapBase: abi.userEnd - 0x1000_0000,
      startBrk: 0x800_0000,
      startStack: 0,
      argStart: 0,
      argEnd: 0,
      envStart: 0,
      envEnd: 0,
      auxv: new Uint8Array(16),
    });
    const { kernel } = this;
    const pid = kernel.newPid();
    this.process = new Process({
      kernel,
      pid,
      parent: undefined,
      mm,
      files: root.files,
      fs: { root: root.vfs.root, cwd: root.vfs.root, umask: 0o22 },
      cred: new Credentials(uid, uid),
      limits: Limits.initial(maxMemory),
    });
    this.task = new Task(this.process, pid);
    this.process.tasks.add(this.task);
    kernel.processes.set(pid, this.process);
    kernel.tasks.set(pid, this.task);
    kernel.first = this.process;
    kernel.current = this.task;
    this.dispatcher = new Dispatcher(kernel);
    this.machine.cpu.enterUser(abi === x86_64, abi === x86_64 ? 0x33 : 0x23, 0x2b);
  }

  get memory() {
    return this.task.memory;
  }

  /** Guest memory for one test: zeroes, or a copy of bytes. */
  buffer(content: number | Uint8Array): number {
    const length = typeof content === "number" ? content : content.length;
    const at = this.#next;
    this.#next += Math.ceil((length + 1) / 64) * 64;
    if (this.#next > ARENA + ARENA_BYTES) throw new RangeError("the test's guest memory is full");
    if (typeof content !== "number") this.memory.write(at, content);
    return at;
  }

  words(...values: number[]): number {
    const at = this.buffer(4 * values.length);
    for (const [index, value] of values.entries()) this.memory.setU32(at + 4 * index, value >>> 0);
    return at;
  }

  /** The number in RAX after the call; text arguments become strings in guest memory. */
  call(name: string, ...args: (number | bigint | string)[]): number {
    const number = syscallNames[this.abi.name].indexOf(name);
    if (number < 0) throw new RangeError(`there is no ${name} on ${this.abi.name}`);
    return this.trap(this.abi, number, ...args);
  }

  trap(abi: Abi, number: number, ...args: (number | bigint | string)[]): number {
    const { cpu } = this.machine;
    cpu.setReg(Reg.rax, number);
    for (const [index, register] of abi.args.entries()) {
      const given = args[index] ?? 0;
      const value = typeof given === "string" ? this.buffer(Buffer.from(`${given}\0`, "latin1")) : given;
      if (typeof value === "bigint") cpu.setRegBig(register, BigInt.asUintN(64, value));
      else cpu.setReg(register, value);
    }
    if (abi === i386) this.dispatcher.int80(this.task);
    else this.dispatcher.syscall(this.task);
    return cpu.regSigned(Reg.rax);
  }

  /** The result as strace would print it: a number or the error's name. */
  outcome(name: string, ...args: (number | bigint | string)[]): number | string {
    const result = this.call(name, ...args);
    return isError(result) ? errnoName(-result) : result;
  }

  close(): void {
    this.machine.close();
  }
}

export const guests = [
  ["x86_64", x86_64],
  ["i386", i386],
] as const;
