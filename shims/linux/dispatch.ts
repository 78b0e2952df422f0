/** From a trap of the guest to a handler and back: the one place where system calls are decoded, answered and traced. */
import { type Cpu, Reg, StopKind } from "../../emulator/cpu.ts";
import { MemoryFault, TestbedError, UserError } from "../../emulator/errors.ts";
import { type Abi, i386, X32_SYSCALL_BIT, x86_64 } from "./abi.ts";
import { Errno } from "./errno.ts";
import { syscallNames } from "./kinds/names.ts";
import { Work } from "./ptrace/numbers.ts";
import { afterCall, beforeCall } from "./ptrace/watched-calls.ts";
import { Fetch, type Plan, type Result } from "./table.ts";
import type { Kernel, Task } from "./task.ts";
import { isDispatched } from "./user-dispatch.ts";
import { VfsError } from "./vfs/error.ts";
import { Wait } from "./wait.ts";

const TWO_32 = 2 ** 32;
/** The kernel's own "restart me" results lie from -ERESTART_RESTARTBLOCK to -ERESTARTSYS. */
const RESTART_LOW = -Errno.ERESTART_RESTARTBLOCK;
const RESTART_HIGH = -Errno.ERESTARTSYS;

function fetch(cpu: Cpu, plan: Plan, index: number): number {
  const register = plan.registers[index] ?? 0;
  switch (plan.fetches[index]) {
    case Fetch.i32:
      return cpu.regLow(register) | 0;
    case Fetch.u32:
      return cpu.regLow(register);
    case Fetch.i64:
      return cpu.regSigned(register);
    case Fetch.u64:
      return cpu.reg(register);
    case Fetch.pair:
      return (cpu.regLow(plan.highs[index] ?? 0) | 0) * TWO_32 + cpu.regLow(register);
    default:
      return 0;
  }
}

/** Name of any call by number: its row's, the kernel's, or strace's `syscall_0x3e7`. */
export function callName(abi: Abi, number: number): string {
  return syscallNames[abi.name][number] ?? `syscall_0x${number.toString(16)}`;
}

