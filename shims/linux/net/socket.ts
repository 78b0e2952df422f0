import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import { fail } from "../vfs/error.ts";
import { O_RDWR } from "../vfs/flags.ts";
import { OpenFile, PathOpen } from "../vfs/open-file.ts";
import { Wait, WaitQueue } from "../wait.ts";
import { MSG_EOR, SOCK_SEQPACKET } from "./constants.ts";
import type { Network } from "./network.ts";
import { SocketOptions } from "./options.ts";

/** `struct ucred`. */
export interface Ucred {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** What goes with the bytes of a message on their way out. */
export interface Outgoing {
  /** MSG_*. */
  readonly flags: number;
  /** Where to, as the guest's sockaddr; undefined for the connected peer. */
  readonly address?: Uint8Array | undefined;
  /** SCM_RIGHTS. What becomes part of a message is retained for it. */
  readonly rights?: readonly OpenFile[] | undefined;
  /** SCM_CREDENTIALS, checked. */
  readonly creds?: Ucred | undefined;
  /** Control messages of the Internet's protocols, as they came. */
  readonly controls?: readonly SentControl[] | undefined;
}

/** One control message of a sender. */
export interface SentControl {
  readonly level: number;
  readonly type: number;
  readonly data: Uint8Array;
}

/** One control message for the receiver. */
export interface Control {
  readonly level: number;
  readonly type: number;
  /** Bytes, or longs of the receiver's ABI. */
  readonly data: Uint8Array | readonly number[];
}

/** What was received. */
export interface Incoming {
  /** Bytes that are now in the buffer. */
  readonly count: number;
  /** Bytes the message had; more than `count` where it did not fit. */
  readonly length: number;
  /** MSG_TRUNC and MSG_EOR. */
  readonly flags: number;
  /** Who sent it. An empty one has no name; undefined where this kind of socket tells none. */
  readonly address?: Uint8Array | undefined;
  /** A reference to each belongs to the receiver of this. */
  readonly rights?: readonly OpenFile[] | undefined;
  readonly creds?: Ucred | undefined;
  readonly controls?: readonly Control[] | undefined;
}

const PLAIN: Outgoing = { flags: 0 };
const PLAIN_RECORD: Outgoing = { flags: MSG_EOR };

/** How a new socket is made. */
export interface SocketMaking {
  readonly network: Network;
  readonly domain: number;
  readonly type: number;
  readonly protocol: number;
}

/**
 * socket(2). Operations answer a result or a negative errno. -EAGAIN means that it would block: `send` waits on the write queue,
 * `receive` and `accept` on the read queue.
 */
export abstract class Socket extends OpenFile {
  readonly network: Network;
  readonly domain: number;
  readonly type: number;
  readonly protocol: number;
  readonly options = new SocketOptions();
  /** RCV_SHUTDOWN and SEND_SHUTDOWN. */
  shut = 0;
  /** SO_ERROR: told once, to whoever asks first. */
  error = 0;
  readonly #reading = new WaitQueue();
  readonly #writing = new WaitQueue();

  constructor({ network, domain, type, protocol }: SocketMaking) {
    super(network.newEntry(), O_RDWR);
    this.network = network;
    this.domain = domain;
    this.type = type;
    this.protocol = protocol;
  }

  override get readQueue(): WaitQueue {
    return this.#reading;
  }

  override get writeQueue(): WaitQueue {
    return this.#writing;
  }

  /** Bytes without message boundaries: what does not fit at once follows when there is room. */
  get isStream(): boolean {
    return false;
  }

  override get splicesFrom(): boolean {
    return true;
  }

  override get splicesTo(): boolean {
    return true;
  }

  override get writesOn(): boolean {
    return this.isStream;
  }

  override get raisesSigpipe(): boolean {
    return this.isStream;
  }

  override get readTimeout(): number | undefined {
    return this.options.receiveTimeout;
  }

  override get writeTimeout(): number | undefined {
    return this.options.sendTimeout;
  }

  /** Everybody who waits looks again. */
  changed(): void {
    this.#reading.wake();
    this.#writing.wake();
  }

