/** Sockets: making, naming, connecting them, and their options (net/socket.c). */

import { Errno } from "../errno.ts";
import { fd, int } from "../kinds/kinds.ts";
import { fills } from "../kinds/memory.ts";
import { shownId } from "../namespaces/user.ts";
import { SOCKADDR_MAX } from "../net/address.ts";
import {
  AF_INET,
  AF_UNIX,
  SHUT_RDWR,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_TYPE_MASK,
  SOL_SOCKET,
} from "../net/constants.ts";
import {
  acceptFlags,
  addressIn,
  addressOut,
  family,
  lengthInOut,
  optionIn,
  optionLevel,
  optionName,
  optionOut,
  shutdownHow,
  socketType,
} from "../net/kinds.ts";
import { int32, So } from "../net/options.ts";
import { type Socket, socketOf, waiting } from "../net/socket.ts";
import { Cap } from "../process/capabilities.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { demandDescriptors, fileCall, install } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { O_NONBLOCK } from "../vfs/flags.ts";

/** The flags beside the type: EINVAL for any but SOCK_CLOEXEC and SOCK_NONBLOCK. */
function typeFlags(type: number): number {
  const given = type & ~SOCK_TYPE_MASK;
  if (given & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) fail(Errno.EINVAL, "unknown flags beside the type");
  return given;
}

function give(task: Task, socket: Socket, flags: number): number {
  if (flags & SOCK_NONBLOCK) socket.flags |= O_NONBLOCK;
  return install(task, socket, (flags & SOCK_CLOEXEC) !== 0);
}

export const socket = fileCall((task, domain, type, protocol) => {
  const flags = typeFlags(type);
  const made = task.kernel.net.create(task, domain, type & SOCK_TYPE_MASK, protocol);
  return give(task, made, flags);
});

export const socketpair = fileCall((task, domain, type, protocol, at) => {
  const flags = typeFlags(type);
  const { net } = task.kernel;
  demandDescriptors(task, 2);
  // What the family refuses it refuses here, too; then, only AF_UNIX has pairs.
  if (domain !== 1) {
    const single = net.create(task, domain, type & SOCK_TYPE_MASK, protocol);
    single.retain();
    single.release();
    fail(Errno.EOPNOTSUPP, "only AF_UNIX has socket pairs");
  }
  // EFAULT before anything is made.
  task.memory.setU32(at, 0);
  task.memory.setU32(at + 4, 0);
  const [one, other] = net.createPair(domain, type & SOCK_TYPE_MASK, protocol);
  task.memory.setU32(at, give(task, one, flags));
  task.memory.setU32(at + 4, give(task, other, flags));
  return 0;
});

/** A socket address from the guest: at most 128 bytes. */
export function readAddress(task: Task, at: number, length: number): Uint8Array {
  if (length < 0 || length > SOCKADDR_MAX) fail(Errno.EINVAL, "no length of a socket address");
  return length === 0 ? new Uint8Array(0) : task.memory.bytes(at, length);
}

/** Gives the guest as much of an address as it has room for, and the whole length (move_addr_to_user). */
export function writeAddress(task: Task, address: Uint8Array, at: number, lengthAt: number): void {
  const room = task.memory.i32(lengthAt);
  if (room < 0) fail(Errno.EINVAL, "a negative length");
  if (room > 0 && address.length > 0) task.memory.write(at, address.subarray(0, Math.min(room, address.length)));
  task.memory.setU32(lengthAt, address.length);
}

export const bind = fileCall((task, descriptor, at, length) => {
  const target = socketOf(task, descriptor);
  return target.bind(task, readAddress(task, at, length));
});

export const connect = fileCall((task, descriptor, at, length) => {
  const target = socketOf(task, descriptor);
  return target.connect(task, readAddress(task, at, length), (target.flags & O_NONBLOCK) !== 0);
});

export const listen = fileCall((task, descriptor, backlog) => socketOf(task, descriptor).listen(task, backlog));

export const accept4 = fileCall((task, descriptor, at, lengthAt, flags) => {
  if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) fail(Errno.EINVAL, "unknown flags");
  const listener = socketOf(task, descriptor);
  demandDescriptors(task);
  const attempt = (): number => {
    const accepted = listener.accept();
    if (typeof accepted === "number") return accepted;
    if (at !== 0) {
      try {
        writeAddress(task, accepted.peerAddress ?? new Uint8Array(0), at, lengthAt);
      } catch (error) {
        accepted.retain();
        accepted.release();
        throw error;
      }
    }
    return give(task, accepted, flags);
  };
  if (listener.flags & O_NONBLOCK) return attempt();
  return waiting(listener, [listener.readQueue], attempt, listener.options.receiveTimeout);
});

export function accept(task: Task, descriptor: number, at: number, lengthAt: number): Result {
  return accept4(task, descriptor, at, lengthAt, 0);
}

export const getsockname = fileCall((task, descriptor, at, lengthAt) => {
  const target = socketOf(task, descriptor);
  const attempt = (): number => {
    if (target.isBinding) return -Errno.EAGAIN;
    writeAddress(task, target.localAddress, at, lengthAt);
    return 0;
  };
  return waiting(target, [target.writeQueue], attempt, undefined);
});

export const getpeername = fileCall((task, descriptor, at, lengthAt) => {
  const address = socketOf(task, descriptor).peerAddress ?? fail(Errno.ENOTCONN, "the socket is not connected");
  writeAddress(task, address, at, lengthAt);
  return 0;
});

