// Guests that take of everything until they are refused: each gets the answer that Linux gives, the next one still runs, and shimbed
// takes no more of this machine than it may. Hostile arguments of single calls are in test/shims/linux/hostile-calls.test.ts, and
// `npx tsx test/shims/linux/fuzz.ts` mixes calls without end.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { guest, noNative, ROOT } from "./harness.ts";

const folder = mkdtempSync(join(tmpdir(), "shimbed-hostile-"));
afterAll(() => rmSync(folder, { recursive: true }));

function compile(name: string, ...options: string[]): string {
  const file = join(folder, name);
  const source = join(ROOT, "fixtures/c/hostile.c");
  const done = spawnSync("gcc", ["-O1", "-w", "-pthread", "-static", ...options, "-o", file, source, "-lrt"]);
  if (done.status !== 0) throw new Error(`gcc cannot compile hostile.c: ${done.stderr}`);
  return file;
}

const ANSWERS = `
dups often EMFILE
files often ENFILE
pipes often ENFILE
pairs often ENFILE
sockets often ENFILE
epolls often ENFILE
memfds often ENFILE
eventfds often ENFILE
timerfds often ENFILE
signalfds often ENFILE
inotifies often EMFILE
ptys often ENFILE
pidfds often ENFILE
fullpipes often ENFILE
epollnest often ELOOP
passed often EAGAIN
chained at once ENFILE
cycles once 0
backlog often EAGAIN
unread once 0
touches often ENOMEM
breaks often ENOMEM
mappings often ENOMEM
stack: SIGKILL
shared often ENOMEM
segments often ENOSPC
memfile often ENOSPC
sparse often ENOSPC
huge at once ENOSPC
timers often EAGAIN
queued often EAGAIN
queues often EMFILE
messages often EAGAIN
semaphores at once EINVAL
filters often ENOMEM
arguments at once E2BIG
argument at once E2BIG
symlinks often ELOOP
attributes often ENOSPC
locks once 0
threads often EAGAIN
forks often EAGAIN
zombies often EAGAIN
vforks EAGAIN
clones often EAGAIN
bomb at once 0
futexes at once 0
signals once 0
nested: SIGSEGV
ticks once 0
robust once 0
polls once 0
vectors once 0
maps once 0
links often EMLINK
folders often 0
watches often ENOSPC
inodes at once ENOSPC
and goes on
`;

describe.skipIf(noNative)("hostile guests", () => {
  const [wide, narrow] = noNative ? ["", ""] : [compile("wide"), compile("narrow", "-m32", "-D_FILE_OFFSET_BITS=64")];
  const flags = ["--max-memory", "16M", "--timeout", "140"];

  test.each([
    ["x86-64", wide],
    ["i386", narrow],
  ])("take of everything, on %s", (_, file) => {
    const outcome = guest(file, [], { flags: [...flags, "--user", "1000:1000"] });
    expect(outcome.stdout).toBe(ANSWERS.slice(1));
    expect(outcome.status).toBe(0);
  });

  test("chain sockets in messages, which are closed one after the other", () => {
    const outcome = guest(wide, ["chained"], { flags: ["--user", "0:0", "--timeout", "140"] });
    expect(outcome).toEqual({ stdout: "chained once 0\nand goes on\n", stderr: "", status: 0 });
  });

  test("take more of the testbed itself than they may, and are killed", () => {
    const outcome = guest(wide, ["fullpipes"], { flags: [...flags, "--user", "0:0"] });
    expect(outcome).toMatchObject({ stdout: "fullpipes: SIGKILL\nand goes on\n", status: 0 });
    expect(outcome.stderr).toContain("more of this machine's memory than they may");
  });
});
