// A few hundred file operations, each with its result or errno: the guest's files against this machine's kernel.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, describe, it } from "vitest";
import { guest, native, noNative, ROOT, same } from "../../world/harness.ts";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "shimbed-fileops-"));
afterAll(() => fs.rmSync(directory, { recursive: true }));

/** Compiles the list; undefined where the compiler cannot make this kind. */
function compile(name: string, options: readonly string[]): string | undefined {
  const file = path.join(directory, name);
  const source = path.join(ROOT, "fixtures/c/fileops.c");
  return spawnSync("gcc", ["-O1", "-w", ...options, "-o", file, source]).status === 0 ? file : undefined;
}

describe.skipIf(noNative)("file operations as on Linux", () => {
  it.each([
    ["x86-64, static", ["-static"]],
    ["x86-64, dynamic", []],
    ["i386, 32-bit offsets", ["-m32"]],
    ["i386, 64-bit offsets", ["-m32", "-static", "-D_FILE_OFFSET_BITS=64"]],
  ])("%s", async (name, options) => {
    const file = compile(name.replace(/\W+/g, "-"), options);
    if (file === undefined) throw new Error(`gcc ${options.join(" ")} cannot compile here: install gcc-multilib`);
    await same(guest(file, []), () => native([file]));
  });
});
