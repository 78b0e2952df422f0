/** POSIX message queues (ipc/mqueue.c). */

import { monotonicOf } from "../clock.ts";
import { Errno } from "../errno.ts";
import { MQ_PRIO_MAX, PosixQueueFile, type Registration } from "../ipc/posix-queues.ts";
import { openFlags } from "../kinds/files.ts";
import { fd, type Kind, octal, pointer, size, uint } from "../kinds/kinds.ts";
import { bufferIn, bufferOut, path } from "../kinds/memory.ts";
import { array, long, struct, structIn, structOut, timespec, timespec64, u32, valueOut } from "../kinds/structs.ts";
import { NetlinkSocket } from "../net/netlink.ts";
import { Cap } from "../process/capabilities.ts";
import { Resource } from "../process/limits.ts";
import { Notify, NSIG } from "../signals/numbers.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { readTime, type TimeLayout } from "../timespec.ts";
import { demandDescriptors, fileCall, install, openFileOf } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { NAME_MAX, O_ACCMODE, O_CREAT, O_EXCL, O_NONBLOCK, O_RDWR, O_WRONLY, R_OK, W_OK } from "../vfs/flags.ts";
import { demand, owns } from "../vfs/inode.ts";
import { Wait } from "../wait.ts";

/** The limits of a privileged process (linux/ipc_namespace.h). */
const HARD_MESSAGES = 65_536;
const HARD_SIZE = 16 * 2 ** 20;
/** sizeof(struct msg_msg) and of the tree's node, for RLIMIT_MSGQUEUE. */
const MESSAGE_OVERHEAD = 48;
const COOKIE_BYTES = 32;

const mqAttr = struct(
  { mq_flags: long, mq_maxmsg: long, mq_msgsize: long, mq_curmsgs: long, reserved: array(long, 4) },
  ["mq_flags", "mq_maxmsg", "mq_msgsize", "mq_curmsgs"],
);

function nameOf(task: Task, at: number): string {
  const name = task.memory.cstring(at, 4096) ?? fail(Errno.ENAMETOOLONG, "a name without end");
  if (name === "") fail(Errno.ENOENT, "the name is empty");
  if (name.includes("/") || name === "." || name === "..") fail(Errno.EACCES, "a name has no slash but the first");
  if (name.length > NAME_MAX) fail(Errno.ENAMETOOLONG, "more than 255 bytes");
  return name;
}

/** Size of a new queue: EINVAL for what may not be, EMFILE beyond RLIMIT_MSGQUEUE. */
function sizes(task: Task, at: number): { messages: number; bytes: number; needed: number } {
  const { cred, limits } = task.process;
  const { settings } = task.kernel;
  const [maxMessages, maxSize] = [settings.get("fs.mqueue.msg_max"), settings.get("fs.mqueue.msgsize_max")];
  let messages = Math.min(settings.get("fs.mqueue.msg_default"), maxMessages);
  let bytes = Math.min(settings.get("fs.mqueue.msgsize_default"), maxSize);
  if (at !== 0) {
    const attributes = mqAttr.read(task.memory, at, task.abi);
    messages = attributes.mq_maxmsg;
    bytes = attributes.mq_msgsize;
    if (messages <= 0 || bytes <= 0) fail(Errno.EINVAL, "mq_maxmsg and mq_msgsize are positive");
    const [most, largest] = cred.capable(Cap.CAP_SYS_RESOURCE) ? [HARD_MESSAGES, HARD_SIZE] : [maxMessages, maxSize];
    if (messages > most || bytes > largest) fail(Errno.EINVAL, "more than fs.mqueue allows");
  }
  const needed = messages * (bytes + MESSAGE_OVERHEAD + 8);
  const taken = task.kernel.ipc.posixQueues.bytes.of(cred.ruid);
  if (taken + needed > limits.soft(Resource.RLIMIT_MSGQUEUE)) fail(Errno.EMFILE, "RLIMIT_MSGQUEUE is reached");
  return { messages, bytes, needed };
}

