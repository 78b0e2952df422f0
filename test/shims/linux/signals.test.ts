// Guests whose handlers print what they find, run on this machine's kernel and under shimbed: both must print the same.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import { asNatively, guest, native, noNative, type Outcome } from "../../world/harness.ts";

const SOURCES = join(import.meta.dirname, "signals");
const WIDTHS = ["64", "32"] as const;
type Width = (typeof WIDTHS)[number];

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "shimbed-signals-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const COMPILE = ["-msse2", "-O1", "-fno-omit-frame-pointer", "-w", "-pthread"];

function compile(name: string, width: Width, flags: readonly string[] = COMPILE): string {
  const file = join(folder, `${name}${width}`);
  const done = spawnSync("gcc", [`-m${width}`, ...flags, join(SOURCES, `${name}.c`), "-o", file], { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`gcc -m${width} ${name}.c: ${done.error?.message ?? done.stderr}`);
  return file;
}

/** Why guests of this width cannot be built here. */
function noCompiler(width: Width): string | undefined {
  const program = { input: "#include <stdio.h>\nint main(void) { return 0; }\n", encoding: "utf8" } as const;
  const done = spawnSync("gcc", [`-m${width}`, "-x", "c", "-", "-o", "/dev/null"], program);
  return done.status === 0 ? undefined : `gcc -m${width} builds no programs here`;
}

async function compare(file: string, args: readonly string[] = []): Promise<void> {
  // What the end of a program is said of on stderr is each one's own.
  const told = ({ status, stdout }: Outcome) => ({ status, stdout });
  // A shell tells an end by a real-time signal too.
  await asNatively(told(guest(file, args)), () => told(native(["/bin/sh", "-c", '"$0" "$@"; exit $?', file, ...args])));
}

describe.each(WIDTHS)("%s-bit guests", (width) => {
  const missing = noNative ?? noCompiler(width);

  test.skipIf(missing !== undefined).each([
    ["frame", "the frame, and the state that handlers start with and leave behind"],
    ["faults", "every exception: signal, code, address, trap number, error code, flags"],
    ["actions", "actions, masks, queues, stacks, signalfd, and their errnos"],
    ["restart", "which calls a handler interrupts, and which go on"],
    ["timers", "alarm, interval timers and POSIX timers"],
    ["sigreturn", "what sigreturn restores, and what it refuses"],
    ["step", "single steps over calls and repeated instructions"],
  ])("%s: %s", async (name) => {
    await compare(compile(name, width));
  });

  describe.skipIf(missing !== undefined)("ends", () => {
    const ways = [
      ...[1, 2, 9, 11, 15, 17, 31].map((signal) => `default${signal}`),
      ...["null", "blocked", "ignored", "blocked-handled", "twice", "stack", "stack-alternate", "small-alternate"],
      ...["frame", "kill-first", "alarm", "abort", "rt"],
    ];
    let file = "";
    beforeAll(() => {
      file = compile("ends", width);
    });
    test.each(ways)("by %s", async (way) => await compare(file, [way]));
  });
});

test.skipIf((noNative ?? noCompiler("64")) !== undefined)("a 64-bit guest with handlers of 32 bits", async () => {
  await compare(compile("mixed", "64", ["-static", "-no-pie", "-fno-pie", "-O1", "-fomit-frame-pointer", "-w"]));
});
