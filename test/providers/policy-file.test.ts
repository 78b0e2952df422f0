import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UserError } from "../../emulator/errors.ts";
import { Gate } from "../../providers/gate.ts";
import { Ledger } from "../../providers/ledger.ts";
import { FilePolicy, type PolicyFile, PolicyParser } from "../../providers/policy-file.ts";
import { suggestPolicy } from "../../providers/policy-suggest.ts";
import { createProvider } from "../../providers/registry.ts";
import type { Asker, Request } from "../../providers/requests.ts";
import { fakePlatform } from "./fake-cpu.ts";

const asker: Asker = { thread: 7, pc: 0x401000n, symbol: "__libc_setup_tls+0x2c", call: "arch_prctl" };
const set = (address = 0x5000n): Request => ({ kind: "SetFsBase", address });
const parser = new PolicyParser();
const parsePolicy = (text: string, name: string): PolicyFile => parser.parse(text, name);
const world = {
  mappingAt: (_thread: number, address: bigint) =>
    address >= 0x5000n && address < 0x6000n ? "[heap]" : address >= 0x6000n && address < 0x7000n ? "" : undefined,
};

function policy(file: Omit<PolicyFile, "version">): FilePolicy {
  return new FilePolicy(parsePolicy(JSON.stringify({ version: 1, ...file }), "p.json"), world);
}

describe("a policy file", () => {
  test("the first rule that fits decides, and the default where none does", () => {
    const both = policy({
      default: "deny",
      rules: [
        { name: "reads", request: ["GetFsBase", "GetGsBase"], action: "allow" },
        { request: ["SetFsBase"], action: { errno: "EACCES" } },
        { request: ["SetFsBase"], action: "allow" },
      ],
    });
    expect(both.decide({ kind: "GetFsBase" }, asker)).toEqual({ allow: true, rule: "reads" });
    expect(both.decide(set(), asker)).toEqual({ allow: false, rule: "rule 1", errno: 13 });
    expect(both.decide({ kind: "ClearTls" }, asker)).toEqual({ allow: false, rule: "default" });
  });

  test.each<[string, PolicyFile["rules"], (Request | [Request, Partial<Asker>])[], boolean[]]>([
    [
      "address ranges end before their end",
      [{ action: "deny", address: { from: "0x5000", to: 0x6000 } }],
      [set(0x4fffn), set(0x5000n), set(0x5fffn), set(0x6000n), { kind: "ClearTls" }],
      [true, false, false, true, true],
    ],
    [
      "canonical or not",
      [{ action: "deny", address: { canonical: false } }],
      [set(0x7fffffffffffn), set(0x800000000000n), set(0xffff800000000000n)],
      [true, false, true],
    ],
    [
      "mapped or not",
      [{ action: "deny", address: { mapped: false } }],
      [set(0x5000n), set(0x6000n), set(0x9000n)],
      [true, true, false],
    ],
    [
      "inside which mapping",
      [{ action: "deny", address: { mapping: "[h*]" } }],
      [set(0x5000n), set(0x6000n), set(0x9000n)],
      [false, true, true],
    ],
    [
      "count, from one to another",
      [{ action: "deny", request: ["SetFsBase"], count: { from: 2, to: 3 } }],
      [set(), { kind: "GetFsBase" }, set(), set(), set()],
      [true, true, false, false, true],
    ],
    [
      "threads by id and by order",
      [
        { action: "deny", thread: { id: [9] } },
        { action: "deny", thread: { order: [2] } },
      ],
      [set(), [set(), { thread: 8 }], [set(), { thread: 9 }], [set(), { thread: 10 }]],
      [true, false, false, true],
    ],
    [
      "symbols, without offsets",
      [{ action: "deny", symbol: ["__libc_*_tls"] }],
      [set(), [set(), { symbol: "main" }], [set(), { symbol: undefined }]],
      [false, true, true],
    ],
    ["calls", [{ action: "deny", call: ["clone", "clone3"] }], [set(), [set(), { call: "clone3" }]], [true, false]],
  ])("%s", (_, rules, requests, allowed) => {
    const tested = policy({ default: "allow", ...(rules && { rules }) });
    expect(
      requests.map((one) => {
        const [request, by] = Array.isArray(one) ? one : [one, {}];
        return tested.decide(request, { ...asker, ...by }).allow;
      }),
    ).toEqual(allowed);
  });

  test("a dry run allows all and tells what it would have denied", () => {
    const told: string[] = [];
    const file = parsePolicy('{"version":1,"default":"deny","dryRun":true}', "p.json");
    const dry = new FilePolicy(file, world, (rule, request) => told.push(`${rule}: ${request.kind}`));
    expect(dry.decide(set(), asker)).toEqual({ allow: true, rule: "default (dry run)" });
    expect(told).toEqual(["default: SetFsBase"]);
  });

  test("a denial reaches the guest as the file says, and stands in the ledger", () => {
    const platform = fakePlatform();
    const gate = new Gate({
      platform,
      provider: createProvider("direct", platform),
      policy: policy({ default: { errno: 30 } }),
    });
    expect(gate.punchThrough(set(), asker)).toEqual({ kind: "denied", rule: "default", errno: 30 });
    expect(gate.ledger.records()).toMatchObject([{ verdict: "denied", rule: "default" }]);
  });
});

