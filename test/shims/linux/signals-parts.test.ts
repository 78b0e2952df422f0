// The parts under signals, one by one: sets, queues, and siginfo between the ABIs.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { i386, x86_64 } from "../../../shims/linux/abi.ts";
import { UserCounts } from "../../../shims/linux/process/user-counts.ts";
import { SA_KEPT, signalName } from "../../../shims/linux/signals/numbers.ts";
import { PendingSignals } from "../../../shims/linux/signals/pending.ts";
import { inheritSignals } from "../../../shims/linux/signals/port.ts";
import { SigInfo } from "../../../shims/linux/signals/siginfo.ts";
import { SignalSet } from "../../../shims/linux/signals/signal-set.ts";
import { ProcessSignals, TaskSignals } from "../../../shims/linux/signals/state.ts";

/** The same cases in every run. */
fc.configureGlobal({ seed: 1 });

const signals = fc.uniqueArray(fc.integer({ min: 1, max: 64 }));

describe("a signal set", () => {
  test("holds what was added, and its lowest comes first", () => {
    fc.assert(
      fc.property(signals, signals, (one, other) => {
        const set = SignalSet.of(...one);
        expect(set.signals()).toEqual([...one].sort((a, b) => a - b));
        expect(set.isEmpty).toBe(one.length === 0);
        const without = set.without(SignalSet.of(...other)).signals();
        expect(without).toEqual(set.signals().filter((signal) => !other.includes(signal)));
        expect(
          set
            .union(SignalSet.of(...other))
            .intersection(set)
            .signals(),
        ).toEqual(set.signals());
        expect(set.inverse().signals()).toHaveLength(64 - one.length);
        for (const signal of other) set.delete(signal);
        expect(set.signals()).toEqual(without);
      }),
    );
  });
});

describe("a queue of signals", () => {
  test("gives real-time signals back one by one, in order, and counts them for their user", () => {
    const counts = new UserCounts();
    const pending = new PendingSignals();
    for (const pid of [1, 2, 3]) pending.push(counts, 1000, SigInfo.sent(34, -1, pid, 0));
    expect(counts.of(1000)).toBe(3);
    expect([1, 2, 3].map(() => pending.take(counts, 34)?.info.pid)).toEqual([1, 2, 3]);
    expect([pending.set.isEmpty, counts.of(1000)]).toEqual([true, 0]);
  });

  test("a signal whose information found no room is still there once", () => {
    const counts = new UserCounts();
    const pending = new PendingSignals();
    pending.set.add(10);
    expect(pending.take(counts, 10)).toBeUndefined();
    expect(pending.set.isEmpty).toBe(true);
  });

  test("what is flushed tells its timer and is no longer counted", () => {
    const counts = new UserCounts();
    const pending = new PendingSignals();
    let flushed = 0;
    const timer = { delivered: () => 0, flushed: () => flushed++ };
    pending.push(counts, 7, SigInfo.sent(34, -2, 0, 0), timer);
    pending.push(counts, 7, SigInfo.sent(35, -1, 0, 0));
    pending.forget(counts, timer);
    expect([flushed, pending.set.signals(), counts.of(7)]).toEqual([1, [35], 1]);
    pending.clear(counts);
    expect([pending.set.isEmpty, counts.of(7)]).toEqual([true, 0]);
  });
});

describe("siginfo", () => {
  const words = (info: SigInfo, abi: typeof i386): number[] => {
    const view = new DataView(info.image(abi).buffer);
    return Array.from({ length: 12 }, (_, index) => view.getInt32(4 * index, true));
  };

  test("lies on each ABI as its headers have it", () => {
    const queued = SigInfo.sent(34, -1, 5, 6);
    queued.value = 0x1_0000_0007n;
    expect(words(queued, x86_64).slice(0, 8)).toEqual([34, 0, -1, 0, 5, 6, 7, 1]);
    expect(words(queued, i386).slice(0, 8)).toEqual([34, 0, -1, 5, 6, 7, 0, 0]);
    const fault = SigInfo.fault(11, 1, 0x7fff_1234_5678n);
    expect(words(fault, x86_64).slice(0, 6)).toEqual([11, 0, 1, 0, 0x12345678, 0x7fff]);
    expect(words(fault, i386).slice(0, 6)).toEqual([11, 0, 1, 0x12345678, 0, 0]);
    const child = SigInfo.child({ signal: 17, code: 1, pid: 8, uid: 9, status: 3, utime: 4, stime: 5 });
    expect(words(child, x86_64)).toEqual([17, 0, 1, 0, 8, 9, 3, 0, 4, 0, 5, 0]);
    expect(words(child, i386).slice(0, 9)).toEqual([17, 0, 1, 8, 9, 3, 4, 5, 0]);
  });
});

test("names and flags", () => {
  expect([1, 31, 32, 33, 64, 65].map(signalName)).toEqual([
    "SIGHUP",
    "SIGSYS",
    "SIGRTMIN",
    "SIGRT_1",
    "SIGRT_32",
    "65",
  ]);
  expect(SA_KEPT.toString(16)).toBe("dc000807");
});

describe("a task made by clone", () => {
  const task = (process = { signals: new ProcessSignals() }) => ({ signals: new TaskSignals(), process });
  const none = { shareHandlers: false, clearHandlers: false, dropStack: false };
  const handler = { handler: 0x1000, flags: 0, restorer: 0, mask: new SignalSet(), abi: x86_64 };

  test("has its parent's mask, stack and handlers, and nothing pending", () => {
    const parent = task();
    parent.signals.blocked = SignalSet.of(3);
    parent.signals.alt.set({ start: 4096, size: 8192, flags: 0 });
    parent.signals.pending.push(new UserCounts(), 0, SigInfo.sent(10, 0, 1, 1));
    parent.process.signals.hand.set(10, handler);
    parent.process.signals.hand.set(12, { ...handler, handler: 1 });
    const child = task();
    inheritSignals(child, parent, none);
    parent.signals.blocked.add(4);
    parent.process.signals.hand.reset(10);
    expect(child.signals.blocked.signals()).toEqual([3]);
    expect(child.signals.alt.size).toBe(8192);
    expect(child.signals.pending.set.isEmpty).toBe(true);
    expect(child.process.signals.hand.get(10).handler).toBe(0x1000);
    const cleared = task();
    inheritSignals(cleared, child, { ...none, clearHandlers: true });
    expect([10, 12].map((signal) => cleared.process.signals.hand.get(signal).handler)).toEqual([0, 1]);
  });

  test("shares what it is told to share; a thread has no alternate stack", () => {
    const parent = task();
    parent.signals.alt.set({ start: 4096, size: 8192, flags: 0 });
    const child = task();
    inheritSignals(child, parent, { ...none, shareHandlers: true, dropStack: true });
    parent.process.signals.hand.set(10, handler);
    expect(child.process.signals.hand.get(10)).toBe(handler);
    expect([child.signals.alt.size, child.signals.alt.flags]).toEqual([0, 2]);
  });
});
