import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fixtures, guest, type Outcome, ROOT, SHIMBED, shimbed } from "../world/harness.ts";

const demo64 = join(ROOT, "fixtures/bin/tls-x86_64");
const demo32 = join(ROOT, "fixtures/bin/tls-i386");
const hostile = fixtures("probes").find((f) => f.name === "hostile-x86_64")?.file ?? "";
const fullDevice = existsSync("/dev/full");

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "shimbed-cli-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** One paragraph of ours on stderr that says what, and no line of our code. */
function refused(outcome: Outcome, status: number, says: RegExp): void {
  expect(outcome).toMatchObject({ status, stdout: "" });
  expect(outcome.stderr).toMatch(says);
  expect(outcome.stderr.trimEnd().split("\n")).toEqual([expect.stringMatching(/^shimbed: [^A-Z]/)]);
}

describe("help", () => {
  test("names every command", () => {
    const { stdout, stderr, status } = shimbed(["--help"]);
    expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
    for (const command of ["run", "trace", "doctor", "providers", "audit", "mutate", "demo", "help"])
      expect(stdout).toMatch(new RegExp(`^  ${command}\\b`, "m"));
    expect(stdout).toMatch(/^Examples:$/m);
  });

  const SHARED = [
    ...["-p, --provider", "-L, --root", "--bind", "-E, --env", "-U, --unset-env", "--host-env", "--argv0", "--cwd"],
    ...[
      "--user",
      "--seed",
      "--clock",
      "--timeout",
      "--max-blocks",
      "--max-memory",
      "--strict-segments",
      "--cpu",
      "--json",
    ],
    ...["-o, --output", "-h, --help"],
  ];
  const GATE = ["--policy", "--policy-dry-run", "--inject", "--host-events", "--as"];
  const AROUND = [...GATE, "--commands", "--ldelf", "--ta", "--storage", "--huk"];
  test.each([
    {
      command: "run",
      options: [...SHARED, ...AROUND, "--ledger", "--explore"],
      sections: ["Files:", "Exit status:", "Trusted applications:", "Rules of --inject", "Examples:"],
    },
    {
      command: "trace",
      options: [...SHARED, ...AROUND, "--ledger", "-e, --expression", "-P, --punchthrough", "-c, --count"],
      sections: ["Files:", "Exit status:", "Expressions of -e", "Examples:"],
    },
    {
      command: "audit",
      options: [...SHARED, ...GATE, "--ledger", "--strict", "--perfetto"],
      sections: ["Commands:", "Files:", "Exit status:", "Examples:"],
    },
    {
      command: "mutate",
      options: [...SHARED, "--at-least"],
      sections: ["Exit status:", "Rules of --inject", "Examples:"],
    },
    { command: "doctor", options: ["--json"], sections: ["Exit status:"] },
    { command: "providers", options: ["--json"], sections: ["Arguments:"] },
  ])("of $command is complete", ({ command, options, sections }) => {
    const { stdout, status } = shimbed([command, "--help"]);
    expect(status).toBe(0);
    for (const option of options) expect(stdout).toContain(`  ${option}`);
    for (const section of sections) expect(stdout).toMatch(new RegExp(`^${section}`, "m"));
    expect(stdout).not.toContain("default: false");
    expect(shimbed(["help", command]).stdout).toBe(stdout);
  });

  test("of run says each exit status", () => {
    const { stdout } = shimbed(["run", "--help"]);
    for (const status of [124, 125, 126, 127, 130]) expect(stdout).toMatch(new RegExp(`^  ${status}  `, "m"));
  });

  test("the version is the package's", () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
    expect(shimbed(["--version"])).toEqual({ stdout: `${version}\n`, stderr: "", status: 0 });
  });
});

