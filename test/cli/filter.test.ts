import { describe, expect, test } from "vitest";
import { TraceFilter } from "../../cli/filter.ts";

const vocabulary = {
  names: new Set(["open", "openat", "read", "time", "arch_prctl", "futex", "mq_open"]),
  families: new Set(["file", "tls", "time", "thread", "network"]),
};
const CALLS = [
  { name: "openat", family: "file" },
  { name: "read", family: "file" },
  { name: "time", family: "time" },
  { name: "clock_gettime", family: "time" },
  { name: "arch_prctl", family: "tls" },
  { name: "futex", family: "thread" },
  { name: "mq_open", family: undefined },
];

function admitted(...expressions: string[]): string[] {
  const filter = new TraceFilter(expressions, vocabulary);
  return CALLS.filter((call) => filter.admits(call)).map((call) => call.name);
}
const ALL = CALLS.map((call) => call.name);

describe("expressions of -e", () => {
  test.each([
    { expressions: [], passes: ALL },
    { expressions: ["tls"], passes: ["arch_prctl"] },
    { expressions: ["%tls"], passes: ["arch_prctl"] },
    { expressions: ["trace=tls"], passes: ["arch_prctl"] },
    { expressions: ["trace=file,futex"], passes: ["openat", "read", "futex"] },
    { expressions: ["tls", "read"], passes: ["read", "arch_prctl"] },
    { expressions: ["time"], passes: ["time", "clock_gettime"] },
    { expressions: ["!file"], passes: ALL.slice(2) },
    { expressions: ["trace=!openat,read"], passes: ALL.slice(2) },
    { expressions: ["file", "!read"], passes: ["openat"] },
    { expressions: ["/^mq_|^fut"], passes: ["futex", "mq_open"] },
    { expressions: ["all"], passes: ALL },
    { expressions: ["none"], passes: [] },
    { expressions: ["?no_such_call"], passes: [] },
    { expressions: ["desc"], passes: ["openat", "read"] },
    { expressions: ["failed"], passes: ALL },
  ])("$expressions", ({ expressions, passes }) => {
    expect(admitted(...expressions)).toEqual(passes);
  });

  test.each([
    [["failed"], "failed"],
    [["status=failed"], "failed"],
    [["file,failed"], "failed"],
    [["!failed"], "successful"],
    [["status=successful"], "successful"],
    [["file"], "all"],
  ])("%j asks for results that are %s", (expressions, status) => {
    expect(new TraceFilter(expressions, vocabulary).status).toBe(status);
  });

  test.each([
    ["opn", /did you mean open\?/],
    ["%read", /no call or class "%read"/],
    ["zzzzzzzzzz", /classes are file, network, thread, time, tls/],
    ["open,,read", /a name is missing/],
    ["", /a name is missing/],
    ["status=odd", /failed, successful, all/],
    ["verbose=read", /"verbose" is no qualifier/],
    ["/(", /no regular expression/],
  ])("%j is refused", (expression, says) => {
    expect(() => new TraceFilter([expression], vocabulary)).toThrow(
      expect.objectContaining({ exitCode: 125, message: expect.stringMatching(says) }),
    );
  });
});
