/** Linux's own asynchronous I/O: io_setup, io_submit, io_getevents, io_cancel, io_destroy (fs/aio.c). */
import { MemoryFault } from "../../../emulator/errors.ts";
import { type AioContext, AioContexts } from "../aio/context.ts";
import { IoCommand, iocb, Submission } from "../aio/request.ts";
import { EVENT } from "../aio/ring.ts";
import { Errno } from "../errno.ts";
import { type Kind, long, pointer, uint, word } from "../kinds/kinds.ts";
import { addressText, arrayText, fills, pointsTo } from "../kinds/memory.ts";
import { address, i64, struct, structIn, timespec, timespec64, u64, ulong, valueOut } from "../kinds/structs.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { type TimeLayout, toNs } from "../timespec.ts";
import { fileCall } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { Wait } from "../wait.ts";
import { choose, overLimit, unmap } from "./memory.ts";
import { masked } from "./poll.ts";

/** Places for each processor, of which there is one, whatever is asked for; and twice as many as are asked for. */
const PLACES_PER_CPU = 4;
const MOST_EVENTS = 0x1000_0000 / EVENT;
const KIOCB_KEY = 0;
const PROT_READ_WRITE = 3;

/** The context by the address of its ring, which holds its number (lookup_ioctx). */
function contextAt(task: Task, at: number): AioContext {
  const { aio } = task.process.mm;
  let context: AioContext | undefined;
  try {
    context = aio?.find(task.memory.u32(at), at);
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
  }
  return context ?? fail(Errno.EINVAL, "no context of asynchronous I/O");
}

const setup = fileCall((task, asked, at) => {
  const { kernel, process, memory, abi } = task;
  const { mm } = process;
  if (ulong.read(memory, at, abi) !== 0 || asked === 0) fail(Errno.EINVAL, "a context is there already, or no events");
  const places = (Math.max(asked, PLACES_PER_CPU) * 2) >>> 0;
  if (places > MOST_EVENTS) fail(Errno.EINVAL, "more events than there are places for");
  const most = kernel.settings.get("fs.aio-max-nr");
  if (places === 0 || kernel.aioTotal.requests + asked > most) fail(Errno.EAGAIN, "fs.aio-max-nr is reached");
  mm.aio ??= new AioContexts(kernel.aioTotal);
  const context = mm.aio.make(kernel.machine.physical, asked, places + 2, kernel.newSharedId());
  const { bytes, pages, whole } = context.ring;
  const where = whole && !overLimit(task, bytes) ? choose(mm, 0, bytes, false) : -1;
  if (where < 0) {
    mm.aio.remove(context);
    return task.fail(Errno.ENOMEM, "no room for the ring");
  }
  process.space.map(where, bytes, PROT_READ_WRITE, { backing: pages, offset: 0, shared: true });
  mm.aio.place(context, where);
  try {
    address.write(memory, at, where, abi);
  } catch (error) {
    mm.aio.remove(context);
    unmap(mm, where, bytes);
    throw error;
  }
  return 0;
});

const destroy = fileCall((task, at) => {
  const context = contextAt(task, at);
  const { mm } = task.process;
  const { bytes } = context.ring;
  mm.aio?.remove(context);
  unmap(mm, at, bytes);
  return 0;
});

const submit = fileCall((task, at, count, list) => {
  if (count < 0) fail(Errno.EINVAL, "a negative count");
  const context = contextAt(task, at);
  return new Submission(task, context, Math.min(count, context.ring.size), list).run();
});

const cancel = fileCall((task, at, request) => {
  const { memory, abi } = task;
  if (memory.u32(request + iocb.offsetOf("aio_key", abi)) !== KIOCB_KEY) fail(Errno.EINVAL, "no request that was made");
  const poll = contextAt(task, at).polls.get(request);
  if (poll === undefined) return task.fail(Errno.EINVAL, "nothing that can be called off");
  poll.cancel();
  return task.fail(Errno.EINPROGRESS, "its event tells how it ended");
});

/** What io_getevents asks for. */
interface Reaping {
  readonly least: number;
  readonly most: number;
  readonly into: number;
  /** ns; undefined for ever. */
  readonly timeout: number | undefined;
}

