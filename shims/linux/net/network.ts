/** The network of one run: every name and port its sockets have, and how new ones are made. */

import { Errno } from "../errno.ts";
import { Cap } from "../process/capabilities.ts";
import type { Kernel, Task } from "../task.ts";
import { fail } from "../vfs/error.ts";
import { S_IFSOCK } from "../vfs/flags.ts";
import { type Entry, KERNEL } from "../vfs/inode.ts";
import type { Endpoint } from "./address.ts";
import {
  AF_INET,
  AF_INET6,
  AF_MAX,
  AF_NETLINK,
  AF_UNIX,
  IPPROTO_ICMP,
  IPPROTO_IP,
  IPPROTO_MAX,
  IPPROTO_TCP,
  IPPROTO_UDP,
  SOCK_DGRAM,
  SOCK_MAX,
  SOCK_RAW,
  SOCK_SEQPACKET,
  SOCK_STREAM,
} from "./constants.ts";
import type { HostNetwork } from "./host.ts";
import { HostTcpSocket } from "./host-tcp.ts";
import { HostUdpSocket } from "./host-udp.ts";
import { Ports } from "./inet.ts";
import { interfaceRequest } from "./interfaces.ts";
import { NetlinkSocket } from "./netlink.ts";
import { PassedFiles } from "./passed-files.ts";
import type { Socket, SocketMaking, Ucred } from "./socket.ts";
import { TcpSocket } from "./tcp.ts";
import { UdpSocket } from "./udp.ts";
import { UnixNames } from "./unix.ts";
import { UnixConnected } from "./unix-connected.ts";
import { UnixDatagram } from "./unix-datagram.ts";

const NETLINK_ROUTE = 0;
const NETLINK_KOBJECT_UEVENT = 15;
const NETLINK_PROTOCOLS = 32;
const IPPROTO_ICMPV6 = 58;
/** Longer than no time at all, ns. */
const GLANCE = 1000;

export class Network {
  readonly kernel: Kernel;
  readonly unixNames: UnixNames;
  readonly tcpPorts: Ports;
  readonly udpPorts: Ports;
  readonly passedFiles = new PassedFiles();
  readonly netlinkPorts = new Set<number>();
  /** The host's network where the run has it; else TCP and UDP have a loopback of the run's own. */
  readonly host: HostNetwork | undefined;

  constructor(kernel: Kernel, host?: HostNetwork) {
    this.kernel = kernel;
    this.host = host;
    const random = kernel.random.stream("network");
    this.unixNames = new UnixNames(random.below(0x100000));
    this.tcpPorts = new Ports(kernel.random.stream("tcp"));
    this.udpPorts = new Ports(kernel.random.stream("udp"));
  }

  /**
   * How long a call waits that is not to wait (ns): what the host's network has for us comes only once a turn is over, so looking
   * at it takes a moment.
   */
  patience(timeout: number | undefined): number | undefined {
    return timeout === 0 && this.host !== undefined && this.host.active > 0 ? GLANCE : timeout;
  }

  /** The place of a new socket in the file system: `socket:[12]`. */
  newEntry(): Entry {
    const { vfs, current } = this.kernel;
    const creds = current?.process.cred ?? KERNEL;
    const inode = vfs.anonymousNode(S_IFSOCK | 0o777, creds);
    return vfs.anonymousEntry(inode, `socket:[${inode.ino}]`);
  }

  /** Who is at work now, as SO_PEERCRED tells it. */
  currentCreds(): Ucred {
    const process = this.kernel.current?.process;
    if (process === undefined) return { pid: 0, uid: 0, gid: 0 };
    return { pid: process.pid, uid: process.cred.euid, gid: process.cred.egid };
  }

  /** The same as SCM_CREDENTIALS tells it, by real ids (scm_send). */
  senderCreds(): Ucred {
    const process = this.kernel.current?.process;
    if (process === undefined) return { pid: 0, uid: 0, gid: 0 };
    return { pid: process.pid, uid: process.cred.ruid, gid: process.cred.rgid };
  }

  /** socket(2); fails as the kernel does for what is not there (net/socket.c, the families' create functions). */
  create(task: Task, domain: number, type: number, protocol: number): Socket {
    if (domain < 0 || domain >= AF_MAX) return fail(Errno.EAFNOSUPPORT, "there is no such address family");
    if (type < 0 || type >= SOCK_MAX) return fail(Errno.EINVAL, "there is no such socket type");
    const making = { network: this, domain, type, protocol };
    switch (domain) {
      case AF_UNIX:
        return this.#unix(making);
      case AF_INET:
      case AF_INET6:
        return this.#inet(task, making);
      case AF_NETLINK:
        return this.#netlink(making);
      default:
        return fail(Errno.EAFNOSUPPORT, "shimbed has AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK sockets");
    }
  }

