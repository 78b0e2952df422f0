import { Errno } from "../errno.ts";
import { WaitQueue } from "../wait.ts";
import { O_RDWR, POLLERR, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM } from "./flags.ts";
import type { Entry } from "./inode.ts";
import { OpenFile } from "./open-file.ts";

const MAX = 0xffff_ffff_ffff_fffen;

/** eventfd(2): a 64-bit counter. */
export class EventFile extends OpenFile {
  readonly #semaphore: boolean;
  readonly #raised = new WaitQueue();
  readonly #lowered = new WaitQueue();
  #count: bigint;

  constructor(entry: Entry, flags: number, count: bigint, semaphore: boolean) {
    super(entry, O_RDWR | flags);
    this.#count = count;
    this.#semaphore = semaphore;
  }

  override get readQueue(): WaitQueue {
    return this.#raised;
  }

  override get writeQueue(): WaitQueue {
    return this.#lowered;
  }

  read(into: Uint8Array): number {
    if (into.length < 8) return -Errno.EINVAL;
    if (this.#count === 0n) return -Errno.EAGAIN;
    const taken = this.#semaphore ? 1n : this.#count;
    new DataView(into.buffer, into.byteOffset).setBigUint64(0, taken, true);
    this.#count -= taken;
    this.#lowered.wake();
    return 8;
  }

  write(from: Uint8Array): number {
    if (from.length < 8) return -Errno.EINVAL;
    const added = new DataView(from.buffer, from.byteOffset).getBigUint64(0, true);
    if (added > MAX) return -Errno.EINVAL;
    if (this.#count + added > MAX) return -Errno.EAGAIN;
    this.#count += added;
    if (added > 0n) this.#raised.wake();
    return 8;
  }

  /** eventfd_signal: one more, without waiting where there is no room. */
  signal(): void {
    if (this.#count <= MAX) this.#count++;
    this.#raised.wake();
  }

  override poll(): number {
    let events = 0;
    if (this.#count > 0n) events |= POLLIN | POLLRDNORM;
    if (this.#count < MAX) events |= POLLOUT | POLLWRNORM;
    if (this.#count > MAX) events |= POLLERR;
    return events;
  }
}
