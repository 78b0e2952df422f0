/** What a process may do besides what its ids say (capabilities(7), security/commoncap.c). */

/** Numbers of capabilities (uapi/linux/capability.h): all that this kernel asks for by name. */
export const Cap = {
  CAP_CHOWN: 0,
  CAP_DAC_OVERRIDE: 1,
  CAP_DAC_READ_SEARCH: 2,
  CAP_FOWNER: 3,
  CAP_FSETID: 4,
  CAP_KILL: 5,
  CAP_SETGID: 6,
  CAP_SETUID: 7,
  CAP_SETPCAP: 8,
  CAP_LINUX_IMMUTABLE: 9,
  CAP_NET_BIND_SERVICE: 10,
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_IPC_LOCK: 14,
  CAP_IPC_OWNER: 15,
  CAP_SYS_RAWIO: 17,
  CAP_SYS_CHROOT: 18,
  CAP_SYS_PTRACE: 19,
  CAP_SYS_ADMIN: 21,
  CAP_SYS_BOOT: 22,
  CAP_SYS_NICE: 23,
  CAP_SYS_RESOURCE: 24,
  CAP_SYS_TTY_CONFIG: 26,
  CAP_MKNOD: 27,
  CAP_LEASE: 28,
  CAP_SETFCAP: 31,
  CAP_MAC_OVERRIDE: 32,
  CAP_SYSLOG: 34,
  CAP_WAKE_ALARM: 35,
  CAP_CHECKPOINT_RESTORE: 40,
} as const;
export type Cap = (typeof Cap)[keyof typeof Cap];

/** The last number that means anything (/proc/sys/kernel/cap_last_cap). */
export const CAP_LAST = 40;
export const ALL_CAPS = (1n << BigInt(CAP_LAST + 1)) - 1n;
export const NO_CAPS = 0n;

/** A set with this capability alone; empty for numbers that are none. */
export const capSet = (cap: number): bigint => (1n << BigInt(cap)) & ALL_CAPS;

/** Those that go and come with an fsuid of 0 (CAP_FS_SET). */
export const FS_CAPS = [
  Cap.CAP_CHOWN,
  Cap.CAP_DAC_OVERRIDE,
  Cap.CAP_DAC_READ_SEARCH,
  Cap.CAP_FOWNER,
  Cap.CAP_FSETID,
  Cap.CAP_LINUX_IMMUTABLE,
  Cap.CAP_MKNOD,
  Cap.CAP_MAC_OVERRIDE,
].reduce((set, cap) => set | capSet(cap), NO_CAPS);

/** Securebits: each flag has its lock one bit higher (uapi/linux/securebits.h). */
export const SecureBit = {
  SECBIT_NOROOT: 1,
  SECBIT_NO_SETUID_FIXUP: 4,
  SECBIT_KEEP_CAPS: 16,
  SECBIT_KEEP_CAPS_LOCKED: 32,
  SECBIT_NO_CAP_AMBIENT_RAISE: 64,
} as const;
export const SECURE_ALL_BITS = 0x55;
export const SECURE_ALL_LOCKS = 0xaa;
