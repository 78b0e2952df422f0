/** TCP over the host's network. */
import type { Socket as HostSocket, Server } from "node:net";
import { ByteQueue } from "../byte-queue.ts";
import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import { POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM } from "../vfs/flags.ts";
import type { Wait } from "../wait.ts";
import { type Endpoint, familyOf, isAny, isLoopback } from "./address.ts";
import {
  AF_UNSPEC,
  IPPROTO_TCP,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  POLLRDHUP,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SHUTDOWN_MASK,
  SOL_SOCKET,
  TcpState,
} from "./constants.ts";
import { type HostNetwork, hostAddress, hostEndpoint, networkErrno } from "./host.ts";
import { InetSocket, type Ports } from "./inet.ts";
import { So } from "./options.ts";
import { type Incoming, type Outgoing, type SocketMaking, waiting } from "./socket.ts";

const TCP_NODELAY = 1;
/** Node takes the length of the queue when it binds, which is before the guest says it. */
const BACKLOG = 511;
const BUFFER = 1 << 20;

type State = keyof typeof TcpState | "bound";

export class HostTcpSocket extends InetSocket {
  readonly #host: HostNetwork;
  #state: State = "closed";
  /** connect(2) is to be called again to learn how it went. */
  #untold = false;
  #server: Server | undefined;
  #socket: HostSocket | undefined;
  readonly #arrived: HostTcpSocket[] = [];
  readonly #inbox = new ByteQueue();
  /** The peer will send no more. */
  #finished = false;

  constructor(making: SocketMaking, host: HostNetwork) {
    super(making);
    this.#host = host;
    host.active++;
  }

  protected get ports(): Ports {
    return this.network.tcpPorts;
  }

