/** Extended attributes of files (xattr(7); errnos and their order as fs/xattr.c and the file systems' handlers have them). */

import { Errno } from "../errno.ts";
import { dirfd, fd, flags, pointer, size } from "../kinds/kinds.ts";
import { path, string } from "../kinds/memory.ts";
import { Cap } from "../process/capabilities.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { entryAt, fileCall, pathArgument } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, R_OK, S_IFDIR, S_IFREG, S_ISVTX, W_OK } from "../vfs/flags.ts";
import { demand, demandChangeable, type Entry, type Inode, owns } from "../vfs/inode.ts";
import { IN_ATTRIB, report } from "../vfs/watch.ts";
import { realFile } from "./attributes.ts";

const XATTR_NAME_MAX = 255;
const XATTR_SIZE_MAX = 65_536;
const Create = { XATTR_CREATE: 1, XATTR_REPLACE: 2 } as const;
const PREFIXES = ["user.", "trusted.", "security."] as const;
const ACCESS_LISTS: ReadonlySet<string> = new Set(["system.posix_acl_access", "system.posix_acl_default"]);

/** The file, looked for when all else has been read. */
type Find = () => Entry;

function nameAt(task: Task, address: number): string {
  const name = task.memory.cstring(address, XATTR_NAME_MAX + 1);
  return name === undefined || name === "" ? fail(Errno.ERANGE, "no name, or longer than 255 bytes") : name;
}

/** xattr_permission. */
function demandAccess(task: Task, inode: Inode, name: string, access: typeof R_OK | typeof W_OK): void {
  const { cred } = task.process;
  const refused = access === W_OK ? Errno.EPERM : Errno.ENODATA;
  if (access === W_OK) demandChangeable(inode);
  if (name.startsWith("security.") || name.startsWith("system.")) return;
  if (name.startsWith("trusted.")) {
    if (!cred.capable(Cap.CAP_SYS_ADMIN)) fail(refused, "trusted attributes take CAP_SYS_ADMIN");
    return;
  }
  if (name.startsWith("user.")) {
    const { kind } = inode;
    if (kind !== S_IFREG && kind !== S_IFDIR) fail(refused, "only files and directories have attributes of users");
    const sticky = kind === S_IFDIR && (inode.mode & S_ISVTX) !== 0;
    if (sticky && access === W_OK && !owns(inode, cred))
      fail(Errno.EPERM, "the directory is sticky and somebody else's");
  }
  demand(inode, cred, access);
}

/** cap_inode_setxattr and its counterpart. */
function demandSecurity(task: Task, name: string): void {
  if (!name.startsWith("security.")) return;
  const cap = name === "security.capability" ? Cap.CAP_SETFCAP : Cap.CAP_SYS_ADMIN;
  if (!task.process.cred.capable(cap)) fail(Errno.EPERM, "for privileged processes");
}

/** What the file system can keep at all: EOPNOTSUPP for other names. True for an access list, of which no file has one. */
function isAccessList(inode: Inode, name: string): boolean {
  if (!inode.fs.attributes) fail(Errno.EOPNOTSUPP, `${inode.fs.type} has no extended attributes`);
  if (ACCESS_LISTS.has(name)) return true;
  const prefix = PREFIXES.find((one) => name.startsWith(one));
  if (prefix === undefined) return fail(Errno.EOPNOTSUPP, `no attributes are named like "${name}"`);
  if (name === prefix) fail(Errno.EINVAL, "nothing follows the namespace");
  return false;
}

function setAttribute(task: Task, find: Find, at: number, value: number, length: number, how: number): number {
  if (how & ~(Create.XATTR_CREATE | Create.XATTR_REPLACE)) fail(Errno.EINVAL, "unknown flags");
  const name = nameAt(task, at);
  if (length > XATTR_SIZE_MAX) fail(Errno.E2BIG, "more than 64 KiB");
  const bytes = length === 0 ? new Uint8Array(0) : task.memory.bytes(value, length);
  const entry = find();
  const { inode } = entry;
  demandAccess(task, inode, name, W_OK);
  demandSecurity(task, name);
  if (isAccessList(inode, name)) fail(Errno.EOPNOTSUPP, "shimbed has no access control lists");
  const known = inode.attributes?.get(name);
  if (how & Create.XATTR_CREATE && known !== undefined) fail(Errno.EEXIST, "it is there already");
  if (how & Create.XATTR_REPLACE && known === undefined) fail(Errno.ENODATA, `no attribute "${name}"`);
  let total = name.length + bytes.length;
  for (const [other, content] of inode.attributes ?? []) if (other !== name) total += other.length + content.length;
  if (total > XATTR_SIZE_MAX) fail(Errno.ENOSPC, "the file's attributes take more than 64 KiB");
  inode.attributes ??= new Map();
  inode.attributes.set(name, bytes);
  inode.changed();
  report(entry, IN_ATTRIB);
  return 0;
}

/** Gives the guest `bytes`, or their number where it has no room at all. */
function give(task: Task, bytes: Uint8Array, at: number, room: number): number {
  if (room === 0) return bytes.length;
  if (bytes.length > room) fail(Errno.ERANGE, "it does not fit");
  task.memory.write(at, bytes);
  return bytes.length;
}

function getAttribute(task: Task, find: Find, at: number, value: number, room: number): number {
  const name = nameAt(task, at);
  const { inode } = find();
  demandAccess(task, inode, name, R_OK);
  const list = isAccessList(inode, name);
  const bytes = (list ? undefined : inode.attributes?.get(name)) ?? fail(Errno.ENODATA, `no attribute "${name}"`);
  return give(task, bytes, value, room);
}

