/** /proc/pid/ns: links to the namespaces that a process is in, which setns(2) takes (namespaces(7), fs/nsfs.c). */
import { Errno } from "../../errno.ts";
import type { NamespaceSet } from "../../namespaces/set.ts";
import { shownId, type UserNamespace } from "../../namespaces/user.ts";
import type { Kernel, Process, Task } from "../../task.ts";
import { install } from "../call-context.ts";
import { fail } from "../error.ts";
import { S_IFREG } from "../flags.ts";
import { Entry, type FileSystem, type Inode } from "../inode.ts";
import { OpenFile, SelfOpening } from "../open-file.ts";
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
/** Numbers of those that a run makes. */
const FIRST_NEW = 0xf000_0000;

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

/** A namespace: what keeps its state, and which user namespace it belongs to (of a user namespace itself). */
export interface NamespaceRef {
  readonly kind: Kind;
  /** What the thread is in that it was found by. */
  readonly namespaces: NamespaceSet & { readonly user: UserNamespace | undefined };
  /** Undefined where there is only the first. */
  readonly state: object | undefined;
  readonly owner: UserNamespace | undefined;
}

function refOf(task: Task, kind: Kind): NamespaceRef {
  const { uts, ipc, cgroup } = task.namespaces;
  const user = task.cred.userNamespace;
  const namespaces = { ...task.namespaces, user };
  switch (kind) {
    case "uts":
      return { kind, namespaces, state: uts, owner: uts.owner };
    case "ipc":
      return { kind, namespaces, state: ipc, owner: ipc.owner };
    case "cgroup":
      return { kind, namespaces, state: cgroup, owner: cgroup.owner };
    case "user":
      return { kind, namespaces, state: user, owner: user };
    default:
      return { kind, namespaces, state: undefined, owner: undefined };
  }
}

/** An open namespace. */
export class NamespaceOpen extends OpenFile {
  readonly ref: NamespaceRef;
  readonly #all: Namespaces;

  constructor(entry: Entry, flags: number, ref: NamespaceRef, all: Namespaces) {
    super(entry, flags);
    this.ref = ref;
    this.#all = all;
  }

  /** CLONE_NEW*. */
  get flag(): number {
    return KINDS[this.ref.kind].flag;
  }

  read(): number {
    return -Errno.EINVAL;
  }

  write(): number {
    return -Errno.EINVAL;
  }

  override ioctl(task: Task, request: number, argument: number): number | undefined {
    const { kind, owner } = this.ref;
    switch (request) {
      case NS_GET_NSTYPE:
        return this.flag;
      case NS_GET_USERNS:
        return kind === "user" ? this.#above(task, owner) : this.#openUser(task, owner);
      case NS_GET_PARENT:
        if (kind === "user") return this.#above(task, owner);
        if (kind === "pid") return task.fail(Errno.EPERM, "the first one has none above");
        return task.fail(Errno.EINVAL, "this kind has no order");
      case NS_GET_OWNER_UID:
        if (kind !== "user") return task.fail(Errno.EINVAL, "only user namespaces have owners");
        task.memory.setU32(argument, shownId(task.cred.userNamespace, "uid", owner?.owner ?? 0));
        return 0;
      default:
        return undefined;
    }
  }

  /** The user namespace around one, unless it lies outside the caller's. */
  #above(task: Task, namespace: UserNamespace | undefined): number {
    if (namespace === undefined || namespace === task.cred.userNamespace)
      return task.fail(Errno.EPERM, "there is none above, or none that the caller may see");
    return this.#openUser(task, namespace.parent);
  }

  #openUser(task: Task, owner: UserNamespace | undefined): number {
    const namespaces = { ...task.namespaces, user: owner };
    const ref: NamespaceRef = { kind: "user", namespaces, state: owner, owner };
    return install(task, new NamespaceOpen(this.#all.entry(ref), 0, ref, this.#all), true);
  }
}

class Namespace extends SelfOpening {
  readonly #ref: NamespaceRef;
  readonly #all: Namespaces;

  constructor(fs: FileSystem, ref: NamespaceRef, number: number, all: Namespaces) {
    super(fs, S_IFREG | 0o444, 0, 0, number);
    this.#ref = ref;
    this.#all = all;
  }

  open(entry: Entry, flags: number): OpenFile {
    return new NamespaceOpen(entry, flags, this.#ref, this.#all);
  }
}

/** Makes the directories `ns`, over one inode for each namespace. */
export class Namespaces {
  readonly #first = new Map<Kind, Entry>();
  readonly #made = new WeakMap<object, Entry>();
  readonly #fs: FileSystem;
  readonly #kernel: Kernel;
  #next = FIRST_NEW;

  /** @param nsfs the file system of namespaces */
  constructor(nsfs: FileSystem, kernel: Kernel) {
    this.#fs = nsfs;
    this.#kernel = kernel;
  }

  #isFirst({ kind, state }: NamespaceRef): boolean {
    const { namespaces } = this.#kernel;
    return state === undefined || (kind in namespaces && Object.values(namespaces).includes(state));
  }

  entry(ref: NamespaceRef): Entry {
    const { kind, state } = ref;
    const first = this.#isFirst(ref);
    const known = first || state === undefined ? this.#first.get(kind) : this.#made.get(state);
    if (known !== undefined) return known;
    const number = first ? KINDS[kind].number : this.#next++;
    const entry = new Entry(`${kind}:[${number}]`, undefined, new Namespace(this.#fs, ref, number, this));
    if (first || state === undefined) this.#first.set(kind, entry);
    else this.#made.set(state, entry);
    return entry;
  }

  /** @param task the thread whose namespaces are meant */
  directory(proc: FileSystem, process: Process, task: () => Task | undefined): Inode {
    const { euid, egid } = process.cred;
    const links = NAMES.map(([name, kind]) => {
      const entry = (): Entry => {
        const of = task();
        return of === undefined ? fail(Errno.ENOENT, "the process has ended") : this.entry(refOf(of, kind));
      };
      return [name, new MagicLink(proc, () => entry().name, entry, 0o777, euid, egid)] as const;
    });
    return fixedDirectory(proc, Object.fromEntries(links), euid, egid, 0o511);
  }
}
