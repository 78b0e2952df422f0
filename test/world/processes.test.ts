// Programs of many threads and processes: this machine's own shells, compiler and interpreters, and the load that Linux bears.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { guest, native, noNative, ROOT, same } from "./harness.ts";

const ENV = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C", HOME: "/" };
const folder = mkdtempSync(join(tmpdir(), "shimbed-processes-"));
afterAll(() => rmSync(folder, { recursive: true }));

const SHELL = `
x=$(echo a b c | tr a-z A-Z | sed 's/B/x/'); echo "$x"
for i in 1 2 3; do (sleep 0.$i; echo "done $i") & done; wait
trap 'echo trapped' USR1; kill -USR1 $$
cat <<E | sort -r
one
two
three
E
seq 1 1000 | grep 7 | wc -l
f() { return 42; }; f; echo $?; (exit 3); echo $?
sleep 100 & kill -TERM $!; wait $!; echo "killed $?"
{ echo out; echo err >&2; } 2>&1 | cat -n
yes | head -3; i=0; while [ $i -lt 50 ]; do i=$((i+1)); /bin/true; done; echo $i
trap 'echo bye' EXIT
exit 5
`;
const BASH = `${SHELL.replace("trap 'echo bye' EXIT", `diff <(seq 3) <(seq 4); set -o pipefail; false | true; echo "pipe $?"; coproc cat; echo hi >&\${COPROC[1]}; read -u \${COPROC[0]} l; echo "$l"; exec {COPROC[1]}>&-; wait`)}`;
const PYTHON = `
import multiprocessing, os, queue, signal, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor
def square(x): return x * x
if __name__ == "__main__":
    q = queue.Queue()
    threads = [threading.Thread(target=lambda n=n: [q.put(n * i) for i in range(100)]) for n in range(8)]
    [t.start() for t in threads]; [t.join() for t in threads]
    print(sum(q.get() for _ in range(800)))
    print(subprocess.run(["sh", "-c", "echo sub; exit 7"], capture_output=True))
    print(subprocess.check_output("ls /etc/passwd | cat", shell=True))
    with multiprocessing.Pool(3) as p: print(p.map(square, range(10)))
    with ThreadPoolExecutor(4) as e: print(list(e.map(square, range(10))))
    r, w = os.pipe(); pid = os.fork()
    if pid == 0: os.write(w, b"hi"); os._exit(5)
    print(os.read(r, 10), os.waitpid(pid, 0)[1] >> 8)
    p = subprocess.Popen(["sleep", "100"]); p.send_signal(signal.SIGINT); print(p.wait())
    sys.exit(4)
`;
const PERL = `
pipe(R, W); my $p = fork(); if (!$p) { close R; print W "from child\\n"; exit 3 } close W; print <R>; waitpid($p, 0); print $? >> 8, "\\n";
open(F, "seq 1 5|"); print while <F>; close F; print \`echo backtick\`; system("exit 4"); print $? >> 8, "\\n";
$SIG{CHLD} = sub { print "child\\n" }; if (!fork()) { exit 0 } wait; $SIG{ALRM} = sub { print "alarm\\n" }; alarm 1; select(undef, undef, undef, 2); exit 6;
`;

/** A TLS session between two processes over a socket. */
const TLS = `
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout k.pem -out c.pem -subj /CN=here 2>&-; echo $?
rm -f tls; openssl s_server -unix tls -cert c.pem -key k.pem -quiet -rev >&- 2>&- &
n=0; until [ -S tls ] || [ $((n += 1)) -gt 100 ]; do sleep 0.1; done
(echo first; echo second; sleep 1) | openssl s_client -unix tls -quiet -CAfile c.pem 2>&-
kill %1; wait %1; echo "server $?"; rm -f tls
`;

interface Program {
  readonly command: readonly [string, ...string[]];
  readonly file?: { readonly name: string; readonly text: string };
  /** What else of the machine it runs. */
  readonly needs?: readonly string[];
}
const PROGRAMS: readonly Program[] = [
  { command: ["/bin/bash", "script.sh"], file: { name: "script.sh", text: BASH } },
  { command: ["/bin/sh", "plain.sh"], file: { name: "plain.sh", text: SHELL } },
  { command: ["/bin/busybox", "sh", "plain.sh"], file: { name: "plain.sh", text: SHELL } },
  { command: ["/usr/bin/python3", "p.py"], file: { name: "p.py", text: PYTHON } },
  { command: ["/usr/bin/perl", "p.pl"], file: { name: "p.pl", text: PERL } },
  { command: ["/bin/bash", "tls.sh"], file: { name: "tls.sh", text: TLS }, needs: ["/usr/bin/openssl"] },
  {
    command: ["/bin/sh", "-c", "tar --sort=name -cf - -C /etc passwd group | xz | sha256sum"],
    needs: ["/bin/tar", "/usr/bin/xz"],
  },
];

