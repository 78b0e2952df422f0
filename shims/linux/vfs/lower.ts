import fs from "node:fs";
import { Errno } from "../errno.ts";
import { fail, hostErrno, onHost, VfsError } from "./error.ts";
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "./flags.ts";
import { type HostIdentity, hostLstat, hostNames, hostPath, openVerified, setStamp } from "./host-path.ts";
import { type FileSystem, type Inode, NodeInode } from "./inode.ts";
import { type LowerDirectory, MemoryDirectory } from "./memory.ts";
import { type LowerContent, MemoryFile } from "./memory-file.ts";
import { TextLink } from "./proc/text-link.ts";

/** Descriptors of the host that are kept open for reading; more files than this are opened again when needed. */
const OPEN_FILES = 128;
/** What ext4 says of a small directory. */
const PLAIN_DIRECTORY_SIZE = 4096;

/** How a host tree shows itself, and who is told of its use. */
export interface LowerOptions {
  /** Called with each path of the host that is there and was asked for, latin1 of its bytes. */
  readonly saw?: ((path: string) => void) | undefined;
  /** Called with each file whose content may have been read. */
  readonly opened?: ((path: string) => void) | undefined;
  /** Called with each directory whose names were read. */
  readonly listed?: ((path: string) => void) | undefined;
  /** Everything belongs to root, and only the time of the last change counts: what a copy of the files has in common with them. */
  readonly plain?: boolean | undefined;
}

/**
 * A read-only tree of the host beneath an in-memory one. It is taken as unchanging while the guest runs: what was looked up
 * once stays so. Its FIFOs, sockets and devices are names only; the host's own are never opened.
 */
export class LowerLayer {
  readonly #fs: FileSystem;
  readonly #options: LowerOptions;
  /** Hard links: one inode for all their names. */
  readonly #linked = new Map<string, Inode>();
  /** Least recently used first. */
  readonly #open = new Map<LowerFile, number>();

  constructor(fileSystem: FileSystem, options: LowerOptions = {}) {
    this.#fs = fileSystem;
    this.#options = options;
  }

  /** The inode for a path of the host, the last component not followed; undefined when there is none. */
  inode(path: string): Inode | undefined {
    const stat = hostLstat(path);
    if (!stat) return undefined;
    this.#options.saw?.(path);
    const key = `${stat.dev}:${stat.ino}`;
    const shared = stat.nlink > 1n && !stat.isDirectory();
    const known = shared ? this.#linked.get(key) : undefined;
    if (known) return known;
    const inode = this.#make(path, stat);
    inode.nlink = Number(stat.nlink);
    const { plain = false } = this.#options;
    setStamp(inode.atime, plain ? stat.mtimeNs : stat.atimeNs);
    setStamp(inode.mtime, stat.mtimeNs);
    setStamp(inode.ctime, plain ? stat.mtimeNs : stat.ctimeNs);
    setStamp(inode.btime, plain ? stat.mtimeNs : stat.birthtimeNs);
    if (shared) this.#linked.set(key, inode);
    return inode;
  }

  close(): void {
    for (const fd of this.#open.values()) fs.closeSync(fd);
    this.#open.clear();
  }

  /** A descriptor of the host for the file; the one used least recently goes when there are too many. */
  descriptor(file: LowerFile): number {
    const known = this.#open.get(file);
    if (known !== undefined) {
      this.#open.delete(file);
      this.#open.set(file, known);
      return known;
    }
    const fd = openVerified(file.path, fs.constants.O_RDONLY, file.identity);
    this.#options.opened?.(file.path);
    if (this.#open.size >= OPEN_FILES) {
      for (const [oldest, old] of this.#open) {
        fs.closeSync(old);
        this.#open.delete(oldest);
        break;
      }
    }
    this.#open.set(file, fd);
    return fd;
  }

  #make(path: string, stat: fs.BigIntStats): Inode {
    this.#fs.found++;
    const mode = Number(stat.mode);
    const [uid, gid] = this.#options.plain ? [0, 0] : [Number(stat.uid), Number(stat.gid)];
    switch (mode & S_IFMT) {
      case S_IFDIR:
        return new MemoryDirectory(this.#fs, mode, uid, gid, this.#directory(path, stat));
      case S_IFREG:
        return new MemoryFile(this.#fs, mode, uid, gid, new LowerFile(this, path, stat));
      case S_IFLNK:
        return new TextLink(
          this.#fs,
          onHost(() => fs.readlinkSync(hostPath(path), "latin1")),
          uid,
          gid,
        );
      default:
        return new NodeInode(this.#fs, mode, uid, gid, Number(stat.rdev));
    }
  }

  #directory(path: string, stat: fs.BigIntStats): LowerDirectory {
    const prefix = path === "/" ? "/" : `${path}/`;
    const { plain = false } = this.#options;
    return {
      size: plain ? PLAIN_DIRECTORY_SIZE : Number(stat.size),
      blocks: plain ? PLAIN_DIRECTORY_SIZE / 512 : Number(stat.blocks),
      lookup: (name) => this.inode(prefix + name),
      names: () => {
        this.#options.listed?.(path);
        return hostNames(path);
      },
    };
  }
}

class LowerFile implements LowerContent {
  readonly path: string;
  readonly size: number;
  readonly identity: HostIdentity;
  readonly #layer: LowerLayer;

  constructor(layer: LowerLayer, path: string, stat: fs.BigIntStats) {
    this.#layer = layer;
    this.path = path;
    this.size = Number(stat.size);
    this.identity = { dev: stat.dev, ino: stat.ino };
  }

  open(): void {
    this.#layer.descriptor(this);
  }

  read(into: Uint8Array, position: number): number {
    try {
      const fd = this.#layer.descriptor(this);
      let done = 0;
      while (done < into.length) {
        const got = fs.readSync(fd, into, done, into.length - done, position + done);
        if (got === 0) break;
        done += got;
      }
      return done;
    } catch (error) {
      if (error instanceof VfsError) return -error.errno;
      const errno = hostErrno(error);
      if (errno === undefined) throw error;
      return -errno;
    }
  }
}

/** The directory of the host that `--root` or `--bind` names, its symbolic links resolved once, on the host. */
export function hostDirectory(path: string): string {
  const real = onHost(() => fs.realpathSync.native(hostPath(path), { encoding: "latin1" }));
  return fs.statSync(hostPath(real)).isDirectory() ? real : fail(Errno.ENOTDIR, `${path} is no directory`);
}
