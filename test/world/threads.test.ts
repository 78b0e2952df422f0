import { describe, expect, test } from "vitest";
import { debianRoots, fixtures, guest, native, recorded, same } from "./harness.ts";

const roots = debianRoots();

describe("guests with threads", () => {
  test.each(fixtures("tls").filter((f) => f.tags.includes("threads")))("$name", (fixture) => {
    expect(guest(fixture.file, fixture.args)).toEqual({ stdout: recorded(fixture), stderr: "", status: 0 });
  });
  test.each(["amd64", "i386"] as const)("gron, a Go program, on %s", async (arch) => {
    if ("missing" in roots) throw new Error(roots.missing);
    const [root, command] = [roots[arch], ["/usr/bin/gron", "--monochrome", "/sample/data.json"] as const];
    const [file, ...args] = command;
    await same(guest(file, args, { flags: ["--root", root] }), () => native([...command], { root }));
  });
});
