import { Errno } from "../errno.ts";
import { Cap } from "../process/capabilities.ts";
import type { RandomStream } from "../random.ts";
import type { Task } from "../task.ts";
import type { Wait } from "../wait.ts";
import {
  ANY4,
  ANY6,
  addressOf,
  type Endpoint,
  endpointOf,
  familyOf,
  type Ip,
  ipBytes,
  isAny,
  isLoopback,
  isMulticast,
  isV4,
  LOOPBACK4,
  LOOPBACK6,
  SOCKADDR_IN,
  SOCKADDR_IN6_SHORT,
} from "./address.ts";
import { AF_INET, AF_INET6, AF_UNSPEC, IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET } from "./constants.ts";
import { IP_MULTICAST_IF, Memberships } from "./multicast.ts";
import { IPV6_V6ONLY, So } from "./options.ts";
import { Socket } from "./socket.ts";

/** net.ipv4.ip_local_port_range and ip_unprivileged_port_start. */
const FIRST_EPHEMERAL = 32_768;
const LAST_EPHEMERAL = 60_999;
const FIRST_UNPRIVILEGED = 1024;

/**
 * How a packet for an address would leave: the run has a loopback of its own and nothing else. Another network would answer here
 * for addresses that are not local.
 * @returns the source address a socket gets that has none, or undefined when there is no route
 */
export function routeTo(ip: Ip): Ip | undefined {
  if (isAny(ip) || isLoopback(ip) || isMulticast(ip)) return isV4(ip) ? LOOPBACK4 : LOOPBACK6;
  return undefined;
}

/** Where packets for "any" go. */
export function destinationOf(ip: Ip): Ip {
  if (!isAny(ip)) return ip;
  return isV4(ip) ? LOOPBACK4 : LOOPBACK6;
}

/** Which sockets have which ports, for TCP or for UDP. */
export class Ports {
  readonly #holders = new Map<number, Set<InetSocket>>();
  readonly #random: RandomStream;

  constructor(random: RandomStream) {
    this.#random = random;
  }

  at(port: number): Iterable<InetSocket> {
    return this.#holders.get(port) ?? [];
  }

