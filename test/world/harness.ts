import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import os from "node:os";
import { dirname, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { expect } from "vitest";

export const ROOT = join(import.meta.dirname, "../..");
const FIXTURES = join(ROOT, "fixtures");
/** The compiled program; SHIMBED_PROGRAM names another build to test. */
export const SHIMBED = process.env.SHIMBED_PROGRAM ?? join(ROOT, "dist/cli/shimbed.cjs");
const TIMEOUT_MS = 150_000;
/** How often Linux itself is asked before an answer of its own that nobody here gives counts. */
const NATIVE_RUNS = 8;

/** Why the real thing cannot be asked here, or undefined: only Linux on x86-64 runs the guests itself. */
export const noNative =
  process.platform === "linux" && process.arch === "x64" ? undefined : "only x86-64 Linux runs the guests natively";

/** How a program ended, as a shell would see it: `status` is 128+n after signal n, "timeout" after so long a time that it hangs. */
export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | "timeout";
}
interface Options {
  readonly input?: string;
  /** The guest's whole environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Runs as this user where the tests run as root. */
  readonly uid?: number;
}

function run(
  command: string,
  args: readonly string[],
  options: Options,
  env: Readonly<Record<string, string>>,
): Outcome {
  const done = spawnSync(command, args, {
    input: options.input ?? "",
    env,
    cwd: options.cwd ?? ROOT,
    encoding: "latin1",
    timeout: TIMEOUT_MS,
    killSignal: "SIGKILL",
    maxBuffer: 1 << 27,
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
  });
  if (done.error !== undefined && "code" in done.error && done.error.code === "ETIMEDOUT")
    return { stdout: done.stdout, stderr: done.stderr, status: "timeout" };
  if (done.error !== undefined) throw done.error;
  const status = done.signal === null ? (done.status ?? -1) : 128 + os.constants.signals[done.signal];
  return { stdout: done.stdout, stderr: done.stderr, status };
}

/** Runs a program on this machine's kernel. With `root`, inside that folder as its root. */
export function native(command: readonly [string, ...string[]], options: Options & { root?: string } = {}): Outcome {
  const env = options.env ?? {};
  const { root } = options;
  if (root === undefined || root === "/") return run(command[0], command.slice(1), options, env);
  const user = process.getuid?.() === 0 ? [] : ["unshare", "-r"];
  const [first = "", ...rest] = [...user, "chroot", root, ...command].map(fullName);
  const done = run(first, rest, options, env);
  if (/^(chroot|unshare): /.test(done.stderr)) throw new Error(done.stderr);
  return done;
}

/** The commands that enter a root, by full name: the guest's PATH need not hold them. */
function fullName(word: string): string {
  if (word !== "chroot" && word !== "unshare") return word;
  return ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map((d) => join(d, word)).find((f) => existsSync(f)) ?? word;
}

/** Runs `shimbed ARGS…` as a user would: the compiled program, in a process of its own. */
export function shimbed(args: readonly string[], options: Options = {}): Outcome {
  if (!existsSync(SHIMBED)) throw new Error(`${SHIMBED} is not there: run \`npm start\` or \`npm run build\` first`);
  return run(process.execPath, [SHIMBED, ...args], options, { PATH: process.env.PATH ?? "/usr/bin:/bin" });
}

/** `shimbed run` of a guest with exactly this environment. */
export function guest(
  file: string,
  args: readonly string[],
  options: Options & { flags?: readonly string[] } = {},
): Outcome {
  const { env = {}, flags = [], ...rest } = options;
  const set = Object.entries(env).flatMap(([name, value]) => ["-E", `${name}=${value}`]);
  return shimbed(["run", ...set, ...flags, file, ...args], rest);
}

/**
 * Expects an answer of ours to be one that Linux gives. Where programs race, or a clock runs on while others compute, Linux
 * answers now so, now otherwise: it is asked again when it does not agree, a few times. Ours is what the seed makes it.
 */
export async function asNatively<T>(ours: T, ask: () => T | Promise<T>): Promise<void> {
  let theirs = await ask();
  for (let run = 1; run < NATIVE_RUNS && !isDeepStrictEqual(ours, theirs); run++) theirs = await ask();
  expect(ours).toEqual(theirs);
}

/** Expects that a run of ours ended and printed as one of Linux's. */
export async function same(ours: Outcome, ask: () => Outcome | Promise<Outcome>): Promise<void> {
  // A difference with our own complaint in view is understood at once.
  await asNatively({ ...ours, said: complaint(ours) }, async () => ({ ...(await ask()), said: "" }));
}

/** What shimbed itself said on stderr: its lines begin with its name. */
export function complaint(outcome: Outcome): string {
  return outcome.stderr
    .split("\n")
    .filter((line) => line.startsWith("shimbed:"))
    .join("\n");
}

/** A guest of fixtures/.build/index.json; see fixtures/build.mjs. */
export interface Fixture {
  readonly name: string;
  readonly group: "probes" | "tls" | "bench" | "prebuilt";
  readonly file: string;
  readonly args: readonly string[];
  readonly status: number;
  readonly arch: "x86_64" | "i386";
  readonly libc: string;
  readonly tags: readonly string[];
  readonly expected?: string;
}

/** Builds the groups where they are out of date and returns their guests, paths made absolute. */
export function fixtures(...groups: Fixture["group"][]): Fixture[] {
  // The guests with musl for i386 are linked with Debian's, where it can be had.
  if (groups.includes("tls")) debianRoots();
  const buildable = groups.filter((g) => g !== "prebuilt");
  build(buildable.length > 0 ? buildable : ["probes"]);
  const all: Fixture[] = JSON.parse(readFileSync(join(FIXTURES, ".build/index.json"), "utf8"));
  return all
    .filter((g) => groups.includes(g.group))
    .map((g) => {
      const file = join(FIXTURES, g.file);
      return { ...g, file, args: g.args.map((a) => a.replace("{dir}", dirname(file))) };
    });
}

function build(groups: readonly string[]): void {
  const done = spawnSync(process.execPath, [join(FIXTURES, "build.mjs"), ...groups], { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`fixtures/build.mjs ${groups.join(" ")} failed:\n${done.stderr}`);
}

/** What the native kernel made of a fixture: the recorded output without its first line. */
export function recorded(fixture: Fixture): string {
  const text = readFileSync(join(FIXTURES, "expected", `${fixture.expected}.txt`), "latin1");
  return text.slice(text.indexOf("\n") + 1);
}

/** The folders with Debian's programs, unpacked when first asked for; undefined with the reason where that cannot be. */
export function debianRoots(): { amd64: string; i386: string } | { missing: string } {
  try {
    build(["debian"]);
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  }
  const dir = join(FIXTURES, ".build/debian");
  return { amd64: join(dir, "amd64"), i386: join(dir, "i386") };
}