const open = fileCall((task, at, flags, mode, attributes) => {
  const { posixQueues } = task.kernel.ipc;
  const { cred, fs } = task.process;
  const name = nameOf(task, at);
  if (attributes !== 0) mqAttr.read(task.memory, attributes, task.abi);
  demandDescriptors(task);
  let queue = posixQueues.find(name);
  if (queue === undefined) {
    if (!(flags & O_CREAT)) fail(Errno.ENOENT, "no queue has that name");
    const { messages, bytes, needed } = sizes(task, attributes);
    queue = posixQueues.make(name, mode & 0o777 & ~fs.umask, cred, messages, bytes, cred.ruid, needed);
    if (queue === undefined) return task.fail(Errno.ENOSPC, "fs.mqueue.queues_max is reached");
  } else {
    if (flags & O_CREAT && flags & O_EXCL) fail(Errno.EEXIST, "the queue is there");
    const access = flags & O_ACCMODE;
    if (access === O_ACCMODE) fail(Errno.EINVAL, "no access mode");
    demand(queue.inode, cred, access === O_WRONLY ? W_OK : access === O_RDWR ? R_OK | W_OK : R_OK);
  }
  const file = posixQueues.open(name, queue, flags & (O_ACCMODE | O_NONBLOCK));
  // Always closed on exec, whatever the flags say.
  return install(task, file, true);
});

const unlink = fileCall((task, at) => {
  const { posixQueues } = task.kernel.ipc;
  const name = nameOf(task, at);
  const queue = posixQueues.find(name) ?? fail(Errno.ENOENT, "no queue has that name");
  if (!owns(queue.inode, task.process.cred)) fail(Errno.EPERM, "not the owner's");
  posixQueues.remove(name);
  return 0;
});

function queueFile(task: Task, descriptor: number): PosixQueueFile {
  const file = openFileOf(task, descriptor);
  return file instanceof PosixQueueFile ? file : fail(Errno.EBADF, `descriptor ${descriptor} is no message queue`);
}

/** The monotonic time at which an absolute real time comes; undefined for a null pointer. */
function deadlineAt(task: Task, at: number, layout: TimeLayout): number | undefined {
  if (at === 0) return undefined;
  const { tv_sec, tv_nsec } = readTime(task, at, layout);
  return monotonicOf(task.kernel.clock, tv_sec, tv_nsec);
}

function timedsend(layout: TimeLayout) {
  return fileCall((task, descriptor, at, length, priority, timeAt) => {
    if (priority >= MQ_PRIO_MAX) fail(Errno.EINVAL, "priorities are below 32768");
    const deadline = deadlineAt(task, timeAt, layout);
    const file = queueFile(task, descriptor);
    if (!file.writable) fail(Errno.EBADF, "not open for writing");
    const { queue } = file;
    if (length > queue.messageSize) fail(Errno.EMSGSIZE, `messages have at most ${queue.messageSize} bytes`);
    const text = task.memory.bytes(at, length).slice();
    const first = queue.send(text, priority, task.process);
    if (first !== -Errno.EAGAIN || file.flags & O_NONBLOCK) return first;
    file.retain();
    return new Wait({
      queues: [queue.left],
      attempt: () => {
        const result = queue.send(text, priority, task.process);
        return result === -Errno.EAGAIN ? undefined : result;
      },
      ...(deadline !== undefined && { deadline }),
      timeout: () => -Errno.ETIMEDOUT,
      cleanup: () => file.release(),
    });
  });
}

function timedreceive(layout: TimeLayout) {
  return fileCall((task, descriptor, at, length, priorityAt, timeAt): Result => {
    const deadline = deadlineAt(task, timeAt, layout);
    const { memory } = task;
    const file = queueFile(task, descriptor);
    if (!file.readable) fail(Errno.EBADF, "not open for reading");
    const { queue } = file;
    if (length < queue.messageSize) fail(Errno.EMSGSIZE, `the buffer needs ${queue.messageSize} bytes`);
    const attempt = (): number | undefined => {
      const message = queue.receive();
      if (message === undefined) return undefined;
      if (priorityAt !== 0) u32.write(memory, priorityAt, message.priority, task.abi);
      memory.write(at, message.text);
      return message.text.length;
    };
    const first = attempt();
    if (first !== undefined) return first;
    if (file.flags & O_NONBLOCK) return task.fail(Errno.EAGAIN, "the queue is empty");
    file.retain();
    queue.receivers++;
    return new Wait({
      queues: [queue.arrived],
      attempt,
      ...(deadline !== undefined && { deadline }),
      timeout: () => -Errno.ETIMEDOUT,
      cleanup: () => {
        queue.receivers--;
        file.release();
      },
    });
  });
}

