import fs from "node:fs";
import path from "node:path";
import { UserError } from "../../../emulator/errors.ts";
import { Errno } from "../errno.ts";
import type { Kernel } from "../task.ts";
import { BoundTree } from "./bound.ts";
import { BoundFile } from "./bound-file.ts";
import { type Closure, libraryClosure } from "./closure.ts";
import { CONSOLE_DEVICE, MEMORY_MAJOR, Minor, makeDevice, PTMX_DEVICE, TTY_DEVICE } from "./devices.ts";
import { hostErrno, VfsError } from "./error.ts";
import { S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG, S_ISVTX } from "./flags.ts";
import { guestBytes } from "./host-path.ts";
import { HostStreamInode, HostStreamOpen, streamFlags, streamName } from "./host-stream.ts";
import { DirectoryInode, type Entry, type Inode, KERNEL, LinkInode } from "./inode.ts";
import { hostDirectory, LowerLayer, type LowerOptions } from "./lower.ts";
import { MemoryDirectory } from "./memory.ts";
import { MemoryFile } from "./memory-file.ts";
import { type MemoryStreams, openMemoryStreams } from "./memory-stream.ts";
import { procRoot } from "./proc/kernel.ts";
import { systemRoot } from "./system.ts";
import { HostTerminal } from "./tty/host-terminal.ts";
import { type FileTable, TMPFS_MAGIC, Vfs, type VfsSources } from "./vfs.ts";
import { walk } from "./walk.ts";

/** `--bind HOST:GUEST[:rw]`. */
export interface Bind {
  readonly host: string;
  /** Absolute guest path. */
  readonly guest: string;
  /** Changes go to the host; otherwise they stay in memory. */
  readonly writable: boolean;
}

export interface RootOptions {
  /** A directory of the host shown as `/`; changes stay in memory. */
  readonly root?: string;
  readonly binds?: readonly Bind[];
  /** Absolute path of the program: in `root` where that has the file, else of the host, and it appears with what it needs. */
  readonly program?: string;
  /** Where a program of the host appears instead: an absolute guest path, the same on every machine. */
  readonly programAt?: string;
  /** The guest's LD_LIBRARY_PATH, for finding libraries. */
  readonly libraryPath?: string;
  /** Host descriptors of the guest's standard streams; 0, 1, 2 if omitted. */
  readonly stdio?: readonly number[];
  /** Standard streams of our own in place of the host's. */
  readonly streams?: MemoryStreams;
  /** How files of the host show, and who is told of their use. */
  readonly lower?: LowerOptions;
  readonly user: { readonly uid: number; readonly gid: number; readonly name: string };
  readonly hostname?: string;
  /** The guest has the host's network, and needs to know its name servers. */
  readonly hostNetwork?: boolean;
}

/** The guest's files at the start of a run. */
export interface GuestRoot {
  readonly vfs: Vfs;
  /** Absolute guest path of the program. */
  readonly program: string;
  /** Where the first process starts. */
  readonly cwd: Entry;
  /** Descriptors 0, 1 and 2. */
  readonly files: FileTable;
  readonly closure: Closure | undefined;
  /** Mounts /proc and /sys; call it when the kernel is there. */
  attach(kernel: Kernel): void;
}

/**
 * Builds the guest's tree. Without `root` it holds nothing of the host but the program, its interpreter and its libraries,
 * each under its own absolute path.
 * @throws {UserError} 125 for a bad `--root` or `--bind`, 126 or 127 for the program
 */
export function makeRoot(sources: VfsSources, options: RootOptions): GuestRoot {
  let lower: LowerLayer | undefined;
  const hostRoot = options.root === undefined ? undefined : directoryOption("--root", options.root);
  const vfs = new Vfs(sources, (rootFs) => {
    lower = new LowerLayer(rootFs, options.lower);
    const given = hostRoot === undefined ? undefined : lower.inode(hostRoot);
    return given ?? new MemoryDirectory(rootFs, 0o755, 0, 0);
  });
  const builder = new Builder(vfs, lower ?? new LowerLayer(vfs.rootFs, options.lower), options.lower);
  vfs.onClose(() => builder.lower.close());
  for (const bind of options.binds ?? []) builder.bind(bind);
  const { program, closure } = placeProgram(builder, options, hostRoot);
  builder.standard(options);
  const { streams, stdio = streams === undefined ? [0, 1, 2] : [] } = options;
  const terminal = HostTerminal.among(stdio);
  const files = builder.stdio(stdio, terminal, options.user);
  if (streams !== undefined) openMemoryStreams(vfs, files, options.user, streams);
  if (terminal) vfs.onClose(() => terminal.restore());
  const attach = (kernel: Kernel) => {
    vfs.kernel = kernel;
    vfs.mount(builder.directory("/proc"), procRoot(vfs, kernel));
    vfs.mount(builder.directory("/sys"), systemRoot(vfs, kernel));
  };
  return { vfs, program, closure, cwd: startDirectory(vfs), files, attach };
}

