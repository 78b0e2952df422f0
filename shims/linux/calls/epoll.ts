/** epoll(7) (fs/eventpoll.c). */
import { Errno } from "../errno.ts";
import { choice, fd, flags, flagText, int, type Kind, pointer, size } from "../kinds/kinds.ts";
import { arrayText, fills, pointsTo } from "../kinds/memory.ts";
import { structIn, timespec64 } from "../kinds/structs.ts";
import { EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLWAKEUP, type EpollEvent, EpollFile } from "../net/epoll-file.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { readSpan } from "../timespec.ts";
import { demandDescriptors, fileCall, install, openFileOf } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { O_CLOEXEC, POLLERR, POLLHUP, POLLIN, POLLOUT } from "../vfs/flags.ts";
import { PathOpen } from "../vfs/open-file.ts";
import { Wait } from "../wait.ts";
import { masked } from "./poll.ts";

const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
/** What EPOLLEXCLUSIVE may be combined with. */
const EXCLUSIVE_OK = (POLLIN | POLLOUT | POLLERR | POLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE) >>> 0;
/** `struct epoll_event` is packed on x86: 12 bytes on both ABIs. */
const EVENT = 12;
const MAX_EVENTS = Math.floor((2 ** 31 - 1) / EVENT);
const MS = 1e6;

function make(task: Task, given: number): number {
  if (given & ~O_CLOEXEC) return task.fail(Errno.EINVAL, "unknown flags");
  demandDescriptors(task);
  const { vfs } = task.kernel;
  const entry = vfs.anonymousEntry(vfs.anonymousNode(0o600, task.process.cred), "anon_inode:[eventpoll]");
  return install(task, new EpollFile(entry), (given & O_CLOEXEC) !== 0);
}

const create = fileCall((task, count) => {
  if (count <= 0) fail(Errno.EINVAL, "the size must be positive, though nothing depends on it");
  return make(task, 0);
});
const create1 = fileCall((task, given) => make(task, given));

function readEvent(task: Task, at: number): EpollEvent {
  const { memory } = task;
  return { events: memory.u32(at), low: memory.u32(at + 4), high: memory.u32(at + 8) };
}

const control = fileCall((task, epfd, operation, descriptor, at) => {
  let event: EpollEvent = { events: 0, low: 0, high: 0 };
  if (operation !== EPOLL_CTL_DEL) event = readEvent(task, at);
  const epoll = openFileOf(task, epfd);
  const file = openFileOf(task, descriptor);
  if (epoll instanceof PathOpen || file instanceof PathOpen) fail(Errno.EBADF, "a descriptor that is a path alone");
  if (!EpollFile.canWatch(file)) fail(Errno.EPERM, "this kind of file is always ready");
  if (!(epoll instanceof EpollFile)) return fail(Errno.EINVAL, `descriptor ${epfd} is no epoll`);
  if (epoll === file) fail(Errno.EINVAL, "an epoll cannot watch itself");
  if (event.events & EPOLLEXCLUSIVE) {
    if (operation === EPOLL_CTL_MOD) fail(Errno.EINVAL, "EPOLLEXCLUSIVE is for EPOLL_CTL_ADD");
    const wrong = file instanceof EpollFile || event.events & ~EXCLUSIVE_OK;
    if (operation === EPOLL_CTL_ADD && wrong) fail(Errno.EINVAL, "EPOLLEXCLUSIVE does not go with this");
  }
  switch (operation) {
    case EPOLL_CTL_ADD:
      return epoll.add(file, descriptor, event);
    case EPOLL_CTL_DEL:
      return epoll.remove(file, descriptor);
    case EPOLL_CTL_MOD:
      return epoll.modify(file, descriptor, event);
  }
  return fail(Errno.EINVAL, "unknown operation");
});

