import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, describe, it } from "vitest";
import { guest, noNative, ROOT, same } from "../../world/harness.ts";
import { runNatively } from "./native-program.ts";

/** Compiles a program of fixtures/c with options, as a file of this name, and removes it when the tests have ended. */
export function listCompiler(source: string): (name: string, options: readonly string[]) => string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "shimbed-list-"));
  afterAll(() => fs.rmSync(directory, { recursive: true }));
  return (name, options) => {
    const file = path.join(directory, name);
    const command = ["-O1", "-w", "-pthread", ...options, "-o", file, path.join(ROOT, "fixtures/c", source)];
    if (spawnSync("gcc", command).status === 0) return file;
    throw new Error(`gcc ${options.join(" ")} cannot compile ${source} here: install gcc-multilib`);
  };
}

/**
 * A C program of fixtures/c that lists operations and their results: it must print here what it prints on this machine's kernel.
 * @param flags of `shimbed run`
 */
export function listAsOnLinux(title: string, source: string, flags: readonly string[] = []): void {
  const compile = listCompiler(source);

  describe.skipIf(noNative)(title, () => {
    it.each([
      ["x86-64", []],
      ["x86-64, static", ["-static"]],
      ["i386", ["-m32"]],
      ["i386, static", ["-m32", "-static"]],
    ])("%s", { timeout: 300_000 }, async (name, options) => {
      const file = compile(name.replace(/\W+/g, "-"), options);
      await same(guest(file, [], { flags }), () => runNatively(file, ROOT));
    });
  });
}
