/** A guest that was run to a point once and goes on from there for each case: a machine restored instead of a fresh one. */
import { Reg } from "../../emulator/cpu.ts";
import { UserError } from "../../emulator/errors.ts";
import type { Snapshot } from "../../emulator/machine.ts";
import type { LedgerRecord } from "../../providers/ledger.ts";
import { type RunEnd, run } from "../../shims/linux/run.ts";
import { Signals } from "../../shims/linux/signals/port.ts";
import type { Task } from "../../shims/linux/task.ts";
import type { TraceEvent } from "../../shims/linux/trace/trace.ts";
import { FaultReports } from "../fault-reports.ts";
import { FEW_RECORDS } from "../kept-records.ts";
import { Session } from "../session.ts";
import { Collector } from "./collector.ts";
import { HOST_MEMORY, type RunSpec, TIMEOUT_SECONDS, testError, USER } from "./execute.ts";
import { Observed, type ObservedEnd } from "./observed.ts";

/** How one case is unlike the others when it goes on. */
export interface CaseInput {
  /** Values of registers, by their 64-bit names also in 32-bit guests. */
  readonly registers?: Readonly<Partial<Record<keyof typeof Reg, number | bigint>>>;
  /** Bytes by address. */
  readonly memory?: readonly (readonly [address: number, bytes: Uint8Array])[];
}

/**
 * What a case may call. The machine goes back to where it was, the kernel beside it does not, so that nothing may change what is
 * in the kernel alone: files, processes, mappings, signals.
 */
const ALLOWED: ReadonlySet<string> = new Set([
  "arch_prctl",
  "set_thread_area",
  "get_thread_area",
  "write",
  "exit",
  "exit_group",
]);

/** Thrown through the run loop, to leave it. Made of `UserError`, which handlers let pass. */
class Stopped extends UserError {
  /** Undefined at the point where cases begin. */
  readonly code: number | undefined;

  constructor(code?: number) {
    super("the run is stopped", 125);
    this.code = code;
  }
}

interface Ready {
  readonly session: Session;
  readonly task: Task;
  readonly snapshot: Snapshot;
}

export class Prepared {
  readonly #spec: RunSpec;
  readonly #point: string;
  readonly #reports = new FaultReports();
  #collector = new Collector();
  #output: Record<1 | 2, Buffer[]> = { 1: [], 2: [] };
  #records: LedgerRecord[] = [];
  #ready: Ready | undefined;

  /** @param point the call by which the guest says where cases begin; it is not carried out and answers 0 */
  constructor(spec: RunSpec, point: string) {
    if ((spec.provider ?? "direct") !== "direct")
      throw testError(
        `cannot prepare a guest under ${spec.provider}: only direct keeps all of its state in the machine`,
      );
    if (spec.inject !== undefined) throw testError("cannot prepare a guest with faults: they count over all cases");
    this.#spec = spec;
    this.#point = point;
  }

