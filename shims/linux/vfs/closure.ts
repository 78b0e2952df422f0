import fs from "node:fs";
import path from "node:path";
import { type ElfImage, type ElfReader, EM_386, parseElf } from "../../../emulator/elf.ts";
import { readDynamic } from "../../../emulator/elf-dynamic.ts";
import { UserError } from "../../../emulator/errors.ts";
import { hostErrno } from "./error.ts";

/** What ld.so(8) searches last, by machine; Debian's multiarch directories, then those of other distributions. */
const STANDARD = {
  x86_64: ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"],
  i386: ["/lib/i386-linux-gnu", "/usr/lib/i386-linux-gnu", "/lib32", "/usr/lib32", "/lib", "/usr/lib"],
} as const;
const MUSL = {
  x86_64: ["/lib/x86_64-linux-musl", "/usr/lib/x86_64-linux-musl", "/lib", "/usr/local/lib", "/usr/lib"],
  i386: ["/lib/i386-linux-musl", "/usr/lib/i386-linux-musl", "/lib", "/usr/local/lib", "/usr/lib"],
} as const;
/** What glibc opens by itself, for pthread_exit, pthread_cancel and backtrace. */
const GLIBC = "libc.so.6";
const GLIBC_OPENS = "libgcc_s.so.1";
/** As many `#!` lines as Linux follows (fs/exec.c). */
const SCRIPT_DEPTH = 5;

export interface Closure {
  /** Absolute host paths: the program, script interpreters, the dynamic linker, libraries; not resolved through links. */
  readonly files: readonly string[];
  /** A library lies where only /etc/ld.so.cache points, so the guest needs the cache. */
  readonly needsCache: boolean;
  /** Libraries nobody found; the guest's own dynamic linker will say so. */
  readonly missing: readonly string[];
}

/**
 * The files of the host that a program needs to start: what PT_INTERP and `#!` name, and DT_NEEDED through DT_RPATH,
 * LD_LIBRARY_PATH, DT_RUNPATH and the standard directories, in ld.so(8)'s order. Libraries that are `dlopen`ed are not known, but
 * for the one that glibc itself opens.
 * @param program absolute host path
 * @param libraryPath the guest's LD_LIBRARY_PATH
 * @throws {UserError} 127 when the program is not there
 */
export function libraryClosure(program: string, libraryPath = ""): Closure {
  const files = new Set<string>();
  let executable = program;
  for (let depth = 0; depth < SCRIPT_DEPTH; depth++) {
    files.add(executable);
    const script = scriptInterpreter(executable, depth === 0);
    if (script === undefined) break;
    executable = script;
  }
  const search = new Search(
    files,
    libraryPath.split(/[:;]/).filter((part) => part !== ""),
  );
  search.program(executable);
  return { files: [...files], needsCache: search.needsCache, missing: [...search.missing] };
}

interface Loaded {
  readonly path: string;
  readonly image: ElfImage;
  readonly parent: Loaded | undefined;
  readonly rpath: readonly string[];
  readonly runpath: readonly string[];
}

class Search {
  readonly missing = new Set<string>();
  needsCache = false;
  readonly #files: Set<string>;
  readonly #libraryPath: readonly string[];
  readonly #seen = new Set<string>();
  #cached: readonly string[] | undefined;
  #musl = false;

  constructor(files: Set<string>, libraryPath: readonly string[]) {
    this.#files = files;
    this.#libraryPath = libraryPath;
  }

  program(file: string): void {
    const opened = openElf(file);
    if (!opened) return;
    const { image } = opened;
    opened.close();
    if (image.interpreter !== undefined) {
      this.#musl = image.interpreter.includes("ld-musl");
      this.#files.add(image.interpreter);
      this.#seen.add(path.posix.basename(image.interpreter));
    }
    const queue: Loaded[] = [];
    this.#needs(file, undefined, queue);
    for (let next = queue.shift(); next; next = queue.shift()) this.#needs(next.path, next, queue);
  }

