// Runs test programs of public suites on this machine's kernel and under shimbed, and compares how they end and what
// they print. The programs are the caller's: folders of what he built of musl's libc-test, of QEMU's tests/tcg, or of
// anything whose programs exit with 0 when they pass.
//
//   npm run suites -- DIR… [--skip REGEXP] [--only REGEXP] [--jobs N] [--timeout SECONDS] [--least PERCENT] [--in-place] [--cpu MODEL]
//
// Counts what passes natively, in two runs of two, and how much of that ends and prints alike under shimbed. What
// prints otherwise from one native run to the next (times, process ids) is compared by its status alone. Exits with 1
// where less than 98 % (or --least) agree. Each program runs in an empty directory, or with --in-place in the folder
// given. The processor is x86-64-v3 unless --cpu says otherwise: the C library computes otherwise where there is no FMA.

import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, statSync } from "node:fs";
import os from "node:os";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";

const SHIMBED = resolve(import.meta.dirname, "../../dist/cli/shimbed.cjs");
const MAX_OUTPUT = 1 << 26;
/** ELF's e_type of what can be run: a program, or one that is position independent; a library is that too. */
const RUNNABLE: readonly number[] = [2, 3];

type Reasons = readonly (readonly [program: RegExp, reason: string])[];
/** Programs that print what is free to differ. Their status is compared. */
const UNLIKE: Reasons = [
  [/(^|\/)vsyscall$/, "prints the time, which is virtual"],
  [/(^|\/)testthread$/, "threads print in turns that the seed decides"],
  [/(^|\/)test-(i386|x86_64)$/, "prints shifts of 16 bits by more than 16, each maker's own"],
];

interface End {
  /** 128+n after signal n, as in a shell. */
  readonly status: number | "timeout";
  readonly stdout: string;
  readonly stderr: string;
}
interface Verdict {
  readonly name: string;
  readonly native: End;
  readonly ours: End;
  readonly difference: string | undefined;
}

const reasonFor = (reasons: Reasons, name: string): string | undefined =>
  reasons.find(([program]) => program.test(name))?.[1];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    skip: { type: "string", default: "^$" },
    only: { type: "string", default: "" },
    jobs: { type: "string", default: "2" },
    timeout: { type: "string", default: "60" },
    least: { type: "string", default: "98" },
    cpu: { type: "string", default: "x86-64-v3" },
    "in-place": { type: "boolean", default: false },
  },
});

/** Every program below a folder, as paths relative to it. */
function programsBelow(top: string): string[] {
  return readdirSync(top, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/\.(so|o|lo|a)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter(isProgram)
    .map((file) => relative(top, file))
    .sort();
}

function isProgram(file: string): boolean {
  if ((statSync(file).mode & 0o111) === 0) return false;
  const head = Buffer.alloc(18);
  const fd = openSync(file, "r");
  const got = readSync(fd, head, 0, head.length, 0);
  closeSync(fd);
  return got === head.length && head.readUInt32BE(0) === 0x7f454c46 && RUNNABLE.includes(head.readUInt16LE(16));
}

/** Tells a real-time signal's death by a status, as Node does not; what it says of that itself is thrown away. */
const SHELL = ["-c", '(exec "$0" "$@" 2>&3 3>&-); exit $?'];

/** Runs a command without input, in the directory given or an empty one of its own. */
function runOnce(command: string, args: readonly string[], directory: string | undefined): Promise<End> {
  const cwd = directory ?? mkdtempSync(join(os.tmpdir(), "suite-"));
  const seconds = Number(values.timeout);
  const stdio = ["ignore", "pipe", "ignore", "pipe"] as const;
  const child = spawn("/bin/sh", [...SHELL, command, ...args], { cwd, env: {}, stdio: [...stdio], detached: true });
  const texts = { stdout: "", stderr: "" };
  for (const [name, fd] of [
    ["stdout", 1],
    ["stderr", 3],
  ] as const)
    child.stdio[fd]?.on("data", (bytes: Buffer) => {
      if (texts[name].length < MAX_OUTPUT) texts[name] += bytes.toString("latin1");
    });
  return new Promise((done, failed) => {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      // The whole group: a program that hangs may have children that hold its pipes.
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    }, seconds * 1000);
    child.on("error", failed);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      if (directory === undefined) rmSync(cwd, { recursive: true, force: true });
      done({ status: late || signal !== null ? "timeout" : (code ?? -1), ...texts });
    });
  });
}

