import { Errno } from "../../errno.ts";
import type { Process } from "../../task.ts";
import { fail } from "../error.ts";
import { O_ACCMODE, O_RDONLY, S_IFDIR, S_IFLNK, S_IFREG } from "../flags.ts";
import { DirectoryInode, Entry, type FileSystem, type Inode, LinkInode } from "../inode.ts";
import { OpenFile, SelfOpening, seekTo } from "../open-file.ts";

/** uapi/linux/magic.h. */
export const PROC_SUPER_MAGIC = 0x9fa0;

/** What a directory of /proc holds at the moment. An inode must stay the same object as long as it means the same. */
export interface ProcContents {
  lookup(name: string): Inode | undefined;
  names(): string[];
  /** How many directories there are, for st_nlink: always, or at the moment. Programs count the threads in `task` by it. */
  readonly directories?: number | (() => number);
  /** st_size, 0 when left out. */
  size?(): number;
}

/** A directory whose entries the kernel makes up. */
export class ProcDirectory extends DirectoryInode {
  readonly #contents: ProcContents;
  readonly #entries = new Map<string, Entry>();

  constructor(fs: FileSystem, contents: ProcContents, uid = 0, gid = 0, mode = 0o555) {
    super(fs, S_IFDIR | mode, uid, gid);
    this.#contents = contents;
    this.nlink = 2;
    if (typeof contents.directories === "number") this.nlink = 2 + contents.directories;
  }

  override get size(): number {
    return this.#contents.size?.() ?? 0;
  }

  override refresh(): void {
    if (typeof this.#contents.directories === "function") this.nlink = 2 + this.#contents.directories();
  }

  lookup(at: Entry, name: string): Entry | undefined {
    const known = this.#entries.get(name);
    const inode = this.#contents.lookup(name);
    if (inode && known?.inode === inode) return known;
    if (known) {
      known.deleted = true;
      this.#entries.delete(name);
    }
    if (!inode) return undefined;
    const entry = new Entry(name, at, inode);
    this.#entries.set(name, entry);
    return entry;
  }

  override make(): Entry {
    return fail(Errno.ENOENT, "/proc makes its own files");
  }

  list(at: Entry): Entry[] {
    return this.#contents.names().flatMap((name) => this.lookup(at, name) ?? []);
  }
}

/** /proc/[pid], which serves as a pidfd too. */
export class ProcessDirectory extends ProcDirectory {
  readonly process: Process;

  constructor(fs: FileSystem, contents: ProcContents, process: Process) {
    super(fs, contents, process.cred.euid, process.cred.egid);
    this.process = process;
  }
}

/** Entries that stay as they are. */
export function fixedContents(files: ReadonlyMap<string, Inode>): ProcContents {
  const directories = [...files.values()].filter((inode) => inode.isDirectory).length;
  return { lookup: (name) => files.get(name), names: () => [...files.keys()], directories };
}

/** A directory with fixed contents. */
export function fixedDirectory(
  fs: FileSystem,
  files: Readonly<Record<string, Inode>>,
  uid = 0,
  gid = 0,
  mode = 0o555,
): ProcDirectory {
  const table = new Map(Object.entries(files));
  return new ProcDirectory(fs, fixedContents(table), uid, gid, mode);
}

/** A file whose content is made up when it is read from its start. */
export class ProcText extends SelfOpening {
  readonly #content: () => string | Uint8Array;
  readonly #store: ((text: string) => number) | undefined;

  /** @param store takes what the guest writes; @returns 0 or a negative errno. Without it the file is read-only. */
  constructor(
    fs: FileSystem,
    content: () => string | Uint8Array,
    mode = 0o444,
    store?: (text: string) => number,
    uid = 0,
    gid = 0,
  ) {
    super(fs, S_IFREG | mode, uid, gid);
    this.#content = content;
    this.#store = store;
  }

  /** Asked whenever it is opened: fails where it cannot be. */
  demand: (() => void) | undefined;

  open(entry: Entry, flags: number): OpenFile {
    this.demand?.();
    return new SnapshotOpen(entry, flags, this);
  }

  content(): Uint8Array {
    const content = this.#content();
    return typeof content === "string" ? Buffer.from(content, "latin1") : content;
  }

  store(bytes: Uint8Array): number {
    if (!this.#store) return -Errno.EACCES;
    const result = this.#store(Buffer.from(bytes).toString("latin1"));
    return result < 0 ? result : bytes.length;
  }
}

/** An open {@link ProcText}: sees one state of the file until it is read from the start again. */
class SnapshotOpen extends OpenFile {
  readonly #text: ProcText;
  #content: Uint8Array | undefined;

  constructor(entry: Entry, flags: number, text: ProcText) {
    super(entry, flags);
    this.#text = text;
  }

  override get seekable(): boolean {
    return true;
  }

  override get splicesFrom(): boolean {
    return true;
  }

  override get splicesTo(): boolean {
    return true;
  }

  read(into: Uint8Array): number {
    const got = this.pread(into, this.position);
    if (got > 0) this.position += got;
    return got;
  }

  override pread(into: Uint8Array, position: number): number {
    if (position === 0 || !this.#content) this.#content = this.#text.content();
    const piece = this.#content.subarray(position, position + into.length);
    into.set(piece);
    return piece.length;
  }

  write(from: Uint8Array): number {
    if ((this.flags & O_ACCMODE) === O_RDONLY) return -Errno.EBADF;
    return this.#text.store(from);
  }

  override pwrite(from: Uint8Array): number {
    return this.write(from);
  }

  override seek(offset: number, whence: number): number {
    return seekTo(this, offset, whence, 0);
  }
}

/** A link of /proc that prints like a path and leads to the very file (proc(5), /proc/pid/fd). */
export class MagicLink extends LinkInode {
  readonly #text: () => string;
  readonly #jump: () => Entry | undefined;

  constructor(fs: FileSystem, text: () => string, jump: () => Entry | undefined, mode = 0o777, uid = 0, gid = 0) {
    super(fs, S_IFLNK | mode, uid, gid);
    this.#text = text;
    this.#jump = jump;
  }

  override get magic(): boolean {
    return true;
  }

  target(): string {
    return this.#text();
  }

  override jump(): Entry | undefined {
    return this.#jump();
  }
}

/** A link of /proc with a text that depends on who looks: `self`. */
export class TextLinkOf extends LinkInode {
  readonly #text: () => string;

  constructor(fs: FileSystem, text: () => string) {
    super(fs, S_IFLNK | 0o777, 0, 0);
    this.#text = text;
  }

  target(): string {
    return this.#text();
  }
}
