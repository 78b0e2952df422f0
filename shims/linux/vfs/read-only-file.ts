import type { Backing } from "../../../emulator/memory.ts";

/** A shared mapping of a file that was not opened for writing. */
export class ReadOnlyFile implements Backing {
  readonly name: string;
  readonly dev: number;
  readonly ino: number;
  readonly file: unknown;
  /** What it shows. */
  readonly inner: Backing;

  constructor(inner: Backing) {
    this.name = inner.name;
    this.dev = inner.dev;
    this.ino = inner.ino;
    this.file = "file" in inner ? inner.file : undefined;
    this.inner = inner;
  }

  frame(index: number): number {
    return this.inner.frame?.(index) ?? -1;
  }
}
