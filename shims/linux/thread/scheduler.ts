/**
 * Who runs next, and for how long. Both come from the run's seed alone, and with them the interleaving: any task that can run
 * may be next, and turns are of all lengths, so that seeds differ also where threads do little. Everybody's turn comes with
 * certainty, as every one that can run has the same chance each time. Tasks that wait are parked here with their deadlines.
 */
import type { RandomStream } from "../random.ts";
import type { Task } from "../task.ts";
import type { Wait } from "../wait.ts";

/** Turns, in basic blocks: as many between 64 and 128 as between 128 and 256, and so on. */
const SHORTEST_TURN = 64;
const DOUBLINGS = 9;
/** Longer than most basic blocks. */
const MOST_STEPS = 8;

export class Scheduler {
  /**
   * Set when the run loop must look up from the current task: it waits, has ended or gives its turn away, or others became
   * able to run. The loop checks this one field after every system call.
   */
  attention = false;
  /** Earliest deadline of a parked task, monotonic ns. May be too early, never too late. */
  nextDeadline = Number.POSITIVE_INFINITY;
  readonly #random: RandomStream;
  readonly #ready: Task[] = [];
  readonly #parked = new Set<Task>();
  /** Parked tasks that only the host can wake. */
  #onHost = 0;

  constructor(random: RandomStream) {
    this.#random = random;
  }

  /** Tasks that can run and do not. */
  get readyCount(): number {
    return this.#ready.length;
  }

  get parked(): ReadonlySet<Task> {
    return this.#parked;
  }

  get onHost(): number {
    return this.#onHost;
  }

  /** A task can run. */
  ready(task: Task): void {
    if (task.queued || task.dead) return;
    task.queued = true;
    this.#ready.push(task);
    this.attention = true;
  }

  /**
   * Takes one of those that can run.
   * @param last whose turn has just ended: another one goes before where there is one
   */
  next(last?: Task): Task | undefined {
    const ready = this.#ready;
    for (;;) {
      const count = ready.length;
      if (count === 0) return undefined;
      // A task that goes on stands at the end.
      const others = count > 1 && ready[count - 1] === last ? count - 1 : count;
      const index = others === 1 ? 0 : this.#random.below(others);
      const task = ready[index];
      const end = ready.pop();
      if (end !== undefined && index < count - 1) ready[index] = end;
      if (task === undefined) continue;
      task.queued = false;
      if (!task.dead) return task;
    }
  }

  turnLength(): number {
    const word = this.#random.u32();
    const base = SHORTEST_TURN << (word % DOUBLINGS);
    return base + ((word >>> 8) & (base - 1));
  }

  /** How many instructions a turn that is over goes on for: none for every second one. */
  extraSteps(): number {
    const word = this.#random.u32();
    return word % 2 === 0 ? 0 : 1 + ((word >>> 8) % MOST_STEPS);
  }

  park(task: Task, wait: Wait): void {
    task.wait = wait;
    this.#parked.add(task);
    if (wait.host) this.#onHost++;
    if (wait.deadline !== undefined && wait.deadline < this.nextDeadline) this.nextDeadline = wait.deadline;
    wait.begin(() => this.ready(task));
    this.attention = true;
  }

  /** Ends the task's wait, if it has one, and takes it off its queues. */
  unpark(task: Task): void {
    const { wait } = task;
    if (wait === undefined) return;
    task.wait = undefined;
    this.#parked.delete(task);
    if (wait.host) this.#onHost--;
    wait.end();
  }

  /** Makes tasks whose deadline has come able to run (they then find that it has passed). */
  expire(now: number): void {
    if (now < this.nextDeadline) return;
    let next = Number.POSITIVE_INFINITY;
    for (const task of this.#parked) {
      const deadline = task.wait?.deadline;
      if (deadline === undefined) continue;
      if (deadline <= now) this.ready(task);
      else if (deadline < next) next = deadline;
    }
    this.nextDeadline = next;
  }

  /** Lets tasks that wait for the host look again. */
  pollHost(): void {
    for (const task of this.#parked) if (task.wait?.host) this.ready(task);
  }
}