/** @param timeout ns, undefined for ever */
function waitOn(
  task: Task,
  epfd: number,
  at: number,
  limit: number,
  given: number | undefined,
  over: (result: number) => void,
): Result {
  if (limit <= 0 || limit > MAX_EVENTS) fail(Errno.EINVAL, "no positive number of events");
  const { memory, process, kernel } = task;
  const timeout = kernel.net.patience(given);
  if (at + limit * EVENT > process.space.end) fail(Errno.EFAULT, "the array leaves user space");
  const epoll = openFileOf(task, epfd);
  if (!(epoll instanceof EpollFile)) return fail(Errno.EINVAL, `descriptor ${epfd} is no epoll`);
  const done = (result: number): number => {
    over(result);
    return result;
  };
  const words = new Uint32Array(3);
  const bytes = new Uint8Array(words.buffer);
  const collect = (): number =>
    epoll.collect(limit, (index, { events, low, high }) => {
      words[0] = events;
      words[1] = low;
      words[2] = high;
      return memory.writeSome(at + index * EVENT, bytes) === EVENT;
    });
  const first = collect();
  if (first !== 0 || timeout === 0) return done(first);
  epoll.retain();
  return new Wait({
    queues: [epoll.readQueue],
    host: epoll.onHost,
    attempt: () => {
      const count = collect();
      return count === 0 ? undefined : done(count);
    },
    ...(timeout !== undefined && { deadline: kernel.clock.now() + timeout }),
    timeout: () => done(0),
    interrupted: () => done(-Errno.EINTR),
    cleanup: () => epoll.release(),
  });
}

const toNs = (ms: number): number | undefined => (ms < 0 ? undefined : ms * MS);

const wait = fileCall((task, epfd, at, limit, ms) => waitOn(task, epfd, at, limit, toNs(ms), () => {}));

const pwait = fileCall((task, epfd, at, limit, ms, mask, bytes) =>
  masked(task, mask, bytes, (over) => waitOn(task, epfd, at, limit, toNs(ms), over)),
);

const pwait2 = fileCall((task, epfd, at, limit, time, mask, bytes) => {
  const timeout = readSpan(task, time, timespec64);
  return masked(task, mask, bytes, (over) => waitOn(task, epfd, at, limit, timeout, over));
});

const EVENTS: readonly (readonly [string, number])[] = [
  ["EPOLLIN", 1],
  ["EPOLLPRI", 2],
  ["EPOLLOUT", 4],
  ["EPOLLERR", 8],
  ["EPOLLHUP", 0x10],
  ["EPOLLRDNORM", 0x40],
  ["EPOLLRDBAND", 0x80],
  ["EPOLLWRNORM", 0x100],
  ["EPOLLWRBAND", 0x200],
  ["EPOLLMSG", 0x400],
  ["EPOLLRDHUP", 0x2000],
  ["EPOLLEXCLUSIVE", EPOLLEXCLUSIVE],
  ["EPOLLWAKEUP", EPOLLWAKEUP],
  ["EPOLLONESHOT", EPOLLONESHOT],
  ["EPOLLET", EPOLLET],
];

function eventText(task: Task, at: number): string {
  const { events, low, high } = readEvent(task, at);
  const data = (BigInt(high) << 32n) | BigInt(low);
  return `{events=${flagText("EPOLL", EVENTS, events)}, data=${data < 0x10000n ? data : `0x${data.toString(16)}`}}`;
}

const eventIn: Kind = pointsTo((at, { task }) => eventText(task, at));
const eventsOut: Kind = fills((at, { task, result }) =>
  arrayText(at, result ?? 0, EVENT, (element) => eventText(task, element)),
);
const operation: Kind = choice("EPOLL_CTL_", { EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD });
const createFlags: Kind = flags("EPOLL_", { EPOLL_CLOEXEC: O_CLOEXEC }, "int");

const o = { family: "file" } as const;

export const epollCalls: readonly Row[] = [
  row("epoll_create", { x86_64: 213, i386: 254 }, [int], create, o),
  row("epoll_create1", { x86_64: 291, i386: 329 }, [createFlags], create1, o),
  row("epoll_ctl", { x86_64: 233, i386: 255 }, [fd, operation, fd, eventIn], control, {
    ...o,
    support: "EPOLLEXCLUSIVE is taken and wakes all who wait; EPOLLWAKEUP changes nothing",
  }),
  row("epoll_wait", { x86_64: 232, i386: 256 }, [fd, eventsOut, int, int], wait, o),
  row("epoll_pwait", { x86_64: 281, i386: 319 }, [fd, eventsOut, int, int, pointer, size], pwait, o),
  row("epoll_pwait2", { x86_64: 441, i386: 441 }, [fd, eventsOut, int, structIn(timespec64), pointer, size], pwait2, o),
];
