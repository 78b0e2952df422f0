/** Programs on this machine's own kernel that may hang or leave others behind: whatever they do, a run ends and nothing stays. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readlinkSync } from "node:fs";
import { Readable } from "node:stream";
import { setTimeout } from "node:timers/promises";
import type { Outcome } from "../../world/harness.ts";

const DEADLINE_MS = 30_000;
/** How long output may still come when everybody who could write it is killed. */
const DRAIN_MS = 2000;
/** Leads the process group that is killed, so that the program is as free to leave it as any child of a shell. */
const LEADER = '( exec env -i "$0" 2>&3 3>&- ); exit $?';

/**
 * Runs a program with nothing as its input and environment. It ends at the deadline, in ms, at the latest: its process group is killed,
 * and whoever else runs the same file, in groups and sessions of its own. The file must be in use by this run alone.
 */
export async function runNatively(file: string, cwd: string, deadline = DEADLINE_MS): Promise<Outcome> {
  const child = spawn("sh", ["-c", LEADER, file], { cwd, detached: true, stdio: ["pipe", "pipe", "ignore", "pipe"] });
  child.stdin?.end();
  const streams = [child.stdout, child.stdio[3]].filter((stream) => stream instanceof Readable);
  const [stdout, stderr] = streams.map(collect);
  const closed = once(child, "close");
  const ended = once(child, "exit");
  const late = await Promise.race([ended.then(() => false), after(deadline)]);
  killAll(child, file);
  await ended;
  await Promise.race([closed, after(DRAIN_MS)]);
  // A killed process may still be on its way out, with its end of the pipe.
  for (const stream of streams) stream.destroy();
  return { stdout: stdout?.() ?? "", stderr: stderr?.() ?? "", status: late ? "timeout" : (child.exitCode ?? -1) };
}

function after(ms: number): Promise<true> {
  return setTimeout(ms, true as const, { ref: false });
}

function collect(stream: Readable): () => string {
  const chunks: string[] = [];
  stream.setEncoding("latin1").on("data", (chunk: string) => chunks.push(chunk));
  return () => chunks.join("");
}

function killAll(child: ChildProcess, file: string): void {
  if (child.pid !== undefined) kill(-child.pid);
  for (const entry of readdirSync("/proc")) {
    if (/^\d+$/.test(entry) && programOf(entry) === file) kill(Number(entry));
  }
}

/** Undefined for processes that are gone or somebody else's. */
function programOf(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return undefined;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    // ESRCH: it has ended by itself.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}
