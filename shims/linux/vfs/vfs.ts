import type { AddressSpace } from "../../../emulator/memory.ts";
import { PROT_WRITE, type Region } from "../../../emulator/memory.ts";
import { Errno } from "../errno.ts";
import { PAGE } from "../memory/pages.ts";
import { Cap } from "../process/capabilities.ts";
import { UserCounts } from "../process/user-counts.ts";
import type { Kernel } from "../task.ts";
import { BoundTree } from "./bound.ts";
import { inherited } from "./change.ts";
import { isZeroDevice, OwnTerminal, openDevice, PTMX_DEVICE, TTY_DEVICE } from "./devices.ts";
import { fail } from "./error.ts";
import { FileTable } from "./fd-table.ts";
import {
  F_SEAL_SEAL,
  O_ACCMODE,
  O_APPEND,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOATIME,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE_BIT,
  O_TRUNC,
  O_WRONLY,
  R_OK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  W_OK,
  X_OK,
} from "./flags.ts";
import { HostStreamInode, HostStreamOpen } from "./host-stream.ts";
import {
  type Credentials,
  DirectoryInode,
  demand,
  Entry,
  type FileBacking,
  FileInode,
  FileSystem,
  FS_APPEND_FL,
  type Inode,
  NodeInode,
  owns,
  type VfsHost,
} from "./inode.ts";
import { type Lock, LockList } from "./locks.ts";
import { MemoryDirectory } from "./memory.ts";
import { MemoryFile } from "./memory-file.ts";
import { DirectoryOpen, type OpenFile, PathOpen, RegularOpen, SelfOpening } from "./open-file.ts";
import { Pipe, PipeOpen } from "./pipe.ts";
import { Pty } from "./tty/pty.ts";
import { PtyInode, PtyMaster, PtySlave } from "./tty/pty-ends.ts";
import { pathOf, type WalkContext, type WalkRules, walk } from "./walk.ts";
import { IN_CREATE, IN_MODIFY, IN_OPEN, report, reportName } from "./watch.ts";

export { FileTable } from "./fd-table.ts";

/** What a process's paths start from; shared by CLONE_FS, copied by fork. */
export interface FsContext {
  root: Entry;
  cwd: Entry;
  umask: number;
}

/** What the run gives: frames, time and random bytes. */
export type VfsSources = Omit<VfsHost, "orphaned" | "shrunk" | "watched" | "openFiles" | "closing" | "renames"> & {
  /** What the files of one file system in memory may take at most, where that is less than 1 GiB. */
  readonly maxFileBytes?: number | undefined;
};

/** uapi/linux/magic.h. The root is said to be what most disks have: programs take it for an ordinary one. */
const EXT4_SUPER_MAGIC = 0xef53;
export const TMPFS_MAGIC = 0x01021994;
export const PIPEFS_MAGIC = 0x50495045;
/** What the files of one file system in memory may take: 1 GiB, then ENOSPC. */
const MEMORY_PAGES = 262_144;

const STAGING = 262_144;
/** So many forgotten mapped files are worth a look at all mappings. */
const ORPHANS = 64;

/** Status flags that open(2) keeps; creation flags end with the call. */
const KEPT_FLAGS = ~(O_CREAT | O_EXCL | O_TRUNC | 0o400 | 0o2000000);

/** The guest's files: one tree of mounts, and what is open. Nothing here knows a path of the host but the layers that were given. */
export class Vfs {
  readonly host: VfsHost;
  readonly root: Entry;
  readonly rootFs: FileSystem;
  readonly #pipes = new WeakMap<Inode, Pipe>();
  readonly #pipePages = new UserCounts();
  readonly #recordLocks = new WeakMap<Inode, LockList>();
  readonly #fileLocks = new WeakMap<Inode, LockList>();
  readonly #memoryPages: number;
  readonly #anonymous: FileSystem;
  /** Where memfds live (the kernel's own mount of tmpfs). */
  readonly #memoryFiles: FileSystem;
  readonly #mounts: Entry[] = [];
  /** Files nothing but a mapping may still need. */
  readonly #orphans = new Set<FileInode>();
  #orphanLimit = ORPHANS;
  readonly #closers: (() => void)[] = [];
  /** What is copied between guest memory and files goes through here. */
  readonly staging = new Uint8Array(STAGING);
  /** The terminal behind /dev/tty, if there is one. */
  terminal: HostStreamInode | undefined;
  kernel: Kernel | undefined;
  readonly #ptys = new Set<Pty>();
  #nextDevice = 1;

