/** Waiting for files: poll, ppoll, select, pselect6. */
import { Errno } from "../errno.ts";
import { int, type Kind, pointer, size, uint } from "../kinds/kinds.ts";
import { arrayText, pointsTo } from "../kinds/memory.ts";
import { structIn, timespec, timespec64, timeval } from "../kinds/structs.ts";
import { setBlocked } from "../signals/send.ts";
import { SignalSet } from "../signals/signal-set.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { fromNs, readSpan, SECOND, type TimeLayout } from "../timespec.ts";
import { descriptorLimit, fileCall } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI } from "../vfs/flags.ts";
import type { OpenFile } from "../vfs/open-file.ts";
import { Wait, type WaitQueue } from "../wait.ts";

/** What is asked of one descriptor. */
interface Interest {
  readonly file: OpenFile | undefined;
  readonly events: number;
}

/**
 * Waits until `check` is content. It runs again whenever one of the files changes.
 * @param check gives the result, 0 to go on waiting
 * @param given timeout in ns; undefined for ever
 * @param finish runs once, with the time that is left and the result
 */
function waitFor(
  task: Task,
  interests: readonly Interest[],
  check: () => number,
  given: number | undefined,
  finish: (left: number, result: number) => void,
): Result {
  const { clock, net } = task.kernel;
  const timeout = net.patience(given);
  const now = clock.now();
  const deadline = timeout === undefined ? undefined : now + timeout;
  const done = (result: number) => {
    finish(Math.max((deadline ?? 0) - clock.now(), 0), result);
    return result;
  };
  const first = check();
  if (first !== 0 || timeout === 0) return done(first);
  const files = interests.flatMap(({ file }) => file ?? []);
  const queues = new Set<WaitQueue>();
  for (const { readQueue, writeQueue } of files) {
    if (readQueue) queues.add(readQueue);
    if (writeQueue) queues.add(writeQueue);
  }
  for (const file of files) file.retain();
  return new Wait({
    queues: [...queues],
    host: files.some((file) => file.onHost),
    attempt: () => {
      const result = check();
      return result === 0 ? undefined : done(result);
    },
    ...(deadline !== undefined && { deadline }),
    timeout: () => done(0),
    // These calls are not restarted after a handler (signal(7)).
    interrupted: () => done(-Errno.EINTR),
    cleanup: () => {
      for (const file of files) file.release();
    },
  });
}

/** `struct pollfd`: fd, events, revents. */
const POLLFD = 8;

function pollOn(
  task: Task,
  address: number,
  count: number,
  timeout: number | undefined,
  finish: (left: number, result: number) => void,
): Result {
  if (count > descriptorLimit(task)) fail(Errno.EINVAL, "more descriptors than RLIMIT_NOFILE");
  const { memory, process } = task;
  const interests: Interest[] = [];
  const numbers: number[] = [];
  for (let index = 0; index < count; index++) {
    const at = address + index * POLLFD;
    const descriptor = memory.i32(at);
    numbers.push(descriptor);
    interests.push({ file: descriptor < 0 ? undefined : process.files.get(descriptor), events: memory.u16(at + 4) });
  }
  const check = () => {
    let ready = 0;
    for (const [index, { file, events }] of interests.entries()) {
      const descriptor = numbers[index] ?? -1;
      const found = file ? file.poll() & (events | POLLERR | POLLHUP) : descriptor < 0 ? 0 : POLLNVAL;
      memory.setU16(address + index * POLLFD + 6, found);
      if (found !== 0) ready++;
    }
    return ready;
  };
  return waitFor(task, interests, check, timeout, finish);
}

const poll = fileCall((task, address, count, ms) =>
  pollOn(task, address, count, ms < 0 ? undefined : ms * 1e6, () => {}),
);

const STICKY_TIMEOUTS = 0x0400_0000;
/** personality's STICKY_TIMEOUTS: what is left of a timeout is not told. */
const keepsTimeouts = (task: Task): boolean => (task.process.personality & STICKY_TIMEOUTS) !== 0;

