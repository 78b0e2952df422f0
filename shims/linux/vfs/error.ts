import { Errno } from "../errno.ts";

/**
 * A file operation that ends with an errno and, for the trace, a sentence. Deliberately no `Error`: a missing file is an
 * everyday answer (Python's import asks for thousands), and capturing a stack for each costs more than the look-up.
 * Reads and writes do not throw it; they return a negative errno.
 */
export class VfsError {
  /** Positive Linux errno. */
  readonly errno: number;
  readonly why: string | undefined;

  constructor(errno: number, why?: string) {
    this.errno = errno;
    this.why = why;
  }
}

/** Ends the file operation with a positive errno. */
export function fail(errno: number, why?: string): never {
  throw new VfsError(errno, why);
}

const byName: ReadonlyMap<string, number> = new Map(Object.entries(Errno));

/**
 * What the host's refusal is in Linux's terms: by name, because errno numbers of other hosts differ.
 * @returns a positive errno, or undefined when `error` is not a failed system call of the host
 */
export function hostErrno(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return undefined;
  return byName.get(error.code);
}

/** Runs a host call; its failure becomes the guest's errno, anything else passes on. */
export function onHost<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    const errno = hostErrno(error);
    if (errno === undefined) throw error;
    throw new VfsError(errno, "the host says so");
  }
}
