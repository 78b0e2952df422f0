/** i386's one call for all of System V IPC (ipc(2), ipc/syscall.c, compat_ksys_ipc). */
import { Errno } from "../errno.ts";
import { int, type Kind, pointer, scalar, uint } from "../kinds/kinds.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { fileCall } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { msgctl, msgget, msgrcv, msgsnd } from "./sysv-msg.ts";
import { semctl, semget, semop, semtimedop } from "./sysv-sem.ts";
import { IPC_64, shmat, shmctl, shmdt, shmget } from "./sysv-shm.ts";

/** Number, and flags for the old form of a struct: IPC_64 is the present one. */
function present(command: number): number {
  // IPC_STAT, IPC_SET and the STAT commands had other structs; the commands of semaphores alone never had.
  if (!(command & IPC_64) && [1, 2, 3, 13, 18].includes(command)) {
    fail(Errno.EINVAL, "structs without IPC_64 are from before Linux 2.4");
  }
  return command & ~IPC_64;
}

type Call = (task: Task, first: number, second: number, third: number, at: number, fifth: number) => Result;

const ATTACH_OLD = 1;

const CALLS: ReadonlyMap<number, readonly [string, Call]> = new Map<number, readonly [string, Call]>([
  [1, ["SEMOP", (task, first, second, _third, at) => semop(task, first, at, second >>> 0)]],
  [2, ["SEMGET", (task, first, second, third) => semget(task, first, second, third)]],
  [
    3,
    [
      "SEMCTL",
      (task, first, second, third, at) => {
        if (at === 0) fail(Errno.EINVAL, "no argument");
        return semctl(task, first, second, present(third), task.memory.u32(at));
      },
    ],
  ],
  [4, ["SEMTIMEDOP", (task, first, second, _third, at, fifth) => semtimedop(task, first, at, second >>> 0, fifth)]],
  [11, ["MSGSND", (task, first, second, third, at) => msgsnd(task, first, at, second >>> 0, third)]],
  [12, ["MSGRCV", receive]],
  [13, ["MSGGET", (task, first, second) => msgget(task, first, second)]],
  [14, ["MSGCTL", (task, first, second, _third, at) => msgctl(task, first, present(second), at)]],
  [
    21,
    [
      "SHMAT",
      (task, first, second, third, at) => {
        const result = shmat(task, first, at, second);
        if (typeof result !== "number") return result;
        task.memory.setU32(third >>> 0, result);
        return 0;
      },
    ],
  ],
  [22, ["SHMDT", (task, _first, _second, _third, at) => shmdt(task, at)]],
  [23, ["SHMGET", (task, first, second, third) => shmget(task, first, second >>> 0, third)]],
  [24, ["SHMCTL", (task, first, second, _third, at) => shmctl(task, first, present(second), at)]],
]);

/** The oldest form passes the address and the type behind one pointer. */
function receive(task: Task, first: number, second: number, third: number, at: number, fifth: number): Result {
  return msgrcv(task, first, at, second >>> 0, fifth | 0, third);
}

const ipc = fileCall((task, call, first, second, third, at, fifth) => {
  const version = call >>> 16;
  const [name, handler] = CALLS.get(call & 0xffff) ?? [];
  if (handler === undefined) return task.fail(Errno.ENOSYS, "there is no such call");
  if (name === "SHMAT" && version === ATTACH_OLD) fail(Errno.EINVAL, "iBCS2 programs are not run");
  if (name === "MSGRCV" && version === 0) {
    if (at === 0) fail(Errno.EINVAL, "no message");
    const { memory } = task;
    return receive(task, first, second, third, memory.u32(at), memory.u32(at + 4));
  }
  return handler(task, first, second, third, at, fifth);
});

const callName: Kind = scalar("uint", (value) => {
  const name = CALLS.get(value & 0xffff)?.[0] ?? `0x${(value & 0xffff).toString(16)} /* IPC_??? */`;
  return value > 0xffff ? `${value >>> 16}<<16|${name}` : name;
});

export const ipcCalls: readonly Row[] = [
  row("ipc", { i386: 117 }, [callName, int, int, int, pointer, uint], ipc, {
    family: "ipc",
    support: "structs from before IPC_64 answer EINVAL",
  }),
];
