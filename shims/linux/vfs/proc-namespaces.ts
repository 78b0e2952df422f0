/** /proc/pid/ns: there is one namespace of each kind, and every process is in it (namespaces(7)). */
import { Errno } from "../errno.ts";
import type { Process, Task } from "../task.ts";
import { install } from "./call-context.ts";
import { S_IFREG } from "./flags.ts";
import { Entry, type FileSystem, type Inode } from "./inode.ts";
import { OpenFile, SelfOpening } from "./open-file.ts";
import { fixedDirectory, MagicLink } from "./proc.ts";

/** The kernel's own numbers of the first ones (uapi/linux/nsfs.h), and their CLONE_NEW*. */
const KINDS = {
  cgroup: { number: 0xeffffffb, flag: 0x0200_0000 },
  ipc: { number: 0xefffffff, flag: 0x0800_0000 },
  mnt: { number: 0xeffffff8, flag: 0x0002_0000 },
  net: { number: 0xeffffff9, flag: 0x4000_0000 },
  pid: { number: 0xeffffffc, flag: 0x2000_0000 },
  time: { number: 0xeffffffa, flag: 0x0000_0080 },
  user: { number: 0xeffffffd, flag: 0x1000_0000 },
  uts: { number: 0xeffffffe, flag: 0x0400_0000 },
} as const;
type Kind = keyof typeof KINDS;

const NAMES: readonly (readonly [string, Kind])[] = [
  ["cgroup", "cgroup"],
  ["ipc", "ipc"],
  ["mnt", "mnt"],
  ["net", "net"],
  ["pid", "pid"],
  ["pid_for_children", "pid"],
  ["time", "time"],
  ["time_for_children", "time"],
  ["user", "user"],
  ["uts", "uts"],
];

/** Requests of ioctl_nsfs(2). */
const NS_GET_USERNS = 0xb701;
const NS_GET_PARENT = 0xb702;
const NS_GET_NSTYPE = 0xb703;
const NS_GET_OWNER_UID = 0xb704;

/** An open namespace, which setns(2) takes. */
export class NamespaceOpen extends OpenFile {
  readonly #kind: Kind;
  readonly #user: () => Entry;

  /** @param user the user namespace, which all others belong to */
  constructor(entry: Entry, flags: number, kind: Kind, user: () => Entry) {
    super(entry, flags);
    this.#kind = kind;
    this.#user = user;
  }

  /** CLONE_NEW*. */
  get flag(): number {
    return KINDS[this.#kind].flag;
  }

  read(): number {
    return -Errno.EINVAL;
  }

  write(): number {
    return -Errno.EINVAL;
  }

  override ioctl(task: Task, request: number, argument: number): number | undefined {
    switch (request) {
      case NS_GET_NSTYPE:
        return this.flag;
      case NS_GET_USERNS:
        if (this.#kind === "user") return task.fail(Errno.EPERM, "the first one has none above");
        return install(task, new NamespaceOpen(this.#user(), 0, "user", this.#user), true);
      case NS_GET_PARENT:
        if (this.#kind === "user" || this.#kind === "pid")
          return task.fail(Errno.EPERM, "the first one has none above");
        return task.fail(Errno.EINVAL, "this kind has no order");
      case NS_GET_OWNER_UID:
        if (this.#kind !== "user") return task.fail(Errno.EINVAL, "only user namespaces have owners");
        task.memory.setU32(argument, 0);
        return 0;
      default:
        return undefined;
    }
  }
}

class Namespace extends SelfOpening {
  readonly #kind: Kind;
  readonly #user: () => Entry;

  constructor(fs: FileSystem, kind: Kind, user: () => Entry) {
    super(fs, S_IFREG | 0o444, 0, 0, KINDS[kind].number);
    this.#kind = kind;
    this.#user = user;
  }

  open(entry: Entry, flags: number): OpenFile {
    return new NamespaceOpen(entry, flags, this.#kind, this.#user);
  }
}

/** Makes the directories `ns`, over one inode for each namespace. */
export class Namespaces {
  readonly #entries = new Map<Kind, Entry>();
  readonly #fs: FileSystem;

  /** @param nsfs the file system of namespaces */
  constructor(nsfs: FileSystem) {
    this.#fs = nsfs;
  }

  #entry(kind: Kind): Entry {
    let entry = this.#entries.get(kind);
    if (entry === undefined) {
      entry = new Entry(
        `${kind}:[${KINDS[kind].number}]`,
        undefined,
        new Namespace(this.#fs, kind, () => this.#entry("user")),
      );
      this.#entries.set(kind, entry);
    }
    return entry;
  }

  directory(proc: FileSystem, process: Process): Inode {
    const { euid, egid } = process.cred;
    const links = NAMES.map(([name, kind]) => {
      const entry = this.#entry(kind);
      const text = (): string => entry.name;
      return [name, new MagicLink(proc, text, () => (process.ended ? undefined : entry), 0o777, euid, egid)] as const;
    });
    return fixedDirectory(proc, Object.fromEntries(links), euid, egid, 0o511);
  }
}
