import type { InjectEvent, InjectRule } from "./inject-rule.ts";
import type { InjectorWorld } from "./injector.ts";
import type { LeaveReason, Lifecycle } from "./lifecycle.ts";
import type { PlatformCpu } from "./platform.ts";
import { returnBySysret, sysretLoses } from "./sysret.ts";
import { canaryOf, canaryOffset, hasCanary } from "./tls-block.ts";

/** Faults that need more than a thread with TLS: a canary, registers that would be lost. */
export const needyFaults = ["canary", "sysret"] as const;
export type NeedyFault = (typeof needyFaults)[number];

const NOTHING: ReadonlySet<NeedyFault> = new Set();

/** Where the faults come from. */
export interface FaultSource {
  /** The fault that an event of this kind brings, if any; `strikable` names faults that need something to strike at, where it is there. */
  fault(event: InjectEvent, strikable: ReadonlySet<NeedyFault>): InjectRule["fault"] | undefined;
  /** A base that another thread's request left for this one; taken by asking. */
  strayBase(thread: number): bigint | undefined;
  /** The thread's guest code has run since its last request. */
  left(thread: number): void;
  started(thread: number, parent: number | undefined): void;
}

const PAGE = 4096n;

/** A life cycle that disturbs the way into the guest after certain events, for threads that have TLS. */
export class InjectingLifecycle implements Lifecycle {
  readonly #inner: Lifecycle | undefined;
  readonly #cpu: PlatformCpu;
  readonly #world: InjectorWorld;
  readonly #source: FaultSource;
  /** What has happened to each thread since it was in the guest. */
  readonly #pending = new Map<number, InjectEvent[]>();
  #inside: number | undefined;

  constructor(inner: Lifecycle | undefined, cpu: PlatformCpu, world: InjectorWorld, source: FaultSource) {
    this.#inner = inner;
    this.#cpu = cpu;
    this.#world = world;
    this.#source = source;
  }

  enterGuest(thread: number): void {
    if (this.#inside === thread) {
      this.#inner?.enterGuest(thread);
      return;
    }
    const { privileged } = this.#cpu;
    const { fsBase, gsBase, kernelGsBase } = privileged;
    const gs = this.#cpu.selector("gs");
    this.#inner?.enterGuest(thread);
    this.#inside = thread;
    for (const event of this.#pending.get(thread) ?? []) {
      const fault = this.#faultOf(thread, event);
      if (fault === "skip-restore") {
        if (!this.#world.wide(thread)) privileged.loadSelector("gs", gs);
        privileged.fsBase = fsBase;
        privileged.gsBase = gsBase;
        privileged.kernelGsBase = kernelGsBase;
      } else if (fault !== undefined) this.#strike(thread, fault);
    }
    this.#pending.delete(thread);
    const stray = this.#source.strayBase(thread);
    if (stray !== undefined) privileged.fsBase = stray;
  }

  /** A thread without TLS has nothing that a fault could strike, so its events do not count. */
  #faultOf(thread: number, event: InjectEvent): InjectRule["fault"] | undefined {
    const { fsBase, gsBase } = this.#cpu.privileged;
    const wide = this.#world.wide(thread);
    const base = wide ? fsBase : gsBase;
    if (base === 0n) return undefined;
    const strikable = new Set<NeedyFault>();
    if (hasCanary(this.#world, thread, base, wide) && canaryOf(this.#world, thread, base, wide) !== 0n)
      strikable.add("canary");
    if (wide && sysretLoses(this.#cpu)) strikable.add("sysret");
    return this.#source.fault(event, strikable);
  }

  #strike(thread: number, fault: InjectRule["fault"]): void {
    const { privileged } = this.#cpu;
    const wide = this.#world.wide(thread);
    const { fsBase, gsBase } = privileged;
    switch (fault) {
      case "lose-base":
        if (wide) privileged.fsBase = 0n;
        else privileged.loadSelector("gs", 0);
        break;
      case "stale-base":
        if (wide) privileged.fsBase = fsBase + PAGE;
        else privileged.gsBase = gsBase + PAGE;
        break;
      case "swap":
        privileged.fsBase = gsBase;
        privileged.gsBase = fsBase;
        break;
      case "canary":
        if (wide) this.#world.poke(thread, fsBase + canaryOffset.wide, 0x4141414141414141n, 8);
        else this.#world.poke(thread, gsBase + canaryOffset.narrow, 0x41414141n, 4);
        break;
      case "sysret":
        returnBySysret(this.#cpu);
        break;
      default:
    }
  }

  leaveGuest(thread: number, reason: LeaveReason): void {
    this.#inner?.leaveGuest(thread, reason);
    if (this.#inside === thread) this.#source.left(thread);
    this.#inside = undefined;
    this.#happens(thread, reason);
  }

  #happens(thread: number, event: InjectEvent): void {
    const events = this.#pending.get(thread);
    if (events === undefined) this.#pending.set(thread, [event]);
    else events.push(event);
  }

  rescheduled(thread: number): void {
    this.#inner?.rescheduled(thread);
    const fault = this.#faultOf(thread, "reschedule");
    if (fault !== undefined) this.#strike(thread, fault);
  }

  retries(thread: number, vector: number): boolean {
    if (this.#inner?.retries(thread, vector) !== true) return false;
    return this.#source.fault("repair", NOTHING) === undefined;
  }

  threadStart(thread: number, parent: number | undefined, setsTls: boolean): void {
    this.#source.started(thread, parent);
    this.#inner?.threadStart(thread, parent, setsTls);
    this.#happens(thread, "thread");
  }

  threadExit(thread: number): void {
    this.#inner?.threadExit(thread);
    this.#pending.delete(thread);
    if (this.#inside === thread) this.#inside = undefined;
  }

  attach(thread: number): void {
    this.#inner?.attach(thread);
    this.#inside = undefined;
    this.#happens(thread, "entry");
  }

  exec(thread: number, was: number): void {
    this.#inner?.exec(thread, was);
    this.#happens(thread, "exec");
  }

  signal(thread: number): void {
    this.#inner?.signal(thread);
    this.#happens(thread, "signal");
  }

  sigreturn(thread: number): void {
    this.#inner?.sigreturn(thread);
    this.#happens(thread, "sigreturn");
  }
}
