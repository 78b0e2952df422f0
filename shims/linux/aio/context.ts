/** Contexts of asynchronous I/O: what io_setup makes (struct kioctx of fs/aio.c). They belong to an address space. */
import type { PhysicalMemory } from "../../../emulator/physical-memory.ts";
import { WaitQueue } from "../wait.ts";
import { AioRing, EVENT } from "./ring.ts";

/** Something that waits for a file and can be called off. */
export interface Cancellable {
  cancel(): void;
}

/** What an event tells: which request, and how it ended. */
export interface Completion {
  /** aio_data, in halves. */
  readonly low: number;
  readonly high: number;
  /** Address of the request's struct iocb. */
  readonly request: number;
  readonly result: number;
}

const TWO_32 = 2 ** 32;

export class AioContext {
  readonly ring: AioRing;
  /** What io_setup was asked for: what counts towards fs.aio-max-nr. */
  readonly requests: number;
  /** Woken when an event comes, and at its end. */
  readonly completed = new WaitQueue();
  /** Requests that wait for their files, by address of their struct iocb. */
  readonly polls = new Map<number, Cancellable>();
  dead = false;
  /** Requests that were taken on and are not over. */
  #pending = 0;

  constructor(ring: AioRing, requests: number) {
    this.ring = ring;
    this.requests = requests;
  }

  /** A request is taken on; false where there is no place for its event. */
  begin(): boolean {
    if (this.ring.size - 1 - this.#pending - this.ring.used <= 0) return false;
    this.#pending++;
    return true;
  }

  /** A request was refused after all. */
  forget(): void {
    this.#pending--;
  }

  complete({ low, high, request, result }: Completion): void {
    this.#pending--;
    if (this.dead) return;
    const event = new Uint8Array(EVENT);
    const view = new DataView(event.buffer);
    view.setUint32(0, low, true);
    view.setUint32(4, high, true);
    view.setUint32(8, request >>> 0, true);
    view.setUint32(12, Math.floor(request / TWO_32), true);
    view.setBigInt64(16, BigInt(result), true);
    this.ring.push(event);
    this.completed.wake();
  }

  close(): void {
    this.dead = true;
    for (const poll of [...this.polls.values()]) poll.cancel();
    this.ring.release();
    this.completed.wake();
  }
}

/** Requests that all contexts of a run have room for: fs.aio-nr. */
export interface AioTotal {
  requests: number;
}

/** The contexts of an address space. */
export class AioContexts {
  readonly #total: AioTotal;
  /** By number; a program knows them by the addresses of their rings. */
  readonly #contexts: (AioContext | undefined)[] = [];
  readonly #addresses = new Map<AioContext, number>();

  constructor(total: AioTotal) {
    this.#total = total;
  }

  /** @param events places that its ring has at least */
  make(physical: PhysicalMemory, requests: number, events: number, ino: number): AioContext {
    const free = this.#contexts.indexOf(undefined);
    const id = free < 0 ? this.#contexts.length : free;
    const context = new AioContext(new AioRing(physical, events, id, ino), requests);
    this.#contexts[id] = context;
    this.#total.requests += requests;
    return context;
  }

  /** @param id the number that its ring says it has */
  find(id: number, address: number): AioContext | undefined {
    const context = this.#contexts[id];
    return context !== undefined && this.#addresses.get(context) === address ? context : undefined;
  }

  /** Its ring is mapped there: that is its name. */
  place(context: AioContext, address: number): void {
    this.#addresses.set(context, address);
  }

  /** mremap has taken a mapping elsewhere. */
  moved(from: number, to: number): void {
    for (const [context, address] of this.#addresses) if (address === from) this.#addresses.set(context, to);
  }

  remove(context: AioContext): void {
    const id = this.#contexts.indexOf(context);
    if (id < 0) return;
    this.#contexts[id] = undefined;
    this.#addresses.delete(context);
    this.#total.requests -= context.requests;
    context.close();
  }

  close(): void {
    for (const context of this.#contexts) if (context !== undefined) this.remove(context);
  }
}
