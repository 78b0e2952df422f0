import { describe, test } from "vitest";
import { providerInfos } from "../../providers/registry.ts";
import { clockFlags, ENV, PROGRAMS, type Program } from "./debian-programs.ts";
import { debianRoots, guest, native, noNative, same } from "./harness.ts";

const roots = noNative === undefined ? debianRoots() : { missing: noNative };
/** SHIMBED_ALL=1 runs each program under each provider; otherwise each runs under one of them. */
const all = process.env.SHIMBED_ALL === "1";
const platforms = providerInfos.filter(({ name, shims }) => name !== "direct" && shims.includes("linux"));

for (const [arch, abi] of [
  ["amd64", "x86_64"],
  ["i386", "i386"],
] as const) {
  const root = "missing" in roots ? undefined : roots[arch];
  const why = "missing" in roots ? ` (left out: ${roots.missing})` : "";
  const served = platforms.filter(({ abis }) => abis.includes(abi)).map(({ name }) => name);
  const runs = PROGRAMS.flatMap((program, index): [string, string, Program][] => {
    // Half of them, dealt out to three providers; where one alone serves a word size, it gets its third.
    const one = index % 2 === 0 ? served[(index / 2) % 3] : undefined;
    const chosen = all ? served : one === undefined ? [] : [one];
    return chosen.map((provider) => [program.name, provider, program]);
  });

  describe.skipIf(root === undefined)(`Debian ${arch} programs under every platform${why}`, () => {
    test.each(runs)("%s on %s", async (_, provider, program) => {
      const { command, input = "" } = program;
      if (root === undefined) throw new Error("skipped suites do not run");
      const [file, ...args] = command;
      const flags = ["--root", root, "-p", provider, "--host-events", "some", ...clockFlags(program)];
      await same(guest(file, args, { flags, input, env: ENV }), () => native(command, { root, input, env: ENV }));
    });
  });
}
