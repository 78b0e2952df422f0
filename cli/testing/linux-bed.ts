import path from "node:path";
import type { Bits } from "./asm-program.ts";
import { execute, type RunOptions, type RunSpec, testError } from "./execute.ts";
import type { Guest, GuestFiles } from "./guest-files.ts";
import type { Observed } from "./observed.ts";
import { Prepared } from "./prepared.ts";

/** A Linux for tests. Nothing is kept between runs: each has a fresh machine. */
export class LinuxBed {
  readonly #files: GuestFiles;
  readonly #bits: Bits;
  readonly #options: RunOptions;
  readonly #injections: readonly string[];

  /** @param injections faults of all runs; may grow between them */
  constructor(files: GuestFiles, bits: Bits, options: RunOptions, injections: readonly string[]) {
    this.#files = files;
    this.#bits = bits;
    this.#options = options;
    this.#injections = injections;
  }

  /** The same with other options: `linux.with({ env: { A: "1" }, input: "text" })`. */
  with(options: RunOptions): LinuxBed {
    return new LinuxBed(this.#files, this.#bits, { ...this.#options, ...options }, this.#injections);
  }

  /**
   * A guest in assembly, in Intel syntax, that starts at its first instruction. Assembled once for all who write the same.
   * @throws AssemblyError naming the line
   */
  asm(source: TemplateStringsArray, ...values: readonly (string | number | bigint)[]): Promise<Guest> {
    return this.#files.asm(String.raw(source, ...values), this.#bits);
  }

  /**
   * A guest in C, compiled once for all who write the same; see `cCompiler` for whether that is possible here.
   * @param flags of the compiler, for example `-static`
   * @throws UserError with the compiler's words
   */
  c(source: string, ...flags: readonly string[]): Guest {
    return this.#files.c(source, this.#bits, flags);
  }

  /**
   * Runs a guest to its end.
   * @param guest what `asm` or `c` gave, or a program's path; relative to the directory that the tests run in, or within `root`
   * @throws UserError when it cannot be started
   */
  run(guest: Guest | string | Promise<Guest>, ...args: readonly string[]): Promise<Observed> {
    return this.#run(guest, args);
  }

  /**
   * A guest that is run to the call named `point` once; each case goes on from there, many times faster than a fresh machine.
   * For guests of one thread whose cases make calls about TLS, write and exit.
   */
  async prepare(given: Guest | string | Promise<Guest>, point = "sched_yield"): Promise<Prepared> {
    if (this.#injections.length > 0) throw testError("cannot prepare a guest with faults: they count over all cases");
    return new Prepared(this.#spec(await given, []), point);
  }

  async #run(given: Guest | string | Promise<Guest>, args: readonly string[]): Promise<Observed> {
    return execute(this.#spec(await given, args));
  }

  #spec(guest: Guest | string, args: readonly string[]): RunSpec {
    const inject = [...(this.#options.inject ?? []), ...this.#injections];
    const options = { ...this.#options, ...(inject.length === 0 ? {} : { inject }) };
    if (typeof guest !== "string") return { ...options, file: guest.file, at: guest.at, args };
    if (options.root !== undefined) return { ...options, file: guest, args };
    const file = path.resolve(guest);
    return { ...options, file, at: `/${path.basename(file)}`, args };
  }
}