const usable = PROGRAMS.filter(({ command: [file], needs = [] }) => [file, ...needs].every((path) => existsSync(path)));

describe.skipIf(noNative)("this machine's programs", () => {
  test.each(usable)("$command", async ({ command, file }) => {
    if (file !== undefined) writeFileSync(join(folder, file.name), file.text);
    const [program, ...args] = command;
    const options = { env: ENV, cwd: folder };
    const ours = guest(program, args, { ...options, flags: ["--root", "/", "--cwd", folder] });
    await same(ours, () => native(command, options));
  });
});

function compile(name: string, source: string, options: readonly string[]): string {
  const file = join(folder, name);
  const done = spawnSync("gcc", ["-O1", "-w", "-pthread", ...options, "-o", file, join(ROOT, "fixtures/c", source)]);
  if (done.status !== 0) throw new Error(`gcc cannot compile ${source}: ${done.stderr}`);
  return file;
}

describe.skipIf(noNative || !existsSync("/usr/bin/make"))("make -j4 with the real compiler", () => {
  test("makes a program that runs", () => {
    const project = join(folder, "project");
    mkdirSync(project);
    const names = ["a", "b", "c", "d"];
    for (const name of names)
      writeFileSync(join(project, `${name}.c`), `int ${name}(int x) { return x * ${name.charCodeAt(0)}; }\n`);
    const calls = names.map((name) => `${name}(2)`).join(" + ");
    const declared = names.map((name) => `int ${name}(int);`).join(" ");
    writeFileSync(
      join(project, "main.c"),
      `#include <stdio.h>\n${declared}\nint main(void) { printf("%d\\n", ${calls}); return 0; }\n`,
    );
    const objects = ["main", ...names].map((name) => `${name}.o`).join(" ");
    writeFileSync(join(project, "Makefile"), `program: ${objects}\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O2 -c -o $@ $<\n`);
    const made = guest("/usr/bin/make", ["-s", "-j4"], {
      env: ENV,
      flags: ["--root", "/", "--bind", `${project}:${project}:rw`, "--cwd", project, "--clock", "host"],
    });
    expect(made).toEqual({ stdout: "", stderr: "", status: 0 });
    cpSync(join(project, "program"), join(folder, "made"));
    expect(native([join(folder, "made")]).stdout).toBe("788\n");
  });
});

describe.skipIf(noNative)("load", () => {
  const [wide, narrow] = noNative
    ? ["", ""]
    : [compile("load-64", "load.c", []), compile("load-32", "load.c", ["-m32"])];
  test.each([
    ["threads", 1000, 500_500],
    ["alive", 200, 20_100],
    ["forks", 1000, 1000],
    ["pipeline", 100, 100],
    ["files", 10_000, 10_000],
    ["sockets", 1000, 1000],
    ["mappings", 100_000, 50_000],
  ])("%s %d", (what, count, total) => {
    for (const file of [wide, narrow]) {
      const outcome = guest(file, [what, String(count)]);
      expect(outcome).toEqual({ stdout: `${what} ${count}: ${total}\n`, stderr: "", status: 0 });
    }
  });

  test("a fork bomb runs into EAGAIN", () => {
    const outcome = guest(wide, ["bomb"], { flags: ["--max-memory", "128M", "--timeout", "140"] });
    expect(outcome).toMatchObject({ stdout: "EAGAIN\n", status: 3 });
  });

  test("who opens too much runs into EMFILE, and goes on", () => {
    for (const file of [wide, narrow]) {
      const outcome = guest(file, ["descriptors"]);
      expect(outcome).toMatchObject({ stdout: "EMFILE\n-1 EMFILE\n1\ndescriptors 0: 1023\n", status: 0 });
    }
  });

  test("who maps too much runs into ENOMEM, and goes on", () => {
    for (const file of [wide, narrow]) {
      const outcome = guest(file, ["memory"], { flags: ["--max-memory", "64M"] });
      expect(outcome).toMatchObject({ stdout: "ENOMEM after some\nforked\n", status: 0 });
    }
  });

  test("forks leave nothing behind: what 3,000 of them touch would not fit", () => {
    const outcome = guest(compile("load-static", "load.c", ["-static"]), ["forks", "3000"], {
      flags: ["--max-memory", "16M"],
    });
    expect(outcome).toEqual({ stdout: "forks 3000: 3000\n", stderr: "", status: 0 });
  });
});