describe("what is wrong with a file comes with its place", () => {
  test.each([
    ["{", /^p\.json is not JSON: /],
    ["[]", "p.json: / must be object"],
    ['{"version":1}', "p.json: / must have required property 'default'"],
    ['{"version":2,"default":"allow"}', "p.json: /version must be equal to constant"],
    ['{"version":1,"default":"maybe"}', /^p\.json: \/default .*must be equal to one of the allowed values/],
    ['{"version":1,"default":"allow","extra":1}', 'p.json: / has an unknown property "extra"'],
    [
      '{"version":1,"default":"allow","rules":[{"action":"deny"},{"action":"deny","request":["SetCr3"]}]}',
      /^p\.json: \/rules\/1\/request\/0 must be one of SetFsBase, GetFsBase/,
    ],
    ['{"version":1,"default":{"errno":"EWHAT"}}', "p.json: /default/errno: there is no errno EWHAT"],
    [
      '{"version":1,"default":"allow","rules":[{"action":"deny","address":{"from":"0x20","to":"0x10"}}]}',
      "p.json: /rules/0/address holds nothing: its end lies before its start",
    ],
    [
      '{"version":1,"default":"allow","rules":[{"action":"deny","count":{"from":3,"to":2}}]}',
      "p.json: /rules/0/count holds nothing: its end lies before its start",
    ],
    [
      '{"version":1,"default":"allow","rules":[{"action":"deny","address":{"from":"five"}}]}',
      /^p\.json: \/rules\/0\/address\/from /,
    ],
  ])("%s", (text, message) => {
    expect(() => parsePolicy(text, "p.json")).toThrow(UserError);
    expect(() => parsePolicy(text, "p.json")).toThrow(message);
  });
});

describe("fuzz", () => {
  const anything = fc.oneof(
    fc.json(),
    fc.string(),
    fc
      .record(
        {
          version: fc.constantFrom(1, 2, "1"),
          default: fc.oneof(
            fc.constantFrom("allow", "deny", "x"),
            fc.record({ errno: fc.oneof(fc.integer(), fc.string()) }),
          ),
          dryRun: fc.oneof(fc.boolean(), fc.string()),
          rules: fc.array(
            fc.record(
              {
                name: fc.string(),
                action: fc.oneof(
                  fc.constantFrom("allow", "deny"),
                  fc.record({ errno: fc.constantFrom("EPERM", 5, 0, "E") }),
                ),
                request: fc.array(fc.constantFrom("SetFsBase", "ClearTls", "Bad")),
                thread: fc.record({ id: fc.array(fc.integer()), order: fc.array(fc.nat()) }, { requiredKeys: [] }),
                symbol: fc.array(fc.string()),
                address: fc.record(
                  {
                    from: fc.oneof(fc.integer(), fc.constantFrom("0x1000", "0xg")),
                    to: fc.oneof(fc.maxSafeNat(), fc.constantFrom("0xffffffffffffffff")),
                    canonical: fc.boolean(),
                    mapped: fc.boolean(),
                    mapping: fc.string(),
                  },
                  { requiredKeys: [] },
                ),
                count: fc.record({ from: fc.integer(), to: fc.integer() }, { requiredKeys: [] }),
              },
              { requiredKeys: [] },
            ),
          ),
        },
        { requiredKeys: [] },
      )
      .map((value) => JSON.stringify(value)),
  );

  test("a file is either refused with a place, or a policy that decides", () => {
    let accepted = 0;
    fc.assert(
      fc.property(anything, (text) => {
        let file: PolicyFile;
        try {
          file = parsePolicy(text, "p.json");
        } catch (error) {
          expect(error).toBeInstanceOf(UserError);
          expect(String(error)).toMatch(/p\.json(: \/| is not JSON)/);
          return;
        }
        accepted++;
        expect(typeof new FilePolicy(file, world).decide(set(), asker).allow).toBe("boolean");
      }),
      { numRuns: 1500, seed: 4 },
    );
    expect(accepted).toBeGreaterThan(5);
  });
});

test("a suggested policy allows what was done, and nothing else", () => {
  const platform = fakePlatform();
  const ledger = new Ledger();
  const gate = new Gate({ platform, provider: createProvider("direct", platform), ledger });
  gate.punchThrough({ kind: "ClearTls" }, { ...asker, call: "execve" });
  gate.punchThrough(set(), asker);
  gate.punchThrough({ kind: "GetFsBase" }, asker);
  const file = suggestPolicy(ledger.records());
  expect(file).toEqual({
    version: 1,
    default: "deny",
    rules: [
      { action: "allow", request: ["ClearTls"], call: ["execve"] },
      { action: "allow", request: ["GetFsBase", "SetFsBase"], call: ["arch_prctl"] },
    ],
  });
  const again = new FilePolicy(parsePolicy(JSON.stringify(file), "suggested"), world);
  for (const record of ledger.records()) expect(again.decide(record.request, record).allow).toBe(true);
  expect(again.decide({ kind: "SetGsBase", address: 0n }, asker).allow).toBe(false);
  expect(again.decide(set(), { ...asker, call: "clone" }).allow).toBe(false);
});
