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

/** `shimbed ARGS…` in a process of its own. */
export function shimbed(cwd: string, args: readonly string[], more: { cache?: string; input?: string } = {}): Done {
  const [node = "", ...words] = SHIMBED;
  const done = spawnSync(node, [...words, ...args], {
    cwd,
    encoding: "utf8",
    input: more.input ?? "",
    env: { ...process.env, ...(more.cache === undefined ? {} : { XDG_CACHE_HOME: more.cache }) },
  });
  return { status: done.status, out: done.stdout, err: done.stderr };
}
