/** System V shared memory: shmget, shmat, shmdt, shmctl (ipc/shm.c). */
import { PROT_EXEC, PROT_READ, PROT_WRITE, type Region } from "../../../emulator/memory.ts";
import { Errno } from "../errno.ts";
import { Segment } from "../ipc/shared-memory.ts";
import { permOf, shmidDs, shminfo, shmUse } from "../ipc/structs.ts";
import { IPC_INFO, IPC_R, IPC_RMID, IPC_SET, IPC_STAT, IPC_W, nowSeconds } from "../ipc/table.ts";
import { choice, flags, int, type Kind, octal, pointer, size } from "../kinds/kinds.ts";
import { PAGE, pageUp } from "../memory/pages.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { fileCall } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { choose, overLimit } from "./memory.ts";

const SHM_RDONLY = 0o10000;
const SHM_RND = 0o20000;
const SHM_REMAP = 0o40000;
const SHM_EXEC = 0o100000;
const SHM_HUGETLB = 0o4000;
const SHM_LOCK = 11;
const SHM_UNLOCK = 12;
const SHM_STAT = 13;
const SHM_INFO = 14;
const SHM_STAT_ANY = 15;
/** Flags in shm_perm.mode. */
const SHM_DEST = 0o1000;
const SHM_LOCKED = 0o2000;
const MAX_LONG = 2 ** 63;
/** SHMMAX and SHMALL of 64-bit: no number can have it. */
const SHM_LIMIT = 2n ** 64n - 1n - 2n ** 24n;

export const shmget = fileCall((task, key, bytes, given) => {
  const { sharedMemory } = task.kernel.ipc;
  sharedMemory.sweep();
  const check = (found: Segment): void => {
    if (bytes > found.size) fail(Errno.EINVAL, `the segment has ${found.size} bytes`);
  };
  return sharedMemory.table.get(task, key, given, check, (making) => {
    if (bytes < 1 || bytes >= MAX_LONG) fail(Errno.EINVAL, "no size of a segment");
    if (given & SHM_HUGETLB) fail(Errno.ENOMEM, "there are no huge pages");
    return new Segment(making, task.kernel, bytes, task.process.pid);
  });
});

/** Maps a segment and answers where. */
export const shmat = fileCall((task, id, given, how) => {
  const { process, kernel } = task;
  const { space } = process;
  let address = given;
  if (address % PAGE !== 0) {
    if (!(how & SHM_RND)) fail(Errno.EINVAL, "the address is no multiple of the page size");
    address -= address % PAGE;
    if (address === 0 && how & SHM_REMAP) fail(Errno.EINVAL, "SHM_REMAP needs an address");
  } else if (address === 0 && how & SHM_REMAP) fail(Errno.EINVAL, "SHM_REMAP needs an address");
  const { sharedMemory } = kernel.ipc;
  sharedMemory.sweep();
  const segment = sharedMemory.table.find(id);
  const readOnly = (how & SHM_RDONLY) !== 0;
  segment.demand(process.cred, IPC_R | (readOnly ? 0 : IPC_W) | (how & SHM_EXEC ? 0o111 : 0));
  const length = pageUp(segment.size);
  if (address !== 0) {
    if (address > space.end - length) fail(Errno.EINVAL, "it would end beyond user space");
    if (!(how & SHM_REMAP) && !space.isFree(address, length)) fail(Errno.EINVAL, "something is mapped there");
  } else {
    address = choose(process.mm, 0, length, false);
    if (address < 0) fail(Errno.ENOMEM, "there is no free range that large");
  }
  if (overLimit(task, length)) fail(Errno.ENOMEM, "RLIMIT_AS is reached");
  const prot = PROT_READ | (readOnly ? 0 : PROT_WRITE) | (how & SHM_EXEC ? PROT_EXEC : 0);
  const backing = readOnly ? process.mm.readOnly(segment.pages) : segment.pages;
  space.map(address, length, prot, { backing, offset: 0, shared: true });
  segment.attachTime = nowSeconds(task);
  segment.lastPid = process.pid;
  return address;
});

export const shmdt = fileCall((task, address) => {
  const { process, kernel } = task;
  const { space } = process;
  if (address % PAGE !== 0) fail(Errno.EINVAL, "the address is no multiple of the page size");
  const { sharedMemory } = kernel.ipc;
  // As in the kernel the part at the address itself may be gone: any part at its place behind it tells which segment it was.
  const inPlace = ({ start, offset }: Region): boolean => start >= address && start - address === offset;
  let segment: Segment | undefined;
  const parts: Region[] = [];
  for (const region of space.regions(address)) {
    if (segment !== undefined && region.start >= address + segment.size) break;
    const shown = inPlace(region) ? sharedMemory.shownBy(region.backing) : undefined;
    segment ??= shown;
    if (shown !== undefined && shown === segment) parts.push(region);
  }
  if (segment === undefined) return task.fail(Errno.EINVAL, "no segment is attached there");
  for (const { start, end } of parts) space.unmap(start, end - start);
  segment.detachTime = nowSeconds(task);
  segment.lastPid = process.pid;
  sharedMemory.sweep();
  return 0;
});

