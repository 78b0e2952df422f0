import { ByteQueue } from "../byte-queue.ts";
import { Errno } from "../errno.ts";
import type { Armed } from "../signals/timers.ts";
import type { Task } from "../task.ts";
import { POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI, POLLRDNORM, POLLWRNORM } from "../vfs/flags.ts";
import type { Wait } from "../wait.ts";
import { type Endpoint, familyOf, isAny, isBroadcast, isMulticast } from "./address.ts";
import {
  AF_INET,
  AF_UNSPEC,
  IPPROTO_TCP,
  MSG_MORE,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  POLLRDHUP,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SHUTDOWN_MASK,
  SIOCATMARK,
  SIOCOUTQ,
  SOL_SOCKET,
  SOMAXCONN,
  TcpState,
} from "./constants.ts";
import { destinationOf, InetSocket, type Ports, routeTo } from "./inet.ts";
import { So } from "./options.ts";
import { type Incoming, type Outgoing, type SocketMaking, waiting } from "./socket.ts";

const FRESH_SNDBUF = 16_384;
const FRESH_RCVBUF = 131_072;
/** What a connection over the loopback grows its send buffer to, and what its receiver then takes. */
const GROWN_SNDBUF = 2_626_560;
const GROWN_WINDOW = 1_292_907;
const TCP_INFO = 11;
const TCP_INFO_BYTES = 232;
const [TCP_NODELAY, TCP_CORK] = [1, 3];
/** What a segment on the loopback holds, and how long a part of one waits for more, ns. */
const SEGMENT = 65_483;
const CORK_PATIENCE = 200e6;
/** After so long without an answer a connection attempt is given up (tcp_syn_retries), ns. */
const CONNECT_PATIENCE = 131e9;

/** A TCP socket. There is no wire: both ends know each other, and what one sends is in the other's queue at once. */
export class TcpSocket extends InetSocket {
  #state: keyof typeof TcpState = "closed";
  /** The kernel's other state, of the file: connect(2) must be called again to learn how a non-blocking one ended. */
  #phase: "unconnected" | "connecting" | "connected" = "unconnected";
  #peer: TcpSocket | undefined;
  readonly #inbox = new ByteQueue();
  /** The peer will send no more. */
  #finished = false;
  #dead = false;
  #corked: Uint8Array = new Uint8Array(0);
  #corkTimer: Armed | undefined;
  #urgent: number | undefined;
  /** Bytes in front of the urgent one. */
  #mark = -1;
  #backlog = 0;
  readonly #arrived: TcpSocket[] = [];
  /** Clients of a listener whose queue is full. */
  readonly #knocking: TcpSocket[] = [];
  #listener: TcpSocket | undefined;

  constructor(making: SocketMaking) {
    super(making);
    this.options.sendBuffer = FRESH_SNDBUF;
    this.options.receiveBuffer = FRESH_RCVBUF;
  }

  protected get ports(): Ports {
    return this.network.tcpPorts;
  }

