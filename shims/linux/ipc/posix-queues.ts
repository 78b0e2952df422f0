/** POSIX message queues (mq_overview(7), ipc/mqueue.c). */

import { Errno } from "../errno.ts";
import type { NetlinkSocket } from "../net/netlink.ts";
import { Cap } from "../process/capabilities.ts";
import { UserCounts } from "../process/user-counts.ts";
import { sendToProcess } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import type { Kernel, Process } from "../task.ts";
import { POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM, S_IFREG } from "../vfs/flags.ts";
import { type Credentials, type Entry, type FileSystem, type Inode, NodeInode } from "../vfs/inode.ts";
import { OpenFile, seekTo } from "../vfs/open-file.ts";
import { WaitQueue } from "../wait.ts";

export const MQ_PRIO_MAX = 32_768;
const SI_MESGQ = -3;
/** uapi/linux/magic.h */
const MQUEUE_MAGIC = 0x19800202;
const QUEUES_MAX = 256;
/** What read(2) on the descriptor tells. */
const STATUS_BYTES = 80;
const NOTIFY_WOKENUP = 1;
const NOTIFY_REMOVED = 2;

interface QueuedMessage {
  readonly priority: number;
  readonly text: Uint8Array;
}

/** mq_notify(2): who is told that a message has come. */
export interface Registration {
  readonly process: Process;
  readonly kind: "none" | "signal" | "thread";
  readonly signal: number;
  readonly value: bigint;
  /** Of SIGEV_THREAD: the C library's thread reads the cookie from this socket. */
  readonly socket?: NetlinkSocket | undefined;
  readonly cookie?: Uint8Array | undefined;
}

export class PosixQueue {
  readonly inode: Inode;
  readonly maxMessages: number;
  readonly messageSize: number;
  /** Highest priority first, and of one priority the oldest. */
  readonly messages: QueuedMessage[] = [];
  readonly arrived = new WaitQueue();
  readonly left = new WaitQueue();
  /** Tasks that wait for a message: while there are any nobody is notified. */
  receivers = 0;
  registration: Registration | undefined;

  constructor(inode: Inode, maxMessages: number, messageSize: number) {
    this.inode = inode;
    this.maxMessages = maxMessages;
    this.messageSize = messageSize;
  }

  /** 0 or -EAGAIN. */
  send(text: Uint8Array, priority: number, sender: Process): number {
    if (this.messages.length >= this.maxMessages) return -Errno.EAGAIN;
    const wasEmpty = this.messages.length === 0;
    let at = this.messages.length;
    while (at > 0 && (this.messages[at - 1]?.priority ?? 0) < priority) at--;
    this.messages.splice(at, 0, { priority, text });
    if (wasEmpty && this.receivers === 0) this.#notify(sender);
    this.arrived.wake();
    return 0;
  }

  receive(): QueuedMessage | undefined {
    const message = this.messages.shift();
    if (message !== undefined) this.left.wake();
    return message;
  }

  #notify(sender: Process): void {
    const { registration } = this;
    if (registration === undefined) return;
    this.registration = undefined;
    if (registration.kind === "signal") {
      const info = SigInfo.sent(registration.signal, SI_MESGQ, sender.pid, sender.cred.ruid);
      info.value = registration.value;
      sendToProcess(registration.process, info);
    }
    tellThread(registration, NOTIFY_WOKENUP);
  }

  /** The registration ends without a message. */
  unregister(): void {
    const { registration } = this;
    this.registration = undefined;
    if (registration !== undefined) tellThread(registration, NOTIFY_REMOVED);
  }
}

function tellThread({ socket, cookie }: Registration, code: number): void {
  if (socket === undefined || cookie === undefined) return;
  const bytes = cookie.slice();
  bytes[bytes.length - 1] = code;
  socket.post(bytes);
  socket.release();
}

/** An open queue. It is a file: poll, epoll and fstat work on it, and read tells about it. */
export class PosixQueueFile extends OpenFile {
  readonly queue: PosixQueue;