function writeStat(task: Task, segment: Segment, at: number): void {
  const flagBits = (segment.doomed ? SHM_DEST : 0) | (segment.locked ? SHM_LOCKED : 0);
  const value = {
    // What is doomed has no key any more.
    shm_perm: { ...permOf(segment, flagBits), ...(segment.doomed && { key: 0 }) },
    shm_segsz: segment.size,
    shm_atime: segment.attachTime,
    shm_dtime: segment.detachTime,
    shm_ctime: segment.changeTime,
    shm_cpid: segment.makerPid,
    shm_lpid: segment.lastPid,
    shm_nattch: task.kernel.ipc.sharedMemory.attached(segment),
    unused4: 0,
    unused5: 0,
  };
  shmidDs.write(task.memory, at, value, task.abi);
}

export const shmctl = fileCall((task, id, command, at) => {
  const { kernel, process, memory, abi } = task;
  const { cred } = process;
  const { sharedMemory } = kernel.ipc;
  const { table } = sharedMemory;
  if (id < 0 || command < 0) fail(Errno.EINVAL, "a negative number");
  sharedMemory.sweep();
  switch (command) {
    case IPC_INFO: {
      const most = 0x7fff_ffff;
      const all = 0xfeff_ffff;
      const unused = { unused1: 0, unused2: 0, unused3: 0, unused4: 0 };
      const shmmni = kernel.settings.get("kernel.shmmni");
      const value = { shmmax: most, shmmin: 1, shmmni, shmseg: shmmni, shmall: all, ...unused };
      shminfo.write(memory, at, value, abi);
      if (abi.word === 8) for (const field of [0, 4]) memory.setU64(at + 8 * field, SHM_LIMIT);
      return table.highest;
    }
    case SHM_INFO: {
      let [total, resident] = [0, 0];
      for (const segment of table.values()) {
        total += pageUp(segment.size) / PAGE;
        resident += segment.pages.frameCount;
      }
      const value = { shm_tot: total, shm_rss: resident, shm_swp: 0, swap_attempts: 0, swap_successes: 0 };
      shmUse.write(memory, at, { used_ids: table.size, ...value }, abi);
      return table.highest;
    }
    case IPC_STAT:
    case SHM_STAT:
    case SHM_STAT_ANY: {
      const segment = command === IPC_STAT ? table.find(id) : table.at(id);
      if (command !== SHM_STAT_ANY) segment.demand(cred, IPC_R);
      writeStat(task, segment, at);
      return command === IPC_STAT ? 0 : segment.id;
    }
    case IPC_SET: {
      const { shm_perm } = shmidDs.read(memory, at, abi);
      const segment = table.find(id);
      segment.demandOwner(cred);
      segment.change(shm_perm, nowSeconds(task));
      return 0;
    }
    case IPC_RMID: {
      const segment = table.find(id);
      segment.demandOwner(cred);
      segment.doomed = true;
      table.hide(segment);
      sharedMemory.sweep();
      return 0;
    }
    case SHM_LOCK:
    case SHM_UNLOCK: {
      const segment = table.find(id);
      segment.demandOwner(cred);
      segment.locked = command === SHM_LOCK;
      return 0;
    }
  }
  return fail(Errno.EINVAL, "unknown command");
});

export const ipcKey: Kind = {
  shape: "int",
  moment: "entry",
  print: (value) => (value === 0 ? "IPC_PRIVATE" : `0x${(value >>> 0).toString(16)}`),
};
/** i386 programs add IPC_64, which means nothing here: the struct is always the present one. */
export const IPC_64 = 0x100;
const command: Kind = choice("SHM_", {
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  IPC_INFO,
  SHM_LOCK,
  SHM_UNLOCK,
  SHM_STAT,
  SHM_INFO,
  SHM_STAT_ANY,
});
const how: Kind = flags("SHM_", { SHM_RDONLY, SHM_RND, SHM_REMAP, SHM_EXEC }, "int");
const o = { family: "ipc" } as const;

export const sharedMemoryCalls: readonly Row[] = [
  row("shmget", { x86_64: 29, i386: 395 }, [ipcKey, size, octal], shmget, { ...o, support: "no huge pages: ENOMEM" }),
  row("shmat", { x86_64: 30, i386: 397 }, [int, pointer, how], shmat, { ...o, returns: pointer }),
  row("shmdt", { x86_64: 67, i386: 398 }, [pointer], shmdt, o),
  row("shmctl", { x86_64: 31, i386: 396 }, [int, command, pointer], shmctl, o),
];
