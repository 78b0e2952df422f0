import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { taFiles } from "../shims/optee/ta-files.ts";
import { type Outcome, shimbed } from "../world/harness.ts";

const { counter, caller, ldelf, tour } = taFiles;

let dir: string;
let commands: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "shimbed-ta-"));
  commands = write("commands.json", [
    { func_id: "open_session" },
    {
      func_id: "invoke_command",
      cmd_id: 1,
      args: [{ param_type: "memref_inout", data_text: "HAL" }],
      expect: { args: [{ data_text: "IBM" }] },
    },
    { func_id: "invoke_command", cmd_id: 0, args: [{ param_type: "value_output" }, { param_type: "value_output" }] },
    { func_id: "close_session" },
  ]);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function write(name: string, value: unknown): string {
  const file = join(dir, name);
  writeFileSync(file, JSON.stringify(value));
  return file;
}

const RESULTS = `open_session: TEE_SUCCESS
invoke_command 1: TEE_SUCCESS
  output (index: 0): 49424d (3 bytes)
invoke_command 0: TEE_SUCCESS
  output (index: 0): 0x1 0x0
  output (index: 1): 0x2 0x1
close_session
`;

function refused(outcome: Outcome, status: number, says: RegExp): void {
  expect(outcome).toMatchObject({ status, stdout: "" });
  expect(outcome.stderr).toMatch(says);
  expect(outcome.stderr.trimEnd().split("\n")).toEqual([expect.stringMatching(/^shimbed: /)]);
}

