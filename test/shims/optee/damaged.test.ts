// Files of TAs and of ldelf that are cut short or have bytes changed: an error of the user's, a result, or a dead TA; nothing else.
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { UserError } from "../../../emulator/errors.ts";
import { readTa } from "../../../shims/optee/binary.ts";
import { openSession } from "../../../shims/optee/client.ts";
import { TeeHost } from "../../../shims/optee/host.ts";
import { readLdelf } from "../../../shims/optee/ldelf.ts";
import { taFiles } from "./ta-files.ts";

const TIMEOUT_MS = 2000;

/** How opening a session to such a TA ends. */
function opens(bytes: Uint8Array): string {
  let host: TeeHost;
  try {
    host = new TeeHost({ tas: [readTa(bytes, "damaged.elf")], timeoutMs: TIMEOUT_MS });
  } catch (error) {
    if (error instanceof UserError) return "refused";
    throw error;
  }
  try {
    const { answer } = openSession(host.tee, host.main.uuid, []);
    return answer.result === 0 ? "opened" : host.tee.deaths.length > 0 ? "dead" : "error";
  } finally {
    host.close();
  }
}

const count = (ends: readonly string[]): Record<string, number> =>
  Object.fromEntries([...new Set(ends)].sort().map((end) => [end, ends.filter((other) => other === end).length]));

it("TAs cut anywhere are refused", () => {
  const whole = readFileSync(taFiles.counter);
  const ends = [];
  for (let length = 0; length < whole.length; length += 97) ends.push(opens(whole.subarray(0, length)));
  expect(count(ends)).toEqual({ refused: ends.length });
  expect(() => readTa(whole.subarray(0, 9000), "cut.elf")).toThrow(/section headers should lie at .*it is truncated/);
});

it("TAs with changed bytes end in one of four ways", () => {
  const whole = readFileSync(taFiles["needs-library"]);
  const plain = readFileSync(taFiles.threads);
  let random = 1;
  const next = (below: number): number => {
    random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
    return (random >>> 8) % below;
  };
  const ends = [];
  for (let n = 0; n < 600; n++) {
    const bytes = Buffer.from(n % 2 === 0 ? whole : plain);
    // Headers, dynamic section and relocations are small: changes go there as often as anywhere.
    const areas = [64, 0x200, 0x1400, bytes.length] as const;
    const area = areas[n % 4] ?? 64;
    for (let change = 0; change <= n % 3; change++) bytes[next(area)] = next(256);
    ends.push(opens(bytes));
  }
  const { refused = 0, opened = 0, dead = 0, error = 0 } = count(ends);
  expect(refused + opened + dead + error).toBe(600);
  for (const some of [refused, opened, dead, error]) expect(some).toBeGreaterThan(5);
});

it("so do files of ldelf", () => {
  const whole = readFileSync(taFiles.ldelf);
  for (let length = 0; length < whole.length; length += 701) {
    try {
      readLdelf(whole.subarray(0, length), "ldelf.elf");
    } catch (error) {
      expect(error).toBeInstanceOf(UserError);
    }
  }
});
