import { Errno } from "../errno.ts";
import { fail } from "./error.ts";
import { NAME_MAX, PATH_MAX, S_IFLNK, S_IFMT, X_OK } from "./flags.ts";
import { type Credentials, DirectoryInode, demand, type Entry, LinkInode } from "./inode.ts";

/** From where and for whom a path is read. */
export interface WalkContext {
  readonly root: Entry;
  readonly cwd: Entry;
  readonly creds: Credentials;
}

/** How to read it: the lookup flags of the kernel's namei, RESOLVE_* of openat2(2) among them. */
export interface WalkRules {
  /** A symbolic link as the last component is followed. */
  follow: boolean;
  /** The last component may be missing; the answer says where it would be. */
  mayMiss?: boolean;
  /** The last component is not looked at (the operation changes its name): `.` and `..` are told apart. */
  naming?: boolean;
  noXdev?: boolean;
  noMagicLinks?: boolean;
  noSymlinks?: boolean;
  beneath?: boolean;
  inRoot?: boolean;
}

/** What the last component is, in the kernel's terms LAST_NORM, LAST_DOT, LAST_DOTDOT, LAST_ROOT. */
type LastKind = "name" | "dot" | "dotdot" | "root";

export interface Walked {
  /** The directory that holds (or would hold) the last component. */
  dir: Entry;
  name: string;
  kind: LastKind;
  /** Undefined only with `mayMiss` or `naming`. */
  entry: Entry | undefined;
  /** The path ended in a slash. */
  slash: boolean;
}

/** path_resolution(7): more links than this are ELOOP. */
const MAX_LINKS = 40;

/** The directory at an entry, when it may be searched: ENOTDIR, EACCES. */
function searchable(at: Entry, creds: Credentials): DirectoryInode {
  const { inode } = at;
  if (!(inode instanceof DirectoryInode)) return fail(Errno.ENOTDIR, `"${at.name}" is no directory`);
  demand(inode, creds, X_OK);
  return inode;
}

/** The child of a directory by name (never `.` or `..`), on top of what is mounted there. */
function lookup(at: Entry, name: string, creds: Credentials): Entry | undefined {
  const directory = searchable(at, creds);
  if (name.length > NAME_MAX) return fail(Errno.ENAMETOOLONG, `a name of ${name.length} bytes`);
  return directory.lookup(at, name)?.top;
}

/** The directory above; the given root is its own parent. */
export function parentOf(at: Entry, root: Entry): Entry {
  if (at === root) return at;
  return at.named.parent ?? at;
}

/**
 * Reads a path, component by component, in the guest's tree alone: the host never resolves more than one name.
 * @param start the directory that a relative path starts from
 */
export function walk(context: WalkContext, start: Entry, given: string, rules: WalkRules): Walked {
  const { creds } = context;
  if (given.length === 0) fail(Errno.ENOENT, "the path is empty");
  if (given.length >= PATH_MAX) fail(Errno.ENAMETOOLONG, `a path of ${given.length} bytes`);
  const root = rules.inRoot || rules.beneath ? start : context.root;
  let path = given;
  let position = 0;
  let links = 0;
  let at = start;
  if (path[0] === "/") at = toRoot(root, rules);

  for (;;) {
    while (path[position] === "/") position++;
    if (position >= path.length) return { dir: at, name: "", kind: "root", entry: at, slash: true };
    let end = path.indexOf("/", position);
    if (end < 0) end = path.length;
    const name = path.slice(position, end);
    position = end;
    while (path[position] === "/") position++;
    const last = position >= path.length;
    const slash = end < path.length;

    if (name === "." || name === "..") {
      searchable(at, creds);
      const dir = at;
      if (name === "..") {
        if (at === root && rules.beneath) fail(Errno.EXDEV, "`..` leaves the directory (RESOLVE_BENEATH)");
        at = parentOf(at, root);
        if (rules.noXdev && at.inode.fs !== dir.inode.fs) fail(Errno.EXDEV, "another mount (RESOLVE_NO_XDEV)");
      }
      if (last) return { dir, name, kind: name === "." ? "dot" : "dotdot", entry: at, slash };
      continue;
    }

    const child = lookup(at, name, creds);
    if (!child) {
      if (last && (rules.mayMiss || rules.naming)) return { dir: at, name, kind: "name", entry: undefined, slash };
      return fail(Errno.ENOENT, `no "${name}" in ${pathOf(at, context.root)}`);
    }
    const { inode } = child;
    if ((inode.mode & S_IFMT) === S_IFLNK && inode instanceof LinkInode) {
      const through = !last || (rules.naming ? false : rules.follow || slash);
      if (through) {
        if (rules.noSymlinks || ++links > MAX_LINKS) fail(Errno.ELOOP, `too many symbolic links at "${name}"`);
        inode.accessed();
        if (inode.magic) {
          const jump = inode.jump() ?? fail(Errno.ENOENT, `"${name}" leads nowhere any more`);
          if (rules.noMagicLinks || rules.noSymlinks) fail(Errno.ELOOP, "a magic link (RESOLVE_NO_MAGICLINKS)");
          if (rules.beneath || rules.inRoot) fail(Errno.EXDEV, "a magic link leaves the directory");
          if (last) return { dir: at, name, kind: "name", entry: jump, slash };
          at = jump;
          continue;
        }
        const target = inode.target();
        if (target === "") fail(Errno.ENOENT, "an empty symbolic link");
        if (target[0] === "/") at = toRoot(root, rules);
        path = slash ? `${target}/${path.slice(position)}` : target;
        position = 0;
        continue;
      }
    }
    if (rules.noXdev && inode.fs !== at.inode.fs) fail(Errno.EXDEV, "another mount (RESOLVE_NO_XDEV)");
    if (last) {
      if (slash && !rules.naming && !inode.isDirectory) fail(Errno.ENOTDIR, `"${name}" is no directory`);
      return { dir: at, name, kind: "name", entry: child, slash };
    }
    at = child;
  }
}

function toRoot(root: Entry, rules: WalkRules): Entry {
  if (rules.beneath) return fail(Errno.EXDEV, "an absolute path (RESOLVE_BENEATH)");
  return root;
}

/** As {@link walk} where the file must be there. */
export function find(context: WalkContext, start: Entry, path: string, follow: boolean): Entry {
  const { entry } = walk(context, start, path, { follow });
  return entry ?? fail(Errno.ENOENT);
}

/** The absolute path of an entry below `root`, as getcwd(2) and /proc tell it; " (deleted)" follows when it is gone. */
export function pathOf(entry: Entry, root: Entry): string {
  const names: string[] = [];
  let gone = false;
  let at = entry;
  while (at !== root) {
    const named = at.named;
    gone ||= named.deleted;
    const { parent } = named;
    // No parent: another root (a chroot that was left) or a file without a name, which prints its own.
    if (!parent) return names.length === 0 ? named.name : `/${names.reverse().join("/")}`;
    names.push(named.name);
    at = parent;
  }
  return `/${names.reverse().join("/")}${gone ? " (deleted)" : ""}`;
}

/** Is `entry` the directory `above` or somewhere below it? */
export function isBelow(entry: Entry, above: Entry): boolean {
  for (let at: Entry | undefined = entry; at; at = at.named.parent) if (at === above) return true;
  return false;
}