describe("wrong command lines", () => {
  test.each([
    { args: [], says: /a command is missing.*--help/ },
    { args: ["nonsense"], says: /nonsense.*--help/ },
    { args: ["./a.out"], says: /shimbed run \.\/a\.out/ },
    { args: ["run"], says: /guest.*shimbed help run/ },
    { args: ["run", "--verbsoe", demo64], says: /--verbsoe.*shimbed help run/ },
    { args: ["run", "--jsno", demo64], says: /Did you mean --json/ },
    { args: ["run", "--timeout", "soon", demo64], says: /--timeout.*soon.*seconds/ },
    { args: ["run", "--max-memory", "-1", demo64], says: /--max-memory.*-1.*512M/ },
    { args: ["run", "--max-blocks", "0", demo64], says: /--max-blocks.*0/ },
    { args: ["run", "--seed", "dice", demo64], says: /--seed.*dice/ },
    { args: ["run", "--clock", "sundial", demo64], says: /sundial.*virtual, host/ },
    { args: ["run", "--bind", "/etc", demo64], says: /--bind.*HOST:GUEST/ },
    { args: ["run", "--bind", "/no/such:/x", demo64], says: /\/no\/such is not there/ },
    { args: ["run", "--cwd", "/no/such", demo64], says: /--cwd \/no\/such.*ENOENT/ },
    { args: ["run", "--provider", "nobody", demo64], says: /nobody.*direct/ },
    { args: ["run", "-o", "/no/such/file", demo64], says: /\/no\/such\/file.*no such file/ },
    { args: ["trace", "-e", "opn", demo64], says: /opn.*did you mean open\?/ },
    { args: ["trace", "-c", "--json", demo64], says: /--count.*--json/ },
    { args: ["providers", "nobody"], says: /nobody.*direct/ },
    { args: ["doctor", "now"], says: /arguments.*shimbed help doctor/ },
  ])("$args", ({ args, says }) => refused(shimbed(args), 125, says));
});

