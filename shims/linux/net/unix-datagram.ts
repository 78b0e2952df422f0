import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import { POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM } from "../vfs/flags.ts";

import { datagramCost } from "./accounting.ts";
import { familyOf } from "./address.ts";
import {
  AF_UNSPEC,
  DATAGRAM_OVERHEAD,
  MAX_DGRAM_QLEN,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  POLLRDHUP,
  POLLWRBAND,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SHUTDOWN_MASK,
  SIOCOUTQ,
} from "./constants.ts";
import type { Incoming, Outgoing, SocketMaking, Ucred } from "./socket.ts";
import { UnixSocket } from "./unix.ts";

/** AF_UNIX SOCK_DGRAM (net/unix/af_unix.c). */
export class UnixDatagram extends UnixSocket {
  #peer: UnixDatagram | undefined;
  #creds: Ucred | undefined;
  /** Sockets that send here: they wait while its queue is full. */
  readonly #senders = new Set<UnixDatagram>();

  static pair(making: SocketMaking): [UnixDatagram, UnixDatagram] {
    const [one, other] = [new UnixDatagram(making), new UnixDatagram(making)];
    const creds = one.network.currentCreds();
    for (const [socket, peer] of [
      [one, other],
      [other, one],
    ] as const) {
      socket.#setPeer(peer);
      socket.#creds = creds;
    }
    return [one, other];
  }

  #setPeer(peer: UnixDatagram | undefined): void {
    const old = this.#peer;
    if (old !== undefined) old.#senders.delete(this);
    this.#peer = peer;
    if (peer !== undefined) peer.#senders.add(this);
  }

  override get peerCreds(): Ucred {
    return this.#creds ?? super.peerCreds;
  }

  get peerAddress(): Uint8Array | undefined {
    return this.#peer?.localAddress;
  }

  connect(task: Task, address: Uint8Array): number {
    const old = this.#peer;
    if (familyOf(address) === AF_UNSPEC) {
      this.#setPeer(undefined);
      if (old !== undefined) this.#leave(old);
      return 0;
    }
    const peer = this.findPeer(task, address);
    if (!(peer instanceof UnixDatagram)) return -Errno.EPROTOTYPE;
    this.autobindForCredentials();
    if (!peer.#admits(this)) return -Errno.EPERM;
    this.#setPeer(peer);
    if (old !== undefined && old !== peer) this.#leave(old);
    this.changed();
    return 0;
  }

  /** Another peer from now on: what the old one sent is gone, and it learns (unix_dgram_disconnected). */
  #leave(old: UnixDatagram): void {
    if (this.inbox.length === 0) return;
    this.purge();
    if (!old.dead && old.#peer === this) {
      old.error = Errno.ECONNRESET;
      old.changed();
    }
  }

  #admits(sender: UnixDatagram): boolean {
    return this.#peer === undefined || this.#peer === sender;
  }

  get #isCrowded(): boolean {
    return this.inbox.length > MAX_DGRAM_QLEN;
  }

  shutdown(how: number): number {
    this.shut |= how + 1;
    this.changed();
    return 0;
  }

  send(bytes: Uint8Array, out: Outgoing): number {
    if (out.flags & MSG_OOB) return -Errno.EOPNOTSUPP;
    const { current } = this.network.kernel;
    let target = this.#peer;
    if (out.address !== undefined && current !== undefined) {
      const found = this.findPeer(current, out.address);
      if (!(found instanceof UnixDatagram)) return -Errno.EPROTOTYPE;
      target = found;
    }
    if (target === undefined) return -Errno.ENOTCONN;
    this.autobindForCredentials();
    if (bytes.length > this.options.sendBuffer - DATAGRAM_OVERHEAD) return -Errno.EMSGSIZE;
    const failed = this.takeError();
    if (failed !== 0) return failed;
    if (this.shut & SEND_SHUTDOWN) return -Errno.EPIPE;
    if (this.isFull) return -Errno.EAGAIN;
    if (!target.#admits(this)) return -Errno.EPERM;
    if (target.dead) {
      if (target !== this.#peer) return -Errno.ECONNREFUSED;
      this.#setPeer(undefined);
      this.#leave(target);
      return -Errno.ECONNREFUSED;
    }
    if (target.shut & RCV_SHUTDOWN) return -Errno.EPIPE;
    if (target !== this && target.#peer !== this && target.#isCrowded) {
      target.#senders.add(this);
      return -Errno.EAGAIN;
    }
    this.deliver(target, bytes, datagramCost(bytes.length), out);
    return bytes.length;
  }

  receive(into: Uint8Array, flags: number): Incoming | number {
    if (flags & MSG_OOB) return -Errno.EOPNOTSUPP;
    const failed = this.takeError();
    if (failed !== 0) return failed;
    const [packet] = this.inbox;
    if (packet === undefined) {
      return this.shut & RCV_SHUTDOWN ? { count: 0, length: 0, flags: 0 } : -Errno.EAGAIN;
    }
    const rights = this.takeRights(packet, flags);
    if (!(flags & MSG_PEEK)) {
      this.inbox.shift();
      this.consumed(packet);
      for (const sender of this.#senders) sender.writeQueue.wake();
    }
    const { length } = packet.bytes;
    const count = Math.min(length, into.length);
    into.set(packet.bytes.subarray(0, count));
    const address = packet.sender.localAddress;
    return {
      count,
      length,
      flags: count < length ? MSG_TRUNC : 0,
      address: address.length > 2 ? address : new Uint8Array(0),
      rights,
      creds: this.credsFor(packet),
    };
  }

  override available(): number {
    return this.inbox[0]?.bytes.length ?? 0;
  }

  override ioctl(task: Task, request: number, argument: number): number | undefined {
    if (request !== SIOCOUTQ) return super.ioctl(task, request, argument);
    task.memory.setU32(argument, this.inFlight);
    return 0;
  }

  override poll(): number {
    let events = 0;
    if (this.error !== 0) events |= POLLERR;
    if (this.shut & RCV_SHUTDOWN) events |= POLLRDHUP | POLLIN | POLLRDNORM;
    if (this.shut === SHUTDOWN_MASK) events |= POLLHUP;
    if (this.inbox.length > 0) events |= POLLIN | POLLRDNORM;
    const peer = this.#peer;
    const crowded = peer !== undefined && peer !== this && peer.#peer !== this && peer.#isCrowded;
    if (this.hasRoom && !crowded) events |= POLLOUT | POLLWRNORM | POLLWRBAND;
    return events;
  }

  protected override closed(): void {
    this.unbind();
    this.purge();
    this.#setPeer(undefined);
    for (const sender of this.#senders) sender.changed();
    this.changed();
  }
}
