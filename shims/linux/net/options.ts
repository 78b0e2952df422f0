/** Socket options that all kinds of sockets keep in the same way: read and written by number (socket(7), ip(7), ipv6(7), tcp(7)). */
import type { Abi } from "../abi.ts";
import { Errno } from "../errno.ts";
import { SECOND } from "../timespec.ts";
import {
  BUFFER_DEFAULT,
  BUFFER_MAX,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  SOL_SOCKET,
} from "./constants.ts";

export const So = {
  SO_DEBUG: 1,
  SO_REUSEADDR: 2,
  SO_TYPE: 3,
  SO_ERROR: 4,
  SO_DONTROUTE: 5,
  SO_BROADCAST: 6,
  SO_SNDBUF: 7,
  SO_RCVBUF: 8,
  SO_KEEPALIVE: 9,
  SO_OOBINLINE: 10,
  SO_NO_CHECK: 11,
  SO_PRIORITY: 12,
  SO_LINGER: 13,
  SO_BSDCOMPAT: 14,
  SO_REUSEPORT: 15,
  SO_PASSCRED: 16,
  SO_PEERCRED: 17,
  SO_RCVLOWAT: 18,
  SO_SNDLOWAT: 19,
  SO_RCVTIMEO: 20,
  SO_SNDTIMEO: 21,
  SO_BINDTODEVICE: 25,
  SO_ATTACH_FILTER: 26,
  SO_DETACH_FILTER: 27,
  SO_PEERNAME: 28,
  SO_TIMESTAMP: 29,
  SO_ACCEPTCONN: 30,
  SO_PEERSEC: 31,
  SO_SNDBUFFORCE: 32,
  SO_RCVBUFFORCE: 33,
  SO_PASSSEC: 34,
  SO_TIMESTAMPNS: 35,
  SO_MARK: 36,
  SO_TIMESTAMPING: 37,
  SO_PROTOCOL: 38,
  SO_DOMAIN: 39,
  SO_RXQ_OVFL: 40,
  SO_PEEK_OFF: 42,
  SO_LOCK_FILTER: 44,
  SO_BUSY_POLL: 46,
  SO_INCOMING_CPU: 49,
  SO_COOKIE: 57,
  SO_PEERGROUPS: 59,
  SO_ZEROCOPY: 60,
  SO_RCVTIMEO_NEW: 66,
  SO_SNDTIMEO_NEW: 67,
} as const;

export const IPV6_V6ONLY = 26;
const TCP_CONGESTION = 13;
const CONGESTION = "cubic";
const CONGESTION_BYTES = 16;

interface Stored {
  readonly initial: number;
  /** Any value but 0 is kept as 1. */
  readonly flag?: boolean;
  readonly min?: number;
  readonly max?: number;
  /** The kernel also takes a single byte. */
  readonly byte?: boolean;
  /** What -1 stands for. */
  readonly standard?: number;
}

const flag: Stored = { initial: 0, flag: true };
const byteFlag: Stored = { initial: 0, flag: true, byte: true };
const on: Stored = { initial: 1, flag: true, byte: true };
const key = (level: number, name: number): number => level * 4096 + name;