describe("run --commands", () => {
  test("prints results; options may stand after the application", () => {
    const expected = { status: 0, stdout: RESULTS, stderr: "" };
    expect(shimbed(["run", counter, "--commands", commands])).toEqual(expected);
    expect(shimbed(["run", counter, `--commands=${commands}`, "-p", "lvbs"])).toEqual(expected);
    expect(shimbed(["run", "--commands", commands, "--ldelf", ldelf, counter])).toMatchObject({
      status: 0,
      stdout: RESULTS,
    });
    for (const provider of ["direct", "linux-userland", "lvbs"])
      expect(shimbed(["run", "-p", provider, "--host-events", "storm", "--commands", commands, counter])).toEqual(
        expected,
      );
  });

  test("--json prints an object a line, also into a file", () => {
    const { stdout, status } = shimbed(["run", counter, "--commands", commands, "--json"]);
    const lines = stdout.trimEnd().split("\n");
    expect(status).toBe(0);
    expect(JSON.parse(lines[1] ?? "")).toMatchObject({ outputs: [{ size: 3, data: "49424d" }, null, null, null] });
    expect(JSON.parse(lines.at(-1) ?? "")).toEqual({ event: "end", ok: true, steps: 4, failed: 0 });
    const file = join(dir, "results.jsonl");
    expect(shimbed(["run", counter, "--commands", commands, "--json", "-o", file]).stdout).toBe("");
    expect(readFileSync(file, "utf8")).toBe(stdout);
  });

  test("trace shows the calls beside the results", () => {
    const { stdout, stderr, status } = shimbed(["trace", counter, "--commands", commands]);
    expect({ stdout, status }).toEqual({ stdout: RESULTS, status: 0 });
    expect(stderr).toMatch(/^\[1\] invoke_command\(session=1, command=1\) \{\n\[1\] utee_return\(ret=0x0\) = \?/m);
  });

  test("trace -P shows the tokens that entries take", () => {
    const { stderr } = shimbed(["trace", "-P", counter, "--commands", commands, "-p", "lvbs"]);
    expect(stderr).toMatch(
      /^\[1\] open_session\(session=1\) \{\n {4}SetFsBase 0x[0-9a-f]+ granted by lvbs: fs_base 0x0 .* 0x[0-9a-f]+\n\[1\] utee_return/,
    );
    expect(stderr.match(/SetFsBase/g)).toHaveLength(4);
    const { stdout } = shimbed(["trace", "-P", "--json", counter, "--commands", commands]);
    expect(stdout).toMatch(/^\{"event":"token","record":\{"sequence":1,/m);
  });

  test("a command that does not end as expected is status 1", () => {
    const panic = write("panic.json", [{ func_id: "open_session" }, { func_id: "invoke_command", cmd_id: 3 }]);
    const { stdout, stderr, status } = shimbed(["run", counter, "--commands", panic]);
    expect(status).toBe(1);
    expect(stdout).toMatch(/TEE_ERROR_TARGET_DEAD.*\n(.*\n)*1 of 2 commands did not end as expected\n$/);
    expect(stderr).toMatch(/^trusted application 5b1dbed0-0002-.* is dead/m);
  });

  test("faults and policies reach it, and a skipped restore is seen", () => {
    const run = (...flags: string[]): Outcome => shimbed(["run", ...flags, "--commands", commands, counter]);
    for (const provider of ["direct", "linux-userland", "lvbs"])
      expect(run("-p", provider, "--inject", "SetFsBase:nothing:when=2")).toMatchObject({
        status: 1,
        stdout: expect.stringMatching(/invoke_command 1: TEE_ERROR_TARGET_DEAD/),
      });
    const policy = write("policy.json", {
      version: 1,
      default: "allow",
      rules: [{ action: "deny", call: ["invoke_command"] }],
    });
    expect(run("--policy", policy).stderr).toMatch(/is dead:.*denied/);
    expect(run("--policy", policy, "--policy-dry-run")).toMatchObject({
      status: 0,
      stdout: RESULTS,
      stderr: expect.stringMatching(/would have denied SetFsBase of thread 1 in invoke_command .*\(2 times\)/),
    });
  });

  test("the ledger has every entry", () => {
    const file = join(dir, "ledger.jsonl");
    shimbed(["run", "--ledger", file, "--commands", commands, counter]);
    expect(shimbed(["audit", "verify", file]).stdout).toMatch(/4 records, all as they were written/);
  });

  test("--ta and --storage are taken", () => {
    const storage = join(dir, "storage");
    const args = ["--ta", counter, "--storage", storage, "--huk", "5a".repeat(32), "--commands"];
    const open = write("open.json", [{ func_id: "open_session" }, { func_id: "close_session" }]);
    expect(shimbed(["run", ...args, open, caller])).toMatchObject({ status: 0, stderr: "" });
  });

  test("a program of Linux may have such an argument", () => {
    expect(shimbed(["run", "/bin/echo", "--commands", "x"])).toEqual({
      status: 0,
      stdout: "--commands x\n",
      stderr: "",
    });
  });
});

describe("system calls that fail by --inject", () => {
  const read = (...rules: string[]): Outcome => {
    const time = write("time.json", [{ func_id: "open_session" }, { func_id: "invoke_command", cmd_id: 1 }]);
    return shimbed(["trace", ...rules.flatMap((rule) => ["--inject", rule]), "--commands", time, tour]);
  };

  test("answer the result named, and the trace says so", () => {
    expect(read().stderr).toMatch(/utee_get_time\(.*\) = TEE_SUCCESS$/m);
    expect(read("utee_get_time:error=TEE_ERROR_TIME_NOT_SET:when=1").stderr).toMatch(
      /utee_get_time\(.*\) = TEE_ERROR_TIME_NOT_SET \(injected\)$/m,
    );
    expect(read("utee_get_time:error=0xffff0008").stderr).toMatch(/= TEE_ERROR_ITEM_NOT_FOUND \(injected\)$/m);
    expect(read("utee_get_time:retval=0").stderr).toMatch(/utee_get_time\(.*\) = TEE_SUCCESS \(injected\)$/m);
  });
});

describe("audit and mutate", () => {
  test("audit has results, a table and findings", () => {
    const clean = shimbed(["audit", counter, "--commands", commands, "--strict", "-p", "lvbs"]);
    expect(clean).toMatchObject({ status: 0, stdout: RESULTS });
    expect(clean.stderr).toMatch(/^1 +4 +0 +0 +0 +0x[0-9a-f]+ +SetFsBase .*4\n\nno findings\n$/m);
    const faulty = shimbed([
      "audit",
      "--strict",
      "--inject",
      "SetFsBase:twice",
      "--json",
      "--commands",
      commands,
      counter,
    ]);
    expect(faulty.status).toBe(1);
    const report = JSON.parse(faulty.stderr);
    expect(report.findings).toEqual([expect.objectContaining({ kind: "token-reused", thread: 1 })]);
    expect(report.results.at(-1)).toEqual({ event: "end", ok: true, steps: 4, failed: 0 });
  });

  test("mutate tries every fault on it, and the shipped one notices all of them", () => {
    const { stdout, stderr, status } = shimbed([
      "mutate",
      "-p",
      "lvbs",
      "--at-least",
      "100",
      counter,
      "--commands",
      commands,
    ]);
    expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
    expect(stdout).toMatch(
      /^noticed +SetFsBase fails \(first of 4\) +open_session: TEE_ERROR_TARGET_DEAD \(its TLS was/m,
    );
    expect(stdout).toMatch(
      /^noticed +the canary is overwritten after an entry from outside \(last of 4\) +finding canary$/m,
    );
    expect(stdout).toMatch(/\n32 of 32 faults noticed: 100 %\n$/);
  });
});

describe("--as litebox", () => {
  test("a token that fails is ignored, and the next use of TLS tells", () => {
    const run = (...more: string[]): string =>
      shimbed([
        "run",
        "-p",
        "lvbs",
        ...more,
        "--inject",
        "SetFsBase:error=EINVAL:when=2",
        "--commands",
        commands,
        counter,
      ]).stderr;
    expect(run()).toMatch(/is dead: its TLS was not restored: provider lvbs failed with errno 22/);
    expect(run("--as", "litebox")).toMatch(/is dead: page fault reading 0x28/);
    const denied = shimbed([
      "run",
      "-p",
      "lvbs",
      "--as",
      "litebox",
      "--inject",
      "SetFsBase:deny",
      "--commands",
      commands,
      counter,
    ]);
    expect(denied.stderr).toMatch(/provider lvbs: the host fails: SetFsBase comes out as denied/);
    expect(denied.status).toBe(125);
  });

  test("providers tells what is different", () => {
    const { stdout } = shimbed(["providers", "lvbs"]);
    expect(stdout).toMatch(
      /a token that fails before an entry\n +direct .*\n +LiteBox +ignored: .*litebox_shim_optee\/src\/lib\.rs:790/,
    );
    expect(stdout).not.toMatch(/arch_prctl/);
  });
});

describe("wrong command lines", () => {
  test.each([
    { args: ["run", counter, "x", "--commands", "c"], says: /takes no arguments, and "x"/, status: 125 },
    { args: ["run", "--storage", "s", counter], says: /give --commands FILE/, status: 125 },
    { args: ["run", "--root", "/", "--commands", "c", counter], says: /--root is for programs of Linux/, status: 125 },
    { args: ["run", "--explore", "3", "--commands", "c", counter], says: /--explore is for programs of/, status: 125 },
    { args: ["trace", "-c", "--commands", "c", counter], says: /--count is for programs of Linux/, status: 125 },
    { args: ["run", "--commands", "/no/such", counter], says: /cannot read the commands \/no\/such/, status: 125 },
    { args: ["run", "--huk", "12", counter], says: /--huk.*12.*64 hexadecimal digits/, status: 125 },
    { args: ["run", counter, "--commands"], says: /--commands.*argument missing/, status: 125 },
    {
      args: ["run", "--inject", "utee_get_time:error=EIO", "--commands", "c", counter],
      says: /error needs a result, as TEE_ERROR_GENERIC or 0xffff0000, not "EIO"/,
      status: 125,
    },
    { args: ["audit", "--root", "/", "--commands", "c", counter], says: /--root is for programs of/, status: 125 },
    { args: ["mutate", counter, "x", "--commands", "c"], says: /takes no arguments, and "x"/, status: 125 },
  ])("$args", ({ args, says, status }) => refused(shimbed(args), status, says));

  test("a TA without commands is no program of Linux, and that is said", () => {
    const { status, stderr } = shimbed(["run", counter]);
    expect(status).toBe(139);
    expect(stderr).toMatch(/^shimbed: .*counter\.elf is a trusted application: .* --commands FILE$/m);
  });

  test("files that do not fit", () => {
    refused(
      shimbed(["run", "--commands", commands, "--storage", join(dir, "no/such/place"), counter]),
      125,
      /cannot read the storage .*ENOENT; give another/,
    );
    refused(shimbed(["run", "--commands", commands, "/bin/true"]), 126, /\/bin\/true: it has no \.ta_head/);
    refused(shimbed(["run", "--commands", commands, "/no/such"]), 127, /cannot read \/no\/such/);
    const wrong = write("wrong.json", [{ func_id: "open_sesion" }]);
    refused(shimbed(["run", "--commands", wrong, counter]), 125, /wrong\.json: at \/0.*open_sesion/);
    refused(
      shimbed(["run", "-p", "windows-userland", "--commands", commands, counter]),
      125,
      /does not serve the optee/,
    );
  });
});
