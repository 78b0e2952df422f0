import { realtimeAt } from "../clock.ts";
import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import { POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM } from "../vfs/flags.ts";
import type { Wait } from "../wait.ts";
import { udpCost } from "./accounting.ts";
import {
  addressOf,
  type Endpoint,
  familyOf,
  type Ip,
  ipBytes,
  isAny,
  isBroadcast,
  isMulticast,
  isV4,
} from "./address.ts";
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_UDP,
  MSG_MORE,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  POLLRDHUP,
  POLLWRBAND,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SHUTDOWN_MASK,
  SIOCOUTQ,
  SOL_SOCKET,
} from "./constants.ts";
import { destinationOf, InetSocket, type Ports, routeTo } from "./inet.ts";
import { int32, So } from "./options.ts";
import type { Control, Incoming, Outgoing, SentControl } from "./socket.ts";

const UDP_CORK = 1;
const IP_MULTICAST_ALL = 49;
const MAX_V4 = 65_507;
const MAX_V6 = 65_527;
const IP_TOS = 1;
const IP_TTL = 2;
const IP_PKTINFO = 8;
const IP_RECVTTL = 12;
const IP_RECVTOS = 13;
const IPV6_UNICAST_HOPS = 16;
const IPV6_MULTICAST_HOPS = 18;
const IP_MULTICAST_TTL = 33;
const IPV6_RECVPKTINFO = 49;
const IPV6_PKTINFO = 50;
const IPV6_RECVHOPLIMIT = 51;
const IPV6_HOPLIMIT = 52;
const IPV6_RECVTCLASS = 66;
const IPV6_TCLASS = 67;
const HOPS = 64;
/** Interface number of `lo`. */
const LO = 1;

/** What of a packet's header its sender says. */
interface Header {
  /** IP's type of service, or IPv6's traffic class. */
  readonly tos: number;
  readonly hops: number;
}
const PLAIN: Header = { tos: 0, hops: HOPS };

interface Datagram {
  readonly bytes: Uint8Array;
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly header: Header;
  readonly cost: number;
  /** Monotonic time of arrival, ns. */
  readonly at: number;
}

/** What a sender's control messages say for one datagram (ip_cmsg_send, ip6_datagram_send_ctl); a hop limit of -1 is the default. */
function headerIn(controls: readonly SentControl[], family: number): Partial<Header> | number {
  const isIp = family === IPPROTO_IP;
  const said: { tos?: number; hops?: number } = {};
  for (const { level, type, data } of controls) {
    const isTos = type === (isIp ? IP_TOS : IPV6_TCLASS);
    if (level !== family || !(isTos || type === (isIp ? IP_TTL : IPV6_HOPLIMIT))) continue;
    let value = data[0] ?? 0;
    if (data.length === 4) value = new DataView(data.buffer, data.byteOffset).getInt32(0, true);
    else if (!(isIp && isTos && data.length === 1)) return -Errno.EINVAL;
    const least = isIp ? Number(!isTos) : -1;
    if (value < least || value > 255) return -Errno.EINVAL;
    // A traffic class of -1 goes out as it is.
    if (isTos) said.tos = value & 0xff;
    else if (value >= 0) said.hops = value;
  }
  return said;
}

/** A UDP socket on the run's loopback. */
export class UdpSocket extends InetSocket {
  readonly #inbox: Datagram[] = [];
  #queued = 0;
  /** What MSG_MORE and UDP_CORK hold back, and where it goes. */
  #corked: { bytes: Uint8Array; readonly to: Endpoint } | undefined;

  protected get ports(): Ports {
    return this.network.udpPorts;
  }

  /** TCP_ESTABLISHED or TCP_CLOSE. */
  get stateNumber(): number {
    return this.remote === undefined ? 7 : 1;
  }

  protected override get takesV4(): boolean {
    return true;
  }

  connect(_task: Task, address: Uint8Array): number | Wait {
    if (address.length < 2) return -Errno.EINVAL;
    if (familyOf(address) === AF_UNSPEC) {
      this.remote = undefined;
      if (this.local.port !== 0) this.unbindChosen();
      return 0;
    }
    const to = this.parseRemote(address);
    if (typeof to === "number") return to;
    if (isBroadcast(to.ip) && !this.options.has(SOL_SOCKET, So.SO_BROADCAST)) return -Errno.EACCES;
    const source = routeTo(to.ip);
    if (source === undefined) return -Errno.ENETUNREACH;
    if (!this.autobind()) return -Errno.EAGAIN;
    if (isAny(this.local.ip)) this.local = { ip: source, port: this.local.port };
    this.remote = { ip: destinationOf(to.ip), port: to.port };
    return 0;
  }

