/** `shimbed record` and `shimbed replay`. */
import { existsSync, fstatSync, readFileSync } from "node:fs";
import path from "node:path";
import { libraryClosure } from "../../shims/linux/vfs/closure.ts";
import { endLines, runToEnd } from "../guest-run.ts";
import { locateGuest } from "../locate.ts";
import { type GuestOptions, guestEnvironment } from "../options.ts";
import { openSink, reason } from "../output.ts";
import { testError } from "./execute.ts";
import { FileWatch, type KeptFile, type Shown } from "./file-store.ts";
import { type RecordedRun, RecordingWriter, readRecording } from "./recording-file.ts";
import type { Step } from "./steps.ts";
import { inStore, Prints, runStored } from "./stored-run.ts";

export interface RecordOptions extends GuestOptions {
  readonly output: string;
  /** File with what the guest reads from standard input. */
  readonly input?: string;
}

/**
 * Runs a guest once to see which files it uses, and a second time, with its output, from copies of these: that run is what the
 * recording holds, so that a replay is a run of just the same kind.
 */
export async function record(guest: string, args: readonly string[], options: RecordOptions): Promise<number> {
  refuseWhatCannotBeKept(options);
  const run = await describeRun(guest, args, options);
  const files = await filesOf(guest, args, options, run);
  return inStore(files, async (store) => {
    const writer = new RecordingWriter(options.output);
    try {
      writer.begin(run, files);
      const prints = new Prints(true);
      const report = await runStored(run, store, (step) => writer.step(step), prints);
      say(endLines(report, options));
      writer.end({ status: report.status, ...prints.digests() });
      return report.status;
    } finally {
      writer.close();
    }
  });
}

function refuseWhatCannotBeKept(options: RecordOptions): void {
  const why = (option: string, because: string): Error => testError(`cannot record with ${option}: ${because}`);
  if (options.clock === "host") throw why("--clock host", "the host's time does not come again");
  if (options.net === "host") throw why("--net host", "what others send does not come again");
  if (options.bind?.some(({ writable }) => writable)) throw why("--bind …:rw", "it would change this machine's files");
  if (options.policy !== undefined) throw why("--policy", "a recording has no place for it");
  if (options.timeout !== undefined) throw why("--timeout", "real time does not come again; --max-blocks does");
}

async function describeRun(guest: string, args: readonly string[], options: RecordOptions): Promise<RecordedRun> {
  const envp = guestEnvironment(options, process.env);
  const searched = envp.find((variable) => variable.startsWith("PATH="))?.slice("PATH=".length);
  const program = locateGuest(guest, options.root, searched);
  const root = options.root === undefined ? undefined : path.resolve(options.root);
  const inside = root !== undefined && root !== "/" && program.startsWith(`${root}/`);
  const here = process.cwd();
  return {
    program: inside ? program.slice(root.length) : program,
    argv: [options.argv0 ?? guest, ...args],
    envp,
    cwd: options.cwd ?? (root !== undefined && existsSync(path.join(root, here)) ? here : "/"),
    user: options.user ?? { uid: process.getuid?.() ?? 1000, gid: process.getgid?.() ?? 1000 },
    provider: options.provider,
    seed: options.seed,
    ...(options.inject === undefined ? {} : { inject: options.inject }),
    ...(options.hostEvents === undefined ? {} : { hostEvents: options.hostEvents }),
    ...(options.as === undefined ? {} : { as: options.as }),
    ...(options.maxMemory === undefined ? {} : { maxMemory: options.maxMemory }),
    ...(options.maxBlocks === undefined ? {} : { maxBlocks: options.maxBlocks }),
    ...(options.cpu === undefined ? {} : { cpu: options.cpu }),
    ...(options.strictSegments === undefined ? {} : { strictSegments: options.strictSegments }),
    input: readInput(options.input).toString("base64"),
  };
}

