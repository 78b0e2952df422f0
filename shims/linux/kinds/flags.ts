/** Flags and enums with the kernel's names (the uapi headers), for memory, process, thread, time and TLS calls. */

import { Resource } from "../process/limits.ts";
import { choice, flags, type Kind, scalar } from "./kinds.ts";

/** asm/prctl.h */
export const ArchPrctl = {
  ARCH_SET_GS: 0x1001,
  ARCH_SET_FS: 0x1002,
  ARCH_GET_FS: 0x1003,
  ARCH_GET_GS: 0x1004,
  ARCH_GET_CPUID: 0x1011,
  ARCH_SET_CPUID: 0x1012,
  ARCH_GET_XCOMP_SUPP: 0x1021,
  ARCH_GET_XCOMP_PERM: 0x1022,
  ARCH_REQ_XCOMP_PERM: 0x1023,
  ARCH_GET_XCOMP_GUEST_PERM: 0x1024,
  ARCH_REQ_XCOMP_GUEST_PERM: 0x1025,
  ARCH_XCOMP_TILECFG: 17,
  ARCH_XCOMP_TILEDATA: 18,
  ARCH_MAP_VDSO_X32: 0x2001,
  ARCH_MAP_VDSO_32: 0x2002,
  ARCH_MAP_VDSO_64: 0x2003,
  ARCH_CET_STATUS: 0x3001,
  ARCH_CET_DISABLE: 0x3002,
  ARCH_CET_LOCK: 0x3003,
  ARCH_GET_UNTAG_MASK: 0x4001,
  ARCH_ENABLE_TAGGED_ADDR: 0x4002,
  ARCH_GET_MAX_TAG_BITS: 0x4003,
  ARCH_FORCE_TAGGED_SVA: 0x4004,
  ARCH_SHSTK_ENABLE: 0x5001,
  ARCH_SHSTK_DISABLE: 0x5002,
  ARCH_SHSTK_LOCK: 0x5003,
  ARCH_SHSTK_UNLOCK: 0x5004,
  ARCH_SHSTK_STATUS: 0x5005,
} as const;
export const archPrctlCode: Kind = choice("ARCH_", ArchPrctl);

/** asm-generic/mman-common.h */
export const Prot = {
  PROT_NONE: 0,
  PROT_READ: 1,
  PROT_WRITE: 2,
  PROT_EXEC: 4,
  PROT_SEM: 8,
  PROT_GROWSDOWN: 0x0100_0000,
  PROT_GROWSUP: 0x0200_0000,
} as const;
export const prot: Kind = flags("PROT_", Prot, "pointer");

/** linux/mman.h, asm/mman.h */
export const MapFlag = {
  MAP_SHARED_VALIDATE: 3,
  MAP_SHARED: 1,
  MAP_PRIVATE: 2,
  MAP_FIXED: 0x10,
  MAP_ANONYMOUS: 0x20,
  MAP_32BIT: 0x40,
  MAP_ABOVE4G: 0x80,
  MAP_GROWSDOWN: 0x100,
  MAP_DENYWRITE: 0x800,
  MAP_EXECUTABLE: 0x1000,
  MAP_LOCKED: 0x2000,
  MAP_NORESERVE: 0x4000,
  MAP_POPULATE: 0x8000,
  MAP_NONBLOCK: 0x10000,
  MAP_STACK: 0x20000,
  MAP_HUGETLB: 0x40000,
  MAP_SYNC: 0x80000,
  MAP_FIXED_NOREPLACE: 0x100000,
} as const;
export const mapFlags: Kind = flags("MAP_", MapFlag, "pointer");

export const MremapFlag = { MREMAP_MAYMOVE: 1, MREMAP_FIXED: 2, MREMAP_DONTUNMAP: 4 } as const;
export const mremapFlags: Kind = flags("MREMAP_", MremapFlag, "pointer");

export const MsyncFlag = { MS_ASYNC: 1, MS_INVALIDATE: 2, MS_SYNC: 4 } as const;
export const msyncFlags: Kind = flags("MS_", MsyncFlag, "int");

export const mlockallFlags: Kind = flags("MCL_", { MCL_CURRENT: 1, MCL_FUTURE: 2, MCL_ONFAULT: 4 }, "int");

export const Madvise = {
  MADV_NORMAL: 0,
  MADV_RANDOM: 1,
  MADV_SEQUENTIAL: 2,
  MADV_WILLNEED: 3,
  MADV_DONTNEED: 4,
  MADV_FREE: 8,
  MADV_REMOVE: 9,
  MADV_DONTFORK: 10,
  MADV_DOFORK: 11,
  MADV_MERGEABLE: 12,
  MADV_UNMERGEABLE: 13,
  MADV_HUGEPAGE: 14,
  MADV_NOHUGEPAGE: 15,
  MADV_DONTDUMP: 16,
  MADV_DODUMP: 17,
  MADV_WIPEONFORK: 18,
  MADV_KEEPONFORK: 19,
  MADV_COLD: 20,
  MADV_PAGEOUT: 21,
  MADV_POPULATE_READ: 22,
  MADV_POPULATE_WRITE: 23,
  MADV_DONTNEED_LOCKED: 24,
  MADV_COLLAPSE: 25,
  MADV_HWPOISON: 100,
  MADV_SOFT_OFFLINE: 101,
  MADV_GUARD_INSTALL: 102,
  MADV_GUARD_REMOVE: 103,
} as const;
export const madvice: Kind = choice("MADV_", Madvise);

