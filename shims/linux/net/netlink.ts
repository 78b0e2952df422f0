import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import { POLLERR, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM } from "../vfs/flags.ts";
import { familyOf, ipBytes, LOOPBACK4, LOOPBACK6 } from "./address.ts";
import { AF_INET, AF_INET6, AF_NETLINK, AF_UNSPEC, MSG_OOB, MSG_PEEK, MSG_TRUNC } from "./constants.ts";
import { type Incoming, type Outgoing, Socket } from "./socket.ts";

const SOCKADDR_NL = 12;
const SOL_NETLINK = 270;
const HEADER = 16;
const NLM_F_REQUEST = 1;
const NLM_F_MULTI = 2;
const NLM_F_ACK = 4;
const NLM_F_DUMP = 0x300;
const NLMSG_NOOP = 1;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_MIN_TYPE = 16;
const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_GETADDR = 22;
const RTM_GETROUTE = 26;
/** Of each group of four types the third asks and the others change. */
const isGet = (type: number): boolean => (type & 3) === 2;

export const LO_INDEX = 1;
/** IFF_UP | IFF_LOOPBACK | IFF_RUNNING, and IFF_LOWER_UP beside them. */
export const LO_FLAGS = 0x49;
const LO_FLAGS_WIDE = 0x1_0049;
export const LO_MTU = 65_536;
export const ARPHRD_LOOPBACK = 772;
const IFA_F_PERMANENT = 0x80;
const RT_SCOPE_HOST = 254;

/** Builds one netlink message: header, fixed part, attributes (netlink(7), rtnetlink(7)). */
class Message {
  readonly #bytes: number[] = [];

  u8(...values: number[]): this {
    this.#bytes.push(...values);
    return this;
  }

  u16(value: number): this {
    return this.u8(value & 0xff, (value >> 8) & 0xff);
  }

  u32(value: number): this {
    return this.u16(value & 0xffff).u16(value >>> 16);
  }

  attribute(type: number, payload: ArrayLike<number>): this {
    this.u16(4 + payload.length)
      .u16(type)
      .u8(...Array.from(payload));
    return this.#align();
  }

  raw(bytes: Uint8Array): this {
    return this.u8(...bytes);
  }

  #align(): this {
    while (this.#bytes.length % 4 !== 0) this.#bytes.push(0);
    return this;
  }