  get stateNumber(): number {
    return TcpState[this.#state];
  }

  override get waitingConnections(): number {
    return this.#arrived.length;
  }

  override get isStream(): boolean {
    return true;
  }

  override get isListening(): boolean {
    return this.#state === "listening";
  }

  protected override get mayBind(): boolean {
    return this.#state === "closed";
  }

  /** SO_REUSEADDR does not help where the other one listens. */
  protected override sharesWith(other: InetSocket): boolean {
    return !(other instanceof TcpSocket && other.isListening);
  }

  override get peerAddress(): Uint8Array | undefined {
    return this.#state === "established" ? super.peerAddress : undefined;
  }

  override listen(_task: Task, backlog: number): number {
    if (this.#phase !== "unconnected") return -Errno.EINVAL;
    if (this.#state !== "closed" && this.#state !== "listening") return -Errno.EINVAL;
    this.#backlog = Math.min(backlog >>> 0, SOMAXCONN);
    if (this.#state === "listening") return 0;
    if (!this.autobind()) return -Errno.EADDRINUSE;
    this.#state = "listening";
    if (!this.ports.isFree(this, this.local)) {
      this.#state = "closed";
      return -Errno.EADDRINUSE;
    }
    return 0;
  }

  connect(_task: Task, address: Uint8Array, nonblocking: boolean): number | Wait {
    if (address.length >= 2 && familyOf(address) === AF_UNSPEC) return this.#disconnect();
    if (this.#phase === "connected") return -Errno.EISCONN;
    if (this.#phase === "unconnected") {
      if (this.#state !== "closed") return -Errno.EISCONN;
      const started = this.#start(address);
      if (started !== 0) return started;
      this.#phase = "connecting";
      if (nonblocking) return -Errno.EINPROGRESS;
    } else if (nonblocking && this.#state === "connecting") return -Errno.EALREADY;
    const attempt = (): number => (this.#state === "connecting" ? -Errno.EAGAIN : this.#outcome());
    const { sendTimeout } = this.options;
    const late = sendTimeout === undefined ? -Errno.ETIMEDOUT : -Errno.EINPROGRESS;
    return waiting(this, [this.writeQueue], attempt, sendTimeout ?? CONNECT_PATIENCE, late);
  }

  /** What connect answers when the handshake is over. */
  #outcome(): number {
    if (this.#state === "established") {
      this.#phase = "connected";
      return 0;
    }
    const failed = this.takeError();
    this.#phase = "unconnected";
    this.shut = 0;
    return failed || -Errno.ECONNABORTED;
  }

  #start(address: Uint8Array): number {
    const to = this.parseRemote(address);
    if (typeof to === "number") return to;
    const source = routeTo(to.ip);
    if (source === undefined || isMulticast(to.ip) || isBroadcast(to.ip)) return -Errno.ENETUNREACH;
    if (!isAny(this.local.ip) && this.local.ip.length !== source.length) return -Errno.EINVAL;
    if (!this.autobind()) return -Errno.EADDRNOTAVAIL;
    if (isAny(this.local.ip)) this.local = { ip: source, port: this.local.port };
    this.remote = { ip: destinationOf(to.ip), port: to.port };
    const listener = this.network.listenerAt(this.remote);
    if (listener === undefined) {
      this.#fall(Errno.ECONNREFUSED);
      this.unbindChosen();
      return 0;
    }
    this.#state = "connecting";
    this.#listener = listener;
    listener.#knock(this);
    return 0;
  }

  #knock(client: TcpSocket): void {
    if (this.#arrived.length > this.#backlog) {
      this.#knocking.push(client);
      return;
    }
    const server = new TcpSocket(this);
    server.options.inherit(this.options);
    server.local = client.remote ?? this.local;
    server.remote = client.local;
    server.boundPort = true;
    server.#join(client);
    client.#join(server);
    this.ports.add(server);
    this.#arrived.push(server);
    this.readQueue.wake();
    client.changed();
  }

  #join(peer: TcpSocket): void {
    this.#peer = peer;
    this.#state = "established";
    this.#listener = undefined;
    if (!this.options.sendChosen) this.options.sendBuffer = GROWN_SNDBUF;
  }

  override accept(): TcpSocket | number {
    if (!this.isListening) return -Errno.EINVAL;
    const next = this.#arrived.shift();
    if (next === undefined) return -Errno.EAGAIN;
    next.#phase = "connected";
    const waiter = this.#knocking.shift();
    if (waiter !== undefined) this.#knock(waiter);
    return next;
  }

  /** connect(2) with AF_UNSPEC. */
  #disconnect(): number {
    if (this.#state === "listening") this.#stopListening();
    else this.#abandon(true);
    this.#state = "closed";
    this.#phase = "unconnected";
    this.shut = 0;
    this.#finished = false;
    this.error = 0;
    this.#inbox.drop(this.#inbox.length);
    this.remote = undefined;
    if (this.local.port !== 0) this.unbindChosen();
    this.changed();
    return 0;
  }

  #stopListening(): void {
    for (const client of this.#knocking.splice(0)) client.#fall(Errno.ECONNREFUSED);
    for (const server of this.#arrived.splice(0)) {
      server.#abandon(true);
      server.retain();
      server.release();
    }
  }

  /** The connection ends with an error: refused or reset. */
  #fall(error: number): void {
    this.error = error;
    this.#state = "closed";
    this.#listener = undefined;
    this.shut = SHUTDOWN_MASK;
    this.changed();
  }

  /** A reset from the peer. */
  #reset(): void {
    if (this.#state !== "established") return;
    this.#fall(this.#finished ? Errno.EPIPE : Errno.ECONNRESET);
  }

  /** The peer sends no more. */
  #finish(): void {
    this.#finished = true;
    this.shut |= RCV_SHUTDOWN;
    this.#settle();
    this.changed();
  }

  /** Both directions are closed. */
  #settle(): void {
    if (this.#finished && this.shut & SEND_SHUTDOWN) this.#state = "closed";
  }

  /** Ends this side: with a reset, or as after the last byte. */
  #abandon(reset: boolean): void {
    const listener = this.#listener;
    if (listener !== undefined) {
      const index = listener.#knocking.indexOf(this);
      if (index >= 0) listener.#knocking.splice(index, 1);
      this.#listener = undefined;
    }
    const peer = this.#peer;
    this.#peer = undefined;
    if (peer === undefined || peer.#dead) return;
    if (reset) peer.#reset();
    else if (!(this.shut & SEND_SHUTDOWN)) peer.#finish();
    peer.writeQueue.wake();
  }

  shutdown(how: number): number {
    const mask = how + 1;
    if (this.#state === "listening") {
      if (mask & RCV_SHUTDOWN) {
        this.#stopListening();
        this.#state = "closed";
        this.changed();
      }
      return 0;
    }
    if (this.#state === "connecting") {
      this.#abandon(false);
      this.#state = "closed";
      this.#phase = "unconnected";
      this.changed();
      return 0;
    }
    const closed = this.#state === "closed";
    const sending = (this.shut & SEND_SHUTDOWN) === 0;
    if (mask & SEND_SHUTDOWN) this.#uncork();
    this.shut |= mask;
    if (!closed && mask & SEND_SHUTDOWN && sending) {
      const peer = this.#peer;
      if (peer !== undefined) peer.#finish();
      this.#settle();
    }
    this.changed();
    return closed ? -Errno.ENOTCONN : 0;
  }

  /** Bytes that may be under way from this end. */
  get #capacity(): number {
    const peer = this.#peer;
    const window = peer?.options.receiveChosen ? peer.options.receiveBuffer : GROWN_WINDOW;
    return this.options.sendBuffer + window;
  }

  get #room(): number {
    const peer = this.#peer;
    return Math.max(this.#capacity - (peer === undefined ? 0 : peer.#inbox.length), 0);
  }

  /** sk_stream_is_writeable: a third of the buffer is free. */
  get #hasRoom(): boolean {
    return this.#room * 3 >= this.#capacity;
  }

