/** A client's way into a TA. */
import type { Instance } from "./instance.ts";
import type { Params } from "./params.ts";
import type { PseudoTa } from "./pta/pseudo.ts";

/** TEE_Identity. */
export interface Identity {
  readonly login: number;
  readonly uuid: string;
}

export class Session {
  /** The lowest number free when it was opened. */
  readonly id: number;
  readonly client: Identity;
  /** The TA that opened it; absent for the normal world. */
  readonly owner: Instance | undefined;
  readonly target: Instance | PseudoTa;
  /** Cancellation is masked until the TA unmasks it (4.10). */
  cancelMasked = true;
  cancelled = false;
  /** TEE time in ms at which the running operation counts as cancelled. */
  cancelAt = Number.POSITIVE_INFINITY;

  constructor(id: number, client: Identity, target: Instance | PseudoTa, owner: Instance | undefined) {
    this.id = id;
    this.client = client;
    this.target = target;
    this.owner = owner;
  }

  /** True once the operation is to be cancelled and the TA listens. */
  isCancelled(now: number): boolean {
    return !this.cancelMasked && (this.cancelled || now >= this.cancelAt);
  }

  /** A request does not outlive its operation. */
  endOperation(): void {
    this.cancelled = false;
    this.cancelMasked = true;
    this.cancelAt = Number.POSITIVE_INFINITY;
  }
}

/** What came of opening a session or of a command. */
export interface Answer {
  readonly result: number;
  readonly origin: number;
  /** Why, where it is known. */
  readonly reason: string | undefined;
}

export interface Operation {
  readonly client: Identity;
  readonly params: Params;
  /** Milliseconds until the operation counts as cancelled. */
  readonly timeout: number;
  /** The TA that asks. */
  readonly owner: Instance | undefined;
}
