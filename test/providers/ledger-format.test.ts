import { describe, expect, test } from "vitest";
import { flatData, toDescriptor } from "../../emulator/descriptors.ts";
import type { LedgerRecord } from "../../providers/ledger.ts";
import { formatRecord, recordToJson } from "../../providers/ledger-format.ts";
import type { TlsState } from "../../providers/state.ts";

const desc = flatData(-1, 0xf7d4a9c0);
const descText =
  "{entry_number=-1, base_addr=0xf7d4a9c0, limit=0xfffff, seg_32bit=1, contents=0, read_exec_only=0, " +
  "limit_in_pages=1, seg_not_present=0, useable=1}";
const segment = "base 0xf7d4a9c0 limit 0xffffffff data rw 32-bit dpl 3";
const raw = toDescriptor(desc);
const state: TlsState = { fsBase: 0n, gsBase: 0n, fs: 0, gs: 0, descriptors: [] };
const gdt = (value: bigint): TlsState => ({ ...state, descriptors: [{ table: "gdt", index: 12, raw: value }] });

function record(changes: Partial<LedgerRecord>): LedgerRecord {
  return {
    sequence: 3,
    thread: 1000,
    pc: 0x401234n,
    call: "arch_prctl",
    request: { kind: "SetFsBase", address: 0x7f0000001000n },
    provider: "direct",
    verdict: "granted",
    outcome: { kind: "ok", value: 0n },
    before: state,
    after: state,
    ...changes,
  };
}

describe("the line for people", () => {
  const lines: [string, Partial<LedgerRecord>][] = [
    [
      "SetFsBase 0x7f0000001000 granted by direct: fs_base 0x0 → 0x7f0000001000, fs 0x63 → 0x0",
      { before: { ...state, fs: 0x63 }, after: { ...state, fsBase: 0x7f0000001000n } },
    ],
    ["SetFsBase 0x7f0000001000 granted by direct: nothing changed", {}],
    ["GetGsBase granted by direct: = 0x5", { request: { kind: "GetGsBase" }, outcome: { kind: "ok", value: 5n } }],
    [
      "SetGsBase 0x1000 granted by direct: gs_base 0x0 → 0x1000",
      { request: { kind: "SetGsBase", address: 0x1000n }, after: { ...state, gsBase: 0x1000n } },
    ],
    [
      `SetThreadArea ${descText} granted by direct: gdt[12] empty → ${segment}`,
      { request: { kind: "SetThreadArea", desc }, before: gdt(0n), after: gdt(raw) },
    ],
    [
      `GetThreadArea 12 granted by direct: = ${descText}`,
      { request: { kind: "GetThreadArea", entry_number: 12 }, outcome: { kind: "ok", value: 0n, desc } },
    ],
    [
      `SetLdtEntry ${descText} (legacy) granted by direct: ldt[2] empty → ${segment}, ldt entries 0 → 3`,
      {
        request: { kind: "SetLdtEntry", desc, legacy: true },
        before: { ...state, ldtSize: 0 },
        after: { ...state, descriptors: [{ table: "ldt", index: 2, raw }], ldtSize: 3 },
      },
    ],
    [
      `ClearTls granted by direct: gs 0x63 → 0x0, gdt[12] ${segment} → empty`,
      { request: { kind: "ClearTls" }, before: { ...gdt(raw), gs: 0x63 }, after: gdt(0n) },
    ],
    ["SetFsBase 0x7f0000001000 granted by direct: Failure(EPERM)", { outcome: { kind: "failure", errno: 1 } }],
    [
      "SetFsBase 0x7f0000001000 granted by direct: Failure(Left(Right(EIO)))",
      { outcome: { kind: "failure", errno: 5, sides: ["Left", "Right"] } },
    ],
    ["ClearTls granted by direct: Unsupported", { request: { kind: "ClearTls" }, outcome: { kind: "unsupported" } }],
    [
      "ClearTls granted by direct: Unimplemented(exec)",
      { request: { kind: "ClearTls" }, outcome: { kind: "unimplemented", name: "exec" } },
    ],
    ["GetFsBase denied by no-fs", { request: { kind: "GetFsBase" }, outcome: { kind: "denied", rule: "no-fs" } }],
    [
      "GetFsBase denied by no-fs: EINVAL",
      { request: { kind: "GetFsBase" }, outcome: { kind: "denied", rule: "no-fs", errno: 22 } },
    ],
    [
      "GetFsBase granted by direct: token wrong-thread by thread 2",
      { request: { kind: "GetFsBase" }, outcome: { kind: "misuse", misuse: "wrong-thread", by: 2 } },
    ],
  ];

  test.each(lines)("%s", (line, changes) => {
    expect(formatRecord(record(changes))).toBe(line);
  });
});

describe("the JSON form", () => {
  test("has 64-bit values and addresses as hexadecimal strings and leaves out what is not known", () => {
    const json = recordToJson(
      record({ request: { kind: "SetThreadArea", desc }, before: gdt(0n), after: gdt(raw), symbol: undefined }),
    );
    expect(JSON.parse(JSON.stringify(json))).toEqual({
      sequence: 3,
      thread: 1000,
      pc: "0x401234",
      call: "arch_prctl",
      request: { kind: "SetThreadArea", desc: { ...desc, base_addr: "0xf7d4a9c0" } },
      provider: "direct",
      verdict: "granted",
      outcome: { kind: "ok", value: "0x0" },
      before: { fsBase: "0x0", gsBase: "0x0", fs: 0, gs: 0, descriptors: [{ table: "gdt", index: 12, raw: "0x0" }] },
      after: {
        fsBase: "0x0",
        gsBase: "0x0",
        fs: 0,
        gs: 0,
        descriptors: [{ table: "gdt", index: 12, raw: "0xf7dff3d4a9c0ffff" }],
      },
    });
  });
});
