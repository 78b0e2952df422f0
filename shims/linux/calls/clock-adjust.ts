/** adjtimex and clock_adjtime: the state of the clock, which no guest changes (kernel/time/ntp.c). */
import { realtimeAt } from "../clock.ts";
import { Errno } from "../errno.ts";
import { ClockId, clockId } from "../kinds/flags.ts";
import { array, i32, i64, long, shownAs, struct, structOut, u32 } from "../kinds/structs.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";

const ADJ_ADJTIME = 0x8000;
const ADJ_OFFSET_SINGLESHOT = 0x0001;
const ADJ_OFFSET_READONLY = 0x2000;
const STA_UNSYNC = 0x40;
/** The result while nothing keeps the clock right. */
const TIME_ERROR = 5;
/** NTP_PHASE_LIMIT in us, MAXFREQ in its unit, and a tick of USER_HZ in us. */
const WORST_ERROR = 16_000_000;
const TOLERANCE = 32_768_000;
const TICK = 10_000;
/** Clocks that are there and that nobody can adjust. */
const OTHERS: readonly number[] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11];

/** struct timex with the ABI's own `long`s, and struct __kernel_timex. */
function timexOf(word: typeof long | typeof i64) {
  return struct(
    {
      modes: u32,
      offset: word,
      freq: word,
      maxerror: word,
      esterror: word,
      status: shownAs(i32, (value) => (value === STA_UNSYNC ? "STA_UNSYNC" : String(value))),
      constant: word,
      precision: word,
      tolerance: word,
      time: struct({ tv_sec: word, tv_usec: word }),
      tick: word,
      ppsfreq: word,
      jitter: word,
      shift: i32,
      stabil: word,
      jitcnt: word,
      calcnt: word,
      errcnt: word,
      stbcnt: word,
      tai: i32,
      spare: array(i32, 11),
    },
    ["modes", "offset", "freq", "maxerror", "esterror", "status", "constant", "precision", "tolerance", "time", "tick"],
  );
}
const timex = timexOf(long);
const timex64 = timexOf(i64);

function adjust(layout: typeof timex | typeof timex64) {
  return (task: Task, at: number): number => {
    const { kernel, memory, abi } = task;
    const { modes } = layout.read(memory, at, abi);
    if ((modes & ADJ_ADJTIME) !== 0 && (modes & ADJ_OFFSET_SINGLESHOT) === 0)
      return task.fail(Errno.EINVAL, "ADJ_ADJTIME stands for a single shot");
    const reads = modes === 0 || ((modes & ADJ_ADJTIME) !== 0 && (modes & ADJ_OFFSET_READONLY) !== 0);
    if (!reads) return task.fail(Errno.EPERM, "the run's clock is not the guest's to set");
    const { sec, nsec } = realtimeAt(kernel.clock, kernel.clock.now());
    const value = {
      modes,
      offset: 0,
      freq: 0,
      maxerror: WORST_ERROR,
      esterror: WORST_ERROR,
      status: STA_UNSYNC,
      constant: 2,
      precision: 1,
      tolerance: TOLERANCE,
      time: { tv_sec: sec, tv_usec: Math.floor(nsec / 1000) },
      tick: TICK,
      ppsfreq: 0,
      jitter: 0,
      shift: 0,
      stabil: 0,
      jitcnt: 0,
      calcnt: 0,
      errcnt: 0,
      stbcnt: 0,
      tai: 0,
      spare: new Array<number>(11).fill(0),
    };
    layout.write(memory, at, value, abi);
    return TIME_ERROR;
  };
}

function clockAdjust(layout: typeof timex | typeof timex64) {
  const ofRealtime = adjust(layout);
  return (task: Task, clock: number, at: number): number => {
    if (clock === ClockId.CLOCK_REALTIME) return ofRealtime(task, at);
    layout.read(task.memory, at, task.abi);
    if (clock < 0 || OTHERS.includes(clock)) return task.fail(Errno.EOPNOTSUPP, "nobody can adjust this clock");
    return task.fail(Errno.EINVAL, `there is no clock ${clock}`);
  };
}

const o = { family: "time", support: "read-only: EPERM for every user who would change the clock" } as const;
export const clockAdjustCalls: readonly Row[] = [
  row("adjtimex", { x86_64: 159, i386: 124 }, [structOut(timex)], adjust(timex), o),
  row("clock_adjtime", { x86_64: 305, i386: 343 }, [clockId, structOut(timex)], clockAdjust(timex), o),
  row("clock_adjtime64", { i386: 405 }, [clockId, structOut(timex64)], clockAdjust(timex64), o),
];
