import type { NativeEngine } from "./native-engine.ts";

export const PAGE_SIZE = 4096;
/**
 * Physical memory is shown to JavaScript in pieces of this size, each when it is first needed: the garbage collector
 * takes a view of all of it for 64 GiB of pressure and would collect at every start.
 */
const chunkBytes = 2 ** 24;
/** The offset of a physical address in its chunk is the address and this. */
export const chunkMask = chunkBytes - 1;

/** Views of one piece of physical memory. */
export interface Chunk {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** The machine's frames: 4 KiB each, counted by reference, zeroed when given out. */
export class PhysicalMemory {
  readonly #engine: NativeEngine;
  readonly #size: number;
  readonly #chunks: (Chunk | undefined)[] = [];

  constructor(engine: NativeEngine, size: number) {
    this.#engine = engine;
    this.#size = size;
  }

  /** The chunk that holds a physical address; the offset in it is `address & chunkMask`. */
  chunk(address: number): Chunk {
    const index = Math.floor(address / chunkBytes);
    return this.#chunks[index] ?? this.#openChunk(index);
  }

  #openChunk(index: number): Chunk {
    const start = index * chunkBytes;
    const buffer = this.#engine.physicalChunk(start, Math.min(chunkBytes, this.#size - start));
    const chunk = { bytes: new Uint8Array(buffer), view: new DataView(buffer) };
    this.#chunks[index] = chunk;
    return chunk;
  }

  /** Most bytes in use at once. */
  limit(bytes: number): void {
    this.#engine.limitFrames(Math.floor(bytes / PAGE_SIZE));
  }

  /** A zeroed frame with one reference, 0 when memory has run out. */
  allocate(): number {
    return this.#engine.allocateFrame();
  }
  retain(frame: number): void {
    this.#engine.retainFrame(frame);
  }
  release(frame: number): void {
    this.#engine.releaseFrame(frame);
  }
  /** A live view of one frame. Call `beforeWrite` before changing what a guest may execute. */
  bytes(frame: number): Uint8Array {
    const address = frame * PAGE_SIZE;
    return this.chunk(address).bytes.subarray(address & chunkMask, (address & chunkMask) + PAGE_SIZE);
  }
  /** Drops what was translated from a frame that is about to be written from outside the CPU. */
  beforeWrite(frame: number): void {
    this.#engine.beforeWrite(frame);
  }
  /** Bytes in use now. */
  get used(): number {
    return this.#engine.usedFrames() * PAGE_SIZE;
  }
  /** Most bytes that were in use at once. */
  get peak(): number {
    return this.#engine.peakFrames() * PAGE_SIZE;
  }
}
