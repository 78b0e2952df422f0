import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import { fail } from "../vfs/error.ts";
import { POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM } from "../vfs/flags.ts";
import type { Wait } from "../wait.ts";
import { datagramCost, streamCost, streamPiece } from "./accounting.ts";
import {
  DATAGRAM_OVERHEAD,
  MSG_EOR,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  POLLRDHUP,
  POLLWRBAND,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SHUTDOWN_MASK,
  SIOCOUTQ,
  SOCK_STREAM,
  SOMAXCONN,
} from "./constants.ts";
import { type Incoming, type Outgoing, type SocketMaking, type Ucred, waiting } from "./socket.ts";
import { UnixSocket } from "./unix.ts";

const NO_CREDS: Ucred = { pid: 0, uid: 0xffff_ffff, gid: 0xffff_ffff };

type State = "closed" | "listening" | "established";

/** AF_UNIX SOCK_STREAM and SOCK_SEQPACKET (net/unix/af_unix.c). */
export class UnixConnected extends UnixSocket {
  #state: State = "closed";
  #peer: UnixConnected | undefined;
  #creds: Ucred = NO_CREDS;
  #backlog = 0;
  /** Connections that wait for accept. */
  readonly #arrived: UnixConnected[] = [];
  /** In a listener's queue: nobody has accepted it. */
  #embryo = false;

  /** socketpair(2). */
  static pair(making: SocketMaking): [UnixConnected, UnixConnected] {
    const [one, other] = [new UnixConnected(making), new UnixConnected(making)];
    const creds = one.network.currentCreds();
    one.#join(other, creds);
    other.#join(one, creds);
    return [one, other];
  }

