import { describe, expect, test } from "vitest";
import { complaint, type Fixture, fixtures, guest, recorded } from "./harness.ts";

/** Those with threads are in threads.test.ts. */
const guests = fixtures("tls", "prebuilt").filter((f) => !f.tags.includes("threads"));

function run(fixture: Fixture) {
  // Libraries that are opened while running are not among those that the program needs: the guest gets the whole tree.
  const flags = fixture.tags.includes("dlopen") ? ["--root", "/"] : [];
  return guest(fixture.file, fixture.args, { flags });
}

describe.each(["x86_64", "i386"] as const)("every TLS model on %s ends and prints as on Linux", (arch) => {
  test.each(guests.filter((g) => g.arch === arch))("$name", (fixture) => {
    const outcome = run(fixture);
    const said = fixture.status < 128 ? complaint(outcome) : "";
    expect({ stdout: outcome.stdout, status: outcome.status, said }).toEqual({
      stdout: recorded(fixture),
      status: fixture.status,
      said: "",
    });
  });
});

test("the two shipped guests are there", () => {
  expect(guests.filter((g) => g.group === "prebuilt").map((g) => g.name)).toEqual(["tls-demo-x86_64", "tls-demo-i386"]);
});
