/** Structs of the System V calls in their present form (IPC_64), as each ABI lays them out (asm-generic/{ipcbuf,shmbuf,sembuf,msgbuf}.h, asm/compat.h). */
import type { Abi } from "../abi.ts";
import { type Field, i32, i64, struct, u16, u32, ulong } from "../kinds/structs.ts";
import type { IpcObject } from "./table.ts";

const perm = struct({
  key: i32,
  uid: u32,
  gid: u32,
  cuid: u32,
  cgid: u32,
  mode: u32,
  seq: u16,
  pad: u16,
  unused1: ulong,
  unused2: ulong,
});

/** A long that only x86-64 has: i386 has the upper half of the time before it there. */
const wideOnly: Field<number> = {
  size: (abi: Abi) => (abi.word === 8 ? 8 : 0),
  align: () => 4,
  read: () => 0,
  write: (memory, address, value, abi) => {
    if (abi.word === 8) memory.setNum64(address, value);
  },
  show: String,
};

export const shmidDs = struct(
  {
    shm_perm: perm,
    shm_segsz: ulong,
    shm_atime: i64,
    shm_dtime: i64,
    shm_ctime: i64,
    shm_cpid: i32,
    shm_lpid: i32,
    shm_nattch: ulong,
    unused4: ulong,
    unused5: ulong,
  },
  ["shm_segsz", "shm_cpid", "shm_nattch"],
);

export const semidDs = struct(
  {
    sem_perm: perm,
    sem_otime: i64,
    unused1: wideOnly,
    sem_ctime: i64,
    unused2: wideOnly,
    sem_nsems: ulong,
    unused3: ulong,
    unused4: ulong,
  },
  ["sem_nsems"],
);

export const msqidDs = struct(
  {
    msg_perm: perm,
    msg_stime: i64,
    msg_rtime: i64,
    msg_ctime: i64,
    msg_cbytes: ulong,
    msg_qnum: ulong,
    msg_qbytes: ulong,
    msg_lspid: i32,
    msg_lrpid: i32,
    unused4: ulong,
    unused5: ulong,
  },
  ["msg_qnum", "msg_qbytes"],
);

export const shminfo = struct({
  shmmax: ulong,
  shmmin: ulong,
  shmmni: ulong,
  shmseg: ulong,
  shmall: ulong,
  unused1: ulong,
  unused2: ulong,
  unused3: ulong,
  unused4: ulong,
});

export const shmUse = struct({
  used_ids: i32,
  shm_tot: ulong,
  shm_rss: ulong,
  shm_swp: ulong,
  swap_attempts: ulong,
  swap_successes: ulong,
});

export const seminfo = struct({
  semmap: i32,
  semmni: i32,
  semmns: i32,
  semmnu: i32,
  semmsl: i32,
  semopm: i32,
  semume: i32,
  semusz: i32,
  semvmx: i32,
  semaem: i32,
});

export const msginfo = struct({
  msgpool: i32,
  msgmap: i32,
  msgmax: i32,
  msgmnb: i32,
  msgmni: i32,
  msgssz: i32,
  msgtql: i32,
  msgseg: u16,
});

/** `struct ipc_perm` of an object. */
export function permOf(object: IpcObject, flags = 0): ReturnType<typeof perm.read> {
  const { key, uid, gid, cuid, cgid, mode, sequence } = object;
  return { key, uid, gid, cuid, cgid, mode: mode | flags, seq: sequence & 0xffff, pad: 0, unused1: 0, unused2: 0 };
}
