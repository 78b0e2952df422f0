import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { MemoryFault } from "../../emulator/errors.ts";
import { Machine } from "../../emulator/machine.ts";
import { type AddressSpace, type Backing, SharedPages } from "../../emulator/memory.ts";

/** The same cases in every run. */
fc.configureGlobal({ seed: 1 });

const PAGE = 4096;
const END = 0x7ffffffff000;
const R = 1;
const RW = 3;

const machines: Machine[] = [];
function machine(options?: ConstructorParameters<typeof Machine>[0]): Machine {
  const made = new Machine(options);
  machines.push(made);
  return made;
}
afterEach(() => {
  for (const made of machines.splice(0)) made.close();
});
function newSpace(end = END): AddressSpace {
  return machine().newSpace(end);
}

/** A file of our own: page i is filled with i + 1. */
function fileOf(m: Machine, pages: number, name = "/file"): Backing {
  const frames: number[] = [];
  return {
    name,
    dev: 1,
    ino: 2,
    frame(index) {
      if (index >= pages) return -1;
      const frame = frames[index] ?? m.physical.allocate();
      if (frames[index] === undefined) m.physical.bytes(frame).fill(index + 1);
      frames[index] = frame;
      return frame;
    },
  };
}

const shape = (space: AddressSpace) => [...space.regions()].map((r) => [r.start, r.end, r.prot]);

