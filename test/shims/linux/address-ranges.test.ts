import fc from "fast-check";
import { expect, test } from "vitest";
import { AddressRanges } from "../../../shims/linux/memory/address-ranges.ts";

const SIZE = 64;
const range = fc.tuple(fc.nat(SIZE), fc.nat(SIZE)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
const change = fc.record({ what: fc.constantFrom("add", "remove", "move"), range, to: fc.nat(SIZE) });

test("ranges are what a set of addresses is", () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), range, (changes, [from, until]) => {
      const ranges = new AddressRanges();
      const model = new Set<number>();
      for (const {
        what,
        range: [start, end],
        to,
      } of changes) {
        const length = end - start;
        if (what === "add") ranges.add(start, end);
        else if (what === "remove") ranges.remove(start, end);
        // A mapping moves to where it does not overlap itself.
        else if (length > 0 && Math.abs(to - start) >= length) ranges.move(start, length, to);
        else continue;
        const moved = what === "move" ? [...model].filter((at) => at >= start && at < end) : [];
        for (let at = start; at < end; at++) {
          if (what === "add") model.add(at);
          else model.delete(at);
          if (what === "move") model.delete(at - start + to);
        }
        for (const at of moved) model.add(at - start + to);
      }
      expect(ranges.bytes).toBe(model.size);
      expect(ranges.within(from, until)).toBe([...model].filter((at) => at >= from && at < until).length);
      const copy = new AddressRanges();
      copy.copy(ranges);
      copy.clear();
      for (let at = 0; at < 2 * SIZE; at++) expect(ranges.within(at, at + 1)).toBe(model.has(at) ? 1 : 0);
      for (const edge of ranges.edges(0, 2 * SIZE))
        expect(edge > 0 && (model.has(edge) || model.has(edge - 1))).toBe(true);
    }),
    { seed: 1, numRuns: 300 },
  );
});

test("many ranges are found quickly", () => {
  const ranges = new AddressRanges();
  const spent = (count: number) => {
    const from = process.cpuUsage();
    for (let i = 0; i < count; i++) ranges.add(2 * i, 2 * i + 1);
    for (let i = 0; i < count; i++) ranges.remove(2 * i, 2 * i + 1);
    return process.cpuUsage(from).user;
  };
  expect(spent(20_000)).toBeLessThan(5e6);
  expect(ranges.any).toBe(false);
});
