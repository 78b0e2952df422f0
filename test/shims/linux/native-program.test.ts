import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { noNative } from "../../world/harness.ts";
import { runNatively } from "./native-program.ts";

const folder = mkdtempSync(join(tmpdir(), "shimbed-native-"));
afterAll(() => rmSync(folder, { recursive: true }));

function compile(name: string, body: string): string {
  const file = join(folder, name);
  const input = `#include <stdio.h>\n#include <unistd.h>\nint main(void) { setbuf(stdout, 0); ${body} }`;
  expect(spawnSync("gcc", ["-w", "-x", "c", "-", "-o", file], { input }).status).toBe(0);
  return file;
}

function running(file: string): string[] {
  const pids = readdirSync("/proc").filter((entry) => /^\d+$/.test(entry));
  return pids.filter((pid) => {
    try {
      return readlinkSync(`/proc/${pid}/exe`) === file;
    } catch {
      return false;
    }
  });
}

describe.skipIf(noNative)("native reference runs", () => {
  test("a program that ends leaves nobody behind that holds its output", async () => {
    const file = compile(
      "leaves",
      'int p[2]; char c; pipe(p); if (fork() == 0) { setsid(); puts("child"); write(p[1], "x", 1); pause(); } read(p[0], &c, 1); return 7;',
    );
    expect(await runNatively(file, folder)).toEqual({ stdout: "child\n", stderr: "", status: 7 });
    expect(running(file)).toEqual([]);
  });

  test("one that hangs is ended with all it has started", async () => {
    const file = compile("hangs", 'puts("begun"); fork(); setsid(); for (;;) pause();');
    expect(await runNatively(file, folder, 2000)).toEqual({ stdout: "begun\n", stderr: "", status: "timeout" });
    expect(running(file)).toEqual([]);
  });

  test("signals count as in a shell", async () => {
    const file = compile("dies", "raise(11);");
    expect(await runNatively(file, folder)).toEqual({ stdout: "", stderr: "", status: 139 });
  });
});
