import { spawn, spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fixtures, guest, native, type Outcome, ROOT, SHIMBED, shimbed } from "./harness.ts";

const demo = join(ROOT, "fixtures/bin/tls-x86_64");
const demo32 = join(ROOT, "fixtures/bin/tls-i386");
const dynamic = fixtures("tls").find((f) => f.name === "le-pie-glibc-x86_64");
let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "shimbed-bad-"));
  chmodSync(dir, 0o755);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function write(name: string, bytes: Uint8Array | string): string {
  const file = join(dir, name);
  writeFileSync(file, bytes, { mode: 0o755 });
  return file;
}

function everybodyReaches(folder: string): boolean {
  if ((statSync(folder).mode & 0o001) === 0) return false;
  const above = dirname(folder);
  return above === folder || everybodyReaches(above);
}

/** Refused before it ran: the wanted status, nothing on stdout, one paragraph that says what and names no line of ours. */
function refused(outcome: Outcome, status: number, says: RegExp): void {
  expect(outcome).toMatchObject({ status, stdout: "" });
  expect(outcome.stderr).toMatch(/^shimbed: [^A-Z]/);
  expect(outcome.stderr).toMatch(says);
  expect(outcome.stderr).not.toMatch(/^\s+at /m);
}

describe("files that are no guest", () => {
  test("no such file", () => refused(guest("/no/such/file", []), 127, /\/no\/such\/file/));
  test("an empty file", () => refused(guest(write("empty", ""), []), 126, /empty/));
  test("a text", () => refused(guest(write("text", "just words\n"), []), 126, /text/));
  test("a directory", () => refused(guest(dir, []), 126, /directory/));
  test("a device", () => refused(guest("/dev/null", []), 126, /\/dev\/null/));
  test("aarch64", () => {
    const bytes = Buffer.from(readFileSync(demo));
    bytes.writeUInt16LE(183, 18);
    refused(guest(write("aarch64", bytes), []), 126, /aarch64/i);
  });
  test("an encoding byte that says big-endian is not looked at, as the kernel does not look at it", () => {
    const bytes = Buffer.from(readFileSync(demo));
    bytes[5] = 2;
    const file = write("big-endian", bytes);
    expect(guest(file, [])).toMatchObject({ status: native([file]).status });
  });
  test("a 64-bit header that says i386", () => {
    const bytes = Buffer.from(readFileSync(demo));
    bytes.writeUInt16LE(3, 18);
    refused(guest(write("mixed", bytes), []), 126, /mixed/);
  });
  test("an object file", () => {
    const bytes = Buffer.from(readFileSync(demo));
    bytes.writeUInt16LE(1, 16);
    refused(guest(write("object", bytes), []), 126, /object/);
  });
  // Root reads everything, so the run is given to another user, who has to get at shimbed.
  const root = process.getuid?.() === 0;
  const hidden = root && !everybodyReaches(ROOT);
  test.skipIf(hidden)(`no read permission${hidden ? ` (skipped: other users cannot reach ${ROOT})` : ""}`, () => {
    const file = join(dir, "secret");
    copyFileSync(demo, file);
    chmodSync(file, 0o000);
    refused(guest(file, [], root ? { uid: 65534 } : {}), 126, /permission|secret/i);
  });
  test("a missing interpreter", () => {
    if (dynamic === undefined) throw new Error("the fixture le-pie-glibc-x86_64 was not built");
    const bytes = readFileSync(dynamic.file);
    const at = bytes.indexOf("/lib64/ld-linux");
    bytes.write("/nope6", at);
    const outcome = guest(write("lost", bytes), []);
    expect([126, 127]).toContain(outcome.status);
    refused(outcome, Number(outcome.status), /\/nope6\/ld-linux/);
  });
  test("a script whose interpreter is missing", () => {
    const outcome = guest(write("script", "#!/no/such/shell\n"), []);
    expect([126, 127]).toContain(outcome.status);
    refused(outcome, Number(outcome.status), /\/no\/such\/shell/);
  });
});

