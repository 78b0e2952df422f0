/** Where shimbed's own words go: standard error, standard output, or the file of `-o`. Written at once, never through a queue. */
import { closeSync, openSync, writeSync } from "node:fs";
import { UserError } from "../emulator/errors.ts";

/** Nobody reads standard output or standard error any more: the program ends as one that SIGPIPE ended. */
const BROKEN_PIPE_STATUS = 141;
const BUFFER_BYTES = 65_536;
const RETRY_MS = 2;

/** Something lines can be written to. */
export interface Sink {
  write(text: string): void;
  /** What was written reaches the file. */
  flush(): void;
  close(): void;
}

/** Standard output (1) or standard error (2). */
class StandardSink implements Sink {
  readonly #fd: 1 | 2;

  constructor(fd: 1 | 2) {
    this.#fd = fd;
  }

  write(text: string): void {
    writeAll(this.#fd, Buffer.from(text), this.#fd === 1 ? "standard output" : "standard error");
  }

  flush(): void {}
  close(): void {}
}

/** The file of `-o`, written in large pieces. */
class FileSink implements Sink {
  readonly #path: string;
  readonly #fd: number;
  #pieces: string[] = [];
  #length = 0;
  #open = true;

  /** @throws UserError 125 when the file cannot be made */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#fd = openSync(path, "w", 0o666);
    } catch (error) {
      throw new UserError(`cannot open ${path} for writing: ${reason(error)}`, 125);
    }
  }

  write(text: string): void {
    this.#pieces.push(text);
    this.#length += text.length;
    if (this.#length >= BUFFER_BYTES) this.flush();
  }

  flush(): void {
    if (this.#length === 0) return;
    const bytes = Buffer.from(this.#pieces.join(""));
    // Gone even when writing fails: a second try would write the first part twice.
    this.#pieces = [];
    this.#length = 0;
    writeAll(this.#fd, bytes, this.#path);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    try {
      this.flush();
    } finally {
      closeSync(this.#fd);
    }
  }
}

/** The sink of `-o FILE`, or standard error without it. */
export function openSink(path: string | undefined): Sink {
  return path === undefined ? new StandardSink(2) : new FileSink(path);
}

/** Text for people on standard output. */
export function print(text: string): void {
  new StandardSink(1).write(text);
}

/** @throws UserError with one line that names the file and the reason */
export function writeAll(fd: number, bytes: Uint8Array, name: string): void {
  let done = 0;
  while (done < bytes.length) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      // Standard output may be a pipe that another program made non-blocking.
      if (hostCode(error) === "EAGAIN") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
      else
        throw new UserError(
          `cannot write to ${name}: ${reason(error)}`,
          hostCode(error) === "EPIPE" ? BROKEN_PIPE_STATUS : 125,
        );
    }
  }
}

/** `ENOENT` and the like of a failed call of the host. */
export function hostCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** Why a call of the host failed, in words. */
export function reason(error: unknown): string {
  const words: Readonly<Record<string, string>> = {
    ENOENT: "no such file or directory",
    ENOTDIR: "a part of the path is no directory",
    EISDIR: "it is a directory",
    EACCES: "permission denied",
    EPERM: "not permitted",
    EROFS: "the file system is read-only",
    ENOSPC: "no space left on the device",
    EDQUOT: "the disk quota is used up",
    EPIPE: "nobody reads it any more",
    EFBIG: "the file would be too large",
    EIO: "input/output error",
    ELOOP: "too many symbolic links",
    ENAMETOOLONG: "the name is too long",
  };
  const code = hostCode(error);
  if (code !== undefined) return words[code] ?? code;
  return error instanceof Error ? error.message : String(error);
}
