// Real tracers on guests: what strace, ltrace and gdb say here is what they say on this machine's kernel, but for addresses and ids.
// And real users of seccomp. What a tracer does to TLS is in the ledger.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { asNatively, guest, native, noNative, type Outcome, ROOT } from "./harness.ts";

const ENV = { PATH: "/usr/bin:/bin", LC_ALL: "C", HOME: "/" };
const directory = mkdtempSync(path.join(os.tmpdir(), "shimbed-tracers-"));
afterAll(() => rmSync(directory, { recursive: true }));

const FLAGS = ["--root", "/", "--bind", `${directory}:${directory}:rw`];
const ours = (command: readonly [string, ...string[]]): Outcome =>
  guest(command[0], command.slice(1), { env: ENV, flags: FLAGS });
const theirs = (command: readonly [string, ...string[]]): Outcome => native(command, { env: ENV });

/** Why a program is not tried, undefined where it is. */
function missing(program: string): string | undefined {
  if (noNative !== undefined) return noNative;
  return existsSync(program) ? undefined : `${program} is not installed`;
}

function compile(name: string, source: string, options: readonly string[]): string {
  const file = path.join(directory, name);
  const done = spawnSync("gcc", ["-w", "-pthread", ...options, "-o", file, source], { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`gcc cannot compile ${source}: ${done.stderr}`);
  return file;
}

/** Without addresses, and ids as what they are. */
function plain(text: string): string {
  return (
    text
      .replace(/0x[0-9a-f]{5,16}/g, "0x…")
      .replace(/\b(LWP|process|pid|si_pid=)( ?)\d+/g, "$1$2…")
      .replace(/si_uid=\d+/g, "si_uid=…")
      .replace(/Target Id +Frame/, "Target Id Frame")
      // How far the other thread has come by now.
      .replace(/^( {2}\d+ +Thread .*?\(LWP …\) \S+ ).*$/gm, "$1…")
      .replace(/expected=\d+/, "expected=…")
      // The debugger finds no symbols in our vDSO for i386.
      .replace(/in __kernel_vsyscall \(\)/g, "in ?? ()")
      // A thread's end is told whenever the debugger comes to reap it, which pthread_join does not wait for.
      .replace(/^\[Thread .* exited\]\n/gm, "")
  );
}

describe.skipIf(missing("/usr/bin/strace"))("strace", () => {
  const SCRIPT = "ls /nonexistent; (exit 4); echo hi | cat; kill -USR1 $$";

  /** What each process does, in the order in which they were made. */
  function traces(run: typeof ours, prefix: string): string[] {
    const file = path.join(directory, prefix);
    const trace = ["-e", "trace=execve,clone,vfork,wait4,kill,exit_group,pipe2,dup2,write", "-e", "signal=!chld"];
    run(["/usr/bin/strace", "-ff", ...trace, "-o", file, "/bin/sh", "-c", SCRIPT]);
    const files = readdirSync(directory).filter((name) => name.startsWith(`${prefix}.`));
    const number = (name: string): number => Number(name.slice(prefix.length + 1));
    files.sort((a, b) => number(a) - number(b));
    return files.map((name) =>
      plain(readFileSync(path.join(directory, name), "utf8"))
        .replace(/(\) += |kill\(|wait4\()\d{2,}/g, "$1…")
        .replace(/child_tidptr=\S+/g, "")
        .replace(/ +=/g, " ="),
    );
  }

  it("of a shell with children, a pipe and a signal", async () => {
    const here = traces(ours, "here");
    expect(here).toHaveLength(5);
    let runs = 0;
    await asNatively(here, () => traces(theirs, `there${runs++}`));
  });

  it("counts", async () => {
    const counts = ({ stderr }: Outcome): string[] =>
      stderr.split("\n").flatMap((line) => /^ +\S+ +\S+ +\S+ +(\d+ +.*)$/.exec(line)?.[1]?.replace(/ +/g, " ") ?? []);
    const command = ["/usr/bin/strace", "-c", "-S", "name", "/bin/echo", "counted"] as const;
    const here = counts(ours(command));
    expect(here.length).toBeGreaterThan(10);
    await asNatively(here, () => counts(theirs(command)));
  });

  it("is the same in every run with the same seed", () => {
    const command = ["/usr/bin/strace", "-f", "/bin/sh", "-c", SCRIPT] as const;
    expect(ours(command)).toEqual(ours(command));
  });
});

describe.skipIf(missing("/usr/bin/gdb"))("gdb", () => {
  const SOURCE = `
#include <pthread.h>
#include <stdio.h>
#include <signal.h>
__thread int own = 42;
int shared;
void *work(void *argument) { own += (int)(long)argument; __sync_fetch_and_add(&shared, own); return 0; }
int twice(int n) { return 2 * n; }
int main() {
  pthread_t thread;
  own = 1;
  for (long i = 1; i < 3; i++) { pthread_create(&thread, 0, work, (void *)i); pthread_join(thread, 0); }
  shared = twice(shared);
  raise(SIGUSR1);
  printf("%d\\n", shared);
  return 3;
}
`;
  const COMMANDS = [
    ...["bt", "p own", "p twice(21)", "break work", "continue", "bt 1", "p own", "info threads", "p own = 50"],
    ...["delete", "handle SIGUSR1 nopass", "continue", "catch syscall write", "continue", "continue", "continue"],
  ];
  let source = "";
  beforeAll(() => {
    source = path.join(directory, "threads.c");
    writeFileSync(source, SOURCE);
  });

  it.each([
    ["x86-64", [], ["p $fs_base == *(unsigned long *)$fs_base"]],
    ["i386", ["-m32"], ["p *(int *)&own"]],
  ])("of a program with threads, %s", { timeout: 300_000 }, async (name, options, more) => {
    const file = compile(`threads-${name}`, source, ["-g", "-O0", ...options]);
    const args = ["break main", "run", "stepi", ...more, ...COMMANDS].flatMap((one) => ["-ex", one]);
    const command = ["/usr/bin/gdb", "-nx", "--batch", ...args, file] as const;
    const told = (outcome: Outcome) => ({ ...outcome, stdout: plain(outcome.stdout), stderr: plain(outcome.stderr) });
    const here = told(ours(command));
    expect(here.stdout).toContain("Breakpoint 2, work");
    expect(here.stdout).toContain("[New Thread");
    await asNatively(here, () => told(theirs(command)));
  });

  const WATCHED = `
#include <pthread.h>
int counter, seen; char text[16]; short pairs[4];
__attribute__((noinline)) void add(int n) { counter += n; }
__attribute__((noinline)) int look(void) { return counter; }
void *work(void *argument) { add(100); return argument; }
int main() {
  pthread_t thread;
  int own = 1;
  for (int i = 0; i < 3; i++) add(i);
  seen = look();
  pairs[2] = 7;
  for (int i = 0; i < 10; i++) text[i] = 'a' + i;
  pthread_create(&thread, 0, work, 0);
  pthread_join(thread, 0);
  own += look();
  return own + pairs[2] + seen;
}
`;
  it.each([
    ["x86-64", "-m64"],
    ["i386", "-m32"],
  ])("with breakpoints of the processor, %s", { timeout: 300_000 }, async (name, width) => {
    const text = path.join(directory, "watched.c");
    writeFileSync(text, WATCHED);
    const file = compile(`watched-${name}`, text, [width, "-g", "-O0"]);
    const steps = [
      ...["set width 0", "set print thread-events off", "break main", "run", "watch counter", "awatch pairs[2]"],
      ...["watch *(int *)(text + 8)", "hbreak look", ...Array(7).fill("continue"), "info breakpoints", "delete 2 3 5"],
      ...["rwatch seen", "watch -l own", "thbreak add", ...Array(5).fill("continue")],
    ];
    const args = steps.flatMap((one) => ["-ex", one]);
    const command = ["/usr/bin/gdb", "-nx", "--batch", ...args, file] as const;
    const told = (outcome: Outcome) => ({ ...outcome, stdout: plain(outcome.stdout), stderr: plain(outcome.stderr) });
    const here = told(ours(command));
    expect(here.stdout).toContain("Hardware access (read/write) watchpoint");
    await asNatively(here, () => told(theirs(command)));
  });
});

describe.skipIf(noNative)("the debug registers", () => {
  it.each([
    ["x86-64", "-m64"],
    ["i386", "-m32"],
  ])("of a child, as ptrace takes them and where they stop it, %s", async (name, width) => {
    const source = path.join(ROOT, "fixtures/c/debug-registers.c");
    const options = [width, "-msse2", "-O1", "-fno-pie", "-no-pie"];
    const file = compile(`debug-registers-${name}`, source, options);
    const here = ours([file]);
    expect(here.stdout).toContain("writes to 2, stepped");
    await asNatively(here, () => theirs([file]));
  });
});

describe.skipIf(missing("/usr/bin/ltrace"))("ltrace", () => {
  it("of a program that is bound lazily", async () => {
    const source = path.join(directory, "calls.c");
    writeFileSync(
      source,
      '#include <stdlib.h>\n#include <stdio.h>\nint main() { char *p = malloc(10); puts("said"); free(p); return abs(-3); }\n',
    );
    const file = compile("calls", source, ["-O0", "-fno-builtin", "-Wl,-z,lazy"]);
    const command = ["/usr/bin/ltrace", file] as const;
    const told = (outcome: Outcome) => ({ ...outcome, stderr: plain(outcome.stderr) });
    const here = told(ours(command));
    expect(here.stderr).toContain('puts("said")');
    await asNatively(here, () => told(theirs(command)));
  });
});

describe("filters of libseccomp", () => {
  const PROGRAM = `
import seccomp, os, errno
f = seccomp.SyscallFilter(defaction=seccomp.ALLOW)
f.add_rule(seccomp.ERRNO(errno.EACCES), "mkdir")
f.add_rule(seccomp.ERRNO(errno.EPERM), "dup2", seccomp.Arg(1, seccomp.EQ, 77))
f.load()
for what in (lambda: os.mkdir("/nonexistent/x"), lambda: os.dup2(1, 77), lambda: os.dup2(1, 78)):
    try: print("ok", what())
    except OSError as e: print(e.errno, e.strerror)
print([l for l in open("/proc/self/status") if l.startswith("Seccomp")])
`;
  it.skipIf(missing("/usr/share/doc/python3-seccomp"))("in Python", () => {
    const command = ["/usr/bin/python3", "-c", PROGRAM] as const;
    const here = ours(command);
    expect(here.stdout).toContain("Permission denied");
    expect(here).toEqual(theirs(command));
  });
});

describe.skipIf(noNative)("thread-local storage that a tracer sets", () => {
  it.each([
    ["x86-64", [], ["SetGsBase", "SetFsBase", "SetFsBase"]],
    ["i386", ["-m32"], ["SetThreadArea", "SetThreadArea", "SetThreadArea"]],
  ])("is set through the gate, in the tracee's name, %s", (name, options, kinds) => {
    const file = compile(`tls-${name}`, path.join(ROOT, "fixtures/c/ptrace-tls.c"), ["-O1", ...options]);
    const ledger = path.join(directory, `${name}.ledger`);
    const here = guest(file, [], { flags: ["--ledger", ledger] });
    expect(here).toEqual(native([file]));
    const records = readFileSync(ledger, "utf8")
      .split("\n")
      .flatMap((line) => (line === "" ? [] : [JSON.parse(line)]))
      .filter((record) => record.call === "ptrace" && record.request?.kind.startsWith("Set"));
    expect(records.map((record) => record.request.kind)).toEqual(kinds);
    const first = JSON.parse(
      readFileSync(ledger, "utf8")
        .split("\n")
        .find((line) => line.includes("thread")) ?? "{}",
    );
    for (const record of records) expect(record.thread).not.toBe(first.thread);
  });

  it("is what the provider makes of it: GS is nobody's where only FS is served", () => {
    const file = compile("tls-provider", path.join(ROOT, "fixtures/c/ptrace-tls.c"), ["-O1"]);
    const under = (provider: string) => guest(file, [], { flags: ["-p", provider] }).stdout;
    const everywhere = under("direct");
    expect(everywhere).toContain("set gs: 0\n");
    expect(everywhere).toContain("the tracee: 0x1300\n");
    expect(under("linux-kernel")).toBe(everywhere);
    const onlyFs = everywhere.replace("set gs: 0\n", "set gs: -1 EIO\n").replace("0x1300", "0xb7f");
    expect(under("linux-userland")).toBe(onlyFs);
    expect(under("windows-userland")).toBe(onlyFs);
  });

  it.each([
    ["x86-64", [], ["get fs", "set fs"]],
    ["i386", ["-m32"], ["get", "set", "set another"]],
  ])("is denied by a policy, %s", (name, options, refused) => {
    const file = compile(`tls-policy-${name}`, path.join(ROOT, "fixtures/c/ptrace-tls.c"), ["-O1", ...options]);
    const policy = path.join(directory, "policy.json");
    const rules = [{ name: "no tracer", action: { errno: "EPERM" }, call: ["ptrace"] }];
    writeFileSync(policy, JSON.stringify({ version: 1, default: "allow", rules }));
    const { stdout } = guest(file, [], { flags: ["--policy", policy] });
    for (const one of refused) expect(stdout).toContain(`\n${one}: -1 EPERM\n`);
    // Writing all registers back as they are asks for nothing.
    expect(stdout).toContain("setregs: 0\n");
  });
});
