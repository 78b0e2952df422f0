import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Machine } from "../../../emulator/machine.ts";
import { i386, x86_64 } from "../../../shims/linux/abi.ts";
import {
  address,
  array,
  type Field,
  i16,
  i32,
  i64,
  long,
  struct,
  text,
  timespec,
  timespec64,
  timeval,
  u16,
  u32,
  u64,
  ulong,
} from "../../../shims/linux/kinds/structs.ts";

/** The same cases in every run. */
fc.configureGlobal({ seed: 1 });

const safe = { min: -(2 ** 52), max: 2 ** 52 };

/** Fields with the values they can hold on both ABIs. */
const FIELDS: readonly (readonly [Field<number>, fc.Arbitrary<number>])[] = [
  [u16, fc.integer({ min: 0, max: 0xffff })],
  [i16, fc.integer({ min: -0x8000, max: 0x7fff })],
  [u32, fc.integer({ min: 0, max: 0xffff_ffff })],
  [i32, fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff })],
  [u64, fc.integer({ min: 0, max: safe.max })],
  [i64, fc.integer(safe)],
  [long, fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff })],
  [ulong, fc.integer({ min: 0, max: 0xffff_ffff })],
  [address, fc.integer({ min: 0, max: 0xffff_ffff })],
];

const anyField = fc
  .integer({ min: 0, max: FIELDS.length - 1 })
  .chain((index) => fc.tuple(fc.constant(FIELDS[index]?.[0] ?? u32), FIELDS[index]?.[1] ?? fc.constant(0)));

describe("struct", () => {
  it("reads back what it wrote, in fields that do not overlap, at each type's alignment, on both ABIs", () => {
    const machine = new Machine();
    const space = machine.newSpace(0x1000_0000);
    space.map(0x10000, 0x2000, 3);
    const { memory } = space;
    fc.assert(
      fc.property(
        fc.array(anyField, { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 0, max: 8 }),
        (list, shift) => {
          const fields = Object.fromEntries(list.map(([field], index) => [`f${index}`, field]));
          const value = Object.fromEntries(list.map(([, number], index) => [`f${index}`, number]));
          const layout = struct(fields);
          for (const abi of [x86_64, i386]) {
            // Across a page boundary as well.
            const at = 0x11000 - 8 * shift;
            layout.write(memory, at, value, abi);
            expect(layout.read(memory, at, abi)).toEqual(value);
            let end = 0;
            for (const [index, [field]] of list.entries()) {
              const offset = layout.offsetOf(`f${index}`, abi);
              expect(offset).toBeGreaterThanOrEqual(end);
              expect(offset % field.align(abi)).toBe(0);
              expect(offset - end).toBeLessThan(field.align(abi));
              end = offset + field.size(abi);
            }
            expect(layout.size(abi) % layout.align(abi)).toBe(0);
            expect(layout.size(abi)).toBeGreaterThanOrEqual(end);
          }
        },
      ),
    );
    machine.close();
  });

  it("has the sizes gcc gives, with i386's 4-byte alignment of 64-bit integers", () => {
    const mixed = struct({ a: u32, b: u64, c: u16, d: i64 });
    expect([mixed.size(x86_64), mixed.size(i386)]).toEqual([32, 24]);
    expect([timespec.size(x86_64), timespec.size(i386)]).toEqual([16, 8]);
    expect([timespec64.size(x86_64), timespec64.size(i386)]).toEqual([16, 16]);
    expect([timeval.size(x86_64), timeval.size(i386)]).toEqual([16, 8]);
    const nested = struct({ a: u16, t: timespec, l: array(ulong, 3), s: text(5) });
    expect([nested.size(x86_64), nested.size(i386)]).toEqual([56, 32]);
  });

  it("prints its fields by name", () => {
    expect(timespec.show({ tv_sec: 1, tv_nsec: 2 })).toBe("{tv_sec=1, tv_nsec=2}");
    expect(struct({ a: u32, s: text(8) }, ["s"]).show({ a: 1, s: 'x"' })).toBe('{s="x\\"", ...}');
  });
});