  finish(type: number, flags: number, sequence: number, port: number): Uint8Array {
    const header = new Message()
      .u32(HEADER + this.#bytes.length)
      .u16(type)
      .u16(flags)
      .u32(sequence)
      .u32(port);
    return Uint8Array.from([...header.#bytes, ...this.#align().#bytes]);
  }
}

const text = (value: string): Uint8Array => Buffer.from(`${value}\0`, "latin1");
const word = (value: number): number[] => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24];

function loopbackLink(): Message {
  return new Message()
    .u8(AF_UNSPEC, 0)
    .u16(ARPHRD_LOOPBACK)
    .u32(LO_INDEX)
    .u32(LO_FLAGS_WIDE)
    .u32(0)
    .attribute(3, text("lo")) // IFLA_IFNAME
    .attribute(13, word(1000)) // IFLA_TXQLEN
    .attribute(16, [0]) // IFLA_OPERSTATE: unknown
    .attribute(4, word(LO_MTU)) // IFLA_MTU
    .attribute(1, new Uint8Array(6)) // IFLA_ADDRESS
    .attribute(2, new Uint8Array(6)); // IFLA_BROADCAST
}

function loopbackAddress(family: number): Message {
  const v4 = family === AF_INET;
  const bytes = ipBytes(family, v4 ? LOOPBACK4 : LOOPBACK6);
  const message = new Message().u8(family, v4 ? 8 : 128, IFA_F_PERMANENT, RT_SCOPE_HOST).u32(LO_INDEX);
  message.attribute(1, bytes); // IFA_ADDRESS
  if (v4) message.attribute(2, bytes).attribute(3, text("lo")); // IFA_LOCAL, IFA_LABEL
  return message;
}

/**
 * AF_NETLINK, NETLINK_ROUTE: as much as C libraries ask. It tells of the loopback interface and its addresses; requests to change
 * something are refused.
 */
export class NetlinkSocket extends Socket {
  readonly #inbox: Uint8Array[] = [];
  #port = 0;
  #groups = 0;

  override get optionLevels(): readonly number[] {
    return [SOL_NETLINK];
  }

  /** What is asked for beside the answers (acknowledgements in detail, memberships) never comes: there are no changes. */
  override setOption(_task: Task, level: number): number | undefined {
    return level === SOL_NETLINK ? 0 : undefined;
  }

  get localAddress(): Uint8Array {
    return Uint8Array.from([AF_NETLINK, 0, 0, 0, ...word(this.#port), ...word(this.#groups)]);
  }

  get peerAddress(): Uint8Array {
    return Uint8Array.from([AF_NETLINK, ...new Uint8Array(SOCKADDR_NL - 1)]);
  }

  bind(task: Task, address: Uint8Array): number {
    if (address.length < SOCKADDR_NL) return -Errno.EINVAL;
    if (familyOf(address) !== AF_NETLINK) return -Errno.EINVAL;
    const view = new DataView(address.buffer, address.byteOffset);
    const port = view.getUint32(4, true);
    if (this.#port !== 0 && port !== this.#port) return -Errno.EINVAL;
    if (port !== 0 && this.network.netlinkPorts.has(port) && this.#port === 0) return -Errno.EADDRINUSE;
    this.#groups = view.getUint32(8, true);
    this.#take(port, task);
    return 0;
  }

  #take(port: number, task: Task): void {
    if (this.#port !== 0) return;
    const { netlinkPorts } = this.network;
    let chosen = port || task.process.pid;
    // A process's second socket gets a number from the top down.
    for (let next = 0xffff_f000; netlinkPorts.has(chosen); next--) chosen = next;
    this.#port = chosen;
    netlinkPorts.add(chosen);
  }

  connect(task: Task, address: Uint8Array): number {
    if (address.length < 2) return -Errno.EINVAL;
    if (familyOf(address) === AF_UNSPEC) return 0;
    if (familyOf(address) !== AF_NETLINK || address.length < SOCKADDR_NL) return -Errno.EINVAL;
    this.#take(0, task);
    return 0;
  }

  shutdown(): number {
    return -Errno.EOPNOTSUPP;
  }

  send(bytes: Uint8Array, out: Outgoing): number {
    if (out.flags & MSG_OOB) return -Errno.EOPNOTSUPP;
    const { current } = this.network.kernel;
    if (current !== undefined) this.#take(0, current);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at + HEADER <= bytes.length; ) {
      const length = view.getUint32(at, true);
      if (length < HEADER || at + length > bytes.length) break;
      this.#answer(bytes.subarray(at, at + length));
      at += Math.ceil(length / 4) * 4;
    }
    return bytes.length;
  }

  #answer(request: Uint8Array): void {
    const view = new DataView(request.buffer, request.byteOffset, request.length);
    const type = view.getUint16(4, true);
    const flags = view.getUint16(6, true);
    const sequence = view.getUint32(8, true);
    if (!(flags & NLM_F_REQUEST) || (type < NLMSG_MIN_TYPE && type !== NLMSG_NOOP)) return;
    const refused = this.#refusal(type, flags);
    if (refused !== 0) this.#error(request, refused, sequence);
    else this.#tell(type, flags, sequence, request[HEADER] ?? AF_UNSPEC);
    if (refused === 0 && (flags & NLM_F_DUMP) === NLM_F_DUMP) {
      this.#push(new Message().u32(0).finish(NLMSG_DONE, NLM_F_MULTI, sequence, this.#port));
    } else if (refused === 0 && flags & NLM_F_ACK) this.#error(request, 0, sequence);
  }

  /** Why a request is not answered, 0 if it is. */
  #refusal(type: number, flags: number): number {
    if (!isGet(type)) return Errno.EPERM;
    if ((flags & NLM_F_DUMP) === NLM_F_DUMP || type === RTM_GETLINK) return 0;
    return type === RTM_GETROUTE ? Errno.ENETUNREACH : Errno.EOPNOTSUPP;
  }

  /** The interface, its addresses, or nothing: there are no routes and no neighbours. */
  #tell(type: number, flags: number, sequence: number, family: number): void {
    const multi = (flags & NLM_F_DUMP) === NLM_F_DUMP ? NLM_F_MULTI : 0;
    if (type === RTM_GETLINK) this.#push(loopbackLink().finish(RTM_NEWLINK, multi, sequence, this.#port));
    if (type !== RTM_GETADDR) return;
    const families = [AF_INET, AF_INET6].filter((one) => family === AF_UNSPEC || family === one);
    const parts = families.map((one) => loopbackAddress(one).finish(RTM_NEWADDR, multi, sequence, this.#port));
    if (parts.length > 0) this.#push(Buffer.concat(parts));
  }

  /** NLMSG_ERROR: the errno and the header of the request; 0 is an acknowledgement. */
  #error(request: Uint8Array, errno: number, sequence: number): void {
    const message = new Message().u32(-errno >>> 0).raw(errno === 0 ? request.subarray(0, HEADER) : request);
    this.#push(message.finish(NLMSG_ERROR, 0, sequence, this.#port));
  }

  #push(bytes: Uint8Array): void {
    this.#inbox.push(bytes);
    this.readQueue.wake();
  }

  /** A message that the kernel itself sends here: mq_notify(2) with SIGEV_THREAD. */
  post(bytes: Uint8Array): void {
    this.#push(bytes);
  }

  receive(into: Uint8Array, flags: number): Incoming | number {
    const failed = this.takeError();
    if (failed !== 0) return failed;
    const [message] = this.#inbox;
    if (message === undefined) return -Errno.EAGAIN;
    if (!(flags & MSG_PEEK)) this.#inbox.shift();
    const { length } = message;
    const count = Math.min(length, into.length);
    into.set(message.subarray(0, count));
    return { count, length, flags: count < length ? MSG_TRUNC : 0, address: this.peerAddress };
  }

  override poll(): number {
    const events = POLLOUT | POLLWRNORM | (this.error === 0 ? 0 : POLLERR);
    return this.#inbox.length > 0 ? events | POLLIN | POLLRDNORM : events;
  }

  protected override closed(): void {
    if (this.#port !== 0) this.network.netlinkPorts.delete(this.#port);
  }
}
