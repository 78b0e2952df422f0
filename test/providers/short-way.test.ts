import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { Reg } from "../../emulator/cpu.ts";
import { userDescOf } from "../../emulator/descriptors.ts";
import { Machine } from "../../emulator/machine.ts";
import { DirectProvider } from "../../providers/direct.ts";
import { Gate, type GateOptions } from "../../providers/gate.ts";
import { Ledger, type LedgerRecord } from "../../providers/ledger.ts";
import { EitherProvider } from "../../providers/punchthrough.ts";
import { fakePlatform } from "./fake-cpu.ts";

/** The same cases in every run. */
fc.configureGlobal({ seed: 1 });

const THREAD = 7;
const PC = 0x7fff_1234_5678n;

const machines: Machine[] = [];
afterAll(() => {
  for (const machine of machines) machine.close();
});

class Side {
  readonly machine = new Machine();
  readonly ledger: Ledger;
  readonly gate: Gate;
  #now = 0;

  constructor(keep: number, options: Partial<GateOptions> = {}) {
    machines.push(this.machine);
    const { cpu } = this.machine;
    cpu.enterUser(false, 0x23, 0x2b);
    cpu.setRegBig(Reg.rip, PC);
    const platform = { cpu, layout: "x86_64" } as const;
    this.ledger = new Ledger(keep);
    const now = (): number => ++this.#now;
    this.gate = new Gate({ platform, provider: new DirectProvider(platform), ledger: this.ledger, now, ...options });
  }

  /** All that requests could have changed. */
  get state(): unknown {
    const { cpu } = this.machine;
    const { words, gdt } = cpu.privileged.inPlace ?? {};
    return [[...(words ?? [])], [...(gdt ?? [])]];
  }
}

/** One request, in numbers: `area` has the words of a user_desc. */
type Ask =
  | { kind: "SetFsBase" | "SetGsBase"; address: number }
  | { kind: "GetFsBase" | "GetGsBase" }
  | { kind: "SetThreadArea"; words: [number, number, number, number] }
  | { kind: "GetThreadArea"; entry: number }
  | { kind: "load"; segment: "fs" | "gs" | "ds" | "es" | "ss"; selector: number };

const CALL: Readonly<Record<Exclude<Ask["kind"], "load">, string>> = {
  SetFsBase: "arch_prctl",
  GetFsBase: "arch_prctl",
  SetGsBase: "arch_prctl",
  GetGsBase: "arch_prctl",
  SetThreadArea: "set_thread_area",
  GetThreadArea: "get_thread_area",
};

/** As the Linux shim asks: the short way first, the long way where that gives up. */
function ask(side: Side, request: Ask, short: boolean): unknown {
  const { gate } = side;
  const way = short ? gate.shortWay : undefined;
  if (short && way === undefined) throw new Error("no short way");
  if (request.kind === "load") return side.machine.cpu.privileged.loadSelector(request.segment, request.selector);
  const call = CALL[request.kind];
  const asker = { thread: THREAD, pc: PC, call };
  switch (request.kind) {
    case "SetFsBase":
    case "SetGsBase": {
      const { kind, address } = request;
      if (way?.setBase(kind === "SetFsBase" ? "fs" : "gs", address, THREAD, call)) return { kind: "ok", value: 0n };
      return gate.punchThrough({ kind, address: BigInt(address) }, asker);
    }
    case "GetFsBase":
    case "GetGsBase": {
      const base = way?.getBase(request.kind === "GetFsBase" ? "fs" : "gs", THREAD, call);
      if (base !== undefined) return { kind: "ok", value: BigInt(base) };
      return gate.punchThrough({ kind: request.kind }, asker);
    }
    case "SetThreadArea": {
      const desc = userDescOf(...request.words);
      way?.desc.set(request.words);
      if (way?.setThreadArea(THREAD, call)) return { kind: "ok", value: 0n, desc };
      return gate.punchThrough({ kind: "SetThreadArea", desc }, asker);
    }
    case "GetThreadArea": {
      const { entry } = request;
      if (way?.getThreadArea(entry, THREAD, call)) {
        const [number = 0, base = 0, limit = 0, flags = 0] = way.desc;
        return { kind: "ok", value: 0n, desc: userDescOf(number, base, limit, flags) };
      }
      return gate.punchThrough({ kind: "GetThreadArea", entry_number: entry }, asker);
    }
  }
}

