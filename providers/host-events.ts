import { UserError } from "../emulator/errors.ts";
import type { Lifecycle } from "./lifecycle.ts";

/** What a host does to a guest thread on its own account. `vtl`: the machine goes to the normal world and back. */
export type HostEventKind = "reschedule" | "interrupt" | "vtl";

export const hostEventModes = ["none", "some", "storm"] as const;
export type HostEventMode = (typeof hostEventModes)[number];

/** Longest distance between two events, in basic blocks of the guest. */
const LONGEST_GAP: Readonly<Record<HostEventMode, number>> = { none: 0, some: 20_000, storm: 40 };

/** @throws UserError when it is no mode */
export function parseHostEventMode(text: string): HostEventMode {
  const mode = hostEventModes.find((known) => known === text);
  if (mode === undefined)
    throw new UserError(`unknown host events "${text}": choose one of ${hostEventModes.join(", ")}`, 125);
  return mode;
}

/**
 * The host's own events, at moments that depend on the seed alone: after so many basic blocks of guest code. A run loop gives
 * the engine no more blocks than `blocksLeft`, tells with `ran` how many it used, and lets the events that are due strike.
 */
export class HostEvents {
  /** Blocks until the next event: at least 1, Infinity for never. */
  blocksLeft: number;
  readonly #kinds: readonly HostEventKind[];
  readonly #longest: number;
  #state: number;

  constructor(mode: HostEventMode, seed: number, kinds: readonly HostEventKind[]) {
    this.#kinds = kinds;
    this.#longest = kinds.length === 0 ? 0 : LONGEST_GAP[mode];
    this.#state = (seed ^ 0x9e37_79b9) >>> 0;
    this.blocksLeft = this.#gap();
  }

  /** Takes note that the guest ran `blocks` more; the kind of the event that is due now, if one is. */
  ran(blocks: number): HostEventKind | undefined {
    this.blocksLeft -= blocks;
    if (this.blocksLeft > 0) return undefined;
    this.blocksLeft = this.#gap();
    return this.#kinds[this.#below(this.#kinds.length)];
  }

  #gap(): number {
    return this.#longest === 0 ? Number.POSITIVE_INFINITY : 1 + this.#below(this.#longest);
  }

  /** mulberry32: small, and alike everywhere. */
  #below(bound: number): number {
    this.#state = (this.#state + 0x6d2b_79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * bound);
  }
}

/** Lets an event strike a thread that is in the guest; afterwards it is in the guest again. */
export function strike(lifecycle: Lifecycle | undefined, thread: number, kind: HostEventKind): void {
  if (lifecycle === undefined) return;
  if (kind === "reschedule") {
    lifecycle.rescheduled(thread);
    return;
  }
  lifecycle.leaveGuest(thread, kind);
  lifecycle.enterGuest(thread);
}
