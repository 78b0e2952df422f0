import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { locateGuest } from "../../cli/locate.ts";

let dir: string;
const path = process.env.PATH;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "shimbed-locate-"));
  for (const name of ["bin", "root", "root/usr", "root/usr/bin", "root/opt"]) mkdirSync(join(dir, name));
  const files = ["bin/tool", "bin/plain", "bin/hollow", "root/usr/bin/tool", "root/opt/other"];
  for (const file of files) writeFileSync(join(dir, file), file.endsWith("hollow") ? "" : "x", { mode: 0o755 });
  chmodSync(join(dir, "bin/plain"), 0o644);
  // Debian's merged /usr, and a link that is absolute within the root.
  symlinkSync("usr/bin", join(dir, "root/bin"));
  symlinkSync("/opt/other", join(dir, "root/usr/bin/linked"));
  symlinkSync("/usr/bin/circle", join(dir, "root/usr/bin/circle"));
  process.env.PATH = join(dir, "bin");
});
afterAll(() => {
  process.env.PATH = path;
  rmSync(dir, { recursive: true, force: true });
});

const refusal = (code: number, says: RegExp) =>
  expect.objectContaining({ exitCode: code, message: expect.stringMatching(says) });

describe("without a root", () => {
  test("a name is looked for in PATH, among what may be executed", () => {
    expect(locateGuest("tool", undefined, undefined)).toBe(join(dir, "bin/tool"));
    expect(() => locateGuest("plain", undefined, undefined)).toThrow(refusal(127, /plain in PATH/));
    expect(() => locateGuest("nowhere", undefined, undefined)).toThrow(refusal(127, /nowhere in PATH/));
    expect(() => locateGuest("README.md", undefined, undefined)).toThrow(refusal(127, /write \.\/README\.md/));
    expect(() => locateGuest("", undefined, undefined)).toThrow(refusal(127, /empty/));
  });
  test("a path is taken as it is", () => {
    expect(locateGuest(join(dir, "bin/../bin/tool"), undefined, undefined)).toBe(join(dir, "bin/tool"));
    expect(() => locateGuest("/no/such", undefined, undefined)).toThrow(refusal(127, /no such file/));
    expect(() => locateGuest(join(dir, "bin/tool/x"), undefined, undefined)).toThrow(refusal(127, /no directory/));
    expect(() => locateGuest(dir, undefined, undefined)).toThrow(refusal(126, /directory/));
    expect(() => locateGuest("/dev/null", undefined, undefined)).toThrow(refusal(126, /regular file/));
    expect(() => locateGuest(join(dir, "bin/hollow"), undefined, undefined)).toThrow(refusal(126, /empty/));
    expect(() => locateGuest(join(dir, "bin/plain"), undefined, undefined)).toThrow(refusal(126, /chmod \+x/));
  });
});

describe("with a root", () => {
  test("a name is looked for in the guest's PATH", () => {
    const root = join(dir, "root");
    expect(locateGuest("tool", root, undefined)).toBe("/usr/bin/tool");
    expect(locateGuest("tool", root, "/nope:/bin")).toBe("/bin/tool");
    expect(locateGuest("linked", root, undefined)).toBe("/usr/bin/linked");
    expect(locateGuest("other", root, "/opt")).toBe("/opt/other");
    expect(() => locateGuest("tool", root, "/opt")).toThrow(refusal(127, /tool in PATH within/));
    expect(() => locateGuest("circle", root, undefined)).toThrow(refusal(127, /circle/));
  });
  test("a path is for the root to decide", () => {
    expect(locateGuest("/usr/bin/tool", join(dir, "root"), undefined)).toBe("/usr/bin/tool");
  });
});
