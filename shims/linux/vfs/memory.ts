import { Errno } from "../errno.ts";
import { fail, VfsError } from "./error.ts";
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "./flags.ts";
import { DirectoryInode, Entry, type FileSystem, type Inode, type Making, NodeInode } from "./inode.ts";
import { MemoryFile } from "./memory-file.ts";
import { TextLink } from "./proc/text-link.ts";

/** What a small directory takes on ext4, and what tmpfs says of each entry (BOGO_DIRENT_SIZE). */
const BLOCK = 4096;
const TMPFS_ENTRY = 20;
/** fs/ext4/ext4.h */
const EXT4_LINK_MAX = 65_000;

/** What a directory shows beneath its own changes: a directory of the host that never changes. */
export interface LowerDirectory {
  /** st_size and st_blocks there: a guest that only looks sees the host's directory as it is. */
  readonly size: number;
  readonly blocks: number;
  /** @returns a new inode of the upper file system, or undefined */
  lookup(name: string): Inode | undefined;
  /** In a fixed order. */
  names(): string[];
}

/**
 * A directory in memory, over a read-only one of the host or over nothing. Names come from below when they are first asked
 * for and then stay, so an inode keeps its number and its changes; a removed name leaves `undefined`, a whiteout.
 */
export class MemoryDirectory extends DirectoryInode {
  readonly #entries = new Map<string, Entry | undefined>();
  #lower: LowerDirectory | undefined;
  readonly #shown: { readonly size: number; readonly blocks: number } | undefined;
  #live = 0;

  constructor(fs: FileSystem, mode: number, uid: number, gid: number, lower?: LowerDirectory) {
    super(fs, S_IFDIR | (mode & 0o7777), uid, gid);
    this.nlink = 2;
    this.#lower = lower;
    this.#shown = lower && { size: lower.size, blocks: lower.blocks };
  }

  override get size(): number {
    return this.#shown?.size ?? (this.fs.extents ? BLOCK : (this.#live + 2) * TMPFS_ENTRY);
  }

  override get blocks(): number {
    return this.#shown?.blocks ?? (this.fs.extents ? BLOCK / 512 : super.blocks);
  }

  lookup(at: Entry, name: string): Entry | undefined {
    const known = this.#entries.get(name);
    if (known || !this.#lower || this.#entries.has(name)) return known;
    const inode = this.#lower.lookup(name);
    return inode && this.#add(at, name, inode);
  }

  list(at: Entry): Entry[] {
    if (this.#lower) {
      for (const name of this.#lower.names()) this.lookup(at, name);
      // Everything below is known now; a whiteout has nothing left to hide.
      this.#lower = undefined;
      for (const [name, entry] of this.#entries) if (!entry) this.#entries.delete(name);
    }
    return [...this.#entries.values()].filter((entry) => entry !== undefined);
  }

  override make(at: Entry, name: string, what: Making): Entry {
    this.#mustLive(at);
    const inode = newInode(this.fs, what);
    if (inode.isDirectory) this.nlink++;
    this.modified();
    return this.#add(at, name, inode);
  }

  /** Puts an inode that was made elsewhere in this file system under a name, without any check. */
  attach(at: Entry, name: string, inode: Inode): Entry {
    if (inode.isDirectory) this.nlink++;
    return this.#add(at, name, inode);
  }

  override makeUnnamed(what: Making): Inode {
    const inode = newInode(this.fs, what);
    inode.nlink = 0;
    return inode;
  }

  override link(at: Entry, name: string, inode: Inode): Entry {
    this.#mustLive(at);
    if (this.fs.extents && inode.nlink >= EXT4_LINK_MAX) fail(Errno.EMLINK, "as many links as ext4 counts");
    inode.nlink++;
    inode.unnamed = false;
    inode.changed();
    this.modified();
    return this.#add(at, name, inode);
  }

  override remove(entry: Entry): void {
    const { inode } = entry;
    if (inode instanceof MemoryDirectory) {
      if (inode.list(entry).length > 0) fail(Errno.ENOTEMPTY, "the directory has entries");
      this.nlink--;
      inode.nlink = 1;
    }
    this.#forget(entry);
    entry.deleted = true;
    this.modified();
    inode.unlinked();
  }

  override rename(entry: Entry, to: Entry, name: string, replaced: Entry | undefined): void {
    const target = to.inode;
    if (!(target instanceof MemoryDirectory)) throw new VfsError(Errno.EXDEV, "another kind of file system");
    target.#mustLive(to);
    if (replaced) target.remove(replaced);
    this.#forget(entry);
    target.#put(entry, to, name);
    if (entry.inode.isDirectory) {
      this.nlink--;
      target.nlink++;
    }
    this.modified();
    target.modified();
    entry.inode.changed();
  }

  override exchange(one: Entry, other: Entry): void {
    const [here, there] = [one.parent, other.parent];
    const target = there?.inode;
    if (!here || !there || !(target instanceof MemoryDirectory))
      throw new VfsError(Errno.EXDEV, "another kind of file system");
    const [name, otherName] = [one.name, other.name];
    this.#forget(one);
    target.#forget(other);
    target.#put(one, there, otherName);
    this.#put(other, here, name);
    const moved = Number(one.inode.isDirectory) - Number(other.inode.isDirectory);
    this.nlink -= moved;
    target.nlink += moved;
    this.modified();
    target.modified();
    one.inode.changed();
    other.inode.changed();
  }

  #add(at: Entry, name: string, inode: Inode): Entry {
    const entry = new Entry(name, at, inode);
    this.#entries.set(name, entry);
    this.#live++;
    return entry;
  }

  #put(entry: Entry, at: Entry, name: string): void {
    entry.parent = at;
    entry.name = name;
    this.#entries.set(name, entry);
    this.#live++;
  }

  #forget(entry: Entry): void {
    if (this.#lower) this.#entries.set(entry.name, undefined);
    else this.#entries.delete(entry.name);
    this.#live--;
  }

  #mustLive(at: Entry): void {
    if (at.deleted) fail(Errno.ENOENT, "the directory was removed");
  }
}

function newInode(fs: FileSystem, what: Making): Inode {
  fs.demandInode();
  switch (what.mode & S_IFMT) {
    case S_IFDIR:
      return new MemoryDirectory(fs, what.mode, what.uid, what.gid);
    case S_IFLNK:
      return new TextLink(fs, what.target ?? "", what.uid, what.gid);
    case S_IFREG:
      return new MemoryFile(fs, what.mode, what.uid, what.gid);
    default:
      return new NodeInode(fs, what.mode, what.uid, what.gid, what.rdev);
  }
}
