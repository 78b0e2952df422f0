// npm run bench:ta -- --ta TA.elf --commands FILE.json [--runs N] [--json]
//
// What a trusted application costs, against the same instructions in a plain C loop over libunicorn (replay.c). The run is recorded
// once: memory and registers at each entry, the answers of the system calls. The loop compares all registers at every call and
// all memory at the end of every entry, so that it has run the same instructions or fails.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { parseCommands } from "../../shims/optee/commands/parse.ts";
import { runSteps } from "../../shims/optee/commands/run.ts";
import { TeeHost } from "../../shims/optee/host.ts";
import { measure, median, overUnicorn } from "./runners.ts";
import { type Recording, TaRecorder } from "./ta-recording.ts";

const ROOT = join(import.meta.dirname, "../..");
const TIMEOUT_MS = 120_000;
/** How many times the plain loop's cost the project allows itself. */
const MAY_BE = 1.2;

const { values: options } = parseArgs({
  options: {
    ta: { type: "string" },
    commands: { type: "string" },
    runs: { type: "string", default: "5" },
    json: { type: "boolean", default: false },
  },
});
const { ta, commands, json } = options;
const runs = Number(options.runs);
if (ta === undefined || commands === undefined || !Number.isInteger(runs) || runs < 1) {
  process.stderr.write("usage: npm run bench:ta -- --ta TA.elf --commands FILE.json [--runs N] [--json]\n");
  process.exit(2);
}

/** Milliseconds of this process' CPU. */
function spent(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Runs the commands in this process, with or without a recorder. */
function run(record: boolean): { readonly total: number; readonly engine: number; readonly recording?: Recording } {
  const host = new TeeHost({ tas: [ta ?? ""] });
  try {
    const file = parseCommands(readFileSync(commands ?? "", "utf8"), commands ?? "");
    const { cpu } = host.tee.machine;
    const plainRun = cpu.run.bind(cpu);
    let engine = 0;
    cpu.run = (budget) => {
      const from = spent();
      const kind = plainRun(budget);
      engine += spent() - from;
      return kind;
    };
    const recorder = record ? new TaRecorder(host) : undefined;
    const from = spent();
    for (const step of runSteps(host.tee, file, host.main.uuid))
      if (step.failures.length > 0) throw new Error(step.failures.join("\n"));
    const total = spent() - from;
    return recorder === undefined ? { total, engine } : { total, engine, recording: recorder.end() };
  } finally {
    host.close();
  }
}

function replay(program: string, file: string): { readonly engine: number; readonly total: number } {
  const done = spawnSync(program, [file], { encoding: "utf8", timeout: TIMEOUT_MS });
  const [engine, total] = done.stdout.trim().split(" ").map(Number);
  if (done.status !== 0 || engine === undefined || total === undefined)
    throw new Error(`${program}: ${done.stderr || done.error?.message}`);
  return { engine: engine / 1000, total: total / 1000 };
}

/** CPU of the whole program. */
function program(file: string): number {
  const shimbed = join(ROOT, "dist/cli/shimbed.cjs");
  if (!existsSync(shimbed)) throw new Error("there is no dist/cli/shimbed.cjs: npm run setup");
  const cost = measure([process.execPath, shimbed, "run", ta ?? "", "--commands", file], TIMEOUT_MS);
  if (cost === "timeout" || cost.status !== 0) throw new Error(`shimbed run ${ta}: ${JSON.stringify(cost)}`);
  return cost.cpu;
}

const directory = mkdtempSync(join(tmpdir(), "shimbed-bench-"));
try {
  const { recording } = run(true);
  if (recording === undefined) throw new Error("nothing was recorded");
  const file = join(directory, "recording");
  writeFileSync(file, recording.bytes);
  const nothing = join(directory, "nothing.json");
  writeFileSync(nothing, "[]");
  const { plain, stock } = overUnicorn("replay.c", { plain: "replay", stock: "replay-stock" });
  if (plain === undefined) throw new Error("there is no libunicorn.a to compare with");
  const seen = { plain: [] as number[], plainTotal: [] as number[], engine: [] as number[], commands: [] as number[] };
  const whole = { run: [] as number[], start: [] as number[] };
  // In turns, so that a slow minute of the machine meets all alike.
  for (let n = 0; n < runs; n++) {
    const there = replay(plain, file);
    seen.plain.push(there.engine);
    seen.plainTotal.push(there.total);
    const here = run(false);
    seen.engine.push(here.engine);
    seen.commands.push(here.total);
    whole.run.push(program(commands));
    whole.start.push(program(nothing));
  }
  const result = {
    entries: recording.entries,
    calls: recording.calls,
    plain: median(seen.plain),
    plainWithMemory: median(seen.plainTotal),
    stock: stock === undefined ? undefined : replay(stock, file).engine,
    guest: median(seen.engine),
    commands: median(seen.commands),
    program: median(whole.run) - median(whole.start),
    startUp: median(whole.start),
  };
  if (json) process.stdout.write(`${JSON.stringify({ runs, ...result }, null, 1)}\n`);
  else print(result);
} finally {
  rmSync(directory, { recursive: true, force: true });
}

function print(result: {
  readonly entries: number;
  readonly calls: number;
  readonly plain: number;
  readonly plainWithMemory: number;
  readonly stock: number | undefined;
  readonly guest: number;
  readonly commands: number;
  readonly program: number;
  readonly startUp: number;
}): void {
  const { plain, plainWithMemory, program: inProgram } = result;
  const row = (text: string, ms: number, to?: number): string =>
    `${text.padEnd(64)}${ms.toFixed(1).padStart(8)} ms${to === undefined ? "" : `  ${(ms / to).toFixed(2)}×`}\n`;
  process.stdout.write(
    `${result.entries} entries, ${result.calls} system calls, the same instructions; CPU time, medians of ${runs} runs\n` +
      row("plain loop: engine and answers", plain) +
      row("plain loop: and memory made and filled", plainWithMemory) +
      (result.stock === undefined ? "" : row("plain loop, stock libunicorn.so (slow stores)", result.stock, plain)) +
      row("shimbed: the guest's instructions, to the plain loop's", result.guest, plain) +
      row("shimbed: loading, entries, calls; to the loop with memory", result.commands, plainWithMemory) +
      row("shimbed run, its start-up taken away; to the loop with memory", inProgram, plainWithMemory) +
      row("start-up: shimbed run with no commands", result.startUp) +
      `aim: ${MAY_BE}×: ${inProgram <= MAY_BE * plainWithMemory ? "met" : "missed"}\n`,
  );
}
