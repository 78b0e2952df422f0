import { Errno } from "../errno.ts";
import { PAGE } from "../memory/pages.ts";
import { Cap } from "../process/capabilities.ts";
import { fail } from "./error.ts";
import { R_OK, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID, S_IXGRP, W_OK, X_OK } from "./flags.ts";
import type { Leases } from "./leases.ts";
import { Stamp } from "./stamp.ts";
import type { Watcher } from "./watch.ts";

/** Where page frames come from: the machine, in a run. */
interface FrameSource {
  /** A zeroed frame, 0 when memory has run out. */
  allocate(): number;
  release(frame: number): void;
  /** A live view of 4096 bytes. */
  bytes(frame: number): Uint8Array;
  /** Before bytes that a guest may execute are changed. */
  beforeWrite(frame: number): void;
}

/** What the file systems need from outside. */
export interface VfsHost {
  readonly frames: FrameSource;
  /** Real time of the guest in whole milliseconds: file times have a tick's grain on Linux too. */
  realtimeMs(): number;
  /** Fills with the bytes of /dev/urandom. */
  randomBytes(into: Uint8Array): void;
  /** Watches of inotify in the whole run: while there are none nothing is reported. */
  watched: number;
  /** Open files in the whole run (fs.file-nr). */
  openFiles: number;
  /** Files that nothing refers to any more, while they are closed one after the other. */
  readonly closing: { end(): void }[];
  /** Cookie of the last rename that inotify was told of. */
  renames: number;
  /** A file without a name and without descriptors was mapped: somebody has to find out when the last mapping goes. */
  orphaned(file: FileInode): void;
  /** A mapped file ends at `size` from now on: no mapping shows a page behind its end any more, not even one changed privately. */
  shrunk(file: FileInode, size: number): void;
}

/** Who asks. */
export interface Credentials {
  /** fsuid and fsgid: what new files get and checks compare. */
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  capable(cap: Cap): boolean;
  /** The same over a file, whose owners a user namespace may not know. */
  capableOver(inode: { readonly uid: number; readonly gid: number }, cap: Cap): boolean;
}

/** The kernel itself, whom no mode stops. */
export const KERNEL: Credentials = Object.freeze({
  uid: 0,
  gid: 0,
  groups: [],
  capable: () => true,
  capableOver: () => true,
});

/** One mounted tree: device number, inode numbers, and the page budget that ENOSPC comes from. */
export class FileSystem {
  readonly host: VfsHost;
  /** Minor of the device (major 0), as anonymous devices have. */
  readonly dev: number;
  readonly type: string;
  /** statfs(2) f_type. */
  readonly magic: number;
  /** st_blksize of its files. */
  blockSize = PAGE;
  maxPages: number;
  /** How many files it may have, whatever its size is; 0 for as many as there are. */
  maxInodes = 0;
  /** What mount(2) was given as the device, for /proc/mounts. */
  source: string;
  /** MS_RDONLY: EROFS for every change. */
  readonly = false;
  /** MNT_EXPIRE has marked it. */
  expiring = false;
  /** Open files that may write. */
  writers = 0;
  /** It keeps extended attributes. */
  attributes = false;
  /** Its files can do what ext4's can: fallocate(2) zeroes, cuts out and puts in ranges. */
  extents = false;
  pages = 0;
  inodes = 0;
  /** How many of them were there before the run. */
  found = 0;
  #nextIno = 1;

  constructor(host: VfsHost, dev: number, type: string, magic: number, maxPages = 0) {
    this.host = host;
    this.dev = dev;
    this.type = type;
    this.source = type;
    this.magic = magic;
    this.maxPages = maxPages;
  }

  nextIno(): number {
    this.inodes++;
    return this.#nextIno++;
  }

  /** ENOSPC unless one more file may be made. */
  demandInode(): void {
    if (this.maxInodes > 0 && this.inodes - this.found >= this.maxInodes)
      fail(Errno.ENOSPC, "as many files as it may have");
  }

  /** Takes pages from the budget; false is ENOSPC. */
  takePages(count: number): boolean {
    if (this.maxPages > 0 && this.pages + count > this.maxPages) return false;
    this.pages += count;
    return true;
  }
}

