/** Stops guest code that does not come back. Wall-clock time never decides what a TA sees, only that a run ends. */
import { loadNative, type NativeAddon } from "../../emulator/native.ts";

/** How long code may run before somebody looks whether it still gets anywhere. */
const LOOK_MS = 250;

/** A signal (Ctrl-C, SIGTERM) ended the run. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  readonly signal: number;

  constructor(signal: number) {
    super(`ended by signal ${signal}`);
    this.signal = signal;
  }
}

export class Watchdog {
  readonly #native: NativeAddon = loadNative();
  readonly #timeoutMs: number;
  #deadline = Number.POSITIVE_INFINITY;
  readonly #catches: boolean;
  #armed = false;

  /**
   * @param timeoutMs for each entry into a TA, Infinity for none
   * @param catchSignals whether SIGINT and SIGTERM are to end runs
   */
  constructor(timeoutMs: number, catchSignals: boolean) {
    this.#timeoutMs = timeoutMs;
    this.#catches = catchSignals;
    if (catchSignals) this.#native.catchSignals(true);
  }

  /** An entry from the normal world begins. */
  begin(): void {
    if (this.#timeoutMs !== Number.POSITIVE_INFINITY) this.#deadline = performance.now() + this.#timeoutMs;
    if (this.#armed) return;
    this.#native.alarm(LOOK_MS);
    this.#armed = true;
  }

  /**
   * To be called when a run was interrupted. True when the time is up.
   * @throws Interrupted for a signal
   */
  look(): boolean {
    const signal = this.#native.takeSignal();
    if (signal !== 0) throw new Interrupted(signal);
    if (this.#native.alarmed()) this.#native.alarm(LOOK_MS);
    return performance.now() >= this.#deadline;
  }

  close(): void {
    if (this.#armed) this.#native.alarm(0);
    this.#armed = false;
    if (this.#catches) this.#native.catchSignals(false);
  }
}
