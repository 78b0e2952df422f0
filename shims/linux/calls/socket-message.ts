/** Sending and receiving: sendto, recvfrom, sendmsg, recvmsg and their forms for many messages; i386's socketcall. */
import { Errno } from "../errno.ts";
import { choice, fd, int, type Kind, pointer, size, uint } from "../kinds/kinds.ts";
import { arrayText, bufferIn, fills, pointsTo } from "../kinds/memory.ts";
import { structIn, timespec, timespec64 } from "../kinds/structs.ts";
import {
  AF_UNIX,
  MSG_CMSG_CLOEXEC,
  MSG_CMSG_COMPAT,
  MSG_DONTWAIT,
  MSG_TRUNC,
  MSG_WAITFORONE,
} from "../net/constants.ts";
import { addressIn, addressOut, lengthInOut, messageFlags, received } from "../net/kinds.ts";
import { type MsgHdr, mmsghdr, msghdr, readControl, writeControl } from "../net/message.ts";
import { type Incoming, type Socket, socketOf } from "../net/socket.ts";
import { receiveMessage, sendMessage } from "../net/transfer.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { readSpan, SECOND, type TimeLayout } from "../timespec.ts";
import { fileCall } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { Plain, type Span } from "../vfs/span.ts";
import { MAX_COUNT, UIO_MAXIOV, vectorOf } from "../vfs/transfer.ts";
import { Wait } from "../wait.ts";
import {
  accept,
  accept4,
  bind,
  connect,
  getpeername,
  getsockname,
  getsockopt,
  listen,
  readAddress,
  setsockopt,
  shutdown,
  socket,
  socketpair,
  writeAddress,
} from "./socket.ts";

const NONE = new Uint8Array([]);

function span(task: Task, at: number, length: number): Span {
  if (at + length > task.process.space.end) fail(Errno.EFAULT, "the buffer leaves user space");
  return new Plain(task.memory, at, Math.min(length, MAX_COUNT));
}

const sendto = fileCall((task, descriptor, at, length, flags, addressAt, addressLength) => {
  const target = socketOf(task, descriptor);
  const address = addressAt === 0 ? undefined : readAddress(task, addressAt, addressLength);
  return sendMessage(task, target, span(task, at, length), { flags, address });
});

const recvfrom = fileCall((task, descriptor, at, length, flags, addressAt, lengthAt) => {
  const target = socketOf(task, descriptor);
  return receiveMessage(task, target, span(task, at, length), flags, (incoming) => {
    for (const file of incoming.rights ?? []) file.release();
    if (addressAt !== 0) writeAddress(task, incoming.address ?? NONE, addressAt, lengthAt);
    return resultOf(target, incoming, flags);
  });
});

/** With MSG_TRUNC a receiver learns the whole length of a message that did not fit. */
function resultOf(target: Socket, incoming: Incoming, flags: number): number {
  return flags & MSG_TRUNC && !target.isStream ? incoming.length : incoming.count;
}

function pieces(task: Task, header: MsgHdr): Span {
  if (header.msg_iovlen > UIO_MAXIOV) fail(Errno.EMSGSIZE, "more than 1024 pieces");
  return vectorOf(task, header.msg_iov, header.msg_iovlen);
}

function nameLength({ msg_namelen }: MsgHdr): number {
  if (msg_namelen < 0) fail(Errno.EINVAL, "a negative length of the name");
  return Math.min(msg_namelen, 128);
}

function send(task: Task, target: Socket, header: MsgHdr, flags: number): Result {
  const hasName = header.msg_name !== 0 && nameLength(header) > 0;
  const address = hasName ? readAddress(task, header.msg_name, nameLength(header)) : undefined;
  const from = pieces(task, header);
  const hasControl = header.msg_control !== 0 && header.msg_controllen > 0;
  const sent = hasControl
    ? readControl(task, header.msg_control, header.msg_controllen, target.domain === AF_UNIX)
    : undefined;
  return sendMessage(task, target, from, { flags, address, ...sent });
}

