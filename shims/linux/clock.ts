/**
 * The guest's time. Virtual time starts at a fixed date, moves a little with every system call and turn, and jumps to the next
 * deadline when every task sleeps, so that a run repeats exactly and `sleep(10)` costs nothing. Host time is the host's.
 *
 * Monotonic time is in ns since the guest booted, as a number: exact for 104 days.
 */
export interface Clock {
  readonly virtual: boolean;
  /** Monotonic time in ns. */
  now(): number;
  /** Whole seconds since 1970 at monotonic time 0, and the rest in ns. */
  readonly bootSec: number;
  readonly bootNsec: number;
  /** A system call took place. */
  tick(): void;
  /** What one counts as CPU time in the kernel, ns. */
  readonly callNs: number;
  /** So many blocks were run, of so many bytes of code. */
  ran(blocks: number, codeBytes: number): void;
  /** Moves forward to `deadline` when it lies ahead; without effect on host time. */
  jump(deadline: number): void;
}

/** What a system call costs in virtual time, ns; near what it costs on real hardware. */
const SYSCALL_NS = 200;
/** What a basic block costs in virtual time, ns. */
const BLOCK_NS = 2;
/** Bytes of code that add 1 ns, so that a block of a cipher, hundreds of instructions, costs what it does on real hardware. */
const BYTES_PER_NS = 16;
/**
 * Time does not pass while a thread that is alone computes, as counting its blocks costs: but for a program that has asked for
 * the time so often. It may measure, and could wait for ever.
 */
export const MEASURES_FROM = 4;
/** The guest has been up for a while: programs that subtract from the uptime must not see negative numbers. */
const UPTIME_NS = 100e9;
/** 2030-01-01T00:00:00Z: behind the dates of the host's files, so that what a guest makes is newer than what it found (make). */
const EPOCH_SEC = 1_893_456_000;

export class VirtualClock implements Clock {
  readonly virtual = true;
  readonly callNs = SYSCALL_NS;
  readonly bootSec: number;
  readonly bootNsec = 0;
  #now = UPTIME_NS;

  /** @param startSec real time of the guest's start, seconds since 1970 */
  constructor(startSec: number = EPOCH_SEC) {
    this.bootSec = startSec - UPTIME_NS / 1e9;
  }

  now(): number {
    return this.#now;
  }

  tick(): void {
    this.#now += SYSCALL_NS;
  }

  ran(blocks: number, codeBytes: number): void {
    this.#now += blocks * BLOCK_NS + Math.floor(codeBytes / BYTES_PER_NS);
  }

  jump(deadline: number): void {
    if (deadline > this.#now) this.#now = deadline;
  }
}

export class HostClock implements Clock {
  readonly virtual = false;
  /** An estimate: the shim's own time would tell of Node. */
  readonly callNs = SYSCALL_NS;
  readonly bootSec: number;
  readonly bootNsec: number;
  readonly #origin: bigint;

  constructor() {
    this.#origin = process.hrtime.bigint() - BigInt(UPTIME_NS);
    const bootMs = Date.now() - UPTIME_NS / 1e6;
    this.bootSec = Math.floor(bootMs / 1000);
    this.bootNsec = Math.floor(bootMs % 1000) * 1_000_000;
  }

  now(): number {
    return Number(process.hrtime.bigint() - this.#origin);
  }

  tick(): void {}
  ran(): void {}
  jump(): void {}
}

/** The coarse clocks, and the processor time that limits count, move once a tick (CONFIG_HZ=250), ns. */
export const TICK_NS = 4_000_000;
/** Low bits of a negative clock id: which CPU clock, and whether of a thread (linux/posix-timers.h). */
export const CPUCLOCK_WHICH = 3;
export const CPUCLOCK_PER_THREAD = 4;
/** A time is a moment, no span. */
export const TIMER_ABSTIME = 1;

export interface Instant {
  sec: number;
  nsec: number;
}

const BILLION = 1_000_000_000;

/** A span of ns as seconds and nanoseconds. */
export function toInstant(ns: number): Instant {
  return { sec: Math.floor(ns / BILLION), nsec: ns % BILLION };
}

/** Real time that belongs to a monotonic time. */
export function realtimeAt(clock: Clock, now: number): Instant {
  const sec = Math.floor(now / BILLION);
  const nsec = (now % BILLION) + clock.bootNsec;
  return nsec >= BILLION ? { sec: clock.bootSec + sec + 1, nsec: nsec - BILLION } : { sec: clock.bootSec + sec, nsec };
}

/** The monotonic time at which real time is `sec`, `nsec`; may be negative. */
export function monotonicOf(clock: Clock, sec: number, nsec: number): number {
  return (sec - clock.bootSec) * BILLION + nsec - clock.bootNsec;
}
