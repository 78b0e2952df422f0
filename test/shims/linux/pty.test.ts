// Pseudo-terminals, each step with its result, against this machine's kernel.
import { expect, it } from "vitest";
import { guest, noNative } from "../../world/harness.ts";
import { listAsOnLinux, listCompiler } from "./native-list.ts";

listAsOnLinux("pseudo-terminals as on Linux", "pty.c");

const compile = listCompiler("pty.c");
it.skipIf(noNative)("there are some thousand of them, and no more", () => {
  const { stdout } = guest(compile("exhaust", []), ["exhaust"]);
  expect(stdout).toBe("setrlimit(RLIMIT_NOFILE, &files): 0\nENOSPC after thousands: 1\n");
});