const sendmsg = fileCall((task, descriptor, at, flags) => {
  if (flags & MSG_CMSG_COMPAT) fail(Errno.EINVAL, "MSG_CMSG_COMPAT is the kernel's own");
  const target = socketOf(task, descriptor);
  return send(task, target, msghdr.read(task.memory, at, task.abi), flags);
});

/** @param at of the msghdr, whose lengths and flags are written back */
function receive(task: Task, target: Socket, at: number, flags: number): Result {
  const { memory, abi } = task;
  const header = msghdr.read(memory, at, abi);
  const room = header.msg_name === 0 ? 0 : nameLength(header);
  const into = pieces(task, header);
  return receiveMessage(task, target, into, flags, (incoming) => {
    const control = writeControl(task, incoming, header.msg_control, header.msg_controllen, flags);
    const name = incoming.address ?? NONE;
    if (header.msg_name !== 0 && room > 0) memory.write(header.msg_name, name.subarray(0, room));
    const told = incoming.flags | control.flags | (flags & MSG_CMSG_CLOEXEC);
    const word = (offset: number, value: number) =>
      abi.word === 8 ? memory.setNum64(at + offset, value) : memory.setU32(at + offset, value);
    if (header.msg_name !== 0) memory.setU32(at + msghdr.offsetOf("msg_namelen", abi), name.length);
    memory.setU32(at + msghdr.offsetOf("msg_flags", abi), told);
    word(msghdr.offsetOf("msg_controllen", abi), control.length);
    return resultOf(target, incoming, flags);
  });
}

const recvmsg = fileCall((task, descriptor, at, flags) => {
  if (flags & MSG_CMSG_COMPAT) fail(Errno.EINVAL, "MSG_CMSG_COMPAT is the kernel's own");
  return receive(task, socketOf(task, descriptor), at, flags);
});

/**
 * One message after the other until `count` are done, one fails, or `over` says so. What failed after others is left for the next
 * call (the socket's error).
 */
function many(target: Socket, count: number, one: (index: number) => Result, over: (index: number) => boolean): Result {
  let index = 0;
  let inner: Wait | undefined;
  const settle = (error: number): number => {
    if (index === 0) return error;
    if (error !== -Errno.EAGAIN && error > -512) target.error = -error;
    return index;
  };
  const step = (): number | undefined => {
    while (index < count) {
      if (inner === undefined) {
        const result = one(index);
        if (result instanceof Wait) {
          inner = result;
          continue;
        }
        if (typeof result !== "number") throw new TypeError("a message's result is a number or a wait");
        if (result < 0) return settle(result);
      } else {
        const result = inner.attempt();
        if (result === undefined) return undefined;
        inner.end();
        inner = undefined;
        if (result < 0) return settle(result);
      }
      index++;
      if (over(index)) break;
    }
    return index;
  };
  const first = step();
  if (first !== undefined) return first;
  return new Wait({
    queues: [target.readQueue, target.writeQueue],
    attempt: step,
    ...(inner?.deadline !== undefined && { deadline: inner.deadline }),
    timeout: () => settle(inner?.timeout() ?? -Errno.EAGAIN),
    interrupted: () => (index > 0 ? index : (inner?.interrupted() ?? -Errno.EINTR)),
    cleanup: () => inner?.end(),
  });
}

const sendmmsg = fileCall((task, descriptor, at, count, flags) => {
  if (flags & MSG_CMSG_COMPAT) fail(Errno.EINVAL, "MSG_CMSG_COMPAT is the kernel's own");
  const target = socketOf(task, descriptor);
  const { memory, abi } = task;
  const one = (index: number): Result => {
    const where = at + index * mmsghdr.size(abi);
    const result = send(task, target, msghdr.read(memory, where, abi), flags);
    return noting(result, (sent) => memory.setU32(where + mmsghdr.offsetOf("msg_len", abi), sent));
  };
  return many(target, Math.min(count, UIO_MAXIOV), one, () => false);
});