  get stateNumber(): number {
    return TcpState[this.#state === "bound" ? "closed" : this.#state];
  }

  override get waitingConnections(): number {
    return this.#arrived.length;
  }

  override get onHost(): boolean {
    return true;
  }

  override get isStream(): boolean {
    return true;
  }

  override get isListening(): boolean {
    return this.#state === "listening";
  }

  override get peerAddress(): Uint8Array | undefined {
    return this.#state === "established" ? super.peerAddress : undefined;
  }

  override bind(_task: Task, address: Uint8Array): number | Wait {
    const wanted = this.parseLocal(address);
    if (typeof wanted === "number") return wanted;
    if (this.#state !== "closed") return -Errno.EINVAL;
    return this.#serve(wanted, "bound");
  }

  override listen(_task: Task, _backlog: number): number | Wait {
    if (this.#state === "bound") this.#become("listening");
    if (this.#state === "listening") return 0;
    if (this.#state !== "closed") return -Errno.EINVAL;
    return this.#serve({ ip: this.anyAddress, port: 0 }, "listening");
  }

  /** Node binds and listens in one: connections that come before listen(2) are turned away. */
  #serve(at: Endpoint, then: State): number | Wait {
    const server = this.#host.net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
    let outcome = -Errno.EAGAIN;
    server.on("error", (error) => {
      outcome = -networkErrno(error);
      this.changed();
    });
    server.once("listening", () => {
      const bound = server.address();
      if (bound !== null && typeof bound === "object") this.local = hostEndpoint(bound.address, bound.port);
      this.#server = server;
      this.#become(then);
      outcome = 0;
      this.changed();
    });
    server.on("connection", (socket) => {
      if (this.#state === "listening") this.#arrive(socket);
      else socket.resetAndDestroy();
    });
    const host = hostAddress(this.domain, at.ip);
    server.listen({ host, port: at.port, ipv6Only: this.v6only, exclusive: true, backlog: BACKLOG }).unref();
    return waiting(this, [this.writeQueue], () => outcome, undefined);
  }

  #arrive(socket: HostSocket): void {
    const accepted = new HostTcpSocket(this, this.#host);
    accepted.options.inherit(this.options);
    accepted.#adopt(socket);
    accepted.#establish(socket);
    this.#arrived.push(accepted);
    socket.resume();
    this.readQueue.wake();
  }

  override accept(): HostTcpSocket | number {
    if (!this.isListening) return -Errno.EINVAL;
    return this.#arrived.shift() ?? -Errno.EAGAIN;
  }

  connect(_task: Task, address: Uint8Array, nonblocking: boolean): number | Wait {
    if (address.length >= 2 && familyOf(address) === AF_UNSPEC) return this.#disconnect();
    if (this.#state === "listening") return -Errno.EISCONN;
    if (this.#untold) {
      if (nonblocking && this.#state === "connecting") return -Errno.EALREADY;
    } else {
      if (this.#state === "established") return -Errno.EISCONN;
      const to = this.parseRemote(address);
      if (typeof to === "number") return to;
      this.#start(to);
      if (nonblocking) return -Errno.EINPROGRESS;
    }
    const attempt = (): number => (this.#state === "connecting" ? -Errno.EAGAIN : this.#outcome());
    const { sendTimeout } = this.options;
    const late = sendTimeout === undefined ? -Errno.ETIMEDOUT : -Errno.EINPROGRESS;
    return waiting(this, [this.writeQueue], attempt, sendTimeout, late);
  }

  #outcome(): number {
    this.#untold = false;
    if (this.#state === "established") return 0;
    this.shut = 0;
    return this.takeError() || -Errno.ECONNABORTED;
  }

  #start(to: Endpoint): void {
    const from = this.#state === "bound" ? this.local : undefined;
    this.#server?.close();
    this.#server = undefined;
    this.#untold = true;
    if (this.#host.silent.has(to.port) && (isLoopback(to.ip) || isAny(to.ip)) && from?.port !== to.port) {
      this.#fall(Errno.ECONNREFUSED);
      return;
    }
    this.#become("connecting");
    this.remote = to;
    const socket = this.#host.net.connect({
      host: hostAddress(this.domain, to.ip),
      port: to.port,
      allowHalfOpen: true,
      autoSelectFamily: false,
      noDelay: this.options.has(IPPROTO_TCP, TCP_NODELAY),
      keepAlive: this.options.has(SOL_SOCKET, So.SO_KEEPALIVE),
      ...(from && { localAddress: hostAddress(this.domain, from.ip), localPort: from.port }),
    });
    this.#adopt(socket);
    socket.once("connect", () => this.#establish(socket));
  }

  #establish(socket: HostSocket): void {
    const { localAddress, localPort, remoteAddress, remotePort } = socket;
    if (localAddress !== undefined) this.local = hostEndpoint(localAddress, localPort ?? 0);
    if (remoteAddress !== undefined) this.remote = hostEndpoint(remoteAddress, remotePort ?? 0);
    this.#become("established");
    this.changed();
  }

  #adopt(socket: HostSocket): void {
    this.#socket = socket;
    socket.unref();
    socket.on("data", (bytes) => {
      this.#inbox.push(bytes);
      if (this.#inbox.length >= BUFFER) socket.pause();
      this.readQueue.wake();
    });
    socket.on("end", () => {
      this.#finished = true;
      this.shut |= RCV_SHUTDOWN;
      this.#settle();
      this.changed();
    });
    socket.on("error", (error) => {
      if (this.#socket === socket) this.#fall(networkErrno(error));
    });
    socket.on("drain", () => this.changed());
  }

  #fall(errno: number): void {
    this.error = errno;
    this.#become("closed");
    this.shut = SHUTDOWN_MASK;
    this.changed();
  }

  #become(state: State): void {
    if (this.#state === "bound") this.#host.silent.delete(this.local.port);
    if (state === "bound") this.#host.silent.add(this.local.port);
    this.#state = state;
  }

  #disconnect(): number {
    this.#drop();
    this.#become("closed");
    this.#untold = false;
    this.shut = 0;
    this.error = 0;
    this.#finished = false;
    this.#inbox.drop(this.#inbox.length);
    this.remote = undefined;
    this.local = { ip: this.anyAddress, port: 0 };
    this.changed();
    return 0;
  }

  /** Lets go of what the host has of it. */
  #drop(): void {
    for (const waiter of this.#arrived.splice(0)) {
      waiter.retain();
      waiter.release();
    }
    this.#server?.close();
    this.#server = undefined;
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket === undefined || socket.destroyed) return;
    // What is left unread makes a close a reset.
    if (this.#state === "connecting") socket.destroy();
    else if (this.#inbox.length > 0 || this.options.linger === 0) socket.resetAndDestroy();
    else this.#host.finish(socket);
  }

  shutdown(how: number): number {
    if (this.#state === "listening" || this.#state === "connecting") {
      this.#drop();
      this.#become("closed");
      this.changed();
      return 0;
    }
    if (this.#state !== "established") return -Errno.ENOTCONN;
    const mask = how + 1;
    if (mask & SEND_SHUTDOWN && !(this.shut & SEND_SHUTDOWN)) this.#socket?.end();
    this.shut |= mask;
    this.#settle();
    this.changed();
    return 0;
  }

  /** Both directions are closed. */
  #settle(): void {
    if (this.#finished && this.shut & SEND_SHUTDOWN) this.#become("closed");
  }

  get #room(): number {
    return BUFFER - (this.#socket?.writableLength ?? 0);
  }

  send(bytes: Uint8Array, out: Outgoing): number {
    if (this.#state === "connecting") return -Errno.EAGAIN;
    if (this.error !== 0 || this.shut & SEND_SHUTDOWN) return this.takeError() || -Errno.EPIPE;
    const socket = this.#socket;
    if (this.#state !== "established" || socket === undefined) return -Errno.EPIPE;
    if (out.flags & MSG_OOB) return -Errno.EOPNOTSUPP;
    if (bytes.length === 0) return 0;
    const count = Math.min(bytes.length, this.#room);
    if (count <= 0) return -Errno.EAGAIN;
    socket.write(bytes.slice(0, count));
    return count;
  }

  receive(into: Uint8Array, flags: number): Incoming | number {
    if (this.#state === "listening") return -Errno.ENOTCONN;
    if (flags & MSG_OOB) return -Errno.EINVAL;
    const inbox = this.#inbox;
    if (inbox.length === 0) {
      if (this.#finished) return { count: 0, length: 0, flags: 0 };
      const failed = this.takeError();
      if (failed !== 0) return failed;
      if (this.shut & RCV_SHUTDOWN) return { count: 0, length: 0, flags: 0 };
      return this.#state === "established" || this.#state === "connecting" ? -Errno.EAGAIN : -Errno.ENOTCONN;
    }
    const count = flags & MSG_TRUNC ? Math.min(into.length, inbox.length) : inbox.peek(into);
    if (!(flags & MSG_PEEK)) {
      inbox.drop(count);
      if (inbox.length < BUFFER / 2 && this.#socket?.isPaused()) this.#socket.resume();
    }
    return { count, length: count, flags: 0 };
  }

  override unread(bytes: Uint8Array): void {
    this.#inbox.unshift(bytes);
  }

  override available(): number {
    return this.#state === "listening" ? -Errno.EINVAL : this.#inbox.length;
  }

  override setOption(task: Task, level: number, name: number, value: Uint8Array): number | undefined {
    const on = (value[0] ?? 0) !== 0;
    if (level === IPPROTO_TCP && name === TCP_NODELAY) this.#socket?.setNoDelay(on);
    if (level === SOL_SOCKET && name === So.SO_KEEPALIVE) this.#socket?.setKeepAlive(on);
    return super.setOption(task, level, name, value);
  }

  override poll(): number {
    if (this.#state === "listening") return this.#arrived.length > 0 ? POLLIN | POLLRDNORM : 0;
    let events = 0;
    const idle = this.#state === "closed" || this.#state === "bound";
    if (this.shut === SHUTDOWN_MASK || idle) events |= POLLHUP;
    if (this.shut & RCV_SHUTDOWN) events |= POLLIN | POLLRDNORM | POLLRDHUP;
    if (this.#state !== "connecting") {
      if (this.#inbox.length >= this.options.lowWater || (this.#inbox.length > 0 && this.#finished)) {
        events |= POLLIN | POLLRDNORM;
      }
      if (this.shut & SEND_SHUTDOWN || idle || this.#room * 3 >= BUFFER) events |= POLLOUT | POLLWRNORM;
    }
    if (this.error !== 0) events |= POLLERR;
    return events;
  }

  protected override closed(): void {
    this.#drop();
    this.#become("closed");
    this.#host.active--;
    this.changed();
  }
}
