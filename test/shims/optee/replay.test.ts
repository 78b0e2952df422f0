// The benchmark's yardstick: a recorded TA runs again in a plain C loop over libunicorn, with the same registers at every call and the
// same memory at the end of every entry.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { invokeCommand, openSession } from "../../../shims/optee/client.ts";
import { overUnicorn } from "../../bench/runners.ts";
import { TaRecorder } from "../../bench/ta-recording.ts";
import { teeWith } from "./ta-files.ts";

const directory = mkdtempSync(join(tmpdir(), "shimbed-replay-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

it("a recorded TA runs again over libunicorn alone, and a changed recording is found out", () => {
  const host = teeWith(["tour"]);
  const recorder = new TaRecorder(host);
  const { session } = openSession(host.tee, host.main.uuid, []);
  if (session === undefined) throw new Error("the TA did not open");
  for (const command of [0, 3, 4, 5]) invokeCommand(host.tee, session, command, []);
  host.tee.sessions.close(session);
  const { bytes, entries, calls } = recorder.end();
  host.close();
  expect(entries).toBe(6);
  expect(calls).toBeGreaterThan(60);
  const { stock } = overUnicorn("replay.c", { plain: "replay", stock: "replay-stock" });
  if (stock === undefined) throw new Error("replay.c cannot be built here");
  const replay = (recording: Uint8Array) => {
    const file = join(directory, "recording");
    writeFileSync(file, recording);
    return spawnSync(stock, [file], { encoding: "utf8", timeout: 150_000 });
  };
  expect(replay(bytes)).toMatchObject({ status: 0, stderr: "", stdout: expect.stringMatching(/^\d+ \d+\n$/) });
  // The last word but the tag before it is the checksum of all memory.
  const changed = Buffer.from(bytes);
  changed.writeUInt8((changed.at(-8) ?? 0) ^ 1, changed.length - 8);
  expect(replay(changed)).toMatchObject({ status: 1, stderr: expect.stringContaining("memory is another") });
});