describe("mappings", () => {
  test("split, merge and keep their offsets", () => {
    const m = machine();
    const space = m.newSpace(END);
    const file = fileOf(m, 100);
    space.map(0x10000, 10 * PAGE, RW, { backing: file, offset: 5 * PAGE });
    space.protect(0x10000 + 2 * PAGE, 3 * PAGE, R);
    expect([...space.regions()].map((r) => [r.start, r.end, r.prot, r.offset / PAGE])).toEqual([
      [0x10000, 0x12000, RW, 5],
      [0x12000, 0x15000, R, 7],
      [0x15000, 0x1a000, RW, 10],
    ]);
    space.protect(0x12000, 3 * PAGE, RW);
    expect(shape(space)).toEqual([[0x10000, 0x1a000, RW]]);
    space.unmap(0x13000, PAGE);
    expect(space.regionAt(0x13000)).toBeUndefined();
    expect(space.regionAt(0x14fff)?.offset).toBe(9 * PAGE);
    space.map(0x13000, PAGE, RW, { backing: file, offset: 8 * PAGE });
    expect(shape(space)).toEqual([[0x10000, 0x1a000, RW]]);
    space.unmap(0x13000, PAGE);
    space.map(0x13000, PAGE, RW, { backing: file, offset: 9 * PAGE });
    expect([...space.regions()]).toHaveLength(3);
    expect([...space.regions(0x13fff)]).toHaveLength(2);
  });
  test("protect stops at the first hole", () => {
    const space = newSpace();
    space.map(0x10000, PAGE, RW);
    space.map(0x12000, PAGE, RW);
    expect(space.protect(0x10000, 3 * PAGE, R)).toBe(false);
    expect(shape(space)).toEqual([
      [0x10000, 0x11000, R],
      [0x12000, 0x13000, RW],
    ]);
    expect(space.protect(0x11000, PAGE, R)).toBe(false);
    expect(space.isMapped(0x10000, PAGE)).toBe(true);
    expect(space.isMapped(0x10000, 2 * PAGE)).toBe(false);
  });
  test("move takes pages and offsets along", () => {
    const m = machine();
    const space = m.newSpace(END);
    space.map(0x10000, 4 * PAGE, RW, { backing: fileOf(m, 100), offset: 10 * PAGE });
    space.map(0x100000, PAGE, RW);
    space.memory.setU32(0x11000, 77);
    space.move(0x11000, 2 * PAGE, 0x100000);
    expect(space.memory.u32(0x100000)).toBe(77);
    expect(space.memory.u8(0x101000)).toBe(13);
    expect(space.regionAt(0x100000)?.offset).toBe(11 * PAGE);
    expect(space.isFree(0x11000, 2 * PAGE)).toBe(true);
    expect(() => space.memory.u8(0x11000)).toThrow(MemoryFault);
    expect(() => space.move(0x100000, 2 * PAGE, 0x101000)).toThrow(/overlap/);
  });
  test("discard gives zeros, or the file's page again", () => {
    const m = machine();
    const space = m.newSpace(END);
    space.map(0x10000, PAGE, RW);
    space.map(0x20000, PAGE, RW, { backing: fileOf(m, 1) });
    space.memory.setU32(0x10000, 1);
    space.memory.setU32(0x20000, 1);
    expect(space.isResident(0x10000)).toBe(true);
    space.discard(0x10000, PAGE);
    space.discard(0x20000, PAGE);
    expect(space.isResident(0x10000)).toBe(false);
    expect(space.memory.u32(0x10000)).toBe(0);
    expect(space.memory.u32(0x20000)).toBe(0x01010101);
  });
  test("a private file page is copied on write, a shared one is not, and the end of the file is a bus error", () => {
    const m = machine();
    const file = fileOf(m, 3);
    const space = m.newSpace(END);
    space.map(0x10000, 4 * PAGE, RW, { backing: file });
    space.map(0x20000, 4 * PAGE, RW, { backing: file, shared: true });
    space.memory.setU8(0x10000, 9);
    expect(space.memory.u8(0x20000)).toBe(1);
    space.memory.setU8(0x21000, 8);
    expect(space.memory.u8(0x11000)).toBe(8);
    expect(space.resolve(0x13000, "read")).toBe("bus");
    expect(() => space.memory.u8(0x13000)).toThrow(MemoryFault);
    expect(space.resolve(0x11000, "fetch")).toBe("protection");
    expect(space.resolve(0x30000, "read")).toBe("unmapped");
  });
  test("a fault below address zero is told where it wraps to", () => {
    const fault = new MemoryFault(16 - 0x280, "write");
    expect([fault.place, fault.message]).toEqual([
      "0xfffffffffffffd90",
      "cannot write guest memory at 0xfffffffffffffd90",
    ]);
  });

  test("the top of user space is the last page", () => {
    const space = newSpace();
    space.map(END - PAGE, PAGE, RW);
    space.memory.setU64(END - 8, 5n);
    expect(space.memory.u64(END - 8)).toBe(5n);
    expect(() => space.memory.u64(END - 7)).toThrow(MemoryFault);
    expect(() => space.map(END, PAGE, RW)).toThrow();
    expect(() => space.map(END - PAGE, 2 * PAGE, RW)).toThrow();
    expect(space.find(PAGE, 0, END)).toBe(END - 2 * PAGE);
  });
  test("memory runs out at the limit, and comes back", () => {
    const space = machine({ maxMemory: 8 * PAGE }).newSpace(END);
    space.map(0x10000, 100 * PAGE, RW);
    let pages = 0;
    while (space.resolve(0x10000 + pages * PAGE, "write") === "ok") pages++;
    expect(pages).toBe(7);
    expect(space.resolve(0x10000 + pages * PAGE, "write")).toBe("memory");
    space.discard(0x10000, PAGE);
    expect(space.resolve(0x10000 + pages * PAGE, "write")).toBe("ok");
  });
});

