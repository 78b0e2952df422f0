/** Everything processes of a run share by key or name beside files and sockets. */
import type { Kernel, Process } from "../task.ts";
import { MessageQueues } from "./messages.ts";
import { PosixQueues } from "./posix-queues.ts";
import { Semaphores } from "./semaphores.ts";
import { SharedMemory } from "./shared-memory.ts";

export class Ipc {
  readonly sharedMemory: SharedMemory;
  readonly semaphores: Semaphores;
  readonly messages: MessageQueues;
  readonly posixQueues: PosixQueues;
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.semaphores = new Semaphores(kernel.settings);
    this.messages = new MessageQueues(kernel.settings);
    this.sharedMemory = new SharedMemory(kernel);
    this.posixQueues = new PosixQueues(kernel);
  }

  /** Nobody is in its namespace any more. */
  close(): void {
    for (const segment of this.sharedMemory.table.values()) segment.doomed = true;
    this.sharedMemory.sweep();
  }

  /** A process has ended and its descriptors and memory are gone. */
  ended(process: Process): void {
    const { clock } = this.#kernel;
    this.semaphores.ended(process, clock.bootSec + Math.floor(clock.now() / 1e9));
    this.sharedMemory.sweep();
  }
}