/** A file of any kind. Times follow inode(7). */
export abstract class Inode {
  readonly fs: FileSystem;
  readonly ino: number;
  mode: number;
  uid: number;
  gid: number;
  nlink = 1;
  rdev = 0;
  /** Made by O_TMPFILE without O_EXCL and not linked yet: linkat may give it a name. */
  unnamed = false;
  /** Open files and mappings that keep a file without a name alive. */
  users = 0;
  watchers: Set<Watcher> | undefined;
  /** FS_*_FL, as chattr(1) sets them. */
  flags = 0;
  /** F_SET_RW_HINT. */
  writeHint = 0;
  /** Extended attributes by name. */
  attributes: Map<string, Uint8Array> | undefined;
  readonly atime = new Stamp();
  readonly mtime = new Stamp();
  readonly ctime = new Stamp();
  readonly btime = new Stamp();

  constructor(fs: FileSystem, mode: number, uid: number, gid: number, ino = fs.nextIno()) {
    this.fs = fs;
    this.ino = ino;
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    const now = fs.host.realtimeMs();
    this.atime.setMs(now);
    this.mtime.setMs(now);
    this.ctime.setMs(now);
    this.btime.setMs(now);
  }

  get kind(): number {
    return this.mode & S_IFMT;
  }

  get isDirectory(): boolean {
    return (this.mode & S_IFMT) === S_IFDIR;
  }

  /** st_size. */
  get size(): number {
    return 0;
  }

  /** st_blocks, in units of 512 bytes. */
  get blocks(): number {
    return 0;
  }

  get blockSize(): number {
    return this.fs.blockSize;
  }

  modified(): void {
    const now = this.fs.host.realtimeMs();
    this.mtime.setMs(now);
    this.ctime.setMs(now);
  }

  changed(): void {
    this.ctime.setMs(this.fs.host.realtimeMs());
  }

  /** relatime, the kernel's default: only when the last access is not newer than the last change. */
  accessed(): void {
    if (this.fs.readonly) return;
    if (this.atime.notAfter(this.mtime) || this.atime.notAfter(this.ctime)) this.atime.setMs(this.fs.host.realtimeMs());
  }

  /** chmod, chown and utimensat end here; a file of the host overrides them to write through. */
  setMode(mode: number): void {
    this.mode = (this.mode & S_IFMT) | (mode & 0o7777);
    this.changed();
  }

  setOwner(uid: number, gid: number): void {
    this.uid = uid;
    this.gid = gid;
    this.changed();
  }

  /** After `atime` and `mtime` were set by the guest. */
  timesSet(): void {
    this.changed();
  }

  /** Brings facts that live elsewhere up to date (a file of the host, a process). */
  refresh(): void {}

  hold(): void {
    this.users++;
  }

  drop(): void {
    this.users--;
    if (this.users === 0 && this.nlink === 0) this.evict();
  }

  /** A name went away. */
  unlinked(): void {
    this.nlink--;
    this.changed();
    if (this.users === 0 && this.nlink <= 0) this.evict();
  }

  /** The last name and the last user are gone. */
  evict(): void {
    this.fs.inodes--;
    if (this.watchers !== undefined) for (const watcher of [...this.watchers]) watcher.evicted();
  }
}

/** May `who` do `wanted` (R_OK, W_OK, X_OK bits) to the file? inode(7), path_resolution(7). */
function permitted(inode: Inode, who: Credentials, wanted: number): boolean {
  const mode = inode.mode;
  let bits: number;
  if (inode.uid === who.uid) bits = mode >> 6;
  else if (inode.gid === who.gid || who.groups.includes(inode.gid)) bits = mode >> 3;
  else bits = mode;
  return (bits & wanted) === wanted || overridden(inode, who, wanted);
}

/** What capabilities allow whatever the mode says (generic_permission). */
function overridden(inode: Inode, who: Credentials, wanted: number): boolean {
  const { isDirectory, mode } = inode;
  const looks = isDirectory ? (wanted & W_OK) === 0 : wanted === R_OK;
  if (looks && who.capableOver(inode, Cap.CAP_DAC_READ_SEARCH)) return true;
  // What nobody may execute root does not execute either.
  return ((wanted & X_OK) === 0 || isDirectory || (mode & 0o111) !== 0) && who.capableOver(inode, Cap.CAP_DAC_OVERRIDE);
}