  shutdown(how: number): number {
    this.shut |= how + 1;
    this.changed();
    return this.remote === undefined ? -Errno.ENOTCONN : 0;
  }

  send(bytes: Uint8Array, out: Outgoing): number {
    if (bytes.length > 0xffff) return -Errno.EMSGSIZE;
    if (!this.autobind()) return -Errno.EAGAIN;
    if (out.flags & MSG_OOB && this.domain === AF_INET) return -Errno.EOPNOTSUPP;
    let to = this.#corked?.to ?? this.remote;
    if (
      this.#corked === undefined &&
      out.address !== undefined &&
      !(this.domain === AF_INET6 && familyOf(out.address) === AF_UNSPEC)
    ) {
      const parsed = this.parseRemote(out.address);
      if (typeof parsed === "number") return parsed;
      if (parsed.port === 0) return -Errno.EINVAL;
      to = parsed;
    }
    if (to === undefined) return -Errno.EDESTADDRREQ;
    if (isBroadcast(to.ip) && !this.options.has(SOL_SOCKET, So.SO_BROADCAST)) return -Errno.EACCES;
    const source = routeTo(to.ip);
    if (source === undefined) return -Errno.ENETUNREACH;
    if (bytes.length > (isV4(to.ip) ? MAX_V4 : MAX_V6)) return -Errno.EMSGSIZE;
    const failed = this.takeError();
    if (failed !== 0) return failed;
    if (this.shut & SEND_SHUTDOWN) return -Errno.EPIPE;
    const said = headerIn(out.controls ?? [], isV4(to.ip) ? IPPROTO_IP : IPPROTO_IPV6);
    if (typeof said === "number") return said;
    const whole = this.#corked === undefined ? bytes : Buffer.concat([this.#corked.bytes, bytes]);
    if (whole.length > (isV4(to.ip) ? MAX_V4 : MAX_V6)) return -Errno.EMSGSIZE;
    if (out.flags & MSG_MORE || this.options.has(IPPROTO_UDP, UDP_CORK)) {
      this.#corked = { bytes: whole.slice(), to };
      return bytes.length;
    }
    this.#corked = undefined;
    this.#transmit(whole, to, source, said);
    return bytes.length;
  }

  #transmit(bytes: Uint8Array, to: Endpoint, source: Ip, said?: Partial<Header>): void {
    const from = { ip: isAny(this.local.ip) ? source : this.local.ip, port: this.local.port };
    const target = { ip: destinationOf(to.ip), port: to.port };
    const header = { ...this.#headerFor(target.ip), ...said };
    if (isMulticast(to.ip)) {
      // What leaves by the loopback comes back by it, whatever IP_MULTICAST_LOOP says.
      for (const member of this.network.groupMembers(target)) member.take(bytes, from, target, header);
      return;
    }
    const receiver = this.network.datagramReceiver(target, from);
    if (receiver !== undefined) receiver.take(bytes, from, target, header);
    else if (this.remote !== undefined) {
      // "Port unreachable" comes back, and only a connected socket is told.
      this.error = Errno.ECONNREFUSED;
      this.changed();
    }
  }

