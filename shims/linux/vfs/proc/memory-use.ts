/** How much memory a process uses, and for what: the Vm* and Rss* of /proc/[pid]/status (fs/proc/task_mmu.c, task_mem). */

import type { Region } from "../../../../emulator/memory.ts";
import type { Mm } from "../../memory/mm.ts";

const [PROT_WRITE, PROT_EXEC] = [2, 4];
/** What one page of a page table is for. */
const TABLE_SPAN = 1 << 21;
/** Page tables above the last level. */
const UPPER_TABLES = 3;
/** Of a mapping no more counts as resident; no page table is walked for it. */
const MOST_RESIDENT = 1 << 20;

/** The device of shared memory without a file. */
const SHARED_DEVICE = 1;

/** In bytes. */
export interface MemoryUse {
  size: number;
  anonymous: number;
  file: number;
  shared: number;
  /** Private and writable, without the stack. */
  data: number;
  stack: number;
  /** Code of the program, and of everything else. */
  program: number;
  libraries: number;
  tables: number;
}

/** All that is resident. */
export function residentBytes({ anonymous, file, shared }: MemoryUse): number {
  return anonymous + file + shared;
}

function kindOf({ shared, prot, backing }: Region): "anonymous" | "file" | "shared" {
  if (shared) return backing === undefined || backing.dev === SHARED_DEVICE ? "shared" : "file";
  return backing === undefined || backing.ino === 0 || prot & PROT_WRITE ? "anonymous" : "file";
}

export function memoryUse({ space, exe }: Mm): MemoryUse {
  const use: MemoryUse = {
    size: space.mappedBytes,
    anonymous: 0,
    file: 0,
    shared: 0,
    data: 0,
    stack: 0,
    program: 0,
    libraries: 0,
    tables: 0,
  };
  const isProgram = (backing: Region["backing"]): boolean =>
    exe !== undefined && backing?.ino === exe.ino && backing.dev === exe.fs.dev;
  let tabled = 0;
  for (const region of space.regions()) {
    const { start, end, prot, shared, grows, backing } = region;
    const bytes = end - start;
    const resident = prot === 0 ? 0 : Math.min(bytes, MOST_RESIDENT);
    use[kindOf(region)] += resident;
    const isExecuted = (prot & (PROT_EXEC | PROT_WRITE)) === PROT_EXEC;
    if (grows) use.stack += bytes;
    else if (isExecuted) use[isProgram(backing) ? "program" : "libraries"] += bytes;
    else if (!shared && prot & PROT_WRITE) use.data += bytes;
    if (resident === 0) continue;
    const [first, last] = [Math.floor(start / TABLE_SPAN), Math.floor((start + resident - 1) / TABLE_SPAN)];
    use.tables += 4096 * Math.max(0, last - Math.max(first, tabled) + 1);
    tabled = last + 1;
  }
  if (use.tables > 0) use.tables += 4096 * UPPER_TABLES;
  return use;
}