  /** Breadth first, as ld.so: a name that was found once is found for all. */
  #needs(file: string, loader: Loaded | undefined, queue: Loaded[]): void {
    const opened = openElf(file);
    if (!opened) return;
    const { image, reader } = opened;
    const dynamic = readDynamic(reader, image);
    opened.close();
    const expand = (list: string | undefined) =>
      (list ?? "")
        .split(":")
        .filter(Boolean)
        .map((part) => tokens(part, file, image));
    const runpath = expand(dynamic.runpath);
    const self: Loaded = {
      path: file,
      image,
      parent: loader?.parent,
      rpath: dynamic.runpath ? [] : expand(dynamic.rpath),
      runpath,
    };
    const opens = path.posix.basename(file) === GLIBC ? [GLIBC_OPENS] : [];
    for (const name of [...dynamic.needed, ...opens]) {
      if (this.#seen.has(name)) continue;
      this.#seen.add(name);
      const found = this.#find(name, self, file);
      if (found === undefined) {
        // musl's dynamic linker is its libc.
        if (name !== GLIBC_OPENS && !(this.#musl && /^lib(c|pthread|rt|m|dl|util|xnet)\.so$/.test(name)))
          this.missing.add(name);
        continue;
      }
      this.#files.add(found);
      queue.push({ path: found, image, parent: self, rpath: [], runpath: [] });
    }
  }

  #find(name: string, from: Loaded, file: string): string | undefined {
    const { image } = from;
    if (name.includes("/")) return fits(path.resolve(path.dirname(file), name), image);
    const rpath: string[] = [];
    if (from.runpath.length === 0) for (let at: Loaded | undefined = from; at; at = at.parent) rpath.push(...at.rpath);
    const machine = image.machine === EM_386 ? "i386" : "x86_64";
    const standard: readonly string[] = (this.#musl ? MUSL : STANDARD)[machine];
    for (const directory of [...rpath, ...this.#libraryPath, ...from.runpath, ...standard]) {
      const found = fits(`${directory}/${name}`, image);
      if (found !== undefined) return found;
    }
    if (this.#musl) return undefined;
    this.#cached ??= configuredDirectories("/etc/ld.so.conf", 0);
    for (const directory of this.#cached) {
      const found = fits(`${directory}/${name}`, image);
      if (found === undefined) continue;
      this.needsCache = true;
      return found;
    }
    return undefined;
  }
}

/** The path when an ELF file of the same machine is there. */
function fits(file: string, image: ElfImage): string | undefined {
  const opened = openElf(file);
  if (!opened) return undefined;
  opened.close();
  return opened.image.machine === image.machine ? file : undefined;
}

/** $ORIGIN, $LIB and $PLATFORM (ld.so(8), "Dynamic string tokens"). */
function tokens(text: string, file: string, image: ElfImage): string {
  const values: Readonly<Record<string, string>> = {
    ORIGIN: path.dirname(fs.realpathSync(file)),
    LIB: image.bits === 64 ? "lib/x86_64-linux-gnu" : "lib/i386-linux-gnu",
    PLATFORM: image.bits === 64 ? "x86_64" : "i686",
  };
  return text.replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced, plain) => values[braced ?? plain] ?? whole);
}

function openElf(file: string): { image: ElfImage; reader: ElfReader; close(): void } | undefined {
  let fd: number;
  try {
    if (!fs.statSync(file, { throwIfNoEntry: false })?.isFile()) return undefined;
    fd = fs.openSync(file, "r");
  } catch (error) {
    if (hostErrno(error) === undefined) throw error;
    return undefined;
  }
  const reader: ElfReader = {
    size: fs.fstatSync(fd).size,
    read: (offset, length) => {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, offset));
    },
  };
  try {
    return { image: parseElf(reader, file), reader, close: () => fs.closeSync(fd) };
  } catch (error) {
    fs.closeSync(fd);
    // Not an ELF file we run: whoever loads it will say why.
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/** What a `#!` line names; undefined for a file without one. */
function scriptInterpreter(file: string, isProgram: boolean): string | undefined {
  let fd: number;
  try {
    fd = fs.openSync(file, "r");
  } catch (error) {
    const errno = hostErrno(error);
    if (errno === undefined) throw error;
    if (!isProgram) return undefined;
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    throw new UserError(
      `cannot open the program ${file}: ${code}`,
      code === "ENOENT" || code === "ENOTDIR" ? 127 : 126,
    );
  }
  try {
    // BINPRM_BUF_SIZE.
    const head = Buffer.alloc(256);
    const text = head.toString("latin1", 0, fs.fstatSync(fd).isFile() ? fs.readSync(fd, head, 0, head.length, 0) : 0);
    return /^#![ \t]*([^ \t\n\0]+)/.exec(text)?.[1];
  } finally {
    fs.closeSync(fd);
  }
}

/** Directories of ld.so.conf and what it includes. */
function configuredDirectories(file: string, depth: number): string[] {
  let text: string;
  try {
    text = fs.readFileSync(file, "utf8");
  } catch (error) {
    if (hostErrno(error) === undefined) throw error;
    return [];
  }
  const directories: string[] = [];
  for (const line of text.split("\n")) {
    const bare = line.replace(/#.*/, "").trim();
    const include = /^include\s+(\S+)$/.exec(bare)?.[1];
    if (include === undefined) {
      if (bare.startsWith("/")) directories.push(bare);
    } else if (depth < 4) {
      const pattern = path.resolve(path.dirname(file), include);
      for (const name of glob(pattern)) directories.push(...configuredDirectories(name, depth + 1));
    }
  }
  return directories;
}

/** Files that match a pattern with `*` in its last part. */
function glob(pattern: string): string[] {
  const directory = path.dirname(pattern);
  const parts = path.basename(pattern).split("*");
  const escaped = parts.map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  const matcher = new RegExp(`^${escaped.join(".*")}$`);
  try {
    return fs
      .readdirSync(directory)
      .filter((name) => matcher.test(name))
      .sort()
      .map((name) => `${directory}/${name}`);
  } catch (error) {
    if (hostErrno(error) === undefined) throw error;
    return [];
  }
}