describe("growing stacks", () => {
  test("grow to their limit, not over a mapping's guard gap", () => {
    const space = newSpace();
    const top = 0x7fff0000000;
    space.map(top - PAGE, PAGE, RW, { grows: true });
    space.stackLimit = 1024 * PAGE;
    expect(space.resolve(top - 10 * PAGE, "write")).toBe("ok");
    expect(space.regionAt(top - PAGE)?.start).toBe(top - 10 * PAGE);
    expect(space.resolve(top - 1024 * PAGE, "write")).toBe("ok");
    expect(space.resolve(top - 1025 * PAGE, "write")).toBe("unmapped");
    space.stackLimit = 1 << 30;
    space.map(top - 2000 * PAGE, PAGE, RW);
    expect(space.resolve(top - (1999 - 256) * PAGE, "write")).toBe("ok");
    expect(space.resolve(top - (2000 - 256) * PAGE, "write")).toBe("unmapped");
    space.protect(top - 2000 * PAGE, PAGE, 0);
    expect(space.resolve(top - (2000 - 256) * PAGE, "write")).toBe("ok");
  });
  test("keep a gap below them free, each of several", () => {
    const space = newSpace();
    space.map(0x10000000, PAGE, RW, { grows: true });
    space.map(0x20000000, PAGE, RW, { grows: true });
    expect(space.find(PAGE, 0x1000, 0x20000000)).toBe(0x20000000 - 257 * PAGE);
    expect(space.find(PAGE, 0x1000, 0x10000000)).toBe(0x10000000 - 257 * PAGE);
  });
});

describe("guest memory", () => {
  test("values across pages, both ways", () => {
    const space = newSpace();
    space.map(0x10000, 2 * PAGE, RW);
    const { memory } = space;
    const at = 0x10ffd;
    memory.setU64(at, 0x1122334455667788n);
    expect(memory.u64(at)).toBe(0x1122334455667788n);
    expect(memory.u32(at)).toBe(0x55667788);
    expect(memory.i32(0x10fff)).toBe(0x33445566);
    expect(memory.u16(0x10fff)).toBe(0x5566);
    memory.setNum64(0x10ffc, -2);
    expect(memory.u64(0x10ffc)).toBe(0xfffffffffffffffen);
    memory.setNum64(0x10800, 2 ** 40 + 7);
    expect(memory.num64(0x10800)).toBe(2 ** 40 + 7);
    memory.setU16(0x10fff, 0xabcd);
    expect(memory.u16(0x10fff)).toBe(0xabcd);
  });
  test("faults name the first bad byte", () => {
    const space = newSpace();
    space.map(0x10000, PAGE, RW);
    space.map(0x11000, PAGE, R);
    const fault = (run: () => unknown): unknown => {
      try {
        return run();
      } catch (error) {
        return error instanceof MemoryFault ? [error.access, error.address] : error;
      }
    };
    expect(fault(() => space.memory.write(0x10ff0, new Uint8Array(100)))).toEqual(["write", 0x11000]);
    expect(fault(() => space.memory.bytes(0x11ff0, 100))).toEqual(["read", 0x12000]);
    expect(fault(() => space.memory.setU32(0x11000, 1))).toEqual(["write", 0x11000]);
    expect(space.memory.writeSome(0x10ff0, new Uint8Array(100))).toBe(16);
    expect(space.memory.readSome(0x11ff0, new Uint8Array(100))).toBe(16);
    for (const bad of [-1, Number.NaN, 2 ** 60, Number.POSITIVE_INFINITY, 0.5, 0x7ffffffff000]) {
      expect(fault(() => space.memory.u8(bad))).toEqual(["read", bad]);
      expect(space.memory.readSome(bad, new Uint8Array(1))).toBe(0);
    }
  });
  test("strings end at NUL, at the limit, or with the page", () => {
    const space = newSpace();
    space.map(0x10000, 2 * PAGE, RW);
    space.memory.write(0x10ffe, Uint8Array.from(Buffer.from("h\xe9llo\0", "latin1")));
    expect(space.memory.cstring(0x10ffe, 100)).toBe("h\xe9llo");
    expect(space.memory.cstring(0x10ffe, 5)).toBeUndefined();
    space.memory.fill(0x11f00, 0x100, 65);
    expect(() => space.memory.cstring(0x11f00, 4096)).toThrow(MemoryFault);
  });
  test("a view kept from before a change is not used after it", () => {
    const space = newSpace();
    space.map(0x10000, PAGE, RW);
    space.memory.setU32(0x10000, 1);
    space.unmap(0x10000, PAGE);
    expect(() => space.memory.u32(0x10000)).toThrow(MemoryFault);
    space.map(0x10000, PAGE, R);
    expect(space.memory.u32(0x10000)).toBe(0);
    expect(() => space.memory.setU32(0x10000, 1)).toThrow(MemoryFault);
    space.protect(0x10000, PAGE, RW);
    space.memory.setU32(0x10000, 1);
    space.protect(0x10000, PAGE, 0);
    expect(() => space.memory.u32(0x10000)).toThrow(MemoryFault);
  });
});