/** linux/time.h */
export const ClockId = {
  CLOCK_REALTIME: 0,
  CLOCK_MONOTONIC: 1,
  CLOCK_PROCESS_CPUTIME_ID: 2,
  CLOCK_THREAD_CPUTIME_ID: 3,
  CLOCK_MONOTONIC_RAW: 4,
  CLOCK_REALTIME_COARSE: 5,
  CLOCK_MONOTONIC_COARSE: 6,
  CLOCK_BOOTTIME: 7,
  CLOCK_REALTIME_ALARM: 8,
  CLOCK_BOOTTIME_ALARM: 9,
  CLOCK_TAI: 11,
} as const;
export const clockId: Kind = choice("CLOCK_", ClockId);
export const timerFlags: Kind = flags("TIMER_", { TIMER_ABSTIME: 1 }, "int");

export const resource: Kind = choice("RLIMIT_", Resource);

/** linux/prctl.h, as far as answered. */
export const Prctl = {
  PR_SET_PDEATHSIG: 1,
  PR_GET_PDEATHSIG: 2,
  PR_GET_DUMPABLE: 3,
  PR_SET_DUMPABLE: 4,
  PR_GET_KEEPCAPS: 7,
  PR_SET_KEEPCAPS: 8,
  PR_GET_TIMING: 13,
  PR_SET_TIMING: 14,
  PR_SET_NAME: 15,
  PR_GET_NAME: 16,
  PR_GET_SECCOMP: 21,
  PR_SET_SECCOMP: 22,
  PR_CAPBSET_READ: 23,
  PR_CAPBSET_DROP: 24,
  PR_GET_TSC: 25,
  PR_SET_TSC: 26,
  PR_GET_SECUREBITS: 27,
  PR_SET_SECUREBITS: 28,
  PR_SET_TIMERSLACK: 29,
  PR_GET_TIMERSLACK: 30,
  PR_SET_MM: 35,
  PR_SET_CHILD_SUBREAPER: 36,
  PR_GET_CHILD_SUBREAPER: 37,
  PR_SET_NO_NEW_PRIVS: 38,
  PR_GET_NO_NEW_PRIVS: 39,
  PR_GET_TID_ADDRESS: 40,
  PR_SET_THP_DISABLE: 41,
  PR_GET_THP_DISABLE: 42,
  PR_CAP_AMBIENT: 47,
  PR_SET_IO_FLUSHER: 57,
  PR_SET_SYSCALL_USER_DISPATCH: 59,
  PR_SCHED_CORE: 62,
  PR_SET_VMA: 0x53564d41,
} as const;
export const prctlOption: Kind = choice("PR_", Prctl);

export const rusageWho: Kind = choice("RUSAGE_", { RUSAGE_CHILDREN: -1, RUSAGE_SELF: 0, RUSAGE_THREAD: 1 });
export const priorityWhich: Kind = choice("PRIO_", { PRIO_PROCESS: 0, PRIO_PGRP: 1, PRIO_USER: 2 });
export const getrandomFlags: Kind = flags("GRND_", { GRND_NONBLOCK: 1, GRND_RANDOM: 2, GRND_INSECURE: 4 });
export const rseqFlags: Kind = flags("RSEQ_FLAG_", { RSEQ_FLAG_UNREGISTER: 1 }, "int");
export const schedPolicy: Kind = choice("SCHED_", {
  SCHED_OTHER: 0,
  SCHED_FIFO: 1,
  SCHED_RR: 2,
  SCHED_BATCH: 3,
  SCHED_IDLE: 5,
  SCHED_DEADLINE: 6,
  SCHED_EXT: 7,
});

/** linux/futex.h */
export const FutexOp = {
  FUTEX_WAIT: 0,
  FUTEX_WAKE: 1,
  FUTEX_FD: 2,
  FUTEX_REQUEUE: 3,
  FUTEX_CMP_REQUEUE: 4,
  FUTEX_WAKE_OP: 5,
  FUTEX_LOCK_PI: 6,
  FUTEX_UNLOCK_PI: 7,
  FUTEX_TRYLOCK_PI: 8,
  FUTEX_WAIT_BITSET: 9,
  FUTEX_WAKE_BITSET: 10,
  FUTEX_WAIT_REQUEUE_PI: 11,
  FUTEX_CMP_REQUEUE_PI: 12,
  FUTEX_LOCK_PI2: 13,
} as const;
export const FUTEX_PRIVATE_FLAG = 128;
export const FUTEX_CLOCK_REALTIME = 256;

const futexNames: ReadonlyMap<number, string> = new Map(Object.entries(FutexOp).map(([name, value]) => [value, name]));

/** strace's spelling: `FUTEX_WAIT_PRIVATE`, `FUTEX_WAIT_BITSET|FUTEX_CLOCK_REALTIME`. */
export const futexOp: Kind = scalar("int", (value) => {
  const command = value & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
  const name = futexNames.get(command);
  if (name === undefined) return `0x${(value >>> 0).toString(16)} /* FUTEX_??? */`;
  const scope = (value & FUTEX_PRIVATE_FLAG) !== 0 ? "_PRIVATE" : "";
  return `${name}${scope}${(value & FUTEX_CLOCK_REALTIME) !== 0 ? "|FUTEX_CLOCK_REALTIME" : ""}`;
});
