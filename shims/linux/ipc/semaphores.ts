/** System V semaphores (ipc/sem.c). */
import { Errno } from "../errno.ts";
import type { Settings } from "../settings.ts";
import type { Process } from "../task.ts";
import { WaitQueue } from "../wait.ts";
import { IPC_NOWAIT, type IpcMaking, IpcObject, IpcTable } from "./table.ts";

export const SEMMNI = 32_000;
export const SEMMSL = 32_000;
export const SEMOPM = 500;
export const SEMVMX = 32_767;
const SEM_UNDO = 0x1000;

/** `struct sembuf`. */
export interface SemOperation {
  readonly number: number;
  readonly change: number;
  readonly flags: number;
}

/** Somebody waits in semop; `blocker` is the operation that cannot be done, until others have made it so and `result` is there. */
export interface SemWaiter {
  readonly process: Process;
  readonly operations: readonly SemOperation[];
  blocker: SemOperation;
  result: number | undefined;
}

const alters = ({ operations }: SemWaiter): boolean => operations.some(({ change }) => change !== 0);

export class SemaphoreSet extends IpcObject {
  readonly values: Uint16Array;
  /** Who changed each last. */
  readonly pids: Int32Array;
  readonly waiters = new Set<SemWaiter>();
  readonly changed = new WaitQueue();
  operationTime = 0;

  constructor(making: IpcMaking, count: number) {
    super(making);
    this.values = new Uint16Array(count);
    this.pids = new Int32Array(count);
  }

  /** GETNCNT and GETZCNT: who waits for the semaphore to rise, or to become 0. */
  waiting(number: number, forZero: boolean): number {
    let count = 0;
    for (const { blocker, result } of this.waiters) {
      if (result === undefined && blocker.number === number && (blocker.change === 0) === forZero) count++;
    }
    return count;
  }
}

export class Semaphores {
  readonly table: IpcTable<SemaphoreSet>;
  /** What SEM_UNDO will add to each semaphore when a process ends. */
  readonly #undo = new Map<Process, Map<SemaphoreSet, Int32Array>>();

  constructor(settings: Settings) {
    this.table = new IpcTable(settings, () => SEMMNI, "kernel.sem_next_id");
  }

  #adjustments(process: Process, set: SemaphoreSet): Int32Array {
    let sets = this.#undo.get(process);
    if (sets === undefined) {
      sets = new Map();
      this.#undo.set(process, sets);
    }
    let adjustments = sets.get(set);
    if (adjustments === undefined) {
      adjustments = new Int32Array(set.values.length);
      sets.set(set, adjustments);
    }
    return adjustments;
  }

  /**
   * All operations or none (perform_atomic_semop).
   * @returns 0, a negative errno, or the operation that must wait
   */
  perform(
    process: Process,
    set: SemaphoreSet,
    operations: readonly SemOperation[],
    now: number,
  ): number | SemOperation {
    const before = set.values.slice();
    const undone: (readonly [number, number])[] = [];
    const adjustments = operations.some(({ flags }) => flags & SEM_UNDO) ? this.#adjustments(process, set) : undefined;
    const revert = <T>(result: T): T => {
      set.values.set(before);
      for (const [number, change] of undone) if (adjustments) adjustments[number] = (adjustments[number] ?? 0) + change;
      return result;
    };
    for (const operation of operations) {
      const { number, change, flags } = operation;
      const value = set.values[number] ?? 0;
      const result = value + change;
      if (result < 0 || (change === 0 && value !== 0)) {
        return revert(flags & IPC_NOWAIT ? -Errno.EAGAIN : operation);
      }
      if (result > SEMVMX) return revert(-Errno.ERANGE);
      if (flags & SEM_UNDO && adjustments !== undefined) {
        const adjusted = (adjustments[number] ?? 0) - change;
        if (adjusted < -SEMVMX - 1 || adjusted > SEMVMX) return revert(-Errno.ERANGE);
        adjustments[number] = adjusted;
        undone.push([number, change]);
      }
      set.values[number] = result;
    }
    for (const { number } of operations) set.pids[number] = process.pid;
    set.operationTime = now;
    return 0;
  }

  /**
   * After a change: what waits and is possible now is done here, in the order of its coming, and not when those who wait run again,
   * by which time the set may be gone (do_smart_update).
   */
  settle(set: SemaphoreSet, now: number): void {
    const attempt = (waiter: SemWaiter): boolean => {
      const result = this.perform(waiter.process, set, waiter.operations, now);
      if (typeof result === "number") waiter.result = result;
      else waiter.blocker = result;
      return result === 0;
    };
    const waiting = (altering: boolean) => {
      return [...set.waiters].filter((waiter) => waiter.result === undefined && alters(waiter) === altering);
    };
    do {
      for (const waiter of waiting(false)) attempt(waiter);
    } while (waiting(true).some(attempt));
    set.changed.wake();
  }

  /** SETVAL and SETALL forget what was to be undone. */
  forgetUndo(set: SemaphoreSet, number?: number): void {
    for (const sets of this.#undo.values()) {
      const adjustments = sets.get(set);
      if (number === undefined) adjustments?.fill(0);
      else if (adjustments !== undefined) adjustments[number] = 0;
    }
  }

  remove(set: SemaphoreSet): void {
    this.table.remove(set);
    for (const sets of this.#undo.values()) sets.delete(set);
    set.changed.wake();
  }

  /** A process ends: its changes with SEM_UNDO are undone as far as values allow (exit_sem). */
  ended(process: Process, now: number): void {
    const sets = this.#undo.get(process);
    this.#undo.delete(process);
    for (const [set, adjustments] of sets ?? []) {
      for (const [number, adjustment] of adjustments.entries()) {
        if (adjustment === 0) continue;
        set.values[number] = Math.min(Math.max((set.values[number] ?? 0) + adjustment, 0), SEMVMX);
        set.pids[number] = process.pid;
      }
      set.operationTime = now;
      this.settle(set, now);
    }
  }
}