const word = fc.oneof(fc.constantFrom(0, 1, 0xfff, 0xfffff, 0x8000_0000, 0xffff_ffff), fc.nat(0xffff_ffff));
const entry = fc.oneof({ weight: 8, arbitrary: fc.constantFrom(12, 13, 14) }, fc.constantFrom(-1, 0, 6, 11, 15, 999));
/** Mostly what a C library passes. */
const flags = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(0x51, 0x41, 0x59, 0x11) }, fc.nat(0xff));
const address = fc.oneof(
  fc.nat(0x7fff_ffff),
  fc.constantFrom(0, 0x7fff_ffff_efff, 0x7fff_ffff_f000, 2 ** 47, 0x5555_5555_0000, 2 ** 52),
);
const step: fc.Arbitrary<Ask> = fc.oneof(
  fc.record({ kind: fc.constantFrom("SetFsBase" as const, "SetGsBase" as const), address }),
  fc.record({ kind: fc.constantFrom("GetFsBase" as const, "GetGsBase" as const) }),
  fc.record({ kind: fc.constant("SetThreadArea" as const), words: fc.tuple(entry, word, word, flags) }),
  fc.record({ kind: fc.constant("GetThreadArea" as const), entry }),
  fc.record({
    kind: fc.constant("load" as const),
    segment: fc.constantFrom("fs", "gs", "ds", "es", "ss"),
    selector: fc.constantFrom(0, 0x2b, 0x63, 0x6b, 0x73, 0x7b),
  }),
);

function plain(records: readonly LedgerRecord[]): unknown {
  return records.map((record) => JSON.parse(JSON.stringify(record, (_, v) => (typeof v === "bigint" ? `${v}n` : v))));
}

describe("the short way", () => {
  test.each([0, 1, 3, 64, Number.POSITIVE_INFINITY])("does and records what the long way does, keeping %s", (keep) => {
    const short = new Side(keep);
    const long = new Side(keep);
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
        for (const request of steps) expect(ask(short, request, true)).toEqual(ask(long, request, false));
        expect(short.state).toEqual(long.state);
        expect(plain(short.ledger.records().slice(-12))).toEqual(plain(long.ledger.records().slice(-12)));
      }),
      { numRuns: 150 },
    );
    expect(plain(short.ledger.records())).toEqual(plain(long.ledger.records()));
    expect(short.ledger.nextSequence()).toBe(long.ledger.nextSequence());
  });

  test("a base beyond what numbers are exact for goes the long way", () => {
    const { gate, machine } = new Side(1);
    machine.cpu.privileged.fsBase = 0xffff_8000_0000_1001n;
    expect(gate.shortWay?.getBase("fs", THREAD, "arch_prctl")).toBeUndefined();
    expect(gate.punchThrough({ kind: "GetFsBase" }, { thread: THREAD, pc: PC, call: "arch_prctl" })).toEqual({
      kind: "ok",
      value: 0xffff_8000_0000_1001n,
    });
  });

  test("is closed while anybody wants to see requests", () => {
    const open = new Side(1);
    expect(open.gate.shortWay).toBeDefined();
    const end = open.ledger.subscribe(() => {});
    expect(open.gate.shortWay).toBeUndefined();
    end();
    expect(open.gate.shortWay).toBeDefined();
    const direct = new DirectProvider({ cpu: open.machine.cpu, layout: "x86_64" });
    const closed: Partial<GateOptions>[] = [
      { policy: { decide: () => ({ allow: true }) } },
      { execution: (token, thread) => token.execute(thread) },
      { symbolOf: () => "main" },
      { provider: new EitherProvider(direct, direct) },
    ];
    for (const options of closed) expect(new Side(1, options).gate.shortWay).toBeUndefined();
    const fake = fakePlatform();
    expect(new Gate({ platform: fake, provider: new DirectProvider(fake) }).shortWay).toBeUndefined();
  });
});
