/** System V message queues (ipc/msg.c). */
import { Errno } from "../errno.ts";
import type { Settings } from "../settings.ts";
import { WaitQueue } from "../wait.ts";
import { type IpcMaking, IpcObject, IpcTable } from "./table.ts";

export const MSG_NOERROR = 0o10000;
export const MSG_EXCEPT = 0o20000;
export const MSG_COPY = 0o40000;

export interface Message {
  readonly type: number;
  readonly text: Uint8Array;
}

/** Somebody waits in msgrcv, until a message for it is there: `result`, or the errno of one that is too long. */
export interface Receiver {
  readonly pid: number;
  readonly type: number;
  readonly flags: number;
  readonly most: number;
  result: Message | number | undefined;
}

/** Somebody waits in msgsnd for room. */
export interface Sender {
  readonly pid: number;
  readonly message: Message;
  isDone: boolean;
}

export class MessageQueue extends IpcObject {
  readonly messages: Message[] = [];
  /** Bytes in the queue, and how many there may be. */
  bytes = 0;
  limit: number;
  sendTime = 0;
  receiveTime = 0;
  sendPid = 0;
  receivePid = 0;
  readonly arrived = new WaitQueue();
  readonly left = new WaitQueue();
  /** Those who wait in msgrcv and msgsnd, in the order of their coming. */
  readonly receivers = new Set<Receiver>();
  readonly senders = new Set<Sender>();

  /** @param limit kernel.msgmnb */
  constructor(making: IpcMaking, limit: number) {
    super(making);
    this.limit = limit;
  }

  /** 0, or -EAGAIN when the queue is full. */
  send(message: Message, pid: number, now: number): number {
    if (this.bytes + message.text.length > this.limit || this.messages.length + 1 > this.limit) return -Errno.EAGAIN;
    this.messages.push(message);
    this.bytes += message.text.length;
    this.sendPid = pid;
    this.sendTime = now;
    return 0;
  }

  /** The message that `type` and the flags mean (msgrcv(2)), or -1. */
  find(type: number, flags: number): number {
    if (flags & MSG_COPY) return type < this.messages.length ? type : -1;
    if (type === 0) return this.messages.length > 0 ? 0 : -1;
    if (type > 0) {
      return this.messages.findIndex((message) => (flags & MSG_EXCEPT ? message.type !== type : message.type === type));
    }
    let best = -1;
    let lowest = -type + 1;
    for (const [index, message] of this.messages.entries()) {
      if (message.type >= lowest) continue;
      best = index;
      lowest = message.type;
    }
    return best;
  }

  /** Takes the message for a receiver: it, -E2BIG where it is too long, undefined where there is none. */
  receive(receiver: Omit<Receiver, "result">, now: number): Message | number | undefined {
    const { type, flags, most, pid } = receiver;
    const index = this.find(type, flags);
    const message = this.messages[index];
    if (message === undefined) return undefined;
    if (message.text.length > most && !(flags & MSG_NOERROR)) return -Errno.E2BIG;
    if (flags & MSG_COPY) return message;
    this.messages.splice(index, 1);
    this.bytes -= message.text.length;
    this.receivePid = pid;
    this.receiveTime = now;
    return message;
  }

  /**
   * After a change: what waits and is possible now is done here, and not when those who wait run again, by which time the queue may
   * be gone (pipelined_send, expunge_all).
   */
  settle(now: number): void {
    const step = (): boolean => {
      let isChanged = false;
      for (const receiver of this.receivers) {
        if (receiver.result !== undefined) continue;
        receiver.result = this.receive(receiver, now);
        if (typeof receiver.result === "object") isChanged = true;
      }
      for (const sender of this.senders) {
        if (sender.isDone || this.send(sender.message, sender.pid, now) !== 0) continue;
        sender.isDone = true;
        isChanged = true;
      }
      return isChanged;
    };
    while (step());
    this.arrived.wake();
    this.left.wake();
  }
}

export class MessageQueues {
  readonly table: IpcTable<MessageQueue>;

  constructor(settings: Settings) {
    this.table = new IpcTable(settings, () => settings.get("kernel.msgmni"), "kernel.msg_next_id");
  }

  remove(queue: MessageQueue): void {
    this.table.remove(queue);
    queue.arrived.wake();
    queue.left.wake();
  }
}
