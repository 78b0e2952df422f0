/** System V semaphores: semget, semop, semtimedop, semctl (ipc/sem.c). */
import { Errno } from "../errno.ts";
import { SEMMNI, SEMMSL, SEMOPM, SEMVMX, SemaphoreSet, type SemOperation, type SemWaiter } from "../ipc/semaphores.ts";
import { permOf, semidDs, seminfo } from "../ipc/structs.ts";
import { IPC_INFO, IPC_R, IPC_RMID, IPC_SET, IPC_STAT, IPC_W, nowSeconds } from "../ipc/table.ts";
import { choice, int, type Kind, octal, pointer, uint } from "../kinds/kinds.ts";
import { arrayText, pointsTo } from "../kinds/memory.ts";
import { structIn, timespec, timespec64 } from "../kinds/structs.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { isValidTime, type TimeLayout, toNs } from "../timespec.ts";
import { fileCall } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { Wait } from "../wait.ts";
import { ipcKey } from "./sysv-shm.ts";

const GETPID = 11;
const GETVAL = 12;
const GETALL = 13;
const GETNCNT = 14;
const GETZCNT = 15;
const SETVAL = 16;
const SETALL = 17;
const SEM_STAT = 18;
const SEM_INFO = 19;
const SEM_STAT_ANY = 20;
/** `struct sembuf`: u16, i16, i16. */
const SEMBUF = 6;
const SEMUME = SEMOPM;
const SEMUSZ = 20;

export const semget = fileCall((task, key, count, given) => {
  if (count < 0 || count > SEMMSL) fail(Errno.EINVAL, "no number of semaphores");
  const check = (found: SemaphoreSet): void => {
    if (count > found.values.length) fail(Errno.EINVAL, `the set has ${found.values.length}`);
  };
  return task.kernel.ipc.semaphores.table.get(task, key, given, check, (making) => {
    if (count === 0) fail(Errno.EINVAL, "a new set needs semaphores");
    return new SemaphoreSet(making, count);
  });
});

function readOperations(task: Task, at: number, count: number): SemOperation[] {
  const { memory } = task;
  const signed = (address: number): number => (memory.u16(address) << 16) >> 16;
  return Array.from({ length: count }, (_, index) => {
    const where = at + index * SEMBUF;
    return { number: memory.u16(where), change: signed(where + 2), flags: memory.u16(where + 4) };
  });
}

/** @param timeout ns, undefined for ever */
function operate(task: Task, id: number, at: number, count: number, timeout: number | undefined): Result {
  const { process, kernel } = task;
  const { semaphores } = kernel.ipc;
  const operations = readOperations(task, at, count);
  const set = semaphores.table.find(id);
  if (operations.some(({ number }) => number >= set.values.length)) fail(Errno.EFBIG, "no such semaphore in the set");
  const alters = operations.some(({ change }) => change !== 0);
  set.demand(process.cred, alters ? IPC_W : IPC_R);
  const first = semaphores.perform(process, set, operations, nowSeconds(task));
  if (typeof first === "number") {
    if (first === 0 && alters) semaphores.settle(set, nowSeconds(task));
    return first;
  }
  const waiter: SemWaiter = { process, operations, blocker: first, result: undefined };
  set.waiters.add(waiter);
  return new Wait({
    queues: [set.changed],
    attempt: () => waiter.result ?? (set.removed ? -Errno.EIDRM : undefined),
    ...(timeout !== undefined && { deadline: kernel.clock.now() + timeout }),
    timeout: () => waiter.result ?? -Errno.EAGAIN,
    interrupted: () => waiter.result ?? -Errno.EINTR,
    cleanup: () => set.waiters.delete(waiter),
  });
}

function checkCount(id: number, count: number): void {
  if (count < 1 || id < 0) fail(Errno.EINVAL, "no operations, or no number of a set");
  if (count > SEMOPM) fail(Errno.E2BIG, "more than 500 operations");
}

export const semop = fileCall((task, id, at, count) => {
  checkCount(id, count);
  return operate(task, id, at, count, undefined);
});

function timedWith(layout: TimeLayout) {
  return fileCall((task, id, at, count, timeAt) => {
    let timeout: number | undefined;
    if (timeAt !== 0) {
      const time = layout.read(task.memory, timeAt, task.abi);
      checkCount(id, count);
      if (!isValidTime(time)) fail(Errno.EINVAL, "no valid time");
      timeout = toNs(time);
    }
    checkCount(id, count);
    return operate(task, id, at, count, timeout);
  });
}
export const semtimedop = timedWith(timespec);
const semtimedop64 = timedWith(timespec64);

function writeStat(task: Task, set: SemaphoreSet, at: number): void {
  const value = {
    sem_perm: permOf(set),
    sem_otime: set.operationTime,
    sem_ctime: set.changeTime,
    sem_nsems: set.values.length,
  };
  semidDs.write(task.memory, at, { ...value, unused1: 0, unused2: 0, unused3: 0, unused4: 0 }, task.abi);
}