export const shutdown = fileCall((task, descriptor, how) => {
  const target = socketOf(task, descriptor);
  if (how < 0 || how > SHUT_RDWR) fail(Errno.EINVAL, "neither SHUT_RD, SHUT_WR nor SHUT_RDWR");
  return target.shutdown(how);
});

/** What a level that the socket does not have is answered with. */
function wrongLevel(target: Socket, level: number, reading: boolean): number {
  if (level === SOL_SOCKET || target.optionLevels.includes(level)) return 0;
  return target.domain === AF_UNIX || (reading && target.domain === AF_INET) ? Errno.EOPNOTSUPP : Errno.ENOPROTOOPT;
}

export const setsockopt = fileCall((task, descriptor, level, name, at, length) => {
  if (length < 0) fail(Errno.EINVAL, "a negative length");
  const target = socketOf(task, descriptor);
  const wrong = wrongLevel(target, level, false);
  if (wrong !== 0) return task.fail(wrong, "this kind of socket has no options of that level");
  const value = task.memory.bytes(at, Math.min(length, 256));
  const privileged = task.process.cred.capable(Cap.CAP_NET_ADMIN);
  const result =
    target.setOption(task, level, name, value) ?? target.options.write(task.abi, level, name, value, privileged);
  if (result !== undefined) return result;
  return task.fail(Errno.ENOPROTOOPT, "this kind of socket does not have the option");
});

/** Options of SOL_SOCKET that tell what the socket is. */
function fact(task: Task, target: Socket, name: number): Uint8Array | undefined {
  switch (name) {
    case So.SO_TYPE:
      return int32(target.type);
    case So.SO_DOMAIN:
      return int32(target.domain);
    case So.SO_PROTOCOL:
      return int32(target.protocol);
    case So.SO_ERROR:
      return int32(-target.takeError());
    case So.SO_ACCEPTCONN:
      return int32(Number(target.isListening));
    case So.SO_PEERNAME:
      return target.peerAddress ?? fail(Errno.ENOTCONN, "the socket is not connected");
    case So.SO_PEERCRED: {
      const { pid, uid: peer, gid: group } = target.peerCreds;
      const { userNamespace } = task.cred;
      const [uid, gid] = [shownId(userNamespace, "uid", peer), shownId(userNamespace, "gid", group)];
      return Buffer.concat([int32(pid), int32(uid | 0), int32(gid | 0)]);
    }
    case So.SO_BINDTODEVICE:
      return new Uint8Array(0);
    case So.SO_COOKIE: {
      const cookie = new Uint8Array(8);
      cookie.set(int32(target.inode.ino));
      return cookie;
    }
  }
  return undefined;
}

export const getsockopt = fileCall((task, descriptor, level, name, at, lengthAt) => {
  const target = socketOf(task, descriptor);
  const { memory } = task;
  const room = memory.i32(lengthAt);
  if (room < 0) fail(Errno.EINVAL, "a negative length");
  const wrong = wrongLevel(target, level, true);
  if (wrong !== 0) return task.fail(wrong, "this kind of socket has no options of that level");
  const value =
    (level === SOL_SOCKET ? fact(task, target, name) : undefined) ??
    target.getOption(task, level, name) ??
    target.options.read(task.abi, level, name);
  if (value === undefined) return task.fail(Errno.ENOPROTOOPT, "this kind of socket does not have the option");
  if (typeof value === "number") return value;
  const length = Math.min(room, value.length);
  memory.write(at, value.subarray(0, length));
  memory.setU32(lengthAt, length);
  return 0;
});

const o = { family: "network" } as const;
const pair = fills((at, { task: { memory } }) => `[${memory.i32(at)}, ${memory.i32(at + 4)}]`);

export const socketCalls: readonly Row[] = [
  row("socket", { x86_64: 41, i386: 359 }, [family, socketType, int], socket, {
    ...o,
    support:
      "AF_UNIX, TCP and UDP over a loopback of the run's own or, with --net host, over the host's network, and NETLINK_ROUTE, " +
      "which knows lo alone; any other family is EAFNOSUPPORT",
  }),
  row("socketpair", { x86_64: 53, i386: 360 }, [family, socketType, int, pair], socketpair, o),
  row("bind", { x86_64: 49, i386: 361 }, [fd, addressIn(2), int], bind, {
    ...o,
    support:
      "local are 127.0.0.0/8, ::1 and the addresses that stand for any; on the host's network a TCP port is taken for good here, " +
      "also with SO_REUSEADDR, and its queue has 511 places",
  }),
  row("connect", { x86_64: 42, i386: 362 }, [fd, addressIn(2), int], connect, {
    ...o,
    support: "the host's network is not there without --net host: ENETUNREACH",
  }),
  row("listen", { x86_64: 50, i386: 363 }, [fd, int], listen, o),
  row("accept", { x86_64: 43 }, [fd, addressOut(2), lengthInOut], accept, o),
  row("accept4", { x86_64: 288, i386: 364 }, [fd, addressOut(2), lengthInOut, acceptFlags], accept4, o),
  row("getsockname", { x86_64: 51, i386: 367 }, [fd, addressOut(2), lengthInOut], getsockname, o),
  row("getpeername", { x86_64: 52, i386: 368 }, [fd, addressOut(2), lengthInOut], getpeername, o),
  row("shutdown", { x86_64: 48, i386: 373 }, [fd, shutdownHow], shutdown, o),
  row("setsockopt", { x86_64: 54, i386: 366 }, [fd, optionLevel, optionName, optionIn(4), int], setsockopt, o),
  row("getsockopt", { x86_64: 55, i386: 365 }, [fd, optionLevel, optionName, optionOut(4), lengthInOut], getsockopt, o),
];
