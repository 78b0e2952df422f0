import { describe, expect, test } from "vitest";
import { fixtures, shimbed } from "../world/harness.ts";

const wide = fixtures("tls").find(({ name }) => name === "le-static-glibc-x86_64")?.file ?? "";
const narrow = fixtures("tls").find(({ name }) => name === "le-static-glibc-i386")?.file ?? "";

describe("a program of the other word size", () => {
  test.each(["linux-userland", "linux-kernel", "windows-userland"])("is not executed on %s", (provider) => {
    const execs = ["run", "--root", "/", "-p", provider, "/bin/sh", "-c", `exec "${narrow}"`];
    const { stderr, status } = shimbed(execs);
    expect(status).toBe(126);
    expect(stderr).toContain(
      `shimbed: not executed (ENOEXEC), as provider ${provider} does not serve it in this run: ${narrow} (i386)\n`,
    );
  });

  test("runs on direct, and as the first program where the provider serves it", () => {
    expect(shimbed(["run", "--root", "/", "/bin/sh", "-c", `exec "${narrow}"`])).toMatchObject({
      status: 0,
      stderr: "",
    });
    expect(shimbed(["run", "-p", "linux-userland", narrow])).toMatchObject({ status: 0, stderr: "" });
    expect(shimbed(["run", "-p", "linux-userland", wide])).toMatchObject({ status: 0, stderr: "" });
    expect(shimbed(["run", "-p", "linux-kernel", narrow])).toMatchObject({
      status: 125,
      stderr: expect.stringMatching(
        /^shimbed: provider linux-kernel does not serve i386 guests: .*choose one of direct/,
      ),
    });
  });
});
