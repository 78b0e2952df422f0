/** System V message queues: msgget, msgsnd, msgrcv, msgctl (ipc/msg.c). */

import { Errno } from "../errno.ts";
import { type Message, MessageQueue, MSG_COPY, MSG_EXCEPT, MSG_NOERROR, type Receiver } from "../ipc/messages.ts";
import { msginfo, msqidDs, permOf } from "../ipc/structs.ts";
import { IPC_INFO, IPC_NOWAIT, IPC_R, IPC_RMID, IPC_SET, IPC_STAT, IPC_W, nowSeconds } from "../ipc/table.ts";
import { choice, flags, int, type Kind, long, octal, pointer, size } from "../kinds/kinds.ts";
import { long as longField } from "../kinds/structs.ts";
import { Cap } from "../process/capabilities.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { fileCall } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { Wait, type WaitQueue } from "../wait.ts";
import { ipcKey } from "./sysv-shm.ts";

const MSG_STAT = 11;
const MSG_INFO = 12;
const MSG_STAT_ANY = 13;
const MSGSSZ = 16;
const NO_RESTART = -Errno.ERESTARTNOHAND;

export const msgget = fileCall((task, key, given) => {
  const { ipc, settings } = task.kernel;
  return ipc.messages.table.get(
    task,
    key,
    given,
    () => {},
    (making) => new MessageQueue(making, settings.get("kernel.msgmnb")),
  );
});

/** Waits until it is done, the queue goes, or a signal comes. Like the kernel's, the calls are not restarted after a handler. */
function until(queue: MessageQueue, on: WaitQueue, done: () => number | undefined, cleanup: () => void): Wait {
  return new Wait({
    queues: [on],
    attempt: () => done() ?? (queue.removed ? -Errno.EIDRM : undefined),
    interrupted: () => done() ?? NO_RESTART,
    cleanup,
  });
}

const tooLong = (task: Task, bytes: number): boolean => bytes >= (task.abi.word === 8 ? 2 ** 63 : 2 ** 31);

export const msgsnd = fileCall((task, id, at, bytes, given) => {
  const { memory, abi, process, kernel } = task;
  const type = longField.read(memory, at, abi);
  const most = kernel.settings.get("kernel.msgmax");
  if (bytes > most || id < 0) fail(Errno.EINVAL, `more than ${most} bytes, or a negative number`);
  if (type < 1) fail(Errno.EINVAL, "the type of a message is positive");
  const text = memory.bytes(at + abi.word, bytes).slice();
  const queue = kernel.ipc.messages.table.find(id);
  queue.demand(process.cred, IPC_W);
  const message = { type, text };
  const result = queue.send(message, process.pid, nowSeconds(task));
  if (result === 0) queue.settle(nowSeconds(task));
  if (result === 0 || given & IPC_NOWAIT) return result;
  const sender = { pid: process.pid, message, isDone: false };
  queue.senders.add(sender);
  return until(
    queue,
    queue.left,
    () => (sender.isDone ? 0 : undefined),
    () => queue.senders.delete(sender),
  );
});

export const msgrcv = fileCall((task, id, at, bytes, type, given) => {
  const { memory, abi, process, kernel } = task;
  if (id < 0 || tooLong(task, bytes)) fail(Errno.EINVAL, "a negative number");
  if (given & MSG_COPY) {
    if (given & MSG_EXCEPT || !(given & IPC_NOWAIT)) fail(Errno.EINVAL, "MSG_COPY goes with IPC_NOWAIT alone");
  }
  const queue = kernel.ipc.messages.table.find(id);
  queue.demand(process.cred, IPC_R);
  const receiver: Receiver = { pid: process.pid, type, flags: given, most: bytes, result: undefined };
  const store = (result: Message | number): number => {
    if (typeof result === "number") return result;
    longField.write(memory, at, result.type, abi);
    const count = Math.min(bytes, result.text.length);
    memory.write(at + abi.word, result.text.subarray(0, count));
    return count;
  };
  const first = queue.receive(receiver, nowSeconds(task));
  if (typeof first === "object") queue.settle(nowSeconds(task));
  if (first !== undefined) return store(first);
  if (given & IPC_NOWAIT) return -Errno.ENOMSG;
  queue.receivers.add(receiver);
  return until(
    queue,
    queue.arrived,
    () => (receiver.result === undefined ? undefined : store(receiver.result)),
    () => queue.receivers.delete(receiver),
  );
});