describe("run", () => {
  test.each([demo64, demo32])("%s", (file) => {
    expect(guest(file, [])).toMatchObject({ status: 0, stderr: "", stdout: expect.stringMatching(/^ok /) });
  });

  test("all words after the guest are its own", () => {
    const echo = ["/bin/echo", "-n", "--", "-p", "--help", "--json", "-o", "x"];
    expect(shimbed(["run", ...echo])).toEqual({ stdout: "-- -p --help --json -o x", stderr: "", status: 0 });
    expect(shimbed(["run", "--", ...echo])).toEqual({ stdout: "-- -p --help --json -o x", stderr: "", status: 0 });
  });

  test("the guest's environment is what the options say", () => {
    expect(guest("/usr/bin/env", [])).toMatchObject({ stdout: "", status: 0 });
    expect(guest("/usr/bin/env", [], { flags: ["-E", "A=1", "-E", "PATH", "-U", "PATH", "-E", "B="] })).toMatchObject({
      stdout: "A=1\nB=\n",
      status: 0,
    });
    expect(guest("/usr/bin/env", [], { flags: ["--host-env"] }).stdout).toMatch(/^PATH=/m);
  });

  test("--argv0, --user and --cwd", () => {
    const ask = (file: string, args: string[], ...flags: string[]) => guest(file, args, { flags }).stdout;
    expect(ask("/bin/sh", ["-c", 'echo "$0"'], "--argv0", "other")).toBe("other\n");
    expect(ask("/usr/bin/id", ["-u"], "--user", "12:34")).toBe("12\n");
    expect(ask("/usr/bin/id", ["-g"], "--user", "12:34")).toBe("34\n");
    expect(ask("/bin/pwd", [], "--root", "/", "--cwd", "/tmp")).toBe("/tmp\n");
  });

  test("what is given may be reached, whoever the guest is and wherever it lies", () => {
    const closed = join(dir, "closed");
    mkdirSync(closed, { mode: 0o700 });
    copyFileSync(demo64, join(closed, "guest"));
    expect(guest(join(closed, "guest"), [], { flags: ["--user", "12:34"] }).status).toBe(0);
    expect(guest(join(closed, "guest"), [], { flags: ["--user", "12:34", "--root", "/"] }).status).toBe(126);
  });

  test("standard input comes through", () => {
    expect(shimbed(["run", "cat", "-n"], { input: "one\ntwo\n" })).toMatchObject({
      stdout: "     1\tone\n     2\ttwo\n",
      status: 0,
    });
  });

  test("nothing of the machine is seen but what was given", () => {
    writeFileSync(join(dir, "note"), "hello\n");
    const see = (...flags: string[]) => guest("/bin/cat", ["/given/note"], { flags });
    expect(see().status).toBe(1);
    expect(see("--bind", `${dir}:/given`)).toMatchObject({ stdout: "hello\n", status: 0 });
    const change = (...flags: string[]) => guest("/bin/cp", ["/given/note", "/given/copy"], { flags }).status;
    expect(change("--bind", `${dir}:/given`)).toBe(0);
    expect(existsSync(join(dir, "copy"))).toBe(false);
    expect(change("--bind", `${dir}:/given:rw`)).toBe(0);
    expect(readFileSync(join(dir, "copy"), "utf8")).toBe("hello\n");
  });

  test("the same seed is the same run, another one is not", () => {
    const trace = (seed: string) => shimbed(["trace", "--seed", seed, "/bin/true"]).stderr;
    expect(trace("7")).toBe(trace("7"));
    expect(trace("7")).not.toBe(trace("8"));
  });

  test("--json is one object with the ledger", () => {
    const file = join(dir, "report.json");
    expect(guest(demo64, [], { flags: ["--json", "-o", file] })).toMatchObject({ status: 0, stderr: "" });
    const report = JSON.parse(readFileSync(file, "utf8"));
    expect(report).toMatchObject({ guest: demo64, provider: "direct", end: "exited", code: 0, status: 0, faults: [] });
    const kinds = report.ledger.map((record: { request: { kind: string } }) => record.request.kind);
    expect(kinds).toEqual(["ClearTls", "SetFsBase", "GetFsBase"]);
  });

  test("a fault that nobody handles ends as in a shell, with a report", () => {
    const outcome = guest(hostile, ["recurse"]);
    expect(outcome.status).toBe(139);
    expect(outcome.stderr).toMatch(/^shimbed: .*SIGSEGV: page fault/);
    expect(outcome.stderr).toMatch(/^ {2}at 0x[0-9a-f]+.*: [a-z]+ /m);
    expect(outcome.stderr).toMatch(/^ {2}FS base 0x/m);
    const json = guest(hostile, ["recurse"], { flags: ["--json"] });
    expect(JSON.parse(json.stderr)).toMatchObject({ end: "killed", signal: 11, status: 139 });
  });

  test.each([
    { flags: ["--timeout", "0.5"], how: "spin", end: "timeout", says: /^shimbed: out of time: .*--timeout 0\.5$/m },
    { flags: ["--max-blocks", "5000"], how: "spin", end: "blocks", says: /^shimbed: out of blocks: .*5000$/m },
  ])("$flags ends it with 124", ({ flags, how, end, says }) => {
    const outcome = guest(hostile, [how], { flags });
    expect(outcome.status).toBe(124);
    expect(outcome.stderr).toMatch(says);
    expect(JSON.parse(guest(hostile, [how], { flags: [...flags, "--json"] }).stderr)).toMatchObject({ end });
  });
});