/** @param over runs with the result */
function reap(task: Task, context: AioContext, asked: Reaping, over: (result: number) => void): Result {
  const { least, most, into, timeout } = asked;
  if (least > most || least < 0) fail(Errno.EINVAL, "fewer events than the least");
  const { memory, kernel } = task;
  const { ring } = context;
  let got = 0;
  const collect = (): number | undefined => {
    if (context.dead) return got > 0 ? got : -Errno.EINVAL;
    for (; got < most; got++) {
      const event = ring.peek();
      if (event === undefined) break;
      if (memory.writeSome(into + got * EVENT, event) < EVENT) return got > 0 ? got : -Errno.EFAULT;
      ring.take();
    }
    return got >= least ? got : undefined;
  };
  const done = (result: number): number => {
    over(result);
    return result;
  };
  const first = collect();
  if (first !== undefined) return done(first);
  if (timeout === 0) return done(got);
  return new Wait({
    queues: [context.completed],
    attempt: () => {
      const result = collect();
      return result === undefined ? undefined : done(result);
    },
    ...(timeout !== undefined && { deadline: kernel.clock.now() + timeout }),
    timeout: () => done(got),
    interrupted: () => done(got > 0 ? got : -Errno.EINTR),
  });
}

/** A negative span is none: the end that the kernel works out lies as far away as it can. */
function spanAt(task: Task, at: number, layout: TimeLayout): number | undefined {
  if (at === 0) return undefined;
  const span = toNs(layout.read(task.memory, at, task.abi));
  return span < 0 ? undefined : span;
}

const getevents = fileCall((task, at, least, most, into, time) => {
  const timeout = spanAt(task, time, timespec);
  return reap(task, contextAt(task, at), { least, most, into, timeout }, () => {});
});

/** `struct __aio_sigset`. */
const sigset = struct({ sigmask: address, sigsetsize: ulong });

interface MaskedReaping {
  readonly context: number;
  readonly least: number;
  readonly most: number;
  readonly into: number;
  readonly time: number;
  readonly set: number;
}

function reapMasked(task: Task, given: MaskedReaping, layout: TimeLayout): Result {
  const { context, least, most, into, time, set } = given;
  const timeout = spanAt(task, time, layout);
  const { sigmask, sigsetsize } = set === 0 ? { sigmask: 0, sigsetsize: 0 } : sigset.read(task.memory, set, task.abi);
  return masked(task, sigmask, sigsetsize, (over) =>
    reap(task, contextAt(task, context), { least, most, into, timeout }, over),
  );
}

const pgetevents = fileCall((task, context, least, most, into, time, set) =>
  reapMasked(task, { context, least, most, into, time, set }, timespec),
);
const pgetevents64 = fileCall((task, context, least, most, into, time, set) =>
  reapMasked(task, { context, least, most, into, time, set }, timespec64),
);

const commandNames: ReadonlyMap<number, string> = new Map(
  Object.entries(IoCommand).map(([name, value]) => [value, name]),
);

function requestText(task: Task, at: number): string {
  const { aio_lio_opcode, aio_fildes, aio_buf, aio_nbytes, aio_offset } = iocb.read(task.memory, at, task.abi);
  const command = commandNames.get(aio_lio_opcode) ?? `${aio_lio_opcode} /* IOCB_CMD_??? */`;
  const where = `aio_buf=${addressText(aio_buf)}, aio_nbytes=${aio_nbytes}, aio_offset=${aio_offset}`;
  return `{aio_lio_opcode=${command}, aio_fildes=${aio_fildes}, ${where}}`;
}

const requestIn: Kind = pointsTo((at, { task }) => requestText(task, at));
const requestsIn: Kind = pointsTo((at, { task, abi, args }) =>
  arrayText(at, Math.max(args[1] ?? 0, 0), abi.word, (slot) => {
    const request = address.read(task.memory, slot, abi);
    return request === 0 ? "NULL" : requestText(task, request);
  }),
);
const wideEvent = struct({ data: u64, obj: u64, res: i64, res2: i64 });
const eventsOut: Kind = fills((at, { task, abi, result }) =>
  arrayText(at, result ?? 0, EVENT, (event) => wideEvent.show(wideEvent.read(task.memory, event, abi))),
);
const sigsetIn = structIn(sigset);

const o = { family: "file" } as const;
const get = [word, long, long, eventsOut] as const;

export const aioCalls: readonly Row[] = [
  row("io_setup", { x86_64: 206, i386: 245 }, [uint, valueOut(address)], setup, o),
  row("io_destroy", { x86_64: 207, i386: 246 }, [word], destroy, o),
  row("io_getevents", { x86_64: 208, i386: 247 }, [...get, structIn(timespec)], getevents, o),
  row("io_submit", { x86_64: 209, i386: 248 }, [word, long, requestsIn], submit, {
    ...o,
    support: "what a file answers is there at once",
  }),
  row("io_cancel", { x86_64: 210, i386: 249 }, [word, requestIn, pointer], cancel, o),
  row("io_pgetevents", { x86_64: 333, i386: 385 }, [...get, structIn(timespec), sigsetIn], pgetevents, o),
  row("io_pgetevents_time64", { i386: 416 }, [...get, structIn(timespec64), sigsetIn], pgetevents64, o),
];