describe.each([
  ["x86_64", demo],
  ["i386", demo32],
])("a damaged %s guest", (arch, file) => {
  const whole = readFileSync(file);

  test("cut off anywhere: refused or ends, and never hangs", () => {
    for (const length of [1, 4, 15, 16, 20, 51, 52, 63, 64, 100, 200, 1000, whole.length - 1]) {
      const outcome = guest(write(`cut-${arch}`, whole.subarray(0, length)), [], { flags: ["--timeout", "5"] });
      expect(outcome.status, `the first ${length} bytes: ${outcome.stderr}`).not.toBe(125);
      expect(outcome.status, `the first ${length} bytes`).not.toBe("timeout");
      if (length < 52) refused(outcome, 126, /cut-/);
    }
  });

  test("with bits flipped in its headers: no failure of the testbed itself", () => {
    const random = generator(20240607);
    for (let round = 0; round < 40; round++) {
      const bytes = Buffer.from(whole);
      const flips = 1 + (random() % 4);
      const done: string[] = [];
      for (let i = 0; i < flips; i++) {
        const [at, bit] = [random() % 0x180, random() % 8];
        bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
        done.push(`byte ${at} bit ${bit}`);
      }
      const outcome = guest(write(`flipped-${arch}`, bytes), [], { flags: ["--timeout", "3"] });
      const view = `round ${round} (${done.join(", ")}): ${outcome.stderr}`;
      expect(outcome.status, view).not.toBe(125);
      expect(outcome.status, view).not.toBe("timeout");
      expect(outcome.stderr, view).not.toMatch(/^\s+at .*\.js/m);
    }
  }, 180_000);
});

/** Numerical Recipes' generator, upper bits: the same damage in every run. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 8;
  };
}

describe.each(["x86_64", "i386"])("guests that misbehave, on %s", (arch) => {
  const found = fixtures("probes").find((f) => f.name === `hostile-${arch}`);
  const hostile = found?.file ?? "";
  test("was built", () => expect(found).toBeDefined());

  test.each(["spin", "spin_calls"])("%s: --timeout ends it with 124", (how) => {
    const outcome = guest(hostile, [how], { flags: ["--timeout", "1"] });
    expect(outcome.status).toBe(124);
    expect(outcome.stderr).toMatch(/^shimbed: .*time/m);
  });
  test.each(["spin", "spin_calls"])("%s: --max-blocks ends it with 124", (how) => {
    const outcome = guest(hostile, [how], { flags: ["--max-blocks", "100000"] });
    expect(outcome.status).toBe(124);
    expect(outcome.stderr).toMatch(/^shimbed: .*block/m);
  });
  test("endless mapping meets ENOMEM under --max-memory", () => {
    expect(guest(hostile, ["map"], { flags: ["--max-memory", "128M"] }).status).toBe(12);
  });
  test("endless recursion ends with SIGSEGV", () => {
    const outcome = guest(hostile, ["recurse"]);
    expect(outcome.status).toBe(139);
    expect(outcome.stderr).toMatch(/^shimbed: /m);
  });
  test("a full disk is the guest's ENOSPC", () => {
    const args = ["-c", 'exec "$@" > /dev/full', "sh", process.execPath, SHIMBED, "run", hostile, "write"];
    expect(spawnSync("sh", args, { timeout: 60_000 }).status).toBe(28);
  });
  test("a closed pipe is the guest's SIGPIPE", () => {
    const script = 'set -o pipefail; "$@" | head -n 2';
    const done = spawnSync("bash", ["-c", script, "bash", process.execPath, SHIMBED, "run", hostile, "write"], {
      encoding: "utf8",
      timeout: 60_000,
    });
    expect({ status: done.status, stdout: done.stdout }).toEqual({ status: 141, stdout: "line\nline\n" });
  });
  test("Ctrl-C ends it at once", async () => {
    const child = spawn(process.execPath, [SHIMBED, "run", hostile, "spin"], { stdio: "ignore" });
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const ended = new Promise<number>((resolve) =>
      child.on("exit", (code, signal) => resolve(signal === "SIGINT" ? 130 : (code ?? -1))),
    );
    child.kill("SIGINT");
    const killer = setTimeout(() => child.kill("SIGKILL"), 30_000);
    expect(await ended).toBe(130);
    clearTimeout(killer);
  });
});

describe("options that are wrong", () => {
  test.each([
    { args: ["run"], says: /missing|guest/i },
    { args: ["run", "--timeout", "soon", demo], says: /soon/ },
    { args: ["run", "--max-memory", "-1", demo], says: /-1|memory/ },
    { args: ["run", "--provider", "nobody", demo], says: /nobody/ },
    { args: ["run", "--root", "/no/such/root", demo], says: /\/no\/such\/root/ },
    { args: ["run", "--no-such-option", demo], says: /no-such-option/ },
    { args: ["no-such-command"], says: /no-such-command/ },
  ])("$args", ({ args, says }) => refused(shimbed(args), 125, says));

  test("the guest's own options are left alone", () => {
    const outcome = guest(fixtures("probes").find((f) => f.name === "probe-faults-x86_64")?.file ?? "", ["--version"]);
    expect(outcome).toEqual({ stdout: "", stderr: "", status: 0 });
  });
});
