import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fixtures, type Outcome, ROOT, SHIMBED, shimbed } from "../world/harness.ts";

const demo64 = join(ROOT, "fixtures/bin/tls-x86_64");
const demo32 = join(ROOT, "fixtures/bin/tls-i386");
const libc = (name: string): string => fixtures("tls").find((guest) => guest.name === name)?.file ?? "";
const threads = libc("threads-static-glibc-x86_64");
const program = libc("le-static-glibc-x86_64");

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "shimbed-audit-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const text = (name: string): string => readFileSync(join(dir, name), "utf8");

function policy(rules: object[], rest: object = {}): string {
  const file = join(dir, "policy.json");
  writeFileSync(file, JSON.stringify({ version: 1, default: "allow", rules, ...rest }));
  return file;
}

/** One paragraph of ours on stderr that says what. */
function refused(outcome: Outcome, says: RegExp): void {
  expect(outcome).toMatchObject({ status: 125, stdout: "" });
  expect(outcome.stderr).toMatch(says);
  expect(outcome.stderr.trimEnd().split("\n")).toEqual([expect.stringMatching(/^shimbed: [^A-Z]/)]);
}

describe("audit", () => {
  test("a row for each thread, and no findings where all is well", () => {
    const { stderr, status } = shimbed(["audit", threads]);
    expect(status).toBe(0);
    expect(stderr).toMatch(/^thread +done +refused +denied +misused +FS base +requests$/m);
    expect(stderr.match(/^\d+ +\d+ +0 +0 +0 +0x[0-9a-f]+ +.*SetFsBase/gm)?.length).toBe(9);
    expect(stderr).toMatch(/\n\nno findings\n$/);
  });

  test("findings, with --strict as the status", () => {
    const inject = ["--inject", "SetFsBase:twice", demo64];
    const { stderr, status } = shimbed(["audit", ...inject]);
    expect(status).toBe(0);
    expect(stderr).toMatch(/^thread \d+: token-reused: .*\(ledger entry 1\)$/m);
    expect(shimbed(["audit", "--strict", ...inject]).status).toBe(1);
    expect(shimbed(["audit", "--strict", demo64]).status).toBe(0);
  });

  test("the guest's status, without --strict", () => {
    expect(shimbed(["audit", "--inject", "SetFsBase:nothing", demo64]).status).toBe(139);
  });

  test("--json is one object", () => {
    const { stderr } = shimbed(["audit", "--json", demo32]);
    const report = JSON.parse(stderr);
    expect(report).toMatchObject({ guest: demo32, end: "exited", code: 0, provider: "direct", findings: [] });
    expect(report.threads).toEqual([
      expect.objectContaining({ done: 3, requests: { ClearTls: 1, SetThreadArea: 1, GetThreadArea: 1 } }),
    ]);
  });

  test("--perfetto writes tracks and events", () => {
    const file = join(dir, "perfetto.json");
    expect(shimbed(["audit", "--perfetto", file, threads]).status).toBe(0);
    const { traceEvents } = JSON.parse(text("perfetto.json"));
    const of = (ph: string): object[] => traceEvents.filter((event: { ph: string }) => event.ph === ph);
    expect(of("M").length).toBe(10);
    expect(of("i").length).toBe(10);
  });

  test.each([
    { args: ["audit"], says: /name a guest.*--ledger FILE/ },
    { args: ["audit", "verify"], says: /file.*shimbed help audit/ },
    { args: ["audit", "verify", "/no/such"], says: /\/no\/such: no such file/ },
    { args: ["audit", "--ledger", "/no/such"], says: /\/no\/such: no such file/ },
    { args: ["audit", "--ledger", "/no/such", demo64], says: /leave out .* or --ledger/ },
    { args: ["audit", "suggest"], says: /name a guest/ },
    { args: ["audit", "--strct", demo64], says: /--strct.*shimbed help audit/ },
  ])("$args is refused", ({ args, says }) => refused(shimbed(args), says));
});

