/** Address spaces with what the kernel remembers of them (Linux's mm_struct). Shared by CLONE_VM, copied by fork. */
import type { AddressSpace, Backing } from "../../../emulator/memory.ts";
import type { Abi } from "../abi.ts";
import type { AioContexts } from "../aio/context.ts";
import { ForkAdvice } from "../process/fork-advice.ts";
import type { FutexQueue } from "../thread/futex.ts";
import type { FileInode } from "../vfs/inode.ts";
import { ReadOnlyFile } from "../vfs/read-only-file.ts";
import { AddressRanges } from "./address-ranges.ts";

export interface MmOptions {
  readonly space: AddressSpace;
  readonly abi: Abi;
  readonly mmapBase: number;
  readonly bottomUp?: boolean;
  readonly startBrk: number;
  readonly brk?: number;
  readonly startStack: number;
  readonly argStart: number;
  readonly argEnd: number;
  readonly envStart: number;
  readonly envEnd: number;
  readonly auxv: Uint8Array;
  readonly heap?: Backing;
  readonly exe?: FileInode | undefined;
}

/** Where mmap looks for room. */
export interface MmapArea {
  readonly mmapBase: number;
  readonly bottomUp: boolean;
}

/** vm.mmap_min_addr: unprivileged processes map nothing below. */
export const MMAP_MIN_ADDR = 65536;

/** A free range for a mapping without a fixed place; -1 for none (arch_get_unmapped_area and its top-down form). */
export function findFree(space: AddressSpace, { mmapBase, bottomUp }: MmapArea, length: number): number {
  if (bottomUp) return lowestFree(space, length, mmapBase, space.end);
  const found = space.find(length, MMAP_MIN_ADDR, mmapBase);
  return found >= 0 ? found : space.find(length, MMAP_MIN_ADDR, space.end);
}

/** The lowest free range within [low, high), -1 for none. */
export function lowestFree(space: AddressSpace, length: number, low: number, high: number): number {
  let at = low;
  for (const region of space.regions(low)) {
    if (region.start >= at + length) break;
    at = Math.max(at, region.end);
  }
  return at + length <= high ? at : -1;
}

export class Mm {
  readonly space: AddressSpace;
  /** ABI of the program that was executed into it. */
  readonly abi: Abi;
  /** mmap searches down from here, or up in the layout of old. */
  readonly mmapBase: number;
  readonly bottomUp: boolean;
  readonly startBrk: number;
  brk: number;
  /** Where the program, its arguments and its environment lie, for /proc. */
  readonly startStack: number;
  readonly argStart: number;
  readonly argEnd: number;
  readonly envStart: number;
  readonly envEnd: number;
  readonly auxv: Uint8Array;
  /** Address behind `sysenter; int $0x80` in the vDSO, where sysenter returns to; 0 when there is no vDSO. */
  vdsoLanding = 0;
  /** Where i386 handlers without SA_RESTORER return to: the vDSO's __kernel_sigreturn and __kernel_rt_sigreturn, or 0. */
  vdsoSigreturn = 0;
  vdsoRtSigreturn = 0;
  /** What the heap's mappings are known by. */
  readonly heap: Backing;
  /** The program that was executed into it. */
  readonly exe: FileInode | undefined;
  /** Processes that share it. */
  users = 1;
  /** Words of this space alone that tasks wait on, by address (see FutexTable). */
  readonly futexes = new Map<number, FutexQueue>();
  /** What madvise said of its mappings for the time of a fork. */
  readonly forkAdvice = new ForkAdvice();
  /** What mlock keeps in memory; not inherited by fork. Nothing is ever swapped out here: what counts is how much it is. */
  readonly locks = new AddressRanges();
  /** MCL_FUTURE: what is mapped from now on is locked too, with MCL_ONFAULT without bringing it in. */
  locksFuture: "no" | "yes" | "on fault" = "no";
  /** What may be written or executed and was not asked to be read; on x86 it can be. */
  readonly unread = new AddressRanges();
  /** What mseal has sealed. */
  readonly seals = new AddressRanges();
  /** What io_setup has made; undefined before the first. */
  aio: AioContexts | undefined;
  readonly #readOnly = new WeakMap<Backing, ReadOnlyFile>();
  /** Some mapping may be one that mprotect must not make writable. */
  hasReadOnly = false;

  constructor(o: MmOptions) {
    this.space = o.space;
    this.abi = o.abi;
    this.mmapBase = o.mmapBase;
    this.bottomUp = o.bottomUp ?? false;
    this.startBrk = o.startBrk;
    this.brk = o.brk ?? o.startBrk;
    this.startStack = o.startStack;
    this.argStart = o.argStart;
    this.argEnd = o.argEnd;
    this.envStart = o.envStart;
    this.envEnd = o.envEnd;
    this.auxv = o.auxv;
    this.heap = o.heap ?? { name: "[heap]", dev: 0, ino: 0 };
    this.exe = o.exe;
    if (this.exe !== undefined) this.exe.executed++;
  }

  /** A file as a shared mapping shows it that mprotect must not make writable. */
  readOnly(backing: Backing): ReadOnlyFile {
    this.hasReadOnly = true;
    let file = this.#readOnly.get(backing);
    if (file === undefined) {
      file = new ReadOnlyFile(backing);
      this.#readOnly.set(backing, file);
    }
    return file;
  }

  /** The copy that fork makes: private pages are shared until one side writes. */
  fork(): Mm {
    const copy = new Mm({ ...this, space: this.space.fork() });
    copy.vdsoLanding = this.vdsoLanding;
    copy.vdsoSigreturn = this.vdsoSigreturn;
    copy.vdsoRtSigreturn = this.vdsoRtSigreturn;
    copy.hasReadOnly = this.hasReadOnly;
    copy.seals.copy(this.seals);
    copy.unread.copy(this.unread);
    copy.forkAdvice.inherit(this.forkAdvice, copy.space);
    return copy;
  }

  /** A process lets go of it; the last one closes it. */
  release(): void {
    this.users--;
    if (this.users > 0) return;
    if (this.exe !== undefined) this.exe.executed--;
    this.aio?.close();
    this.space.close();
  }
}
