// Runs test programs of public suites on this machine's kernel and under shimbed, and compares how they end and what
// they print. The programs are the caller's: folders of what he built of musl's libc-test, of QEMU's tests/tcg, or of
// anything whose programs exit with 0 when they pass.
//
//   npm run suites -- DIR… [--skip REGEXP] [--only REGEXP] [--jobs N] [--timeout SECONDS] [--least PERCENT]
//
// Counts what passes natively, in two runs of two, and how much of that ends and prints alike under shimbed. What
// prints otherwise from one native run to the next (times, process ids) is compared by its status alone. Exits with 1
// where less than 98 % (or --least) agree.

import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, statSync } from "node:fs";
import os from "node:os";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";

const SHIMBED = resolve(import.meta.dirname, "../../dist/cli/shimbed.js");
const MAX_OUTPUT = 1 << 26;
/** ELF's e_type of what can be run: a program, or one that is position independent; a library is that too. */
const RUNNABLE: readonly number[] = [2, 3];

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

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    skip: { type: "string", default: "^$" },
    only: { type: "string", default: "" },
    jobs: { type: "string", default: "2" },
    timeout: { type: "string", default: "60" },
    least: { type: "string", default: "98" },
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

/** Runs a command in an empty directory of its own, without input. */
function runOnce(command: string, args: readonly string[], seconds: number): Promise<End> {
  const cwd = mkdtempSync(join(os.tmpdir(), "suite-"));
  const child = spawn(command, args, { cwd, env: {}, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const texts = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const)
    child[name].setEncoding("latin1").on("data", (text: string) => {
      if (texts[name].length < MAX_OUTPUT) texts[name] += text;
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
      rmSync(cwd, { recursive: true, force: true });
      const status = signal === null ? (code ?? -1) : 128 + os.constants.signals[signal];
      done({ status: late ? "timeout" : status, ...texts });
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
  const seconds = Number(values.timeout);
  const native = await runOnce(file, [], seconds);
  const again = await runOnce(file, [], seconds);
  // Slower than native by far more than anything that still makes sense to wait for.
  const ours = await runOnce(process.execPath, [SHIMBED, "run", "--root", "/", file], seconds);
  const steady = native.status === again.status ? native : { ...native, status: -1 };
  return { name, native: steady, ours, difference: differenceOf(ours, steady, again) };
}

/** Judges all programs of a folder, some at a time, and prints each that differs as it comes. */
async function suite(top: string): Promise<{ passed: number; same: number }> {
  const [only, skip] = [new RegExp(values.only), new RegExp(values.skip)];
  const waiting = programsBelow(top).filter((name) => only.test(name) && !skip.test(name));
  const verdicts: Verdict[] = [];
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const verdict = await judge(top, name);
      verdicts.push(verdict);
      if (verdict.difference === undefined) continue;
      const counts = verdict.native.status === 0 ? "DIFFERS" : "differs (fails natively)";
      process.stdout.write(`${counts}  ${name}: ${verdict.difference}\n`);
      const said = verdict.ours.stderr.split("\n").find((line) => line.startsWith("shimbed:"));
      if (said !== undefined) process.stdout.write(`         ${said}\n`);
    }
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, worker));
  const passed = verdicts.filter((v) => v.native.status === 0);
  const same = passed.filter((v) => v.difference === undefined);
  process.stdout.write(
    `${top}: ${verdicts.length} programs, ${passed.length} pass natively, ${same.length} of them the same under shimbed`,
  );
  process.stdout.write(`: ${((100 * same.length) / Math.max(1, passed.length)).toFixed(2)} %\n`);
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
process.stdout.write(`${total.same} of ${total.passed} the same: ${percent.toFixed(2)} %\n`);
process.exitCode = total.passed > 0 && percent >= Number(values.least) ? 0 : 1;