function writeStat(task: Task, queue: MessageQueue, at: number): void {
  const value = {
    msg_perm: permOf(queue),
    msg_stime: queue.sendTime,
    msg_rtime: queue.receiveTime,
    msg_ctime: queue.changeTime,
    msg_cbytes: queue.bytes,
    msg_qnum: queue.messages.length,
    msg_qbytes: queue.limit,
    msg_lspid: queue.sendPid,
    msg_lrpid: queue.receivePid,
    unused4: 0,
    unused5: 0,
  };
  msqidDs.write(task.memory, at, value, task.abi);
}

function info(task: Task, current: boolean, at: number): number {
  const { ipc, settings } = task.kernel;
  const { table } = ipc.messages;
  const [msgmax, msgmnb, msgmni] = [
    settings.get("kernel.msgmax"),
    settings.get("kernel.msgmnb"),
    settings.get("kernel.msgmni"),
  ];
  let count = 0;
  let bytes = 0;
  for (const queue of table.values()) {
    count += queue.messages.length;
    bytes += queue.bytes;
  }
  const value = {
    msgpool: current ? table.size : Math.floor((msgmni * msgmnb) / 1024),
    msgmap: current ? count : msgmnb,
    msgmax,
    msgmnb,
    msgmni,
    msgssz: MSGSSZ,
    msgtql: current ? bytes : msgmnb,
    msgseg: 0xffff,
  };
  msginfo.write(task.memory, at, value, task.abi);
  return table.highest;
}

export const msgctl = fileCall((task, id, command, at) => {
  const { kernel, process, memory, abi } = task;
  const { cred } = process;
  const { messages } = kernel.ipc;
  const { table } = messages;
  if (id < 0 || command < 0) fail(Errno.EINVAL, "a negative number");
  switch (command) {
    case IPC_INFO:
    case MSG_INFO:
      return info(task, command === MSG_INFO, at);
    case IPC_STAT:
    case MSG_STAT:
    case MSG_STAT_ANY: {
      const queue = command === IPC_STAT ? table.find(id) : table.at(id);
      if (command !== MSG_STAT_ANY) queue.demand(cred, IPC_R);
      writeStat(task, queue, at);
      return command === IPC_STAT ? 0 : queue.id;
    }
    case IPC_SET: {
      const { msg_perm, msg_qbytes } = msqidDs.read(memory, at, abi);
      const queue = table.find(id);
      queue.demandOwner(cred);
      const most = kernel.settings.get("kernel.msgmnb");
      if (msg_qbytes > most && !cred.capable(Cap.CAP_SYS_RESOURCE))
        fail(Errno.EPERM, `more than ${most} bytes need CAP_SYS_RESOURCE`);
      queue.change(msg_perm, nowSeconds(task));
      queue.limit = msg_qbytes;
      queue.settle(nowSeconds(task));
      return 0;
    }
    case IPC_RMID: {
      const queue = table.find(id);
      queue.demandOwner(cred);
      messages.remove(queue);
      return 0;
    }
  }
  return fail(Errno.EINVAL, "unknown command");
});

const command: Kind = choice("MSG_", {
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  IPC_INFO,
  MSG_STAT,
  MSG_INFO,
  MSG_STAT_ANY,
});
const how: Kind = flags("MSG_", { IPC_NOWAIT, MSG_NOERROR, MSG_EXCEPT, MSG_COPY }, "int");
const o = { family: "ipc" } as const;
export const messageQueueCalls: readonly Row[] = [
  row("msgget", { x86_64: 68, i386: 399 }, [ipcKey, octal], msgget, o),
  row("msgsnd", { x86_64: 69, i386: 400 }, [int, pointer, size, how], msgsnd, o),
  row("msgrcv", { x86_64: 70, i386: 401 }, [int, pointer, size, long, how], msgrcv, o),
  row("msgctl", { x86_64: 71, i386: 402 }, [int, command, pointer], msgctl, o),
];