  /** The error that is pending, once, as a negative errno; 0 for none. */
  takeError(): number {
    const { error } = this;
    this.error = 0;
    return error === 0 ? 0 : -error;
  }

  /** A result, or a `Wait` while the host has not answered. */
  abstract bind(task: Task, address: Uint8Array): number | Wait;

  /** A result, or a `Wait` while the other side has not answered. */
  abstract connect(task: Task, address: Uint8Array, nonblocking: boolean): number | Wait;

  listen(_task: Task, _backlog: number): number | Wait {
    return -Errno.EOPNOTSUPP;
  }

  /** The next connection, -EAGAIN when there is none. */
  accept(): Socket | number {
    return -Errno.EOPNOTSUPP;
  }

  get isListening(): boolean {
    return false;
  }

  /** The host is about to give it a name. */
  get isBinding(): boolean {
    return false;
  }

  /** getsockname(2). */
  abstract get localAddress(): Uint8Array;

  /** getpeername(2); undefined is ENOTCONN. */
  abstract get peerAddress(): Uint8Array | undefined;

  abstract shutdown(how: number): number;

  abstract send(bytes: Uint8Array, out: Outgoing): number;

  abstract receive(into: Uint8Array, flags: number): Incoming | number;

  /** SO_PEERCRED. */
  get peerCreds(): Ucred {
    return { pid: 0, uid: 0xffff_ffff, gid: 0xffff_ffff };
  }

  /** Levels of options beside SOL_SOCKET. */
  get optionLevels(): readonly number[] {
    return [];
  }

  /** An option that only this kind of socket has; undefined where it has none of that name. */
  getOption(_task: Task, _level: number, _name: number): Uint8Array | number | undefined {
    return undefined;
  }

  setOption(_task: Task, _level: number, _name: number, _value: Uint8Array): number | undefined {
    return undefined;
  }

  read(into: Uint8Array): number {
    const got = this.receive(into, 0);
    if (typeof got === "number") return got;
    // read(2) has no place for descriptors: they are closed.
    for (const file of got.rights ?? []) file.release();
    return got.count;
  }

  write(from: Uint8Array): number {
    return this.send(from, this.type === SOCK_SEQPACKET ? PLAIN_RECORD : PLAIN);
  }

  override ioctl(task: Task, request: number, argument: number): number | undefined {
    return this.network.interfaceRequest(task, request, argument);
  }
}

/**
 * The result of an attempt on a socket that may have to wait, at most as long as the socket's timeout says.
 * @param timeout ns; undefined for ever
 * @param partial what the call answers when it ends early; undefined while nothing was done
 */
export function waiting(
  socket: Socket,
  queues: readonly WaitQueue[],
  attempt: () => number,
  timeout: number | undefined,
  late: number = -Errno.EAGAIN,
  partial: () => number | undefined = () => undefined,
): number | Wait {
  const first = attempt();
  if (first !== -Errno.EAGAIN) return first;
  socket.retain();
  const { clock } = socket.network.kernel;
  return new Wait({
    queues,
    host: socket.onHost,
    attempt: () => {
      const result = attempt();
      return result === -Errno.EAGAIN ? undefined : result;
    },
    ...(timeout !== undefined && { deadline: clock.now() + timeout }),
    timeout: () => partial() ?? late,
    // With a timeout the call is not restarted (sock_intr_errno).
    interrupted: () => partial() ?? (timeout === undefined ? -Errno.ERESTARTSYS : -Errno.EINTR),
    cleanup: () => socket.release(),
  });
}

/** The socket behind a descriptor: EBADF, ENOTSOCK. */
export function socketOf(task: Task, fd: number): Socket {
  const file = task.process.files.get(fd) ?? fail(Errno.EBADF, `descriptor ${fd} is not open`);
  if (file instanceof PathOpen) fail(Errno.EBADF, "O_PATH");
  return file instanceof Socket ? file : fail(Errno.ENOTSOCK, `descriptor ${fd} is no socket`);
}
