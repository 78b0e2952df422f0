import type { Findings } from "./findings.ts";
import type { LeaveReason, Lifecycle } from "./lifecycle.ts";
import type { PunchthroughProvider } from "./punchthrough.ts";

/** A life cycle that tells findings of every step before and after it passes it on. */
export class WatchedLifecycle implements Lifecycle {
  readonly #inner: Lifecycle | undefined;
  readonly #findings: Findings;
  readonly #provider: PunchthroughProvider;
  /** The thread that is in the guest now. */
  #inside: number | undefined;

  /** @param inner the provider's life cycle, or what disturbs it */
  constructor(inner: Lifecycle | undefined, provider: PunchthroughProvider, findings: Findings) {
    this.#inner = inner;
    this.#provider = provider;
    this.#findings = findings;
  }

  enterGuest(thread: number): void {
    if (this.#inside !== thread) this.#findings.entering(thread);
    this.#inner?.enterGuest(thread);
    if (this.#inside === thread) return;
    this.#inside = thread;
    const stored = this.#provider.storedBase?.(thread) ?? 0n;
    this.#findings.entered(thread, this.#provider.repairsZeroBase === true && stored !== 0n);
  }

  leaveGuest(thread: number, reason: LeaveReason): void {
    const inside = this.#inside === thread;
    if (inside && !this.#zeroed(thread)) this.#findings.left(thread);
    this.#inside = undefined;
    this.#inner?.leaveGuest(thread, reason);
    if (inside && reason === "syscall") this.#findings.checkBlock(thread);
  }

  /** The host has zeroed the base, and the platform knows how to repair that. */
  #zeroed(thread: number): boolean {
    if (this.#provider.repairsZeroBase !== true) return false;
    return this.#findings.report(thread).inCpu === 0n && this.#provider.storedBase?.(thread) !== 0n;
  }

  rescheduled(thread: number): void {
    this.#inner?.rescheduled(thread);
    this.#findings.rescheduled(thread);
  }

  retries(thread: number, vector: number): boolean {
    return this.#inner?.retries(thread, vector) === true;
  }

  threadStart(thread: number, parent: number | undefined, setsTls: boolean): void {
    this.#findings.started(thread, parent);
    this.#inner?.threadStart(thread, parent, setsTls);
  }

  threadExit(thread: number): void {
    this.#inner?.threadExit(thread);
    this.#findings.ended(thread);
    if (this.#inside === thread) this.#inside = undefined;
  }

  attach(thread: number): void {
    this.#inner?.attach(thread);
    this.#findings.renewed(thread);
    this.#inside = undefined;
  }

  exec(thread: number, was: number): void {
    this.#inner?.exec(thread, was);
    this.#findings.renamed(thread, was);
  }

  signal(thread: number): void {
    this.#inner?.signal(thread);
  }

  sigreturn(thread: number): void {
    this.#inner?.sigreturn(thread);
  }
}
