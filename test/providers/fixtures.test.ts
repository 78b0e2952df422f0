import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { hostEventModes } from "../../providers/host-events.ts";
import { providerInfos } from "../../providers/registry.ts";
import { fixtures } from "../world/harness.ts";
import { runReal } from "./real-guest.ts";

/** Probes that use the segment register in which these hosts have their own TLS: not served there. */
const USES_HOST_SEGMENT = /^probe-(arch_prctl|fsgsbase|int80|modify_ldt|thread_area)/;
/** `hostile` tries what would make a testbed fail. */
const guests = fixtures("tls", "probes", "prebuilt").filter(({ name }) => !name.startsWith("hostile"));

const platforms = providerInfos.filter(({ name, shims }) => name !== "direct" && shims.includes("linux"));

describe.each([...platforms])("$name", ({ name: provider, abis }) => {
  const own = guests.filter(({ arch, name }) => {
    const keepsSegment = provider !== "linux-kernel";
    return abis.includes(arch) && !(keepsSegment && USES_HOST_SEGMENT.test(name));
  });

  test.each(own)("$name does as on direct", async ({ file, args, arch, group }) => {
    const direct = await runReal(file, args, { abi: arch });
    const here = await runReal(file, args, { abi: arch, provider, audit: true });
    expect(here.output).toBe(direct.output);
    expect(here.end).toBe(direct.end);
    // Probes change TLS in every way there is; C programs only in good ones.
    if (group !== "probes") expect(here.findings).toEqual([]);
  });

  const canary = guests.filter(
    ({ name, arch }) => /^(canary|cxx|dlopen-gd|threads)-/.test(name) && abis.includes(arch),
  );

  test.each(canary.filter((_, index) => index % 3 === 0))(
    "$name under a storm of host events",
    async ({ file, args, arch }) => {
      const direct = await runReal(file, args, { abi: arch });
      const storm = await runReal(file, args, { abi: arch, provider, audit: true, hostEvents: "storm", seed: 1 });
      expect([storm.end, storm.output]).toEqual([direct.end, direct.output]);
      expect(storm.findings).toEqual([]);
    },
  );
});

describe("a shell with children, pipes and signals", () => {
  const script =
    "for i in 1 2 3; do (echo $i) & done; wait; echo $(echo a | (read y; echo $y$y)); " +
    "trap 'echo usr' USR1; kill -USR1 $$; exec /bin/bash -c 'echo end'";
  const bash = existsSync("/bin/bash");

  test.skipIf(!bash)("does the same under every platform and in every weather (needs bash)", async () => {
    const direct = await runReal("/bin/bash", ["-c", script]);
    expect(direct.output).toMatch(/usr\nend\n$/);
    for (const { name: provider } of platforms)
      for (const hostEvents of hostEventModes) {
        const here = await runReal("/bin/bash", ["-c", script], { provider, hostEvents });
        expect([provider, hostEvents, here.end, here.output]).toEqual([
          provider,
          hostEvents,
          direct.end,
          direct.output,
        ]);
      }
  });
});

describe("direct", () => {
  test.each(guests.filter(({ group }) => group !== "probes"))(
    "$name: an audit finds nothing",
    async ({ file, args, arch }) => {
      expect((await runReal(file, args, { abi: arch, audit: true })).findings).toEqual([]);
    },
  );
});