  #join(peer: UnixConnected, creds: Ucred): void {
    this.#peer = peer;
    this.#creds = creds;
    this.#state = "established";
  }

  override get isStream(): boolean {
    return this.type === SOCK_STREAM;
  }

  override get isListening(): boolean {
    return this.#state === "listening";
  }

  override get peerCreds(): Ucred {
    return this.#creds;
  }

  get peerAddress(): Uint8Array | undefined {
    return this.#peer?.localAddress;
  }

  override listen(_task: Task, backlog: number): number {
    if (!this.isBound || this.#state === "established") return -Errno.EINVAL;
    this.#state = "listening";
    this.#backlog = Math.min(backlog >>> 0, SOMAXCONN);
    this.#creds = this.network.currentCreds();
    this.writeQueue.wake();
    return 0;
  }

  connect(task: Task, address: Uint8Array, nonblocking: boolean): number | Wait {
    this.autobindForCredentials();
    let listener = this.#listener(task, address);
    const attempt = (): number => {
      if (listener.dead || !listener.isListening) listener = this.#listener(task, address);
      if (this.#state !== "closed") return this.#state === "established" ? -Errno.EISCONN : -Errno.EINVAL;
      if (listener.#arrived.length > listener.#backlog) return -Errno.EAGAIN;
      listener.#welcome(this, this.network.currentCreds());
      return 0;
    };
    if (nonblocking) return attempt();
    return waiting(this, [listener.writeQueue, this.writeQueue], attempt, this.options.sendTimeout);
  }

  #listener(task: Task, address: Uint8Array): UnixConnected {
    const found = this.findPeer(task, address);
    if (!(found instanceof UnixConnected) || !found.isListening || found.shut & RCV_SHUTDOWN) {
      return fail(Errno.ECONNREFUSED, "nobody listens on that name");
    }
    return found;
  }

  /** A client connects to this listener. */
  #welcome(client: UnixConnected, creds: Ucred): void {
    const server = new UnixConnected(this);
    server.name = this.name;
    server.options.inherit(this.options);
    server.#embryo = true;
    server.#join(client, creds);
    client.#join(server, this.#creds);
    this.#arrived.push(server);
    this.readQueue.wake();
    client.changed();
  }

  override accept(): UnixConnected | number {
    if (!this.isListening) return -Errno.EINVAL;
    const next = this.#arrived.shift();
    if (next === undefined) return this.shut & RCV_SHUTDOWN ? -Errno.EINVAL : -Errno.EAGAIN;
    next.#embryo = false;
    this.writeQueue.wake();
    return next;
  }

  shutdown(how: number): number {
    const mask = how + 1;
    this.shut |= mask;
    const peer = this.#peer;
    if (peer !== undefined) {
      if (mask & RCV_SHUTDOWN) peer.shut |= SEND_SHUTDOWN;
      if (mask & SEND_SHUTDOWN) peer.shut |= RCV_SHUTDOWN;
      peer.changed();
    }
    this.changed();
    return 0;
  }

  send(bytes: Uint8Array, out: Outgoing): number {
    if (out.flags & MSG_OOB) return -Errno.EOPNOTSUPP;
    const peer = this.#peer;
    if (this.isStream) {
      if (out.address !== undefined) return this.#state === "established" ? -Errno.EISCONN : -Errno.EOPNOTSUPP;
      if (peer === undefined) return -Errno.ENOTCONN;
      if (this.shut & SEND_SHUTDOWN || peer.dead) return -Errno.EPIPE;
      return this.#sendStream(peer, bytes, out);
    }
    if (this.#state !== "established" || peer === undefined) return -Errno.ENOTCONN;
    if (bytes.length > this.options.sendBuffer - DATAGRAM_OVERHEAD) return -Errno.EMSGSIZE;
    const failed = this.takeError();
    if (failed !== 0) return failed;
    if (this.shut & SEND_SHUTDOWN || peer.shut & RCV_SHUTDOWN) return -Errno.EPIPE;
    if (this.isFull) return -Errno.EAGAIN;
    this.deliver(peer, bytes, datagramCost(bytes.length), out);
    return bytes.length;
  }

  #sendStream(peer: UnixConnected, bytes: Uint8Array, out: Outgoing): number {
    let done = 0;
    while (done < bytes.length) {
      if (this.isFull) return done === 0 ? -Errno.EAGAIN : done;
      const piece = streamPiece(bytes.length - done, this.options.sendBuffer);
      const part = piece === bytes.length ? bytes : bytes.subarray(done, done + piece);
      this.deliver(peer, part, streamCost(piece), out, done === 0 ? out.rights : undefined);
      done += piece;
    }
    return done;
  }

  receive(into: Uint8Array, flags: number): Incoming | number {
    if (flags & MSG_OOB) return -Errno.EOPNOTSUPP;
    if (this.#state !== "established") return this.isStream ? -Errno.EINVAL : -Errno.ENOTCONN;
    if (this.inbox.length === 0) {
      const failed = this.takeError();
      if (failed !== 0) return failed;
      if (this.shut & RCV_SHUTDOWN) return { count: 0, length: 0, flags: 0 };
      return -Errno.EAGAIN;
    }
    return this.isStream ? this.#receiveStream(into, flags) : this.#receiveRecord(into, flags);
  }

  #receiveStream(into: Uint8Array, flags: number): Incoming {
    const peek = (flags & MSG_PEEK) !== 0;
    const { inbox } = this;
    const first = inbox[0];
    let count = 0;
    let index = 0;
    let rights: Incoming["rights"];
    for (let packet = inbox[index]; packet !== undefined && count < into.length; packet = inbox[index]) {
      // Bytes of different writers are not glued together where the reader learns who wrote them.
      if (this.passesCreds && first !== undefined && !sameCreds(packet.creds, first.creds)) break;
      const piece = packet.bytes.subarray(packet.taken, packet.taken + into.length - count);
      into.set(piece, count);
      count += piece.length;
      rights = this.takeRights(packet, flags);
      if (peek) index++;
      else {
        packet.taken += piece.length;
        if (packet.taken < packet.bytes.length) break;
        inbox.shift();
        this.consumed(packet);
      }
      if (rights !== undefined) break;
    }
    const creds = first && this.credsFor(first);
    return { count, length: count, flags: 0, address: first?.sender.localAddress, rights, creds };
  }

  #receiveRecord(into: Uint8Array, flags: number): Incoming | number {
    const [packet] = this.inbox;
    if (packet === undefined) return -Errno.EAGAIN;
    const rights = this.takeRights(packet, flags);
    if (!(flags & MSG_PEEK)) {
      this.inbox.shift();
      this.consumed(packet);
    }
    const { length } = packet.bytes;
    const count = Math.min(length, into.length);
    into.set(packet.bytes.subarray(0, count));
    const truncated = count < length ? MSG_TRUNC : 0;
    const address = packet.sender.localAddress;
    return { count, length, flags: truncated | MSG_EOR, address, rights, creds: this.credsFor(packet) };
  }

  override unread(bytes: Uint8Array): void {
    if (this.isStream && bytes.length > 0) {
      this.inbox.unshift({ bytes, taken: 0, cost: 0, sender: this, rights: undefined, creds: undefined });
    }
  }

  override available(): number {
    if (this.isListening) return -Errno.EINVAL;
    return this.inbox.reduce((sum, packet) => sum + packet.bytes.length - packet.taken, 0);
  }

  override ioctl(task: Task, request: number, argument: number): number | undefined {
    if (request !== SIOCOUTQ) return super.ioctl(task, request, argument);
    task.memory.setU32(argument, this.inFlight);
    return 0;
  }

  override poll(): number {
    let events = 0;
    if (this.error !== 0) events |= POLLERR;
    if (this.shut === SHUTDOWN_MASK) events |= POLLHUP;
    if (this.shut & RCV_SHUTDOWN) events |= POLLRDHUP | POLLIN | POLLRDNORM;
    if (this.inbox.length > 0 || this.#arrived.length > 0) events |= POLLIN | POLLRDNORM;
    if (this.#state === "closed") events |= POLLHUP;
    if (this.#state !== "listening" && this.hasRoom) events |= POLLOUT | POLLWRNORM | POLLWRBAND;
    return events;
  }

  protected override closed(): void {
    this.unbind();
    const peer = this.#peer;
    if (peer !== undefined && !peer.dead) {
      peer.shut = SHUTDOWN_MASK;
      if (this.inbox.length > 0 || this.#embryo) peer.error = Errno.ECONNRESET;
      peer.changed();
    }
    this.purge();
    // Connections nobody accepted end with the listener.
    for (const embryo of this.#arrived.splice(0)) {
      embryo.retain();
      embryo.release();
    }
    this.changed();
  }
}

function sameCreds(one: Ucred | undefined, other: Ucred | undefined): boolean {
  return one?.pid === other?.pid && one?.uid === other?.uid && one?.gid === other?.gid;
}