/** Options that are kept and told again. What they change on a wire has no meaning without one. */
const STORED: ReadonlyMap<number, Stored> = new Map([
  [key(SOL_SOCKET, So.SO_DEBUG), flag],
  [key(SOL_SOCKET, So.SO_REUSEADDR), flag],
  [key(SOL_SOCKET, So.SO_DONTROUTE), flag],
  [key(SOL_SOCKET, So.SO_BROADCAST), flag],
  [key(SOL_SOCKET, So.SO_KEEPALIVE), flag],
  [key(SOL_SOCKET, So.SO_OOBINLINE), flag],
  [key(SOL_SOCKET, So.SO_NO_CHECK), flag],
  [key(SOL_SOCKET, So.SO_PRIORITY), { initial: 0 }],
  [key(SOL_SOCKET, So.SO_REUSEPORT), flag],
  [key(SOL_SOCKET, So.SO_PASSCRED), flag],
  [key(SOL_SOCKET, So.SO_TIMESTAMP), flag],
  [key(SOL_SOCKET, So.SO_TIMESTAMPNS), flag],
  [key(SOL_SOCKET, So.SO_TIMESTAMPING), { initial: 0 }],
  [key(SOL_SOCKET, So.SO_PASSSEC), flag],
  [key(SOL_SOCKET, So.SO_RXQ_OVFL), flag],
  [key(SOL_SOCKET, So.SO_LOCK_FILTER), flag],
  [key(SOL_SOCKET, So.SO_BUSY_POLL), { initial: 0, min: 0 }],
  [key(SOL_SOCKET, So.SO_INCOMING_CPU), { initial: 0 }],
  [key(SOL_SOCKET, So.SO_ZEROCOPY), { initial: 0, min: 0, max: 1 }],
  [key(IPPROTO_IP, 1), { initial: 0, byte: true, min: 0, max: 255 }], // IP_TOS
  [key(IPPROTO_IP, 2), { initial: 64, byte: true, min: 1, max: 255, standard: 64 }], // IP_TTL
  [key(IPPROTO_IP, 6), byteFlag], // IP_RECVOPTS
  [key(IPPROTO_IP, 7), byteFlag], // IP_RETOPTS
  [key(IPPROTO_IP, 8), byteFlag], // IP_PKTINFO
  [key(IPPROTO_IP, 10), { initial: 1, byte: true, min: 0, max: 5 }], // IP_MTU_DISCOVER
  [key(IPPROTO_IP, 11), byteFlag], // IP_RECVERR
  [key(IPPROTO_IP, 12), byteFlag], // IP_RECVTTL
  [key(IPPROTO_IP, 13), byteFlag], // IP_RECVTOS
  [key(IPPROTO_IP, 15), byteFlag], // IP_FREEBIND
  [key(IPPROTO_IP, 20), byteFlag], // IP_RECVORIGDSTADDR
  [key(IPPROTO_IP, 21), { initial: 0, byte: true, min: 0, max: 255 }], // IP_MINTTL
  [key(IPPROTO_IP, 24), byteFlag], // IP_BIND_ADDRESS_NO_PORT
  [key(IPPROTO_IP, 33), { initial: 1, byte: true, min: 0, max: 255, standard: 1 }], // IP_MULTICAST_TTL
  [key(IPPROTO_IP, 34), on], // IP_MULTICAST_LOOP
  [key(IPPROTO_IP, 49), on], // IP_MULTICAST_ALL
  [key(IPPROTO_IPV6, 16), { initial: 64, min: 0, max: 255, standard: 64 }], // IPV6_UNICAST_HOPS
  [key(IPPROTO_IPV6, 17), { initial: 0 }], // IPV6_MULTICAST_IF
  [key(IPPROTO_IPV6, 18), { initial: 1, min: 0, max: 255, standard: 1 }], // IPV6_MULTICAST_HOPS
  [key(IPPROTO_IPV6, 19), { initial: 1, flag: true }], // IPV6_MULTICAST_LOOP
  [key(IPPROTO_IPV6, 23), { initial: 1, min: 0, max: 5 }], // IPV6_MTU_DISCOVER
  [key(IPPROTO_IPV6, 25), flag], // IPV6_RECVERR
  [key(IPPROTO_IPV6, IPV6_V6ONLY), flag],
  [key(IPPROTO_IPV6, 49), flag], // IPV6_RECVPKTINFO
  [key(IPPROTO_IPV6, 51), flag], // IPV6_RECVHOPLIMIT
  [key(IPPROTO_IPV6, 66), flag], // IPV6_RECVTCLASS
  [key(IPPROTO_IPV6, 67), { initial: 0, min: 0, max: 255, standard: 0 }], // IPV6_TCLASS
  [key(IPPROTO_IPV6, 72), { initial: 0 }], // IPV6_ADDR_PREFERENCES
  [key(IPPROTO_TCP, 1), flag], // TCP_NODELAY
  [key(IPPROTO_TCP, 2), { initial: 536, min: 88, max: 32767 }], // TCP_MAXSEG
  [key(IPPROTO_TCP, 3), flag], // TCP_CORK
  [key(IPPROTO_TCP, 4), { initial: 7200, min: 1, max: 32767 }], // TCP_KEEPIDLE
  [key(IPPROTO_TCP, 5), { initial: 75, min: 1, max: 32767 }], // TCP_KEEPINTVL
  [key(IPPROTO_TCP, 6), { initial: 9, min: 1, max: 127 }], // TCP_KEEPCNT
  [key(IPPROTO_TCP, 7), { initial: 6, min: 1, max: 127 }], // TCP_SYNCNT
  [key(IPPROTO_TCP, 8), { initial: 60 }], // TCP_LINGER2
  [key(IPPROTO_TCP, 9), { initial: 0 }], // TCP_DEFER_ACCEPT
  [key(IPPROTO_TCP, 10), { initial: 0 }], // TCP_WINDOW_CLAMP
  [key(IPPROTO_TCP, 12), { initial: 1, flag: true }], // TCP_QUICKACK
  [key(IPPROTO_TCP, 16), { initial: 0, min: 0, max: 1 }], // TCP_THIN_LINEAR_TIMEOUTS
  [key(IPPROTO_TCP, 18), { initial: 0, min: 0 }], // TCP_USER_TIMEOUT
  [key(IPPROTO_TCP, 23), { initial: 0, min: 0 }], // TCP_FASTOPEN
  [key(IPPROTO_TCP, 25), { initial: -1 }], // TCP_NOTSENT_LOWAT
  [key(IPPROTO_TCP, 30), { initial: 0, min: 0, max: 1 }], // TCP_FASTOPEN_CONNECT
  [key(IPPROTO_UDP, 1), flag], // UDP_CORK
]);

