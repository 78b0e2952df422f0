import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { flatData } from "../../emulator/descriptors.ts";
import { DirectProvider } from "../../providers/direct.ts";
import { Gate, type GateOptions } from "../../providers/gate.ts";
import { Ledger, type LedgerRecord } from "../../providers/ledger.ts";
import type { Policy } from "../../providers/policy.ts";
import { EitherProvider, type PunchthroughProvider, type PunchthroughToken } from "../../providers/punchthrough.ts";
import type { Asker, Request, Result } from "../../providers/requests.ts";
import { type DeskToken, TokenMisuse } from "../../providers/token-desk.ts";
import { fakePlatform } from "./fake-cpu.ts";

const asker: Asker = { thread: 7, pc: 0x401234n, symbol: "__init_tls+0x10", call: "arch_prctl" };
const flat = flatData(-1, 0x8000);

/** A provider that answers one result, or gives no token. */
function fixed(name: string, result: Result | undefined): PunchthroughProvider & { asked: number; executed: number } {
  const provider = {
    name,
    asked: 0,
    executed: 0,
    getPunchthroughTokenFor(): PunchthroughToken | undefined {
      provider.asked++;
      if (result === undefined) return undefined;
      const execute = (): Result => {
        provider.executed++;
        return result;
      };
      return { provider: name, execute };
    },
  };
  return provider;
}

function setup(options: Partial<GateOptions> & { keep?: number } = {}) {
  const platform = fakePlatform();
  const ledger = new Ledger(options.keep);
  const gate = new Gate({ platform, provider: new DirectProvider(platform), ledger, ...options });
  return { cpu: platform.cpu, gate, ledger };
}

function only(records: readonly LedgerRecord[]): LedgerRecord {
  const [record, ...rest] = records;
  if (record === undefined || rest.length > 0) throw new Error(`expected one record, not ${rest.length + 1}`);
  return record;
}

