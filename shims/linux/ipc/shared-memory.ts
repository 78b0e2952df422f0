/** System V shared memory (ipc/shm.c). */
import { type Backing, SharedPages } from "../../../emulator/memory.ts";
import type { Mm } from "../memory/mm.ts";
import { PAGE } from "../memory/pages.ts";
import type { Kernel } from "../task.ts";
import { ReadOnlyFile } from "../vfs/read-only-file.ts";
import { type IpcMaking, IpcObject, IpcTable } from "./table.ts";

export class Segment extends IpcObject {
  readonly size: number;
  readonly pages: SharedPages;
  readonly makerPid: number;
  lastPid = 0;
  attachTime = 0;
  detachTime = 0;
  /** IPC_RMID while it is attached: it goes when the last one lets go of it. */
  doomed = false;
  locked = false;

  constructor(making: IpcMaking, kernel: Kernel, size: number, pid: number) {
    super(making);
    this.size = size;
    this.makerPid = pid;
    const name = `/SYSV${(making.key >>> 0).toString(16).padStart(8, "0")} (deleted)`;
    const length = Math.ceil(size / PAGE) * PAGE;
    this.pages = new SharedPages(kernel.machine.physical, name, length, { dev: 1, ino: making.id });
  }
}

export class SharedMemory {
  readonly table: IpcTable<Segment>;
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    const { settings } = kernel;
    this.table = new IpcTable(settings, () => settings.get("kernel.shmmni"), "kernel.shm_next_id");
    this.#kernel = kernel;
  }

  /** The segment that a mapping shows, if it shows one. */
  shownBy(backing: Backing | undefined): Segment | undefined {
    if (backing === undefined) return undefined;
    for (const segment of this.table.values()) if (shows(backing, segment)) return segment;
    return undefined;
  }

  /** How many mappings of a segment there are. Address spaces do not say when one ends, so they are counted when it matters. */
  attached(segment: Segment): number {
    const memories = new Set<Mm>();
    for (const process of this.#kernel.processes.values()) if (!process.ended) memories.add(process.mm);
    let count = 0;
    for (const mm of memories) {
      for (const { backing } of mm.space.regions()) if (backing !== undefined && shows(backing, segment)) count++;
    }
    return count;
  }

  /** Ends what IPC_RMID was done on and nobody has attached any more. */
  sweep(): void {
    for (const segment of [...this.table.values()]) {
      if (!segment.doomed || this.attached(segment) > 0) continue;
      this.table.remove(segment);
      segment.pages.release();
    }
  }
}

/** A segment attached with SHM_RDONLY is shown through a backing that mprotect leaves read-only. */
function shows(backing: Backing, segment: Segment): boolean {
  return backing === segment.pages || (backing instanceof ReadOnlyFile && backing.inner === segment.pages);
}
