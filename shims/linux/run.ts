/**
 * The run loop. Tasks take turns in the CPU; each stop of the engine becomes a call, a page, a signal or a switch.
 * Inside a turn nothing is awaited and nothing allocated; between turns host input is waited for.
 */

import { setImmediate, setTimeout } from "node:timers/promises";
import { Reg, StopKind } from "../../emulator/cpu.ts";
import { strike } from "../../providers/host-events.ts";
import { MEASURES_FROM } from "./clock.ts";
import { callName, Dispatcher } from "./dispatch.ts";
import { emulateVsyscall } from "./loader/vsyscall.ts";
import { type DebugRegisters, disarm } from "./ptrace/debug-registers.ts";
import { refreshLdt } from "./signals/ldt.ts";
import type { ExitStatus, Kernel, Task } from "./task.ts";
import { abortCriticalSection } from "./thread/rseq.ts";
import { Stepper } from "./thread/stepping.ts";

export interface RunLimits {
  /** Wall-clock seconds. */
  readonly timeout?: number;
  /** Basic blocks over all tasks. */
  readonly maxBlocks?: number;
  /** Ends the run at the next stop when it is aborted (Ctrl-C). */
  readonly signal?: { readonly aborted: boolean };
}

export type RunEnd =
  | { readonly kind: "ended"; readonly status: ExitStatus }
  | { readonly kind: "timeout" }
  | { readonly kind: "blocks" }
  | { readonly kind: "interrupted" }
  /** Every task waits and nothing will ever wake one; a line for each says on what. */
  | { readonly kind: "deadlock"; readonly waiting: readonly string[] };

/** As a number, which is exact for its start. */
const VSYSCALL_PAGE = 2 ** 64 - 0xa0_0000;
/** Blocks between two looks at the wall clock, some tens of ms. */
const SLICE_BLOCKS = 2_000_000;
/** Cycles of the time stamp counter in a nanosecond; /proc/cpuinfo says so too. */
const TSC_PER_NS = 2;
/** First and longest pause between two looks at host input, ms. */
const POLL_FIRST = 1;
const POLL_LONGEST = 16;
/** Host signals and timers get their chance after so many turns. */
const TURNS_BETWEEN_YIELDS = 64;
const NS_PER_MS = 1e6;
/**
 * How long processes may go on that the first one has left behind, before they are ended with the run: long enough for background
 * jobs, but a daemon does not keep the run from ending. Virtual ns, real ns, blocks.
 */
const LINGER = { virtual: 3600e9, host: 10e9, blocks: 1e9 } as const;

/** Runs all tasks of `kernel` until the first process has ended and no task is left that could still run. */
export async function run(kernel: Kernel, limits: RunLimits = {}): Promise<RunEnd> {
  const end = await new Runner(kernel, limits).run();
  await kernel.net.host?.settle();
  return end;
}

class Runner {
  readonly #kernel: Kernel;
  readonly #dispatcher: Dispatcher;
  readonly #stepper: Stepper;
  /** The debug registers that are in the CPU. */
  #debug: DebugRegisters | undefined;
  readonly #wallDeadline: number;
  readonly #signal: { readonly aborted: boolean } | undefined;
  #blocksLeft: number;
  #interrupted = false;
  /** When, and with how many blocks left, what the first process has left behind is ended; undefined while that one lives. */
  #linger: { readonly until: number; readonly blocks: number } | undefined;
  #blocks = 0;

  constructor(kernel: Kernel, limits: RunLimits) {
    this.#kernel = kernel;
    this.#dispatcher = new Dispatcher(kernel);
    this.#stepper = new Stepper(kernel.machine.cpu);
    this.#wallDeadline = limits.timeout === undefined ? Number.POSITIVE_INFINITY : Date.now() + limits.timeout * 1000;
    this.#blocksLeft = limits.maxBlocks ?? Number.POSITIVE_INFINITY;
    this.#signal = limits.signal;
  }