  /**
   * Lets the guest go on from the point. Its trace and ledger begin there.
   * @throws UserError when the guest does not come to the point, or the case calls what it may not
   */
  async run(input: CaseInput = {}): Promise<Observed> {
    this.#ready ??= await this.#prepare();
    const { session, task, snapshot } = this.#ready;
    const { kernel } = session;
    kernel.machine.restore(snapshot);
    kernel.current = task;
    this.#change(task, input);
    const collector = new Collector();
    collector.kernel = kernel;
    this.#collector = collector;
    this.#output = { 1: [], 2: [] };
    this.#records = [];
    kernel.scheduler.ready(task);
    const end = await this.#toEnd(session);
    const { stdout, stderr } = { stdout: this.#output[1], stderr: this.#output[2] };
    const observed = new Observed({
      guest: this.#spec.at ?? this.#spec.file,
      provider: "direct",
      seed: this.#spec.seed ?? 0,
      end,
      stdout: Buffer.concat(stdout).toString("utf8"),
      stderr: Buffer.concat(stderr).toString("utf8"),
      events: collector.events,
      lines: collector.lines,
      records: this.#records,
      findings: [],
      faults: await this.#reports.take(),
      states: collector.states,
      uses: undefined,
    });
    // A process that is gone, or was stopped anywhere, cannot go back: the next case begins with a new machine.
    if (end.kind !== "ended" || end.status.kind !== "exited") this.close();
    return observed;
  }

  close(): void {
    this.#ready?.session.close();
    this.#ready = undefined;
  }

  async #prepare(): Promise<Ready> {
    const { file, at, args = [], env = {}, timeout = TIMEOUT_SECONDS } = this.#spec;
    const session = new Session({
      program: file,
      programAt: at,
      argv: [at ?? file, ...args],
      envp: Object.entries(env).map(([key, value]) => `${key}=${value}`),
      provider: "direct",
      root: this.#spec.root,
      binds: this.#spec.bind,
      cwd: "/",
      user: USER,
      seed: this.#spec.seed ?? 0,
      clock: "virtual",
      maxMemory: this.#spec.maxMemory,
      hostMemory: HOST_MEMORY,
      processor: this.#spec.cpu,
      keptRecords: FEW_RECORDS,
      signals: new Signals({ report: this.#reports.report, disassemble: this.#reports.disassemble }),
      trace: { consumer: { event: (event: TraceEvent) => this.#collector.event(event) } },
      streams: { input: new Uint8Array(), output: (fd, bytes) => this.#output[fd].push(Buffer.from(bytes)) },
      answer: (name) => this.#answer(session, name),
    });
    session.kernel.gate.ledger.subscribe((record) => this.#records.push(record));
    try {
      await session.run({ timeout });
    } catch (error) {
      const task = session.kernel.current;
      if (!(error instanceof Stopped) || task === undefined) throw error;
      if (session.kernel.tasks.size > 1) throw testError("cannot prepare a guest with several threads or processes");
      return { session, task, snapshot: session.kernel.machine.snapshot() };
    }
    session.close();
    throw testError(`the guest never calls ${this.#point}, where cases are to begin`);
  }

  /** Before each call: the point, the end of a case, and what a case may not do. */
  #answer(session: Session, name: string): undefined {
    if (this.#ready === undefined) {
      if (name === this.#point) throw new Stopped();
      return;
    }
    const { kernel, task } = { kernel: session.kernel, task: this.#ready.task };
    if (!ALLOWED.has(name)) {
      this.close();
      throw testError(`a case of a prepared guest may not call ${name}: only ${[...ALLOWED].join(", ")}`);
    }
    if (!name.startsWith("exit")) return;
    const code = task.cpu.regLow(task.abi.args[0] ?? Reg.rdi) & 0xff;
    kernel.tracer?.leave(task, undefined);
    kernel.tracer?.ended(task.process, { kind: "exited", code });
    throw new Stopped(code);
  }

  #change(task: Task, { registers = {}, memory = [] }: CaseInput): void {
    const { cpu } = task;
    cpu.setReg(Reg.rax, 0);
    for (const [name, register] of Object.entries(Reg)) {
      const value = registers[name as keyof typeof Reg];
      if (value !== undefined) cpu.setRegBig(register, BigInt.asUintN(64, BigInt(value)));
    }
    for (const [address, bytes] of memory) task.memory.write(address, bytes);
  }

  async #toEnd(session: Session): Promise<ObservedEnd> {
    const { timeout = TIMEOUT_SECONDS, maxBlocks } = this.#spec;
    let end: RunEnd;
    try {
      end = await run(session.kernel, { timeout, ...(maxBlocks === undefined ? {} : { maxBlocks }) });
    } catch (error) {
      if (error instanceof Stopped) return { kind: "ended", status: { kind: "exited", code: error.code ?? 0 } };
      throw error;
    }
    return end.kind === "timeout" || end.kind === "interrupted" ? { kind: "timeout", seconds: timeout } : end;
  }
}
