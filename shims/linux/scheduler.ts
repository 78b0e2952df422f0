/**
 * Who runs next. Tasks that can run stand in a queue; a turn's length comes from the run's seed, and with it the interleaving.
 * Tasks that wait are parked here with their deadlines.
 */
import type { RandomStream } from "./random.ts";
import type { Task } from "./task.ts";
import type { Wait } from "./wait.ts";

/** A turn is between one and two of these, in basic blocks. */
const TURN_BLOCKS = 10_000;

export class Scheduler {
  /**
   * Set when the run loop must look up from the current task: it waits, has ended or gives its turn away, or others became
   * able to run. The loop checks this one field after every system call.
   */
  attention = false;
  /** Earliest deadline of a parked task, monotonic ns. May be too early, never too late. */
  nextDeadline = Number.POSITIVE_INFINITY;
  readonly #random: RandomStream;
  #ready: Task[] = [];
  #head = 0;
  readonly #parked = new Set<Task>();
  /** Parked tasks that only the host can wake. */
  #onHost = 0;

  constructor(random: RandomStream) {
    this.#random = random;
  }

  /** Tasks that can run and do not. */
  get readyCount(): number {
    return this.#ready.length - this.#head;
  }

  get parked(): ReadonlySet<Task> {
    return this.#parked;
  }

  get onHost(): number {
    return this.#onHost;
  }

  /** Puts a task at the end of the queue. */
  ready(task: Task): void {
    if (task.queued || task.dead) return;
    task.queued = true;
    this.#ready.push(task);
    this.attention = true;
  }

  next(): Task | undefined {
    while (this.#head < this.#ready.length) {
      const task = this.#ready[this.#head++];
      if (this.#head > 256 && this.#head * 2 > this.#ready.length) {
        this.#ready = this.#ready.slice(this.#head);
        this.#head = 0;
      }
      if (task === undefined) continue;
      task.queued = false;
      if (!task.dead) return task;
    }
    this.#ready.length = 0;
    this.#head = 0;
    return undefined;
  }

  turnLength(): number {
    return TURN_BLOCKS + this.#random.below(TURN_BLOCKS);
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