/** Calls `note` with a result that is no error, now or when the wait is over. */
function noting(result: Result, note: (value: number) => void): Result {
  const noted = (value: number): number => {
    if (value >= 0) note(value);
    return value;
  };
  if (typeof result === "number") return noted(result);
  if (!(result instanceof Wait)) return result;
  return new Wait({
    queues: result.queues,
    attempt: () => {
      const value = result.attempt();
      return value === undefined ? undefined : noted(value);
    },
    ...(result.deadline !== undefined && { deadline: result.deadline }),
    timeout: () => noted(result.timeout()),
    interrupted: () => {
      const value = result.interrupted();
      return value === undefined ? undefined : noted(value);
    },
    cleanup: () => result.end(),
  });
}

function recvmmsgWith(layout: TimeLayout) {
  return fileCall((task, descriptor, at, count, flags, timeAt) => {
    if (flags & MSG_CMSG_COMPAT) fail(Errno.EINVAL, "MSG_CMSG_COMPAT is the kernel's own");
    const { memory, abi, kernel } = task;
    const time = readSpan(task, timeAt, layout);
    const target = socketOf(task, descriptor);
    const waiting = target.takeError();
    if (waiting !== 0) return waiting;
    // The time is looked at between messages only (recvmmsg(2), BUGS).
    const end = time === undefined ? undefined : kernel.clock.now() + time;
    let later = flags & ~MSG_WAITFORONE;
    const one = (index: number): Result => {
      const where = at + index * mmsghdr.size(abi);
      const result = receive(task, target, where, later);
      return noting(result, (got) => memory.setU32(where + mmsghdr.offsetOf("msg_len", abi), got));
    };
    const over = (): boolean => {
      if (flags & MSG_WAITFORONE) later |= MSG_DONTWAIT;
      if (end === undefined) return false;
      const left = Math.max(end - kernel.clock.now(), 0);
      const value = { tv_sec: Math.floor(left / SECOND), tv_nsec: Math.floor(left % SECOND) };
      layout.write(memory, timeAt, value, abi);
      return left === 0;
    };
    return many(target, Math.min(count, UIO_MAXIOV), one, over);
  });
}

const recvmmsg = recvmmsgWith(timespec);
const recvmmsg64 = recvmmsgWith(timespec64);

type Call = (task: Task, ...args: number[]) => Result;

/** i386's one call for all of them (linux/net.h SYS_*): how many arguments lie behind the pointer, and who takes them. */
const SOCKETCALLS: readonly (readonly [string, number, Call])[] = [
  ["SYS_SOCKET", 3, (task, a = 0, b = 0, c = 0) => socket(task, a | 0, b | 0, c | 0)],
  ["SYS_BIND", 3, (task, a = 0, b = 0, c = 0) => bind(task, a | 0, b, c | 0)],
  ["SYS_CONNECT", 3, (task, a = 0, b = 0, c = 0) => connect(task, a | 0, b, c | 0)],
  ["SYS_LISTEN", 2, (task, a = 0, b = 0) => listen(task, a | 0, b | 0)],
  ["SYS_ACCEPT", 3, (task, a = 0, b = 0, c = 0) => accept(task, a | 0, b, c)],
  ["SYS_GETSOCKNAME", 3, (task, a = 0, b = 0, c = 0) => getsockname(task, a | 0, b, c)],
  ["SYS_GETPEERNAME", 3, (task, a = 0, b = 0, c = 0) => getpeername(task, a | 0, b, c)],
  ["SYS_SOCKETPAIR", 4, (task, a = 0, b = 0, c = 0, d = 0) => socketpair(task, a | 0, b | 0, c | 0, d)],
  ["SYS_SEND", 4, (task, a = 0, b = 0, c = 0, d = 0) => sendto(task, a | 0, b, c, d, 0, 0)],
  ["SYS_RECV", 4, (task, a = 0, b = 0, c = 0, d = 0) => recvfrom(task, a | 0, b, c, d, 0, 0)],
  ["SYS_SENDTO", 6, (task, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0) => sendto(task, a | 0, b, c, d, e, f | 0)],
  ["SYS_RECVFROM", 6, (task, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0) => recvfrom(task, a | 0, b, c, d, e, f)],
  ["SYS_SHUTDOWN", 2, (task, a = 0, b = 0) => shutdown(task, a | 0, b | 0)],
  ["SYS_SETSOCKOPT", 5, (task, a = 0, b = 0, c = 0, d = 0, e = 0) => setsockopt(task, a | 0, b | 0, c | 0, d, e | 0)],
  ["SYS_GETSOCKOPT", 5, (task, a = 0, b = 0, c = 0, d = 0, e = 0) => getsockopt(task, a | 0, b | 0, c | 0, d, e)],
  ["SYS_SENDMSG", 3, (task, a = 0, b = 0, c = 0) => sendmsg(task, a | 0, b, c)],
  ["SYS_RECVMSG", 3, (task, a = 0, b = 0, c = 0) => recvmsg(task, a | 0, b, c)],
  ["SYS_ACCEPT4", 4, (task, a = 0, b = 0, c = 0, d = 0) => accept4(task, a | 0, b, c, d | 0)],
  ["SYS_RECVMMSG", 5, (task, a = 0, b = 0, c = 0, d = 0, e = 0) => recvmmsg(task, a | 0, b, c, d, e)],
  ["SYS_SENDMMSG", 4, (task, a = 0, b = 0, c = 0, d = 0) => sendmmsg(task, a | 0, b, c, d)],
];

