// More than a thousand socket operations, each with its result or errno: the run's own network against this machine's kernel.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, describe, it } from "vitest";
import { guest, native, noNative, ROOT, same } from "../../world/harness.ts";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "shimbed-sockets-"));
afterAll(() => fs.rmSync(directory, { recursive: true }));

function compile(name: string, options: readonly string[]): string {
  const file = path.join(directory, name);
  const source = path.join(ROOT, "fixtures/c/net.c");
  const done = spawnSync("gcc", ["-O1", "-w", ...options, "-o", file, source]);
  if (done.status !== 0) throw new Error(`gcc ${options.join(" ")} cannot compile here: install gcc-multilib`);
  return file;
}

describe.skipIf(noNative)("sockets as on Linux", () => {
  it.each([
    ["x86-64", []],
    ["x86-64, static", ["-static"]],
    ["i386", ["-m32"]],
    ["i386, static", ["-m32", "-static"]],
  ])("%s", (name, options) => {
    const file = compile(name.replace(/\W+/g, "-"), options);
    same(guest(file, []), native([file]));
  });
});