/** Where we were started, if the guest has it; else its root. */
function startDirectory(vfs: Vfs): Entry {
  const context = { root: vfs.root, cwd: vfs.root, creds: KERNEL };
  const { entry } = walkOrMiss(context, guestBytes(process.cwd()));
  return entry?.inode.isDirectory ? entry : vfs.root;
}

function walkOrMiss(
  context: { root: Entry; cwd: Entry; creds: typeof KERNEL },
  name: string,
): { entry: Entry | undefined } {
  try {
    return walk(context, context.root, name, { follow: true });
  } catch (error) {
    if (error instanceof VfsError) return { entry: undefined };
    throw error;
  }
}

function directoryOption(option: string, given: string): string {
  try {
    return hostDirectory(guestBytes(path.resolve(given)));
  } catch (error) {
    if (error instanceof VfsError)
      throw new UserError(`cannot use ${option} ${given}: it is no directory that can be read`, 125);
    throw error;
  }
}

function placeProgram(
  builder: Builder,
  options: RootOptions,
  hostRoot: string | undefined,
): { program: string; closure: Closure | undefined } {
  if (options.program === undefined) return { program: "", closure: undefined };
  const given = guestBytes(options.program);
  // A path that lies in the given root (or bind) is the guest's own already, with everything around it.
  if (hostRoot === "/") return { program: given, closure: undefined };
  if (hostRoot !== undefined && given.startsWith(`${hostRoot}/`))
    return { program: given.slice(hostRoot.length), closure: undefined };
  if (hostRoot !== undefined) {
    const { vfs } = builder;
    const { entry } = walkOrMiss({ root: vfs.root, cwd: vfs.root, creds: KERNEL }, given);
    if (entry?.inode.kind === S_IFREG || !fs.existsSync(options.program)) return { program: given, closure: undefined };
  }
  const closure = libraryClosure(options.program, options.libraryPath);
  for (const file of closure.files)
    if (options.programAt === undefined || file !== options.program)
      builder.import(guestBytes(file), hostRoot === undefined || file === options.program);
  if (closure.needsCache && hostRoot === undefined) builder.import("/etc/ld.so.cache", true);
  const { programAt } = options;
  if (programAt === undefined) return { program: given, closure };
  builder.bind({ host: options.program, guest: programAt, writable: false });
  return { program: guestBytes(programAt), closure };
}

class Builder {
  readonly vfs: Vfs;
  readonly lower: LowerLayer;
  readonly #lowerOptions: LowerOptions | undefined;

  constructor(vfs: Vfs, lower: LowerLayer, lowerOptions: LowerOptions | undefined) {
    this.vfs = vfs;
    this.lower = lower;
    this.#lowerOptions = lowerOptions;
  }

  /** The directory at a guest path, made (in memory) where it is missing. */
  directory(guest: string): Entry {
    return this.#descend(this.vfs.root, guest.split("/").filter(Boolean), 0);
  }

