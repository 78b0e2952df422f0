/** The files of the host that a guest used: gathered, written into a recording, and put into a directory again. */
import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  type Stats,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { deflateSync, inflateSync } from "node:zlib";
import type { LowerOptions } from "../../shims/linux/vfs/lower.ts";
import { hostCode, reason } from "../output.ts";
import { testError } from "./execute.ts";

/** One file as a recording holds it. */
export interface KeptFile {
  /** Absolute path in the guest. */
  readonly path: string;
  readonly kind: "file" | "directory" | "link";
  /** Permission bits. */
  readonly mode: number;
  /** Time of the last change, seconds. */
  readonly mtime: number;
  readonly size?: number;
  /** Of a file whose content was read; others have their size only. */
  readonly sha256?: string;
  /** Deflated, base64. */
  readonly data?: string;
  /** Of a symbolic link. */
  readonly target?: string;
}

/** A directory of the host and where the guest sees it. */
export interface Shown {
  readonly host: string;
  readonly guest: string;
}

/** As many links as Linux follows. */
const MOST_LINKS = 40;
/** Files of a recording together. */
const MOST_BYTES = 2 ** 30;

/** Takes note of the host's files that a run uses. */
export class FileWatch implements LowerOptions {
  readonly plain = true;
  readonly #seen = new Set<string>();
  readonly #read = new Set<string>();
  readonly #listed = new Set<string>();
  readonly saw = (file: string): void => {
    this.#seen.add(utf8(file));
  };
  readonly opened = (file: string): void => {
    this.#read.add(utf8(file));
  };
  readonly listed = (file: string): void => {
    this.#listed.add(utf8(file));
  };

  /**
   * The files, directories before what is in them.
   * @param shown where the guest has what part of the host, the most special last
   * @param named files that it has under their own path, links on the way included
   */
  collect(shown: readonly Shown[], named: readonly string[]): KeptFile[] {
    const kept = new Map<string, KeptFile>();
    const real = shown.map(({ host, guest }) => ({ host: realpathSync(host), guest: guest === "/" ? "" : guest }));
    for (const file of named) for (const part of chain(file)) this.#keep(kept, part, part);
    for (const file of [...this.#seen, ...[...this.#listed].flatMap(namesIn)]) {
      const place = real.findLast(({ host }) => file === host || file.startsWith(host === "/" ? "/" : `${host}/`));
      const guest = place === undefined ? file : `${place.guest}/${path.relative(place.host, file)}`;
      this.#keep(kept, file, guest.replace(/\/$/, "") || "/");
    }
    // The guest may always write there, also from the recording's own files.
    if (!kept.has("/tmp")) kept.set("/tmp", { path: "/tmp", kind: "directory", mode: 0o1777, mtime: 0 });
    return [...kept.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  #keep(kept: Map<string, KeptFile>, host: string, guest: string): void {
    const stat = statOf(host);
    if (stat === undefined || guest === "/") return;
    const common = { path: guest, mode: stat.mode & 0o7777, mtime: Math.floor(stat.mtimeMs / 1000) };
    if (stat.isDirectory()) kept.set(guest, { ...common, kind: "directory" });
    else if (stat.isSymbolicLink()) kept.set(guest, { ...common, kind: "link", target: readlinkSync(host) });
    else if (stat.isFile()) kept.set(guest, { ...common, kind: "file", size: stat.size, ...this.#content(host) });
  }

  #content(host: string): Pick<KeptFile, "sha256" | "data"> {
    if (!this.#read.has(host)) return {};
    const bytes = readFileSync(host);
    return { sha256: sha256(bytes), data: deflateSync(bytes).toString("base64") };
  }
}

/** The shim's paths are bytes, one character each. */
function utf8(file: string): string {
  return Buffer.from(file, "latin1").toString("utf8");
}

function statOf(file: string): Stats | undefined {
  try {
    return lstatSync(file);
  } catch (error) {
    if (hostCode(error) === undefined) throw error;
    return undefined;
  }
}

function namesIn(directory: string): string[] {
  return readdirSync(directory).map((name) => path.join(directory, name));
}

/** A path, every directory and link on the way to what it means, and that. */
function chain(file: string): string[] {
  const parts: string[] = [];
  let names = file.split("/").filter(Boolean);
  let at = "/";
  for (let links = 0; names.length > 0 && links <= MOST_LINKS; ) {
    const [name = "", ...rest] = names;
    names = rest;
    const next = path.posix.join(at, name);
    const stat = statOf(next);
    if (stat === undefined) break;
    parts.push(next);
    if (stat.isSymbolicLink()) {
      links++;
      const target = readlinkSync(next);
      names = [...target.split("/").filter(Boolean), ...names];
      if (target.startsWith("/")) at = "/";
    } else at = next;
  }
  return parts;
}

/**
 * Puts files into an empty directory, to be a guest's root.
 * @throws UserError for a file that is not as it was written
 */
export function restoreFiles(files: readonly KeptFile[], directory: string): void {
  try {
    restore(files, directory);
  } catch (error) {
    if (hostCode(error) === undefined) throw error;
    throw testError(`cannot put the guest's files into ${directory}: ${reason(error)}`);
  }
}

function restore(files: readonly KeptFile[], directory: string): void {
  let bytes = 0;
  for (const file of files) {
    const place = path.join(directory, file.path);
    // A path that leads elsewhere was not written by us.
    if (path.posix.normalize(file.path) !== file.path || !file.path.startsWith("/"))
      throw testError(`the recording has a file of the path ${file.path}, which is none`);
    mkdirSync(path.dirname(place), { recursive: true });
    if (file.kind === "directory") mkdirSync(place, { recursive: true });
    else if (file.kind === "link") symlinkSync(file.target ?? "", place);
    else {
      bytes += file.data === undefined ? 0 : (file.size ?? 0);
      if (bytes > MOST_BYTES) throw testError("the files of the recording are larger than 1 GiB together");
      writeContent(file, place);
    }
  }
  // Permissions and times last: they would not let us in, or change again.
  for (const file of files.toReversed()) {
    const place = path.join(directory, file.path);
    if (file.kind === "link") continue;
    // We must be able to read what the guest may only execute.
    chmodSync(place, file.mode | (file.kind === "directory" ? 0o500 : 0o400));
    utimesSync(place, file.mtime, file.mtime);
  }
}

function writeContent({ path: name, data, sha256: wanted, size = 0 }: KeptFile, place: string): void {
  if (data === undefined) {
    const fd = openSync(place, "wx");
    ftruncateSync(fd, size);
    closeSync(fd);
    return;
  }
  let content: Uint8Array;
  try {
    content = inflateSync(Buffer.from(data, "base64"), { maxOutputLength: MOST_BYTES });
  } catch (error) {
    throw testError(
      `the recording's file ${name} is damaged: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  if (sha256(content) !== wanted) throw testError(`the recording's file ${name} is not as it was recorded`);
  writeFileSync(place, content, { flag: "wx" });
}

function sha256(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}
