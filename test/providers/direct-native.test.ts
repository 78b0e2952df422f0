import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { UserDesc } from "../../emulator/descriptors.ts";
import { Gate } from "../../providers/gate.ts";
import { Ledger } from "../../providers/ledger.ts";
import { createProvider } from "../../providers/registry.ts";
import type { Request, Result } from "../../providers/requests.ts";
import { type FakeCpu, fakePlatform } from "./fake-cpu.ts";
import { type Answer, CELLS, cellValue, type Op, type ProbeSegment, runNatively } from "./native-probe.ts";

const ARCH_SET_GS = 0x1001;
const ARCH_SET_FS = 0x1002;
const TASK_SIZE_MAX = 0x7ffffffff000n;
const LAR_BITS = 0x00f0ff00n;

/** Answers the operations of the probe by provider `direct` over a CPU model, where the probe asks the kernel. */
class DirectProbe {
  readonly #bits: 32 | 64;
  readonly #cpu: FakeCpu;
  readonly #gate: Gate;

  constructor(bits: 32 | 64) {
    const platform = fakePlatform();
    this.#bits = bits;
    this.#cpu = platform.cpu;
    if (bits === 32) Object.assign(platform.cpu.selectors, { cs: 0x23, ds: 0x2b, es: 0x2b });
    this.#gate = new Gate({ platform, provider: createProvider("direct", platform), ledger: new Ledger(0) });
  }

