/** The TEE's time. Virtual time moves with calls and jumps over waits, so that a run repeats and a wait costs nothing. */
export interface TeeTime {
  seconds: number;
  millis: number;
}

export interface TeeClock {
  /** Milliseconds since the TEE started. */
  now(): number;
  /** Milliseconds since 1970: the normal world's time. */
  ree(): number;
  /** A call took place. */
  tick(): void;
  /** Lets that many milliseconds pass. */
  wait(milliseconds: number): void;
}

const CALL_MS = 0.001;
/** The TEE has been up for a while. */
const UPTIME_MS = 100_000;
/** 2025-01-01T00:00:00Z. */
const EPOCH_MS = 1_735_689_600_000;

export class VirtualTeeClock implements TeeClock {
  #now = UPTIME_MS;

  now(): number {
    return this.#now;
  }
  ree(): number {
    return EPOCH_MS + this.#now - UPTIME_MS;
  }
  tick(): void {
    this.#now += CALL_MS;
  }
  wait(milliseconds: number): void {
    this.#now += milliseconds;
  }
}

export class HostTeeClock implements TeeClock {
  readonly #start = performance.now();

  now(): number {
    return performance.now() - this.#start;
  }
  ree(): number {
    return Date.now();
  }
  tick(): void {}
  wait(milliseconds: number): void {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
  }
}

export function toTeeTime(milliseconds: number): TeeTime {
  const whole = Math.floor(milliseconds);
  return { seconds: Math.floor(whole / 1000) >>> 0, millis: whole % 1000 };
}