const MIN_SNDBUF = 4608;
const MIN_RCVBUF = 2304;
const MILLION = 1_000_000;

export function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** struct timeval of an ABI, or of the options with 64-bit times. */
function timeBytes(timeout: number | undefined, wide: boolean): Uint8Array {
  const ns = timeout ?? 0;
  const [sec, usec] = [Math.floor(ns / SECOND), Math.floor((ns % SECOND) / 1000)];
  const bytes = new Uint8Array(wide ? 16 : 8);
  const view = viewOf(bytes);
  if (wide) {
    view.setBigInt64(0, BigInt(sec), true);
    view.setBigInt64(8, BigInt(usec), true);
  } else {
    view.setInt32(0, sec, true);
    view.setInt32(4, usec, true);
  }
  return bytes;
}

export class SocketOptions {
  readonly #values = new Map<number, number>();
  /** As getsockopt tells it: twice what was asked for. */
  sendBuffer = BUFFER_DEFAULT;
  receiveBuffer = BUFFER_DEFAULT;
  /** The program has chosen the size: it does not grow with the connection. */
  sendChosen = false;
  receiveChosen = false;
  /** SO_LINGER in seconds; undefined when it is off. */
  linger: number | undefined;
  /** SO_RCVTIMEO and SO_SNDTIMEO, ns. */
  receiveTimeout: number | undefined;
  sendTimeout: number | undefined;
  /** SO_RCVLOWAT. */
  lowWater = 1;

  get(level: number, name: number): number {
    return this.#values.get(key(level, name)) ?? STORED.get(key(level, name))?.initial ?? 0;
  }

  /** The program has chosen a value. */
  isSet(level: number, name: number): boolean {
    return this.#values.has(key(level, name));
  }

  has(level: number, name: number): boolean {
    return this.get(level, name) !== 0;
  }