/** `struct sigevent`: value, signal, kind; for SIGEV_THREAD the value points to the cookie and the signal is a netlink socket. */
function readRegistration(task: Task, at: number): Registration {
  const { memory, abi, process } = task;
  const value = abi.word === 8 ? memory.u64(at) : BigInt(memory.u32(at));
  const signal = memory.i32(at + abi.word);
  const notify = memory.i32(at + abi.word + 4);
  switch (notify) {
    case Notify.SIGEV_NONE:
      return { process, kind: "none", signal, value };
    case Notify.SIGEV_SIGNAL:
      if (signal < 0 || signal > NSIG) fail(Errno.EINVAL, "no such signal");
      return { process, kind: "signal", signal, value };
    case Notify.SIGEV_THREAD: {
      const cookie = memory.bytes(Number(value), COOKIE_BYTES).slice();
      const socket = openFileOf(task, signal);
      if (!(socket instanceof NetlinkSocket)) return fail(Errno.EINVAL, "no netlink socket");
      return { process, kind: "thread", signal, value, socket, cookie };
    }
  }
  return fail(Errno.EINVAL, "no such kind of notification");
}

const notify = fileCall((task, descriptor, at) => {
  const wanted = at === 0 ? undefined : readRegistration(task, at);
  const { queue } = queueFile(task, descriptor);
  if (wanted === undefined) {
    if (queue.registration?.process === task.process) queue.unregister();
    return 0;
  }
  if (queue.registration !== undefined) fail(Errno.EBUSY, "somebody is registered");
  wanted.socket?.retain();
  queue.registration = wanted;
  return 0;
});

const getsetattr = fileCall((task, descriptor, from, to) => {
  const { memory, abi } = task;
  const wanted = from === 0 ? undefined : mqAttr.read(memory, from, abi).mq_flags;
  if (wanted !== undefined && wanted & ~O_NONBLOCK) fail(Errno.EINVAL, "only O_NONBLOCK can be changed");
  const file = queueFile(task, descriptor);
  const { queue } = file;
  const value = {
    mq_flags: file.flags & O_NONBLOCK,
    mq_maxmsg: queue.maxMessages,
    mq_msgsize: queue.messageSize,
    mq_curmsgs: queue.messages.length,
    reserved: [0, 0, 0, 0],
  };
  if (wanted !== undefined) file.flags = (file.flags & ~O_NONBLOCK) | wanted;
  if (to !== 0) mqAttr.write(memory, to, value, abi);
  return 0;
});

const attributesIn: Kind = structIn(mqAttr);
const o = { family: "ipc" } as const;

export const mqueueCalls: readonly Row[] = [
  row("mq_open", { x86_64: 240, i386: 277 }, [path, openFlags, octal, attributesIn], open, { ...o, returns: fd }),
  row("mq_unlink", { x86_64: 241, i386: 278 }, [path], unlink, o),
  row(
    "mq_timedsend",
    { x86_64: 242, i386: 279 },
    [fd, bufferIn(2), size, uint, structIn(timespec)],
    timedsend(timespec),
    o,
  ),
  row(
    "mq_timedsend_time64",
    { i386: 418 },
    [fd, bufferIn(2), size, uint, structIn(timespec64)],
    timedsend(timespec64),
    o,
  ),
  row(
    "mq_timedreceive",
    { x86_64: 243, i386: 280 },
    [fd, bufferOut, size, valueOut(u32), structIn(timespec)],
    timedreceive(timespec),
    o,
  ),
  row(
    "mq_timedreceive_time64",
    { i386: 419 },
    [fd, bufferOut, size, valueOut(u32), structIn(timespec64)],
    timedreceive(timespec64),
    o,
  ),
  row("mq_notify", { x86_64: 244, i386: 281 }, [fd, pointer], notify, o),
  row("mq_getsetattr", { x86_64: 245, i386: 282 }, [fd, attributesIn, structOut(mqAttr)], getsetattr, o),
];
