/** Signals that were sent and not yet taken: of one thread, or of a process. */
import type { UserCounts } from "../process/user-counts.ts";
import type { SigInfo } from "./siginfo.ts";
import { SignalSet } from "./signal-set.ts";

/** A timer whose expiry is in the queue; it learns when the signal is taken or thrown away. */
export interface QueuedTimer {
  /** The signal is being delivered: re-arms, and answers the number of further expirations meanwhile (si_overrun). */
  delivered(): number;
  flushed(): void;
}

interface Queued {
  readonly info: SigInfo;
  readonly timer: QueuedTimer | undefined;
  /** Counts against RLIMIT_SIGPENDING of this user, but for a timer's, which counts with the timer. */
  readonly uid: number;
  readonly order: number;
}

export class PendingSignals {
  readonly set = new SignalSet();
  /** By signal, each in the order of sending. */
  readonly #queues: Queued[][] = [];
  #sent = 0;

  /** Queues information about a signal. */
  push(counts: UserCounts, uid: number, info: SigInfo, timer?: QueuedTimer): void {
    const queued = { info, timer, uid, order: this.#sent++ };
    const queue = this.#queues[info.signal];
    if (queue === undefined) this.#queues[info.signal] = [queued];
    else queue.push(queued);
    this.set.add(info.signal);
    if (timer === undefined) counts.change(uid, 1);
  }

  /** What was queued first for a signal; undefined when nothing was. */
  first(signal: number): SigInfo | undefined {
    return this.#queues[signal]?.[0]?.info;
  }

  /** Information of up to `count` queued signals, but for the first `from`. */
  infos(from: number, count: number): SigInfo[] {
    const all = this.#queues.flat().sort((a, b) => a.order - b.order);
    return all.slice(from, from + count).map(({ info }) => info);
  }

  /**
   * Takes the first queued `signal`. Undefined when nothing was queued for it (no room was left): its information is lost.
   */
  take(counts: UserCounts, signal: number): Queued | undefined {
    const queue = this.#queues[signal];
    const taken = queue?.shift();
    if (queue === undefined || queue.length === 0) this.set.delete(signal);
    if (taken !== undefined && taken.timer === undefined) counts.change(taken.uid, -1);
    return taken;
  }

  /** Throws away all signals of a set. */
  flush(counts: UserCounts, signals: SignalSet): void {
    if (this.set.intersection(signals).isEmpty) return;
    for (const [signal, queue] of this.#queues.entries())
      if (queue !== undefined && signals.has(signal)) for (const queued of queue.splice(0)) discard(counts, queued);
    this.set.lo &= ~signals.lo;
    this.set.hi &= ~signals.hi;
  }

  /** Throws away what a deleted timer queued. */
  forget(counts: UserCounts, timer: QueuedTimer): void {
    for (const [signal, queue] of this.#queues.entries()) {
      const kept = queue?.filter((queued) => queued.timer !== timer);
      if (kept === undefined || kept.length === queue.length) continue;
      for (const queued of queue) if (queued.timer === timer) discard(counts, queued);
      this.#queues[signal] = kept;
      if (kept.length === 0) this.set.delete(signal);
    }
  }

  clear(counts: UserCounts): void {
    this.flush(counts, new SignalSet(-1, -1));
  }
}

function discard(counts: UserCounts, { timer, uid }: Queued): void {
  if (timer === undefined) counts.change(uid, -1);
  else timer.flushed();
}
