// npx tsx test/shims/linux/fuzz.ts [--abi x86_64|i386] [--rounds N] [--calls N] SEED…  (or FIRST-LAST)
//
// Random calls with random and boundary arguments, over the whole table, in processes with threads and children: for each seed a run
// of fixtures/c/fuzz.c, 64-bit ones with both kinds of calls, every other one traced. Fails when shimbed does, or does not come to an
// end. A run that a round has got at (its supervisor was killed, stopped or traced) counts as cut short.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Abi, i386, x86_64 } from "../../../shims/linux/abi.ts";
import { fullTable } from "../../../shims/linux/calls/all.ts";
import { dirfd, fd, type Kind, pid, size } from "../../../shims/linux/kinds/kinds.ts";
import { path, string } from "../../../shims/linux/kinds/memory.ts";
import type { Row } from "../../../shims/linux/table.ts";
import { ROOT, SHIMBED } from "../../world/harness.ts";
import { CallGuest } from "./call-guest.ts";

const TIMEOUT_SECONDS = 120;
/** Of fuzz.c. */
const What = {
  nothing: 0,
  descriptor: 1,
  path: 2,
  memory: 3,
  size: 4,
  process: 5,
  flags: 6,
  choice: 7,
  number: 8,
} as const;
const VALUES = 7;
/** They end a round before it has begun. */
const LEFT_OUT = new Set(["exit", "exit_group"]);

const { values: given, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    abi: { type: "string", multiple: true, default: ["x86_64", "i386"] },
    rounds: { type: "string", default: "20" },
    calls: { type: "string", default: "400" },
  },
});
const seeds = positionals.flatMap((text) => {
  const [first = Number.NaN, last = first] = text.split("-").map(Number);
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
});
if (seeds.length === 0 || !seeds.every(Number.isInteger)) {
  process.stderr.write("usage: fuzz.ts [--abi x86_64|i386] [--rounds N] [--calls N] SEED…\n");
  process.exit(2);
}

const printer = new CallGuest();

/** What a kind prints for a value; undefined where that says nothing without the call's other arguments. */
function shown(kind: Kind, value: number): string | undefined {
  try {
    return kind.print(value, { task: printer.task, abi: x86_64, args: [], exact: BigInt(value), result: undefined });
  } catch {
    return undefined;
  }
}

/** The named bits of flags, or values of a choice; undefined for plain numbers. */
function named(kind: Kind): { what: number; values: number[] } | undefined {
  const isNamed = (value: number) => /^[A-Z][A-Z0-9_|a-z]*$/.test(shown(kind, value) ?? "");
  const bits = Array.from({ length: 31 }, (_, bit) => 2 ** bit).filter(isNamed);
  const small = Array.from({ length: 400 }, (_, value) => value).filter(isNamed);
  if (bits.length === 0 && small.length === 0) return undefined;
  const mask = bits.reduce((all, bit) => all + bit, 0);
  const isFlags = isNamed(3) && shown(kind, 3)?.includes("|");
  if (isFlags || bits.some((bit) => bit > 400)) return { what: What.flags, values: [mask] };
  return { what: What.choice, values: small };
}

function argumentOf(kind: Kind): { what: number; values: number[] } {
  const plain = (what: number) => ({ what, values: [] });
  if (kind === fd || kind === dirfd) return plain(What.descriptor);
  if (kind === path || kind === string) return plain(What.path);
  if (kind === size) return plain(What.size);
  if (kind === pid) return plain(What.process);
  return named(kind) ?? plain(kind.shape === "pointer" ? What.memory : What.number);
}

const kinds = new Map<Kind, { what: number; values: number[] }>();
function known(kind: Kind): { what: number; values: number[] } {
  const argument = kinds.get(kind) ?? argumentOf(kind);
  kinds.set(kind, argument);
  return argument;
}

