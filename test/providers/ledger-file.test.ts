import { Ajv } from "ajv";
import { describe, expect, test } from "vitest";
import { flatData } from "../../emulator/descriptors.ts";
import { auditTable, formatAuditTable, perfettoTrace } from "../../providers/audit.ts";
import { Gate } from "../../providers/gate.ts";
import schema from "../../providers/ledger.schema.json" with { type: "json" };
import { LedgerWriter, readRecords, verifyLedger } from "../../providers/ledger-file.ts";
import { createProvider } from "../../providers/registry.ts";
import type { Asker } from "../../providers/requests.ts";
import { TokenMisuse } from "../../providers/token-desk.ts";
import { fakePlatform } from "./fake-cpu.ts";

const desc = flatData(-1, 0x8000);

/** A ledger file of `rounds` rounds of every kind of record. */
function recorded(rounds: number, end = true) {
  const platform = fakePlatform();
  let time = 0;
  let text = "";
  let misuse = false;
  const gate = new Gate({
    platform,
    provider: createProvider("direct", platform),
    policy: {
      decide: (request) => (request.kind === "GetGsBase" ? { allow: false, rule: "no", errno: 13 } : { allow: true }),
    },
    execution: (token, thread) => {
      const result = token.execute(thread);
      try {
        if (misuse) token.execute(thread);
      } catch (error) {
        if (!(error instanceof TokenMisuse)) throw error;
      }
      return result;
    },
    now: () => (time += 1500),
    symbolOf: () => "main+0x4",
  });
  const writer = new LedgerWriter(
    (line) => {
      text += line;
    },
    { provider: "direct", guest: ["./a", "b"], seed: 7 },
  );
  gate.ledger.subscribe(writer.record);
  for (let i = 0; i < rounds; i++) {
    const asker: Asker = { thread: 100 + (i % 3), pc: 0x401000n + BigInt(i), call: "arch_prctl" };
    misuse = i % 4 === 3;
    gate.punchThrough({ kind: "SetFsBase", address: 0x7000_0000n + BigInt(i) * 4096n }, asker);
    gate.punchThrough({ kind: "SetFsBase", address: 0xffff_8000_0000_0000n }, asker);
    gate.punchThrough({ kind: "GetGsBase" }, asker);
    gate.punchThrough({ kind: "SetThreadArea", desc }, { ...asker, call: "set_thread_area" });
    gate.punchThrough({ kind: "ClearTls" }, { ...asker, call: "execve" });
  }
  if (end) writer.end();
  return { text, lines: text.split("\n"), records: gate.ledger.records(), gate };
}

