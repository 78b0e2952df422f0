/** Looking at, and changing, the registers of a thread that is not in the CPU. */
import type { Task } from "../task.ts";

/**
 * Puts the registers and the memory of another thread into the CPU for as long as `look` takes, so that the gate serves that thread.
 * @param task the one in the CPU
 */
export function inContextOf<T>(task: Task, target: Task, look: () => T): T {
  const { kernel, cpu } = task;
  const { machine } = kernel;
  task.context = cpu.saveContext(task.context);
  machine.activate(target.process.mm.space);
  if (target.context !== undefined) cpu.restoreContext(target.context);
  kernel.current = target;
  try {
    return look();
  } finally {
    target.context = cpu.saveContext(target.context);
    kernel.gate.goesOn(target.tid);
    machine.activate(task.process.mm.space);
    cpu.restoreContext(task.context);
    kernel.current = task;
  }
}