  #descend(from: Entry, names: readonly string[], links: number): Entry {
    let at = from;
    for (const [index, name] of names.entries()) {
      if (name === ".") continue;
      if (name === "..") {
        at = at.named.parent ?? at;
        continue;
      }
      const { inode } = at;
      if (!(inode instanceof DirectoryInode))
        throw new UserError(`cannot make ${names.join("/")} in the guest: "${at.name}" is a file there`, 125);
      const child = inode.lookup(at, name)?.top ?? inode.make(at, name, { mode: S_IFDIR | 0o755, uid: 0, gid: 0 });
      if (child.inode.kind === S_IFLNK) {
        if (links > 40)
          throw new UserError(`cannot make ${names.join("/")} in the guest: too many symbolic links`, 125);
        const target = linkTarget(child.inode);
        const rest = [...target.split("/").filter(Boolean), ...names.slice(index + 1)];
        return this.#descend(target.startsWith("/") ? this.vfs.root : at, rest, links + 1);
      }
      at = child;
    }
    return at;
  }

  bind(bind: Bind): void {
    if (!bind.guest.startsWith("/"))
      throw new UserError(`cannot use --bind ${bind.host}:${bind.guest}: the guest path is not absolute`, 125);
    const source = path.resolve(bind.host);
    if (!fs.existsSync(source))
      throw new UserError(`cannot use --bind ${bind.host}:${bind.guest}: ${bind.host} is not there`, 125);
    const real = guestBytes(fs.realpathSync(source));
    let inode: Inode | undefined;
    if (bind.writable) {
      inode = new BoundTree(this.vfs.host, this.vfs.newDevice(), real).root;
    } else {
      const overlay = this.vfs.newMemoryFileSystem("overlay", TMPFS_MAGIC);
      overlay.extents = true;
      const layer = new LowerLayer(overlay, this.#lowerOptions);
      this.vfs.onClose(() => layer.close());
      inode = layer.inode(real);
    }
    if (!inode || (inode.kind !== S_IFDIR && inode.kind !== S_IFREG)) {
      throw new UserError(`cannot use --bind ${bind.host}:${bind.guest}: only files and directories can be bound`, 125);
    }
    const top = this.vfs.mount(this.#mountPoint(guestBytes(bind.guest), inode), inode);
    if (inode instanceof BoundFile) inode.entry = top;
  }

  #mountPoint(guest: string, inode: Inode): Entry {
    if (inode.isDirectory) return this.directory(guest);
    const parent = this.directory(path.posix.dirname(guest));
    const directory = parent.inode;
    if (!(directory instanceof DirectoryInode)) throw new UserError(`cannot bind a file at ${guest}`, 125);
    const name = path.posix.basename(guest);
    return (
      directory.lookup(parent, name)?.top ?? directory.make(parent, name, { mode: S_IFREG | 0o644, uid: 0, gid: 0 })
    );
  }

  /**
   * Shows one file of the host under its own path. Symbolic links on the way are made as they are on the host, so the guest
   * sees `/lib64/ld-linux-x86-64.so.2` and what it leads to.
   * @param over replaces what the guest's root has there
   */
  import(host: string, over: boolean): void {
    let at = this.vfs.root;
    let names = host.split("/").filter(Boolean);
    let hostAt = "";
    for (let steps = 0; names.length > 0 && steps < 200; steps++) {
      const [name = "", ...rest] = names;
      names = rest;
      if (name === "." || name === "") continue;
      if (name === "..") {
        at = at.named.parent ?? at;
        hostAt = path.posix.dirname(`${hostAt}/.`) === "." ? "" : hostAt.slice(0, Math.max(hostAt.lastIndexOf("/"), 0));
        continue;
      }
      const { inode } = at;
      if (!(inode instanceof DirectoryInode)) return;
      const there = inode.lookup(at, name)?.top;
      const hostName = `${hostAt}/${name}`;
      const stat = fs.lstatSync(Buffer.from(hostName, "latin1"), { throwIfNoEntry: false });
      if (!stat) return;
      if (stat.isSymbolicLink()) {
        const target = fs.readlinkSync(Buffer.from(hostName, "latin1"), "latin1");
        if (!there) inode.make(at, name, { mode: S_IFLNK | 0o777, uid: 0, gid: 0, target });
        names = [...target.split("/").filter(Boolean), ...names];
        if (target.startsWith("/")) {
          at = this.vfs.root;
          hostAt = "";
        }
        continue;
      }
      hostAt = hostName;
      if (stat.isDirectory()) {
        // Nothing else of it is shown, so nobody is kept from what lies below: a home of mode 700 holds many a program.
        const mode = S_IFDIR | (stat.mode & 0o7777) | 0o555;
        at = there ?? inode.make(at, name, { mode, uid: stat.uid, gid: stat.gid });
        continue;
      }
      if (there && !over) return;
      const file = this.lower.inode(hostName);
      if (!file) return;
      // Alone in its directory: links elsewhere on the host are not the guest's.
      file.nlink = 1;
      if (there && inode instanceof MemoryDirectory && !there.covers) inode.remove(there);
      if (inode instanceof MemoryDirectory && inode.fs === file.fs) inode.attach(at, name, file);
      else if (there) this.vfs.mount(there, file);
      return;
    }
  }

  /** /tmp, /dev and a minimal /etc, where the given root has none of its own. */
  standard(options: RootOptions): void {
    const tmp = this.directory("/tmp");
    if (options.root === undefined && tmp.inode instanceof MemoryDirectory) tmp.inode.mode = S_IFDIR | S_ISVTX | 0o777;
    this.directory("/proc");
    this.directory("/sys");
    this.#devices();
    const { uid, gid, name } = options.user;
    const root = "root:x:0:0:root:/root:/bin/sh\n";
    const user = uid === 0 ? "" : `${name}:x:${uid}:${gid}:${name}:/:/bin/sh\n`;
    const hostname = options.hostname ?? "shimbed";
    this.#text("/etc/passwd", `${root}${user}nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n`);
    this.#text("/etc/group", `root:x:0:\n${gid === 0 ? "" : `${name}:x:${gid}:\n`}nogroup:x:65534:\n`);
    this.#text("/etc/hosts", `127.0.0.1\tlocalhost\n127.0.1.1\t${hostname}\n::1\tlocalhost\n`);
    this.#text("/etc/hostname", `${hostname}\n`);
    const network = options.hostNetwork === true;
    if (network) this.import("/etc/resolv.conf", false);
    const names = network ? "files dns" : "files";
    this.#text("/etc/nsswitch.conf", `passwd: files\ngroup: files\nshadow: files\nhosts: ${names}\n`);
  }

  #devices(): void {
    const fileSystem = this.vfs.newMemoryFileSystem("devtmpfs", TMPFS_MAGIC);
    const dev = new MemoryDirectory(fileSystem, 0o755, 0, 0);
    const at = this.vfs.mount(this.directory("/dev"), dev);
    const device = (name: string, rdev: number) => dev.make(at, name, { mode: S_IFCHR | 0o666, uid: 0, gid: 0, rdev });
    for (const [name, minor] of Object.entries(Minor)) device(name, makeDevice(MEMORY_MAJOR, minor));
    device("tty", TTY_DEVICE);
    device("console", CONSOLE_DEVICE);
    device("ptmx", PTMX_DEVICE);
    const link = (name: string, target: string) =>
      dev.make(at, name, { mode: S_IFLNK | 0o777, uid: 0, gid: 0, target });
    link("fd", "/proc/self/fd");
    link("stdin", "/proc/self/fd/0");
    link("stdout", "/proc/self/fd/1");
    link("stderr", "/proc/self/fd/2");
    const pts = dev.make(at, "pts", { mode: S_IFDIR | 0o755, uid: 0, gid: 0 });
    // As devpts has it where nobody asks for another mode.
    if (pts.inode instanceof DirectoryInode)
      pts.inode.make(pts, "ptmx", { mode: S_IFCHR, uid: 0, gid: 0, rdev: PTMX_DEVICE });
    dev.make(at, "shm", { mode: S_IFDIR | S_ISVTX | 0o777, uid: 0, gid: 0 });
  }

  #text(guest: string, text: string): void {
    const parent = this.directory(path.posix.dirname(guest));
    const { inode } = parent;
    const name = path.posix.basename(guest);
    if (!(inode instanceof MemoryDirectory) || inode.lookup(parent, name)) return;
    const file = new MemoryFile(inode.fs, 0o644, 0, 0);
    file.write(Buffer.from(text), 0);
    inode.attach(parent, name, file);
  }

  /** Descriptors 0, 1, 2 over the host's; a descriptor the host has closed stays closed. */
  stdio(fds: readonly number[], terminal: HostTerminal | undefined, user: { uid: number; gid: number }): FileTable {
    const table = this.vfs.newFileTable();
    const streams = this.vfs.newFileSystem("hostfs", TMPFS_MAGIC);
    let tty: Entry | undefined;
    for (const [guestFd, hostFd] of fds.entries()) {
      if (!isOpen(hostFd)) continue;
      const onTerminal = terminal !== undefined && HostTerminal.among([hostFd]) !== undefined;
      const stream = new HostStreamInode(streams, hostFd, onTerminal ? terminal : undefined);
      if (onTerminal) tty ??= this.#terminal(new HostStreamInode(streams, terminal.fd, terminal), user);
      const entry = onTerminal && tty ? tty : this.vfs.anonymousEntry(stream, streamName(stream));
      table.set(guestFd, new HostStreamOpen(entry, streamFlags(hostFd), stream), false);
    }
    return table;
  }

  #terminal(inode: HostStreamInode, user: { uid: number; gid: number }): Entry {
    const { vfs } = this;
    const pts = this.directory("/dev/pts");
    inode.uid = user.uid;
    // The group "tty" of most distributions.
    inode.gid = 5;
    inode.mode = S_IFCHR | 0o620;
    vfs.terminal = inode;
    if (!(pts.inode instanceof MemoryDirectory)) return vfs.anonymousEntry(inode, "/dev/pts/0");
    return pts.inode.attach(pts, "0", inode);
  }
}

function isOpen(fd: number): boolean {
  try {
    fs.fstatSync(fd);
    return true;
  } catch (error) {
    if (hostErrno(error) === Errno.EBADF) return false;
    throw error;
  }
}

function linkTarget(inode: Inode): string {
  return inode instanceof LinkInode ? inode.target() : "";
}
