/** Signals that were sent and not yet taken: of one thread, or of a process. */
import type { UserCounts } from "../user-counts.ts";
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
}

export class PendingSignals {
  readonly set = new SignalSet();
  #queue: Queued[] = [];

  /** Queues information about a signal. */
  push(counts: UserCounts, uid: number, info: SigInfo, timer?: QueuedTimer): void {
    this.#queue.push({ info, timer, uid });
    this.set.add(info.signal);
    if (timer === undefined) counts.change(uid, 1);
  }

  /** What was queued first for a signal; undefined when nothing was. */
  first(signal: number): SigInfo | undefined {
    return this.#queue.find((queued) => queued.info.signal === signal)?.info;
  }

  /** Information of up to `count` queued signals, but for the first `from`. */
  infos(from: number, count: number): SigInfo[] {
    return this.#queue.slice(from, from + count).map(({ info }) => info);
  }

  /**
   * Takes the first queued `signal`. Undefined when nothing was queued for it (no room was left): its information is lost.
   */
  take(counts: UserCounts, signal: number): Queued | undefined {
    const index = this.#queue.findIndex((queued) => queued.info.signal === signal);
    if (index < 0) {
      this.set.delete(signal);
      return undefined;
    }
    const [taken] = this.#queue.splice(index, 1);
    if (!this.#queue.some((queued) => queued.info.signal === signal)) this.set.delete(signal);
    if (taken !== undefined && taken.timer === undefined) counts.change(taken.uid, -1);
    return taken;
  }

  /** Throws away all signals of a set. */
  flush(counts: UserCounts, signals: SignalSet): void {
    if (this.set.intersection(signals).isEmpty) return;
    this.#drop(counts, (queued) => signals.has(queued.info.signal));
    this.set.lo &= ~signals.lo;
    this.set.hi &= ~signals.hi;
  }

  /** Throws away what a deleted timer queued. */
  forget(counts: UserCounts, timer: QueuedTimer): void {
    const queued = this.#queue.find((one) => one.timer === timer);
    if (queued === undefined) return;
    this.#drop(counts, (one) => one.timer === timer);
    const { signal } = queued.info;
    if (!this.#queue.some((one) => one.info.signal === signal)) this.set.delete(signal);
  }

  clear(counts: UserCounts): void {
    this.flush(counts, new SignalSet(-1, -1));
  }

  #drop(counts: UserCounts, which: (queued: Queued) => boolean): void {
    const kept: Queued[] = [];
    for (const queued of this.#queue) {
      if (!which(queued)) kept.push(queued);
      else {
        if (queued.timer === undefined) counts.change(queued.uid, -1);
        else queued.timer.flushed();
      }
    }
    this.#queue = kept;
  }
}
