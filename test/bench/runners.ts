import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

const BENCH = import.meta.dirname;
const ROOT = join(BENCH, "../..");
const CACHE = join(ROOT, "fixtures/.build/bench-tools");

export type Arch = "x86_64" | "i386";

/** One way to run a guest. `command` is undefined where the way does not exist on this machine. */
export interface Runner {
  readonly name: "native" | "qemu" | "plain" | "stock" | "shimbed";
  command(guest: string, arch: Arch): string[] | undefined;
}

/** What one run cost: CPU time (user and system) and wall time in milliseconds, peak memory in MiB. */
export interface Cost {
  readonly status: number;
  readonly cpu: number;
  readonly wall: number;
  readonly peak: number;
  readonly stdout: string;
}

function compile(name: string, source: string, flags: readonly string[]): string | undefined {
  const target = join(CACHE, name);
  const from = join(BENCH, source);
  if (existsSync(target) && statSync(target).mtimeMs > statSync(from).mtimeMs) return target;
  mkdirSync(CACHE, { recursive: true });
  const run = spawnSync("gcc", ["-O2", from, "-o", target, ...flags], { encoding: "utf8" });
  if (run.status === 0) return target;
  process.stderr.write(`bench: ${name} could not be built and is left out:\n${run.stderr ?? run.error?.message}\n`);
  return undefined;
}

function staticUnicorn(): string | undefined {
  const found = spawnSync("gcc", ["-print-file-name=libunicorn.a"], { encoding: "utf8" }).stdout?.trim();
  return found?.startsWith("/") ? found : undefined;
}

/**
 * A program of this folder over libunicorn: `plain` with its stores on the engine's fast path, where the static library is there,
 * and `stock` as it comes. Undefined where it cannot be built.
 */
export function overUnicorn(
  source: string,
  names: { readonly plain: string; readonly stock: string },
): { readonly plain: string | undefined; readonly stock: string | undefined } {
  const archive = staticUnicorn();
  const fast = ["-DFAST_STORES", archive ?? "", "-Wl,--wrap=x86_cpu_tlb_fill_x86_64", "-lpthread", "-lm"];
  return {
    plain: archive === undefined ? undefined : compile(names.plain, source, fast),
    stock: compile(names.stock, source, ["-lunicorn"]),
  };
}

/** The runners of this machine, each compiled or found once. */
export function runners(): Runner[] {
  const { plain, stock } = overUnicorn("plain.c", { plain: "plain", stock: "stock" });
  const shimbed = join(ROOT, "dist/cli/shimbed.cjs");
  const has = (program: string) => spawnSync("sh", ["-c", `command -v ${program}`]).status === 0;
  return [
    {
      name: "native",
      command: (guest) => (process.arch === "x64" && process.platform === "linux" ? [guest] : undefined),
    },
    { name: "qemu", command: (guest, arch) => (has(`qemu-${arch}`) ? [`qemu-${arch}`, guest] : undefined) },
    { name: "plain", command: (guest) => (plain ? [plain, guest] : undefined) },
    { name: "stock", command: (guest) => (stock ? [stock, guest] : undefined) },
    {
      name: "shimbed",
      command: (guest) => (existsSync(shimbed) ? [process.execPath, shimbed, "run", guest] : undefined),
    },
  ];
}

/** Runs a command once and measures it. Throws when it could not be measured at all. */
export function measure(command: readonly string[], timeoutMs: number): Cost | "timeout" {
  const spent = compile("spent", "spent.c", []);
  if (spent === undefined) throw new Error("the benchmark needs gcc");
  const report = join(CACHE, `spent-${process.pid}.txt`);
  const run = spawnSync("timeout", ["--foreground", "-k", "1", String(timeoutMs / 1000), spent, report, ...command], {
    encoding: "latin1",
    maxBuffer: 1 << 26,
  });
  if (run.status === 124 || run.status === 137) return "timeout";
  if (run.status !== 0) throw new Error(`${command.join(" ")}: not measured: ${run.stderr || run.error?.message}`);
  const [status = 0, user = 0, system = 0, peak = 0, wall = 0] = readFileSync(report, "utf8").split(" ").map(Number);
  return { status, cpu: (user + system) / 1000, wall: wall / 1000, peak: peak / 1024, stdout: run.stdout };
}

/** The middle value; of an even count, the mean of the two. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  const upper = sorted[half] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[half - 1] ?? Number.NaN) + upper) / 2;
}
