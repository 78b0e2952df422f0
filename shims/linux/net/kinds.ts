/** How arguments of the socket calls print, in strace's spelling. */
import { isError } from "../errno.ts";
import { choice, flags, flagText, type Kind, scalar } from "../kinds/kinds.ts";
import { bufferOut, fills, pointsTo } from "../kinds/memory.ts";
import { addressText, familyText, SOCKADDR_MAX } from "./address.ts";
import {
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_TYPE_MASK,
  SOL_SOCKET,
} from "./constants.ts";
import { So } from "./options.ts";

export const family: Kind = scalar("int", familyText);

const TYPES: ReadonlyMap<number, string> = new Map([
  [1, "SOCK_STREAM"],
  [2, "SOCK_DGRAM"],
  [3, "SOCK_RAW"],
  [4, "SOCK_RDM"],
  [5, "SOCK_SEQPACKET"],
  [10, "SOCK_PACKET"],
]);
const TYPE_FLAGS: readonly (readonly [string, number])[] = [
  ["SOCK_CLOEXEC", SOCK_CLOEXEC],
  ["SOCK_NONBLOCK", SOCK_NONBLOCK],
];

/** `SOCK_STREAM|SOCK_CLOEXEC`. */
export const socketType: Kind = scalar("int", (value) => {
  const type = value & SOCK_TYPE_MASK;
  const rest = (value & ~SOCK_TYPE_MASK) >>> 0;
  const name = TYPES.get(type) ?? `0x${type.toString(16)} /* SOCK_??? */`;
  return rest === 0 ? name : `${name}|${flagText("SOCK_", TYPE_FLAGS, rest)}`;
});
export const acceptFlags: Kind = flags("SOCK_", { SOCK_CLOEXEC, SOCK_NONBLOCK }, "int");
export const shutdownHow: Kind = choice("SHUT_", { SHUT_RD: 0, SHUT_WR: 1, SHUT_RDWR: 2 });

export const messageFlags: Kind = flags("MSG_", {
  MSG_OOB: 1,
  MSG_PEEK: 2,
  MSG_DONTROUTE: 4,
  MSG_CTRUNC: 8,
  MSG_PROXY: 0x10,
  MSG_TRUNC: 0x20,
  MSG_DONTWAIT: 0x40,
  MSG_EOR: 0x80,
  MSG_WAITALL: 0x100,
  MSG_FIN: 0x200,
  MSG_SYN: 0x400,
  MSG_CONFIRM: 0x800,
  MSG_RST: 0x1000,
  MSG_ERRQUEUE: 0x2000,
  MSG_NOSIGNAL: 0x4000,
  MSG_MORE: 0x8000,
  MSG_WAITFORONE: 0x10000,
  MSG_FASTOPEN: 0x2000_0000,
  MSG_CMSG_CLOEXEC: 0x4000_0000,
});

const LEVELS: ReadonlyMap<number, string> = new Map([
  [SOL_SOCKET, "SOL_SOCKET"],
  [IPPROTO_IP, "SOL_IP"],
  [IPPROTO_TCP, "SOL_TCP"],
  [IPPROTO_UDP, "SOL_UDP"],
  [IPPROTO_IPV6, "SOL_IPV6"],
  [270, "SOL_NETLINK"],
]);
export const optionLevel: Kind = scalar("int", (value) => LEVELS.get(value) ?? String(value));

const SOCKET_OPTIONS: ReadonlyMap<number, string> = new Map(Object.entries(So).map(([name, value]) => [value, name]));
const TCP_OPTIONS: ReadonlyMap<number, string> = new Map([
  [1, "TCP_NODELAY"],
  [2, "TCP_MAXSEG"],
  [3, "TCP_CORK"],
  [4, "TCP_KEEPIDLE"],
  [5, "TCP_KEEPINTVL"],
  [6, "TCP_KEEPCNT"],
  [11, "TCP_INFO"],
  [12, "TCP_QUICKACK"],
  [13, "TCP_CONGESTION"],
  [18, "TCP_USER_TIMEOUT"],
]);

/** The option's name, by the level in argument 1. */
export const optionName: Kind = scalar("int", (value, { args }) => {
  const names = args[1] === SOL_SOCKET ? SOCKET_OPTIONS : args[1] === IPPROTO_TCP ? TCP_OPTIONS : undefined;
  return names?.get(value) ?? String(value);
});

/** A socket address the guest passes in; `lengthArg` is the index of the argument that holds its length. */
export function addressIn(lengthArg: number): Kind {
  return pointsTo((at, { task, args }) => {
    const length = Math.min(Math.max(args[lengthArg] ?? 0, 0), SOCKADDR_MAX);
    return addressText(task.memory.bytes(at, length));
  });
}

/** One the kernel fills in; the length is behind the pointer in argument `lengthArg`. */
export function addressOut(lengthArg: number): Kind {
  return fills((at, { task, args }) => {
    const length = task.memory.i32(args[lengthArg] ?? 0);
    return addressText(task.memory.bytes(at, Math.min(Math.max(length, 0), SOCKADDR_MAX)));
  });
}

/** What was received: as much as the buffer holds, however long the message was. */
export const received: Kind = {
  ...bufferOut,
  print: (value, at) =>
    bufferOut.print(value, at.result === undefined ? at : { ...at, result: Math.min(at.result, at.args[2] ?? 0) }),
};

/** A length the kernel reads and writes: `[16]`. */
export const lengthInOut: Kind = {
  shape: "pointer",
  moment: "exit",
  print: (value, at) => {
    if (value === 0) return "NULL";
    if (at.result === undefined || isError(at.result)) return `0x${value.toString(16)}`;
    return `[${at.task.memory.i32(value)}]`;
  },
};

/** The value of an option: an int where it is one. */
export function optionIn(lengthArg: number): Kind {
  return pointsTo((at, { task, args }) => {
    const length = args[lengthArg] ?? 0;
    return length === 4 ? `[${task.memory.i32(at)}]` : `0x${at.toString(16)}`;
  });
}
export function optionOut(lengthArg: number): Kind {
  return fills((at, { task, args }) => {
    const length = task.memory.i32(args[lengthArg] ?? 0);
    return length === 4 ? `[${task.memory.i32(at)}]` : `0x${at.toString(16)}`;
  });
}
