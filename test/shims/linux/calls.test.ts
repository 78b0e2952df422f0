// Tables of what Linux 6.18 answered to the same arguments, uid 1000.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { i386, x86_64 } from "../../../shims/linux/abi.ts";
import { CallGuest, guests } from "./call-guest.ts";

const PAGE = 4096;

describe.each(guests)("calls on %s", (_, abi) => {
  let guest: CallGuest;
  beforeEach(() => {
    guest = new CallGuest({ abi });
  });
  afterEach(() => guest.close());

  it("clocks: which there are, their resolution, where they cannot be written", () => {
    const to = guest.buffer(16);
    const good = [-8, -7, -6, -4, -3, -2, 0, 1, 2, 3, 4, 5, 6, 7, 11];
    for (let clock = -10; clock < 14; clock++) {
      const answer = good.includes(clock) ? 0 : "EINVAL";
      expect(guest.outcome("clock_getres", clock, to), `clock_getres(${clock})`).toBe(answer);
      const coarse = [-8, -7, -4, -3, 5, 6].includes(clock);
      if (answer === 0) expect(guest.memory.u32(to + abi.word), `resolution of ${clock}`).toBe(coarse ? 4_000_000 : 1);
    }
    expect(guest.outcome("clock_getres", 1, 0)).toBe(0);
    expect(guest.outcome("clock_gettime", 1, 8)).toBe("EFAULT");
    expect(guest.outcome("clock_gettime", 99, 8)).toBe("EINVAL");
    expect(guest.outcome("clock_gettime", -1000, to)).toBe("EINVAL");
    expect(guest.outcome("clock_gettime", -6, to)).toBe(0);
  });

  it("clock_nanosleep", () => {
    const time = (sec: number, nsec: number): number =>
      abi === i386 ? guest.words(sec, nsec) : guest.words(sec, sec < 0 ? -1 : 0, nsec, 0);
    const zero = time(0, 0);
    const answers = [
      [3, "EOPNOTSUPP"],
      [2, 0],
      [4, "EOPNOTSUPP"],
      [5, "EOPNOTSUPP"],
      [11, 0],
      [8, "EINVAL"],
      [99, "EINVAL"],
    ] as const;
    for (const [clock, answer] of answers)
      expect(guest.outcome("clock_nanosleep", clock, 0, zero, 0), `clock ${clock}`).toBe(answer);
    expect(guest.outcome("clock_nanosleep", 1, 0, time(-1, 0), 0)).toBe("EINVAL");
    expect(guest.outcome("clock_nanosleep", 1, 0, time(0, 1e9), 0)).toBe("EINVAL");
    expect(guest.outcome("clock_nanosleep", 1, 0, 8, 0)).toBe("EFAULT");
    expect(guest.outcome("clock_nanosleep", 1, 1, zero, 0)).toBe(0);
    expect(guest.outcome("nanosleep", time(-1, 0), 0)).toBe("EINVAL");
    expect(guest.outcome("nanosleep", 8, 0)).toBe("EFAULT");
    expect(guest.outcome("nanosleep", zero, 8)).toBe(0);
  });

  it("gettimeofday, time, times, getrusage", () => {
    const to = guest.buffer(256);
    expect(guest.outcome("gettimeofday", 0, 0)).toBe(0);
    expect(guest.outcome("gettimeofday", 8, 0)).toBe("EFAULT");
    expect(guest.outcome("gettimeofday", to, 8)).toBe("EFAULT");
    expect(guest.call("time", to)).toBe(1_893_456_000);
    expect(guest.memory.u32(to)).toBe(1_893_456_000);
    expect(guest.outcome("time", 8)).toBe("EFAULT");
    expect(guest.call("times", 0)).toBe(10_000);
    expect(guest.outcome("times", 8)).toBe("EFAULT");
    expect(guest.outcome("getrusage", 5, to)).toBe("EINVAL");
    expect(guest.outcome("getrusage", -2, to)).toBe("EINVAL");
    expect(guest.outcome("getrusage", 1, 8)).toBe("EFAULT");
    expect(guest.outcome("getrusage", -1, to)).toBe(0);
    expect(guest.outcome("settimeofday", to, 0)).toBe("EPERM");
    expect(guest.outcome("clock_settime", 1, to)).toBe("EINVAL");
    expect(guest.outcome("clock_settime", 0, 8)).toBe("EFAULT");
    expect(guest.outcome("clock_settime", 0, to)).toBe("EPERM");
  });

  it("uname, sysinfo, getrandom", () => {
    const to = guest.buffer(512);
    expect(guest.outcome("uname", 8)).toBe("EFAULT");
    expect(guest.outcome("uname", to)).toBe(0);
    expect(guest.memory.cstring(to, 65)).toBe("Linux");
    expect(guest.memory.cstring(to + 4 * 65, 65)).toBe("x86_64");
    expect(guest.call("personality", 8)).toBe(0);
    guest.call("uname", to);
    expect(guest.memory.cstring(to + 4 * 65, 65)).toBe("i686");
    expect(guest.call("personality", 0xffff_ffff)).toBe(8);
    expect(guest.outcome("sysinfo", 8)).toBe("EFAULT");
    expect(guest.outcome("sysinfo", to)).toBe(0);
    expect(guest.memory.u32(to)).toBe(100);
    expect(guest.outcome("sethostname", "x", 1)).toBe("EPERM");
    expect(guest.outcome("getrandom", to, 10, 8)).toBe("EINVAL");
    expect(guest.outcome("getrandom", to, 10, 6)).toBe("EINVAL");
    expect(guest.outcome("getrandom", 8, 10, 0)).toBe("EFAULT");
    expect(guest.outcome("getrandom", 8, 0, 0)).toBe(0);
    expect(guest.outcome("getrandom", to, 300, 1)).toBe(300);
  });

  it("getrandom fills up to the first bad page", () => {
    guest.process.space.map(0x900_0000, PAGE, 3);
    expect(guest.outcome("getrandom", 0x900_0000 + PAGE - 10, 100, 0)).toBe(10);
  });

  it("sched_*", () => {
    const word = abi.word;
    const mask = guest.words(1, 0);
    const none = guest.words(0, 0);
    const param = guest.words(0);
    const high = guest.words(1);
    const cases: [string, number[], number | string][] = [
      ["sched_yield", [], 0],
      ["sched_getaffinity", [0, 1, mask], "EINVAL"],
      ["sched_getaffinity", [0, 8, mask], word],
      ["sched_getaffinity", [999_999, 8, mask], "ESRCH"],
      ["sched_getaffinity", [0, 128, 8], "EFAULT"],
      ["sched_setaffinity", [0, 0, mask], "EINVAL"],
      ["sched_setaffinity", [0, 8, 8], "EFAULT"],
      ["sched_setaffinity", [0, 8, none], "EINVAL"],
      ["sched_setaffinity", [0, 8, mask], 0],
      ["sched_setaffinity", [999_999, 8, mask], "ESRCH"],
      ["sched_getscheduler", [0], 0],
      ["sched_getscheduler", [-1], "EINVAL"],
      ["sched_getscheduler", [999_999], "ESRCH"],
      ["sched_getparam", [0, 0], "EINVAL"],
      ["sched_getparam", [-1, param], "EINVAL"],
      ["sched_setscheduler", [0, 0, param], 0],
      ["sched_setscheduler", [0, 1, param], "EINVAL"],
      ["sched_setscheduler", [0, 1, high], "EPERM"],
      ["sched_setscheduler", [0, 99, param], "EINVAL"],
      ["sched_setscheduler", [0, -1, param], "EINVAL"],
      ["sched_setscheduler", [0, 3, param], 0],
      ["sched_getscheduler", [0], 3],
      ["sched_setparam", [0, param], 0],
      ["sched_getparam", [0, param], 0],
      ["sched_get_priority_max", [0], 0],
      ["sched_get_priority_max", [1], 99],
      ["sched_get_priority_min", [1], 1],
      ["sched_get_priority_max", [7], 0],
      ["sched_get_priority_max", [9], "EINVAL"],
      ["sched_rr_get_interval", [-1, mask], "EINVAL"],
      ["sched_rr_get_interval", [0, guest.buffer(16)], 0],
      ["sched_getattr", [0, guest.buffer(64), 48, 0], 0],
      ["sched_getattr", [0, guest.buffer(64), 4, 0], "EINVAL"],
      ["getcpu", [8, 0, 0], "EFAULT"],
      ["getcpu", [0, 0, 8], 0],
      ["membarrier", [0, 0], 0x3ff],
      ["membarrier", [1, 1], "EINVAL"],
      ["membarrier", [8, 0], "EPERM"],
      ["membarrier", [16, 0], 0],
      ["membarrier", [8, 0], 0],
    ];
    for (const [name, args, answer] of cases) expect(guest.outcome(name, ...args), `${name}(${args})`).toBe(answer);
  });

  it("priorities, limits, capabilities", () => {
    const to = guest.buffer(64);
    const pair = (a: number, b: number): number => guest.words(a, 0, b, 0);
    const header = guest.words(0x2008_0522, 0);
    const unknown = guest.words(0, 0);
    const cases: [string, (number | bigint)[], number | string][] = [
      ["getpriority", [0, 0], 20],
      ["getpriority", [3, 0], "EINVAL"],
      ["getpriority", [0, 999_999], "ESRCH"],
      ["setpriority", [0, 0, 5], 0],
      ["setpriority", [0, 0, -5], "EACCES"],
      ["getpriority", [0, 0], 15],
      ["prlimit64", [0, 16, 0, to], "EINVAL"],
      ["prlimit64", [0, 3, 0, 8], "EFAULT"],
      ["prlimit64", [0, 3, 8, 0], "EFAULT"],
      ["prlimit64", [0, 3, pair(100, 50), 0], "EINVAL"],
      ["prlimit64", [0, 7, guest.words(0, 0, 0, 1000), 0], "EPERM"],
      ["prlimit64", [999_999, 3, 0, to], "ESRCH"],
      ["prlimit64", [0, 7, pair(100, 200), to], 0],
      ["getrlimit", [99, to], "EINVAL"],
      ["getrlimit", [3, 8], "EFAULT"],
      ["capget", [header, 0], 0],
      ["capget", [header, to], 0],
      ["capget", [unknown, 0], 0],
      ["capget", [guest.words(0, 0), to], "EINVAL"],
      ["capset", [8, 0], "EFAULT"],
    ];
    for (const [name, args, answer] of cases) expect(guest.outcome(name, ...args), `${name}(${args})`).toBe(answer);
    expect(guest.memory.u32(unknown)).toBe(0x2008_0522);
    guest.call("prlimit64", 0, 7, 0, to);
    expect([guest.memory.u64(to), guest.memory.u64(to + 8)]).toEqual([100n, 200n]);
    guest.call("prlimit64", 0, 3, 0, to);
    expect([guest.memory.u64(to), guest.memory.u64(to + 8)]).toEqual([8_388_608n, 2n ** 64n - 1n]);
    guest.call("getrlimit", 3, to);
    if (abi === x86_64) expect(guest.memory.u64(to + 8)).toBe(2n ** 64n - 1n);
    else expect(guest.memory.u32(to + 4)).toBe(0x7fff_ffff);
    expect(guest.lines.filter((line) => line.startsWith("prlimit64")).at(-1)).toBe(
      "prlimit64(0, RLIMIT_STACK, NULL, {rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}) = 0",
    );
  });

  it("prctl", () => {
    const to = guest.buffer(32);
    const cases: [number[], number | string][] = [
      [[1, 99], "EINVAL"],
      [[1, 9], 0],
      [[2, to], 0],
      [[4, 2], "EINVAL"],
      [[4, 0], 0],
      [[3], 0],
      [[7], 0],
      [[8, 2], "EINVAL"],
      [[8, 1], 0],
      [[27], 16],
      [[13], 0],
      [[14, 1], "EINVAL"],
      [[15, 8], "EFAULT"],
      [[16, 8], "EFAULT"],
      [[21], 0],
      [[22, 9], "EINVAL"],
      [[23, 0], 1],
      [[23, 41], "EINVAL"],
      [[24, 0], "EPERM"],
      [[25, to], 0],
      [[26, 3], "EINVAL"],
      [[28, 1], "EPERM"],
      [[29, 1], 0],
      [[30], 1],
      [[35, 1], "EPERM"],
      [[36, 1], 0],
      [[37, to], 0],
      [[38, 0], "EINVAL"],
      [[38, 1, 1], "EINVAL"],
      [[38, 1], 0],
      [[39], 1],
      [[39, 1], "EINVAL"],
      [[40, to], 0],
      [[41, 1], 0],
      [[42], 1],
      [[47, 4], 0],
      [[57, 1], "EPERM"],
      [[99], "EINVAL"],
    ];
    for (const [args, answer] of cases) expect(guest.outcome("prctl", ...args), `prctl(${args})`).toBe(answer);
    expect(guest.outcome("prctl", 15, "a name that is too long")).toBe(0);
    expect(guest.task.comm).toBe("a name that is ");
    expect(guest.lines.at(-1)).toBe('prctl(PR_SET_NAME, "a name that is ", 0, 0, 0) = 0');
  });

  it("futex", () => {
    const at = guest.words(5, 7);
    const time = (sec: number, nsec: number): number =>
      abi === i386 ? guest.words(sec, nsec) : guest.words(sec, sec < 0 ? -1 : 0, nsec, 0);
    const zero = time(0, 0);
    const cases: [number[], number | string][] = [
      [[at, 0, 99], "EAGAIN"],
      [[at + 1, 0, 0, zero], "EINVAL"],
      [[8, 0, 0, zero], "EFAULT"],
      [[8, 1, 1], "EFAULT"],
      [[at, 1, 1], 0],
      [[8, 129, 1], 0],
      [[at + 1, 1, 1], "EINVAL"],
      [[at, 99, 1], "ENOSYS"],
      [[at, 9, 5, zero, 0, 0], "EINVAL"],
      [[at, 10, 1, 0, 0, 0], "EINVAL"],
      [[at, 0, 5, time(-1, 0)], "EINVAL"],
      [[at, 0, 5, time(0, 1e9)], "EINVAL"],
      [[at, 0, 5, 8], "EFAULT"],
      [[at, 3, 1, 1, at + 4], 0],
      [[at, 4, 1, 1, at + 4, 6], "EAGAIN"],
      [[at, 4, 1, 1, at + 4, 5], 0],
      [[at, 4, -1, 1, at + 4, 5], "EINVAL"],
      [[at, 5, 1, 1, at + 4, 0], 0],
      [[at, 5, 1, 1, 8, 0], "EFAULT"],
      [[at, 5, 1, 1, at + 4, 0x5000_0000], "ENOSYS"],
      [[at, 2, 1, 1], "ENOSYS"],
      [[at, 256, 5, zero], "ENOSYS"],
      [[at, 257, 0], "ENOSYS"],
      [[at, 9 | 256, 5, zero, 0, 1], "ETIMEDOUT"],
    ];
    for (const [args, answer] of cases) expect(guest.outcome("futex", ...args), `futex(${args})`).toBe(answer);
    // FUTEX_WAKE_OP has set the second word.
    expect(guest.memory.u32(at + 4)).toBe(0);
  });

  it("ids of one unprivileged user", () => {
    const to = guest.buffer(16);
    const { pid } = guest.process;
    const cases: [string, number[], number | string][] = [
      ["getpid", [], pid],
      ["gettid", [], pid],
      ["getppid", [], 1],
      ["getpgrp", [], pid],
      ["getpgid", [0], pid],
      ["getpgid", [999_999], "ESRCH"],
      ["getsid", [0], pid],
      ["setsid", [], "EPERM"],
      ["setpgid", [0, 0], "EPERM"],
      ["setpgid", [0, -1], "EINVAL"],
      ["getuid", [], 1000],
      ["geteuid", [], 1000],
      ["getgid", [], 1000],
      ["getegid", [], 1000],
      ["setuid", [0], "EPERM"],
      ["setuid", [1000], 0],
      ["setgid", [0], "EPERM"],
      ["setreuid", [0, 0], "EPERM"],
      ["setresuid", [-1, 1000, -1], 0],
      ["setresuid", [-1, 1, -1], "EPERM"],
      ["getresuid", [to, to + 4, 8], "EFAULT"],
      ["getgroups", [0, 0], 1],
      ["getgroups", [-1, to], "EINVAL"],
      ["getgroups", [5, to], 1],
      ["setgroups", [1, to], "EPERM"],
      ["setfsuid", [5], 1000],
      ["setfsuid", [1000], 1000],
    ];
    for (const [name, args, answer] of cases) expect(guest.outcome(name, ...args), `${name}(${args})`).toBe(answer);
  });

  it("root gives its rights up for good", () => {
    guest.close();
    guest = new CallGuest({ abi, uid: 0 });
    expect(guest.outcome("setresuid", -1, 1000, 0)).toBe(0);
    expect(guest.outcome("setuid", 0)).toBe(0);
    expect(guest.outcome("geteuid")).toBe(0);
    expect(guest.outcome("setuid", 1000)).toBe(0);
    expect(guest.outcome("setuid", 0)).toBe("EPERM");
  });
});