  run(op: Op): Answer {
    const desc = "desc" in op ? { ...op.desc } : EMPTY_DESC;
    const answer = { result: 0, value: 0n, desc };
    switch (op.op) {
      case "set_thread_area": {
        const result = this.#ask({ kind: "SetThreadArea", desc });
        answer.result = resultCode(result);
        if (result.kind === "ok" && result.desc !== undefined) desc.entry_number = result.desc.entry_number;
        break;
      }
      case "get_thread_area": {
        const result = this.#ask({ kind: "GetThreadArea", entry_number: desc.entry_number });
        answer.result = resultCode(result);
        if (result.kind === "ok" && result.desc !== undefined) Object.assign(desc, result.desc);
        break;
      }
      case "set_ldt":
      case "set_ldt_legacy":
        answer.result = resultCode(this.#ask({ kind: "SetLdtEntry", desc, legacy: op.op === "set_ldt_legacy" }));
        break;
      case "read_ldt":
        answer.result = this.#cpu.ldtSize === 0 ? 0 : op.entry * 8 + 8;
        answer.value = op.entry < this.#cpu.ldtSize ? this.#cpu.ldtEntry(op.entry) : 0n;
        break;
      case "lar":
        answer.value = (this.#cpu.gdtEntry(op.selector >> 3) >> 32n) & LAR_BITS;
        break;
      case "load":
        answer.result = this.#cpu.loadSelector(op.segment, op.selector) ? 1 : 0;
        break;
      case "peek":
        answer.value = cellValue((Number(this.#cpu.bases[op.segment]) - CELLS) / 4);
        break;
      case "arch_prctl": {
        const kind = op.code === ARCH_SET_FS ? "SetFsBase" : "SetGsBase";
        answer.result = resultCode(this.#ask({ kind, address: op.address }));
        break;
      }
    }
    const { ds, es, fs, gs } = this.#cpu.selectors;
    const bases = this.#bits === 64 ? { fsBase: this.#cpu.bases.fs, gsBase: this.#cpu.bases.gs } : NO_BASES;
    return { ...answer, desc, ds, es, fs, gs, ...bases };
  }

  #ask(request: Request): Result {
    const outcome = this.#gate.punchThrough(request, { thread: 1, pc: 0n, call: "probe" });
    if (outcome.kind === "denied") throw new Error("provider direct denied a request");
    return outcome;
  }
}

const NO_BASES = { fsBase: 0n, gsBase: 0n };

function resultCode(result: Result): number {
  if (result.kind === "ok") return Number(result.value);
  if (result.kind === "failure") return -result.errno;
  throw new Error(`no system call result for ${result.kind}`);
}

const EMPTY_DESC: UserDesc = {
  entry_number: 0,
  base_addr: 0,
  limit: 0,
  seg_32bit: false,
  contents: 0,
  read_exec_only: false,
  limit_in_pages: false,
  seg_not_present: false,
  useable: false,
  lm: false,
};

function descOf(entry_number: number, base_addr: number, limit: number, flags: number): UserDesc {
  return {
    entry_number,
    base_addr,
    limit,
    seg_32bit: (flags & 1) !== 0,
    contents: (flags >> 1) & 3,
    read_exec_only: (flags & 8) !== 0,
    limit_in_pages: (flags & 16) !== 0,
    seg_not_present: (flags & 32) !== 0,
    useable: (flags & 64) !== 0,
    lm: (flags & 128) !== 0,
  };
}

/** Every combination of the eight flag bits with bases and limits that matter. */
function* descriptions(entries: readonly number[]): Generator<UserDesc> {
  for (const entry of entries)
    for (const base of [0, 0x1000, 0xfedcba98])
      for (const limit of [0, 1, 0xabcde, 0xffffffff])
        for (let flags = 0; flags < 256; flags++) yield descOf(entry, base, limit, flags);
}

/** Compares one by one, and names the operation at the first difference. */
function expectSame(bits: 32 | 64, ops: readonly Op[]): void {
  const direct = new DirectProbe(bits);
  const native = runNatively(bits, ops);
  ops.forEach((op, index) => {
    const answer = direct.run(op);
    // `expect` costs more than all the rest, so it only speaks of differences.
    if (!isDeepStrictEqual(answer, native[index]))
      expect({ index, op, ...answer }).toEqual({ index, op, ...native[index] });
  });
  expect(native).toHaveLength(ops.length);
}

const ALL_ENTRIES = [12, 13, 14];

describe.each([32, 64] as const)("provider direct answers as this machine's kernel, %i-bit process", (bits) => {
  test("set_thread_area and get_thread_area: every flag, base and limit, in and out of range", () => {
    const ops: Op[] = [];
    for (const desc of descriptions([13])) {
      ops.push({ op: "set_thread_area", desc }, { op: "get_thread_area", desc: descOf(13, 0, 0, 0) });
      ops.push({ op: "lar", selector: 0x6b });
    }
    for (const entry of [-2, 0, 5, 6, 8, 11, 15, 16, 0x7fffffff, -0x80000000]) {
      ops.push({ op: "set_thread_area", desc: descOf(entry, 0x1000, 1, 1) });
      ops.push({ op: "set_thread_area", desc: descOf(entry, 0, 0, 0) });
      ops.push({ op: "get_thread_area", desc: descOf(entry, 0x1000, 1, 1) });
    }
    ops.push({ op: "get_thread_area", desc: descOf(-1, 0, 0, 0) });
    expectSame(bits, ops);
  });

  test("entry -1: the first free entry, ESRCH when there is none, EINVAL before ESRCH, cleared ones are free", () => {
    const set = (entry: number, flags: number, base = 0x1000): Op => ({
      op: "set_thread_area",
      desc: descOf(entry, base, 1, flags),
    });
    const clear = (entry: number, flags: number): Op => ({ op: "set_thread_area", desc: descOf(entry, 0, 0, flags) });
    const ops: Op[] = [set(-1, 1), set(-1, 1), set(-1, 1), set(-1, 1), set(-1, 0), clear(-1, 0), clear(-1, 0x28)];
    ops.push(clear(13, 0x28), set(-1, 1), clear(12, 0), clear(14, 0), set(-1, 1), set(-1, 1));
    // An empty description takes no entry, so the same one is found again.
    ops.push(clear(12, 0), clear(-1, 0), clear(-1, 0), set(-1, 1));
    for (const entry of ALL_ENTRIES) ops.push({ op: "get_thread_area", desc: descOf(entry, 0, 0, 0) });
    expectSame(bits, ops);
  });

  test("modify_ldt functions 1 and 0x11: every flag, base and limit, growth, range", () => {
    const ops: Op[] = [{ op: "read_ldt", entry: 2 }];
    for (const op of ["set_ldt", "set_ldt_legacy"] as const)
      for (const desc of descriptions([2])) ops.push({ op, desc }, { op: "read_ldt", entry: 2 });
    for (const entry of [0, 1, 3, 511, 512, 8191, 8192, -1, 0x7fffffff]) {
      ops.push({ op: "set_ldt", desc: descOf(entry, 0x1000, 1, 1) }, { op: "read_ldt", entry: 8191 });
      ops.push({ op: "set_ldt_legacy", desc: descOf(entry, 0, 0, 0) });
    }
    expectSame(bits, ops);
  });

  test("an entry that is cleared still makes the LDT grow", () => {
    const ops: Op[] = [{ op: "read_ldt", entry: 0 }];
    ops.push({ op: "set_ldt", desc: descOf(7, 0, 0, 0x28) }, { op: "read_ldt", entry: 7 });
    expectSame(bits, ops);
  });

  test("3,000 random operations, live selectors included", () => {
    const flags = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 0x11, 0x28, 0x51));
    const base = fc.constantFrom(0, 0x1000, CELLS, 0xfffff000);
    const limit = fc.constantFrom(0, 1, 0xfffff);
    const desc = (entries: readonly number[]): fc.Arbitrary<UserDesc> =>
      fc.tuple(fc.constantFrom(...entries), base, limit, flags).map((parts) => descOf(...parts));
    // A 32-bit probe lives by its DS.
    const data: readonly ProbeSegment[] = bits === 64 ? ["ds", "es"] : ["es"];
    const tls = [0x63, 0x6b, 0x73, 0x2b];
    const load = (segments: readonly ProbeSegment[], selectors: readonly number[]): fc.Arbitrary<Op> =>
      fc.record({
        op: fc.constant("load" as const),
        segment: fc.constantFrom(...segments),
        selector: fc.constantFrom(...selectors),
      });
    const ops = fc.sample(
      fc.oneof(
        fc.record({ op: fc.constant("set_thread_area" as const), desc: desc([-1, 12, 13, 14]) }),
        fc.record({ op: fc.constant("get_thread_area" as const), desc: desc([12, 13, 14]) }),
        fc.record({ op: fc.constantFrom("set_ldt" as const, "set_ldt_legacy" as const), desc: desc([0, 1, 2]) }),
        fc.record({ op: fc.constant("read_ldt" as const), entry: fc.nat(4) }),
        load(data, [...tls, 7, 0xf, 0x17, 0x1f]),
        // No LDT selectors here: a context switch of the native kernel may null a stale one at any moment.
        load(["fs", "gs"], tls),
      ),
      { numRuns: 3000, seed: 20250101 },
    );
    expectSame(bits, ops);
  });
});

describe("provider direct answers as this machine's kernel, what only one word size shows", () => {
  const flat = (entry: number, cell: number): UserDesc => descOf(entry, CELLS + cell * 4, 0xfffff, 0x11);
  const everywhere = (make: (segment: ProbeSegment) => Op): Op[] => (["es", "fs", "gs"] as const).map(make);

  test("a changed TLS entry is live at once in every segment register that points to it", () => {
    const ops: Op[] = [{ op: "set_thread_area", desc: flat(12, 0) }];
    ops.push(...everywhere((segment) => ({ op: "load", segment, selector: 0x63 })));
    ops.push(...everywhere((segment) => ({ op: "peek", segment })));
    ops.push({ op: "set_thread_area", desc: flat(12, 1) }, ...everywhere((segment) => ({ op: "peek", segment })));
    ops.push({ op: "set_thread_area", desc: descOf(12, 0, 0, 0) });
    expectSame(32, ops);
  });

  test("a changed LDT entry is live at once in ES, but not in FS and GS", () => {
    const ops: Op[] = [{ op: "set_ldt", desc: flat(0, 0) }];
    ops.push(...everywhere((segment) => ({ op: "load", segment, selector: 7 })));
    ops.push({ op: "set_ldt", desc: flat(0, 1) }, ...everywhere((segment) => ({ op: "peek", segment })));
    expectSame(32, ops);
  });

  test("arch_prctl: EPERM from TASK_SIZE_MAX on, bases written, selectors nulled", () => {
    const ops: Op[] = [];
    const addresses = [0n, 1n, 0x1000n, 0xffffffffn, 0x100000000n, TASK_SIZE_MAX - 1n, TASK_SIZE_MAX];
    addresses.push(0x7fffffffffffn, 0x800000000000n, 0xffff800000000000n, 0xffffffffffffffffn);
    for (const address of addresses)
      for (const code of [ARCH_SET_FS, ARCH_SET_GS]) {
        ops.push({ op: "load", segment: "fs", selector: 0x2b }, { op: "load", segment: "gs", selector: 0x2b });
        ops.push({ op: "arch_prctl", code, address });
      }
    expectSame(64, ops);
  });
});
