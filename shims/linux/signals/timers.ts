/** Interval timers (setitimer) and POSIX timers (timer_create) over the run's clock. */
import type { Clock } from "../clock.ts";
import { TICK_NS } from "../clock.ts";
import { Resource } from "../process/limits.ts";
import type { UserCounts } from "../process/user-counts.ts";
import type { Process, Task } from "../task.ts";
import { SiCode, Signal } from "./numbers.ts";
import type { QueuedTimer } from "./pending.ts";
import { sendToProcess, sendToTask } from "./send.ts";
import { SigInfo } from "./siginfo.ts";

/** What a timer counts: monotonic time, or CPU time of a process or a thread. */
export type TimeSource =
  | { readonly kind: "clock" }
  | { readonly kind: "process" }
  | { readonly kind: "thread"; readonly task: Task };

/** Something that is due at a time. */
export interface Armed {
  readonly process: Process;
  readonly source: TimeSource;
  /** Time of the timer's own source at which it expires, ns. */
  readonly expires: number;
  fire(now: number): void;
}

function sourceTime(armed: Pick<Armed, "process" | "source">, clock: Clock): number {
  switch (armed.source.kind) {
    case "clock":
      return clock.now();
    case "process":
      return armed.process.usedCpu;
    case "thread":
      return armed.source.task.usedCpu;
  }
}

const ANY = Number.POSITIVE_INFINITY;

/** All timers of a run that are running. */
export class TimerList {
  readonly #clockTimers = new Set<Armed>();
  readonly #cpuTimers = new Set<Armed>();
  #next = Number.POSITIVE_INFINITY;

  arm(timer: Armed): void {
    if (timer.source.kind === "clock") {
      this.#clockTimers.add(timer);
      this.#next = Math.min(this.#next, timer.expires);
    } else this.#cpuTimers.add(timer);
    // The run loop may be in a turn without an end.
    timer.process.kernel.scheduler.attention = true;
  }

