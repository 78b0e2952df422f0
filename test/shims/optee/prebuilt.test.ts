// The TAs in fixtures/ta/bin: whole, made from the sources that are there, and doing what those do when they are built here.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import { readTa } from "../../../shims/optee/binary.ts";
import { uteeCalls } from "../../../shims/optee/calls/all.ts";
import { ldelfCalls } from "../../../shims/optee/calls/ldelf.ts";
import { invokeCommand, openSession, type TaParam } from "../../../shims/optee/client.ts";
import type { CallEvent } from "../../../shims/optee/events.ts";
import { TeeHost } from "../../../shims/optee/host.ts";
import { uuidToBytes } from "../../../shims/optee/uuid.ts";
import { type TaName, ta, taFiles } from "./ta-files.ts";

const ROOT = join(import.meta.dirname, "../../..");
const BIN = join(ROOT, "fixtures/ta/bin");
interface Manifest {
  readonly sources: string;
  readonly files: readonly { readonly path: string; readonly sha256: string; readonly size: number }[];
}
const manifest: Manifest = JSON.parse(readFileSync(join(BIN, "manifest.json"), "utf8"));

type Place = "prebuilt" | "built here";
const fileOf = (name: TaName | "ldelf", place: Place): string =>
  place === "prebuilt" ? join(BIN, basename(taFiles[name])) : taFiles[name];

interface Step {
  readonly command: number;
  readonly params: readonly TaParam[];
}
const value = (a: number, b: number): TaParam => ({ type: "value_inout", a, b });
const output: TaParam = { type: "value_output" };
const counter: TaParam = { type: "memref_input", data: uuidToBytes(ta("counter").uuid) };
interface Use {
  readonly names: readonly [TaName, ...TaName[]];
  readonly steps: readonly Step[];
  readonly ldelf?: boolean;
}
const commands = (...list: readonly number[]): Step[] => list.map((command) => ({ command, params: [] }));
const uses: readonly Use[] = [
  { names: ["tour"], steps: commands(0, 1, 2, 3, 4, 5, 6, 7) },
  { names: ["tour"], steps: commands(0, 5), ldelf: true },
  { names: ["counter"], steps: [{ command: 1, params: [{ type: "memref_inout", data: Buffer.from("HAL") }] }] },
  { names: ["threads"], steps: [1, 2, 3].map((n) => ({ command: 0, params: [value(n, 0)] })) },
  { names: ["caller", "counter"], steps: [{ command: 0, params: [counter, output] }] },
  { names: ["needs-library", "library"], steps: [{ command: 0, params: [value(5, 0)] }] },
  { names: ["hostile"], steps: [{ command: 1, params: [{ type: "value_input", a: 3, b: 2000 }, output] }] },
  ...[1, 2, 4, 6, 7, 8, 9, 11].map((command) => ({ names: ["dies"] as const, steps: commands(command) })),
];

/** All that can be seen of a use without addresses: calls and answers, what comes back, how it dies. */
function transcript(place: Place, { names, steps, ldelf }: Use, calls: CallEvent[] = []): unknown[] {
  const seen: unknown[] = [];
  const [first, ...rest] = names.map((name) => {
    const file = fileOf(name, place);
    return readTa(readFileSync(file), file);
  });
  if (first === undefined) throw new Error("no TA");
  const host = new TeeHost({
    tas: [first, ...rest],
    ldelf: ldelf ? fileOf("ldelf", place) : undefined,
    watch: (event) => {
      if (event.kind === "log") seen.push(event.text);
      else if (event.kind !== "call") seen.push(event.kind);
      else {
        calls.push(event);
        seen.push([event.table, event.name, event.result]);
      }
    },
  });
  const { answer, session } = openSession(host.tee, first.uuid, []);
  seen.push(answer.result);
  for (const { command, params } of steps) {
    if (session === undefined) break;
    const { result, origin, outputs, panic } = invokeCommand(host.tee, session, command, params);
    seen.push([result, origin, outputs, panic?.reason.replace(/0x[0-9a-f]{6,}/, ""), panic?.code]);
  }
  host.close();
  return seen;
}

describe("prebuilt TAs", () => {
  it("are whole", () => {
    for (const { path, sha256, size } of manifest.files) {
      const bytes = readFileSync(join(BIN, path));
      expect([path, bytes.length, createHash("sha256").update(bytes).digest("hex")]).toEqual([path, size, sha256]);
    }
    expect(manifest.files.map(({ path }) => path).sort()).toEqual(
      Object.values(taFiles)
        .map((f) => basename(f))
        .sort(),
    );
  });

  it("are made from the sources that are there (else: node fixtures/ta/build.mjs --prebuilt)", () => {
    const { stdout } = spawnSync(process.execPath, [join(ROOT, "fixtures/ta/build.mjs"), "--digest"], {
      encoding: "utf8",
    });
    expect(manifest.sources).toBe(JSON.parse(stdout));
  });

  it.each(uses)("$names: a build here behaves the same", (use) => {
    const prebuilt = transcript("prebuilt", use);
    expect(prebuilt.length).toBeGreaterThan(3);
    expect(transcript("built here", use)).toEqual(prebuilt);
  });
});

describe("the C TAs", () => {
  it("make every call of both tables, and it succeeds", () => {
    const calls: CallEvent[] = [];
    for (const use of uses) if (use.names[0] !== "hostile") transcript("prebuilt", use, calls);
    const missing = (table: string, rows: readonly { readonly name: string }[]) => {
      const good = calls.filter((call) => call.table === table && (call.result === 0 || call.result === undefined));
      const made = new Set(good.map(({ name }) => name));
      return rows.map(({ name }) => name).filter((name) => !made.has(name));
    };
    expect(missing("utee", uteeCalls.rows)).toEqual([]);
    // This one would end what it is to load; its checks panic when something is not right.
    expect(missing("ldelf", ldelfCalls.rows)).toEqual(["panic"]);
  });
});
