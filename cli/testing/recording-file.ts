/** The file of a recording: a header, the guest's files, its trace, and an end with a digest of all before; JSON lines. */
import { createHash, type Hash, randomUUID } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { reason } from "../output.ts";
import { testError } from "./execute.ts";
import type { KeptFile } from "./file-store.ts";
import type { Step } from "./steps.ts";

const FORMAT = "shimbed-recording";
const VERSION = 1;
const BUFFER_BYTES = 65_536;

/** All that decides how a guest runs, but for its files. */
export interface RecordedRun {
  /** Path in the guest. */
  readonly program: string;
  readonly argv: readonly string[];
  /** `NAME=value` each. */
  readonly envp: readonly string[];
  readonly cwd: string;
  readonly user: { readonly uid: number; readonly gid: number };
  readonly provider: string;
  readonly seed: number;
  readonly inject?: readonly string[];
  readonly hostEvents?: string;
  readonly as?: string;
  readonly maxMemory?: number;
  readonly maxBlocks?: number;
  readonly cpu?: string;
  readonly strictSegments?: boolean;
  /** Standard input, base64. */
  readonly input: string;
}

export interface RecordedEnd {
  /** Exit status of the run. */
  readonly status: number;
  /** SHA-256 of what was printed. */
  readonly stdout: string;
  readonly stderr: string;
  readonly steps: number;
}

export interface Recording {
  readonly run: RecordedRun;
  readonly files: readonly KeptFile[];
  readonly steps: readonly Step[];
  readonly end: RecordedEnd;
}

/** Writes a recording beside its place, and puts it there when it is whole: what was there before stays until then. */
export class RecordingWriter {
  readonly #path: string;
  readonly #draft: string;
  readonly #fd: number;
  readonly #hash: Hash = createHash("sha256");
  #pieces: string[] = [];
  #length = 0;
  #steps = 0;
  #open = true;

  /** @throws UserError when the file cannot be made */
  constructor(path: string) {
    this.#path = path;
    // A device or a pipe is written to, and never replaced.
    const special = statSync(path, { throwIfNoEntry: false })?.isFile() === false;
    this.#draft = special ? path : `${path}.${randomUUID().slice(0, 8)}.part`;
    this.#fd = this.#try(() => openSync(this.#draft, special ? "w" : "wx", 0o666));
  }

  /** To be called once, before any step. */
  begin(run: RecordedRun, files: readonly KeptFile[]): void {
    this.#line({ format: FORMAT, version: VERSION, run, files: files.length });
    for (const file of files) this.#line(file);
  }

  step(step: Step): void {
    this.#steps++;
    this.#line(step);
  }

  end(end: Omit<RecordedEnd, "steps">): void {
    this.#line({ end: { ...end, steps: this.#steps } });
    this.#put(`${JSON.stringify({ digest: this.#hash.digest("hex") })}\n`);
    this.#flush();
    this.#open = false;
    this.#try(() => {
      closeSync(this.#fd);
      if (this.#draft !== this.#path) renameSync(this.#draft, this.#path);
    });
  }

  /** Takes away what is not whole. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
    if (this.#draft !== this.#path) rmSync(this.#draft, { force: true });
  }

  #line(value: object): void {
    const line = `${JSON.stringify(value)}\n`;
    this.#hash.update(line);
    this.#put(line);
  }

  #put(text: string): void {
    this.#pieces.push(text);
    this.#length += text.length;
    if (this.#length >= BUFFER_BYTES) this.#flush();
  }

  #flush(): void {
    const bytes = Buffer.from(this.#pieces.join(""));
    this.#pieces = [];
    this.#length = 0;
    this.#try(() => {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    });
  }

  #try<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw testError(`cannot write the recording ${this.#path}: ${reason(error)}`);
    }
  }
}

/** Whether a file begins as a recording does. */
export function isRecording(path: string): boolean {
  const begin = Buffer.from(`{"format":"${FORMAT}"`);
  const head = Buffer.alloc(begin.length);
  try {
    const fd = openSync(path, "r");
    try {
      readSync(fd, head, 0, head.length, 0);
    } finally {
      closeSync(fd);
    }
  } catch {
    // Whoever uses it says what is wrong.
    return false;
  }
  return head.equals(begin);
}

/**
 * Reads a recording and looks whether it is whole and as it was written.
 * @throws UserError that says what is wrong with it
 */
export function readRecording(path: string): Recording {
  const wrong = (message: string): never => {
    throw testError(`cannot use the recording ${path}: ${message}`);
  };
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    return wrong(reason(error));
  }
  const lines = text.split("\n");
  const header = parse(lines[0]);
  if (header?.format !== FORMAT) return wrong("it is no recording of shimbed");
  if (typeof header.version !== "number" || header.version > VERSION)
    return wrong(
      `it was written by a newer shimbed (format ${String(header.version)}, this one reads ${VERSION}): update shimbed`,
    );
  // The last line ends in a line end too, so that nothing follows it.
  const closing = parse(lines.at(-2));
  if (lines.at(-1) !== "" || typeof closing?.digest !== "string")
    return wrong(`it is cut off after line ${lines.length - 1}: the end is missing`);
  const hash = createHash("sha256");
  for (const line of lines.slice(0, -2)) hash.update(`${line}\n`);
  if (hash.digest("hex") !== closing.digest) return wrong("it was changed since it was written: the digest is another");
  const values: readonly unknown[] = lines.slice(1, -3).map((line) => parse(line));
  const files = values.slice(0, Number(header.files));
  const steps = values.slice(files.length);
  const end = parse(lines.at(-3))?.end;
  const { run } = header;
  if (!isRun(run) || !isEnd(end) || !all(files, isFile) || !all(steps, isStep) || end.steps !== steps.length)
    return wrong("it is not of the form that shimbed writes");
  return { run, files, steps, end };
}

function all<T>(values: readonly unknown[], is: (value: unknown) => value is T): values is readonly T[] {
  return values.every(is);
}

function parse(line: string | undefined): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line ?? "");
    return isObject(value) ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// What the digest covers was written by RecordingWriter; these keep a file made by hand from doing harm.

function isRun(value: unknown): value is RecordedRun {
  if (!isObject(value)) return false;
  const { program, argv, envp, cwd, user, provider, seed, input } = value;
  return (
    [program, cwd, provider, input].every((text) => typeof text === "string") &&
    [argv, envp].every((words) => Array.isArray(words) && words.every((word) => typeof word === "string")) &&
    isObject(user) &&
    typeof seed === "number"
  );
}

function isEnd(value: unknown): value is RecordedEnd {
  if (!isObject(value)) return false;
  const { status, stdout, stderr, steps } = value;
  return (
    typeof status === "number" && typeof steps === "number" && typeof stdout === "string" && typeof stderr === "string"
  );
}

function isFile(value: unknown): value is KeptFile {
  if (!isObject(value)) return false;
  const { path, kind, mode, mtime } = value;
  return typeof path === "string" && typeof kind === "string" && typeof mode === "number" && typeof mtime === "number";
}

function isStep(value: unknown): value is Step {
  if (!isObject(value)) return false;
  const { thread, text, name, outcome } = value;
  return typeof thread === "number" && [text, name, outcome].every((part) => typeof part === "string");
}
