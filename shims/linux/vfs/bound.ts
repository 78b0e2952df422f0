import fs from "node:fs";
import { makeHostNode } from "../../../emulator/host-node.ts";
import { Errno } from "../errno.ts";
import { BoundFile } from "./bound-file.ts";
import { fail, onHost, VfsError } from "./error.ts";
import { S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from "./flags.ts";
import { boundPath, type HostIdentity, hostNames, hostPath, hostSeconds, setStamp, withHandle } from "./host-path.ts";
import {
  DirectoryInode,
  Entry,
  FileSystem,
  type Inode,
  LinkInode,
  type Making,
  NodeInode,
  type VfsHost,
} from "./inode.ts";

/**
 * A tree of the host that the guest may change (`--bind HOST:GUEST:rw`). Everything goes through handles of directories whose
 * identity was checked, so a symbolic link or a rename on the host side cannot lead out of the tree.
 */
export class BoundTree extends FileSystem {
  readonly rootPath: string;
  readonly root: Inode;
  readonly #inodes = new Map<string, Inode>();
  readonly #keys = new WeakMap<Inode, string>();
  /** A name each inode was found under last. */
  readonly #names = new WeakMap<Inode, Entry>();

  constructor(host: VfsHost, dev: number, rootPath: string) {
    // EXT4_SUPER_MAGIC: what most hosts have, and what programs take for an ordinary disk.
    super(host, dev, "ext4", 0xef53);
    this.extents = true;
    this.rootPath = rootPath;
    const stat = onHost(() => fs.lstatSync(hostPath(rootPath), { bigint: true }));
    this.root = this.inode(rootPath, stat);
  }

  path(entry: Entry): string {
    return boundPath(entry, this, this.rootPath);
  }

  /** The inode of a file of the host, the same one for all its names, brought up to date. */
  inode(path: string, stat: fs.BigIntStats): Inode {
    const key = `${stat.dev}:${stat.ino}`;
    let inode = this.#inodes.get(key);
    if (!inode || inode.kind !== (Number(stat.mode) & S_IFMT)) {
      inode = this.#make(path, stat);
      this.#inodes.set(key, inode);
      this.#keys.set(inode, key);
    }
    adopt(inode, stat);
    return inode;
  }

  named(entry: Entry): void {
    this.#names.set(entry.inode, entry);
    if (entry.inode instanceof BoundFile) entry.inode.entry = entry;
  }

  nameOf(inode: Inode): Entry | undefined {
    return this.#names.get(inode);
  }

  /** A name of the inode went; after the last one the host may give its number to another file. */
  unlinked(inode: Inode): void {
    inode.unlinked();
    const key = this.#keys.get(inode);
    if (key !== undefined && (inode.isDirectory || inode.nlink <= 0)) this.#inodes.delete(key);
  }

  /** Stores through mappings reach the host. */
  sync(): void {
    for (const inode of this.#inodes.values()) if (inode instanceof BoundFile) inode.sync();
  }

  #make(path: string, stat: fs.BigIntStats): Inode {
    const mode = Number(stat.mode);
    switch (mode & S_IFMT) {
      case S_IFDIR:
        return new BoundDirectory(this, stat);
      case S_IFREG:
        return new BoundFile(this, stat);
      case S_IFLNK:
        return new BoundLink(this, path);
      default:
        return new BoundNode(this, stat);
    }
  }
}

function adopt(inode: Inode, stat: fs.BigIntStats): void {
  inode.mode = Number(stat.mode);
  inode.uid = Number(stat.uid);
  inode.gid = Number(stat.gid);
  inode.nlink = Number(stat.nlink);
  setStamp(inode.atime, stat.atimeNs);
  setStamp(inode.mtime, stat.mtimeNs);
  setStamp(inode.ctime, stat.ctimeNs);
  setStamp(inode.btime, stat.birthtimeNs);
  if (inode instanceof BoundFile) inode.adoptSize(Number(stat.size), Number(stat.blocks));
}

class BoundLink extends LinkInode {
  readonly #target: string;

  constructor(tree: BoundTree, path: string) {
    super(tree, S_IFLNK | 0o777, 0, 0);
    this.#target = onHost(() => fs.readlinkSync(hostPath(path), "latin1"));
  }

  override get size(): number {
    return this.#target.length;
  }

  target(): string {
    return this.#target;
  }
}

/** A FIFO, a socket or a device of the host by name alone: what opens is the run's own. */
class BoundNode extends NodeInode {
  readonly #tree: BoundTree;
  readonly #identity: HostIdentity;

  constructor(tree: BoundTree, stat: fs.BigIntStats) {
    super(tree, Number(stat.mode), 0, 0, Number(stat.rdev));
    this.#tree = tree;
    this.#identity = { dev: stat.dev, ino: stat.ino };
  }

  override setMode(mode: number): void {
    this.#onSelf((path) => fs.chmodSync(path, mode & 0o7777));
    super.setMode(mode);
  }

  override setOwner(uid: number, gid: number): void {
    this.#onSelf((path) => fs.chownSync(path, uid, gid));
    super.setOwner(uid, gid);
  }

  override timesSet(): void {
    this.#onSelf((path) => fs.utimesSync(path, hostSeconds(this.atime), hostSeconds(this.mtime)));
    super.timesSet();
  }

  #onSelf(use: (path: string) => void): void {
    const entry = this.#tree.nameOf(this);
    if (entry && !entry.deleted) withHandle(this.#tree.path(entry), this.#identity, use);
  }
}

class BoundDirectory extends DirectoryInode {
  readonly #tree: BoundTree;
  readonly #identity: HostIdentity;
  /** Entries handed out before: a name keeps its entry as long as it names the same file. */
  readonly #entries = new Map<string, Entry>();

  constructor(tree: BoundTree, stat: fs.BigIntStats) {
    super(tree, Number(stat.mode), Number(stat.uid), Number(stat.gid));
    this.#tree = tree;
    this.#identity = { dev: stat.dev, ino: stat.ino };
  }

  override get size(): number {
    return 4096;
  }

  override get blocks(): number {
    return 8;
  }

  lookup(at: Entry, name: string): Entry | undefined {
    return this.#within(at, (base) => {
      const path = `${base}/${name}`;
      const stat = fs.lstatSync(hostPath(path), { bigint: true, throwIfNoEntry: false });
      const known = this.#entries.get(name);
      if (!stat) {
        if (known) this.#gone(known);
        return undefined;
      }
      const inode = this.#tree.inode(path, stat);
      if (known?.inode === inode) return known;
      if (known) this.#gone(known);
      return this.#remember(new Entry(name, at, inode));
    });
  }

  list(at: Entry): Entry[] {
    const names = this.#within(at, (base) => hostNames(base));
    return names.flatMap((name) => this.lookup(at, name) ?? []);
  }

  override make(at: Entry, name: string, what: Making): Entry {
    this.#within(at, (base) => {
      const path = hostPath(`${base}/${name}`);
      const mode = what.mode & 0o7777;
      switch (what.mode & S_IFMT) {
        case S_IFREG: {
          const { O_CREAT, O_EXCL, O_WRONLY } = fs.constants;
          const fd = fs.openSync(path, O_CREAT | O_EXCL | O_WRONLY, mode);
          // Our own umask cut the bits a second time.
          fs.fchmodSync(fd, mode);
          fs.closeSync(fd);
          break;
        }
        case S_IFDIR:
          fs.mkdirSync(path, mode);
          fs.chmodSync(path, mode);
          break;
        case S_IFLNK:
          fs.symlinkSync(hostPath(what.target ?? ""), path);
          break;
        case S_IFIFO:
        case S_IFSOCK:
          makeHostNode(path, what.mode);
          fs.chmodSync(path, mode);
          break;
        default:
          fail(Errno.EPERM, "devices are not made on the host");
      }
    });
    return this.lookup(at, name) ?? fail(Errno.ENOENT);
  }

  override link(at: Entry, name: string, inode: Inode): Entry {
    const source = this.#tree.nameOf(inode) ?? fail(Errno.ENOENT, "no name of the file is known");
    const sourceDirectory = source.parent;
    const parent = sourceDirectory?.inode;
    if (!sourceDirectory || !(parent instanceof BoundDirectory)) return fail(Errno.EXDEV);
    parent.#within(sourceDirectory, (from) =>
      this.#within(at, (base) => fs.linkSync(hostPath(`${from}/${source.name}`), hostPath(`${base}/${name}`))),
    );
    return this.lookup(at, name) ?? fail(Errno.ENOENT);
  }

  override remove(entry: Entry): void {
    const at = entry.parent ?? fail(Errno.EBUSY);
    this.#within(at, (base) => {
      const path = hostPath(`${base}/${entry.name}`);
      if (entry.inode.isDirectory) fs.rmdirSync(path);
      else fs.unlinkSync(path);
    });
    this.#gone(entry);
    this.#tree.unlinked(entry.inode);
  }

  override rename(entry: Entry, to: Entry, name: string, replaced: Entry | undefined): void {
    const at = entry.parent ?? fail(Errno.EBUSY);
    const target = to.inode;
    if (!(target instanceof BoundDirectory)) throw new VfsError(Errno.EXDEV);
    this.#within(at, (base) =>
      target.#within(to, (toBase) => fs.renameSync(hostPath(`${base}/${entry.name}`), hostPath(`${toBase}/${name}`))),
    );
    if (replaced) {
      target.#gone(replaced);
      this.#tree.unlinked(replaced.inode);
    }
    this.#entries.delete(entry.name);
    entry.name = name;
    entry.parent = to;
    target.#remember(entry);
  }

  override setMode(mode: number): void {
    super.setMode(mode);
    this.#onSelf((path) => fs.chmodSync(path, mode & 0o7777));
  }

  override setOwner(uid: number, gid: number): void {
    super.setOwner(uid, gid);
    this.#onSelf((path) => fs.chownSync(path, uid, gid));
  }

  override timesSet(): void {
    super.timesSet();
    this.#onSelf((path) => fs.utimesSync(path, hostSeconds(this.atime), hostSeconds(this.mtime)));
  }

  /** Its entry, known once somebody looked into it or for it. */
  #self: Entry | undefined;

  #onSelf(use: (path: string) => void): void {
    const at = this.#self;
    if (at) withHandle(this.#tree.path(at), this.#identity, use);
  }

  #within<T>(at: Entry, use: (base: string) => T): T {
    this.#self = at;
    return withHandle(this.#tree.path(at), this.#identity, use);
  }

  #remember(entry: Entry): Entry {
    this.#entries.set(entry.name, entry);
    const { inode } = entry;
    this.#tree.named(entry);
    if (inode instanceof BoundDirectory) inode.#self = entry;
    return entry;
  }

  #gone(entry: Entry): void {
    entry.deleted = true;
    this.#entries.delete(entry.name);
  }
}
