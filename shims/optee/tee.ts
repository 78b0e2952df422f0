/** A trusted execution environment: its machine, the TAs it knows, and what they share. */
import { createHash } from "node:crypto";
import { TestbedError } from "../../emulator/errors.ts";
import type { Machine } from "../../emulator/machine.ts";
import type { Gate } from "../../providers/gate.ts";
import type { HostEvents } from "../../providers/host-events.ts";
import type { TaBinary } from "./binary.ts";
import { ldelfCalls } from "./calls/ldelf.ts";
import { type TeeClock, VirtualTeeClock } from "./clock.ts";
import { createInstance } from "./create.ts";
import type { InjectCall } from "./dispatch.ts";
import type { TeeWatcher } from "./events.ts";
import type { Instance } from "./instance.ts";
import { loadByLdelf } from "./ldelf.ts";
import type { PanicReport } from "./panic.ts";
import { createPseudoTas } from "./pta/all.ts";
import type { PseudoTa } from "./pta/pseudo.ts";
import { type Entropy, SeededEntropy } from "./random.ts";
import { fail, Tee as TeeResult } from "./results.ts";
import { SessionManager } from "./sessions.ts";
import { MemoryStore } from "./storage/memory-store.ts";
import { SharedObjects } from "./storage/shared-objects.ts";
import type { ObjectStore } from "./storage/store.ts";
import { UserMode } from "./user-mode.ts";
import { Watchdog } from "./watchdog.ts";

/** As many TAs as LiteBox loads at once. */
const INSTANCES_MAX = 16;

export interface TeeOptions {
  readonly machine: Machine;
  readonly gate: Gate;
  /** Every TA and library that may be loaded. */
  readonly binaries: readonly TaBinary[];
  /** A real ldelf; our own loader when left out. */
  readonly ldelf?: TaBinary | undefined;
  readonly clock?: TeeClock | undefined;
  readonly entropy?: Entropy | undefined;
  /** Persistent objects; in memory when left out. */
  readonly store?: ObjectStore | undefined;
  /** Hardware unique key, 32 bytes. */
  readonly huk?: Uint8Array | undefined;
  readonly watch?: TeeWatcher | undefined;
  /** Wall-clock milliseconds that one entry from the normal world may take. */
  readonly timeoutMs?: number | undefined;
  /** What the host does of its own while TAs run: nothing when left out. */
  readonly hostEvents?: HostEvents | undefined;
  /** Faults of system calls. */
  readonly injectCall?: InjectCall | undefined;
  /** Lets SIGINT and SIGTERM end the run, with `Interrupted`. */
  readonly catchSignals?: boolean | undefined;
  /** LiteBox' TLS page: all zeros, so that a wrong FS base can go unnoticed. So it is for `--as litebox`. */
  readonly zeroTls?: boolean | undefined;
}

/** The hardware unique key of a device nobody named. */
export function defaultHuk(): Uint8Array {
  return createHash("sha256").update("shimbed hardware unique key").digest();
}

export class Tee {
  readonly machine: Machine;
  readonly gate: Gate;
  readonly clock: TeeClock;
  readonly entropy: Entropy;
  readonly store: ObjectStore;
  readonly huk: Uint8Array;
  readonly sessions: SessionManager;
  /** Persistent objects that are open now, over all TAs. */
  readonly objects: SharedObjects;
  /** Persistent time of each TA: its offset to the normal world's, in ms. */
  readonly taTimes = new Map<string, number>();
  readonly pseudoTas: readonly PseudoTa[];
  /** TAs that can be found by their UUID; a dead one is not among them, unless it shall stay dead. */
  readonly instances = new Set<Instance>();
  /** Every panic of the run, in order. */
  readonly deaths: PanicReport[] = [];
  readonly userMode: UserMode;
  readonly zeroTls: boolean;
  readonly #binaries = new Map<string, TaBinary>();
  readonly #ldelf: TaBinary | undefined;
  readonly #watch: TeeWatcher | undefined;
  readonly #watchdog: Watchdog;
  #lastInstance = 0;

  constructor(options: TeeOptions) {
    this.machine = options.machine;
    this.gate = options.gate;
    this.clock = options.clock ?? new VirtualTeeClock();
    this.entropy = options.entropy ?? new SeededEntropy("0");
    this.store = options.store ?? new MemoryStore();
    this.huk = options.huk ?? defaultHuk();
    this.zeroTls = options.zeroTls ?? options.gate.asLitebox;
    this.#ldelf = options.ldelf;
    this.#watch = options.watch;
    for (const binary of options.binaries) {
      const other = this.#binaries.get(binary.uuid);
      if (other !== undefined)
        throw new TestbedError(`${binary.name} and ${other.name} have the same UUID ${binary.uuid}`);
      this.#binaries.set(binary.uuid, binary);
    }
    this.pseudoTas = createPseudoTas();
    this.objects = new SharedObjects(this.store);
    this.#watchdog = new Watchdog(options.timeoutMs ?? Number.POSITIVE_INFINITY, options.catchSignals ?? false);
    this.userMode = new UserMode({
      machine: this.machine,
      gate: this.gate,
      clock: this.clock,
      watchdog: this.#watchdog,
      watch: options.watch,
      hostEvents: options.hostEvents,
      injectCall: options.injectCall,
    });
    this.sessions = new SessionManager(this);
  }

  /** Every TA and library that may be loaded. */
  get binaries(): readonly TaBinary[] {
    return [...this.#binaries.values()];
  }

  binary(uuid: string): TaBinary | undefined {
    return this.#binaries.get(uuid);
  }

  /** Loads a TA; it has run no code of its own yet. Ends the call that asks when that fails. */
  load(binary: TaBinary): Instance {
    if (binary.library) return fail(TeeResult.ERROR_ITEM_NOT_FOUND, `${binary.name} is a library`);
    const alive = [...this.instances].filter((instance) => !instance.released).length;
    if (alive >= INSTANCES_MAX) return fail(TeeResult.ERROR_OUT_OF_MEMORY, `${INSTANCES_MAX} TAs are loaded already`);
    const instance = createInstance(this, binary, ++this.#lastInstance, this.#ldelf === undefined);
    this.instances.add(instance);
    if (this.#ldelf === undefined) return instance;
    try {
      loadByLdelf(this, this.userMode, ldelfCalls, this.#ldelf, instance);
    } catch (error) {
      this.instances.delete(instance);
      this.sessions.release(instance);
      throw error;
    }
    return instance;
  }

  log(instance: Instance, text: string): void {
    this.#watch?.({ kind: "log", instance: instance.id, uuid: instance.uuid, text });
  }

  /** An entry begins or has ended. */
  tell(event: Parameters<TeeWatcher>[0]): void {
    this.#watch?.(event);
  }

  /** A TA panicked. What it held is freed; the sessions into it stay until they are closed. */
  died(instance: Instance, report: PanicReport): void {
    if (instance.panicked !== undefined) return;
    instance.panicked = report;
    this.deaths.push(report);
    this.#watch?.({ kind: "panic", instance: instance.id, uuid: instance.uuid, report });
  }

  close(): void {
    for (const instance of [...this.instances]) this.sessions.release(instance);
    this.instances.clear();
    this.userMode.close();
    this.#watchdog.close();
  }
}
