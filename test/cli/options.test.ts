import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  guestEnvironment,
  parseBind,
  parseCount,
  parseGuestPath,
  parseSeconds,
  parseSeed,
  parseSize,
  parseUnset,
  parseUser,
  parseVariable,
} from "../../cli/options.ts";

/** The same cases in every run. */
fc.configureGlobal({ seed: 1 });

describe("values of options", () => {
  test.each([
    ["4096", 4096],
    ["64K", 65536],
    ["64k", 65536],
    ["512M", 512 * 2 ** 20],
    ["1.5GiB", 1.5 * 2 ** 30],
    ["2GB", 2 ** 31],
  ])("size %s", (text, bytes) => expect(parseSize(text)).toBe(bytes));
  test.each(["", "-1", "M", "12Q", "1e9", "4095", "0x1000", "1.M", " 4096"])("no size: %j", (text) =>
    expect(() => parseSize(text)).toThrow(),
  );

  test.each([
    ["1", 1],
    ["0.25", 0.25],
    [".5", 0.5],
  ])("seconds %s", (text, seconds) => expect(parseSeconds(text)).toBe(seconds));
  test.each(["", "0", "soon", "-1", "1s", "Infinity", "99999999"])("no seconds: %j", (text) =>
    expect(() => parseSeconds(text)).toThrow(),
  );

  test("counts and seeds", () => {
    expect(parseCount("100000")).toBe(100_000);
    for (const text of ["0", "-5", "1.5", "x", "99999999999999999999"]) expect(() => parseCount(text)).toThrow();
    expect([parseSeed("0"), parseSeed("0xff")]).toEqual([0, 255]);
    for (const text of ["", "-1", "seed", "9007199254740993"]) expect(() => parseSeed(text)).toThrow();
  });

  test("binds", () => {
    expect(parseBind("./data:/data")).toEqual({ host: "./data", guest: "/data", writable: false });
    expect(parseBind("/a:/b:ro")).toEqual({ host: "/a", guest: "/b", writable: false });
    expect(parseBind("/a:/b:rw")).toEqual({ host: "/a", guest: "/b", writable: true });
    for (const text of ["x", "x:", ":/y", "x:y", "x:/y:wr", "/a:/b:rw:"]) expect(() => parseBind(text)).toThrow();
  });

  test("users and paths in the guest", () => {
    expect(parseUser("1000")).toEqual({ uid: 1000, gid: 1000 });
    expect(parseUser("0:5")).toEqual({ uid: 0, gid: 5 });
    for (const text of ["", "root", "-1", "1:", "4294967295"]) expect(() => parseUser(text)).toThrow();
    expect(parseGuestPath("/x")).toBe("/x");
    expect(() => parseGuestPath("x")).toThrow();
  });
});

describe("the guest's environment", () => {
  const host = { PATH: "/host", HOME: "/root", TERM: "xterm" };
  const changes = (...words: string[]) =>
    words.map((word) => (word.startsWith("-") ? parseUnset(word.slice(1)) : parseVariable(word)));

  test("is empty unless something is asked for", () => {
    expect(guestEnvironment({ environment: [] }, host)).toEqual([]);
  });
  test("takes values, and the host's by name", () => {
    expect(guestEnvironment({ environment: changes("A=1", "B=", "C=x=y", "TERM", "NOTHERE") }, host)).toEqual([
      "A=1",
      "B=",
      "C=x=y",
      "TERM=xterm",
    ]);
  });
  test("starts from the host's when that is asked for, and later options win", () => {
    const environment = changes("-HOME", "PATH=/guest", "A=1", "-A", "A=2");
    expect(guestEnvironment({ environment, hostEnv: true }, host)).toEqual(["PATH=/guest", "TERM=xterm", "A=2"]);
  });
  test("any value passes unchanged", () => {
    fc.assert(
      fc.property(fc.string(), (value) => {
        expect(guestEnvironment({ environment: [parseVariable(`V=${value}`)] }, {})).toEqual([`V=${value}`]);
      }),
    );
  });
  test.each(["", "=x"])("%j names no variable", (text) => expect(() => parseVariable(text)).toThrow());
  test.each(["", "A=1"])("%j cannot be unset", (text) => expect(() => parseUnset(text)).toThrow());
});