describe("punchThrough", () => {
  test("executes at once and records who asked, what was granted, and the state around it", () => {
    const { cpu, gate, ledger } = setup();
    cpu.selectors.fs = 0x2b;
    expect(gate.punchThrough({ kind: "SetFsBase", address: 0x7000n }, asker)).toEqual({ kind: "ok", value: 0n });
    expect(cpu.fsBase).toBe(0x7000n);
    expect(only(ledger.records())).toEqual({
      sequence: 0,
      ...asker,
      request: { kind: "SetFsBase", address: 0x7000n },
      provider: "direct",
      verdict: "granted",
      outcome: { kind: "ok", value: 0n },
      before: { fsBase: 0n, gsBase: 0n, fs: 0x2b, gs: 0, descriptors: [] },
      after: { fsBase: 0x7000n, gsBase: 0n, fs: 0, gs: 0, descriptors: [] },
    });
  });

  test("takes exactly one token per request and executes it exactly once", () => {
    const provider = fixed("test", { kind: "ok", value: 5n });
    const { gate } = setup({ provider });
    for (let i = 1; i <= 3; i++) {
      expect(gate.punchThrough({ kind: "GetFsBase" }, asker)).toEqual({ kind: "ok", value: 5n });
      gate.goesOn(asker.thread);
      expect(provider).toMatchObject({ asked: i, executed: i });
    }
  });

  test("records the descriptor that entry -1 became, and only that", () => {
    const { cpu, gate, ledger } = setup();
    cpu.gdt[12] = 1n;
    const outcome = gate.punchThrough({ kind: "SetThreadArea", desc: flat }, asker);
    expect(outcome).toMatchObject({ kind: "ok", desc: { ...flat, entry_number: 13 } });
    const { before, after } = only(ledger.records());
    expect(before.descriptors).toEqual([{ table: "gdt", index: 13, raw: 0n }]);
    expect(after.descriptors).toEqual([{ table: "gdt", index: 13, raw: cpu.gdt[13] }]);
  });

  test("a failed -1 names no descriptor; the CPU is as before", () => {
    const { cpu, gate, ledger } = setup();
    cpu.gdt.fill(1n, 12, 15);
    expect(gate.punchThrough({ kind: "SetThreadArea", desc: flat }, asker)).toEqual({ kind: "failure", errno: 3 });
    expect(only(ledger.records())).toMatchObject({ before: { descriptors: [] }, after: { descriptors: [] } });
    expect(cpu.writes).toEqual([]);
  });

  test("records an LDT entry and the growth of the table, and what exec clears", () => {
    const { gate, ledger } = setup();
    gate.punchThrough({ kind: "SetLdtEntry", desc: { ...flat, entry_number: 4 }, legacy: false }, asker);
    gate.punchThrough({ kind: "SetThreadArea", desc: flat }, asker);
    gate.punchThrough({ kind: "ClearTls" }, { ...asker, call: "execve" });
    const [ldt, , clear] = ledger.records();
    expect(ldt?.before).toMatchObject({ descriptors: [], ldtSize: 0 });
    expect(ldt?.after).toMatchObject({ descriptors: [{ table: "ldt", index: 4 }], ldtSize: 5 });
    expect(clear?.before).toMatchObject({ descriptors: [{ index: 12 }, { raw: 0n }, { raw: 0n }], ldtSize: 5 });
    expect(clear?.after).toMatchObject({ descriptors: [{ raw: 0n }, { raw: 0n }, { raw: 0n }], ldtSize: 0 });
  });

  test.each([
    { kind: "unsupported" },
    { kind: "unimplemented", name: "SetFsBase" },
    { kind: "failure", errno: 1 },
  ] satisfies Result[])("passes on $kind and records it as granted", (result) => {
    const { gate, ledger } = setup({ provider: fixed("test", result) });
    expect(gate.punchThrough({ kind: "GetFsBase" }, asker)).toEqual(result);
    expect(only(ledger.records())).toMatchObject({ verdict: "granted", outcome: result });
  });

  test("a policy's denial reaches neither provider nor CPU", () => {
    const provider = fixed("test", { kind: "ok", value: 0n });
    const policy: Policy = {
      decide: (request) =>
        request.kind === "SetFsBase" ? { allow: false, rule: "no-fs", errno: 13 } : { allow: true, rule: "reads" },
    };
    const { cpu, gate, ledger } = setup({ provider, policy });
    const denied = { kind: "denied", rule: "no-fs", errno: 13 };
    expect(gate.punchThrough({ kind: "SetFsBase", address: 1n }, asker)).toEqual(denied);
    expect(provider.asked).toBe(0);
    expect(cpu.writes).toEqual([]);
    gate.punchThrough({ kind: "GetFsBase" }, asker);
    expect(ledger.records()).toMatchObject([
      { verdict: "denied", rule: "no-fs", outcome: denied },
      { verdict: "granted", rule: "reads" },
    ]);
  });

  test("a provider that gives no token denies", () => {
    const { gate, ledger } = setup({ provider: fixed("none", undefined) });
    expect(gate.punchThrough({ kind: "ClearTls" }, asker)).toEqual({ kind: "denied", rule: "provider none" });
    expect(only(ledger.records()).verdict).toBe("denied");
  });
});

describe("misuse stands in the ledger", () => {
  const request: Request = { kind: "SetFsBase", address: 0x1000n };
  const misuses = (ledger: Ledger): unknown[] =>
    ledger
      .records()
      .map(({ sequence, outcome }) => [sequence, outcome.kind === "misuse" ? outcome.misuse : outcome.kind]);
  const swallow = (action: () => unknown): void => {
    expect(action).toThrow(TokenMisuse);
  };

  test("a token executed twice", () => {
    const { cpu, gate, ledger } = setup({
      execution: (token, thread) => {
        const result = token.execute(thread);
        swallow(() => token.execute(thread));
        return result;
      },
    });
    gate.punchThrough(request, asker);
    expect(misuses(ledger)).toEqual([
      [0, "reused"],
      [1, "ok"],
    ]);
    expect(cpu.writes.filter((write) => write === "fsBase")).toHaveLength(1);
  });

  test("a token executed by another thread", () => {
    const { gate, ledger } = setup({
      execution: (token, thread) => {
        swallow(() => token.execute(thread + 1));
        return token.execute(thread);
      },
    });
    gate.punchThrough(request, asker);
    expect(only(ledger.records().slice(0, 1)).outcome).toEqual({ kind: "misuse", misuse: "wrong-thread", by: 8 });
  });

  test("a token that is never executed, and one executed too late", () => {
    const late: DeskToken[] = [];
    const { cpu, gate, ledger } = setup({
      execution: (token) => {
        late.push(token);
        return { kind: "ok", value: 0n };
      },
    });
    gate.punchThrough(request, asker);
    gate.goesOn(asker.thread + 1);
    gate.goesOn(asker.thread);
    gate.goesOn(asker.thread);
    swallow(() => late[0]?.execute(asker.thread));
    expect(misuses(ledger)).toEqual([
      [0, "ok"],
      [1, "dropped"],
      [2, "stale"],
    ]);
    expect(cpu.writes).toEqual([]);
    expect(ledger.records()[1]).toMatchObject({ ...asker, request, provider: "direct" });
  });

  test("and is found with the ledger off", () => {
    const { gate, ledger } = setup({ keep: 0, execution: () => ({ kind: "unsupported" }) });
    gate.punchThrough(request, asker);
    gate.goesOn(asker.thread);
    expect(ledger.nextSequence()).toBe(2);
  });
});

