import {
  decodeDescriptor,
  type GdtLayout,
  gdtLayouts,
  isEmpty,
  isZero,
  toDescriptor,
} from "../emulator/descriptors.ts";
import { isCanonical } from "./host.ts";
import type { LedgerRecord } from "./ledger.ts";
import { addressOf, hex } from "./ledger-format.ts";
import type { PlatformCpu } from "./platform.ts";
import type { PolicyWorld } from "./policy-file.ts";
import type { Outcome } from "./requests.ts";
import { canaryOf, hasCanary, type WordReader } from "./tls-block.ts";

/** What an audit can find. */
export const findingKinds = {
  "token-dropped": "a token was given and never executed",
  "token-stale": "a token was executed after its thread had gone on",
  "token-reused": "a token was executed twice",
  "token-wrong-thread": "a token was executed by a thread it was not given to",
  "base-unmapped": "a base lies outside any mapping",
  "base-not-canonical": "a base is no canonical address",
  "not-as-asked": "a request was carried out, but not as it was asked for",
  "changed-by-guest": "the guest changed its TLS without a token",
  "changed-by-host": "TLS changed while the guest was not running, without a token",
  "self-pointer": "the word at the base points elsewhere than to the base",
  canary: "the stack protector's canary changed",
  "cross-thread": "a thread runs with the TLS of another",
  "shared-base": "two threads of one process have the same base",
  "stale-selector": "a loaded selector no longer matches its descriptor",
  "entry-without-restore": "guest code was entered anew without its TLS",
  "exec-not-cleared": "exec left TLS of the old program",
} as const;
export type FindingKind = keyof typeof findingKinds;

/** Something an audit found. */
export interface Finding {
  readonly kind: FindingKind;
  readonly thread: number;
  /** What exactly, in a sentence without its end. */
  readonly detail: string;
  /** The ledger's record it belongs to, or the last one before. */
  readonly sequence: number | undefined;
}

/** What findings need of the shim and the machine. */
export interface GuestWorld extends PolicyWorld, WordReader {
  /** What identifies the process of a thread. */
  process(thread: number): unknown;
  /** Whether the thread runs 64-bit code. */
  wide(thread: number): boolean;
}

/** Where what is loaded and set can be looked up. */
export interface GuestCpus {
  /** The emulated CPU. */
  readonly cpu: PlatformCpu;
  readonly layout: GdtLayout;
  /** As a provider shows it to shims. */
  guestCpu(thread: number): PlatformCpu;
}

/** What is known of a guest thread. */
interface Known {
  /** Base that requests and the guest's own instructions have led to; of FS in 64-bit code. */
  expected: bigint;
  /** Who set that. */
  writer: string;
  /** Base it last entered the guest with: of FS in 64-bit code, of GS in 32-bit code. */
  entered: bigint;
  /** The selector that 32-bit code last had in GS; undefined before it ran. */
  gs: number | undefined;
  /** The base whose self-pointer has been seen to be right, and the canary there. */
  block: bigint | undefined;
  canary: bigint | undefined;
  /** New registers since TLS was set. */
  unrestored: boolean;
  /** It has not been in the guest with these registers. */
  fresh: boolean;
  everSet: boolean;
}

/** The base that a thread should have, has and had, for reports. */
export interface BaseReport {
  readonly expected: bigint;
  readonly writer: string;
  readonly inCpu: bigint;
}

/** Collects what is wrong with the TLS of a run, from the ledger and from what becomes of threads (see `WatchedLifecycle`). */
export class Findings {
  readonly #world: GuestWorld;
  readonly #cpus: GuestCpus;
  readonly #threads = new Map<number, Known>();
  /** What threads that have ended had, for those that come back with new registers. */
  readonly #left = new Map<number, Pick<Known, "block" | "canary">>();
  readonly #found = new Map<string, Finding>();
  #sequence: number | undefined;

  constructor(world: GuestWorld, cpus: GuestCpus) {
    this.#world = world;
    this.#cpus = cpus;
  }

