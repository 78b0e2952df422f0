/** The memory of one trusted application: what may be mapped where, and the checks on every pointer it passes. */
import {
  type AddressSpace,
  type GuestMemory,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
  type Region,
} from "../../emulator/memory.ts";
import { PAGE_SIZE, type PhysicalMemory } from "../../emulator/physical-memory.ts";
import { PrivateArea, SharedArea } from "./areas.ts";
import { fail, Tee } from "./results.ts";

/** TEE_MEMORY_ACCESS_* (tee_api_defines.h and OP-TEE's extensions). */
export const MemoryAccess = { READ: 1, WRITE: 2, ANY_OWNER: 4, NONSECURE: 0x1000_0000, SECURE: 0x2000_0000 } as const;

/** The lowest address a TA gets. */
const LOWEST = 0x1_0000;
/** Most memory one TA can have mapped, in bytes. */
const MEMORY_MAX = 2 ** 29;

export interface Placement {
  /** Where, or 0 for anywhere. */
  readonly at?: number;
  /** Bytes to keep free before and after, where a place is chosen. */
  readonly padBegin?: number;
  readonly padEnd?: number;
}

export const pageUp = (value: number): number => Math.ceil(value / PAGE_SIZE) * PAGE_SIZE;
export const pageDown = (value: number): number => value - (value % PAGE_SIZE);

export class TaMemory {
  readonly space: AddressSpace;
  /** Guest memory with the TA's own rights. */
  readonly guest: GuestMemory;
  readonly physical: PhysicalMemory;
  /** Mappings are placed from here downwards. */
  readonly #top: number;
  #mapped = 0;
  readonly #shared = new Set<SharedArea>();

  /** @param top exclusive upper end of what is placed freely */
  constructor(space: AddressSpace, physical: PhysicalMemory, top: number) {
    this.space = space;
    this.guest = space.memory;
    this.physical = physical;
    this.#top = top;
  }

  /**
   * Maps zeroed private memory and returns its address.
   * Ends the call with OUT_OF_MEMORY, ACCESS_CONFLICT where something is mapped, or BAD_PARAMETERS for an odd address.
   */
  mapPrivate(length: number, prot: number, area: PrivateArea, place: Placement = {}): number {
    const start = this.#place(length, place);
    this.space.map(start, pageUp(length), prot, { backing: area });
    this.#mapped += pageUp(length);
    return start;
  }

  /** Maps zeroed private memory that is never adjacent to anything: an access beyond it is a fault. */
  mapGuarded(length: number, area: PrivateArea): number {
    const guard = new PrivateArea("[guard]", { permanent: true });
    const start = this.mapPrivate(pageUp(length) + 2 * PAGE_SIZE, 0, guard) + PAGE_SIZE;
    this.space.map(start, pageUp(length), PROT_READ | PROT_WRITE, { backing: area });
    return start;
  }

  /** Maps zeroed memory that the TA may pass to others. */
  mapShareable(length: number, place: Placement = {}): number {
    const start = this.#place(length, place);
    const area = new SharedArea(this.physical, "[shared]", pageUp(length), true);
    this.#shared.add(area);
    this.space.map(start, pageUp(length), PROT_READ | PROT_WRITE, { backing: area, shared: true });
    this.#mapped += pageUp(length);
    return start;
  }

  /** Shows `length` bytes at `offset` of shared memory; returns the address of the first of them. */
  showShared(area: SharedArea, offset: number, length: number): number {
    const first = pageDown(offset);
    const bytes = pageUp(offset + length) - first;
    const start = this.#place(bytes, { padBegin: PAGE_SIZE, padEnd: PAGE_SIZE });
    this.space.map(start, bytes, PROT_READ | PROT_WRITE, { backing: area, offset: first, shared: true });
    this.#mapped += bytes;
    return start + (offset - first);
  }

