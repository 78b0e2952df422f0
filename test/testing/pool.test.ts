import { expect, it } from "vitest";
import type { Case } from "../../cli/testing/manifest.ts";
import { runPool } from "../../cli/testing/pool.ts";

const make = (id: string): Case => ({
  id,
  directory: "/",
  file: id,
  flags: [],
  root: undefined,
  cpu: "x86-64-v2",
  args: [],
  env: {},
  input: "",
  timeout: 0.05,
  provider: "direct",
  arch: "x86_64",
  seed: 0,
  inject: [],
  strictSegments: false,
  expected: {},
  golden: undefined,
  skip: undefined,
});

/** A worker that passes what it is given, but hangs, dies or breaks where the name says so. */
const WORKER = `
  const send = (message) => process.send(message);
  process.on("message", ({ one: { id } }) => {
    if (id.startsWith("hang")) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    if (id.startsWith("die")) { console.error("out of luck"); process.exit(3); }
    if (id.startsWith("break")) return send({ kind: "broken", id, message: "oh" });
    send({ kind: "result", result: { id, status: "passed", ms: 1, message: "", digest: "d", updated: false } });
  });
  send({ kind: "ready" });
`;
const options = { workers: 2, repeat: 1, update: false, grace: 3000 } as const;

it("kills what hangs, replaces what dies, and goes on", async () => {
  const ids = ["a", "hang", "b", "die", "c", "break", "d", "hang again", "e"];
  const seen: string[] = [];
  const results = await runPool(ids.map(make), {
    ...options,
    command: [process.execPath, "-e", WORKER],
    progress: ({ id }) => seen.push(id),
  });
  expect(results.map(({ id, status }) => [id, status])).toEqual([
    ["a", "passed"],
    ["hang", "hung"],
    ["b", "passed"],
    ["die", "error"],
    ["c", "passed"],
    ["break", "error"],
    ["d", "passed"],
    ["hang again", "hung"],
    ["e", "passed"],
  ]);
  expect(results[1]?.message).toMatch(/^it hung: it neither ended nor let itself be stopped/);
  expect(results[3]?.message).toMatch(/^its worker ended with status 3:\nout of luck/);
  expect(results[5]?.message).toBe("a mistake in shimbed: oh");
  expect(seen.toSorted()).toEqual(ids.toSorted());
});

it("gives up where no worker ever comes up", async () => {
  const command = [process.execPath, "-e", "console.error('no engine'); process.exit(1)"] as const;
  const running = runPool(["a", "b"].map(make), { ...options, command: [...command], progress: () => {} });
  await expect(running).rejects.toThrow("workers end before they begin: no engine");
});

it("has nothing to do for no cases", async () => {
  expect(await runPool([], { ...options, progress: () => {} })).toEqual([]);
});
