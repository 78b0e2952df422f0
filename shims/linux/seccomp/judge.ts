/** What becomes of a call by the filters of its thread (__secure_computing and __seccomp_filter in kernel/seccomp.c). */
import { Reg } from "../../../emulator/cpu.ts";
import { argumentsOf, auditArch } from "../audit-arch.ts";
import { Errno, MAX_ERRNO } from "../errno.ts";
import { exitProcess, exitTask } from "../process/exit.ts";
import { Event } from "../ptrace/numbers.ts";
import { stopForFilter } from "../ptrace/stops.ts";
import { Signal } from "../signals/numbers.ts";
import { forceSignal } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import type { Task } from "../task.ts";
import { DATA_BYTES, runFilter } from "./bpf.ts";
import type { FilterChain } from "./state.ts";

/** SECCOMP_RET_*. */
export const Action = {
  KILL_PROCESS: 0x8000_0000,
  KILL_THREAD: 0,
  TRAP: 0x3_0000,
  ERRNO: 0x5_0000,
  USER_NOTIF: 0x7fc0_0000,
  TRACE: 0x7ff0_0000,
  LOG: 0x7ffc_0000,
  ALLOW: 0x7fff_0000,
} as const;
const ACTION_FULL = 0xffff_0000;
const DATA = 0xffff;
const SYS_SECCOMP = 1;
/** read, write, exit, and the return from a handler. */
const STRICT = { x86_64: [0, 1, 60, 15], i386: [3, 4, 1, 119] } as const;

/**
 * @param goOn carries the call with the number given out; without one, what the registers hold is its result
 */
export function judge(task: Task, number: number, goOn: (number: number | undefined) => void): void {
  const { seccomp } = task;
  if (seccomp === undefined || task.tracee?.has("PTRACE_O_SUSPEND_SECCOMP")) goOn(number);
  else if (seccomp.mode === "filter") filtered(task, seccomp.filters, number, false, goOn);
  else if (STRICT[task.abi.name].some((allowed) => allowed === number)) goOn(number);
  else endThread(task, Signal.SIGKILL);
}

/** The strictest answer of all filters; of equally strict ones the newest filter's. */
function answer(filters: FilterChain, data: Uint32Array): number {
  let result = Action.ALLOW as number;
  for (let one: FilterChain | undefined = filters; one !== undefined; one = one.before) {
    const said = runFilter(one.program, data);
    if ((said & ACTION_FULL) < (result & ACTION_FULL)) result = said;
  }
  return result;
}

function dataOf(task: Task, number: number): Uint32Array {
  const words = new Uint32Array(DATA_BYTES / 4);
  words[0] = number;
  words[1] = auditArch(task.abi);
  const wide = [task.cpu.regBig(Reg.rip), ...argumentsOf(task)];
  for (const [index, value] of wide.entries()) {
    words[2 + 2 * index] = Number(value & 0xffff_ffffn);
    words[3 + 2 * index] = Number(value >> 32n);
  }
  return words;
}

function filtered(
  task: Task,
  filters: FilterChain,
  number: number,
  again: boolean,
  goOn: (number: number | undefined) => void,
): void {
  const said = answer(filters, dataOf(task, number));
  const data = said & DATA;
  switch ((said & ACTION_FULL) >>> 0) {
    case Action.ALLOW:
    case Action.LOG:
      goOn(number);
      return;
    case Action.ERRNO:
      task.cpu.setReg(Reg.rax, -Math.min(data, MAX_ERRNO));
      goOn(undefined);
      return;
    case Action.TRAP:
      trap(task, number, data, false);
      goOn(undefined);
      return;
    case Action.TRACE:
      if (again) goOn(number);
      else trace(task, filters, data, number, goOn);
      return;
    case Action.USER_NOTIF:
      // Nobody listens: there is no way to.
      task.cpu.setReg(Reg.rax, -Errno.ENOSYS);
      goOn(undefined);
      return;
    case Action.KILL_THREAD:
      if (task.process.tasks.size > 1) {
        endThread(task, Signal.SIGSYS);
        return;
      }
  }
  trap(task, number, data, true);
  goOn(undefined);
}

/** SIGSYS with the call's registers as they were; `fatal` where no handler is asked. */
function trap(task: Task, number: number, data: number, fatal: boolean): void {
  const { cpu } = task;
  cpu.setReg(Reg.rax, number);
  const info = SigInfo.call(SYS_SECCOMP, cpu.regBig(Reg.rip), number, auditArch(task.abi), data);
  if (fatal && task.tracee !== undefined) task.tracee.untold = Signal.SIGSYS;
  forceSignal(task, info, fatal);
}

function trace(
  task: Task,
  filters: FilterChain,
  data: number,
  number: number,
  goOn: (number: number | undefined) => void,
): void {
  const { tracee } = task;
  if (tracee === undefined || !tracee.wants(Event.seccomp)) {
    goOn(undefined);
    return;
  }
  tracee.orig = number | 0;
  stopForFilter(tracee, data, () => {
    const wanted = tracee.orig | 0;
    task.callNumber = wanted >>> 0;
    if (wanted < 0 || task.process.signals.fatal !== 0) goOn(undefined);
    else filtered(task, filters, wanted, true, goOn);
  });
}

/** do_exit with a signal: of the thread alone. */
function endThread(task: Task, signal: number): void {
  if (task.process.tasks.size > 1) exitTask(task, 0);
  else exitProcess(task.process, { kind: "killed", signal });
}