  #place(length: number, { at = 0, padBegin = 0, padEnd = 0 }: Placement): number {
    const bytes = pageUp(length);
    const total = pageUp(padBegin) + bytes + pageUp(padEnd);
    if (!(bytes > 0 && total <= this.space.end)) fail(Tee.ERROR_BAD_PARAMETERS, `${length} bytes cannot be mapped`);
    if (this.#mapped + bytes > MEMORY_MAX)
      fail(Tee.ERROR_OUT_OF_MEMORY, `a trusted application has at most ${MEMORY_MAX} bytes`);
    if (at === 0) {
      const found = this.space.find(total, LOWEST, this.#top);
      return found < 0 ? fail(Tee.ERROR_OUT_OF_MEMORY, "no free range is that large") : found + pageUp(padBegin);
    }
    if (at % PAGE_SIZE !== 0) fail(Tee.ERROR_BAD_PARAMETERS, "the address is not at the start of a page");
    if (at < LOWEST || at + bytes > this.space.end) fail(Tee.ERROR_ACCESS_CONFLICT, "outside the TA's address space");
    if (!this.space.isFree(at, bytes)) fail(Tee.ERROR_ACCESS_CONFLICT, "something is mapped there");
    return at;
  }

  /** Takes a mapping of the TA's own away. ACCESS_DENIED for the TEE's, BAD_PARAMETERS where nothing is mapped. */
  unmap(address: number, length: number): void {
    const bytes = pageUp(length);
    const regions = this.#own(address, bytes);
    this.remove(address, bytes);
    for (const { backing, start, end } of regions) {
      if (!(backing instanceof SharedArea) || start < address || end > address + bytes) continue;
      if (end - start !== backing.size || !this.#shared.delete(backing)) continue;
      backing.close();
    }
  }

  /** Takes any mapping away. */
  remove(address: number, length: number): void {
    this.space.unmap(address, length);
    this.#mapped -= length;
  }

  /** Changes the rights of a mapping of the TA's own; what shows a file never becomes writable. */
  setProt(address: number, length: number, prot: number): void {
    const bytes = pageUp(length);
    for (const { backing } of this.#own(address, bytes)) {
      if (backing instanceof PrivateArea && backing.readonly && (prot & PROT_WRITE) !== 0)
        fail(Tee.ERROR_ACCESS_DENIED, "a mapped file cannot become writable");
    }
    this.space.protect(address, bytes, prot);
  }

  /** Moves a mapping of the TA's own; returns its new address. */
  remap(address: number, length: number, place: Placement): number {
    const bytes = pageUp(length);
    this.#own(address, bytes);
    const to = this.#place(bytes, place);
    this.space.move(address, bytes, to);
    return to;
  }

  /** The regions of a page range that belong to the TA. */
  #own(address: number, bytes: number): Region[] {
    if (address % PAGE_SIZE !== 0 || !(bytes > 0 && address + bytes <= this.space.end))
      fail(Tee.ERROR_BAD_PARAMETERS, "not a page range of the TA's address space");
    if (!this.space.isMapped(address, bytes)) fail(Tee.ERROR_BAD_PARAMETERS, "not all of it is mapped");
    const found: Region[] = [];
    for (const region of this.space.regions(address)) {
      if (region.start >= address + bytes) break;
      if (region.backing instanceof PrivateArea && region.backing.permanent)
        fail(Tee.ERROR_ACCESS_DENIED, `${region.backing.name} belongs to the TEE`);
      found.push(region);
    }
    return found;
  }

  /**
   * What TEE_CheckMemoryAccessRights asks (OP-TEE's vm_check_access_rights): every page mapped with these rights, and
   * private without ANY_OWNER. Ends the call with ACCESS_DENIED.
   */
  check(flags: number, address: number, length: number): void {
    const both = MemoryAccess.NONSECURE | MemoryAccess.SECURE;
    if (!(address >= 0 && length >= 0 && address + length <= 2 ** 53))
      this.#denied(address, "beyond the address space");
    if ((flags & both) === both) this.#denied(address, "both secure and not");
    if (length === 0) return;
    const anyOwner = (flags & MemoryAccess.ANY_OWNER) !== 0;
    const prot = flags & (PROT_READ | PROT_WRITE);
    for (let at = address; at < address + length; ) {
      const region = this.space.regionAt(at);
      if (region === undefined) this.#denied(at, "not mapped");
      if ((region.prot & prot) !== prot) this.#denied(at, `mapped ${protText(region.prot)}`);
      if (region.shared && !anyOwner) this.#denied(at, "not private to the TA");
      const secure = !(region.backing instanceof SharedArea) || region.backing.secure;
      if (secure ? flags & MemoryAccess.NONSECURE : flags & MemoryAccess.SECURE)
        this.#denied(at, secure ? "secure memory" : "memory of the normal world");
      at = region.end;
    }
  }

  #denied(address: number, why: string): never {
    return fail(Tee.ERROR_ACCESS_DENIED, `0x${address.toString(16)}: ${why}`);
  }

  /** A copy of what a TA points to; with `owner` "private" only the TA's own memory counts. */
  bytes(address: number, length: number, owner: "any" | "private" = "any"): Uint8Array {
    if (length === 0) return new Uint8Array(0);
    this.check(MemoryAccess.READ | (owner === "any" ? MemoryAccess.ANY_OWNER : 0), address, length);
    return this.guest.bytes(address, length);
  }

  write(address: number, bytes: Uint8Array, owner: "any" | "private" = "any"): void {
    if (bytes.length === 0) return;
    this.check(MemoryAccess.WRITE | (owner === "any" ? MemoryAccess.ANY_OWNER : 0), address, bytes.length);
    this.guest.write(address, bytes);
  }

  u32(address: number): number {
    return this.guest.u32(address);
  }
  setU32(address: number, value: number): void {
    this.guest.setU32(address, value);
  }
  u64(address: number): number {
    return this.guest.num64(address);
  }
  setU64(address: number, value: number): void {
    this.guest.setNum64(address, value);
  }

  /** The shared memory behind a range, or undefined where part of it is private. */
  sharedAt(address: number, length: number): { area: SharedArea; offset: number } | undefined {
    const region = this.space.regionAt(address);
    if (region === undefined || !(region.backing instanceof SharedArea) || address + length > region.end)
      return undefined;
    return { area: region.backing, offset: region.offset + (address - region.start) };
  }

  close(): void {
    this.space.close();
    for (const area of this.#shared) area.close();
    this.#shared.clear();
  }
}

function protText(prot: number): string {
  return `${prot & PROT_READ ? "r" : "-"}${prot & PROT_WRITE ? "w" : "-"}${prot & PROT_EXEC ? "x" : "-"}`;
}
