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
    this.arrived.wake();
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

  take(index: number, pid: number, now: number): void {
    const [message] = this.messages.splice(index, 1);
    this.bytes -= message?.text.length ?? 0;
    this.receivePid = pid;
    this.receiveTime = now;
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
