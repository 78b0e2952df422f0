import type { GuestMemory } from "../../../emulator/memory.ts";

/** Guest memory that a call reads or fills as if it were one piece: a buffer or an iovec array. */
export interface Span {
  readonly length: number;
  /** Copies guest bytes from `offset` on into `into`, up to the first bad page. @returns how many */
  take(offset: number, into: Uint8Array): number;
  /** Copies `from` to the guest at `offset`, up to the first bad page. @returns how many */
  put(offset: number, from: Uint8Array): number;
}

export class Plain implements Span {
  readonly length: number;
  readonly #memory: GuestMemory;
  readonly #address: number;

  constructor(memory: GuestMemory, address: number, length: number) {
    this.#memory = memory;
    this.#address = address;
    this.length = length;
  }

  take(offset: number, into: Uint8Array): number {
    return this.#memory.readSome(this.#address + offset, into);
  }

  put(offset: number, from: Uint8Array): number {
    return this.#memory.writeSome(this.#address + offset, from);
  }
}

/** One element of an iovec array. */
export interface Piece {
  readonly address: number;
  readonly length: number;
}

export class Pieces implements Span {
  readonly length: number;
  readonly #memory: GuestMemory;
  readonly #pieces: readonly Piece[];

  constructor(memory: GuestMemory, pieces: readonly Piece[]) {
    this.#memory = memory;
    this.#pieces = pieces;
    this.length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  }

  take(offset: number, into: Uint8Array): number {
    return this.#each(offset, into, (address, bytes) => this.#memory.readSome(address, bytes));
  }

  put(offset: number, from: Uint8Array): number {
    return this.#each(offset, from, (address, bytes) => this.#memory.writeSome(address, bytes));
  }

  #each(offset: number, bytes: Uint8Array, copy: (address: number, part: Uint8Array) => number): number {
    let skip = offset;
    let done = 0;
    for (const { address, length } of this.#pieces) {
      if (done >= bytes.length) break;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const part = bytes.subarray(done, done + Math.min(length - skip, bytes.length - done));
      const copied = copy(address + skip, part);
      done += copied;
      if (copied < part.length) break;
      skip = 0;
    }
    return done;
  }
}
