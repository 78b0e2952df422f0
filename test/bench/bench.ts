// npm run bench [-- --only NAME --runs N --arch x86_64|i386 --without stock,… --json]
//
// Medians of CPU time (user and system) of the same guests under every runner, in one sitting, and their ratios.
// A case's cost is what is left after the runner's own start-up (its "hello") is taken away, so that a million
// system calls are compared with a million system calls. Start-up and peak memory have rows of their own.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import os from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type LedgerCost, ledgerCost } from "./ledger.ts";
import { type Arch, measure, median, type Runner, runners } from "./runners.ts";

const ROOT = join(import.meta.dirname, "../..");
const TIMEOUT_MS = 60_000;
/** How many times as much a TLS call may cost with the ledger as without it. */
const LEDGER_MAY_BE = 1.3;

/** `calls`: divides the cost into nanoseconds a call. `mayBe`: how many times qemu-user's cost the project allows itself. */
interface Case {
  readonly name: string;
  readonly shows: string;
  readonly calls?: number;
  readonly mayBe?: number;
}
const CASES: readonly Case[] = [
  { name: "syscall", shows: "getppid", calls: 1_000_000, mayBe: 1 },
  { name: "arch_prctl", shows: "ARCH_SET_FS, ARCH_GET_FS", calls: 1_000_000, mayBe: 1 },
  { name: "thread_area", shows: "set_thread_area, get_thread_area", calls: 1_000_000, mayBe: 1 },
  { name: "tls", shows: "__thread increments", mayBe: 2 },
  { name: "sha256", shows: "16 MiB", mayBe: 2 },
  { name: "sieve", shows: "byte stores over 8 MB", mayBe: 2 },
  { name: "fib", shows: "calls and returns", mayBe: 2 },
  { name: "malloc", shows: "3 million allocations", mayBe: 2 },
  { name: "memcpy", shows: "libc's, 16 B to 4 MiB", mayBe: 2 },
  { name: "rep", shows: "rep movsb, rep stos" },
  { name: "float", shows: "SSE2, or x87 on i386", mayBe: 2 },
  { name: "mappings", shows: "10,000 made and unmade", mayBe: 2 },
  { name: "threads", shows: "made and joined", calls: 3000, mayBe: 1 },
  { name: "forks", shows: "made and waited for", calls: 1000, mayBe: 1 },
  { name: "exec", shows: "vfork, execve, wait", calls: 200 },
  { name: "futex", shows: "ping-pong of two threads", calls: 50_000 },
  { name: "signal", shows: "sent, handled, back", calls: 100_000 },
  { name: "pipe", shows: "ping-pong of two processes", calls: 30_000 },
];

interface Result {
  readonly case: string;
  readonly arch: Arch;
  readonly runner: Runner["name"];
  /** Milliseconds of CPU time, start-up taken away; undefined where the guest failed or ran out of time. */
  readonly cpu: number | undefined;
  readonly total: number | undefined;
  readonly peak: number | undefined;
  readonly problem?: string;
}