  constructor(entry: Entry, flags: number, queue: PosixQueue) {
    super(entry, flags);
    this.queue = queue;
  }

  override get readQueue(): WaitQueue {
    return this.queue.arrived;
  }

  override get writeQueue(): WaitQueue {
    return this.queue.left;
  }

  #status(): Uint8Array {
    const { messages, registration } = this.queue;
    const bytes = messages.reduce((sum, { text }) => sum + text.length, 0);
    const kinds = { signal: 0, none: 1, thread: 2 } as const;
    const kind = registration === undefined ? 0 : kinds[registration.kind];
    const signal = registration?.kind === "signal" ? registration.signal : 0;
    const pad = (value: number) => String(value).padEnd(5);
    const text = `QSIZE:${String(bytes).padEnd(10)} NOTIFY:${pad(kind)} SIGNO:${pad(signal)} NOTIFY_PID:${String(registration?.process.pid ?? 0).padEnd(6)}\n`;
    return Buffer.from(text, "latin1");
  }

  read(into: Uint8Array): number {
    const count = this.pread(into, this.position);
    if (count > 0) this.position += count;
    return count;
  }

  override pread(into: Uint8Array, position: number): number {
    const part = this.#status().subarray(position, position + into.length);
    into.set(part);
    return part.length;
  }

  write(): number {
    return -Errno.EINVAL;
  }

  /** Whoever registered and closes a descriptor of the queue is not notified any more. */
  override flush(): void {
    const { registration } = this.queue;
    if (registration !== undefined && registration.process.kernel.current?.process === registration.process) {
      this.queue.unregister();
    }
  }

  override get seekable(): boolean {
    return true;
  }

  override seek(offset: number, whence: number): number {
    return seekTo(this, offset, whence, STATUS_BYTES);
  }

  override poll(): number {
    const { messages, maxMessages } = this.queue;
    let events = 0;
    if (messages.length > 0) events |= POLLIN | POLLRDNORM;
    if (messages.length < maxMessages) events |= POLLOUT | POLLWRNORM;
    return events;
  }
}

class QueueInode extends NodeInode {
  /** When it is gone. */
  ended: (() => void) | undefined;

  override evict(): void {
    super.evict();
    this.ended?.();
  }

  override get size(): number {
    return STATUS_BYTES;
  }
}

/** The queues of a run by name. */
export class PosixQueues {
  readonly #kernel: Kernel;
  readonly #queues = new Map<string, PosixQueue>();
  #files: FileSystem | undefined;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  find(name: string): PosixQueue | undefined {
    return this.#queues.get(name);
  }

  /** Bytes that the queues of each user may take when they are full (RLIMIT_MSGQUEUE). */
  readonly bytes = new UserCounts();

  /**
   * Undefined when there are as many as there may be.
   * @param bytes what counts for user `uid` while the queue is there
   */
  make(
    name: string,
    mode: number,
    creds: Credentials,
    maxMessages: number,
    messageSize: number,
    uid: number,
    bytes: number,
  ): PosixQueue | undefined {
    if (this.#queues.size >= QUEUES_MAX && !creds.capable(Cap.CAP_SYS_RESOURCE)) return undefined;
    this.#files ??= this.#kernel.vfs.newFileSystem("mqueue", MQUEUE_MAGIC);
    const inode = new QueueInode(this.#files, S_IFREG | mode, creds.uid, creds.gid);
    this.bytes.change(uid, bytes);
    inode.ended = () => this.bytes.change(uid, -bytes);
    const queue = new PosixQueue(inode, maxMessages, messageSize);
    this.#queues.set(name, queue);
    return queue;
  }

  remove(name: string): void {
    this.#queues.get(name)?.inode.unlinked();
    this.#queues.delete(name);
  }

  open(name: string, queue: PosixQueue, flags: number): PosixQueueFile {
    return new PosixQueueFile(this.#kernel.vfs.anonymousEntry(queue.inode, `/${name}`), flags, queue);
  }
}