  /** @param rootDirectory makes the root directory in the root's file system */
  constructor(
    sources: VfsSources,
    rootDirectory: (fileSystem: FileSystem) => Inode = (f) => new MemoryDirectory(f, 0o755, 0, 0),
  ) {
    this.host = {
      ...sources,
      watched: 0,
      openFiles: 0,
      closing: [],
      renames: 0,
      orphaned: (file) => this.#orphaned(file),
      shrunk: (file, size) => this.#shrunk(file, size),
    };
    const { maxFileBytes = Number.POSITIVE_INFINITY } = sources;
    this.#memoryPages = Math.min(MEMORY_PAGES, Math.ceil(maxFileBytes / PAGE));
    this.rootFs = this.newMemoryFileSystem("ext4", EXT4_SUPER_MAGIC);
    this.rootFs.extents = true;
    this.rootFs.source = "/dev/root";
    this.#memoryFiles = this.newMemoryFileSystem("tmpfs", TMPFS_MAGIC);
    this.#anonymous = this.newFileSystem("pipefs", PIPEFS_MAGIC);
    this.root = new Entry("", undefined, rootDirectory(this.rootFs));
    this.#mounts.push(this.root);
  }

  /** unmap_mapping_range: in every address space. */
  #shrunk(file: FileInode, size: number): void {
    const end = Math.ceil(size / PAGE) * PAGE;
    const spaces = new Set<AddressSpace>();
    for (const process of this.kernel?.processes.values() ?? []) if (!process.ended) spaces.add(process.space);
    for (const space of spaces) {
      for (const region of space.regions()) {
        const { backing, start, offset } = region;
        if (backing === undefined || !("file" in backing) || backing.file !== file) continue;
        const from = Math.max(start, start + end - offset);
        if (from < region.end) space.discard(from, region.end - from);
      }
    }
  }

  newFileSystem(type: string, magic: number, maxPages = 0): FileSystem {
    return new FileSystem(this.host, this.newDevice(), type, magic, maxPages);
  }

  /** One whose files are in memory. */
  newMemoryFileSystem(type: string, magic: number, maxPages = this.#memoryPages): FileSystem {
    const made = this.newFileSystem(type, magic, maxPages);
    made.attributes = true;
    made.maxInodes = this.#memoryPages;
    return made;
  }

  newDevice(): number {
    return this.#nextDevice++;
  }

  /** Roots of mounts, in the order they were made. */
  get mounts(): readonly Entry[] {
    return this.#mounts;
  }

  /** Shows `inode` in place of `at`. */
  mount(at: Entry, inode: Inode): Entry {
    const top = new Entry(at.name, at.parent, inode);
    top.covers = at.top;
    at.top.mounted = top;
    this.#mounts.push(top);
    return top;
  }

  /** Takes the top of what is mounted at `top`'s place away. */
  unmount(top: Entry): void {
    if (top.covers) top.covers.mounted = undefined;
    const index = this.#mounts.indexOf(top);
    if (index >= 0) this.#mounts.splice(index, 1);
  }

  /** Runs when the guest's files are not needed any more. */
  onClose(closer: () => void): void {
    this.#closers.push(closer);
  }

  /** Ends the run: stores through mappings reach the host, the terminal is restored, descriptors of the host are closed. */
  close(): void {
    this.sync();
    for (const closer of this.#closers.splice(0)) closer();
  }

  /** sync(2). */
  sync(): void {
    for (const { inode } of this.#mounts) if (inode.fs instanceof BoundTree) inode.fs.sync();
  }

  newFileTable(): FileTable {
    return new FileTable((file, table) => {
      this.lockWaits.delete(table);
      this.#recordLocks.get(file.inode)?.clear(table);
      if (file.references > 1) return;
      this.#recordLocks.get(file.inode)?.clear(file);
      this.#fileLocks.get(file.inode)?.clear(file);
    });
  }

  /** Files that a handle was given for, by device and inode number. */
  readonly handles = new Map<string, Entry>();
  /** Who waits for which record lock: what circles are found by. */
  readonly lockWaits = new Map<object, { readonly list: LockList; readonly wanted: Lock }>();

  /** True when `owner` would wait for somebody who waits for it (posix_locks_deadlock, which gives up after ten steps). */
  wouldDeadlock(owner: object, holder: object | undefined): boolean {
    let at = holder;
    for (let steps = 0; at !== undefined && steps < 10; steps++) {
      if (at === owner) return true;
      const wait = this.lockWaits.get(at);
      at = wait?.list.conflict(wait.wanted)?.owner;
    }
    return false;
  }

  /** fcntl and OFD locks of a file. */
  recordLocks(inode: Inode): LockList {
    return listFor(this.#recordLocks, inode);
  }

  /** flock(2) locks of a file. */
  fileLocks(inode: Inode): LockList {
    return listFor(this.#fileLocks, inode);
  }

  /** An entry without a place in the tree, for pipes and the like; `name` is how /proc shows it. */
  anonymousEntry(inode: Inode, name: string): Entry {
    return new Entry(name, undefined, inode);
  }

  /** A new inode without a name, of the given type. */
  anonymousNode(mode: number, creds: Credentials): Inode {
    const inode = new NodeInode(this.#anonymous, mode, creds.uid, creds.gid);
    inode.nlink = 1;
    return inode;
  }

  /** pipe2(2): reading and writing end. */
  newPipe(creds: Credentials, flags: number): [PipeOpen, PipeOpen] {
    const inode = this.anonymousNode(S_IFIFO | 0o600, creds);
    const entry = this.anonymousEntry(inode, `pipe:[${inode.ino}]`);
    const pipe = this.#pipe(inode, creds);
    pipe.begin();
    return [new PipeOpen(entry, O_RDONLY | flags, pipe), new PipeOpen(entry, O_WRONLY | flags, pipe)];
  }

  #pipe(inode: Inode, creds: Credentials): Pipe {
    const settings = this.kernel?.settings;
    const limit = (name: "fs.pipe-user-pages-soft" | "fs.pipe-user-pages-hard") => settings?.get(name) ?? 0;
    const [soft, hard] = [limit("fs.pipe-user-pages-soft"), limit("fs.pipe-user-pages-hard")];
    const unlimited = creds.capable(Cap.CAP_SYS_RESOURCE) || creds.capable(Cap.CAP_SYS_ADMIN);
    const pipe = new Pipe(unlimited ? undefined : { user: creds.uid, pages: this.#pipePages, soft, hard });
    this.#pipes.set(inode, pipe);
    return pipe;
  }

  /** memfd_create(2). */
  newMemoryFile(name: string, creds: Credentials, mode: number, sealable: boolean): RegularOpen {
    const inode = new MemoryFile(this.#memoryFiles, S_IFREG | mode, creds.uid, creds.gid);
    inode.nlink = 0;
    inode.seals = sealable ? 0 : F_SEAL_SEAL;
    return new RegularOpen(this.anonymousEntry(inode, `/memfd:${name} (deleted)`), inode, O_RDWR);
  }

  /**
   * open(2) and openat2(2).
   * @param mode permission bits of a new file, the umask applied
   * @param rules RESOLVE_* of openat2
   */
  open(
    context: WalkContext,
    start: Entry,
    path: string,
    flags: number,
    mode: number,
    rules: Partial<WalkRules> = {},
  ): OpenFile {
    const { creds } = context;
    if (flags & O_PATH) return this.#openPath(context, start, path, flags, rules);
    if (flags & O_TMPFILE_BIT) return this.#openUnnamed(context, start, path, flags, mode, rules);
    const create = (flags & O_CREAT) !== 0;
    const exclusive = create && (flags & O_EXCL) !== 0;
    const follow = (flags & O_NOFOLLOW) === 0 && !exclusive;
    const at = walk(context, start, path, { ...rules, follow, mayMiss: create });
    if (create && at.slash && at.kind === "name") fail(Errno.EISDIR, "a trailing slash asks for a directory");
    let made = false;
    let { entry } = at;
    if (!entry) {
      const { inode } = at.dir;
      if (!(inode instanceof DirectoryInode)) return fail(Errno.ENOTDIR);
      demand(inode, creds, W_OK | X_OK);
      entry = inode.make(at.dir, at.name, inherited(inode, creds, S_IFREG | (mode & 0o7777)));
      made = true;
      reportName(inode, at.name, entry.inode, IN_CREATE);
    } else if (exclusive) {
      fail(Errno.EEXIST, "O_EXCL, and the name is there");
    }
    return this.openEntry(entry, flags, creds, made, create);
  }

  /** Opens what is at an entry, with all checks but those of the path. */
  openEntry(entry: Entry, flags: number, creds: Credentials, made = false, create = false): OpenFile {
    const file = this.#openEntry(entry, flags, creds, made, create);
    file.created = made;
    report(entry, IN_OPEN);
    if (flags & O_TRUNC && !made && entry.inode instanceof FileInode) report(entry, IN_MODIFY);
    return file;
  }

  #openEntry(entry: Entry, flags: number, creds: Credentials, made: boolean, create: boolean): OpenFile {
    const { inode } = entry;
    const kind = inode.mode & S_IFMT;
    const access = flags & O_ACCMODE;
    if (kind === S_IFLNK) fail(Errno.ELOOP, "O_NOFOLLOW, and it is a symbolic link");
    if (kind === S_IFDIR) {
      if (create || access !== O_RDONLY || flags & O_TRUNC) fail(Errno.EISDIR, "a directory opens for reading only");
    } else if (flags & O_DIRECTORY) {
      fail(Errno.ENOTDIR, "O_DIRECTORY, and it is none");
    }
    if (!made) {
      let wanted = access === O_WRONLY ? W_OK : access === O_RDONLY ? R_OK : R_OK | W_OK;
      if (flags & O_TRUNC) wanted |= W_OK;
      demand(inode, creds, wanted);
      const appends = (flags & O_APPEND) !== 0 && (flags & O_TRUNC) === 0;
      if (inode.flags & FS_APPEND_FL && wanted & W_OK && !appends) fail(Errno.EPERM, "the file is append-only");
      if (flags & O_NOATIME && !owns(inode, creds)) fail(Errno.EPERM, "O_NOATIME is for the owner");
    }
    const kept = flags & KEPT_FLAGS;
    if (inode instanceof FileInode) {
      if (access !== O_RDONLY || (flags & O_TRUNC && !made)) inode.demandIdle();
      if (this.kernel) inode.leases?.breakFor(this.kernel, inode, access !== O_RDONLY);
      inode.opening(flags);
      if (flags & O_TRUNC && !made) {
        inode.hold();
        inode.truncate(0);
        const open = new RegularOpen(entry, inode, kept);
        inode.drop();
        return open;
      }
      return new RegularOpen(entry, inode, kept);
    }
    if (kind === S_IFDIR) return new DirectoryOpen(entry, kept);
    if (inode instanceof HostStreamInode) return new HostStreamOpen(entry, kept, inode);
    if (inode instanceof SelfOpening) return inode.open(entry, kept);
    if (kind === S_IFIFO) return this.#openFifo(entry, kept, creds);
    if (kind === S_IFCHR && inode.rdev === TTY_DEVICE)
      return this.terminal ? new HostStreamOpen(entry, kept, this.terminal) : new OwnTerminal(entry, kept);
    if (kind === S_IFCHR && inode.rdev === PTMX_DEVICE) return this.#openPtmx(entry, kept, creds);
    if (inode instanceof PtyInode) {
      if (inode.pty.exclusive && !creds.capable(Cap.CAP_SYS_ADMIN)) fail(Errno.EBUSY, "TIOCEXCL");
      return new PtySlave(entry, kept, inode.pty);
    }
    return (
      openDevice(entry, kept) ?? fail(Errno.ENXIO, "no such device, or a socket's name; the host's are never opened")
    );
  }

  /** A new pseudo-terminal, its name in the pts beside ptmx, or beside ptmx itself where that one is in there. */
  #openPtmx(entry: Entry, flags: number, creds: Credentials): OpenFile {
    const { parent } = entry;
    const beside = parent?.inode instanceof MemoryDirectory ? parent.inode.lookup(parent, "pts") : undefined;
    const pts = beside ?? parent;
    if (!(pts?.inode instanceof MemoryDirectory)) return fail(Errno.ENODEV, "there is no pts beside it");
    // devpts_new_index; that it is the last but one is the kernel's.
    const most = this.kernel?.settings.get("kernel.pty.max") ?? Number.POSITIVE_INFINITY;
    if (this.#ptys.size + 1 >= most) fail(Errno.ENOSPC, "there are as many as kernel.pty.max allows");
    let number = 0;
    while (pts.inode.lookup(pts, String(number))) number++;
    const pty = new Pty(number, this.kernel);
    const slave = pts.inode.attach(pts, String(number), new PtyInode(pts.inode.fs, pty, creds.uid));
    this.#ptys.add(pty);
    return new PtyMaster(entry, flags, slave, pty, () => this.#ptys.delete(pty));
  }

  get ptyCount(): number {
    return this.#ptys.size;
  }

  /** The pseudo-terminal that controls a session. */
  ptyOf(session: number): Pty | undefined {
    for (const pty of this.#ptys) if (pty.session === session) return pty;
    return undefined;
  }

  /**
   * What mmap shows of an open file: "anonymous" for /dev/zero.
   * Fails with ENODEV for files that cannot be mapped. Rights are the caller's to check.
   */
  backing(file: OpenFile, root: Entry): FileBacking | "anonymous" {
    if (file instanceof RegularOpen) return file.file.backing(pathOf(file.entry, root));
    if (isZeroDevice(file.inode.fs, file.inode.rdev, file.inode.kind)) return "anonymous";
    return fail(Errno.ENODEV, "this kind of file cannot be mapped");
  }

  /**
   * The address space does not say when a mapping ends, and most mapped files stay. So mapped files without name and descriptor
   * are collected, and now and then all mappings are walked to see which of them nobody shows any more.
   */
  #orphaned(file: FileInode): void {
    this.#orphans.add(file);
    if (this.#orphans.size < this.#orphanLimit || !this.kernel) return;
    const shown = new Set<unknown>();
    for (const { backing } of this.#regions()) if (backing && "file" in backing) shown.add(backing.file);
    for (const orphan of this.#orphans) {
      if (shown.has(orphan)) continue;
      this.#orphans.delete(orphan);
      if (orphan.users === 0) orphan.unmapped();
    }
    this.#orphanLimit = Math.max(ORPHANS, 2 * this.#orphans.size);
  }

  *#regions(): Iterable<Region> {
    for (const process of this.kernel?.processes.values() ?? []) yield* process.mm.space.regions();
  }

  /** Does a shared mapping of the file allow stores? It stops F_SEAL_WRITE. */
  isMappedWritable(file: FileInode): boolean {
    for (const { backing, shared, prot } of this.#regions()) {
      if (shared && prot & PROT_WRITE && backing && "file" in backing && backing.file === file) return true;
    }
    return false;
  }

  #openFifo(entry: Entry, flags: number, creds: Credentials): OpenFile {
    const pipe = this.#pipes.get(entry.inode) ?? this.#pipe(entry.inode, creds);
    if ((flags & O_ACCMODE) === O_WRONLY && flags & O_NONBLOCK && pipe.readers === 0)
      fail(Errno.ENXIO, "nobody reads it");
    pipe.begin();
    return new PipeOpen(entry, flags, pipe);
  }

  #openPath(context: WalkContext, start: Entry, path: string, flags: number, rules: Partial<WalkRules>): OpenFile {
    const follow = (flags & O_NOFOLLOW) === 0;
    const entry = walk(context, start, path, { ...rules, follow }).entry ?? fail(Errno.ENOENT);
    if (flags & O_DIRECTORY && !entry.inode.isDirectory) fail(Errno.ENOTDIR, "O_DIRECTORY, and it is none");
    return new PathOpen(entry, flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW));
  }

  #openUnnamed(
    context: WalkContext,
    start: Entry,
    path: string,
    flags: number,
    mode: number,
    rules: Partial<WalkRules>,
  ): OpenFile {
    if (!(flags & O_DIRECTORY) || (flags & O_ACCMODE) === O_RDONLY) fail(Errno.EINVAL, "O_TMPFILE is for writing");
    const entry =
      walk(context, start, path, { ...rules, follow: (flags & O_NOFOLLOW) === 0 }).entry ?? fail(Errno.ENOENT);
    const { inode } = entry;
    if (!(inode instanceof DirectoryInode)) return fail(Errno.ENOTDIR);
    demand(inode, context.creds, W_OK | X_OK);
    const file = inode.makeUnnamed(inherited(inode, context.creds, S_IFREG | (mode & 0o7777)));
    if (!(file instanceof FileInode)) return fail(Errno.EOPNOTSUPP);
    file.unnamed = (flags & O_EXCL) === 0;
    const unnamed = new Entry(`#${file.ino}`, entry, file);
    unnamed.deleted = true;
    return new RegularOpen(unnamed, file, flags & KEPT_FLAGS & ~O_TMPFILE_BIT);
  }
}

function listFor(lists: WeakMap<Inode, LockList>, inode: Inode): LockList {
  let list = lists.get(inode);
  if (!list) {
    list = new LockList();
    lists.set(inode, list);
  }
  return list;
}
