/** Sending and receiving through sockets: what the calls with and without msghdr have in common. */
import { Errno } from "../errno.ts";
import { Signal } from "../signals/numbers.ts";
import type { Result } from "../table.ts";
import type { Task } from "../task.ts";
import { fail } from "../vfs/error.ts";
import { O_NONBLOCK } from "../vfs/flags.ts";
import type { Span } from "../vfs/span.ts";
import { staging } from "../vfs/transfer.ts";
import {
  AF_UNIX,
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_ERRQUEUE,
  MSG_NOSIGNAL,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_WAITALL,
  RCV_SHUTDOWN,
  SOCK_SEQPACKET,
} from "./constants.ts";
import { type Incoming, type Outgoing, type Socket, waiting } from "./socket.ts";

/** One read or message at most; more follows in the next call. */
const LARGEST = 8 * 2 ** 20;

function isNonblocking(socket: Socket, flags: number): boolean {
  return (socket.flags & O_NONBLOCK) !== 0 || (flags & MSG_DONTWAIT) !== 0;
}

/** All bytes of a message, or EFAULT. */
function gather(from: Span): Uint8Array {
  const bytes = new Uint8Array(Math.min(from.length, LARGEST));
  if (from.take(0, bytes) < bytes.length) fail(Errno.EFAULT, "the message cannot be read");
  return bytes;
}

/** sendto and sendmsg, in one message or, on a stream, until all is sent. */
export function sendMessage(task: Task, socket: Socket, from: Span, given: Outgoing): Result {
  const { flags } = given;
  const nonblocking = isNonblocking(socket, flags);
  const out = socket.type === SOCK_SEQPACKET ? { ...given, flags: flags | MSG_EOR } : given;
  let done = 0;
  const refuse = (error: number): number => {
    if (done > 0) return done;
    if (error === -Errno.EPIPE && socket.raisesSigpipe && !(flags & MSG_NOSIGNAL)) {
      task.kernel.signals.send(task, Signal.SIGPIPE);
    }
    return error;
  };
  const pass = socket.isStream
    ? (): number => {
        do {
          const buffer = staging(task, from.length - done);
          const got = from.take(done, buffer);
          if (got < buffer.length && got === 0) return refuse(-Errno.EFAULT);
          // What goes with the bytes goes with the first of them.
          const sent = socket.send(
            buffer.subarray(0, got),
            done === 0 ? out : { flags: out.flags, address: out.address },
          );
          if (sent === -Errno.EAGAIN) return nonblocking && done > 0 ? done : sent;
          if (sent < 0) return refuse(sent);
          done += sent;
          if (sent < got) return nonblocking ? done : -Errno.EAGAIN;
          if (got < buffer.length) return done;
        } while (done < from.length);
        return done;
      }
    : message(socket, gather(from), out, refuse);
  if (nonblocking) return pass();
  return waiting(socket, [socket.writeQueue], pass, socket.options.sendTimeout, -Errno.EAGAIN, () => done || undefined);
}

function message(socket: Socket, bytes: Uint8Array, out: Outgoing, refuse: (error: number) => number): () => number {
  return () => {
    const sent = socket.send(bytes, out);
    return sent < 0 && sent !== -Errno.EAGAIN ? refuse(sent) : sent;
  };
}

/**
 * recvfrom and recvmsg.
 * @param finish writes what goes with the bytes and gives the call's result; `count` is the sum where MSG_WAITALL went on
 */
export function receiveMessage(
  task: Task,
  socket: Socket,
  into: Span,
  flags: number,
  finish: (incoming: Incoming) => number,
): Result {
  // No errors are queued with their packets.
  if (flags & MSG_ERRQUEUE && socket.domain !== AF_UNIX) return -Errno.EAGAIN;
  const nonblocking = isNonblocking(socket, flags);
  const peeks = (flags & MSG_PEEK) !== 0;
  const waits = socket.isStream && (flags & MSG_WAITALL) !== 0;
  const all = waits && !peeks;
  // Only TCP waits until all is there that is looked at.
  let peeksAll = waits && peeks && socket.domain !== AF_UNIX && !nonblocking;
  // Only TCP throws bytes away without copying them.
  const discards = socket.isStream && socket.domain !== AF_UNIX && (flags & MSG_TRUNC) !== 0;
  let done = 0;
  let last: Incoming | undefined;
  const finished = (): number => {
    const incoming = last ?? { count: 0, length: 0, flags: 0 };
    return finish({ ...incoming, count: done, length: socket.isStream ? done : incoming.length });
  };
  const attempt = (): number => {
    for (;;) {
      const room = into.length - done;
      const small = staging(task, room);
      const buffer = room > small.length ? new Uint8Array(Math.min(room, LARGEST)) : small;
      const got = socket.receive(buffer, flags);
      if (typeof got === "number") {
        if (done === 0 || (got === -Errno.EAGAIN && !nonblocking)) return got;
        return finished();
      }
      if (peeksAll && got.count > 0 && got.count < into.length && !(socket.shut & RCV_SHUTDOWN)) return -Errno.EAGAIN;
      last = got;
      if (!discards) {
        const put = into.put(done, buffer.subarray(0, got.count));
        if (put < got.count) {
          if (!(flags & MSG_PEEK)) socket.unread(buffer.slice(put, got.count));
          for (const file of got.rights ?? []) file.release();
          if (done + put === 0) return -Errno.EFAULT;
          done += put;
          return finished();
        }
      }
      done += got.count;
      const goesOn = all && done < into.length && got.count > 0 && got.rights === undefined;
      if (!goesOn) return finished();
    }
  };
  if (nonblocking) return attempt();
  const partial = () => {
    if (!peeksAll) return done > 0 ? finished() : undefined;
    peeksAll = false;
    const seen = attempt();
    return seen >= 0 ? seen : undefined;
  };
  return waiting(socket, [socket.readQueue], attempt, socket.options.receiveTimeout, -Errno.EAGAIN, partial);
}
