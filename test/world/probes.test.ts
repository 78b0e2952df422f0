import { describe, expect, test } from "vitest";
import { type Fixture, fixtures, guest, recorded } from "./harness.ts";

const probes = fixtures("probes").filter((f) => f.name.startsWith("probe-"));
const faults = probes.filter((p) => p.name.startsWith("probe-faults"));

describe("every rule of the TLS calls that Linux keeps", () => {
  test.each(probes.filter((p) => !faults.includes(p)))("$name", (probe) => {
    const outcome = guest(probe.file, []);
    expect(outcome.stdout.split("\n")).toEqual(recorded(probe).split("\n"));
    expect(outcome.status).toBe(0);
  });
});

interface Fault {
  readonly fixture: Fixture;
  readonly name: string;
  readonly status: number;
  readonly strict: boolean;
}
/** One case a line: NAME SIGNAL [strict]; signal 0 means that the guest survives. */
function cases(fixture: Fixture): Fault[] {
  return recorded(fixture)
    .trim()
    .split("\n")
    .map((line) => {
      const [name = "", signal = "", strict] = line.split(" ");
      return { fixture, name, status: Number(signal) === 0 ? 0 : 128 + Number(signal), strict: strict !== undefined };
    });
}

describe.each(faults)("$name: the signal that hardware and kernel give", (fixture) => {
  test.each(cases(fixture))("$name ends with $status", ({ name, status, strict }) => {
    const outcome = guest(fixture.file, [name], { flags: strict ? ["--strict-segments"] : [] });
    expect({ status: outcome.status, stdout: outcome.stdout }).toEqual({
      status,
      stdout: status === 0 ? "survived\n" : "",
    });
    if (status !== 0) expect(outcome.stderr).toMatch(/^shimbed: /m);
  });
});