describe("trace", () => {
  test("prints strace's text on stderr, and to a file with -o", () => {
    const file = join(dir, "trace.txt");
    const direct = shimbed(["trace", demo64]);
    expect(direct.stdout).toMatch(/^ok /);
    expect(direct.stderr).toMatch(/^arch_prctl\(ARCH_SET_FS, 0x[0-9a-f]+\) += 0$/m);
    expect(direct.stderr).toMatch(/ = -1 EPERM \(.+\)$/m);
    expect(direct.stderr).toMatch(/^\+\+\+ exited with 0 \+\+\+$/m);
    expect(shimbed(["trace", "-o", file, demo64])).toMatchObject({ stderr: "", stdout: direct.stdout });
    expect(readFileSync(file, "latin1")).toBe(direct.stderr);
  });

  test("-e chooses calls, -P shows their tokens", () => {
    const { stderr } = shimbed(["trace", "-e", "tls", "-P", demo32]);
    const calls = stderr.split("\n").filter((line) => /^\w+\(/.test(line));
    expect(calls.map((line) => line.slice(0, line.indexOf("(")))).toEqual([
      "set_thread_area",
      "get_thread_area",
      "set_thread_area",
    ]);
    expect(stderr).toMatch(/^set_thread_area.* = 0\n {4}SetThreadArea .* granted by direct: gdt\[12\] empty/m);
  });

  test("-e failed leaves what succeeded out", () => {
    const { stderr } = shimbed(["trace", "-e", "failed", demo64]);
    const calls = stderr.split("\n").filter((line) => line.includes(" = "));
    expect(calls.length).toBeGreaterThan(0);
    expect(calls.every((line) => / = -1 E/.test(line))).toBe(true);
  });

  test("-c counts", () => {
    const { stderr } = shimbed(["trace", "-c", demo64]);
    expect(stderr).toMatch(/^ +3 +1 +arch_prctl$/m);
    expect(stderr).toMatch(/^ +\d+ +\d+ +total$/m);
  });

  test("--json is one object a line, the end last", () => {
    const lines = shimbed(["trace", "--json", "-e", "tls", demo64]).stderr.trimEnd().split("\n");
    const events = lines.map((line) => JSON.parse(line));
    expect(events[0]).toMatchObject({ kind: "call", name: "arch_prctl", family: "tls", result: 0 });
    expect(events[0].tokens).toEqual([expect.objectContaining({ verdict: "granted", provider: "direct" })]);
    expect(events.at(-1)).toMatchObject({ kind: "summary", end: "exited", status: 0, unsupported: {} });
  });
});

describe("outputs that fail", () => {
  const sh = (script: string): Promise<{ status: number | null; stderr: string }> =>
    new Promise((done) => {
      const child = spawn("bash", ["-c", `set -o pipefail; ${script}`, "bash", process.execPath, SHIMBED, demo64]);
      let stderr = "";
      child.stderr.on("data", (text) => {
        stderr += text;
      });
      child.on("close", (status) => done({ status, stderr }));
    });

  test.skipIf(!fullDevice)("a full disk under -o", async () => {
    for (const command of ["run --json", "trace"]) {
      const { status, stderr } = await sh(`"$1" "$2" ${command} -o /dev/full "$3" > /dev/null`);
      expect({ status, stderr }).toEqual({
        status: 125,
        stderr: "shimbed: cannot write to /dev/full: no space left on the device\n",
      });
    }
  });
  test.skipIf(!fullDevice)("a full disk under our own standard output", async () => {
    expect(await sh('"$1" "$2" providers > /dev/full')).toEqual({
      status: 125,
      stderr: "shimbed: cannot write to standard output: no space left on the device\n",
    });
  });
  test("a reader of our standard output that is gone", async () => {
    // The reader has ended before anything is written.
    const { status, stderr } = await sh('exec 3> >(true); wait $!; "$1" "$2" providers >&3');
    expect({ status, stderr }).toEqual({
      status: 141,
      stderr: "shimbed: cannot write to standard output: nobody reads it any more\n",
    });
  });
  test("a reader of the trace that is gone", async () => {
    const { status, stderr } = await sh('exec 3> >(true); wait $!; "$1" "$2" trace "$3" 2>&3 > /dev/null');
    expect({ status, stderr }).toEqual({ status: 141, stderr: "" });
  });
});

describe("ended from outside", () => {
  /** Starts shimbed, sends the signal once the guest runs, as its ledger tells, and waits for the end. */
  async function ended(
    command: string,
    args: string[],
    signal: NodeJS.Signals,
  ): Promise<{ status: number | null; stderr: string }> {
    const ledger = join(mkdtempSync(join(dir, "ended-")), "ledger.jsonl");
    const child = spawn(process.execPath, [SHIMBED, command, "--ledger", ledger, ...args], {
      stdio: ["pipe", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.on("data", (text) => {
      stderr += text;
    });
    const closed = once(child, "close");
    while (child.exitCode === null && lines(ledger) < 2) await pause(50);
    // For it to come to where it spins or waits.
    await pause(200);
    child.kill(signal);
    const killer = setTimeout(() => child.kill("SIGKILL"), 30_000);
    await closed;
    clearTimeout(killer);
    return { status: child.exitCode, stderr };
  }

  function pause(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms));
  }

  function lines(file: string): number {
    return existsSync(file) ? readFileSync(file, "utf8").split("\n").length - 1 : 0;
  }

  test.each([
    { what: "a guest that spins", args: [hostile, "spin"] },
    { what: "a guest that makes calls without end", args: [hostile, "spin_calls"] },
    { what: "a guest that waits for input", args: ["/bin/cat"] },
    { what: "a guest that sleeps in real time", args: ["--clock", "host", "/bin/sleep", "60"] },
  ])("Ctrl-C ends $what", async ({ args }) => {
    const done = await ended("run", args, "SIGINT");
    expect(done).toEqual({ status: 130, stderr: "shimbed: ended by SIGINT (Ctrl-C)\n" });
  });

  test("SIGTERM ends a trace whose file is whole", async () => {
    const file = join(dir, "cut.jsonl");
    const done = await ended("trace", ["--json", "-o", file, hostile, "spin_calls"], "SIGTERM");
    expect(done).toEqual({ status: 143, stderr: "" });
    const lines = readFileSync(file, "utf8").split("\n");
    expect(lines.pop()).toBe("");
    for (const line of lines) JSON.parse(line);
    expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({ kind: "summary", end: "interrupted", signal: 15 });
  });
});

describe("doctor, providers and the demonstration", () => {
  test("doctor finds everything in its place", () => {
    const { stdout, status } = shimbed(["doctor"]);
    expect(stdout).toMatch(/^ok +run of tls-x86_64 +ends with 0/m);
    expect(stdout).not.toMatch(/^failed/m);
    expect(status).toBe(0);
    const report = JSON.parse(shimbed(["doctor", "--json"]).stdout);
    expect(report.ok).toBe(true);
    const parts = report.checks.map((check: { part: string }) => check.part);
    for (const part of ["Node", "addon", "fast stores", "keystone", "capstone", "fixtures/bin/tls-i386"])
      expect(parts).toContain(part);
  });

  test("providers lists them and tells of one", () => {
    expect(shimbed(["providers"]).stdout).toMatch(/^direct +.*\(default\)$/m);
    expect(shimbed(["providers", "direct"]).stdout).toMatch(/x86_64, i386/);
    expect(JSON.parse(shimbed(["providers", "--json"]).stdout)[0]).toMatchObject({ name: "direct" });
  });

  test("the demonstration shows guests, traces and ledgers", () => {
    const { stdout, stderr, status } = shimbed(["demo"]);
    expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
    expect(stdout).toMatch(/^arch_prctl\(ARCH_SET_FS/m);
    expect(stdout).toMatch(/^set_thread_area\(/m);
    expect(stdout).toMatch(/^ok kept over a system call$/m);
    expect(stdout).toMatch(/^Ledger of provider direct, \d+ tokens:$/m);
    expect(stdout).toMatch(/^ +\d+ {2}thread \d+ at 0x[0-9a-f]+ in arch_prctl: SetFsBase/m);
  });
});
