import { spawnSync } from "node:child_process";
import { join } from "node:path";

export const ROOT = join(import.meta.dirname, "../..");

export interface Done {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

/** The words that start `shimbed` from its sources. */
export const SHIMBED: readonly string[] = [
  process.execPath,
  "--import",
  import.meta.resolve("tsx"),
  join(ROOT, "cli/shimbed.ts"),
];

/** The compiled program, which starts in a fraction of the time. */
const COMPILED: readonly string[] = [
  process.execPath,
  process.env.SHIMBED_PROGRAM ?? join(ROOT, "dist/cli/shimbed.cjs"),
];

/** The compiled `shimbed ARGS…`, in a process of its own. */
export function compiled(cwd: string, args: readonly string[]): Done {
  return start(COMPILED, cwd, args, {});
}

/** `shimbed ARGS…` from its sources, in a process of its own. */
export function shimbed(cwd: string, args: readonly string[], more: { cache?: string; input?: string } = {}): Done {
  return start(SHIMBED, cwd, args, more);
}

function start(
  [node = "", ...words]: readonly string[],
  cwd: string,
  args: readonly string[],
  more: { cache?: string; input?: string },
): Done {
  const done = spawnSync(node, [...words, ...args], {
    cwd,
    encoding: "utf8",
    input: more.input ?? "",
    env: { ...process.env, ...(more.cache === undefined ? {} : { XDG_CACHE_HOME: more.cache }) },
  });
  return { status: done.status, out: done.stdout, err: done.stderr };
}