  async run(): Promise<RunEnd> {
    const kernel = this.#kernel;
    const { scheduler, clock, signals } = kernel;
    let turns = 0;
    let last: Task | undefined;
    for (;;) {
      if (this.#signal?.aborted) return { kind: "interrupted" };
      if (this.#blocksLeft <= 0) return { kind: "blocks" };
      if (Date.now() >= this.#wallDeadline) return { kind: "timeout" };
      const now = clock.now();
      if (kernel.first?.ended && this.#isOver(now)) return { kind: "ended", status: this.#firstStatus() };
      if (now >= signals.nextTimer()) signals.runTimers(now);
      scheduler.expire(now);
      const task = scheduler.next(last);
      last = undefined;
      if (task === undefined) {
        const end = await this.#idle();
        if (end !== undefined) return end;
        continue;
      }
      this.#switchTo(task);
      if (!this.#dispatcher.resume(task)) continue;
      if (task.ldtChanged && !task.dead && task.wait === undefined) refreshLdt(task);
      if (task.preempted) {
        task.preempted = false;
        abortCriticalSection(task);
      }
      // Sent while it was not in the CPU, by another task or a timer.
      if (!task.dead && task.wait === undefined && signals.interrupts(task)) signals.deliver(task, undefined);
      if (!task.dead && task.wait === undefined) {
        this.#turn(task);
        // Nothing to a task that is out of the guest by a call or a fault.
        if (!task.dead) kernel.gate.lifecycle?.leaveGuest(task.tid, "switch");
        task.usage.cpu += clock.now() - task.startedTurn;
        task.startedTurn = clock.now();
      }
      if (!task.dead && task.wait === undefined) {
        scheduler.ready(task);
        task.preempted = true;
        if (scheduler.readyCount > 1) task.usage.involuntary++;
        last = task;
      }
      if (this.#interrupted || ++turns % TURNS_BETWEEN_YIELDS === 0 || this.#hasNetwork()) {
        this.#interrupted = false;
        if (scheduler.onHost > 0) scheduler.pollHost();
        await setImmediate();
      }
    }
  }

  /** What comes over the host's network is told of between turns. */
  #hasNetwork(): boolean {
    return (this.#kernel.net.host?.active ?? 0) > 0;
  }

  #firstStatus(): ExitStatus {
    return this.#kernel.first?.status ?? { kind: "exited", code: 0 };
  }

  /** The first process has ended: true when what it left behind has had its time. */
  #isOver(now: number): boolean {
    const span = this.#kernel.clock.virtual ? LINGER.virtual : LINGER.host;
    this.#linger ??= { until: now + span, blocks: this.#blocks + LINGER.blocks };
    return now >= this.#linger.until || this.#blocks >= this.#linger.blocks;
  }

  #switchTo(task: Task): void {
    const kernel = this.#kernel;
    const { machine, current } = kernel;
    // Also for what happens to it before it runs: a signal may end it.
    task.startedTurn = kernel.clock.now();
    if (current === task) return;
    if (current !== undefined && !current.dead) current.context = machine.cpu.saveContext(current.context);
    machine.activate(task.process.mm.space);
    if (task.context !== undefined) machine.cpu.restoreContext(task.context);
    kernel.current = task;
    if (task.debug !== this.#debug) this.#arm(task);
  }

  #arm({ debug, cpu }: Task): void {
    if (debug?.armed) debug.arm(cpu);
    else if (this.#debug?.armed) disarm(cpu);
    this.#debug = debug;
  }

  /** How many blocks the next run may take; -1 for as many as it likes. */
  #budget(task: Task, turn: number): number {
    const { scheduler, signals, clock } = this.#kernel;
    const timed =
      scheduler.nextDeadline !== Number.POSITIVE_INFINITY || signals.nextTimer() !== Number.POSITIVE_INFINITY;
    const ends =
      scheduler.readyCount > 0 || scheduler.onHost > 0 || timed || this.#linger !== undefined || this.#hasNetwork();
    let budget = ends ? turn : -1;
    const sliced =
      this.#wallDeadline !== Number.POSITIVE_INFINITY || (clock.virtual && task.process.clockReads >= MEASURES_FROM);
    if (sliced && budget < 0) budget = SLICE_BLOCKS;
    if (this.#blocksLeft !== Number.POSITIVE_INFINITY) {
      budget = budget < 0 ? Math.min(this.#blocksLeft, SLICE_BLOCKS) : Math.min(budget, this.#blocksLeft);
    }
    return budget;
  }

  /** Lets the task in the CPU run until it waits, has ended, or its turn is over. */
  #turn(task: Task): void {
    const kernel = this.#kernel;
    const { scheduler, machine, clock } = kernel;
    const { cpu } = machine;
    const dispatcher = this.#dispatcher;
    const { hostEvents } = kernel;
    const { lifecycle } = kernel.gate;
    let turn = weighed(scheduler.turnLength(), task.nice);
    let budget = this.#budget(task, turn);
    let { codeBytes } = cpu;
    scheduler.attention = false;
    if (!clock.virtual) cpu.timeStamp = Math.max(cpu.timeStamp, clock.now() * TSC_PER_NS);
    kernel.gate.goesOn(task.tid);
    for (;;) {
      if (lifecycle !== undefined) {
        kernel.gate.goesOn(task.tid);
        lifecycle.enterGuest(task.tid);
      }
      // It counts what instructions read it, too, and never goes back.
      if (clock.virtual) cpu.timeStamp = Math.max(cpu.timeStamp, clock.now() * TSC_PER_NS);
      const blocks = hostEvents === undefined ? budget : sooner(budget, hostEvents.blocksLeft);
      const kind = cpu.run(blocks);
      if (blocks >= 0) {
        const used = blocks - Math.max(cpu.budgetLeft, 0);
        // Turns and time are the same with and without events of the host.
        if (budget >= 0) {
          clock.ran(used, cpu.codeBytes - codeBytes);
          codeBytes = cpu.codeBytes;
          this.#blocksLeft -= used;
          this.#blocks += used;
          turn -= used;
          budget -= used;
        }
        // One that comes with a call or a fault falls into the shim's time, where it changes nothing.
        const event = hostEvents?.ran(used);
        if (event !== undefined && kind === StopKind.budget) strike(lifecycle, task.tid, event);
      }
      if (lifecycle !== undefined && kind <= StopKind.sysenter) lifecycle.leaveGuest(task.tid, "syscall");
      switch (kind) {
        case StopKind.syscall:
          // 32-bit code lies below 4 GiB; an Intel CPU raises #UD for its `syscall`.
          if ((cpu.words[2 * Reg.rip + 1] ?? 0) === 0 && !cpu.wide) this.#invalid(task);
          else dispatcher.syscall(task);
          break;
        case StopKind.int80:
          dispatcher.int80(task);
          break;
        case StopKind.sysenter:
          dispatcher.sysenter(task);
          break;
        case StopKind.exception:
          this.#exception(task);
          break;
        case StopKind.budget:
          if (budget !== 0) break;
          if (turn <= 0 || this.#blocksLeft <= 0) {
            if (scheduler.readyCount > 0 && this.#stepper.step(task.memory, scheduler.extraSteps()))
              this.#exception(task);
            return;
          }
          scheduler.attention = true;
          break;
        case StopKind.interrupted:
          this.#interrupted = true;
          lifecycle?.leaveGuest(task.tid, "interrupt");
          return;
      }
      if (scheduler.attention) {
        scheduler.attention = false;
        if (task.dead || task.wait !== undefined || task.yields) {
          task.yields = false;
          return;
        }
        if (Date.now() >= this.#wallDeadline) return;
        // Others became able to run, or a deadline was set: from now on the turn has an end.
        budget = this.#budget(task, Math.max(turn, 1));
      }
      if (budget >= 0) {
        if (budget === 0) return;
        const now = clock.now();
        if (now >= scheduler.nextDeadline || now >= kernel.signals.nextTimer()) return;
      }
    }
  }

  /** The task is out of the guest by an exception. True when that was the platform's doing, and the guest is to try again. */
  #repaired(task: Task, vector: number): boolean {
    const { lifecycle } = this.#kernel.gate;
    if (lifecycle === undefined) return false;
    lifecycle.leaveGuest(task.tid, "exception");
    return lifecycle.retries(task.tid, vector);
  }

  #invalid(task: Task): void {
    const { cpu } = task;
    cpu.setReg(Reg.rip, cpu.reg(Reg.rip) - 2);
    this.#kernel.signals.raiseFault(task, {
      vector: 6,
      errorCode: 0,
      address: 0,
      access: "fetch",
      software: false,
      page: undefined,
    });
  }