/** All there is: a file's content, or what a pipe brings. From a terminal nothing is awaited. */
function readInput(file: string | undefined): Buffer {
  try {
    if (file !== undefined) return readFileSync(file);
    const stat = fstatSync(0);
    return stat.isFIFO() || stat.isFile() || stat.isSocket() ? readFileSync(0) : Buffer.alloc(0);
  } catch (error) {
    throw testError(`cannot read the guest's input${file === undefined ? "" : ` from ${file}`}: ${reason(error)}`);
  }
}

/** The first run, of which nothing shows. */
async function filesOf(
  guest: string,
  args: readonly string[],
  options: RecordOptions,
  run: RecordedRun,
): Promise<KeptFile[]> {
  const watch = new FileWatch();
  const { output: _, ...quiet } = options;
  await runToEnd({
    guest,
    args,
    options: { ...quiet, cwd: run.cwd, user: run.user },
    keptRecords: 0,
    streams: { input: Buffer.from(run.input, "base64"), output: () => {} },
    lower: watch,
  });
  const shown: Shown[] = options.root === undefined ? [] : [{ host: options.root, guest: "/" }];
  for (const { host, guest: at } of options.bind ?? []) shown.push({ host, guest: at });
  const program = path.resolve(locateGuest(guest, options.root, undefined));
  const libraryPath = run.envp.find((one) => one.startsWith("LD_LIBRARY_PATH="))?.slice("LD_LIBRARY_PATH=".length);
  const named = options.root === undefined ? libraryClosure(program, libraryPath ?? "").files : [];
  return watch.collect(shown, named);
}

/** What shimbed itself has to say goes to standard error. */
function say(lines: readonly string[]): void {
  const sink = openSink(undefined);
  sink.write(lines.map((line) => `${line}\n`).join(""));
}

/** Steps before the point where a replay parted from its recording. */
const CONTEXT = 5;
const DIVERGED_STATUS = 1;

/** Stops a run that goes another way than its recording. */
class Divergence extends Error {
  readonly at: number;
  readonly got: Step | undefined;

  constructor(at: number, got: Step | undefined) {
    super(`divergence at step ${at}`);
    this.at = at;
    this.got = got;
  }
}

/**
 * Runs a recording again and compares every step; stops where one is not as recorded.
 * @returns the guest's status; 1 when the run went another way
 */
export async function replay(file: string, options: { readonly quiet?: boolean } = {}): Promise<number> {
  const { run, files, steps, end } = readRecording(file);
  return inStore(files, async (store) => {
    let at = 0;
    const compare = (step: Step): void => {
      if (JSON.stringify(step) !== JSON.stringify(steps[at])) throw new Divergence(at, step);
      at++;
    };
    const prints = new Prints(options.quiet !== true);
    try {
      const report = await runStored(run, store, compare, prints);
      if (at < steps.length) throw new Divergence(at, undefined);
      const { stdout, stderr } = prints.digests();
      if (report.status === end.status && stdout === end.stdout && stderr === end.stderr) return report.status;
      say([`shimbed: ${file} goes another way: all ${at} steps are the same, but not what it prints or its status`]);
      return DIVERGED_STATUS;
    } catch (error) {
      if (!(error instanceof Divergence)) throw error;
      say(divergenceLines(file, steps, error));
      return DIVERGED_STATUS;
    }
  });
}

function divergenceLines(file: string, steps: readonly Step[], { at, got }: Divergence): string[] {
  const wanted = steps[at];
  const show = (mark: string, step: Step | undefined): string[] => {
    if (step === undefined) return [`${mark} (the end)`];
    const { thread, text, tokens = [], tls } = step;
    const state =
      tls === undefined ? [] : [`${mark}     FS base ${tls.fsBase}, GS base ${tls.gsBase}, fs ${tls.fs}, gs ${tls.gs}`];
    return [`${mark} thread ${thread}: ${text}`, ...tokens.map((token) => `${mark}     ${token}`), ...state];
  };
  return [
    `shimbed: ${file} goes another way at step ${at + 1} of ${steps.length}`,
    ...steps.slice(Math.max(0, at - CONTEXT), at).flatMap((step) => show(" ", step)),
    ...show("-", wanted),
    ...show("+", got),
    "(- recorded, + now)",
  ];
}