  send(bytes: Uint8Array, out: Outgoing): number {
    if (this.#state === "connecting") return -Errno.EAGAIN;
    if (this.error !== 0 || this.shut & SEND_SHUTDOWN) return this.takeError() || -Errno.EPIPE;
    if (this.#state !== "established") return -Errno.EPIPE;
    const peer = this.#peer;
    if (peer === undefined) return -Errno.EPIPE;
    if (bytes.length === 0) return 0;
    if (peer.#dead) {
      // The other end is gone: it answers what still comes with a reset.
      this.#reset();
      return bytes.length;
    }
    if (out.flags & MSG_OOB) {
      this.#uncork();
      return peer.#takeUrgent(bytes);
    }
    const count = Math.min(bytes.length, this.#room - this.#corked.length);
    if (count <= 0) return -Errno.EAGAIN;
    const piece = count === bytes.length ? bytes : bytes.subarray(0, count);
    const more = (out.flags & MSG_MORE) !== 0 || this.options.has(IPPROTO_TCP, TCP_CORK);
    if (more && this.#corked.length + count < SEGMENT) this.#hold(piece);
    else {
      this.#uncork();
      peer.#inbox.push(piece);
      peer.readQueue.wake();
    }
    return count;
  }

  /** MSG_MORE and TCP_CORK hold back what does not fill a segment, for 200 ms at most (tcp(7)). */
  #hold(piece: Uint8Array): void {
    const { process } = this.network.kernel.current ?? {};
    if (this.#corked.length === 0 && process !== undefined) {
      const { clock, signals } = this.network.kernel;
      const expires = clock.now() + CORK_PATIENCE;
      this.#corkTimer = { process, source: { kind: "clock" }, expires, fire: () => this.#uncork() };
      signals.state.timers.arm(this.#corkTimer);
    }
    this.#corked = Buffer.concat([this.#corked, piece]);
  }

  /** Sends what was held back. */
  #uncork(): void {
    if (this.#corked.length === 0) return;
    const held = this.#corked;
    this.#corked = new Uint8Array(0);
    if (this.#corkTimer !== undefined) this.network.kernel.signals.state.timers.disarm(this.#corkTimer);
    this.#corkTimer = undefined;
    const peer = this.#peer;
    if (peer === undefined || peer.#dead) return;
    peer.#inbox.push(held);
    peer.readQueue.wake();
  }

  override setOption(task: Task, level: number, name: number, value: Uint8Array): number | undefined {
    const uncorks = name === TCP_CORK ? (value[0] ?? 0) === 0 : name === TCP_NODELAY && (value[0] ?? 0) !== 0;
    if (level === IPPROTO_TCP && uncorks) this.#uncork();
    return super.setOption(task, level, name, value);
  }

  /** The last byte is the urgent one (tcp(7), Sockets API: out-of-band data). */
  #takeUrgent(bytes: Uint8Array): number {
    const inline = this.options.has(SOL_SOCKET, So.SO_OOBINLINE);
    this.#inbox.push(inline ? bytes : bytes.subarray(0, -1));
    this.#mark = inline ? this.#inbox.length - 1 : this.#inbox.length;
    this.#urgent = bytes[bytes.length - 1];
    this.readQueue.wake();
    return bytes.length;
  }

  #receiveUrgent(into: Uint8Array, flags: number): Incoming | number {
    if (this.options.has(SOL_SOCKET, So.SO_OOBINLINE) || this.#mark < 0) return -Errno.EINVAL;
    if (this.#urgent === undefined) return -Errno.EINVAL;
    const count = Math.min(into.length, 1);
    into[0] = this.#urgent;
    if (!(flags & MSG_PEEK)) this.#urgent = undefined;
    return { count, length: 1, flags: MSG_OOB };
  }

  receive(into: Uint8Array, flags: number): Incoming | number {
    if (this.#state === "listening") return -Errno.ENOTCONN;
    if (flags & MSG_OOB) return this.#receiveUrgent(into, flags);
    const inbox = this.#inbox;
    if (inbox.length === 0) {
      if (this.#finished) return { count: 0, length: 0, flags: 0 };
      const failed = this.takeError();
      if (failed !== 0) return failed;
      if (this.shut & RCV_SHUTDOWN) return { count: 0, length: 0, flags: 0 };
      return this.#state === "closed" ? -Errno.ENOTCONN : -Errno.EAGAIN;
    }
    // Reading stops in front of the urgent byte.
    const part = this.#mark > 0 ? into.subarray(0, Math.min(into.length, this.#mark)) : into;
    const count = flags & MSG_TRUNC ? Math.min(part.length, inbox.length) : inbox.peek(part);
    if (!(flags & MSG_PEEK)) this.#consume(count);
    return { count, length: count, flags: 0 };
  }

  #consume(count: number): void {
    this.#inbox.drop(count);
    if (this.#mark >= 0) this.#mark = this.#mark === 0 && count > 0 ? -1 : this.#mark - count;
    const peer = this.#peer;
    if (peer === undefined || !peer.#hasRoom) return;
    peer.writeQueue.wake();
  }

  override unread(bytes: Uint8Array): void {
    this.#inbox.unshift(bytes);
    if (this.#mark >= 0) this.#mark += bytes.length;
  }

  override available(): number {
    return this.#state === "listening" ? -Errno.EINVAL : this.#inMark;
  }

  /** Bytes that a read may have: up to the urgent one. */
  get #inMark(): number {
    return this.#mark > 0 ? Math.min(this.#mark, this.#inbox.length) : this.#inbox.length;
  }

  override ioctl(task: Task, request: number, argument: number): number | undefined {
    const { memory } = task;
    switch (request) {
      case SIOCOUTQ:
        if (this.#state === "listening") return -Errno.EINVAL;
        memory.setU32(argument, 0);
        return 0;
      case SIOCATMARK:
        memory.setU32(argument, Number(this.#mark === 0));
        return 0;
    }
    return super.ioctl(task, request, argument);
  }

  override getOption(task: Task, level: number, name: number): Uint8Array | number | undefined {
    if (level !== IPPROTO_TCP || name !== TCP_INFO) return super.getOption(task, level, name);
    const info = new Uint8Array(TCP_INFO_BYTES);
    info[0] = TcpState[this.#state];
    return info;
  }

  override poll(): number {
    if (this.#state === "listening") return this.#arrived.length > 0 ? POLLIN | POLLRDNORM : 0;
    let events = 0;
    if (this.shut === SHUTDOWN_MASK || this.#state === "closed") events |= POLLHUP;
    if (this.shut & RCV_SHUTDOWN) events |= POLLIN | POLLRDNORM | POLLRDHUP;
    if (this.#state !== "connecting") {
      if (this.#inbox.length >= this.options.lowWater || (this.#inbox.length > 0 && this.#finished)) {
        events |= POLLIN | POLLRDNORM;
      }
      if (this.shut & SEND_SHUTDOWN || this.#peer === undefined || this.#hasRoom) events |= POLLOUT | POLLWRNORM;
      if (this.#urgent !== undefined) events |= POLLPRI;
    }
    if (this.error !== 0) events |= POLLERR;
    return events;
  }

  protected override closed(): void {
    this.#uncork();
    this.#dead = true;
    if (this.#state === "listening") this.#stopListening();
    else this.#abandon(this.#inbox.length > 0 || this.options.linger === 0);
    if (this.local.port !== 0) this.ports.remove(this);
    this.#state = "closed";
    this.changed();
  }

  /** Where a connection to this listener would come in. */
  scoreFor(to: Endpoint): number {
    if (!this.isListening || !this.receivesAt(to.ip)) return -1;
    return isAny(this.local.ip) ? (this.domain === AF_INET ? 1 : 0) : 2;
  }
}
