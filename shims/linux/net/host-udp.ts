/** UDP over the host's network. */
import type { Socket as HostSocket } from "node:dgram";
import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import { hostErrno } from "../vfs/error.ts";
import type { Wait } from "../wait.ts";
import { type Endpoint, familyOf, type Ip, ipText, isBroadcast } from "./address.ts";
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  IPPROTO_IP,
  IPPROTO_IPV6,
  MSG_OOB,
  SEND_SHUTDOWN,
  SOL_SOCKET,
} from "./constants.ts";
import { type HostNetwork, hostAddress, hostEndpoint, networkErrno } from "./host.ts";
import { interfaceText } from "./multicast.ts";
import { So } from "./options.ts";
import { type Outgoing, type SocketMaking, waiting } from "./socket.ts";
import { UdpSocket } from "./udp.ts";

const MAX_PAYLOAD = 65_507;

export class HostUdpSocket extends UdpSocket {
  readonly #host: HostNetwork;
  #socket: HostSocket | undefined;
  /** -EAGAIN until the host has bound it, then 0 or why not. */
  #bound: number = -Errno.EAGAIN;
  #connected = false;
  /** Groups to join once it is bound, and the interface of each. */
  readonly #awaited = new Map<Ip, Ip>();

  constructor(making: SocketMaking, host: HostNetwork) {
    super(making);
    this.#host = host;
    host.active++;
  }

  override get onHost(): boolean {
    return true;
  }

  override get isBinding(): boolean {
    return this.#socket !== undefined && this.#bound === -Errno.EAGAIN;
  }

