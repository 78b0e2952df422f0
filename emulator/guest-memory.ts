import { MemoryFault } from "./errors.ts";
import { Miss } from "./native.ts";
import type { NativeEngine } from "./native-engine.ts";
import { chunkMask, PAGE_SIZE, type PhysicalMemory } from "./physical-memory.ts";

const READ = 0;
const WRITE = 1;
const slots = 512;
const two32 = 4294967296;

/** What a space does when a page is not there yet: true when it now is. */
export type PageIn = (address: number, access: 0 | 1) => boolean;

/**
 * Guest memory as the kernel side sees it: with the guest's own page permissions, without copies for small values.
 * Every method but the `…Some` ones throws MemoryFault at the first byte it may not touch; bytes before it may have been written.
 */
export class GuestMemory {
  readonly #engine: NativeEngine;
  readonly #physical: PhysicalMemory;
  readonly #pageIn: PageIn;
  #space: number;
  /** The engine's count of changes that make cached translations wrong. */
  readonly #stop: Uint32Array;
  #generation = -1;
  // A small cache of translations, apart for reads and writes: page number to physical address of the page.
  readonly #readPages = new Float64Array(slots).fill(-1);
  readonly #readAt = new Float64Array(slots);
  readonly #writePages = new Float64Array(slots).fill(-1);
  readonly #writeAt = new Float64Array(slots);

  constructor(engine: NativeEngine, physical: PhysicalMemory, space: number, stop: Uint32Array, pageIn: PageIn) {
    this.#engine = engine;
    this.#physical = physical;
    this.#space = space;
    this.#stop = stop;
    this.#pageIn = pageIn;
  }

  /** For the owner, when the space behind this view is another one. */
  retarget(space: number): void {
    this.#space = space;
    this.#forget();
  }

