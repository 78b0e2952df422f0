import { loadNative, type NativeAddon } from "./native.ts";

/** What ended a run from outside: a signal of the host, or the alarm. */
export type Interruption = { readonly kind: "signal"; readonly signal: number } | { readonly kind: "alarm" };

/**
 * Ends guest runs from outside: SIGINT and SIGTERM while they are caught, and an alarm. They stop the engine in the middle
 * of a block of the guest, where no JavaScript of ours could notice them. One at a time in a process.
 */
export class Interrupts {
  readonly #addon: NativeAddon;
  #reason: Interruption | undefined;

  constructor(addon: NativeAddon = loadNative()) {
    this.#addon = addon;
  }

  /** From now on SIGINT and SIGTERM end runs; a second one ends the process as if nobody caught it. */
  catchSignals(): void {
    this.#addon.catchSignals(true);
  }

  /** Ends runs once that many milliseconds have passed. */
  alarmIn(milliseconds: number): void {
    this.#addon.alarm(milliseconds);
  }

  /** Why runs are to end, undefined while they may go on. The first reason stays. */
  get reason(): Interruption | undefined {
    if (this.#reason === undefined) {
      const signal = this.#addon.takeSignal();
      if (signal !== 0) this.#reason = { kind: "signal", signal };
      else if (this.#addon.alarmed()) this.#reason = { kind: "alarm" };
    }
    return this.#reason;
  }

  /** True when runs are to end; what a run loop looks at between two turns. */
  get aborted(): boolean {
    return this.reason !== undefined;
  }

  /** Puts the signals' default actions back and takes the alarm away. */
  close(): void {
    this.#addon.catchSignals(false);
    this.#addon.alarm(0);
  }
}