function differenceOf(ours: End, native: End, again: End): string | undefined {
  if (ours.status !== native.status) return `ends with ${ours.status}, natively with ${native.status}`;
  for (const name of ["stdout", "stderr"] as const)
    if (native[name] === again[name] && ours[name] !== native[name])
      return `another ${name}: ${firstDifference(ours[name], native[name])}`;
  return undefined;
}

function firstDifference(ours: string, theirs: string): string {
  const [a, b] = [ours.split("\n"), theirs.split("\n")];
  const line = a.findIndex((text, i) => text !== b[i]);
  const at = line < 0 ? a.length : line;
  return `line ${at + 1} is ${JSON.stringify(a[at]?.slice(0, 150) ?? "missing")}, natively ${JSON.stringify(b[at]?.slice(0, 150) ?? "missing")}`;
}

async function judge(top: string, name: string): Promise<Verdict> {
  const file = join(top, name);
  const directory = values["in-place"] ? top : undefined;
  const native = await runOnce(file, [], directory);
  const again = await runOnce(file, [], directory);
  const ours = await runOnce(process.execPath, [SHIMBED, "run", "--cpu", values.cpu, "--root", "/", file], directory);
  const steady = native.status === again.status ? native : { ...native, status: -1 };
  return {
    name,
    native: steady,
    ours,
    difference: differenceOf(ours, steady, again),
  };
}

/** Judges all programs of a folder, some at a time, and prints each that differs as it comes. */
async function suite(top: string): Promise<{ passed: number; same: number }> {
  const [only, skip] = [new RegExp(values.only), new RegExp(values.skip)];
  const say = (line: string) => process.stdout.write(`${line}\n`);
  const waiting = programsBelow(top).filter((name) => only.test(name) && !skip.test(name));
  const verdicts: Verdict[] = [];
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const verdict = await judge(top, name);
      const unlike = verdict.ours.status === verdict.native.status ? reasonFor(UNLIKE, name) : undefined;
      verdicts.push(unlike === undefined ? verdict : { ...verdict, difference: undefined });
      if (verdict.difference === undefined) continue;
      if (unlike !== undefined) {
        say(`by status only  ${name}: ${unlike}`);
        continue;
      }
      say(`${verdict.native.status === 0 ? "DIFFERS         " : "fails natively, "}${name}: ${verdict.difference}`);
      const said = verdict.ours.stderr.split("\n").find((line) => line.startsWith("shimbed:"));
      if (said !== undefined) say(`                ${said}`);
    }
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, worker));
  const passed = verdicts.filter((v) => v.native.status === 0);
  const same = passed.filter((v) => v.difference === undefined);
  const percent = ((100 * same.length) / Math.max(1, passed.length)).toFixed(2);
  say(
    `${top}: of ${verdicts.length} programs ${passed.length} pass natively, ${same.length} of them alike here: ${percent} %`,
  );
  return { passed: passed.length, same: same.length };
}

if (positionals.length === 0 || !existsSync(SHIMBED)) {
  process.stderr.write("give folders of built test programs, after `npm run build`\n");
  process.exit(125);
}
const total = { passed: 0, same: 0 };
for (const directory of positionals) {
  const { passed, same } = await suite(resolve(directory));
  total.passed += passed;
  total.same += same;
}
const percent = (100 * total.same) / Math.max(1, total.passed);
process.stdout.write(`${total.same} of ${total.passed} alike: ${percent.toFixed(2)} %\n`);
process.exitCode = total.passed > 0 && percent >= Number(values.least) ? 0 : 1;