  disarm(timer: Armed): void {
    this.#cpuTimers.delete(timer);
    if (this.#clockTimers.delete(timer) && timer.expires <= this.#next) this.#recompute();
  }

  isArmed(timer: Armed): boolean {
    return this.#clockTimers.has(timer) || this.#cpuTimers.has(timer);
  }

  /** The earliest monotonic time at which something may be due; CPU timers count while their process can run. */
  get next(): number {
    let next = this.#next;
    for (const timer of this.#cpuTimers) {
      const { kernel, tasks } = timer.process;
      for (const task of tasks) {
        if (task.wait !== undefined) continue;
        const due = kernel.clock.now() + Math.max(timer.expires - sourceTime(timer, kernel.clock), 0);
        next = Math.min(next, due);
        break;
      }
    }
    return next;
  }

  run(now: number): void {
    const due: Armed[] = [];
    if (now >= this.#next) for (const timer of this.#clockTimers) if (timer.expires <= now) due.push(timer);
    for (const timer of this.#cpuTimers) {
      if (timer.expires <= sourceTime(timer, timer.process.kernel.clock)) due.push(timer);
    }
    due.sort((a, b) => a.expires - b.expires);
    for (const timer of due) this.disarm(timer);
    for (const timer of due) timer.fire(now);
  }

  #recompute(): void {
    let next = Number.POSITIVE_INFINITY;
    for (const timer of this.#clockTimers) next = Math.min(next, timer.expires);
    this.#next = next;
  }
}

/** A timer's setting, in ns of its source: 0 for `value` when it does not run. */
export interface Setting {
  readonly value: number;
  readonly interval: number;
}

/** setitimer's rule: what runs but is overdue still has a microsecond. */
const OVERDUE_ITIMER = 1000;

/** One of a process's three interval timers. */
export class IntervalTimer implements Armed {
  readonly process: Process;
  readonly source: TimeSource;
  readonly #signal: number;
  expires = 0;
  #interval = 0;

  constructor(process: Process, source: TimeSource, signal: number) {
    this.process = process;
    this.source = source;
    this.#signal = signal;
  }

  get(): Setting {
    const { state } = this.process.kernel.signals;
    if (!state.timers.isArmed(this)) return { value: 0, interval: this.#interval };
    const left = this.expires - sourceTime(this, this.process.kernel.clock);
    return { value: left > 0 ? left : OVERDUE_ITIMER, interval: this.#interval };
  }

  set(setting: Setting): void {
    const { timers } = this.process.kernel.signals.state;
    timers.disarm(this);
    this.#interval = setting.interval;
    if (setting.value === 0) {
      // ITIMER_REAL forgets the interval then.
      if (this.source.kind === "clock") this.#interval = 0;
      return;
    }
    this.expires = sourceTime(this, this.process.kernel.clock) + setting.value;
    timers.arm(this);
  }

  fire(): void {
    if (this.process.ended) return;
    sendToProcess(this.process, SigInfo.sent(this.#signal, SiCode.SI_KERNEL, 0, 0));
    // CPU timers go on by themselves; ITIMER_REAL when its signal is taken.
    if (this.source.kind !== "clock") this.#next();
  }

  /** SIGALRM is being delivered: an interval timer starts anew (posixtimer_rearm_itimer). */
  taken(): void {
    if (!this.process.kernel.signals.state.timers.isArmed(this)) this.#next();
  }

  #next(): void {
    if (this.#interval === 0 || this.expires === 0) return;
    const now = sourceTime(this, this.process.kernel.clock);
    const missed = Math.max(0, Math.floor((now - this.expires) / this.#interval));
    this.expires += (missed + 1) * this.#interval;
    this.process.kernel.signals.state.timers.arm(this);
  }
}

/** RLIMIT_CPU: SIGXCPU once a second from the soft limit on, which rises with it, and SIGKILL at the hard one. */
export class CpuLimit implements Armed {
  readonly process: Process;
  readonly source = { kind: "process" } as const;
  expires = 0;

  constructor(process: Process) {
    this.process = process;
  }

  /** Looks at the limit as it is now. */
  update(): void {
    const { timers } = this.process.kernel.signals.state;
    timers.disarm(this);
    const limit = this.process.limits.get(Resource.RLIMIT_CPU);
    const seconds = Math.min(limit?.soft ?? ANY, limit?.hard ?? ANY);
    if (seconds === ANY || this.process.ended) return;
    // Linux looks at it with every tick.
    this.expires = Math.max(Math.max(1, seconds) * 1e9, this.process.usedCpu + TICK_NS);
    timers.arm(this);
  }

  fire(): void {
    const { process } = this;
    const limit = process.limits.get(Resource.RLIMIT_CPU);
    if (limit === undefined || process.ended) return;
    const used = process.usedCpu / 1e9;
    if (used >= Math.max(1, limit.hard)) {
      sendToProcess(process, SigInfo.sent(Signal.SIGKILL, SiCode.SI_KERNEL, 0, 0));
      return;
    }
    limit.soft = Math.floor(used) + 1;
    sendToProcess(process, SigInfo.sent(Signal.SIGXCPU, SiCode.SI_KERNEL, 0, 0));
    this.update();
  }
}

/** What happens when a POSIX timer expires. */
export interface Notification {
  readonly kind: "signal" | "none";
  readonly signal: number;
  /** sigev_value; undefined for the timer's number. */
  readonly value: bigint | undefined;
  /** SIGEV_THREAD_ID. */
  readonly task: Task | undefined;
}

const DELAYTIMER_MAX = 2 ** 31 - 1;

export class PosixTimer implements Armed, QueuedTimer {
  readonly process: Process;
  readonly source: TimeSource;
  readonly id: number;
  readonly notify: Notification;
  /** CLOCK_* number it was made with. */
  readonly clock: number;
  expires = 0;
  interval = 0;
  /** Expirations beyond the one whose signal was delivered last. */
  overrun = 0;
  readonly #user: number;
  /** Its signal is queued; the timer goes on when it is taken. */
  #queued = false;
  #deleted = false;

  constructor(process: Process, id: number, source: TimeSource, notify: Notification, clock: number) {
    this.process = process;
    this.id = id;
    this.source = source;
    this.notify = notify;
    this.clock = clock;
    this.#user = process.cred.ruid;
    this.#counts.change(this.#user, 1);
  }

  /** RLIMIT_SIGPENDING is for timers, too: each has the room that its signal needs (alloc_posix_timer). */
  get #counts(): UserCounts {
    return this.process.kernel.signals.state.counts;
  }

  get #list(): TimerList {
    return this.process.kernel.signals.state.timers;
  }

  /** The time its source shows. */
  now(): number {
    return sourceTime(this, this.process.kernel.clock);
  }

  get(): Setting {
    const { interval } = this;
    const running = this.#list.isArmed(this) || (this.expires !== 0 && interval !== 0);
    if (!running) return { value: 0, interval };
    const now = this.now();
    let { expires } = this;
    if (interval !== 0 && expires <= now) expires += (Math.floor((now - expires) / interval) + 1) * interval;
    if (expires > now) return { value: expires - now, interval };
    return { value: this.notify.kind === "none" ? 0 : 1, interval };
  }

  /** @param expires time of its source, 0 to stop it */
  set(expires: number, interval: number): void {
    this.#list.disarm(this);
    this.#unqueue();
    this.interval = expires === 0 ? 0 : interval;
    this.expires = expires;
    this.overrun = 0;
    // Without a notification nothing happens when it expires.
    if (expires !== 0 && this.notify.kind !== "none") this.#list.arm(this);
  }

  remove(): void {
    if (this.#deleted) return;
    this.#deleted = true;
    this.#counts.change(this.#user, -1);
    this.#list.disarm(this);
    this.#unqueue();
  }

  fire(): void {
    const { process, notify } = this;
    if (process.ended || this.#deleted) return;
    const info = SigInfo.sent(notify.signal, SiCode.SI_TIMER, this.id, 0);
    info.value = notify.value ?? BigInt(this.id);
    this.#queued = true;
    const { task } = notify;
    if (task === undefined) sendToProcess(process, info, this);
    else if (!task.dead) sendToTask(task, info, this);
  }

  delivered(): number {
    this.#queued = false;
    this.overrun = 0;
    if (this.interval === 0 || this.#deleted) return 0;
    const missed = Math.max(0, Math.floor((this.now() - this.expires) / this.interval));
    this.overrun = Math.min(missed, DELAYTIMER_MAX);
    this.expires += (missed + 1) * this.interval;
    this.#list.arm(this);
    return this.overrun;
  }

  flushed(): void {
    this.#queued = false;
  }

  #unqueue(): void {
    if (!this.#queued) return;
    const { counts } = this.process.kernel.signals.state;
    this.process.signals.pending.forget(counts, this);
    this.notify.task?.signals.pending.forget(counts, this);
  }
}

/** The timers of a process. Made when the first one is asked for, as few programs have any. */
export class ProcessTimers {
  real: IntervalTimer | undefined;
  virtual: IntervalTimer | undefined;
  profile: IntervalTimer | undefined;
  /** Where RLIMIT_CPU was ever set. */
  cpuLimit: CpuLimit | undefined;
  readonly posix = new Map<number, PosixTimer>();
  #lastId = -1;

  /** @param which ITIMER_REAL 0, ITIMER_VIRTUAL 1, ITIMER_PROF 2 */
  interval(process: Process, which: 0 | 1 | 2): IntervalTimer {
    switch (which) {
      case 0:
        this.real ??= new IntervalTimer(process, { kind: "clock" }, Signal.SIGALRM);
        return this.real;
      case 1:
        this.virtual ??= new IntervalTimer(process, { kind: "process" }, Signal.SIGVTALRM);
        return this.virtual;
      case 2:
        this.profile ??= new IntervalTimer(process, { kind: "process" }, Signal.SIGPROF);
        return this.profile;
    }
  }

  /** RLIMIT_CPU may be another than before. */
  limitCpu(process: Process): void {
    this.cpuLimit ??= new CpuLimit(process);
    this.cpuLimit.update();
  }

  /** The next free number for timer_create. */
  newId(): number {
    do this.#lastId = (this.#lastId + 1) % (DELAYTIMER_MAX + 1);
    while (this.posix.has(this.#lastId));
    return this.#lastId;
  }

  /** execve deletes the POSIX timers and keeps the others (timer_create(2), setitimer(2)). */
  execed(): void {
    for (const timer of this.posix.values()) timer.remove();
    this.posix.clear();
  }

  /** The process has ended. */
  stop(): void {
    this.execed();
    for (const timer of [this.real, this.virtual, this.profile]) timer?.set({ value: 0, interval: 0 });
    this.cpuLimit?.update();
  }
}