describe("the ledger's file", () => {
  test("is verified, and read by audit", () => {
    const file = join(dir, "ledger.jsonl");
    expect(shimbed(["run", "--ledger", file, demo64])).toMatchObject({ status: 0, stderr: "" });
    expect(shimbed(["audit", "verify", file])).toEqual({
      status: 0,
      stdout: `${file}: 3 records, all as they were written\n`,
      stderr: "",
    });
    expect(JSON.parse(shimbed(["audit", "verify", "--json", file]).stdout)).toEqual({
      ok: true,
      complete: true,
      records: 3,
    });
    expect(shimbed(["audit", "--ledger", file]).stderr).toBe(shimbed(["audit", demo64]).stderr);
    expect(JSON.parse(text("ledger.jsonl").split("\n")[2] ?? "")).toMatchObject({
      call: "arch_prctl",
      symbol: expect.stringMatching(/^begin\+0x/),
    });
  });

  test("a changed record is found, and nothing is made of it", () => {
    const file = join(dir, "changed.jsonl");
    shimbed(["trace", "-o", join(dir, "trace"), "--ledger", file, demo64]);
    writeFileSync(file, text("changed.jsonl").replace('"thread":2254', '"thread":2255'));
    const { status, stdout } = shimbed(["audit", "verify", file]);
    expect(status).toBe(1);
    expect(stdout).toMatch(/: line 3: the line before was changed/);
    refused(shimbed(["audit", "--ledger", file]), /cannot be trusted: line 3/);
    refused(shimbed(["audit", "suggest", "--ledger", file]), /cannot be trusted: line 3/);
  });

  test("a kill leaves what was done", async () => {
    const file = join(dir, "killed.jsonl");
    const child = spawn(process.execPath, [SHIMBED, "run", "--clock", "host", "--ledger", file, "/bin/sleep", "60"]);
    const deadline = Date.now() + 60_000;
    const lines = (): number => {
      try {
        return text("killed.jsonl").split("\n").length;
      } catch {
        return 0;
      }
    };
    while (lines() < 4 && Date.now() < deadline) await new Promise((done) => setTimeout(done, 50));
    child.kill("SIGKILL");
    await new Promise((done) => child.once("exit", done));
    const { status, stdout } = shimbed(["audit", "verify", file]);
    expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringMatching(/2 records.*the end is missing/) });
  });
});

describe("policy", () => {
  test("what suggest writes allows the run, and no other", () => {
    const { stdout, stderr, status } = shimbed(["audit", "suggest", threads]);
    expect({ stderr, status }).toEqual({ stderr: expect.stringContaining("total 28040"), status: 0 });
    const file = join(dir, "suggested.json");
    writeFileSync(file, stdout);
    expect(JSON.parse(stdout)).toMatchObject({ default: "deny", rules: [{ action: "allow" }, { action: "allow" }] });
    expect(shimbed(["run", "--policy", file, threads])).toEqual({ ...shimbed(["run", threads]), stderr: "" });
    expect(shimbed(["run", "--policy", file, demo64])).toMatchObject({
      status: 2,
      stdout: expect.stringContaining("not ok arch_prctl tells it"),
    });
  });

  test("a rule for a symbol", () => {
    const rule = { name: "not there", action: { errno: "EACCES" }, request: ["SetFsBase"], symbol: ["__libc_setup*"] };
    const traced = shimbed(["trace", "-e", "tls", "-P", "--policy", policy([rule]), program]);
    expect(traced.stderr).toMatch(/arch_prctl\(ARCH_SET_FS, 0x[0-9a-f]+\) += -1 EACCES/);
    expect(traced.stderr).toMatch(/SetFsBase 0x[0-9a-f]+ denied by not there: EACCES/);
    const other = policy([{ ...rule, symbol: ["main"] }]);
    expect(shimbed(["run", "--policy", other, program])).toEqual(shimbed(["run", program]));
  });

  test("a dry run tells only", () => {
    const rule = { name: "none at all", action: "deny", request: ["SetFsBase"] };
    const said = "shimbed: the policy would have denied SetFsBase of thread 2254 in arch_prctl (none at all)\n";
    const dry = shimbed(["run", "--policy", policy([rule]), "--policy-dry-run", demo64]);
    expect(dry).toEqual({ ...shimbed(["run", demo64]), stderr: said });
    expect(shimbed(["run", "--policy", policy([rule], { dryRun: true }), demo64])).toEqual(dry);
  });

  test("wrong ones name the place", () => {
    refused(shimbed(["run", "--policy", "/no/such", demo64]), /policy \/no\/such: no such file/);
    refused(shimbed(["run", "--policy", policy([], { default: "maybe" }), demo64]), /policy\.json: \/default/);
    refused(shimbed(["run", "--policy-dry-run", demo64]), /--policy FILE/);
  });
});