const { values: options } = parseArgs({
  options: {
    only: { type: "string" },
    runs: { type: "string", default: "3" },
    arch: { type: "string" },
    without: { type: "string", default: "" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  process.stdout.write(
    "usage: npm run bench -- [--only NAME] [--runs N] [--arch x86_64|i386] [--without RUNNER,…] [--json]\n" +
      `cases: hello ledger ${CASES.map((c) => c.name).join(" ")}\nrunners: native qemu plain stock shimbed\n`,
  );
  process.exit(0);
}
const runs = Number(options.runs);
if (!Number.isInteger(runs) || runs < 1) {
  process.stderr.write(`bench: --runs wants a whole number from 1, not "${options.runs}"\n`);
  process.exit(2);
}
const build = spawnSync(process.execPath, [join(ROOT, "fixtures/build.mjs"), "bench"], { stdio: ["ignore", 2, 2] });
if (build.status !== 0) process.exit(1);

const without = new Set(options.without.split(","));
const ways = runners().filter((r) => !without.has(r.name));
const archs: Arch[] = (["x86_64", "i386"] as const).filter((a) => !options.arch || a === options.arch);
const guest = (name: string, arch: Arch) => join(ROOT, "fixtures/.build/bench", `${name}-${arch}`);
const chosen = CASES.filter((c) => !options.only || c.name.includes(options.only));

/** Runs take turns, so that a slow minute of the machine meets all runners alike. */
function take(name: string, arch: Arch, startUp: ReadonlyMap<string, number>): Result[] {
  const found = new Map<Runner["name"], { cpu: number[]; peak: number[]; problem?: string; enough?: boolean }>();
  let reference: string | undefined;
  for (let round = 0; round < runs; round++) {
    for (const way of ways) {
      const command = way.command(guest(name, arch), arch);
      const seen = found.get(way.name) ?? { cpu: [], peak: [] };
      found.set(way.name, seen);
      if (command === undefined || seen.problem !== undefined || seen.enough) continue;
      const cost = measure(command, TIMEOUT_MS);
      if (cost === "timeout") {
        seen.problem = `over ${TIMEOUT_MS / 1000} s`;
        continue;
      }
      reference ??= cost.stdout;
      if (cost.status !== 0) seen.problem = `exit status ${cost.status}`;
      else if (cost.stdout !== reference) seen.problem = "other output than native";
      seen.cpu.push(cost.cpu);
      seen.peak.push(cost.peak);
      // One slow run says enough.
      seen.enough = cost.cpu > 20_000;
    }
  }
  return [...found].map(([runner, { cpu, peak, problem }]) => {
    const total = problem === undefined && cpu.length > 0 ? median(cpu) : undefined;
    return {
      case: name,
      arch,
      runner,
      total,
      cpu: total === undefined ? undefined : Math.max(0.1, total - (startUp.get(runner) ?? 0)),
      peak: peak.length > 0 ? median(peak) : undefined,
      ...(problem === undefined ? {} : { problem }),
    };
  });
}

const results: Result[] = [];
const ledgers: LedgerCost[] = [];
const node = median(
  Array.from({ length: Math.max(5, runs) }, () => {
    const cost = measure([process.execPath, "-e", "1"], TIMEOUT_MS);
    return cost === "timeout" ? Number.NaN : cost.cpu;
  }),
);
for (const arch of archs) {
  const hello = take("hello", arch, new Map());
  if (!options.only || "hello".includes(options.only)) results.push(...hello);
  const startUp = new Map(hello.flatMap((r) => (r.total === undefined ? [] : [[r.runner, r.total] as const])));
  for (const c of chosen) if (existsSync(guest(c.name, arch))) results.push(...take(c.name, arch, startUp));
  if (options.only && !"ledger".includes(options.only)) continue;
  const tls = CASES.find(({ name }) => name === (arch === "x86_64" ? "arch_prctl" : "thread_area"));
  if (tls?.calls !== undefined) ledgers.push(ledgerCost(guest(tls.name, arch), arch, tls.calls, runs));
}

if (options.json) {
  const machine = { cpu: os.cpus()[0]?.model.trim(), kernel: os.release(), node: process.version };
  process.stdout.write(`${JSON.stringify({ machine, runs, nodeStartUp: node, results, ledgers }, null, 1)}\n`);
} else {
  print();
}

function cell(result: Result | undefined, calls: number | undefined): string {
  if (result?.cpu === undefined) return result?.problem === undefined ? "-" : "failed";
  return calls === undefined
    ? `${result.cpu.toFixed(result.cpu < 10 ? 1 : 0)} ms`
    : `${((result.cpu * 1e6) / calls).toFixed(0)} ns`;
}

function print(): void {
  const names = ways.map((w) => w.name);
  const rows: string[][] = [["case", "", ...names, "/native", "/qemu", "/plain", "aim"]];
  for (const arch of archs) {
    for (const c of chosen) {
      const of = (name: string) => results.find((r) => r.case === c.name && r.arch === arch && r.runner === name);
      if (of("shimbed") === undefined && of("native") === undefined) continue;
      const ratio = (name: string) => {
        const [ours, theirs] = [of("shimbed")?.cpu, of(name)?.cpu];
        return ours === undefined || theirs === undefined ? undefined : ours / theirs;
      };
      const text = (v: number | undefined) => (v === undefined ? "-" : `${v.toFixed(v < 10 ? 2 : 0)}×`);
      const toQemu = ratio("qemu");
      const aim =
        c.mayBe === undefined
          ? ""
          : toQemu === undefined
            ? `≤ ${c.mayBe}× qemu`
            : toQemu <= c.mayBe
              ? "met"
              : `missed: ≤ ${c.mayBe}× qemu`;
      const shows = c.calls === undefined ? c.shows : `${c.shows}, a call`;
      rows.push([
        `${c.name} ${arch}`,
        shows,
        ...names.map((n) => cell(of(n), c.calls)),
        text(ratio("native")),
        text(toQemu),
        text(ratio("plain")),
        aim,
      ]);
    }
  }
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((r) => r[i]?.length ?? 0))) ?? [];
  for (const row of rows) {
    const line = row.map((text, i) => (i < 2 ? text.padEnd(widths[i] ?? 0) : text.padStart(widths[i] ?? 0))).join("  ");
    process.stdout.write(`${line.trimEnd()}\n`);
  }
  process.stdout.write(
    `\nCPU time, medians of ${runs} runs, start-up taken away. \`node -e 1\`: ${node.toFixed(0)} ms.\n`,
  );
  for (const r of results.filter((r) => r.case === "hello" && r.total !== undefined)) {
    const limits =
      r.runner === "shimbed" ? ` (${((r.total ?? 0) / node).toFixed(2)}× node, aim 1.5×; memory aim 80 MiB)` : "";
    process.stdout.write(
      `start-up ${r.arch} ${r.runner}: ${r.total?.toFixed(1)} ms, peak ${r.peak?.toFixed(1)} MiB${limits}\n`,
    );
  }
  for (const { arch, off, on, file } of ledgers) {
    const aim = on / off <= LEDGER_MAY_BE ? "met" : "missed";
    process.stdout.write(
      `ledger ${arch}: a TLS call costs ${off.toFixed(0)} ns without it, ${on.toFixed(0)} ns with it: ` +
        `${(on / off).toFixed(2)}× (aim ${LEDGER_MAY_BE}×: ${aim}); ${(file / 1000).toFixed(1)} µs with --ledger FILE\n`,
    );
  }
  for (const r of results.filter((r) => r.problem !== undefined)) {
    process.stdout.write(`${r.case} ${r.arch} under ${r.runner}: ${r.problem}\n`);
  }
}
