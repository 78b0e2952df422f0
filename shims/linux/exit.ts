/** The end of tasks and processes: what Linux undoes, gives back and tells the parent (kernel/exit.c). */
import { MemoryFault } from "../../emulator/errors.ts";
import { abandonSignals } from "./signals/send.ts";
import type { ExitStatus, Process, Task } from "./task.ts";

/** Zeroes and wakes the word of set_tid_address, as a thread's end does when others still share its memory (mm_release). */
function clearChildTid(task: Task): void {
  const { process, clearChildTid: address } = task;
  if (address === 0) return;
  task.clearChildTid = 0;
  if (process.mm.users <= 1 && process.tasks.size <= 1) return;
  try {
    task.memory.setU32(address, 0);
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
    // Linux ignores a bad address here.
    return;
  }
  const { futexes } = task.kernel;
  futexes.wake(futexes.key(process.mm, address, true), 1);
  futexes.wake(futexes.key(process.mm, address, false), 1);
}

/** Ends one task; its process ends with the last one, with the status of `exitProcess` or this `code`. */
export function exitTask(task: Task, code: number): void {
  if (task.dead) return;
  const { kernel, process } = task;
  kernel.scheduler.unpark(task);
  clearChildTid(task);
  task.dead = true;
  task.context = undefined;
  kernel.gate.goesOn(task.tid);
  kernel.gate.lifecycle?.threadExit(task.tid);
  kernel.tasks.delete(task.tid);
  process.tasks.delete(task);
  abandonSignals(task);
  process.cpuTime += task.usedCpu;
  kernel.scheduler.attention = true;
  if (process.tasks.size === 0) endProcess(process, process.status ?? { kind: "exited", code: code & 0xff });
}

/** Ends a process with all its tasks. */
export function exitProcess(process: Process, status: ExitStatus): void {
  if (process.ended) return;
  process.status ??= status;
  for (const task of [...process.tasks]) exitTask(task, 0);
}

function endProcess(process: Process, status: ExitStatus): void {
  const { kernel, parent } = process;
  process.status = status;
  process.ended = true;
  process.files.release();
  releaseMm(process);
  kernel.tracer?.ended(process, status);
  // Orphans belong to init from now on, which is not part of the run and waits for them at once.
  for (const child of process.children) {
    child.parent = undefined;
    if (child.ended) kernel.processes.delete(child.pid);
  }
  process.children.clear();
  kernel.signals.childEnded(process);
  if (parent === undefined) {
    if (kernel.first !== process) kernel.processes.delete(process.pid);
    return;
  }
  parent.childEvents.wake();
}

/** A process lets go of its address space; the last one closes it. */
export function releaseMm(process: Process): void {
  const { mm } = process;
  mm.users--;
  if (mm.users === 0) mm.space.close();
}