/** uapi/linux/fs.h. */
export const FS_IMMUTABLE_FL = 0x10;
export const FS_APPEND_FL = 0x20;

/** Before anything in a file system is changed: EROFS. */
export function demandWritable({ fs }: Inode): void {
  if (fs.readonly) fail(Errno.EROFS, `${fs.type} is mounted read-only`);
}

/** Before facts of a file are changed or a name of it: EROFS, and EPERM where its flags keep it as it is. */
export function demandChangeable(inode: Inode): void {
  demandWritable(inode);
  demandUnflagged(inode);
}

/** EPERM where the flags of a file keep it as it is. */
export function demandUnflagged({ flags }: Inode): void {
  if (flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) fail(Errno.EPERM, "the file is immutable or append-only");
}

/** As {@link permitted}, but EACCES when not; EROFS where nothing is written. */
export function demand(inode: Inode, who: Credentials, wanted: number): void {
  const { kind } = inode;
  if (wanted & W_OK && (kind === S_IFREG || kind === S_IFDIR || kind === S_IFLNK)) demandWritable(inode);
  if (wanted & W_OK && inode.flags & FS_IMMUTABLE_FL) fail(Errno.EPERM, "the file is immutable");
  if (permitted(inode, who, wanted)) return;
  const letters = `${wanted & R_OK ? "r" : ""}${wanted & W_OK ? "w" : ""}${wanted & X_OK ? "x" : ""}`;
  fail(Errno.EACCES, `mode ${(inode.mode & 0o7777).toString(8)} of uid ${inode.uid} does not allow ${letters}`);
}

/** True for the owner and for CAP_FOWNER: who may chmod, set times, and pass the sticky bit. */
export function owns(inode: Inode, who: Credentials): boolean {
  return inode.uid === who.uid || who.capableOver(inode, Cap.CAP_FOWNER);
}

/** Set-id bits go when somebody else writes or the owner changes (inode(7)); returns the mode without them. */
export function withoutSetId(mode: number): number {
  if ((mode & S_IFMT) === S_IFDIR) return mode;
  const dropped = mode & ~0o4000;
  return (mode & S_IXGRP) !== 0 ? dropped & ~S_ISGID : dropped;
}

/**
 * A name of a file in a directory: what the kernel calls a dentry. It moves along when it is renamed, so whoever holds it
 * (working directory, open file) can always say where it is.
 */
export class Entry {
  name: string;
  /** The entry of the directory that has this name; undefined for a root and for files without a name (pipes). */
  parent: Entry | undefined;
  readonly inode: Inode;
  /** The root of what is mounted here. */
  mounted: Entry | undefined;
  /** For the root of a mount: the entry beneath it. */
  covers: Entry | undefined;
  deleted = false;

  constructor(name: string, parent: Entry | undefined, inode: Inode) {
    this.name = name;
    this.parent = parent;
    this.inode = inode;
  }

  /** The entry that names this one: for the root of a mount the one beneath. */
  get named(): Entry {
    let at: Entry = this;
    while (at.covers) at = at.covers;
    return at;
  }

  /** The top of what is mounted here, or itself. */
  get top(): Entry {
    let at: Entry = this;
    while (at.mounted) at = at.mounted;
    return at;
  }
}

/** What a directory makes: the type and permission bits, and what that type needs. */
export interface Making {
  mode: number;
  uid: number;
  gid: number;
  rdev?: number;
  /** Of a symbolic link. */
  target?: string;
}

/** A directory. Checks that hold for every file system are done before (change.ts, walk.ts). */
export abstract class DirectoryInode extends Inode {
  /** @param at the entry of this directory, parent of what is found */
  abstract lookup(at: Entry, name: string): Entry | undefined;
  /** All entries but `.` and `..`, in a fixed order. */
  abstract list(at: Entry): Entry[];

  make(_at: Entry, _name: string, _what: Making): Entry {
    return fail(Errno.EPERM, `${this.fs.type} makes no files`);
  }

  link(_at: Entry, _name: string, _inode: Inode): Entry {
    return fail(Errno.EPERM, `${this.fs.type} has no hard links`);
  }

  /** unlink or rmdir; ENOTEMPTY for a directory with entries. */
  remove(_entry: Entry): void {
    fail(Errno.EPERM, `${this.fs.type} removes no files`);
  }