/** Answers the system calls of all tasks of one run. */
export class Dispatcher {
  readonly #kernel: Kernel;
  readonly #wide: readonly (Plan | undefined)[];
  readonly #narrow: readonly (Plan | undefined)[];
  /** Calls until the host's memory is looked at. */
  #untilLook: number;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.#wide = kernel.table.plans(x86_64);
    this.#narrow = kernel.table.plans(i386);
    this.#untilLook = kernel.hostMemory === undefined ? Number.POSITIVE_INFINITY : 1;
  }

  /** `syscall` from 64-bit code. */
  syscall(task: Task): void {
    const number = task.cpu.regLow(Reg.rax);
    this.#call(task, x86_64, StopKind.syscall, number, this.#wide[number], task.work);
  }

  /** `int 0x80`, from code of either size. */
  int80(task: Task): void {
    const number = task.cpu.regLow(Reg.rax);
    this.#call(task, i386, StopKind.int80, number, this.#narrow[number], task.work);
  }

  /**
   * `sysenter` from 32-bit code: EBP points to the stack, where the caller of __kernel_vsyscall left its own EBP, the sixth
   * argument; the way back leads to the landing pad in the vDSO (entry_SYSENTER_compat, do_fast_syscall_32).
   */
  sysenter(task: Task): void {
    const { cpu } = task;
    const stack = cpu.regLow(Reg.rbp);
    cpu.setReg(Reg.rsp, stack);
    cpu.setReg(Reg.rip, task.process.mm.vdsoLanding);
    try {
      cpu.setReg(Reg.rbp, task.memory.u32(stack));
    } catch (error) {
      if (!(error instanceof MemoryFault)) throw error;
      cpu.setReg(Reg.rax, -Errno.EFAULT);
      return;
    }
    const number = cpu.regLow(Reg.rax);
    this.#call(task, i386, StopKind.sysenter, number, this.#narrow[number], task.work);
  }

  /** @param watched who watches the call (Work) and has not been asked yet */
  #call(
    task: Task,
    abi: Abi,
    trap: StopKind | undefined,
    number: number,
    plan: Plan | undefined,
    watched: number,
  ): void {
    const kernel = this.#kernel;
    const { cpu } = kernel.machine;
    task.abi = abi;
    task.trap = trap;
    task.callNumber = number;
    task.plan = plan;
    task.reason = undefined;
    if (watched !== 0) {
      this.#watched(task);
      return;
    }
    if (--this.#untilLook <= 0 && this.#isShort(task)) return;
    kernel.clock.tick();
    task.usage.system += kernel.clock.callNs;
    if (plan === undefined) {
      this.#unknown(task, abi, number);
      return;
    }
    const { argc } = plan;
    const a = argc > 0 ? fetch(cpu, plan, 0) : 0;
    const b = argc > 1 ? fetch(cpu, plan, 1) : 0;
    const c = argc > 2 ? fetch(cpu, plan, 2) : 0;
    const d = argc > 3 ? fetch(cpu, plan, 3) : 0;
    const e = argc > 4 ? fetch(cpu, plan, 4) : 0;
    const f = argc > 5 ? fetch(cpu, plan, 5) : 0;
    kernel.tracer?.enter(task, [a, b, c, d, e, f].slice(0, argc));
    let result: Result;
    try {
      const injected = kernel.injectCall === undefined ? undefined : kernel.injectCall(plan.row.name);
      if (injected === undefined) result = plan.row.handler(task, a, b, c, d, e, f);
      else result = injected < 0 ? task.fail(-injected, "injected") : injected;
    } catch (error) {
      result = this.#failure(task, error);
    }
    if (typeof result === "number") this.finish(task, result);
    else if (result instanceof Wait) this.#wait(task, result);
    else {
      kernel.tracer?.leave(task, undefined);
      if (task.dead || task.wait !== undefined) return;
      if (task.work !== 0) this.#left(task, -1);
      else if (kernel.signals.interrupts(task)) kernel.signals.deliver(task, undefined);
    }
  }

  /** Looks at the host's memory. Where that is short, who makes calls is killed, as by vm.oom_kill_allocating_task: true. */
  #isShort(task: Task): boolean {
    const { hostMemory, signals } = this.#kernel;
    const calls = hostMemory?.look() ?? Number.POSITIVE_INFINITY;
    this.#untilLook = Math.max(calls, 1);
    if (calls > 0) return false;
    signals.killForMemory(task);
    signals.deliver(task, undefined);
    return true;
  }

  /** A function of its own, so that the ordinary call makes no closure. */
  #watched(task: Task): void {
    if ((task.work & Work.dispatch) !== 0 && isDispatched(task)) this.#kernel.signals.deliver(task, undefined);
    else beforeCall(task, (allowed) => this.#allowed(task, allowed));
  }

  /** Whoever watches the task lets it make its call, maybe another one; or none. */
  #allowed(task: Task, number: number | undefined): void {
    if (number === undefined) {
      this.#left(task, task.callNumber | 0);
      return;
    }
    const { abi, trap } = task;
    this.#call(task, abi, trap, number, (abi === x86_64 ? this.#wide : this.#narrow)[number], 0);
  }

  /** A watched call is over, with its result in the register. */
  #left(task: Task, orig: number): void {
    const { signals } = this.#kernel;
    const deliver = (): void => {
      const result = task.cpu.regSigned(task.abi.accumulator);
      signals.deliver(task, (task.tracee?.orig ?? orig) === -1 ? undefined : result);
    };
    if (!afterCall(task, orig, deliver)) deliver();
  }

  /** Looks again at what a parked task waits for. True when its call has ended. */
  resume(task: Task): boolean {
    const { wait } = task;
    if (wait === undefined) return true;
    const kernel = this.#kernel;
    let result: number | undefined;
    try {
      result = wait.attempt();
      if (result === undefined && wait.deadline !== undefined && kernel.clock.now() >= wait.deadline) {
        result = wait.timeout();
      }
      if (result === undefined && !wait.pause && kernel.signals.interrupts(task)) result = wait.interrupted();
    } catch (error) {
      result = this.#failure(task, error);
    }
    if (result === undefined) return false;
    kernel.scheduler.unpark(task);
    if (wait.goOn !== undefined) wait.goOn();
    else if (wait.pause) kernel.signals.deliver(task, undefined);
    else this.finish(task, result);
    return true;
  }

  /** Gives the task in the CPU its call's result, and signals that wait for it. */
  finish(task: Task, result: number): void {
    const kernel = this.#kernel;
    kernel.tracer?.leave(task, result);
    if (task.dead) return;
    kernel.machine.cpu.setReg(task.abi.accumulator, result);
    if (task.work !== 0) {
      this.#left(task, task.callNumber | 0);
      return;
    }
    const restarts = result <= RESTART_HIGH && result >= RESTART_LOW;
    if (restarts || kernel.signals.interrupts(task)) kernel.signals.deliver(task, result);
  }

  #wait(task: Task, wait: Wait): void {
    this.#kernel.scheduler.park(task, wait);
    if (this.resume(task)) return;
    task.usage.voluntary++;
    this.#kernel.tracer?.block(task);
  }

  #failure(task: Task, error: unknown): number {
    if (error instanceof MemoryFault) {
      return task.fail(Errno.EFAULT, `cannot ${error.access} at ${error.place}`);
    }
    if (error instanceof VfsError) return task.fail(error.errno, error.why);
    if (error instanceof TestbedError || error instanceof UserError) throw error;
    throw new TestbedError(`the handler of ${callName(task.abi, task.callNumber)} failed: ${String(error)}`, {
      cause: error,
    });
  }

  #unknown(task: Task, abi: Abi, number: number): void {
    const kernel = this.#kernel;
    const x32 = abi === x86_64 && (number & X32_SYSCALL_BIT) !== 0;
    const name = x32 ? `x32 ${callName(abi, number & ~X32_SYSCALL_BIT)}` : `${abi.name} ${callName(abi, number)}`;
    kernel.unsupported.set(name, (kernel.unsupported.get(name) ?? 0) + 1);
    kernel.tracer?.enter(task, []);
    this.finish(task, task.fail(Errno.ENOSYS, "shimbed does not have this call yet"));
  }
}
