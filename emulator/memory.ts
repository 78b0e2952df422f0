import { TestbedError } from "./errors.ts";
import { GuestMemory } from "./guest-memory.ts";
import { Miss } from "./native.ts";
import type { NativeEngine } from "./native-engine.ts";
import { PAGE_SIZE, type PhysicalMemory } from "./physical-memory.ts";

export type { GuestMemory } from "./guest-memory.ts";
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;

/** What a mapping shows: a file, shared memory, or an area with a name. Its pages come when they are first touched. */
export interface Backing {
  /** As the last column of /proc/self/maps: a path, `[heap]`, `[stack]`, or nothing. */
  readonly name: string;
  /** Device and inode numbers for /proc/self/maps, 0 for memory without a file. */
  readonly dev: number;
  readonly ino: number;
  /**
   * The frame that holds this page of the file (byte offset / 4096), or -1 where the file has ended (SIGBUS).
   * The backing keeps its own reference. Areas without this method are zero-filled.
   */
  frame?(index: number): number;
}

/** One mapping, as a line of /proc/self/maps. */
export interface Region {
  start: number;
  /** Exclusive. */
  end: number;
  /** PROT_READ, PROT_WRITE, PROT_EXEC. */
  prot: number;
  shared: boolean;
  /** Grows towards lower addresses when touched below its start. */
  grows: boolean;
  backing: Backing | undefined;
  /** Byte offset in the backing at `start`. */
  offset: number;
}

export interface MapOptions {
  backing?: Backing;
  offset?: number;
  shared?: boolean;
  grows?: boolean;
}

/** `memory`: physical memory has run out. */
export type Resolution = "ok" | "unmapped" | "protection" | "bus" | "memory";

/** What the engine keeps of a backing with one distance between its offsets and the addresses. */
interface Tag {
  readonly id: number;
  readonly backing: Backing;
  /** Offset in the backing minus the address. */
  readonly delta: number;
}

/** Pages brought in around the one that was touched, as Linux's fault-around does. */
const faultAround = 16;
const stackGuardPages = 256;

/** The memory of one process: mappings, page permissions, and the pages behind them. */
export class AddressSpace {
  readonly memory: GuestMemory;
  /** Exclusive end of user space. */
  readonly end: number;
  /** How far a growing mapping may reach below its highest address, in bytes (RLIMIT_STACK). */
  stackLimit = 8 * 1024 * 1024;
  /** Called once when the space is closed. */
  onClose: (() => void) | undefined;
  readonly #engine: NativeEngine;
  readonly #physical: PhysicalMemory;
  readonly #stop: Uint32Array;
  readonly #adopt: (space: AddressSpace) => AddressSpace;
  #id: number;
  readonly #tags = new Map<number, Tag>();
  readonly #tagIds = new Map<Backing, Map<number, number>>();
  #lastTag = 0;
  #closed = false;
  readonly #out = new Float64Array(7);

  constructor(
    engine: NativeEngine,
    physical: PhysicalMemory,
    stop: Uint32Array,
    id: number,
    end: number,
    adopt: (space: AddressSpace) => AddressSpace,
  ) {
    this.#engine = engine;
    this.#physical = physical;
    this.#stop = stop;
    this.#id = id;
    this.end = end;
    this.#adopt = adopt;
    this.memory = new GuestMemory(engine, physical, id, stop, (address, access) => {
      return this.resolve(address, access === 0 ? "read" : "write") === "ok";
    });
  }

  /** The engine's number for this space. */
  get id(): number {
    return this.#id;
  }

  #tagFor(options: MapOptions, start: number): number {
    const { backing } = options;
    if (backing === undefined) return 0;
    const delta = backing.frame === undefined ? 0 : (options.offset ?? 0) - start;
    const known = this.#tagIds.get(backing)?.get(delta);
    if (known !== undefined) return known;
    if (this.#tags.size > 2 * this.#engine.regionCount(this.#id) + 64) this.#sweepTags();
    const id = ++this.#lastTag;
    this.#keepTag({ id, backing, delta });
    return id;
  }

