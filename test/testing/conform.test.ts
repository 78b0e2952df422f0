import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { judged } from "../../cli/testing/conform.ts";
import { providerInfos } from "../../providers/registry.ts";
import { compiled, ROOT } from "./program.ts";

const FIXTURES = join(ROOT, "fixtures");
const recorded: {
  sources: string;
  files: { path: string; sha256: string }[];
  probes: Record<"x86_64" | "i386", Record<string, string>>;
} = JSON.parse(readFileSync(join(FIXTURES, "conform/native.json"), "utf8"));
const build = (...args: string[]): string =>
  execFileSync(process.execPath, [join(FIXTURES, "conform/build.mjs"), ...args], { encoding: "utf8" });

const folder = mkdtempSync(join(tmpdir(), "shimbed-conform-"));
afterAll(() => rmSync(folder, { recursive: true }));
const conform = (...args: string[]) => compiled(folder, ["conform", ...args]);

const isNative = process.platform === "linux" && process.arch === "x64";
const compiles = isNative && spawnSync("gcc", ["-m32", "-xc", "-", "-nostdlib", "-r", "-o", "/dev/null"]).status === 0;
const qemu = spawnSync("qemu-x86_64", ["--version"], { encoding: "utf8" }).stdout ?? "";

describe("the guests", () => {
  it("are those that were recorded, made from these sources", () => {
    for (const { path, sha256 } of recorded.files)
      expect(
        createHash("sha256")
          .update(readFileSync(join(FIXTURES, path)))
          .digest("hex"),
      ).toBe(sha256);
    expect(JSON.parse(build("--digest"))).toBe(recorded.sources);
  });

  it("are at least 150 probes, and each passed on the native kernel", () => {
    const results = Object.values(recorded.probes).flatMap((probes) => Object.values(probes));
    expect(results.length).toBeGreaterThanOrEqual(150);
    expect(results.filter((result) => result !== "ok")).toEqual([]);
  });

  it.skipIf(!compiles)("can be built here, and then say the same", { timeout: 180_000 }, () => {
    const files: Record<string, string> = JSON.parse(build());
    for (const [arch, probes] of Object.entries(recorded.probes)) {
      const done = spawnSync(files[arch] ?? "", { encoding: "utf8", timeout: 120_000 });
      expect(done.stdout.split("\n").filter((line) => line !== "")).toEqual(
        Object.keys(probes).map((name) => `ok ${name}`),
      );
    }
  });
});

describe("shimbed conform", () => {
  const readme = readFileSync(join(ROOT, "README.md"), "utf8");
  const table = (readme.split("<!-- conform -->\n")[1] ?? "").split("<!-- /conform -->")[0] ?? "";

  it("gives the table of the README, and nothing unexpected", { timeout: 400_000 }, () => {
    const { status, out, err } = conform("-p", "all", "--markdown");
    expect({ status, err }).toEqual({ status: 0, err: "" });
    // Providers come first, then the others; what these say of themselves stands below.
    const columns = 1 + providerInfos.length;
    const shown = table
      .split("\n")
      .filter((line) => !line.startsWith("- `qemu"))
      .map((line) => (line.startsWith("|") ? `${line.split(" | ").slice(0, columns).join(" | ")} |` : line));
    expect(out.split("\n")).toEqual(shown);
  });

  it.skipIf(!isNative)("finds on this machine's kernel what was recorded on another", () => {
    const { status, out } = conform("--native", "arch_prctl", "entries", "sigreturn");
    expect({ status, out }).toMatchObject({ status: 0, out: expect.stringContaining("130 runs: 130 passed") });
  });

  it.skipIf(!qemu.includes("version"))("runs the same guests under qemu-user, where some fail", () => {
    const { status, out } = conform("arch_prctl.fs_limits", "models.local_exec", "--with", "qemu-{arch} {exe}");
    expect(status).toBe(1);
    expect(out).toContain(
      "FAILED conform/x86_64/arch_prctl.fs_limits [qemu-{arch}]\n  FAIL arch_prctl.fs_limits: end of",
    );
    expect(out).toContain("3 runs: 2 passed, 1 failed");
  });

  it("runs trusted applications on the platforms that have them", () => {
    const { status, out } = conform("ta.", "-p", "all", "--json");
    expect(status).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ totals: { all: 36, passed: 36 } });
  });

  it("lists, filters, and reports as the other tests do", () => {
    expect(conform("--list", "--arch", "i386", "clone3").out.split("\n")).toContain("i386/clone3.sizes");
    const { status, out } = conform("dtv.", "--arch", "x86_64", "--json");
    expect(status).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ format: "shimbed-results", totals: { all: 5, passed: 5 } });
    expect(conform("dtv.lazy", "--reporter", "tap").out).toContain("ok 1 - conform/x86_64/dtv.lazy [direct]");
  });

  it("ends a probe that hangs, tells of one that crashes, and the others go on", () => {
    const script = join(folder, "emulator");
    writeFileSync(
      script,
      `#!/bin/sh
case $2 in
dtv.lazy) sleep 100 ;;
dtv.growth) kill -SEGV $$ ;;
dtv.in_a_handler) echo "FAIL $2: value: got 0x1 expected 0x2"; exit 1 ;;
*) echo "ok $2" ;;
esac
`,
    );
    chmodSync(script, 0o755);
    const { status, out } = conform("dtv.", "--arch", "x86_64", "--timeout", "4", "--with", `${script} {exe}`);
    expect(status).toBe(1);
    expect(out).toContain("dtv.lazy [");
    expect(out).toContain("it hung");
    expect(out).toContain("ended by SIGSEGV");
    expect(out).toContain("FAIL dtv.in_a_handler: value: got 0x1 expected 0x2\n  status 1");
    expect(out).toContain("5 runs: 2 passed, 3 failed");
  });

  it("takes a command for each word size", () => {
    writeFileSync(join(folder, "wide"), '#!/bin/sh\necho "ok $2"\n', { mode: 0o755 });
    writeFileSync(join(folder, "narrow"), "#!/bin/sh\nexit 3\n", { mode: 0o755 });
    const { out } = conform("dtv.lazy", "--with", `${folder}/wide {exe}`, "--with32", `${folder}/narrow {exe}`);
    expect(out).toContain("FAILED conform/i386/dtv.lazy");
    expect(out).toContain("2 runs: 1 passed, 1 failed");
  });

  it("notices a failure that is known and does not come any more", () => {
    const passed = { id: "a", status: "passed", ms: 1, message: "", digest: "", updated: false } as const;
    expect(judged(passed, "the platform is so")).toMatchObject({
      status: "failed",
      message: expect.stringContaining("it passes, but"),
    });
    expect(judged({ ...passed, status: "failed" }, "it is so")).toMatchObject({ status: "skipped" });
    expect(judged({ ...passed, status: "hung" }, undefined)).toMatchObject({ status: "hung" });
  });

  it.each([
    [["nosuch"], "no probe has nosuch in its name"],
    [["-p", "nosuch"], 'unknown provider "nosuch"'],
    [["--with", "qemu-x86_64"], "does not say where the guest goes"],
    [["--with", "nosuchprogram {exe}"], "there is no program nosuchprogram"],
    [["dtv.lazy", "--markdown", "nosuch.md"], "cannot read nosuch.md: no such file"],
  ])("refuses %j", (args, complaint) => {
    const { status, err } = conform(...args);
    expect(status).toBe(125);
    expect(err).toContain(complaint);
  });
});
