/** What io_submit is given, and how each kind of request is carried out (fs/aio.c). */
import { MemoryFault } from "../../../emulator/errors.ts";
import { Errno } from "../errno.ts";
import { address, i16, i32, i64, struct, u16, u32, u64 } from "../kinds/structs.ts";
import { ioPriorityRefusal } from "../process/io-priority.ts";
import type { Result } from "../table.ts";
import type { Task } from "../task.ts";
import { fail, VfsError } from "../vfs/error.ts";
import { EventFile } from "../vfs/event-file.ts";
import { POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM } from "../vfs/flags.ts";
import { DirectoryOpen, type OpenFile, PathOpen, RegularOpen } from "../vfs/open-file.ts";
import { Plain, type Span } from "../vfs/span.ts";
import { MAX_COUNT, RWF_APPEND, RWF_KNOWN, readInto, vectorOf, withinFlags, writeFrom } from "../vfs/transfer.ts";
import { Wait, WaitQueue } from "../wait.ts";
import type { AioContext } from "./context.ts";

/** uapi/linux/aio_abi.h. */
export const IoCommand = {
  IOCB_CMD_PREAD: 0,
  IOCB_CMD_PWRITE: 1,
  IOCB_CMD_FSYNC: 2,
  IOCB_CMD_FDSYNC: 3,
  IOCB_CMD_POLL: 5,
  IOCB_CMD_NOOP: 6,
  IOCB_CMD_PREADV: 7,
  IOCB_CMD_PWRITEV: 8,
} as const;
const IOCB_FLAG_RESFD = 1;
const IOCB_FLAG_IOPRIO = 2;

export const iocb = struct({
  aio_data_low: u32,
  aio_data_high: u32,
  aio_key: u32,
  aio_rw_flags: i32,
  aio_lio_opcode: u16,
  aio_reqprio: i16,
  aio_fildes: i32,
  aio_buf: u64,
  aio_nbytes: u64,
  aio_offset: i64,
  aio_reserved2: u64,
  aio_flags: u32,
  aio_resfd: i32,
});
type Iocb = ReturnType<typeof iocb.read>;

/** Restarting is nothing for a request: EINTR. */
function resultOf(result: number): number {
  return result <= -Errno.ERESTARTSYS && result >= -Errno.ERESTART_RESTARTBLOCK ? -Errno.EINTR : result;
}

/** One request that was taken on. */
class Request {
  readonly file: OpenFile;
  readonly #context: AioContext;
  readonly #given: Iocb;
  readonly #at: number;
  readonly #event: EventFile | undefined;

  constructor(context: AioContext, given: Iocb, at: number, file: OpenFile, event: EventFile | undefined) {
    this.#context = context;
    this.#given = given;
    this.#at = at;
    this.file = file;
    this.#event = event;
    file.retain();
    event?.retain();
  }

  complete(result: number): void {
    const { aio_data_low: low, aio_data_high: high } = this.#given;
    this.#context.complete({ low, high, request: this.#at, result: resultOf(result) });
    this.#event?.signal();
    this.drop();
  }

  drop(): void {
    this.file.release();
    this.#event?.release();
  }
}

function openFor(task: Task, given: Iocb): { file: OpenFile; event: EventFile | undefined } {
  const { files } = task.process;
  const file = files.get(given.aio_fildes);
  if (file === undefined || file instanceof PathOpen) return fail(Errno.EBADF, "the descriptor is not open");
  if (!(given.aio_flags & IOCB_FLAG_RESFD)) return { file, event: undefined };
  const event = files.get(given.aio_resfd) ?? fail(Errno.EBADF, "aio_resfd is not open");
  if (!(event instanceof EventFile)) return fail(Errno.EINVAL, "aio_resfd is no eventfd");
  return { file, event };
}

/** aio_prep_rw and aio_setup_rw: what is read or written. */
function spanOf(task: Task, given: Iocb, vectored: boolean): Span {
  const { aio_buf: at, aio_nbytes: count } = given;
  if (vectored) return vectorOf(task, at, count);
  if (at + count > task.process.space.end) fail(Errno.EFAULT, "the buffer leaves user space");
  return new Plain(task.memory, at, Math.min(count, MAX_COUNT));
}

function transfer(task: Task, given: Iocb, file: OpenFile, writes: boolean, vectored: boolean): Result {
  const { aio_rw_flags: flags, aio_offset: offset } = given;
  if (given.aio_flags & IOCB_FLAG_IOPRIO) {
    const refused = ioPriorityRefusal(task.process.cred, given.aio_reqprio & 0xffff);
    if (refused !== 0) fail(refused, "no priority that it may have");
  }
  if (flags & ~RWF_KNOWN) fail(Errno.EOPNOTSUPP, "unknown RWF_ flags");
  if (!writes && flags & RWF_APPEND) fail(Errno.EINVAL, "RWF_APPEND is for writing");
  if (!(writes ? file.writable : file.readable)) fail(Errno.EBADF, "not open for this");
  if (file instanceof DirectoryOpen) fail(Errno.EINVAL, "a directory is neither read nor written");
  const span = spanOf(task, given, vectored);
  if (offset < 0) fail(Errno.EINVAL, "a negative offset");
  const appends = (flags & RWF_APPEND) !== 0 && file instanceof RegularOpen;
  const position = appends ? file.file.size : file.seekable ? offset : undefined;
  return withinFlags(writes ? writeFrom(task, file, span, position) : readInto(task, file, span, position), flags);
}

function demandNothingElse(given: Iocb, buffer: boolean): void {
  const others = given.aio_offset !== 0 || given.aio_nbytes !== 0 || given.aio_rw_flags !== 0;
  if (others || (buffer && given.aio_buf !== 0)) fail(Errno.EINVAL, "fields are set that mean nothing");
}