describe("EitherProvider", () => {
  const request: Request = { kind: "GetFsBase" };
  const ok: Result = { kind: "ok", value: 1n };

  test("asks left first, right where left gives no token, and denies where neither does", () => {
    const [left, right] = [fixed("l", ok), fixed("r", { kind: "ok", value: 2n })];
    const none = fixed("n", undefined);
    const ask = (provider: PunchthroughProvider) => setup({ provider }).gate.punchThrough(request, asker);
    expect(ask(new EitherProvider(left, right))).toEqual(ok);
    expect(right.asked).toBe(0);
    expect(ask(new EitherProvider(none, right))).toEqual({ kind: "ok", value: 2n });
    expect(ask(new EitherProvider(none, none))).toEqual({ kind: "denied", rule: "provider either(n, n)" });
  });

  test("tags a failure with its side, nested ones with the way to it", () => {
    const failing = fixed("f", { kind: "failure", errno: 22 });
    const none = fixed("n", undefined);
    const nested = new EitherProvider(new EitherProvider(none, failing), none);
    const { gate, ledger } = setup({ provider: nested });
    const failure = { kind: "failure", errno: 22, sides: ["Left", "Right"] };
    expect(gate.punchThrough(request, asker)).toEqual(failure);
    expect(only(ledger.records()).provider).toBe("f");
  });

  test("passes unsupported and unimplemented unchanged", () => {
    for (const result of [{ kind: "unsupported" }, { kind: "unimplemented", name: "GetFsBase" }] satisfies Result[]) {
      const either = new EitherProvider(fixed("a", result), fixed("b", ok));
      expect(setup({ provider: either }).gate.punchThrough(request, asker)).toEqual(result);
    }
  });
});

describe("the ledger", () => {
  const ask = (gate: Gate, times: number): void => {
    for (let i = 0; i < times; i++) gate.punchThrough({ kind: "SetGsBase", address: BigInt(i) }, asker);
  };

  test("off, it keeps nothing and the state is not even read, but numbers go on", () => {
    const { cpu, gate, ledger } = setup({ keep: 0 });
    let reads = 0;
    // SetGsBase itself never looks at FS.
    Object.defineProperty(cpu, "fsBase", { get: () => BigInt(reads++) });
    ask(gate, 3);
    expect(reads).toBe(0);
    expect(ledger.records()).toEqual([]);
    const seen: number[] = [];
    const stop = ledger.subscribe((record) => seen.push(record.sequence));
    ask(gate, 2);
    stop();
    ask(gate, 1);
    expect(seen).toEqual([3, 4]);
    expect(ledger.records()).toEqual([]);
  });

  test("as a ring, it keeps the last records in order", () => {
    for (const count of [0, 1, 3, 4, 5, 8, 9]) {
      const { gate, ledger } = setup({ keep: 4 });
      ask(gate, count);
      const expected = Array.from({ length: count }, (_, index) => index).slice(-4);
      expect(ledger.records().map((record) => record.sequence)).toEqual(expected);
    }
  });
});

describe("one gate", () => {
  const root = fileURLToPath(new URL("../../", import.meta.url));
  const sources = ["emulator", "providers", "shims", "cli"].flatMap((room) =>
    readdirSync(join(root, room), { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .map((file) => join(room, file)),
  );
  const users = (pattern: RegExp): string[] =>
    sources.filter((file) => pattern.test(readFileSync(join(root, file), "utf8"))).sort();

  test("only the gate, a provider made of providers, and the fault injector take tokens", () => {
    expect(users(/\.getPunchthroughTokenFor\(/)).toEqual([
      "providers/gate.ts",
      "providers/injector.ts",
      "providers/punchthrough.ts",
    ]);
  });

  test("only the gate has a desk", () => {
    expect(users(/new TokenDesk\(/)).toEqual(["providers/gate.ts"]);
  });

  test("a token that breaks a rule is an error of ours, never an outcome", () => {
    expect(new TokenMisuse("reused", "x").name).toBe("TestbedError");
  });
});
