/** Guests that are written in a test: assembled or compiled once, and kept by the digest of their source. */
import { spawnSync } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { chmodSync, existsSync, linkSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import type { Assembler } from "../../emulator/assembler.ts";
import { asmProgram, type Bits, codeAddress } from "./asm-program.ts";
import { testError } from "./execute.ts";

/** A program for a test. */
export interface Guest {
  /** Absolute path on the host. */
  readonly file: string;
  /** What the guest finds as its own path. */
  readonly at: string;
}

const COMPILE_MS = 60_000;
/** Of what a kept file consists; another number when that changes. */
const FORMAT = 1;

export class GuestFiles {
  readonly #folder: string;
  #assembler: Promise<Assembler> | undefined;

  constructor(folder = defaultFolder()) {
    this.#folder = folder;
  }

  /**
   * Assembles Intel syntax into a static program that starts at its first instruction. Its code may be written too.
   * @throws AssemblyError naming the line
   */
  async asm(source: string, bits: Bits): Promise<Guest> {
    const file = this.#path(["asm", String(bits), source]);
    if (!existsSync(file)) {
      // Loading it takes most of a second, so one serves all, and none is loaded for what is kept.
      this.#assembler ??= import("../../emulator/assembler.ts").then(({ createAssembler }) => createAssembler());
      const code = (await this.#assembler).assemble(source, { bits, address: codeAddress[bits] });
      keep(file, asmProgram(bits, code));
    }
    return { file, at: "/guest" };
  }

  /**
   * Compiles C, with the flags after `-O1 -o FILE`. A program that is not static brings this machine's libraries along.
   * @throws UserError with the compiler's words
   */
  c(source: string, bits: Bits, flags: readonly string[]): Guest {
    const compiler = cCompiler();
    if (compiler === undefined) throw testError("there is no C compiler here: install gcc, or name one in CC");
    const words = [`-m${bits}`, "-O1", ...flags];
    const file = this.#path(["c", compiler, ...words, source]);
    if (!existsSync(file)) {
      const folder = mkdtempSync(path.join(this.#folder, "cc-"));
      try {
        const out = path.join(folder, "guest");
        const made = spawnSync(compiler, [...words, "-x", "c", "-", "-o", out], {
          input: source,
          encoding: "utf8",
          timeout: COMPILE_MS,
        });
        if (made.status !== 0) {
          const said = made.error?.message ?? made.stderr;
          throw testError(`cannot compile the C guest: ${compiler} ${words.join(" ")} says\n${said.trimEnd()}`);
        }
        chmodSync(out, 0o755);
        publish(out, file);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }
    return { file, at: "/guest" };
  }

  #path(parts: readonly string[]): string {
    const digest = createHash("sha256").update(JSON.stringify([FORMAT, ...parts]));
    return path.join(this.#folder, digest.digest("hex").slice(0, 32));
  }
}

/** The compiler that `linux.c` uses: CC's, else the first of gcc and cc in PATH; undefined where there is none. */
export function cCompiler(): string | undefined {
  const wanted = process.env.CC === undefined || process.env.CC === "" ? ["gcc", "cc"] : [process.env.CC];
  const places = (process.env.PATH ?? "").split(":");
  return wanted.find((name) =>
    name.includes("/") ? existsSync(name) : places.some((place) => existsSync(path.join(place, name))),
  );
}

/** A folder of this user's alone: what lies there is run. */
function defaultFolder(): string {
  const uid = process.getuid?.() ?? 0;
  const folder = path.join(os.tmpdir(), `shimbed-guests-${uid}`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const stat = statSync(folder);
  if (stat.uid !== uid || (stat.mode & 0o022) !== 0)
    throw testError(`cannot keep guests in ${folder}: others may write there; remove it or set TMPDIR`);
  return folder;
}

function keep(file: string, bytes: Uint8Array): void {
  const draft = `${file}.${randomUUID()}`;
  writeFileSync(draft, bytes);
  // Whatever the umask: the guest's user is another one than the file's.
  chmodSync(draft, 0o755);
  publish(draft, file);
}

/** Whole or not at all. Who comes second leaves the first one's file in place, which may be running already. */
function publish(draft: string, file: string): void {
  try {
    linkSync(draft, file);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}