describe("a ledger file", () => {
  const { text, lines, records } = recorded(8);

  test("is right as it was written, fits its schema, and gives the records back", () => {
    expect(verifyLedger(lines)).toEqual({ ok: true, complete: true, records: records.length });
    const validate = new Ajv({ strictTypes: false }).compile(schema);
    for (const line of lines.slice(0, -1)) expect(validate(JSON.parse(line)), line).toBe(true);
    expect(readRecords(lines.slice(0, -1))).toEqual(records.map((record) => ({ ...record })));
  });

  test("of a killed run is a valid prefix, wherever it was cut", () => {
    const { text: open } = recorded(8, false);
    expect(verifyLedger(open.split("\n"))).toMatchObject({ ok: true, complete: false });
    for (let cut = text.indexOf("\n") + 1; cut < text.length; cut += 37) {
      const result = verifyLedger(text.slice(0, cut).split("\n"));
      expect(result).toMatchObject({ ok: true, complete: false });
    }
  });

  test("1,000 random edits are all found", () => {
    let state = 12345;
    const below = (bound: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return Math.floor((state / 2 ** 32) * bound);
    };
    const body = lines.slice(0, -1);
    const edits: readonly ((copy: string[]) => void)[] = [
      (copy) => copy.splice(below(copy.length), 1),
      (copy) => {
        const [a, b] = [below(copy.length), below(copy.length)];
        [copy[a], copy[b]] = [copy[b] ?? "", copy[a] ?? ""];
      },
      (copy) => copy.splice(below(copy.length), 0, copy[below(copy.length)] ?? ""),
      (copy) => {
        const at = below(copy.length);
        const line = copy[at] ?? "";
        const place = below(line.length);
        copy[at] = `${line.slice(0, place)}${String.fromCharCode(32 + below(95))}${line.slice(place + 1)}`;
      },
      (copy) => {
        const at = below(copy.length);
        const line = copy[at] ?? "";
        copy[at] = line.replace(/[0-9](?=[^0-9]*$)/, (digit) => String((Number(digit) + 1) % 10));
      },
      (copy) => {
        const at = below(copy.length);
        copy[at] = (copy[at] ?? "").replaceAll("granted", "denied").replace("SetFsBase", "GetFsBase");
      },
      (copy) => {
        const at = below(copy.length);
        copy[at] = JSON.stringify({ ...JSON.parse(copy[at] ?? "{}"), extra: 1 });
      },
      (copy) => copy.splice(1 + below(copy.length - 1)),
    ];
    let edited = 0;
    while (edited < 1000) {
      const copy = [...body];
      edits[below(edits.length)]?.(copy);
      if (copy.join("\n") === body.join("\n")) continue;
      edited++;
      const result = verifyLedger([...copy, ""]);
      expect(result.ok && result.complete, copy.join("\n")).toBe(false);
    }
  });

  test("says where it is wrong", () => {
    const at = (index: number, line: string): string[] => lines.map((old, i) => (i === index ? line : old));
    expect(verifyLedger(at(0, "{}"))).toMatchObject({ ok: false, line: 1 });
    expect(verifyLedger([""])).toMatchObject({ ok: false, line: 1, problem: "there is no header" });
    const changed = (lines[5] ?? "").replace('"thread":10', '"thread":11');
    expect(verifyLedger(at(5, changed))).toEqual({
      ok: false,
      line: 7,
      problem: "the line before was changed, dropped or moved, or this one added",
    });
    expect(verifyLedger([...lines.slice(0, -1), "more", ""])).toMatchObject({ problem: "there is more after the end" });
  });
});

describe("what an audit shows of the records", () => {
  const { records } = recorded(4);

  test("a row for each thread", () => {
    const rows = auditTable(records);
    expect(rows.map(({ thread, done, refused, denied, misused }) => [thread, done, refused, denied, misused])).toEqual([
      [100, 6, 2, 2, 4],
      [101, 3, 1, 1, 0],
      [102, 3, 1, 1, 0],
    ]);
    expect(formatAuditTable(rows)).toEqual([
      "thread  done  refused  denied  misused  FS base  requests",
      "100     6     2        2       4        0x0      SetFsBase ×4, GetGsBase ×2, SetThreadArea ×2, ClearTls ×2",
      "101     3     1        1       0        0x0      SetFsBase ×2, GetGsBase, SetThreadArea, ClearTls",
      "102     3     1        1       0        0x0      SetFsBase ×2, GetGsBase, SetThreadArea, ClearTls",
    ]);
  });

  test("a trace for Perfetto: tracks, tokens and findings", () => {
    const finding = { kind: "canary", thread: 101, detail: "0x0 instead of 0x1", sequence: 6 } as const;
    const { traceEvents } = perfettoTrace([{ name: "a.out", provider: "direct", records, findings: [finding] }]);
    expect(JSON.parse(JSON.stringify(traceEvents))).toHaveLength(1 + 3 + records.length + 1);
    expect(traceEvents.find(({ name }) => name === "SetFsBase")).toEqual({
      name: "SetFsBase",
      cat: "token",
      ph: "i",
      s: "t",
      ts: 1.5,
      pid: 1,
      tid: 100,
      args: {
        what: "SetFsBase 0x70000000 granted by direct: fs_base 0x0 → 0x70000000",
        call: "arch_prctl",
        where: "0x401000 main+0x4",
        sequence: 0,
      },
    });
    const times = traceEvents.filter(({ cat }) => cat === "token").map(({ ts }) => ts ?? 0);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
  });
});