  #forget(): void {
    this.#readPages.fill(-1);
    this.#writePages.fill(-1);
  }

  /** Physical address of a guest byte. */
  #locate(address: number, access: 0 | 1): number {
    const generation = this.#stop[7] ?? 0;
    if (generation !== this.#generation) {
      this.#forget();
      this.#generation = generation;
    }
    const offset = address % PAGE_SIZE;
    const page = (address - offset) / PAGE_SIZE;
    const slot = page & (slots - 1);
    const pages = access === READ ? this.#readPages : this.#writePages;
    const at = access === READ ? this.#readAt : this.#writeAt;
    if (pages[slot] === page) return (at[slot] ?? 0) + offset;
    const physical = this.#translate(address, access);
    if (physical < 0) throw new MemoryFault(address, access === READ ? "read" : "write");
    const after = this.#stop[7] ?? 0;
    if (after !== this.#generation) {
      this.#forget();
      this.#generation = after;
    }
    pages[slot] = page;
    at[slot] = physical - offset;
    return physical;
  }

  #translate(address: number, access: 0 | 1): number {
    if (!(address >= 0 && address < 2 ** 53)) return Miss.unmapped;
    for (;;) {
      const physical = this.#engine.translate(this.#space, address, access);
      if (physical >= 0 || !this.#pageIn(address, access)) return physical;
    }
  }

  #slow(address: number, length: number): DataView {
    const bytes = this.bytes(address, length);
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  }

  u8(address: number): number {
    const p = this.#locate(address, READ);
    return this.#physical.chunk(p).view.getUint8(p & chunkMask);
  }
  u16(address: number): number {
    if (address % PAGE_SIZE > PAGE_SIZE - 2) return this.#slow(address, 2).getUint16(0, true);
    const p = this.#locate(address, READ);
    return this.#physical.chunk(p).view.getUint16(p & chunkMask, true);
  }
  i32(address: number): number {
    return this.u32(address) | 0;
  }
  u32(address: number): number {
    if (address % PAGE_SIZE > PAGE_SIZE - 4) return this.#slow(address, 4).getUint32(0, true);
    const p = this.#locate(address, READ);
    return this.#physical.chunk(p).view.getUint32(p & chunkMask, true);
  }
  u64(address: number): bigint {
    if (address % PAGE_SIZE > PAGE_SIZE - 8) return this.#slow(address, 8).getBigUint64(0, true);
    const p = this.#locate(address, READ);
    return this.#physical.chunk(p).view.getBigUint64(p & chunkMask, true);
  }
  /** A 64-bit value as a number, exact below 2^53. */
  num64(address: number): number {
    return this.u32(address) + this.u32(address + 4) * two32;
  }

  setU8(address: number, value: number): void {
    const p = this.#locate(address, WRITE);
    this.#physical.chunk(p).view.setUint8(p & chunkMask, value);
  }
  setU16(address: number, value: number): void {
    if (address % PAGE_SIZE > PAGE_SIZE - 2) {
      this.write(address, Uint8Array.of(value, value >> 8));
      return;
    }
    const p = this.#locate(address, WRITE);
    this.#physical.chunk(p).view.setUint16(p & chunkMask, value, true);
  }
  setU32(address: number, value: number): void {
    if (address % PAGE_SIZE > PAGE_SIZE - 4) {
      this.write(address, Uint8Array.of(value, value >> 8, value >> 16, value >> 24));
      return;
    }
    const p = this.#locate(address, WRITE);
    this.#physical.chunk(p).view.setUint32(p & chunkMask, value, true);
  }
  setU64(address: number, value: bigint): void {
    if (address % PAGE_SIZE > PAGE_SIZE - 8) {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, value, true);
      this.write(address, bytes);
      return;
    }
    const p = this.#locate(address, WRITE);
    this.#physical.chunk(p).view.setBigUint64(p & chunkMask, value, true);
  }
  /** Sets 64 bits from a number; negative ones are sign-extended. */
  setNum64(address: number, value: number): void {
    // Both halves are checked before either is written, as a kernel's put_user of eight bytes.
    if (address % PAGE_SIZE > PAGE_SIZE - 8) {
      this.setU64(address, BigInt.asUintN(64, BigInt(value)));
      return;
    }
    const p = this.#locate(address, WRITE);
    const view = this.#physical.chunk(p).view;
    view.setUint32(p & chunkMask, value, true);
    view.setUint32((p & chunkMask) + 4, Math.floor(value / two32), true);
  }

  /** Fills `into` with 32-bit words. */
  readWords(address: number, into: Uint32Array): void {
    const { length } = into;
    const p = address % PAGE_SIZE > PAGE_SIZE - 4 * length ? -1 : this.#locate(address, READ);
    const view = p < 0 ? this.#slow(address, 4 * length) : this.#physical.chunk(p).view;
    const at = p < 0 ? 0 : p & chunkMask;
    for (let word = 0; word < length; word++) into[word] = view.getUint32(at + 4 * word, true);
  }
  writeWords(address: number, from: Uint32Array): void {
    const { length } = from;
    if (address % PAGE_SIZE > PAGE_SIZE - 4 * length) {
      const bytes = new DataView(new ArrayBuffer(4 * length));
      for (let word = 0; word < length; word++) bytes.setUint32(4 * word, from[word] ?? 0, true);
      this.write(address, new Uint8Array(bytes.buffer));
      return;
    }
    const p = this.#locate(address, WRITE);
    const { view } = this.#physical.chunk(p);
    for (let word = 0; word < length; word++) view.setUint32((p & chunkMask) + 4 * word, from[word] ?? 0, true);
  }

  /** Fills `into` from guest memory. */
  read(address: number, into: Uint8Array): void {
    const done = this.readSome(address, into);
    if (done < into.length) throw new MemoryFault(address + done, "read");
  }
  write(address: number, from: Uint8Array): void {
    const done = this.writeSome(address, from);
    if (done < from.length) throw new MemoryFault(address + done, "write");
  }
  /** A copy of guest bytes. */
  bytes(address: number, length: number): Uint8Array {
    const into = new Uint8Array(length);
    this.read(address, into);
    return into;
  }

  /** As `read`, but stops at the first bad page; the number of bytes read. */
  readSome(address: number, into: Uint8Array): number {
    return this.#copy(address, into, READ);
  }
  /** As `write`, but stops at the first bad page; the number of bytes written. */
  writeSome(address: number, from: Uint8Array): number {
    return this.#copy(address, from, WRITE);
  }

  #copy(address: number, data: Uint8Array, access: 0 | 1): number {
    let done = 0;
    while (done < data.length) {
      const at = address + done;
      if (!(at >= 0 && at < 2 ** 53)) break;
      const left = data.length - done;
      done +=
        access === READ
          ? this.#engine.copyOut(this.#space, at, data, done, left)
          : this.#engine.copyIn(this.#space, at, data, done, left);
      if (done < data.length && !this.#pageIn(address + done, access)) break;
    }
    return done;
  }

  /**
   * A NUL-terminated string as bytes mapped to characters one to one (latin1), so that any file name survives.
   * @returns undefined when there is no NUL within `max` bytes.
   */
  cstring(address: number, max: number): string | undefined {
    let text = "";
    let at = address;
    while (text.length < max) {
      const p = this.#locate(at, READ);
      const offset = p & chunkMask;
      const room = Math.min(PAGE_SIZE - (p % PAGE_SIZE), max - text.length);
      const bytes = this.#physical.chunk(p).bytes.subarray(offset, offset + room);
      const end = bytes.indexOf(0);
      text += Buffer.from(bytes.buffer, bytes.byteOffset, end < 0 ? room : end).toString("latin1");
      if (end >= 0) return text;
      at += room;
    }
    return undefined;
  }

  fill(address: number, length: number, value: number): void {
    this.write(address, new Uint8Array(length).fill(value));
  }
}