describe("audit of recordings", () => {
  test("runs them again, one after the other, as they were recorded", () => {
    const twice = join(dir, "twice.rec");
    const good = join(dir, "good.rec");
    expect(shimbed(["record", "-o", twice, "--inject", "SetFsBase:twice", demo64]).status).toBe(0);
    expect(shimbed(["record", "-o", good, "-p", "linux-userland", threads]).status).toBe(0);
    const one = shimbed(["audit", twice]);
    expect(one).toMatchObject({ status: 0, stdout: "" });
    expect(one.stderr).toMatch(/^thread +done.*\n2254 +\d.*\n\nthread 2254: token-reused: .*\n$/);
    const perfetto = join(dir, "both.json");
    const both = shimbed(["audit", "--strict", "--perfetto", perfetto, twice, good]);
    expect(both.status).toBe(1);
    expect(both.stderr).toMatch(
      /twice\.rec, provider direct:\n(.*\n)+\n.*good\.rec, provider linux-userland:\n(.*\n)+no findings\n$/,
    );
    const { traceEvents } = JSON.parse(readFileSync(perfetto, "utf8"));
    expect(new Set(traceEvents.map(({ pid }: { pid: number }) => pid))).toEqual(new Set([1, 2]));
    const objects = shimbed(["audit", "--json", twice, good]).stderr.trimEnd().split("\n");
    expect(objects.map((line) => JSON.parse(line).recording)).toEqual([twice, good]);
    refused(shimbed(["audit", twice, demo64]), /cannot use the recording .*it is no recording/);
  });
});

describe("faults and events", () => {
  test("--inject, also of system calls, may be given again", () => {
    const traced = shimbed([
      ...["trace", "-e", "tls", "-P", "--inject", "arch_prctl:error=EPERM:when=2", "--inject", "SetFsBase:offset=16"],
      demo64,
    ]);
    expect(traced.stderr).toMatch(/ARCH_GET_FS.* = -1 EPERM/);
    expect(traced.stderr).toMatch(/SetFsBase 0x401700 granted by direct: fs_base 0x0 .* 0x401710$/m);
  });

  test("one that strikes nothing is told of, and a wrong one refused", () => {
    expect(shimbed(["run", "--inject", "SetFsBase:nothing:when=9", demo64]).stderr).toBe(
      "shimbed: the injection SetFsBase:nothing:when=9 found nothing to strike at\n",
    );
    refused(shimbed(["run", "--inject", "SetFsBase:explode", demo64]), /no fault "explode".*choose one of/);
  });

  test("--host-events do not show on a platform that works", () => {
    const plain = shimbed(["run", threads]);
    for (const provider of ["direct", "linux-userland", "windows-userland"])
      expect(shimbed(["run", "-p", provider, "--host-events", "storm", threads]), provider).toEqual(plain);
    refused(shimbed(["run", "--host-events", "many", demo64]), /many.*none, some, storm/);
  });

  test("--as litebox answers as LiteBox does, to its panics", () => {
    expect(shimbed(["run", "-p", "linux-userland", "--as", "litebox", demo64])).toMatchObject({
      status: 1,
      stdout: expect.stringContaining("not ok refused: a kernel address"),
    });
    const denied = policy([{ action: "deny", request: ["SetFsBase"] }]);
    const panic = shimbed(["run", "-p", "linux-kernel", "--as", "litebox", "--policy", denied, demo64]);
    refused(panic, /provider linux-kernel: the host fails: SetFsBase comes out as denied/);
    refused(shimbed(["run", "--as", "litebox", demo64]), /provider direct is Linux/);
    refused(shimbed(["run", "--as", "unix", demo64]), /unix.*litebox/);
  });
});