const socketcall = fileCall((task, number, at) => {
  const [, count, call] = SOCKETCALLS[number - 1] ?? fail(Errno.EINVAL, "there is no such socket call");
  return call(task, ...Array.from({ length: count }, (_, index) => task.memory.u32(at + 4 * index)));
});

const callNumber: Kind = choice("SYS_", Object.fromEntries(SOCKETCALLS.map(([name], index) => [name, index + 1])));
const callArguments: Kind = pointsTo((at, { task: { memory }, args }) => {
  const count = SOCKETCALLS[(args[0] ?? 0) - 1]?.[1] ?? 0;
  return arrayText(at, count, 4, (element) => {
    const value = memory.u32(element);
    return value > 0xffff ? `0x${value.toString(16)}` : String(value);
  });
});

function headerText(header: MsgHdr): string {
  const { msg_iovlen, msg_controllen, msg_namelen } = header;
  return `{msg_namelen=${msg_namelen}, msg_iovlen=${msg_iovlen}, msg_controllen=${msg_controllen}, ...}`;
}
const headerIn: Kind = pointsTo((at, { task, abi }) => headerText(msghdr.read(task.memory, at, abi)));
const headerOut: Kind = fills((at, { task, abi }) => headerText(msghdr.read(task.memory, at, abi)));

const o = { family: "network" } as const;

export const socketMessageCalls: readonly Row[] = [
  row("sendto", { x86_64: 44, i386: 369 }, [fd, bufferIn(2), size, messageFlags, addressIn(5), int], sendto, {
    ...o,
    support:
      "MSG_OOB works on TCP, but not on the host's network (EOPNOTSUPP); on AF_UNIX it is EOPNOTSUPP, as in kernels without AF_UNIX_OOB",
  }),
  row(
    "recvfrom",
    { x86_64: 45, i386: 371 },
    [fd, received, size, messageFlags, addressOut(5), lengthInOut],
    recvfrom,
    o,
  ),
  row("sendmsg", { x86_64: 46, i386: 370 }, [fd, headerIn, messageFlags], sendmsg, o),
  row("recvmsg", { x86_64: 47, i386: 372 }, [fd, headerOut, messageFlags], recvmsg, o),
  row("sendmmsg", { x86_64: 307, i386: 345 }, [fd, pointer, uint, messageFlags], sendmmsg, o),
  row("recvmmsg", { x86_64: 299, i386: 337 }, [fd, pointer, uint, messageFlags, structIn(timespec)], recvmmsg, o),
  row("recvmmsg_time64", { i386: 417 }, [fd, pointer, uint, messageFlags, structIn(timespec64)], recvmmsg64, o),
  row("socketcall", { i386: 102 }, [callNumber, callArguments], socketcall, o),
];
