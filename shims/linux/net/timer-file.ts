import { Errno } from "../errno.ts";
import type { TimeSource } from "../signals/timers.ts";
import type { Process } from "../task.ts";
import { O_RDWR, POLLIN, POLLRDNORM } from "../vfs/flags.ts";
import type { Entry } from "../vfs/inode.ts";
import { OpenFile } from "../vfs/open-file.ts";
import { WaitQueue } from "../wait.ts";

/** What a timer is set to, ns: 0 for `value` when it does not run. */
export interface TimerSetting {
  readonly value: number;
  readonly interval: number;
}

/** timerfd_create(2): a timer that is read (fs/timerfd.c). */
export class TimerFile extends OpenFile {
  readonly clock: number;
  /** Who made it; only its kernel's clock counts. */
  readonly process: Process;
  readonly source: TimeSource = { kind: "clock" };
  /** Monotonic time at which it expires next, 0 when it does not run. */
  expires = 0;
  #interval = 0;
  readonly #expired = new WaitQueue();

  constructor(entry: Entry, flags: number, clock: number, process: Process) {
    super(entry, O_RDWR | flags);
    this.clock = clock;
    this.process = process;
  }

  override get readQueue(): WaitQueue {
    return this.#expired;
  }

  get #now(): number {
    return this.process.kernel.clock.now();
  }

  get #timers() {
    return this.process.kernel.signals.state.timers;
  }

  /** Expirations nobody has read. */
  get #ticks(): number {
    const late = this.#now - this.expires;
    if (this.expires === 0 || late < 0) return 0;
    return this.#interval === 0 ? 1 : 1 + Math.floor(late / this.#interval);
  }

  /** @param expires monotonic time, 0 to stop it */
  set(expires: number, interval: number): void {
    this.#timers.disarm(this);
    this.expires = expires;
    this.#interval = interval;
    if (expires !== 0) this.#timers.arm(this);
  }

  get(): TimerSetting {
    if (this.expires === 0) return { value: 0, interval: this.#interval };
    const late = this.#now - this.expires;
    if (late < 0) return { value: -late, interval: this.#interval };
    const value = this.#interval === 0 ? 0 : this.#interval - (late % this.#interval);
    return { value, interval: this.#interval };
  }

  /** The time has come: who waits looks again. A periodic timer goes on when it is read. */
  fire(): void {
    this.#expired.wake();
  }

  read(into: Uint8Array): number {
    if (into.length < 8) return -Errno.EINVAL;
    const ticks = this.#ticks;
    if (ticks === 0) return -Errno.EAGAIN;
    new DataView(into.buffer, into.byteOffset).setBigUint64(0, BigInt(ticks), true);
    this.set(this.#interval === 0 ? 0 : this.expires + ticks * this.#interval, this.#interval);
    return 8;
  }

  write(): number {
    return -Errno.EINVAL;
  }

  /** noop_llseek. */
  override seek(): number {
    return 0;
  }

  override poll(): number {
    return this.#ticks > 0 ? POLLIN | POLLRDNORM : 0;
  }

  protected override closed(): void {
    this.#timers.disarm(this);
  }
}