  /** In the order in which they came up, each once. */
  get list(): Finding[] {
    return [...this.#found.values()];
  }

  /** To be subscribed to the ledger. */
  readonly record = (record: LedgerRecord): void => {
    this.#sequence = record.sequence;
    const { outcome, thread, request } = record;
    if (outcome.kind === "misuse") {
      this.#add(`token-${outcome.misuse}`, thread, `${request.kind}, by thread ${outcome.by}`);
      return;
    }
    if (outcome.kind !== "ok") return;
    const known = this.#known(thread);
    const base = addressOf(request);
    if (base !== undefined) this.#checkBase(thread, base);
    switch (request.kind) {
      case "SetFsBase":
        this.#set(known, request.address, record);
        known.unrestored = false;
        known.everSet = true;
        if (record.after.fsBase !== request.address)
          this.#add("not-as-asked", thread, `FS base ${hex(record.after.fsBase)} instead of ${hex(request.address)}`);
        break;
      case "SetGsBase":
        if (record.after.gsBase !== request.address)
          this.#add("not-as-asked", thread, `GS base ${hex(record.after.gsBase)} instead of ${hex(request.address)}`);
        break;
      case "SetThreadArea":
        known.gs = record.after.gs;
        this.#checkDescriptor(record, outcome);
        break;
      case "SetLdtEntry":
        known.gs = record.after.gs;
        break;
      case "LoadSelectors":
        this.#set(known, record.after.fsBase, record);
        for (const segment of ["fs", "gs"] as const) {
          const wanted = request.selectors[segment];
          const got = record.after[segment];
          if (wanted !== undefined && got !== wanted && got !== 0)
            this.#add("not-as-asked", thread, `selector ${hex(got)} in ${segment} instead of ${hex(wanted)}`);
        }
        break;
      case "ClearTls":
        this.#set(known, 0n, record);
        this.#checkCleared(record);
        break;
      default:
    }
  };

  /** Before the platform lets the thread into the guest: its block is looked at before anybody could touch it. */
  entering(thread: number): void {
    const known = this.#known(thread);
    if (!known.fresh) return;
    known.fresh = false;
    this.checkBlock(thread);
  }

  /** After the platform has let the thread into the guest. `expectsZero`: the platform will repair base 0 at the first access. */
  entered(thread: number, expectsZero: boolean): void {
    const known = this.#known(thread);
    const { cpu } = this.#cpus;
    this.#checkSelectors(thread);
    if (!this.#world.wide(thread)) {
      this.#enteredNarrow(thread, known);
      return;
    }
    known.entered = cpu.privileged.fsBase;
    if (known.unrestored && known.everSet) this.#add("entry-without-restore", thread, `FS base ${hex(known.entered)}`);
    if (known.entered !== known.expected && !(expectsZero && known.entered === 0n)) {
      const was = `${hex(known.expected)} (${known.writer})`;
      this.#add("changed-by-host", thread, `runs with FS base ${hex(known.entered)}, but had ${was}`);
    }
    this.#compare(thread, known);
  }

  #enteredNarrow(thread: number, known: Known): void {
    const { cpu } = this.#cpus;
    const gs = cpu.selector("gs");
    known.entered = cpu.privileged.gsBase;
    if (known.gs !== undefined && gs !== known.gs)
      this.#add("changed-by-host", thread, `runs with ${hex(gs)} in GS, but had ${hex(known.gs)}`);
    known.gs = gs;
    this.#compare(thread, known);
  }

  /** When the guest has stopped, before the platform does anything. */
  left(thread: number): void {
    const known = this.#known(thread);
    const { cpu } = this.#cpus;
    const { fsBase } = cpu.privileged;
    if (!this.#world.wide(thread)) {
      known.gs = cpu.selector("gs");
      known.entered = cpu.privileged.gsBase;
      return;
    }
    if (fsBase !== known.entered) {
      this.#add("changed-by-guest", thread, `FS base ${hex(known.entered)} became ${hex(fsBase)}`);
      known.expected = fsBase;
      known.writer = "the guest itself";
    }
    known.entered = fsBase;
  }