  /** Takes `entry` to `name` in `to` (same file system), over `replaced`. */
  rename(_entry: Entry, _to: Entry, _name: string, _replaced: Entry | undefined): void {
    fail(Errno.EPERM, `${this.fs.type} renames no files`);
  }

  exchange(_one: Entry, _other: Entry): void {
    fail(Errno.EINVAL, `${this.fs.type} does not exchange names`);
  }

  /** A regular file without a name (O_TMPFILE). */
  makeUnnamed(_what: Making): Inode {
    return fail(Errno.EOPNOTSUPP, `${this.fs.type} has no O_TMPFILE`);
  }
}

/** A symbolic link with a text. */
export abstract class LinkInode extends Inode {
  abstract target(): string;
  /** A magic link of /proc goes to the file itself, not to a text. */
  jump(): Entry | undefined {
    return undefined;
  }
  get magic(): boolean {
    return false;
  }
}

/** A FIFO, a socket's name or a device node: a file that is only a name for something that opens elsewhere. */
export class NodeInode extends Inode {
  constructor(fs: FileSystem, mode: number, uid: number, gid: number, rdev = 0) {
    super(fs, mode, uid, gid);
    this.rdev = rdev;
  }
}

/** What a mapping of a file shows; the shape of the address space's `Backing`. */
export interface FileBacking {
  readonly name: string;
  readonly dev: number;
  readonly ino: number;
  frame(index: number): number;
  /** The file itself. */
  readonly file: FileInode;
}

/** A regular file. `read` and `write` answer bytes or a negative errno and do not throw. */
export abstract class FileInode extends Inode {
  abstract read(into: Uint8Array, position: number): number;
  abstract write(from: Uint8Array, position: number): number;
  abstract truncate(size: number): void;
  abstract allocate(mode: number, offset: number, length: number): void;
  /** @returns the next data (or hole) at or after `position`, or -ENXIO past the end */
  abstract nextExtent(position: number, hole: boolean): number;
  /** Called when it is opened; a host's refusal shows here. */
  opening(_flags: number): void {}
  /** fsync, msync: what stores through mappings changed reaches where the file lives. */
  sync(): void {}
  /** F_SEAL_* bits of a memfd; F_SEAL_SEAL for files that cannot be sealed (as the kernel has it). */
  seals = 1;
  /** Open files that only read, and those that write. */
  readers = 0;
  writers = 0;
  /** Address spaces whose program it is: while there are any it is not opened for writing (deny_write_access). */
  executed = 0;
  leases: Leases | undefined;

  /** ETXTBSY while it is a program that runs. */
  demandIdle(): void {
    if (this.executed > 0) fail(Errno.ETXTBSY, "a program that runs");
  }

  /** It is in memory alone: only such files are sealed (memfd_file_seals_ptr). */
  get sealable(): boolean {
    return false;
  }
  #backing: FileBacking | undefined;

  /** @returns the frame of a page, -1 beyond the end, 0 when memory has run out */
  abstract page(index: number): number;

  /** True once somebody mapped it: pages must stay until no mapping is left. */
  get mapped(): boolean {
    return this.#backing !== undefined;
  }

  /** What mmap shows of this file under the name `name`; one object as long as the name stays, so that mappings can merge. */
  backing(name: string): FileBacking {
    if (this.#backing?.name === name) return this.#backing;
    const { dev } = this.fs;
    this.#backing = { name, dev, ino: this.ino, file: this, frame: (index) => this.page(index) };
    return this.#backing;
  }

  override drop(): void {
    this.users--;
    if (this.users > 0) return;
    if (this.mapped) {
      if (this.nlink <= 0 || this.pinned) this.fs.host.orphaned(this);
      return;
    }
    this.unused();
  }

  /** True when it holds something of the host as long as it is used. */
  get pinned(): boolean {
    return false;
  }

  /** No mapping shows it any more. */
  unmapped(): void {
    this.#backing = undefined;
    if (this.users === 0) this.unused();
  }

  /** Neither a descriptor nor a mapping is left. */
  protected unused(): void {
    if (this.nlink <= 0) this.evict();
  }

  override unlinked(): void {
    this.nlink--;
    this.changed();
    if (this.users > 0 || this.nlink > 0) return;
    if (this.mapped) this.fs.host.orphaned(this);
    else this.unused();
  }
}
