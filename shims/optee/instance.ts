/** One loaded trusted application: its memory, its TLS, and everything it holds open. */
import type { TaBinary } from "./binary.ts";
import { HandleTable } from "./handles.ts";
import type { LoadedModule } from "./loader.ts";
import type { TaMemory } from "./memory.ts";
import type { TeeObject } from "./objects.ts";
import type { PanicReport } from "./panic.ts";
import type { Session } from "./session.ts";
import type { CryptoState } from "./states.ts";
import type { StorageEnumerator } from "./storage/enumerator.ts";

/** The area FS points into, made once per instance. */
export interface TaTls {
  /** FS base while the TA runs. */
  readonly base: number;
  /** What stands at FS:0x28, little-endian. */
  readonly canary: bigint;
}

export class Instance {
  /** Counts from 1 in a run; also the thread that tokens are given to. */
  readonly id: number;
  readonly binary: TaBinary;
  readonly memory: TaMemory;
  readonly tls: TaTls;
  /** Exclusive upper end of the stack, 16-aligned. */
  readonly stackTop: number;
  /** First instruction of each entry. */
  entry = 0;
  /** As ldelf or our loader found them; they decide the life of the instance. */
  flags: number;
  modules: readonly LoadedModule[] = [];
  panicked: PanicReport | undefined;
  /** Code of it runs or waits for a call into another TA. */
  busy = false;
  /** Nothing is left of it but the sessions that lead to it. */
  released = false;
  /** Sessions that lead here. */
  readonly sessions = new Set<Session>();
  /** Sessions that it opened into others, by number. */
  readonly opened = new Map<number, Session>();
  readonly objects = new HandleTable<TeeObject>();
  readonly states = new HandleTable<CryptoState>();
  readonly enumerators = new HandleTable<StorageEnumerator>();

  constructor(id: number, binary: TaBinary, memory: TaMemory, tls: TaTls, stackTop: number) {
    this.id = id;
    this.binary = binary;
    this.memory = memory;
    this.tls = tls;
    this.stackTop = stackTop;
    this.flags = binary.flags;
  }

  get uuid(): string {
    return this.binary.uuid;
  }

  has(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }

  /** The module and symbol around an address, for messages. */
  locate(address: number): { offset: number | undefined; symbol: string | undefined } {
    for (const module of this.modules) {
      if (address < module.start || address >= module.end) continue;
      return { offset: address - module.bias, symbol: module.symbols.lookup(address - module.bias) };
    }
    return { offset: undefined, symbol: undefined };
  }
}