describe("fork and sharing", () => {
  test("copies on write in both directions, shares what is shared", () => {
    const m = machine();
    const parent = m.newSpace(END);
    const shared = new SharedPages(m.physical, "", 4 * PAGE);
    parent.map(0x10000, 2 * PAGE, RW);
    parent.map(0x20000, PAGE, RW, { backing: shared, shared: true });
    parent.memory.setU32(0x10000, 1);
    parent.memory.setU32(0x11000, 1);
    const child = parent.fork();
    parent.memory.setU32(0x10000, 2);
    child.memory.setU32(0x11000, 3);
    parent.memory.setU32(0x20000, 4);
    expect([child.memory.u32(0x10000), parent.memory.u32(0x11000), child.memory.u32(0x20000)]).toEqual([1, 1, 4]);
    child.memory.setU32(0x20000, 5);
    expect(parent.memory.u32(0x20000)).toBe(5);
    const used = m.physical.used;
    child.close();
    expect(m.physical.used).toBe(used - 2 * PAGE);
    parent.memory.setU32(0x11000, 9);
    expect(m.physical.used).toBe(used - 2 * PAGE);
  });
  test("200 spaces from one, each its own", () => {
    const m = machine();
    const first = m.newSpace(END);
    first.map(0x10000, 4 * PAGE, RW);
    first.memory.setU32(0x10000, 1000);
    const before = m.physical.used;
    const spaces = Array.from({ length: 200 }, () => first.fork());
    expect(m.physical.used).toBe(before);
    for (const [i, space] of spaces.entries()) space.memory.setU32(0x10000, i);
    expect(spaces.map((space) => space.memory.u32(0x10000))).toEqual(spaces.map((_, i) => i));
    expect(first.memory.u32(0x10000)).toBe(1000);
    for (const space of spaces) space.close();
    expect(m.physical.used).toBe(before);
  });
});

/** A mapping of the simple model: one entry a page. */
type Model = Map<number, { prot: number; value: number }>;