/** ppoll and pselect6 tell how much time is left. */
function leftWriter(task: Task, address: number, layout: TimeLayout): (left: number) => void {
  return (left) => {
    if (address === 0 || keepsTimeouts(task)) return;
    const value = fromNs(left);
    layout.write(task.memory, address, value, task.abi);
  };
}

/**
 * Runs a wait under another signal mask (ppoll, pselect6, epoll_pwait). The old mask is back when the call is over; after a signal the
 * delivery puts it back, so that the handler may run first.
 * @param address of the mask; 0 leaves the mask alone
 */
export function masked(
  task: Task,
  address: number,
  bytes: number,
  start: (over: (result: number) => void) => Result,
): Result {
  if (address === 0) return start(() => {});
  if (bytes !== 8) fail(Errno.EINVAL, "a signal set has 8 bytes");
  const { memory, signals } = task;
  const mask = new SignalSet(memory.u32(address), memory.u32(address + 4));
  signals.saved = signals.blocked;
  setBlocked(task, mask);
  const restore = () => {
    const { saved } = signals;
    if (saved === undefined) return;
    signals.saved = undefined;
    setBlocked(task, saved);
  };
  try {
    return start((result) => {
      if (result !== -Errno.EINTR) restore();
    });
  } catch (error) {
    restore();
    throw error;
  }
}

interface PollRequest {
  readonly fds: number;
  readonly count: number;
  readonly time: number;
  readonly mask: number;
  readonly bytes: number;
}

function ppollOn(task: Task, { fds, count, time, mask, bytes }: PollRequest, layout: TimeLayout): Result {
  const timeout = readSpan(task, time, layout);
  const store = leftWriter(task, time, layout);
  return masked(task, mask, bytes, (over) =>
    pollOn(task, fds, count, timeout, (left, result) => {
      store(left);
      over(result);
    }),
  );
}

const ppoll = fileCall((task, fds, count, time, mask, bytes) =>
  ppollOn(task, { fds, count, time, mask, bytes }, timespec),
);
const ppoll64 = fileCall((task, fds, count, time, mask, bytes) =>
  ppollOn(task, { fds, count, time, mask, bytes }, timespec64),
);

/** What the three sets of select mean in poll's terms (linux/fs/select.c). */
const SETS = [POLLIN | 0x40 | POLLHUP | POLLERR, POLLOUT | 0x100 | POLLERR, POLLPRI] as const;

function selectOn(
  task: Task,
  count: number,
  addresses: readonly [number, number, number],
  timeout: number | undefined,
  finish: (left: number, result: number) => void,
): Result {
  if (count < 0) fail(Errno.EINVAL, "a negative count");
  const { memory, process, abi } = task;
  const limited = Math.min(count, Math.max(process.files.length, 64));
  // Sets are arrays of longs.
  const bytes = Math.ceil(limited / (abi.word * 8)) * abi.word;
  const asked = addresses.map((address) => (address === 0 ? undefined : memory.bytes(address, bytes)));
  const interests: Interest[] = [];
  const watched: { fd: number; set: number }[] = [];
  for (let descriptor = 0; descriptor < limited; descriptor++) {
    for (const [set, bits] of asked.entries()) {
      if (!bits || !((bits[descriptor >> 3] ?? 0) & (1 << (descriptor & 7)))) continue;
      const file = process.files.get(descriptor) ?? fail(Errno.EBADF, `descriptor ${descriptor} is not open`);
      interests.push({ file, events: SETS[set] ?? 0 });
      watched.push({ fd: descriptor, set });
    }
  }
  const store = (results: readonly (Uint8Array | undefined)[]) => {
    for (const [set, bits] of results.entries()) if (bits) memory.write(addresses[set] ?? 0, bits);
  };
  const check = () => {
    const results = asked.map((bits) => bits && new Uint8Array(bytes));
    let ready = 0;
    for (const [index, { file, events }] of interests.entries()) {
      const at = watched[index];
      if (!at || !file || !(file.poll() & events)) continue;
      const bits = results[at.set];
      if (bits) bits[at.fd >> 3] = (bits[at.fd >> 3] ?? 0) | (1 << (at.fd & 7));
      ready++;
    }
    if (ready > 0) store(results);
    return ready;
  };
  return waitFor(task, interests, check, timeout, (left, result) => {
    finish(left, result);
    // At the deadline all sets are empty.
    if (result === 0) store(asked.map((bits) => bits && new Uint8Array(bytes)));
  });
}

