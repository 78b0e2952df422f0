import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  decodeDescriptor,
  flatData,
  formatDescriptor,
  fromDescriptor,
  GDT_ENTRIES,
  gdtLayouts,
  initialGdt,
  isEmpty,
  isZero,
  readUserDesc,
  toDescriptor,
  type UserDesc,
  writeUserDesc,
} from "../../emulator/descriptors.ts";

/** The same cases in every run. */
fc.configureGlobal({ seed: 1 });

/** Guest memory of a few words that refuses what lies outside. */
function words(bytes = new Uint8Array(64)) {
  const view = new DataView(bytes.buffer);
  return {
    bytes,
    u32: (address: number) => view.getUint32(address, true),
    setU32: (address: number, value: number) => view.setUint32(address, value, true),
  };
}

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const userDesc: fc.Arbitrary<UserDesc> = fc.record({
  entry_number: fc.integer({ min: -0x80000000, max: 0x7fffffff }),
  base_addr: u32,
  limit: u32,
  seg_32bit: fc.boolean(),
  contents: fc.nat(3),
  read_exec_only: fc.boolean(),
  limit_in_pages: fc.boolean(),
  seg_not_present: fc.boolean(),
  useable: fc.boolean(),
  lm: fc.boolean(),
});

const glibcTls = flatData(-1, 0xf7d4a9c0);

const EMPTY: UserDesc = {
  ...glibcTls,
  base_addr: 0,
  limit: 0,
  seg_32bit: false,
  limit_in_pages: false,
  useable: false,
};

describe("user_desc in guest memory", () => {
  test("is laid out as asm/ldt.h says", () => {
    const memory = words();
    writeUserDesc(memory, 16, glibcTls);
    expect([0, 4, 8, 12].map((offset) => memory.u32(16 + offset))).toEqual([0xffffffff, 0xf7d4a9c0, 0xfffff, 0x51]);
  });

  test("comes back as it was written", () => {
    fc.assert(
      fc.property(userDesc, (desc) => {
        const memory = words();
        writeUserDesc(memory, 4, desc);
        expect(readUserDesc(memory, 4)).toEqual(desc);
      }),
    );
  });

  test("every 16 bytes are a user_desc; only the padding bits are lost", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
        const memory = words(bytes.slice());
        const desc = readUserDesc(memory, 0);
        writeUserDesc(memory, 0, desc);
        bytes.fill(0, 13);
        expect(memory.bytes).toEqual(bytes);
      }),
    );
  });
});

describe("raw descriptors", () => {
  test("a user_desc survives the round trip, but for what a descriptor cannot hold", () => {
    fc.assert(
      fc.property(userDesc, (desc) => {
        const kept = { ...desc, limit: desc.limit & 0xfffff, lm: false };
        expect(fromDescriptor(desc.entry_number, toDescriptor(desc))).toEqual(kept);
      }),
    );
  });

  test("are always DPL 3 segments with the accessed bit and without the long-mode bit", () => {
    fc.assert(
      fc.property(userDesc, (desc) => {
        const raw = toDescriptor(desc);
        expect(raw & (0xf1n << 40n)).toBe((desc.seg_not_present ? 0x71n : 0xf1n) << 40n);
        expect(raw & (1n << 53n)).toBe(0n);
        const decoded = decodeDescriptor(raw);
        expect(decoded.base).toBe(desc.base_addr);
        expect(decoded.present).toBe(!desc.seg_not_present);
        expect(decoded.type).toBe(desc.contents >= 2 ? "code" : "data");
      }),
    );
  });

  test("an empty descriptor reads back as Linux shows it", () => {
    const desc = fromDescriptor(13, 0n);
    expect(isEmpty(desc)).toBe(true);
    expect(desc).toMatchObject({ entry_number: 13, read_exec_only: true, seg_not_present: true });
  });

  test("empty and zero ignore lm and the entry number, and nothing else", () => {
    fc.assert(
      fc.property(userDesc, (desc) => {
        const memory = words();
        writeUserDesc(memory, 0, desc);
        const flags = memory.u32(12) & 0x7f;
        const blank = desc.base_addr === 0 && desc.limit === 0;
        expect(isEmpty(desc)).toBe(blank && flags === 0x28);
        expect(isZero(desc)).toBe(blank && flags === 0);
      }),
      { examples: [[{ ...fromDescriptor(0, 0n), lm: true }], [{ ...EMPTY, entry_number: 12 }]] },
    );
  });

  test("the human line tells base, limit in bytes, access, width and ring", () => {
    expect(formatDescriptor(0n)).toBe("empty");
    expect(formatDescriptor(toDescriptor(glibcTls))).toBe("base 0xf7d4a9c0 limit 0xffffffff data rw 32-bit dpl 3");
    const stack = { ...glibcTls, contents: 1, limit_in_pages: false, seg_32bit: false, seg_not_present: true };
    const line = "base 0xf7d4a9c0 limit 0xfffff data rw expand-down 16-bit dpl 3 not present";
    expect(formatDescriptor(toDescriptor(stack))).toBe(line);
    const code = { ...glibcTls, contents: 3, read_exec_only: true };
    expect(formatDescriptor(toDescriptor(code))).toBe(
      "base 0xf7d4a9c0 limit 0xffffffff code x conforming 32-bit dpl 3",
    );
  });
});

describe("the GDT of a Linux kernel", () => {
  test("x86_64: user selectors as `lar` shows them natively, TLS empty, CPU and node in the limit of 0x7b", () => {
    const gdt = initialGdt("x86_64", 1, 2);
    expect(gdt).toHaveLength(GDT_ENTRIES);
    const lar = (selector: number): string => (((gdt[selector >> 3] ?? 0n) >> 32n) & 0xf0ff00n).toString(16);
    const { userCs32, userDs, userCs64, cpuNode } = gdtLayouts.x86_64;
    expect([userCs32, userDs, userCs64 ?? 0, cpuNode ?? 0].map(lar)).toEqual(["c0fb00", "c0f300", "a0fb00", "40f500"]);
    expect(decodeDescriptor(gdt[0x7b >> 3] ?? 0n).limit).toBe((2 << 12) | 1);
    expect(gdt.slice(12, 15)).toEqual([0n, 0n, 0n]);
    expect(decodeDescriptor(gdt[userCs32 >> 3] ?? 0n)).toMatchObject({ type: "code", bits: 32, limit: 0xffffffff });
    expect(formatDescriptor(gdt[0x33 >> 3] ?? 0n)).toBe("base 0x0 limit 0xffffffff code rx 64-bit dpl 3");
  });

  test("i386: user code 0x73, data 0x7b, TLS entries 6 to 8 empty", () => {
    const gdt = initialGdt("i386");
    const { userCs32, userDs, tlsFirst, tlsLast } = gdtLayouts.i386;
    expect(decodeDescriptor(gdt[userCs32 >> 3] ?? 0n)).toMatchObject({ type: "code", bits: 32, dpl: 3 });
    expect(decodeDescriptor(gdt[userDs >> 3] ?? 0n)).toMatchObject({ type: "data", writable: true, dpl: 3 });
    expect(gdt.slice(tlsFirst, tlsLast + 1)).toEqual([0n, 0n, 0n]);
  });

  test("only user segments have DPL 3", () => {
    for (const layout of ["x86_64", "i386"] as const) {
      const info = gdtLayouts[layout];
      const user = [info.userCs32, info.userDs, info.userCs64, info.cpuNode];
      initialGdt(layout).forEach((raw, index) => {
        if (raw !== 0n) expect(decodeDescriptor(raw).dpl === 3).toBe(user.includes(index * 8 + 3));
      });
    }
  });
});