/** IOCB_CMD_POLL: over when the file is ready, or when it is called off. */
function poll(context: AioContext, at: number, given: Iocb, request: Request): void {
  const { file } = request;
  const events = given.aio_buf | POLLERR | POLLHUP;
  const ready = (): number => file.poll() & events;
  const now = ready();
  if (now !== 0) {
    request.complete(now);
    return;
  }
  const queues = [file.readQueue, file.writeQueue].flatMap((queue) => queue ?? []);
  const wait = new Wait({ queues, attempt: () => undefined });
  const over = (result: number): void => {
    wait.end();
    context.polls.delete(at);
    request.complete(result);
  };
  context.polls.set(at, { cancel: () => over(ready()) });
  // The kernel hands on what the waker says, which is more than was asked for.
  const woken = events | (events & POLLIN ? POLLRDNORM : 0) | (events & POLLOUT ? POLLWRNORM : 0);
  wait.begin(() => {
    if (ready() !== 0) over(file.poll() & woken);
  });
}

/**
 * io_submit_one: takes a request on. What the file answers at once is over then.
 * @returns a wait where carrying it out has to wait, and what to do with its result; undefined when the call goes on
 */
function start(task: Task, context: AioContext, at: number): { wait: Wait; request: Request } | undefined {
  const given = iocb.read(task.memory, at, task.abi);
  if (given.aio_reserved2 !== 0) fail(Errno.EINVAL, "aio_reserved2 is set");
  if (given.aio_nbytes >= 2 ** 63) fail(Errno.EINVAL, "a negative length");
  if (!context.begin()) fail(Errno.EAGAIN, "there are as many requests as the ring has places");
  let request: Request | undefined;
  try {
    const { file, event } = openFor(task, given);
    task.memory.setU32(at + iocb.offsetOf("aio_key", task.abi), 0);
    request = new Request(context, given, at, file, event);
    const result = carryOut(task, context, at, given, request);
    if (result instanceof Wait) return { wait: result, request };
    if (typeof result === "number") request.complete(result);
    return undefined;
  } catch (error) {
    context.forget();
    request?.drop();
    throw error;
  }
}

function carryOut(task: Task, context: AioContext, at: number, given: Iocb, request: Request): Result | undefined {
  const { file } = request;
  switch (given.aio_lio_opcode) {
    case IoCommand.IOCB_CMD_PREAD:
      return transfer(task, given, file, false, false);
    case IoCommand.IOCB_CMD_PWRITE:
      return transfer(task, given, file, true, false);
    case IoCommand.IOCB_CMD_PREADV:
      return transfer(task, given, file, false, true);
    case IoCommand.IOCB_CMD_PWRITEV:
      return transfer(task, given, file, true, true);
    case IoCommand.IOCB_CMD_FSYNC:
    case IoCommand.IOCB_CMD_FDSYNC:
      demandNothingElse(given, true);
      if (!(file instanceof RegularOpen) && !(file instanceof DirectoryOpen)) fail(Errno.EINVAL, "nothing to sync");
      if (file instanceof RegularOpen) file.file.sync();
      return 0;
    case IoCommand.IOCB_CMD_POLL:
      if (given.aio_buf > 0xffff) fail(Errno.EINVAL, "unknown events");
      demandNothingElse(given, false);
      poll(context, at, given, request);
      return undefined;
    default:
      return fail(Errno.EINVAL, "no IOCB_CMD_*");
  }
}

/** A call of io_submit: its requests one after another. One that has to wait holds up the call, as on Linux. */
export class Submission {
  readonly #task: Task;
  readonly #context: AioContext;
  readonly #count: number;
  readonly #list: number;
  readonly #woken = new WaitQueue();
  #done = 0;
  #blocked: { wait: Wait; request: Request } | undefined;

  constructor(task: Task, context: AioContext, count: number, list: number) {
    this.#task = task;
    this.#context = context;
    this.#count = count;
    this.#list = list;
  }

  run(): Result {
    const result = this.#goOn();
    if (result !== undefined) return result;
    return new Wait({
      queues: [this.#woken],
      host: this.#blocked?.wait.host ?? false,
      attempt: () => {
        const ended = this.#blocked?.wait.attempt();
        return ended === undefined ? undefined : this.#ended(ended);
      },
      interrupted: () => {
        const ended = this.#blocked?.wait.interrupted();
        return ended === undefined ? undefined : this.#ended(ended);
      },
      cleanup: () => this.#blocked?.wait.end(),
    });
  }

  /** The request that held up the call is over. */
  #ended(result: number): number | undefined {
    const blocked = this.#blocked;
    this.#blocked = undefined;
    blocked?.wait.end();
    blocked?.request.complete(result);
    this.#done++;
    return this.#goOn();
  }

  #goOn(): number | undefined {
    while (this.#done < this.#count) {
      const refused = this.#next();
      if (this.#blocked !== undefined) return undefined;
      if (refused !== 0) return this.#done > 0 ? this.#done : refused;
      this.#done++;
    }
    return this.#done;
  }

  /** @returns 0 or a negative errno */
  #next(): number {
    const task = this.#task;
    const { abi, memory } = task;
    try {
      const at = address.read(memory, this.#list + this.#done * abi.word, abi);
      this.#blocked = start(task, this.#context, at);
      this.#blocked?.wait.begin(() => this.#woken.wake());
      return 0;
    } catch (error) {
      if (error instanceof MemoryFault) return task.fail(Errno.EFAULT, "no request there");
      if (error instanceof VfsError) return task.fail(error.errno, error.why);
      throw error;
    }
  }
}
