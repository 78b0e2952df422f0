/** What is mapped into a trusted application. */
import type { Backing } from "../../emulator/memory.ts";
import { PAGE_SIZE, type PhysicalMemory } from "../../emulator/physical-memory.ts";

/** Private memory of one TA. */
export class PrivateArea implements Backing {
  readonly name: string;
  readonly dev = 0;
  readonly ino = 0;
  /** Part of the TEE's own set-up: a TA may not unmap, protect or move it. */
  readonly permanent: boolean;
  /** Shows a part of a file, so it can never become writable. */
  readonly readonly: boolean;

  constructor(name: string, options: { permanent?: boolean; readonly?: boolean } = {}) {
    this.name = name;
    this.permanent = options.permanent ?? false;
    this.readonly = options.readonly ?? false;
  }
}

/** Memory that several TAs can map: parameters of a client, and what a TA maps as shareable. */
export class SharedArea implements Backing {
  readonly name: string;
  readonly dev = 0;
  readonly ino = 0;
  /** In bytes. */
  readonly size: number;
  /** A client's memory belongs to the normal world. */
  readonly secure: boolean;
  readonly #physical: PhysicalMemory;
  readonly #frames: number[] = [];
  #open = true;

  constructor(physical: PhysicalMemory, name: string, size: number, secure: boolean) {
    this.#physical = physical;
    this.name = name;
    this.size = size;
    this.secure = secure;
  }

  frame(index: number): number {
    if (!this.#open || index < 0 || index * PAGE_SIZE >= this.size) return -1;
    const known = this.#frames[index];
    if (known !== undefined && known !== 0) return known;
    const frame = this.#physical.allocate();
    this.#frames[index] = frame;
    return frame;
  }

  /** Copies bytes in or out from the host's side; false when physical memory has run out. */
  copy(offset: number, bytes: Uint8Array, direction: "in" | "out"): boolean {
    for (let done = 0; done < bytes.length; ) {
      const at = offset + done;
      const frame = this.frame(Math.floor(at / PAGE_SIZE));
      if (frame <= 0) return false;
      const page = this.#physical.bytes(frame);
      const start = at % PAGE_SIZE;
      const count = Math.min(PAGE_SIZE - start, bytes.length - done);
      if (direction === "in") {
        this.#physical.beforeWrite(frame);
        page.set(bytes.subarray(done, done + count), start);
      } else bytes.set(page.subarray(start, start + count), done);
      done += count;
    }
    return true;
  }

  /** Lets go of the memory; mappings that still show it keep the pages they have. */
  close(): void {
    this.#open = false;
    for (const frame of this.#frames) if (frame) this.#physical.release(frame);
    this.#frames.length = 0;
  }
}