  /** What accept(2) hands on from the listening socket. */
  inherit(from: SocketOptions): void {
    for (const [option, value] of from.#values) this.#values.set(option, value);
    this.sendBuffer = from.sendBuffer;
    this.receiveBuffer = from.receiveBuffer;
    this.sendChosen = from.sendChosen;
    this.receiveChosen = from.receiveChosen;
    this.linger = from.linger;
    this.receiveTimeout = from.receiveTimeout;
    this.sendTimeout = from.sendTimeout;
    this.lowWater = from.lowWater;
  }

  /** The value of an option that is kept here as bytes, or undefined. */
  read(abi: Abi, level: number, name: number): Uint8Array | undefined {
    if (STORED.has(key(level, name))) return int32(this.get(level, name));
    if (level === IPPROTO_TCP && name === TCP_CONGESTION) {
      const text = new Uint8Array(CONGESTION_BYTES);
      text.set(Buffer.from(CONGESTION, "latin1"));
      return text;
    }
    if (level !== SOL_SOCKET) return undefined;
    switch (name) {
      case So.SO_SNDBUF:
        return int32(this.sendBuffer);
      case So.SO_RCVBUF:
        return int32(this.receiveBuffer);
      case So.SO_RCVLOWAT:
        return int32(this.lowWater);
      case So.SO_SNDLOWAT:
        return int32(1);
      case So.SO_LINGER: {
        const bytes = new Uint8Array(8);
        viewOf(bytes).setInt32(0, Number(this.linger !== undefined), true);
        viewOf(bytes).setInt32(4, this.linger ?? 0, true);
        return bytes;
      }
      case So.SO_RCVTIMEO:
      case So.SO_RCVTIMEO_NEW:
        return timeBytes(this.receiveTimeout, name === So.SO_RCVTIMEO_NEW || abi.word === 8);
      case So.SO_SNDTIMEO:
      case So.SO_SNDTIMEO_NEW:
        return timeBytes(this.sendTimeout, name === So.SO_SNDTIMEO_NEW || abi.word === 8);
    }
    return undefined;
  }

  /** 0, a negative errno, or undefined where no such option is kept here. */
  write(abi: Abi, level: number, name: number, value: Uint8Array, privileged: boolean): number | undefined {
    const stored = STORED.get(key(level, name));
    if (stored !== undefined) return this.#store(key(level, name), stored, value);
    if (level === IPPROTO_TCP && name === TCP_CONGESTION) {
      const wanted = Buffer.from(value).toString("latin1").replace(/\0.*$/s, "");
      return wanted === CONGESTION || wanted === "reno" ? 0 : -Errno.ENOENT;
    }
    if (level !== SOL_SOCKET) return undefined;
    if (value.length < 4) return -Errno.EINVAL;
    const number = viewOf(value).getInt32(0, true);
    switch (name) {
      case So.SO_SNDBUF:
      case So.SO_SNDBUFFORCE:
        if (name === So.SO_SNDBUFFORCE && !privileged) return -Errno.EPERM;
        this.sendBuffer = Math.max(2 * limited(number, name === So.SO_SNDBUFFORCE), MIN_SNDBUF);
        this.sendChosen = true;
        return 0;
      case So.SO_RCVBUF:
      case So.SO_RCVBUFFORCE:
        if (name === So.SO_RCVBUFFORCE && !privileged) return -Errno.EPERM;
        this.receiveBuffer = Math.max(2 * limited(number, name === So.SO_RCVBUFFORCE), MIN_RCVBUF);
        this.receiveChosen = true;
        return 0;
      case So.SO_RCVLOWAT:
        this.lowWater = number < 0 ? 2 ** 31 - 1 : Math.max(number, 1);
        return 0;
      case So.SO_SNDLOWAT:
        return -Errno.ENOPROTOOPT;
      case So.SO_LINGER:
        if (value.length < 8) return -Errno.EINVAL;
        this.linger = number === 0 ? undefined : viewOf(value).getInt32(4, true);
        return 0;
      case So.SO_RCVTIMEO:
      case So.SO_RCVTIMEO_NEW:
      case So.SO_SNDTIMEO:
      case So.SO_SNDTIMEO_NEW:
        return this.#setTimeout(abi, name, value);
    }
    return undefined;
  }

  #store(option: number, stored: Stored, value: Uint8Array): number {
    if (value.length < 4 && !(stored.byte && value.length >= 1)) return -Errno.EINVAL;
    let number = value.length >= 4 ? viewOf(value).getInt32(0, true) : (value[0] ?? 0);
    if (number === -1 && stored.standard !== undefined) number = stored.standard;
    else if (stored.flag) number = Number(number !== 0);
    else if (number < (stored.min ?? -(2 ** 31)) || number > (stored.max ?? 2 ** 31)) return -Errno.EINVAL;
    this.#values.set(option, number);
    return 0;
  }

  #setTimeout(abi: Abi, name: number, value: Uint8Array): number {
    const wide = name === So.SO_RCVTIMEO_NEW || name === So.SO_SNDTIMEO_NEW || abi.word === 8;
    if (value.length < (wide ? 16 : 8)) return -Errno.EINVAL;
    const view = viewOf(value);
    const sec = wide ? Number(view.getBigInt64(0, true)) : view.getInt32(0, true);
    const usec = wide ? Number(view.getBigInt64(8, true)) : view.getInt32(4, true);
    if (usec < 0 || usec >= MILLION) return -Errno.EDOM;
    // A negative time does not wait at all; none at all waits for ever.
    const timeout = sec < 0 ? 0 : sec === 0 && usec === 0 ? undefined : sec * SECOND + usec * 1000;
    if (name === So.SO_RCVTIMEO || name === So.SO_RCVTIMEO_NEW) this.receiveTimeout = timeout;
    else this.sendTimeout = timeout;
    return 0;
  }
}

function limited(wanted: number, force: boolean): number {
  if (force) return Math.max(0, Math.min(wanted, 2 ** 30 - 1));
  // A negative size counts as a very large one.
  return wanted < 0 ? BUFFER_MAX : Math.min(wanted, BUFFER_MAX);
}