  #headerFor(target: Ip): Header {
    const { options } = this;
    const isGroup = isMulticast(target);
    if (isV4(target)) {
      const hops = options.get(IPPROTO_IP, isGroup ? IP_MULTICAST_TTL : IP_TTL);
      return { tos: options.get(IPPROTO_IP, IP_TOS), hops };
    }
    const hops = options.get(IPPROTO_IPV6, isGroup ? IPV6_MULTICAST_HOPS : IPV6_UNICAST_HOPS);
    return { tos: options.get(IPPROTO_IPV6, IPV6_TCLASS), hops };
  }

  /** UDP_CORK is over: what was held back goes. */
  override setOption(task: Task, level: number, name: number, value: Uint8Array): number | undefined {
    const corked = this.#corked;
    if (level !== IPPROTO_UDP || name !== UDP_CORK || (value[0] ?? 0) !== 0 || corked === undefined)
      return super.setOption(task, level, name, value);
    this.#corked = undefined;
    const source = routeTo(corked.to.ip);
    if (source !== undefined) this.#transmit(corked.bytes, corked.to, source);
    return undefined;
  }

  /** A datagram has come. */
  protected take(bytes: Uint8Array, from: Endpoint, to: Endpoint, header: Header = PLAIN): void {
    const cost = udpCost(bytes.length);
    // A full receiver drops, as networks do.
    if (this.#queued + cost > this.options.receiveBuffer || this.shut & RCV_SHUTDOWN) return;
    this.#queued += cost;
    this.#inbox.push({ bytes: bytes.slice(), from, to, header, cost, at: this.network.kernel.clock.now() });
    this.readQueue.wake();
  }

  receive(into: Uint8Array, flags: number): Incoming | number {
    const failed = this.takeError();
    if (failed !== 0) return failed;
    const [datagram] = this.#inbox;
    if (datagram === undefined) {
      return this.shut & RCV_SHUTDOWN ? { count: 0, length: 0, flags: 0 } : -Errno.EAGAIN;
    }
    if (!(flags & MSG_PEEK)) {
      this.#inbox.shift();
      this.#queued -= datagram.cost;
    }
    const { length } = datagram.bytes;
    const count = Math.min(length, into.length);
    into.set(datagram.bytes.subarray(0, count));
    const truncated = count < length ? MSG_TRUNC : 0;
    const address = addressOf(this.domain, datagram.from);
    return { count, length, flags: truncated, address, controls: this.#controls(datagram) };
  }

  #controls({ to, header, at }: Datagram): Control[] {
    const controls: Control[] = [];
    const { options } = this;
    if (options.has(SOL_SOCKET, So.SO_TIMESTAMP) || options.has(SOL_SOCKET, So.SO_TIMESTAMPNS)) {
      const ns = options.has(SOL_SOCKET, So.SO_TIMESTAMPNS);
      const { sec, nsec } = realtimeAt(this.network.kernel.clock, at);
      const type = ns ? So.SO_TIMESTAMPNS : So.SO_TIMESTAMP;
      controls.push({ level: SOL_SOCKET, type, data: [sec, ns ? nsec : Math.floor(nsec / 1000)] });
    }
    if (this.domain === AF_INET6 && options.has(IPPROTO_IPV6, IPV6_RECVPKTINFO)) {
      const data = new Uint8Array(20);
      data.set(ipBytes(AF_INET6, to.ip));
      data[16] = LO;
      controls.push({ level: IPPROTO_IPV6, type: IPV6_PKTINFO, data });
    }
    if (this.domain === AF_INET || isV4(to.ip)) {
      if (options.has(IPPROTO_IP, IP_PKTINFO)) {
        const data = new Uint8Array(12);
        data[0] = LO;
        data.set(ipBytes(AF_INET, to.ip), 4);
        data.set(ipBytes(AF_INET, to.ip), 8);
        controls.push({ level: IPPROTO_IP, type: IP_PKTINFO, data });
      }
      if (options.has(IPPROTO_IP, IP_RECVTTL))
        controls.push({ level: IPPROTO_IP, type: IP_TTL, data: int32(header.hops) });
      if (options.has(IPPROTO_IP, IP_RECVTOS)) {
        controls.push({ level: IPPROTO_IP, type: IP_TOS, data: Uint8Array.of(header.tos) });
      }
    } else {
      if (options.has(IPPROTO_IPV6, IPV6_RECVHOPLIMIT)) {
        controls.push({ level: IPPROTO_IPV6, type: IPV6_HOPLIMIT, data: int32(header.hops) });
      }
      if (options.has(IPPROTO_IPV6, IPV6_RECVTCLASS)) {
        controls.push({ level: IPPROTO_IPV6, type: IPV6_TCLASS, data: int32(header.tos) });
      }
    }
    return controls;
  }

  /** Whether what is sent to a group comes here: to members, and to sockets for any address while somebody is one. */
  hears(group: Ip): boolean {
    if (!this.receivesAt(group)) return false;
    return this.memberships.has(group) || (isV4(group) && this.options.has(IPPROTO_IP, IP_MULTICAST_ALL));
  }

  /** How well it fits a datagram (compute_score): -1 not at all. */
  scoreFor(to: Endpoint, from: Endpoint): number {
    const { remote } = this;
    if (!this.receivesAt(to.ip)) return -1;
    if (remote !== undefined && (remote.ip !== from.ip || remote.port !== from.port)) return -1;
    return (this.domain === AF_INET ? 1 : 0) + (isAny(this.local.ip) ? 0 : 2) + (remote === undefined ? 0 : 4);
  }

  override available(): number {
    return this.#inbox[0]?.bytes.length ?? 0;
  }

  override ioctl(task: Task, request: number, argument: number): number | undefined {
    if (request !== SIOCOUTQ) return super.ioctl(task, request, argument);
    task.memory.setU32(argument, 0);
    return 0;
  }

  override poll(): number {
    let events = POLLOUT | POLLWRNORM | POLLWRBAND;
    if (this.error !== 0) events |= POLLERR;
    if (this.shut & RCV_SHUTDOWN) events |= POLLRDHUP | POLLIN | POLLRDNORM;
    if (this.shut === SHUTDOWN_MASK) events |= POLLHUP;
    if (this.#inbox.length > 0) events |= POLLIN | POLLRDNORM;
    return events;
  }

  protected override closed(): void {
    if (this.local.port !== 0) this.ports.remove(this);
    this.changed();
  }
}