  #keepTag(tag: Tag): void {
    this.#tags.set(tag.id, tag);
    const ids = this.#tagIds.get(tag.backing) ?? new Map<number, number>();
    this.#tagIds.set(tag.backing, ids.set(tag.delta, tag.id));
  }

  #sweepTags(): void {
    const used = new Set<number>();
    for (let at = 0; this.#engine.region(this.#id, at, this.#out); at = this.#out[1] ?? 0) used.add(this.#out[3] ?? 0);
    const tags = [...this.#tags.values()];
    this.#tags.clear();
    this.#tagIds.clear();
    for (const tag of tags) if (used.has(tag.id)) this.#keepTag(tag);
  }

  /** Maps a page range, replacing what is there. `start` and `length` are multiples of the page size. */
  map(start: number, length: number, prot: number, options: MapOptions = {}): void {
    const tag = this.#tagFor(options, start);
    const paged = options.backing?.frame !== undefined;
    const { shared = false, grows = false } = options;
    this.#engine.map(this.#id, start, start + length, prot, tag, shared, paged, grows);
  }

  unmap(start: number, length: number): void {
    this.#engine.unmap(this.#id, start, start + length);
  }

  /** Changes the rights of a page range. False, with the part before the first hole changed, when not all of it is mapped. */
  protect(start: number, length: number, prot: number): boolean {
    const hole = this.#engine.firstHole(this.#id, start, start + length);
    if (hole > start) this.#engine.protect(this.#id, start, hole, prot);
    return hole >= start + length;
  }

  /** Moves mappings with their pages; what was at the target is gone. */
  move(from: number, length: number, to: number): void {
    const regions = [...this.regions(from)].filter((r) => r.start < from + length);
    this.#engine.move(this.#id, from, length, to);
    for (const region of regions) {
      if (region.backing?.frame === undefined) continue;
      // The offset of a page is kept as a distance from its address, which has changed.
      const start = Math.max(region.start, from);
      const end = Math.min(region.end, from + length);
      const tag = this.#tagFor(
        { ...region, backing: region.backing, offset: region.offset + start - region.start },
        start - from + to,
      );
      this.#engine.retag(this.#id, start - from + to, end - from + to, tag);
    }
  }

  /** Forgets the pages of a range (MADV_DONTNEED): private memory reads as zero or as the file again. */
  discard(start: number, length: number): void {
    this.#engine.discard(this.#id, start, start + length);
  }

  /** The highest free range of `length` bytes within [low, high); -1 when there is none. */
  find(length: number, low: number, high: number): number {
    return this.#engine.find(this.#id, length, low, high);
  }

  isFree(start: number, length: number): boolean {
    return this.#engine.isFree(this.#id, start, start + length);
  }

  /** True when every page of the range is mapped. */
  isMapped(start: number, length: number): boolean {
    return this.#engine.firstHole(this.#id, start, start + length) >= start + length;
  }

  /** True when the page has a frame (mincore). */
  isResident(address: number): boolean {
    return !this.#closed && address >= 0 && address < this.end && this.#engine.resident(this.#id, address);
  }

  /** Bytes of frames in place. */
  get residentBytes(): number {
    return this.#closed ? 0 : this.#engine.residentPages(this.#id) * PAGE_SIZE;
  }

  /** Bytes of all regions. */
  get mappedBytes(): number {
    return this.#closed ? 0 : this.#engine.mappedBytes(this.#id);
  }

  regionAt(address: number): Region | undefined {
    const region = this.#regionFrom(address);
    return region !== undefined && region.start <= address ? region : undefined;
  }

  /** All regions from the one that holds `from` or the next above it, ascending. */
  *regions(from = 0): Generator<Region> {
    for (let region = this.#regionFrom(from); region !== undefined; region = this.#regionFrom(region.end)) yield region;
  }

  #regionFrom(address: number): Region | undefined {
    const out = this.#out;
    if (this.#closed || !(address >= 0 && address < this.end)) return undefined;
    if (!this.#engine.region(this.#id, address, out)) return undefined;
    const [start = 0, end = 0, prot = 0, id = 0, shared = 0, , grows = 0] = out;
    const tag = this.#tags.get(id);
    const offset = tag?.backing?.frame === undefined ? 0 : start + tag.delta;
    return { start, end, prot, shared: shared !== 0, grows: grows !== 0, backing: tag?.backing, offset };
  }

  /** A copy of this space for fork: private pages are shared until one side writes, shared mappings stay shared. */
  fork(): AddressSpace {
    const id = this.#engine.forkSpace(this.#id);
    const child = new AddressSpace(this.#engine, this.#physical, this.#stop, id, this.end, this.#adopt);
    child.#takeTags(this);
    child.stackLimit = this.stackLimit;
    return this.#adopt(child);
  }

  #takeTags(other: AddressSpace): void {
    this.#tags.clear();
    this.#tagIds.clear();
    for (const tag of other.#tags.values()) this.#keepTag(tag);
    this.#lastTag = other.#lastTag;
  }

  /** Becomes a copy of another space, as it is now. */
  become(other: AddressSpace): void {
    const id = this.#engine.forkSpace(other.#id);
    this.#engine.removeSpace(this.#id);
    this.#id = id;
    this.#takeTags(other);
    this.memory.retarget(id);
  }

  /** Frees everything. Nothing can be done with the space any more, but to see that nothing is mapped in it. */
  close(): void {
    this.#closed = true;
    this.#engine.removeSpace(this.#id);
    this.onClose?.();
    this.onClose = undefined;
  }

  /** After a page fault: brings the page in if the mapping allows the access, and says what is wrong if not. */
  resolve(address: number, access: "read" | "write" | "fetch"): Resolution {
    if (address >= this.end) return "unmapped";
    const code = access === "read" ? 0 : access === "write" ? 1 : 2;
    const physical = this.#engine.translate(this.#id, address, code);
    if (physical >= 0) return "ok";
    switch (physical) {
      case Miss.pager:
        return this.#pageIn(address, code);
      case Miss.forbidden:
        return "protection";
      case Miss.outOfMemory:
        return "memory";
      case Miss.unmapped:
        return this.#grow(address) ? this.resolve(address, access) : "unmapped";
      default:
        throw new TestbedError(`translation answered ${physical}`);
    }
  }

  #pageIn(address: number, code: number): Resolution {
    const region = this.regionAt(address);
    const backing = region?.backing;
    if (region === undefined || backing?.frame === undefined) return "unmapped";
    const page = address - (address % PAGE_SIZE);
    const frame = backing.frame((region.offset + page - region.start) / PAGE_SIZE);
    if (frame < 0) return "bus";
    if (frame === 0) return "memory";
    this.#engine.install(this.#id, page, frame);
    // Shared memory is often sparse, so only private file pages are brought in ahead.
    const last = region.shared ? page : Math.min(region.end, page + faultAround * PAGE_SIZE);
    for (let at = page + PAGE_SIZE; at < last; at += PAGE_SIZE) {
      const next = backing.frame((region.offset + at - region.start) / PAGE_SIZE);
      if (next <= 0) break;
      this.#engine.install(this.#id, at, next);
    }
    const physical = this.#engine.translate(this.#id, address, code);
    return physical >= 0 ? "ok" : physical === Miss.outOfMemory ? "memory" : "protection";
  }

  #grow(address: number): boolean {
    const region = this.#regionFrom(address);
    if (region === undefined || !region.grows || region.start <= address) return false;
    const start = address - (address % PAGE_SIZE);
    let top = region.end;
    for (let above = this.#regionFrom(top); above?.grows && above.start === top; above = this.#regionFrom(top))
      top = above.end;
    if (top - start > this.stackLimit) return false;
    const guard = Math.max(0, start - stackGuardPages * PAGE_SIZE);
    for (const below of this.regions(guard)) {
      if (below.start >= region.start) break;
      // A mapping that nobody can touch may lie in the guard gap.
      if (below.prot !== 0 || below.end > start) return false;
    }
    this.map(start, region.start - start, region.prot, {
      ...(region.backing && { backing: region.backing }),
      grows: true,
    });
    return true;
  }
}

/** Memory that several address spaces share: what MAP_SHARED|MAP_ANONYMOUS, memfd and SysV segments are made of. */
export class SharedPages implements Backing {
  readonly name: string;
  readonly dev: number;
  readonly ino: number;
  /** Size in bytes; pages beyond it are not there. */
  size: number;
  readonly #physical: PhysicalMemory;
  readonly #frames = new Map<number, number>();

  constructor(
    physical: PhysicalMemory,
    name: string,
    size: number,
    identity: { dev: number; ino: number } = { dev: 0, ino: 0 },
  ) {
    this.#physical = physical;
    this.name = name;
    this.size = size;
    this.dev = identity.dev;
    this.ino = identity.ino;
  }

  frame(index: number): number {
    if (index < 0 || index * PAGE_SIZE >= this.size) return -1;
    let frame = this.#frames.get(index);
    if (frame === undefined) {
      frame = this.#physical.allocate();
      if (frame !== 0) this.#frames.set(index, frame);
    }
    return frame;
  }

  /** How many pages are there. */
  get frameCount(): number {
    return this.#frames.size;
  }

  /** Gives the pages back. A mapping that still shows some keeps those. */
  release(): void {
    for (const frame of this.#frames.values()) this.#physical.release(frame);
    this.#frames.clear();
    this.size = 0;
  }
}
