// Every call there is, with arguments no program would pass: the guest gets an answer, we get no exception.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CallGuest, guests } from "./call-guest.ts";

const ARENA = 0x10_0000;

const nasty = fc.oneof(
  fc.constantFrom(0n, 1n, -1n, -100n, 8n, 0xfffn, 0x1000n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 0xffff_f000n),
  fc.constantFrom(0x7fff_ffff_f000n, 0x7fff_ffff_effcn, 0x8000_0000_0000n, 1n << 63n, (1n << 63n) - 1n, -4096n, -8n),
  fc.integer({ min: 0, max: 64 }).map(BigInt),
  fc.integer({ min: 0, max: 0x1f_ffff }).map((offset) => BigInt(ARENA + offset)),
  // At the end of the arena: structs and strings that run into nothing.
  fc.integer({ min: 1, max: 300 }).map((back) => BigInt(ARENA + 0x20_0000 - back)),
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
);

/** More tries of each call than its arguments have nasty forms. */
const TRIES = 24;
/** Calls after which a fresh guest comes: some have then no memory or no file left. */
const FRESH_AFTER = 60;

describe.each(guests)("hostile arguments on %s", (name, abi) => {
  const making = { abi, maxMemory: 2 ** 26 };
  const numbers = numbersOf(name, new CallGuest(making));

  it("are answered by every call", () => {
    const args = fc.sample(fc.array(nasty, { minLength: 6, maxLength: 6 }), {
      seed: 1,
      numRuns: TRIES * numbers.length,
    });
    const answered = new Set<number>();
    let guest = new CallGuest(making);
    let calls = 0;
    for (const [index, six] of args.entries()) {
      if (guest.task.dead || ++calls % FRESH_AFTER === 0) {
        guest.close();
        guest = new CallGuest(making);
        guest.memory.fill(ARENA, 0x10_0000, index & 0xff);
      }
      const number = numbers[index % numbers.length] ?? 0;
      guest.trap(abi, number, ...six);
      if (guest.task.wait !== undefined) guest.kernel.scheduler.unpark(guest.task);
      if (guest.lines.length > 0) answered.add(number);
    }
    guest.close();
    expect([...answered].sort()).toEqual([...numbers].sort());
  });

  it("are answered in any order", () => {
    const call = fc.tuple(fc.constantFrom(...numbers), fc.array(nasty, { minLength: 6, maxLength: 6 }));
    fc.assert(
      fc.property(
        fc.array(call, { minLength: 40, maxLength: 40 }),
        fc.integer({ min: 0, max: 255 }),
        (calls, filling) => {
          const guest = new CallGuest(making);
          try {
            guest.memory.fill(ARENA, 0x10_0000, filling);
            for (const [number, args] of calls) {
              if (guest.task.dead) break;
              guest.trap(abi, number, ...args);
              if (guest.task.wait !== undefined) guest.kernel.scheduler.unpark(guest.task);
            }
            expect(guest.lines.length).toBeGreaterThan(0);
          } finally {
            guest.close();
          }
        },
      ),
      { seed: 1, numRuns: 100 },
    );
  });
});

function numbersOf(name: "x86_64" | "i386", guest: CallGuest): number[] {
  const { rows } = guest.kernel.table;
  guest.close();
  return rows.map((row) => row.numbers[name]).filter((number): number is number => number !== undefined);
}