/** struct call of fuzz.c. */
function encode(row: Row, abi: Abi): Uint32Array[] {
  const number = row.numbers[abi.name];
  if (number === undefined || LEFT_OUT.has(row.name)) return [];
  const words = new Uint32Array(2 + 6 * (1 + VALUES));
  words[0] = number;
  words[1] = abi === i386 ? 1 : 0;
  row.kinds.slice(0, 6).forEach((kind, index) => {
    const { what, values } = known(kind);
    const at = 2 + index * (1 + VALUES);
    words[at] = what;
    for (let i = 0; i < VALUES && values.length > 0; i++) {
      // A choice of many names: some of them.
      words[at + 1 + i] = values[values.length <= VALUES ? i % values.length : (i * 37 + number) % values.length] ?? 0;
    }
  });
  return [words];
}

const folder = mkdtempSync(join(tmpdir(), "shimbed-fuzz-"));
const { rows } = fullTable();
const guests = new Map<string, { file: string; input: Buffer }>();
for (const name of given.abi) {
  const file = join(folder, name);
  const option = name === "i386" ? ["-m32"] : [];
  const done = spawnSync("gcc", ["-O1", "-w", "-static", ...option, "-o", file, join(ROOT, "fixtures/c/fuzz.c")]);
  if (done.status !== 0) throw new Error(`gcc cannot compile fuzz.c: ${done.stderr}`);
  const calls = rows.flatMap((row) => [...(name === "i386" ? [] : encode(row, x86_64)), ...encode(row, i386)]);
  guests.set(name, { file, input: Buffer.concat(calls.map((words) => new Uint8Array(words.buffer))) });
}

interface End {
  readonly status: number | string;
  readonly said: string;
  readonly seconds: number;
}

function run(file: string, input: Buffer, seed: number): Promise<End> {
  const command = seed % 2 === 0 ? ["run"] : ["trace", "-o", "/dev/null"];
  const limits = [
    "--max-memory",
    "128M",
    "--timeout",
    String(TIMEOUT_SECONDS),
    "--user",
    "0:0",
    "--seed",
    String(seed),
  ];
  const args = [SHIMBED, ...command, ...limits, file, String(seed), given.rounds, given.calls];
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      stdio: ["pipe", "ignore", "pipe"],
      env: { ...process.env, SHIMBED_DEBUG: "1" },
      timeout: 2 * TIMEOUT_SECONDS * 1000,
      killSignal: "SIGKILL",
    });
    let said = "";
    child.stderr?.on("data", (bytes: Buffer) => {
      if (said.length < 1_000_000) said += bytes.toString("latin1");
    });
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
    child.on("error", reject);
    child.on("close", (code, signal) => {
      resolve({ status: code ?? signal ?? "?", said, seconds: (performance.now() - began) / 1000 });
    });
  });
}

const counts = { good: 0, short: 0, bad: 0 };
try {
  for (const seed of seeds) {
    for (const [name, { file, input }] of guests) {
      const { status, said, seconds } = await run(file, input, seed);
      const internal = said.includes("internal error") || said.includes("more of this machine's memory");
      // Who stops the supervisor leaves nobody to go on.
      const stuck = status === 124 && !said.includes("would wait for ever");
      const bad = typeof status === "string" || status === 125 || stuck || internal;
      counts[bad ? "bad" : status === 0 ? "good" : "short"]++;
      if (!bad && status === 0) continue;
      process.stdout.write(
        `seed ${seed} on ${name}: ${bad ? "FAILED" : "cut short"}, ${status}, ${seconds.toFixed(1)} s\n`,
      );
      if (bad)
        process.stdout.write(
          `${said
            .split("\n")
            .filter((line) => line !== "")
            .slice(-12)
            .join("\n")}\n`,
        );
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
process.stdout.write(`${counts.good} ran to the end, ${counts.short} were cut short, ${counts.bad} failed\n`);
if (counts.bad > 0) process.exitCode = 1;
