/** Multicast groups that a socket has joined: ip(7), ipv6(7), RFC 3678. */
import type { Abi } from "../abi.ts";
import { Errno } from "../errno.ts";
import { ANY4, endpointOf, familyOf, type Ip, ipText, isAny, isLoopback, isMulticast } from "./address.ts";
import { AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6 } from "./constants.ts";
import { LO_INDEX } from "./netlink.ts";

export const IP_MULTICAST_IF = 32;
const IP_ADD_MEMBERSHIP = 35;
const IP_DROP_MEMBERSHIP = 36;
const IPV6_JOIN_GROUP = 20;
const IPV6_LEAVE_GROUP = 21;
const MCAST_JOIN_GROUP = 42;
const MCAST_LEAVE_GROUP = 45;
/** net.ipv4.igmp_max_memberships. */
const MOST = 20;
const STORAGE = 128;

const digits = (bytes: Uint8Array): Ip => Buffer.from(bytes).toString("hex");

/** What a request names: a group, and an interface by number or by its address. */
interface Membership {
  readonly group: Ip;
  readonly index: number;
  readonly address: Ip;
  readonly joins: boolean;
}

/** A negative errno for a request that is too short; undefined for options that are none of these. */
function parse(
  abi: Abi,
  domain: number,
  level: number,
  name: number,
  value: Uint8Array,
): Membership | number | undefined {
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  const v4 = level === IPPROTO_IP && (name === IP_ADD_MEMBERSHIP || name === IP_DROP_MEMBERSHIP);
  if (v4) {
    if (value.length < 8) return -Errno.EINVAL;
    const index = value.length >= 12 ? view.getInt32(8, true) : 0;
    const joins = name === IP_ADD_MEMBERSHIP;
    return { group: digits(value.subarray(0, 4)), address: digits(value.subarray(4, 8)), index, joins };
  }
  if (level === IPPROTO_IPV6 && (name === IPV6_JOIN_GROUP || name === IPV6_LEAVE_GROUP)) {
    if (value.length < 20) return -Errno.EINVAL;
    const joins = name === IPV6_JOIN_GROUP;
    return { group: digits(value.subarray(0, 16)), address: ANY4, index: view.getUint32(16, true), joins };
  }
  if ((level === IPPROTO_IP || level === IPPROTO_IPV6) && (name === MCAST_JOIN_GROUP || name === MCAST_LEAVE_GROUP)) {
    const at = abi.word;
    if (value.length < at + STORAGE) return -Errno.EINVAL;
    const address = value.subarray(at, at + STORAGE);
    if (familyOf(address) !== (level === IPPROTO_IP ? AF_INET : AF_INET6)) return -Errno.EADDRNOTAVAIL;
    if (domain === AF_INET && level === IPPROTO_IPV6) return -Errno.ENOPROTOOPT;
    return {
      group: endpointOf(address).ip,
      address: ANY4,
      index: view.getUint32(0, true),
      joins: name === MCAST_JOIN_GROUP,
    };
  }
  return undefined;
}

export class Memberships {
  readonly #groups = new Set<Ip>();
  /** IP_MULTICAST_IF. */
  interface: Ip = ANY4;

  has(group: Ip): boolean {
    return this.#groups.has(group);
  }

  get groups(): Iterable<Ip> {
    return this.#groups;
  }

  /**
   * setsockopt of a membership: 0, a negative errno, or undefined for any other option.
   * @param local tells whether an address is one of an interface
   * @param apply carries it out on the host's network: 0 or a negative errno
   */
  set(
    option: { abi: Abi; domain: number; level: number; name: number; value: Uint8Array },
    local: (ip: Ip) => boolean,
    apply: (group: Ip, address: Ip, joins: boolean) => number,
  ): number | undefined {
    const { abi, domain, level, name, value } = option;
    if (level === IPPROTO_IP && name === IP_MULTICAST_IF) {
      if (value.length < 4) return -Errno.EINVAL;
      const address = digits(value.length >= 8 ? value.subarray(4, 8) : value.subarray(0, 4));
      if (!isAny(address) && !local(address)) return -Errno.EADDRNOTAVAIL;
      this.interface = address;
      return 0;
    }
    const request = parse(abi, domain, level, name, value);
    if (typeof request !== "object") return request;
    const { group, index, address, joins } = request;
    if (!isMulticast(group)) return joins ? -Errno.EINVAL : -Errno.EADDRNOTAVAIL;
    if (!joins) {
      if (!this.#groups.delete(group)) return -Errno.EADDRNOTAVAIL;
      return apply(group, address, false);
    }
    if (index !== 0 && index !== LO_INDEX && isLoopbackOnly(local)) return -Errno.ENODEV;
    if (!isAny(address) && !local(address)) return -Errno.ENODEV;
    if (this.#groups.has(group)) return -Errno.EADDRINUSE;
    if (this.#groups.size >= MOST) return -Errno.ENOBUFS;
    const done = apply(group, address, true);
    if (done === 0) this.#groups.add(group);
    return done;
  }
}

/** Interfaces of the host have numbers that only the host knows. */
function isLoopbackOnly(local: (ip: Ip) => boolean): boolean {
  return local === isLoopback;
}

/** As Node's functions take an interface; undefined for the one that the routes say. */
export function interfaceText(address: Ip): string | undefined {
  return isAny(address) ? undefined : ipText(address);
}