  override bind(_task: Task, address: Uint8Array): number | Wait {
    const wanted = this.parseLocal(address);
    if (typeof wanted === "number") return wanted;
    if (this.#socket !== undefined) return -Errno.EINVAL;
    this.#open(wanted);
    return waiting(this, [this.writeQueue], () => this.#bound, undefined);
  }

  #open(at: Endpoint): HostSocket {
    const known = this.#socket;
    if (known !== undefined) return known;
    const socket = this.#host.dgram.createSocket({
      type: this.domain === AF_INET6 ? "udp6" : "udp4",
      ipv6Only: this.v6only,
      reuseAddr: this.options.has(SOL_SOCKET, So.SO_REUSEADDR),
    });
    this.#socket = socket;
    this.#bound = -Errno.EAGAIN;
    socket.on("message", (bytes, from) => this.take(bytes, hostEndpoint(from.address, from.port), this.local));
    socket.on("error", (error) => {
      if (this.#bound === -Errno.EAGAIN) {
        this.#bound = -networkErrno(error);
        this.#socket = undefined;
      } else this.error = networkErrno(error);
      this.changed();
    });
    socket.once("listening", () => {
      const bound = socket.address();
      this.local = hostEndpoint(bound.address, bound.port);
      this.#bound = 0;
      for (const [group, address] of this.#awaited) {
        const failed = this.joinOnNetwork(group, address, true);
        if (failed < 0) this.error = -failed;
      }
      this.#awaited.clear();
      this.#setMulticast(socket);
      this.changed();
    });
    socket.bind({ address: hostAddress(this.domain, at.ip), port: at.port, exclusive: true }).unref();
    return socket;
  }

  /** Which addresses interfaces have only the host knows: it says no to others. */
  protected override get isLocal(): (ip: Ip) => boolean {
    return () => true;
  }

  protected override joinOnNetwork(group: Ip, address: Ip, joins: boolean): number {
    const socket = this.#socket;
    if (socket === undefined || this.#bound !== 0) {
      if (joins) this.#awaited.set(group, address);
      else this.#awaited.delete(group);
      return 0;
    }
    try {
      const [name, through] = [ipText(group), interfaceText(address)];
      if (joins) socket.addMembership(name, through);
      else socket.dropMembership(name, through);
      return 0;
    } catch (error) {
      const errno = hostErrno(error);
      if (errno === undefined) throw error;
      return -errno;
    }
  }

  override setOption(task: Task, level: number, name: number, value: Uint8Array): number | undefined {
    const own = level === IPPROTO_IP || level === IPPROTO_IPV6;
    const result =
      super.setOption(task, level, name, value) ??
      (own ? this.options.write(task.abi, level, name, value, false) : undefined);
    if (result === 0 && this.#socket !== undefined && this.#bound === 0) this.#setMulticast(this.#socket);
    return result;
  }

  #setMulticast(socket: HostSocket): void {
    const v6 = this.domain === AF_INET6;
    const [level, ttl, loop] = v6 ? [IPPROTO_IPV6, 18, 19] : [IPPROTO_IP, 33, 34];
    if (this.options.isSet(level, ttl)) socket.setMulticastTTL(this.options.get(level, ttl));
    if (this.options.isSet(level, loop)) socket.setMulticastLoopback(this.options.has(level, loop));
    const through = interfaceText(this.memberships.interface);
    if (through !== undefined && !v6) socket.setMulticastInterface(through);
  }

  override connect(_task: Task, address: Uint8Array): number | Wait {
    if (address.length < 2) return -Errno.EINVAL;
    if (familyOf(address) === AF_UNSPEC) {
      this.#disconnect();
      return 0;
    }
    const to = this.parseRemote(address);
    if (typeof to === "number") return to;
    if (isBroadcast(to.ip) && !this.options.has(SOL_SOCKET, So.SO_BROADCAST)) return -Errno.EACCES;
    const socket = this.#open({ ip: this.anyAddress, port: 0 });
    let outcome: number | undefined;
    const attempt = (): number => {
      if (this.#bound !== 0) return this.#bound;
      if (outcome === undefined) {
        outcome = -Errno.EAGAIN;
        this.#disconnect();
        socket.connect(to.port, hostAddress(this.domain, to.ip), (error?: unknown) => {
          outcome = error instanceof Error ? -networkErrno(error) : 0;
          if (outcome === 0) this.#told(socket);
          this.changed();
        });
      }
      return outcome;
    };
    return waiting(this, [this.writeQueue], attempt, undefined);
  }

  #told(socket: HostSocket): void {
    const local = socket.address();
    const remote = socket.remoteAddress();
    this.local = hostEndpoint(local.address, local.port);
    this.remote = hostEndpoint(remote.address, remote.port);
    this.#connected = true;
  }

  #disconnect(): void {
    if (this.#connected) this.#socket?.disconnect();
    this.#connected = false;
    this.remote = undefined;
  }

  override send(bytes: Uint8Array, out: Outgoing): number {
    if (bytes.length > MAX_PAYLOAD) return -Errno.EMSGSIZE;
    const socket = this.#open({ ip: this.anyAddress, port: 0 });
    if (out.flags & MSG_OOB && this.domain === AF_INET) return -Errno.EOPNOTSUPP;
    let to: Endpoint | undefined;
    if (out.address !== undefined && !(this.domain === AF_INET6 && familyOf(out.address) === AF_UNSPEC)) {
      const parsed = this.parseRemote(out.address);
      if (typeof parsed === "number") return parsed;
      if (parsed.port === 0) return -Errno.EINVAL;
      to = parsed;
    } else if (!this.#connected) return -Errno.EDESTADDRREQ;
    const broadcast = to !== undefined && isBroadcast(to.ip);
    if (broadcast && !this.options.has(SOL_SOCKET, So.SO_BROADCAST)) return -Errno.EACCES;
    const failed = this.takeError();
    if (failed !== 0) return failed;
    if (this.shut & SEND_SHUTDOWN) return -Errno.EPIPE;
    if (broadcast && this.#bound === 0) socket.setBroadcast(true);
    // Node's connected sockets know one destination.
    if (this.#connected && to !== undefined && (to.ip !== this.remote?.ip || to.port !== this.remote.port))
      return -Errno.EISCONN;
    const done = (error: Error | null): void => {
      if (error === null) return;
      this.error = networkErrno(error);
      this.changed();
    };
    const copy = bytes.slice();
    if (this.#connected || to === undefined) socket.send(copy, done);
    else socket.send(copy, to.port, hostAddress(this.domain, to.ip), done);
    return bytes.length;
  }

  protected override closed(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#host.active--;
    // What was given to it in this turn of the host's loop is still sent.
    if (socket !== undefined) setImmediate(() => socket.close());
    this.changed();
  }
}