  some(test: (socket: InetSocket) => boolean): boolean {
    for (const holders of this.#holders.values()) for (const socket of holders) if (test(socket)) return true;
    return false;
  }

  /** Some number below `limit`, from the run's seed. */
  pick(limit: number): number {
    return this.#random.below(limit);
  }

  add(socket: InetSocket): void {
    const { port } = socket.local;
    const holders = this.#holders.get(port);
    if (holders === undefined) this.#holders.set(port, new Set([socket]));
    else holders.add(socket);
  }

  remove(socket: InetSocket): void {
    const { port } = socket.local;
    const holders = this.#holders.get(port);
    if (holders?.delete(socket) && holders.size === 0) this.#holders.delete(port);
  }

  isFree(socket: InetSocket, wanted: Endpoint): boolean {
    for (const other of this.at(wanted.port)) {
      if (other !== socket && socket.conflictsWith(other, wanted.ip)) return false;
    }
    return true;
  }

  /** A port nobody has, 0 when there is none. */
  ephemeral(): number {
    const count = LAST_EPHEMERAL - FIRST_EPHEMERAL + 1;
    const start = this.#random.below(count);
    for (let step = 0; step < count; step++) {
      const port = FIRST_EPHEMERAL + ((start + step) % count);
      if (!this.#holders.has(port)) return port;
    }
    return 0;
  }
}

/** What TCP and UDP sockets share: addresses, ports, families. */
export abstract class InetSocket extends Socket {
  local: Endpoint = { ip: this.anyAddress, port: 0 };
  remote: Endpoint | undefined;
  readonly memberships = new Memberships();
  /** bind(2) chose the address and the port: they stay when the connection goes. */
  protected boundIp = false;
  protected boundPort = false;

  /** Addresses that an interface has. */
  protected get isLocal(): (ip: Ip) => boolean {
    return isLoopback;
  }

  /** Carries a change of membership out where the network is: 0 or a negative errno. */
  protected joinOnNetwork(_group: Ip, _address: Ip, _joins: boolean): number {
    return 0;
  }

  override setOption(task: Task, level: number, name: number, value: Uint8Array): number | undefined {
    const option = { abi: task.abi, domain: this.domain, level, name, value };
    return this.memberships.set(option, this.isLocal, (group, address, joins) =>
      this.joinOnNetwork(group, address, joins),
    );
  }

  override getOption(_task: Task, level: number, name: number): Uint8Array | number | undefined {
    if (level !== IPPROTO_IP || name !== IP_MULTICAST_IF) return undefined;
    return ipBytes(AF_INET, this.memberships.interface);
  }

  protected abstract get ports(): Ports;

  /** Its state as /proc/net tells it (net/tcp_states.h). */
  abstract get stateNumber(): number;

  /** Connections that nobody has accepted yet. */
  get waitingConnections(): number {
    return 0;
  }

  protected get anyAddress(): Ip {
    return this.domain === AF_INET6 ? ANY6 : ANY4;
  }

  get localAddress(): Uint8Array {
    return addressOf(this.domain, this.shownLocal);
  }

  /** A socket of both families shows `::` until it has an address. */
  private get shownLocal(): Endpoint {
    return isAny(this.local.ip) ? { ip: this.anyAddress, port: this.local.port } : this.local;
  }

  get peerAddress(): Uint8Array | undefined {
    return this.remote && addressOf(this.domain, this.remote);
  }

  override get optionLevels(): readonly number[] {
    return this.domain === AF_INET6 ? [this.protocol, IPPROTO_IP, IPPROTO_IPV6] : [this.protocol, IPPROTO_IP];
  }

  get v6only(): boolean {
    return this.options.has(IPPROTO_IPV6, IPV6_V6ONLY);
  }

  /** Packets for this local address may be for this socket. */
  receivesAt(ip: Ip): boolean {
    const own = this.local.ip;
    if (!isAny(own)) return own === ip;
    return isV4(ip) ? this.domain === AF_INET || !this.v6only : this.domain === AF_INET6;
  }

  /** True when both could not have the same port with `ip` as this socket's address (inet_csk_bind_conflict). */
  conflictsWith(other: InetSocket, ip: Ip): boolean {
    if (!overlap(this, ip, other, other.local.ip)) return false;
    const both = (name: number): boolean => this.options.has(SOL_SOCKET, name) && other.options.has(SOL_SOCKET, name);
    if (both(So.SO_REUSEPORT)) return false;
    return !(both(So.SO_REUSEADDR) && this.sharesWith(other));
  }

  /** With SO_REUSEADDR on both. */
  protected sharesWith(_other: InetSocket): boolean {
    return true;
  }

  /** Checks an address that a guest gave, for bind: an endpoint or a negative errno. */
  protected parseLocal(address: Uint8Array): Endpoint | number {
    const v6 = this.domain === AF_INET6;
    if (address.length < (v6 ? SOCKADDR_IN6_SHORT : SOCKADDR_IN)) return -Errno.EINVAL;
    const family = familyOf(address);
    if (family !== this.domain) {
      // Old programs leave the family out where they bind to any address.
      const forgiven = !v6 && family === AF_UNSPEC && endpointOf(withFamily(address)).ip === ANY4;
      return forgiven ? endpointOf(withFamily(address)) : -Errno.EAFNOSUPPORT;
    }
    const endpoint = endpointOf(address);
    if (v6 && isV4(endpoint.ip) && this.v6only) return -Errno.EINVAL;
    return endpoint;
  }

  /** The same for connect and sendto. */
  protected parseRemote(address: Uint8Array): Endpoint | number {
    const v6 = this.domain === AF_INET6;
    const family = familyOf(address);
    if (v6 && family === AF_INET && address.length >= SOCKADDR_IN && this.takesV4) {
      return this.v6only ? -Errno.ENETUNREACH : endpointOf(address);
    }
    if (address.length < (v6 ? SOCKADDR_IN6_SHORT : SOCKADDR_IN)) return -Errno.EINVAL;
    if (family !== this.domain) return -Errno.EAFNOSUPPORT;
    const endpoint = endpointOf(address);
    if (v6 && isV4(endpoint.ip) && this.v6only) return -Errno.ENETUNREACH;
    return endpoint;
  }

  /** An AF_INET6 socket that takes sockaddr_in, too (UDP). */
  protected get takesV4(): boolean {
    return false;
  }

  bind(task: Task, address: Uint8Array): number | Wait {
    const wanted = this.parseLocal(address);
    if (typeof wanted === "number") return wanted;
    if (routeTo(wanted.ip) === undefined) return -Errno.EADDRNOTAVAIL;
    const { port } = wanted;
    if (port !== 0 && port < FIRST_UNPRIVILEGED && !task.process.cred.capable(Cap.CAP_NET_BIND_SERVICE))
      return -Errno.EACCES;
    if (this.local.port !== 0 || !this.mayBind) return -Errno.EINVAL;
    const chosen = port === 0 ? this.ports.ephemeral() : port;
    if (chosen === 0) return -Errno.EADDRINUSE;
    if (!this.ports.isFree(this, { ip: wanted.ip, port: chosen })) return -Errno.EADDRINUSE;
    this.local = { ip: wanted.ip, port: chosen };
    this.boundIp = !isAny(wanted.ip);
    this.boundPort = port !== 0;
    this.ports.add(this);
    return 0;
  }

  protected get mayBind(): boolean {
    return true;
  }

  /** Gives the socket a port if it has none. False when there is none left. */
  protected autobind(): boolean {
    if (this.local.port !== 0) return true;
    const port = this.ports.ephemeral();
    if (port === 0) return false;
    this.local = { ip: this.local.ip, port };
    this.ports.add(this);
    return true;
  }

  /** The connection is over: what bind(2) did not choose is given back. */
  protected unbindChosen(): void {
    const ip = this.boundIp ? this.local.ip : this.anyAddress;
    if (this.boundPort) {
      this.local = { ip, port: this.local.port };
      return;
    }
    this.ports.remove(this);
    this.local = { ip, port: 0 };
  }
}

function withFamily(address: Uint8Array): Uint8Array {
  const copy = address.slice();
  copy[0] = AF_INET;
  return copy;
}

function overlap(one: InetSocket, oneIp: Ip, other: InetSocket, otherIp: Ip): boolean {
  const takesV4 = (socket: InetSocket, ip: Ip) => isV4(ip) || (ip === ANY6 && !socket.v6only);
  const takesV6 = (ip: Ip) => !isV4(ip);
  if (!isAny(oneIp) && !isAny(otherIp)) return oneIp === otherIp;
  if (takesV4(one, oneIp) && takesV4(other, otherIp)) return true;
  return takesV6(oneIp) && takesV6(otherIp);
}
