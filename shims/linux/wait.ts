/**
 * Blocking. A handler that cannot answer yet returns a `Wait`; the run loop parks the task on the wait's queues and asks
 * `attempt()` again each time one of them is woken, until it gives a result, the deadline passes, or a signal interrupts.
 */
import { Errno } from "./errno.ts";

/** Who is told of a queue's wakes and waits in no call: a file in an epoll. */
export interface Listener {
  readonly woken: () => void;
  /** Of several that have it, one alone is told: the first for which it answers that it has use for the wake. */
  readonly exclusive?: (() => boolean) | undefined;
}

/** Something tasks wait for: data in a pipe, a child's exit, a futex word. Wakes in the order of arrival. */
export class WaitQueue {
  readonly #waits = new Set<Wait>();
  #listeners: Listener[] | undefined;

  get isAwaited(): boolean {
    return this.#waits.size > 0;
  }

  /** Lets all waits try again, when the listeners have been told. */
  wake(): void {
    if (this.#listeners !== undefined) tell(this.#listeners);
    for (const wait of this.#waits) wait.notify();
  }

  /** For `Wait` only: a wait is on its queues from `begin` to `end`. */
  add(wait: Wait): void {
    this.#waits.add(wait);
  }

  remove(wait: Wait): void {
    this.#waits.delete(wait);
  }

  listen(listener: Listener): void {
    this.#listeners = [...(this.#listeners ?? []), listener];
  }

  unlisten(listener: Listener): void {
    const left = this.#listeners?.filter((other) => other !== listener);
    this.#listeners = left?.length ? left : undefined;
  }
}

/** The newest first, the exclusive ones behind them and the oldest first: their places in the kernel's list (add_wait_queue, add_wait_queue_exclusive). */
function tell(listeners: readonly Listener[]): void {
  for (let i = listeners.length - 1; i >= 0; i--) {
    const listener = listeners[i];
    if (listener !== undefined && listener.exclusive === undefined) listener.woken();
  }
  for (const { exclusive, woken } of listeners) {
    if (exclusive === undefined) continue;
    const taken = exclusive();
    woken();
    if (taken) return;
  }
}

export interface WaitOptions {
  readonly queues: readonly WaitQueue[];
  /** The call's result, or undefined while it must go on waiting. May write guest memory; the task's space is active. */
  readonly attempt: () => number | undefined;
  /** Virtual monotonic time in ns at which `timeout` answers instead. */
  readonly deadline?: number | undefined;
  /** The result when the deadline has passed; 0 when omitted. */
  readonly timeout?: () => number;
  /**
   * The result when a signal interrupts; -ERESTARTSYS when omitted, which the signal code turns into a restart or EINTR.
   * Undefined where this signal does not end the wait.
   */
  readonly interrupted?: () => number | undefined;
  /** Something outside the run (a terminal, a host pipe) may wake it: the run is not deadlocked while it waits. */
  readonly host?: boolean;
  /** Not a call's wait but a stopped process's: `attempt` says when it goes on, no signal interrupts it, and no result is written. */
  readonly pause?: boolean;
  /** Of a pause: what to do when it is over, with the task in the CPU; signals are delivered when omitted. */
  readonly goOn?: () => void;
  /** Called once when the wait is over for whatever reason: to leave a list, to release a host handle. */
  readonly cleanup?: () => void;
}

/** What a handler answers that has to block. A task has at most one at a time. */
export class Wait {
  readonly queues: readonly WaitQueue[];
  readonly attempt: () => number | undefined;
  readonly deadline: number | undefined;
  readonly host: boolean;
  readonly pause: boolean;
  readonly goOn: (() => void) | undefined;
  readonly #timeout: (() => number) | undefined;
  readonly #interrupted: (() => number | undefined) | undefined;
  readonly #cleanup: (() => void) | undefined;
  #wakened: (() => void) | undefined;

  constructor(options: WaitOptions) {
    this.queues = options.queues;
    this.attempt = options.attempt;
    this.deadline = options.deadline;
    this.host = options.host ?? false;
    this.pause = options.pause ?? false;
    this.goOn = options.goOn;
    this.#timeout = options.timeout;
    this.#interrupted = options.interrupted;
    this.#cleanup = options.cleanup;
  }

  timeout(): number {
    return this.#timeout === undefined ? 0 : this.#timeout();
  }

  interrupted(): number | undefined {
    return this.#interrupted === undefined ? -Errno.ERESTARTSYS : this.#interrupted();
  }

  /** The run loop parks the task; `wakened` makes it runnable again. */
  begin(wakened: () => void): void {
    this.#wakened = wakened;
    for (const queue of this.queues) queue.add(this);
  }

  end(): void {
    this.#wakened = undefined;
    for (const queue of this.queues) queue.remove(this);
    this.#cleanup?.();
  }

  notify(): void {
    this.#wakened?.();
  }
}