const select = fileCall((task, count, reads, writes, excepts, time) => {
  let timeout: number | undefined;
  if (time !== 0) {
    const { tv_sec, tv_usec } = timeval.read(task.memory, time, task.abi);
    if (tv_sec < 0 || tv_usec < 0) fail(Errno.EINVAL, "a negative time");
    timeout = tv_sec * SECOND + tv_usec * 1000;
  }
  return selectOn(task, count, [reads, writes, excepts], timeout, (left) => {
    if (time === 0 || keepsTimeouts(task)) return;
    const value = { tv_sec: Math.floor(left / SECOND), tv_usec: Math.floor((left % SECOND) / 1000) };
    timeval.write(task.memory, time, value, task.abi);
  });
});

/** i386's oldest select passes its arguments in memory. */
const oldSelect = fileCall((task, address) => {
  const { memory } = task;
  const [count, reads, writes, excepts, time] = [0, 4, 8, 12, 16].map((offset) => memory.u32(address + offset));
  return select(task, (count ?? 0) | 0, reads ?? 0, writes ?? 0, excepts ?? 0, time ?? 0);
});

function pselectOn(
  task: Task,
  count: number,
  sets: readonly [number, number, number],
  time: number,
  sigset: number,
  layout: TimeLayout,
): Result {
  const { memory, abi } = task;
  const word = (at: number) => (abi.word === 8 ? memory.num64(at) : memory.u32(at));
  const [mask, bytes] = sigset === 0 ? [0, 0] : [word(sigset), word(sigset + abi.word)];
  const timeout = readSpan(task, time, layout);
  const store = leftWriter(task, time, layout);
  return masked(task, mask, bytes, (over) =>
    selectOn(task, count, sets, timeout, (left, result) => {
      store(left);
      over(result);
    }),
  );
}

const pselect6 = fileCall((task, count, reads, writes, excepts, time, sigset) =>
  pselectOn(task, count, [reads, writes, excepts], time, sigset, timespec),
);
const pselect6time64 = fileCall((task, count, reads, writes, excepts, time, sigset) =>
  pselectOn(task, count, [reads, writes, excepts], time, sigset, timespec64),
);

const EVENTS: readonly (readonly [string, number])[] = [
  ["POLLIN", POLLIN],
  ["POLLPRI", POLLPRI],
  ["POLLOUT", POLLOUT],
  ["POLLERR", POLLERR],
  ["POLLHUP", POLLHUP],
  ["POLLNVAL", POLLNVAL],
];

const pollfds: Kind = pointsTo((address, { task: { memory }, args }) =>
  arrayText(address, args[1] ?? 0, POLLFD, (at) => {
    const events = EVENTS.filter(([, bit]) => memory.u16(at + 4) & bit).map(([name]) => name);
    return `{fd=${memory.i32(at)}, events=${events.join("|") || "0"}}`;
  }),
);

const o = { family: "file" } as const;

export const pollCalls: readonly Row[] = [
  row("poll", { x86_64: 7, i386: 168 }, [pollfds, uint, int], poll, o),
  row("ppoll", { x86_64: 271, i386: 309 }, [pollfds, uint, structIn(timespec), pointer, size], ppoll, o),
  row("ppoll_time64", { i386: 414 }, [pollfds, uint, structIn(timespec64), pointer, size], ppoll64, o),
  row("select", { x86_64: 23 }, [int, pointer, pointer, pointer, structIn(timeval)], select, o),
  row("_newselect", { i386: 142 }, [int, pointer, pointer, pointer, structIn(timeval)], select, o),
  row("select", { i386: 82 }, [pointer], oldSelect, o),
  row(
    "pselect6",
    { x86_64: 270, i386: 308 },
    [int, pointer, pointer, pointer, structIn(timespec), pointer],
    pselect6,
    o,
  ),
  row(
    "pselect6_time64",
    { i386: 413 },
    [int, pointer, pointer, pointer, structIn(timespec64), pointer],
    pselect6time64,
    o,
  ),
];
