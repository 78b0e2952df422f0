/** The ring of completed requests that a program sees and may empty itself (struct aio_ring of fs/aio.c). */
import { SharedPages } from "../../../emulator/memory.ts";
import type { PhysicalMemory } from "../../../emulator/physical-memory.ts";
import { PAGE } from "../memory/pages.ts";

const MAGIC = 0xa10a_10a1;
const HEADER = 32;
export const EVENT = 32;
/** Places of the fields that change. */
const HEAD = 8;
const TAIL = 12;

export class AioRing {
  readonly pages: SharedPages;
  /** How many events it has places for. */
  readonly size: number;
  readonly #physical: PhysicalMemory;
  /** Where the next event goes, whatever the program writes into its pages. */
  #tail = 0;

  constructor(physical: PhysicalMemory, events: number, id: number, ino: number) {
    this.#physical = physical;
    const pages = Math.ceil((HEADER + events * EVENT) / PAGE);
    this.size = (pages * PAGE - HEADER) / EVENT;
    this.pages = new SharedPages(physical, "/[aio] (deleted)", pages * PAGE, { dev: 2, ino });
    const words = [id, this.size, 0, 0, MAGIC, 1, 0, HEADER];
    for (const [index, word] of words.entries()) this.#setWord(4 * index, word);
  }

  get bytes(): number {
    return this.pages.size;
  }

  /** False when memory had run out. */
  get whole(): boolean {
    for (let index = 0; index * PAGE < this.bytes; index++) if (this.pages.frame(index) === 0) return false;
    return true;
  }

  /** Events that nobody has taken. */
  get used(): number {
    const head = this.#head();
    return (this.#tail - head + this.size) % this.size;
  }

  push(event: Uint8Array): void {
    this.#place(this.#tail).set(event);
    this.#tail = (this.#tail + 1) % this.size;
    this.#setWord(TAIL, this.#tail);
  }

  /**
   * The oldest event, as long as there is one; `take` takes it away.
   * @returns a live view
   */
  peek(): Uint8Array | undefined {
    const head = this.#head();
    return head === this.#word(TAIL) % this.size ? undefined : this.#place(head);
  }

  take(): void {
    this.#setWord(HEAD, (this.#head() + 1) % this.size);
  }

  release(): void {
    this.pages.release();
  }

  #head(): number {
    return this.#word(HEAD) % this.size;
  }

  #place(index: number): Uint8Array {
    const at = HEADER + index * EVENT;
    return this.#page(at).subarray(at % PAGE, (at % PAGE) + EVENT);
  }

  #page(at: number): Uint8Array {
    return this.#physical.bytes(this.pages.frame(Math.floor(at / PAGE)));
  }

  #word(at: number): number {
    const page = this.#page(at);
    return new DataView(page.buffer, page.byteOffset).getUint32(at, true);
  }

  #setWord(at: number, value: number): void {
    const page = this.#page(at);
    new DataView(page.buffer, page.byteOffset).setUint32(at, value, true);
  }
}