  /** socketpair(2): only AF_UNIX has pairs. */
  createPair(domain: number, type: number, protocol: number): readonly [Socket, Socket] {
    const making = this.#unixMaking({ network: this, domain, type, protocol });
    return making.type === SOCK_DGRAM ? UnixDatagram.pair(making) : UnixConnected.pair(making);
  }

  #unixMaking(making: SocketMaking): SocketMaking {
    const { type, protocol } = making;
    if (protocol !== 0 && protocol !== AF_UNIX) fail(Errno.EPROTONOSUPPORT, "AF_UNIX has no protocols");
    // As BSD had it.
    if (type === SOCK_RAW) return { ...making, type: SOCK_DGRAM };
    if (type !== SOCK_STREAM && type !== SOCK_DGRAM && type !== SOCK_SEQPACKET) {
      fail(Errno.ESOCKTNOSUPPORT, "AF_UNIX has no sockets of this type");
    }
    return making;
  }

  #unix(given: SocketMaking): Socket {
    const making = this.#unixMaking(given);
    return making.type === SOCK_DGRAM ? new UnixDatagram(making) : new UnixConnected(making);
  }

  #inet(task: Task, making: SocketMaking): Socket {
    const { type, protocol, domain } = making;
    if (protocol < 0 || protocol >= IPPROTO_MAX) fail(Errno.EINVAL, "there is no such protocol");
    const { host } = this;
    if (type === SOCK_STREAM) {
      if (protocol === IPPROTO_IP || protocol === IPPROTO_TCP) {
        const tcp = { ...making, protocol: IPPROTO_TCP };
        return host === undefined ? new TcpSocket(tcp) : new HostTcpSocket(tcp, host);
      }
      return fail(Errno.EPROTONOSUPPORT, "only TCP has stream sockets here");
    }
    if (type === SOCK_DGRAM) {
      if (protocol === IPPROTO_IP || protocol === IPPROTO_UDP) {
        const udp = { ...making, protocol: IPPROTO_UDP };
        return host === undefined ? new UdpSocket(udp) : new HostUdpSocket(udp, host);
      }
      const ping = protocol === (domain === AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
      if (ping) fail(Errno.EACCES, "net.ipv4.ping_group_range is empty");
      return fail(Errno.EPROTONOSUPPORT, "only UDP has datagram sockets here");
    }
    if (type === SOCK_RAW) {
      if (protocol === IPPROTO_IP) fail(Errno.EPROTONOSUPPORT, "a raw socket needs a protocol");
      if (!task.process.cred.capable(Cap.CAP_NET_RAW)) fail(Errno.EPERM, "raw sockets need CAP_NET_RAW");
      return fail(Errno.EPERM, "shimbed has no raw sockets");
    }
    return fail(Errno.ESOCKTNOSUPPORT, "this family has no sockets of this type");
  }

  #netlink(making: SocketMaking): Socket {
    const { type, protocol } = making;
    if (type !== SOCK_RAW && type !== SOCK_DGRAM) fail(Errno.ESOCKTNOSUPPORT, "netlink sockets are raw or datagram");
    if (protocol < 0 || protocol >= NETLINK_PROTOCOLS) fail(Errno.EPROTONOSUPPORT, "there is no such protocol");
    if (protocol !== NETLINK_ROUTE && protocol !== NETLINK_KOBJECT_UEVENT) {
      fail(Errno.EPROTONOSUPPORT, "shimbed has NETLINK_ROUTE only");
    }
    return new NetlinkSocket(making);
  }

  /** The listening socket a connection to `to` reaches. Of several with SO_REUSEPORT the seed chooses one. */
  listenerAt(to: Endpoint): TcpSocket | undefined {
    const best: TcpSocket[] = [];
    let top = 0;
    for (const holder of this.tcpPorts.at(to.port)) {
      if (!(holder instanceof TcpSocket)) continue;
      const score = holder.scoreFor(to);
      if (score < top || score < 0) continue;
      if (score > top) best.length = 0;
      top = score;
      best.push(holder);
    }
    return best.length > 1 ? best[this.tcpPorts.pick(best.length)] : best[0];
  }

  /** The UDP sockets that get what is sent to a group: none while nobody has joined it. */
  groupMembers(to: Endpoint): UdpSocket[] {
    if (!this.udpPorts.some(({ memberships }) => memberships.has(to.ip))) return [];
    return [...this.udpPorts.at(to.port)].filter((one) => one instanceof UdpSocket).filter((one) => one.hears(to.ip));
  }

  /** The UDP socket that gets a datagram. */
  datagramReceiver(to: Endpoint, from: Endpoint): UdpSocket | undefined {
    let best: UdpSocket | undefined;
    let top = -1;
    for (const holder of this.udpPorts.at(to.port)) {
      if (!(holder instanceof UdpSocket)) continue;
      const score = holder.scoreFor(to, from);
      if (score > top) {
        best = holder;
        top = score;
      }
    }
    return best;
  }

  /** A request about interfaces; undefined for any other. */
  interfaceRequest(task: Task, request: number, argument: number): number | undefined {
    return interfaceRequest(task, request, argument);
  }
}