  /** The host took the CPU away for a while: what it did to the base is no change of the guest's. */
  rescheduled(thread: number): void {
    if (this.#world.wide(thread)) this.#known(thread).entered = this.#cpus.cpu.privileged.fsBase;
  }

  /** At a system call, when the platform has taken over: looks at the thread's block of TLS. */
  checkBlock(thread: number): void {
    const known = this.#known(thread);
    const wide = this.#world.wide(thread);
    const { privileged } = this.#cpus.guestCpu(thread);
    const base = wide ? privileged.fsBase : privileged.gsBase;
    if (base === 0n) return;
    const self = this.#world.word(thread, base, wide ? 8 : 4);
    if (self !== base) {
      // Only a C library's block points to itself; who has none has nothing that could break.
      if (known.block === base) this.#add("self-pointer", thread, `${hex(self ?? 0n)} at ${hex(base)}`);
      return;
    }
    if (known.block !== base) known.canary = undefined;
    known.block = base;
    if (!hasCanary(this.#world, thread, base, wide)) return;
    const canary = canaryOf(this.#world, thread, base, wide);
    if (known.canary === undefined || known.canary === 0n) known.canary = canary;
    else if (canary !== known.canary)
      this.#add("canary", thread, `${hex(canary ?? 0n)} instead of ${hex(known.canary)}`);
  }

  /** A thread begins with a copy of its parent's TLS (or with none). */
  started(thread: number, parent: number | undefined): void {
    const from = parent === undefined ? undefined : this.#threads.get(parent);
    const expected = from?.expected ?? 0n;
    const writer = from === undefined ? "its start" : "its parent's";
    this.#threads.set(thread, { ...unknown(expected), writer, gs: from?.gs, fresh: true });
  }

  ended(thread: number): void {
    const known = this.#threads.get(thread);
    if (known?.block !== undefined) this.#left.set(thread, { block: known.block, canary: known.canary });
    this.#threads.delete(thread);
  }

  renamed(thread: number, was: number): void {
    if (was !== thread) this.#threads.delete(was);
  }

  /** The shim has made new registers for it. */
  renewed(thread: number): void {
    const known = this.#known(thread);
    known.unrestored = true;
    known.fresh = true;
    // A trusted application's block stays while nobody runs in it.
    Object.assign(known, this.#left.get(thread));
    this.#left.delete(thread);
  }

  /** What a thread should have in FS, and who says so. It must be the one in the CPU. */
  report(thread: number): BaseReport {
    const { expected, writer } = this.#known(thread);
    return { expected, writer, inCpu: this.#cpus.cpu.privileged.fsBase };
  }

  #known(thread: number): Known {
    let known = this.#threads.get(thread);
    if (known === undefined) {
      known = unknown(0n);
      this.#threads.set(thread, known);
    }
    return known;
  }

  #set(known: Known, base: bigint, { call, sequence, after }: LedgerRecord): void {
    known.expected = base;
    known.gs = after.gs;
    known.writer = `${call}, ledger entry ${sequence}`;
    if (known.block !== base) known.block = undefined;
  }

  #checkBase(thread: number, base: bigint): void {
    if (base === 0n) return;
    if (!isCanonical(base)) this.#add("base-not-canonical", thread, hex(base));
    else if (this.#world.mappingAt(thread, base) === undefined) this.#add("base-unmapped", thread, hex(base));
  }

  #checkDescriptor({ request, thread, after }: LedgerRecord, outcome: Outcome): void {
    if (request.kind !== "SetThreadArea" || outcome.kind !== "ok") return;
    const { desc } = request;
    const wanted = isEmpty(desc) || isZero(desc) ? 0n : toDescriptor(desc);
    const entry = outcome.desc?.entry_number;
    const got = after.descriptors.find(({ index }) => index === entry)?.raw;
    if (entry === undefined) this.#add("not-as-asked", thread, "no entry came back");
    else if (got === undefined || unaccessed(got) !== unaccessed(wanted))
      this.#add("not-as-asked", thread, `descriptor ${hex(got ?? 0n)} in entry ${entry} instead of ${hex(wanted)}`);
  }

  #checkCleared({ thread, after, before }: LedgerRecord): void {
    const left = after.descriptors.filter(({ raw }) => raw !== 0n).map(({ index }) => `entry ${index}`);
    if (after.fsBase !== 0n) left.push(`FS base ${hex(after.fsBase)}`);
    if (after.gsBase !== 0n) left.push(`GS base ${hex(after.gsBase)}`);
    const something = before.fsBase !== 0n || before.gsBase !== 0n || before.descriptors.some(({ raw }) => raw !== 0n);
    if (left.length > 0 && something) this.#add("exec-not-cleared", thread, left.join(", "));
  }

  /** FS and GS loaded from TLS entries or the LDT must have the base that stands there. */
  #checkSelectors(thread: number): void {
    const { cpu, layout } = this.#cpus;
    const { privileged } = cpu;
    const { tlsFirst, tlsLast } = gdtLayouts[layout];
    for (const segment of ["fs", "gs"] as const) {
      const selector = cpu.selector(segment);
      const index = selector >> 3;
      let raw: bigint;
      if ((selector & 4) !== 0) raw = index < privileged.ldtSize ? privileged.ldtEntry(index) : 0n;
      else if (index >= tlsFirst && index <= tlsLast) raw = privileged.gdtEntry(index);
      else continue;
      const { base, present } = decodeDescriptor(raw);
      const loaded = segment === "fs" ? privileged.fsBase : privileged.gsBase;
      if (raw === 0n || !present || BigInt(base) !== loaded)
        this.#add("stale-selector", thread, `${segment} is ${hex(selector)} with base ${hex(loaded)}`);
    }
  }

  #compare(thread: number, known: Known): void {
    if (known.entered === 0n) return;
    const wide = this.#world.wide(thread);
    for (const [other, theirs] of this.#threads) {
      if (other === thread || (wide ? theirs.expected : theirs.entered) !== known.entered) continue;
      if (this.#world.process(other) !== this.#world.process(thread)) continue;
      if (!wide || known.expected === known.entered)
        this.#add("shared-base", thread, `${hex(known.entered)} is also thread ${other}'s`);
      else this.#add("cross-thread", thread, `${hex(known.entered)} is thread ${other}'s`);
    }
  }

  #add(kind: FindingKind, thread: number, detail: string): void {
    const key = `${kind} ${thread} ${detail}`;
    if (!this.#found.has(key)) this.#found.set(key, { kind, thread, detail, sequence: this.#sequence });
  }
}

function unknown(expected: bigint): Known {
  return {
    expected,
    writer: "nobody",
    entered: expected,
    gs: undefined,
    block: undefined,
    canary: undefined,
    unrestored: false,
    fresh: false,
    everSet: false,
  };
}

/** Loading a descriptor sets its accessed bit. */
function unaccessed(raw: bigint): bigint {
  return raw & ~(1n << 40n);
}

/** `thread 1000: token-reused: a token was executed twice: SetFsBase, by thread 1000 (ledger entry 3)`. */
export function formatFinding({ kind, thread, detail, sequence }: Finding): string {
  const entry = sequence === undefined ? "" : ` (ledger entry ${sequence})`;
  return `thread ${thread}: ${kind}: ${findingKinds[kind]}: ${detail}${entry}`;
}