  #exception(task: Task): void {
    const { cpu } = task;
    const vector = cpu.stopVector;
    const address = cpu.stopAddress;
    const access = cpu.stopAccess;
    if (vector !== 14) {
      if (this.#repaired(task, vector)) return;
      this.#kernel.signals.raiseFault(task, {
        vector,
        errorCode: cpu.stopErrorCode,
        address: 0,
        access,
        software: cpu.stopSoftware,
        page: undefined,
      });
      return;
    }
    if (access === "fetch" && address >= VSYSCALL_PAGE) {
      if (emulateVsyscall(task, cpu.stopAddressExact, this.#dispatcher)) return;
    }
    const page = task.process.mm.space.resolve(address, access);
    if (page === "ok" || this.#repaired(task, vector)) return;
    const errorCode = cpu.stopErrorCode;
    this.#kernel.signals.raiseFault(task, {
      vector,
      errorCode,
      address,
      exactAddress: cpu.stopAddressExact,
      access,
      software: false,
      page,
    });
  }

  /** Nobody can run: time jumps, or the host is waited for, or the run is over. */
  async #idle(): Promise<RunEnd | undefined> {
    const kernel = this.#kernel;
    const { scheduler, clock, signals } = kernel;
    if (kernel.tasks.size === 0) return { kind: "ended", status: this.#firstStatus() };
    const deadline = Math.min(scheduler.nextDeadline, signals.nextTimer());
    if (scheduler.onHost > 0 && (await this.#awaitHost(deadline))) return undefined;
    if (this.#signal?.aborted || Date.now() >= this.#wallDeadline) return undefined;
    if (deadline === Number.POSITIVE_INFINITY) {
      // What is left behind a program that has ended would sleep for ever: the run is over.
      if (kernel.first?.ended) return { kind: "ended", status: this.#firstStatus() };
      return { kind: "deadlock", waiting: [...scheduler.parked].map(describe) };
    }
    if (clock.virtual) clock.jump(deadline);
    else await this.#sleep((deadline - clock.now()) / NS_PER_MS);
    return undefined;
  }

  /** Looks at host input until a task can run (true) or `deadline` has come (false). */
  async #awaitHost(deadline: number): Promise<boolean> {
    const { scheduler, clock } = this.#kernel;
    const started = performance.now();
    const patience = (deadline - clock.now()) / NS_PER_MS;
    let pause = POLL_FIRST;
    for (;;) {
      scheduler.pollHost();
      for (let task = scheduler.next(); task !== undefined; task = scheduler.next()) {
        this.#switchTo(task);
        if (!this.#dispatcher.resume(task)) continue;
        if (!task.dead && task.wait === undefined) scheduler.ready(task);
        return true;
      }
      if (this.#signal?.aborted || Date.now() >= this.#wallDeadline) return false;
      const left = patience - (performance.now() - started);
      if (left <= 0) return false;
      await setTimeout(Math.min(pause, left));
      pause = Math.min(pause * 2, POLL_LONGEST);
    }
  }

  /** Sleeps in pieces, so that the wall clock's limit and Ctrl-C are seen. */
  async #sleep(ms: number): Promise<void> {
    const limit = this.#wallDeadline - Date.now();
    await setTimeout(Math.max(0, Math.min(ms, limit, 50)));
  }
}

/** A turn of a thread by its nice value: a step is worth a quarter, as in the kernel's weights (sched_prio_to_weight). */
function weighed(turn: number, nice: number): number {
  return nice === 0 ? turn : Math.max(1, Math.round(turn * 1.25 ** -nice));
}

/** The smaller of two budgets, where a negative one has no end. */
function sooner(budget: number, blocks: number): number {
  if (blocks === Number.POSITIVE_INFINITY) return budget;
  return budget < 0 ? blocks : Math.min(budget, blocks);
}

function describe(task: Task): string {
  const call = task.callNumber < 0 ? "its start" : callName(task.abi, task.callNumber);
  return `thread ${task.tid} of process ${task.process.pid} (${task.comm}) waits in ${call}`;
}