function info(task: Task, current: boolean, at: number): number {
  const { table } = task.kernel.ipc.semaphores;
  let semaphores = 0;
  for (const set of table.values()) semaphores += set.values.length;
  const value = {
    semmap: SEMMNI * SEMMSL,
    semmni: SEMMNI,
    semmns: SEMMNI * SEMMSL,
    semmnu: SEMMNI * SEMMSL,
    semmsl: SEMMSL,
    semopm: SEMOPM,
    semume: SEMUME,
    semusz: current ? table.size : SEMUSZ,
    semvmx: SEMVMX,
    semaem: current ? semaphores : SEMVMX,
  };
  seminfo.write(task.memory, at, value, task.abi);
  return table.highest;
}

export const semctl = fileCall((task, id, number, command, argument) => {
  const { kernel, process, memory, abi } = task;
  const { cred } = process;
  const { semaphores } = kernel.ipc;
  const { table } = semaphores;
  if (id < 0) fail(Errno.EINVAL, "a negative number");
  switch (command) {
    case IPC_INFO:
    case SEM_INFO:
      return info(task, command === SEM_INFO, argument);
    case IPC_STAT:
    case SEM_STAT:
    case SEM_STAT_ANY: {
      const set = command === IPC_STAT ? table.find(id) : table.at(id);
      if (command !== SEM_STAT_ANY) set.demand(cred, IPC_R);
      writeStat(task, set, argument);
      return command === IPC_STAT ? 0 : set.id;
    }
    case IPC_SET: {
      const { sem_perm } = semidDs.read(memory, argument, abi);
      const set = table.find(id);
      set.demandOwner(cred);
      set.change(sem_perm, nowSeconds(task));
      return 0;
    }
    case IPC_RMID: {
      const set = table.find(id);
      set.demandOwner(cred);
      semaphores.remove(set);
      return 0;
    }
    case GETALL: {
      const set = table.find(id);
      set.demand(cred, IPC_R);
      memory.write(argument, new Uint8Array(set.values.buffer));
      return 0;
    }
    case SETALL: {
      const set = table.find(id);
      set.demand(cred, IPC_W);
      const values = new Uint16Array(memory.bytes(argument, 2 * set.values.length).slice().buffer);
      if (values.some((value) => value > SEMVMX)) fail(Errno.ERANGE, "a value above 32767");
      set.values.set(values);
      set.pids.fill(process.pid);
      semaphores.forgetUndo(set);
      set.changeTime = nowSeconds(task);
      semaphores.settle(set, nowSeconds(task));
      return 0;
    }
    case SETVAL: {
      const value = argument | 0;
      if (value < 0 || value > SEMVMX) fail(Errno.ERANGE, "not between 0 and 32767");
      const set = table.find(id);
      if (number < 0 || number >= set.values.length) fail(Errno.EINVAL, "no such semaphore in the set");
      set.demand(cred, IPC_W);
      set.values[number] = value;
      set.pids[number] = process.pid;
      semaphores.forgetUndo(set, number);
      set.changeTime = nowSeconds(task);
      semaphores.settle(set, nowSeconds(task));
      return 0;
    }
    case GETVAL:
    case GETPID:
    case GETNCNT:
    case GETZCNT: {
      const set = table.find(id);
      set.demand(cred, IPC_R);
      if (number < 0 || number >= set.values.length) fail(Errno.EINVAL, "no such semaphore in the set");
      if (command === GETVAL) return set.values[number] ?? 0;
      if (command === GETPID) return set.pids[number] ?? 0;
      return set.waiting(number, command === GETZCNT);
    }
  }
  return fail(Errno.EINVAL, "unknown command");
});

const command: Kind = choice("SEM_", {
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  IPC_INFO,
  GETPID,
  GETVAL,
  GETALL,
  GETNCNT,
  GETZCNT,
  SETVAL,
  SETALL,
  SEM_STAT,
  SEM_INFO,
  SEM_STAT_ANY,
});
const operations: Kind = pointsTo((at, { task, args }) =>
  arrayText(at, args[2] ?? 0, SEMBUF, (element) => {
    const [operation] = readOperations(task, element, 1);
    return `{${operation?.number}, ${operation?.change}, ${operation?.flags}}`;
  }),
);
const o = { family: "ipc" } as const;

export const semaphoreCalls: readonly Row[] = [
  row("semget", { x86_64: 64, i386: 393 }, [ipcKey, int, octal], semget, o),
  row("semop", { x86_64: 65 }, [int, operations, uint], semop, o),
  row("semtimedop", { x86_64: 220 }, [int, operations, uint, structIn(timespec)], semtimedop, o),
  row("semtimedop_time64", { i386: 420 }, [int, operations, uint, structIn(timespec64)], semtimedop64, o),
  row("semctl", { x86_64: 66, i386: 394 }, [int, int, command, pointer], semctl, o),
];
