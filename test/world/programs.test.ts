import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { BASH, clockFlags, ENV, PERL, PROGRAMS, type Program } from "./debian-programs.ts";
import { debianRoots, guest, native, noNative, type Outcome, same } from "./harness.ts";

const roots = noNative === undefined ? debianRoots() : { missing: noNative };

for (const arch of ["amd64", "i386"] as const) {
  // Without Debian's mirror (or off Linux) there is nothing to compare with; the reason stands in the title.
  const root = "missing" in roots ? undefined : roots[arch];
  const why = "missing" in roots ? ` (left out: ${roots.missing})` : "";
  describe.skipIf(root === undefined)(`Debian ${arch} programs end and print as natively${why}`, () => {
    test.each(PROGRAMS)("$name", async (program) => {
      const { command, input = "" } = program;
      if (root === undefined) throw new Error("skipped suites do not run");
      const [file, ...args] = command;
      const ours = guest(file, args, { flags: ["--root", root, ...clockFlags(program)], input, env: ENV });
      await same(ours, () => native(command, { root, input, env: ENV }));
    });

    test("xz there and back", () => {
      if (root === undefined) throw new Error("skipped suites do not run");
      const run = (args: string[], input: string): Outcome =>
        guest("/usr/bin/xz", args, { flags: ["--root", root], input, env: ENV });
      const packed = run(["-c", "-T1"], "text ".repeat(10_000));
      expect(packed.stdout.length).toBeLessThan(1000);
      expect(run(["-dc"], packed.stdout)).toMatchObject({ stdout: "text ".repeat(10_000), status: 0 });
    });

    test("tar there and back, in the guest's own layer of writes", () => {
      if (root === undefined) throw new Error("skipped suites do not run");
      const archive = native(["/bin/busybox", "tar", "-cf", "-", "-C", "/sample", "numbers.txt", "words.txt"], {
        root,
        env: ENV,
      });
      const outcome = guest("/bin/busybox", ["tar", "-xvf", "-", "-C", "/tmp"], {
        flags: ["--root", root],
        input: archive.stdout,
        env: ENV,
      });
      expect(outcome).toMatchObject({ stdout: "numbers.txt\nwords.txt\n", status: 0 });
      expect(existsSync(join(root, "tmp/numbers.txt"))).toBe(false);
    });
  });
}

describe.skipIf(noNative !== undefined)("this machine's own programs", () => {
  const OWN: readonly Program[] = [
    { name: "ls", command: ["/bin/ls", "-la", "/usr/share/zoneinfo"], dated: true },
    { name: "sed", command: ["/bin/sed", "-n", "1,3p", "/etc/passwd"] },
    { name: "bash", command: ["/bin/bash", "-c", BASH] },
    { name: "perl", command: ["/usr/bin/perl", "-e", PERL] },
    {
      name: "python3",
      command: [
        "/usr/bin/python3",
        "-I",
        "-c",
        "import json, hashlib, re; print(json.dumps([1, 2.5]), hashlib.sha1(b'x').hexdigest(), re.findall('a+', 'aabaaa'))",
      ],
    },
    { name: "openssl", command: ["/usr/bin/openssl", "dgst", "-sha3-256", "/etc/passwd"] },
  ];
  test.each(OWN.filter((p) => existsSync(p.command[0])))("$name, with the whole tree as root", async (program) => {
    const { command } = program;
    const [file, ...args] = command;
    const flags = ["--root", "/", ...clockFlags(program)];
    await same(guest(file, args, { flags, env: ENV }), () => native(command, { env: ENV }));
  });
  test("ls needs no option: its libraries are found", async () => {
    await same(guest("/bin/ls", ["--version"], { env: ENV }), () => native(["/bin/ls", "--version"], { env: ENV }));
  });
});