function listAttributes(task: Task, { inode }: Entry, at: number, room: number): number {
  const names = [...(inode.attributes?.keys() ?? [])].filter(
    (name) => task.process.cred.capable(Cap.CAP_SYS_ADMIN) || !name.startsWith("trusted."),
  );
  return give(task, Buffer.from(names.map((name) => `${name}\0`).join(""), "latin1"), at, room);
}

function removeAttribute(task: Task, find: Find, at: number): number {
  const name = nameAt(task, at);
  const entry = find();
  const { inode } = entry;
  demandAccess(task, inode, name, W_OK);
  demandSecurity(task, name);
  if (isAccessList(inode, name)) return 0;
  if (!inode.attributes?.delete(name)) fail(Errno.ENODATA, `no attribute "${name}"`);
  inode.changed();
  report(entry, IN_ATTRIB);
  return 0;
}

type FindBy = (task: Task, file: number) => Entry;
const follow: FindBy = (task, name) => entryAt(task, AT_FDCWD, name, true);
const noFollow: FindBy = (task, name) => entryAt(task, AT_FDCWD, name, false);
const setFlags = flags("XATTR_", Create, "int");
const support =
  "kept in memory, up to 64 KiB a file; what files of the host have is not seen, and there are no access control lists";
const o = { family: "file", support } as const;

function rows(prefix: string, find: FindBy, x86_64: number, i386: number): Row[] {
  const kind = prefix === "f" ? fd : path;
  const numbers = (offset: number) => ({ x86_64: x86_64 + offset, i386: i386 + offset });
  const set = fileCall((task, file, name, value, length, how) =>
    setAttribute(task, () => find(task, file), name, value, length, how),
  );
  const get = fileCall((task, file, name, value, room) =>
    getAttribute(task, () => find(task, file), name, value, room),
  );
  const list = fileCall((task, file, at, room) => listAttributes(task, find(task, file), at, room));
  const remove = fileCall((task, file, name) => removeAttribute(task, () => find(task, file), name));
  return [
    row(`${prefix}setxattr`, numbers(0), [kind, string, pointer, size, setFlags], set, o),
    row(`${prefix}getxattr`, numbers(3), [kind, string, pointer, size], get, o),
    row(`${prefix}listxattr`, numbers(6), [kind, pointer, size], list, o),
    row(`${prefix}removexattr`, numbers(9), [kind, string], remove, o),
  ];
}

/** `struct xattr_args`: value, size, flags. Longer ones must end in zeros (copy_struct_from_user). */
const ARGUMENTS = 16;
const PAGE = 4096;
const AtFlags = { AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH } as const;

function readArguments(task: Task, at: number, bytes: number): { value: number; length: number; how: number } {
  const { memory } = task;
  if (bytes < ARGUMENTS) fail(Errno.EINVAL, "no whole struct xattr_args");
  if (bytes > PAGE) fail(Errno.E2BIG, "more than a page");
  if (memory.bytes(at + ARGUMENTS, bytes - ARGUMENTS).some((byte) => byte !== 0)) {
    fail(Errno.E2BIG, "the struct has fields that are unknown");
  }
  return { value: memory.num64(at), length: memory.u32(at + 8), how: memory.u32(at + 12) };
}

/** Which file an `*at` call means. With AT_EMPTY_PATH it can be an open one. */
function findAt(task: Task, descriptor: number, name: number, given: number): Find {
  if (given & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) fail(Errno.EINVAL, "unknown flags");
  return () => {
    const mayBeEmpty = (given & AT_EMPTY_PATH) !== 0;
    const isFile = mayBeEmpty && descriptor >= 0 && (name === 0 || pathArgument(task, name) === "");
    if (isFile) return realFile(task, descriptor);
    return entryAt(task, descriptor, name, (given & AT_SYMLINK_NOFOLLOW) === 0, mayBeEmpty);
  };
}

const setAt = fileCall((task, descriptor, file, given, name, at, bytes) => {
  const { value, length, how } = readArguments(task, at, bytes);
  return setAttribute(task, findAt(task, descriptor, file, given), name, value, length, how);
});

const getAt = fileCall((task, descriptor, file, given, name, at, bytes) => {
  const { value, length, how } = readArguments(task, at, bytes);
  if (how !== 0) fail(Errno.EINVAL, "there are no flags for reading");
  return getAttribute(task, findAt(task, descriptor, file, given), name, value, length);
});

const listAt = fileCall((task, descriptor, file, given, at, room) =>
  listAttributes(task, findAt(task, descriptor, file, given)(), at, room),
);

const removeAt = fileCall((task, descriptor, file, given, name) =>
  removeAttribute(task, findAt(task, descriptor, file, given), name),
);

const at = [dirfd, path, flags("AT_", AtFlags)] as const;

export const extendedAttributeCalls: readonly Row[] = [
  ...rows("", follow, 188, 226),
  ...rows("l", noFollow, 189, 227),
  ...rows("f", realFile, 190, 228),
  row("setxattrat", { x86_64: 463, i386: 463 }, [...at, string, pointer, size], setAt, o),
  row("getxattrat", { x86_64: 464, i386: 464 }, [...at, string, pointer, size], getAt, o),
  row("listxattrat", { x86_64: 465, i386: 465 }, [...at, pointer, size], listAt, o),
  row("removexattrat", { x86_64: 466, i386: 466 }, [...at, string], removeAt, o),
];