describe("against a simple model", () => {
  const pages = 24;
  const base = 0x7000_0000;
  const page = fc.integer({ min: 0, max: pages - 1 });
  const size = fc.integer({ min: 1, max: 8 });
  const operation = fc.oneof(
    fc.record({ op: fc.constant("map" as const), at: page, n: size, prot: fc.constantFrom(0, R, RW) }),
    fc.record({ op: fc.constant("unmap" as const), at: page, n: size }),
    fc.record({ op: fc.constant("protect" as const), at: page, n: size, prot: fc.constantFrom(0, R, RW) }),
    fc.record({ op: fc.constant("discard" as const), at: page, n: size }),
    fc.record({ op: fc.constant("write" as const), at: page, value: fc.nat(1e6) }),
    fc.record({ op: fc.constant("move" as const), at: page, n: size, to: page }),
    fc.record({ op: fc.constant("find" as const), n: size, low: page, high: page }),
    fc.record({ op: fc.constant("fork" as const) }),
  );
  function modelFind(model: Model, n: number, low: number, high: number): number {
    for (let at = high - n; at >= low; at--) {
      if (Array.from({ length: n }, (_, i) => at + i).every((p) => !model.has(p))) return at;
    }
    return -1;
  }
  test("any order of operations", () => {
    const m = machine();
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        let space = m.newSpace(END);
        let model: Model = new Map();
        for (const o of operations) {
          const n = "n" in o && "at" in o ? Math.min(o.n, pages - o.at) : 0;
          const start = "at" in o ? base + o.at * PAGE : 0;
          const covered = "at" in o ? Array.from({ length: n }, (_, i) => o.at + i) : [];
          switch (o.op) {
            case "map":
              space.map(start, n * PAGE, o.prot);
              for (const p of covered) model.set(p, { prot: o.prot, value: 0 });
              break;
            case "unmap":
              space.unmap(start, n * PAGE);
              for (const p of covered) model.delete(p);
              break;
            case "protect": {
              const hole = covered.findIndex((p) => !model.has(p));
              expect(space.protect(start, n * PAGE, o.prot)).toBe(hole < 0);
              for (const p of hole < 0 ? covered : covered.slice(0, hole)) {
                const entry = model.get(p);
                if (entry) model.set(p, { ...entry, prot: o.prot });
              }
              break;
            }
            case "discard":
              space.discard(start, n * PAGE);
              for (const p of covered) {
                const entry = model.get(p);
                if (entry) model.set(p, { ...entry, value: 0 });
              }
              break;
            case "write": {
              const entry = model.get(o.at);
              if (entry?.prot === RW) {
                space.memory.setU32(start, o.value);
                model.set(o.at, { ...entry, value: o.value });
              } else expect(() => space.memory.setU32(start, o.value)).toThrow(MemoryFault);
              break;
            }
            case "move": {
              const room = Math.min(n, pages - o.to);
              if (room < 1 || Math.abs(o.to - o.at) < room) break;
              space.move(start, room * PAGE, base + o.to * PAGE);
              const taken = covered.slice(0, room).map((p) => model.get(p));
              for (const [i, entry] of taken.entries()) {
                model.delete(o.at + i);
                if (entry) model.set(o.to + i, entry);
                else model.delete(o.to + i);
              }
              break;
            }
            case "find": {
              const expected = modelFind(model, o.n, o.low, o.high);
              const found = space.find(o.n * PAGE, base + o.low * PAGE, base + o.high * PAGE);
              expect(found).toBe(expected < 0 ? -1 : base + expected * PAGE);
              break;
            }
            case "fork": {
              const child = space.fork();
              for (const [p, entry] of model) if (entry.prot === RW) space.memory.setU32(base + p * PAGE, 0xdead);
              space.close();
              space = child;
              model = new Map(model);
              break;
            }
          }
        }
        const runs: number[][] = [];
        for (let p = 0; p < pages; p++) {
          const entry = model.get(p);
          const last = runs.at(-1);
          if (entry === undefined) expect(() => space.memory.u8(base + p * PAGE)).toThrow(MemoryFault);
          else if (entry.prot !== 0) expect(space.memory.u32(base + p * PAGE)).toBe(entry.value);
          if (entry === undefined) continue;
          if (last?.[1] === base + p * PAGE && last[2] === entry.prot) last[1] += PAGE;
          else runs.push([base + p * PAGE, base + (p + 1) * PAGE, entry.prot]);
        }
        expect(shape(space)).toEqual(runs);
        expect(space.mappedBytes).toBe(model.size * PAGE);
        space.close();
      }),
      { numRuns: 400 },
    );
    expect(m.physical.used).toBe(PAGE);
  });
});

test("50,000 mappings are made, found, walked and unmade in time in proportion", () => {
  const space = newSpace();
  const count = 50_000;
  const started = process.cpuUsage();
  const at: number[] = [];
  for (let i = 0; i < count; i++) {
    const address = space.find(PAGE, 0x10000, END);
    space.map(address, PAGE, i % 2 === 0 ? RW : R);
    at.push(address);
  }
  expect(at[count - 1]).toBe(END - count * PAGE);
  expect([...space.regions()]).toHaveLength(count);
  for (let i = 0; i < count; i++) space.unmap(at[(i * 7919) % count] ?? 0, PAGE);
  expect([...space.regions()]).toHaveLength(0);
  const { user, system } = process.cpuUsage(started);
  // A second is eight times what it takes here; walking all regions for each would take minutes.
  expect((user + system) / 1e6).toBeLessThan(5);
});
