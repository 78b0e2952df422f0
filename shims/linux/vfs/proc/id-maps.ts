/** /proc/pid/uid_map, gid_map, projid_map and setgroups: what ids a user namespace knows (map_write in kernel/user_namespace.c). */

import { Errno } from "../../errno.ts";
import { type Extent, type IdKind, kernelId, mapOf, ownId, type UserNamespace } from "../../namespaces/user.ts";
import { Cap } from "../../process/capabilities.ts";
import type { Credentials } from "../../process/credentials.ts";
import type { Process } from "../../task.ts";
import type { FileSystem, Inode } from "../inode.ts";
import { ProcText } from "./proc.ts";

const MOST_EXTENTS = 340;
const MOST_BYTES = 4096;
const ID_END = 2 ** 32;
const needed = { uid: Cap.CAP_SETUID, gid: Cap.CAP_SETGID, projid: undefined } as const;

/** As the reader's own namespace has it; of one's own as the one above has it. */
function mapText(process: Process, kind: IdKind): string {
  const namespace = process.cred.userNamespace;
  const reader = process.kernel.current?.process.cred.userNamespace;
  const outer = reader === namespace ? namespace?.parent : reader;
  const column = (value: number): string => String(value).padStart(10);
  return mapOf(namespace, kind)
    .map(({ first, kernel, count }) => {
      const lower = ownId(outer, kind, kernel) ?? ID_END - 1;
      return `${column(first)} ${column(lower)} ${column(count)}\n`;
    })
    .join("");
}

/** Undefined for a text that is no map. */
function parse(text: string): { first: number; lower: number; count: number }[] | undefined {
  const lines = text.replace(/\n$/, "").split("\n");
  if (lines.length > MOST_EXTENTS) return undefined;
  const extents: { first: number; lower: number; count: number }[] = [];
  for (const line of lines) {
    const [, first, lower, count] = /^\s*(\d+)\s+(\d+)\s+(\d+)\s*$/.exec(line) ?? [];
    if (first === undefined) return undefined;
    const extent = { first: Number(first), lower: Number(lower), count: Number(count) };
    if (extent.count === 0 || extent.first + extent.count > ID_END || extent.lower + extent.count > ID_END)
      return undefined;
    const overlaps = (a: number, b: number, of: number): boolean => a < b + of && b < a + extent.count;
    if (extents.some((e) => overlaps(extent.first, e.first, e.count) || overlaps(extent.lower, e.lower, e.count)))
      return undefined;
    extents.push(extent);
  }
  return extents;
}

/** new_idmap_permitted: whoever made a namespace may name its own id, everybody else takes the capability above. */
function permitted(
  cred: Credentials,
  namespace: UserNamespace,
  kind: IdKind,
  extents: readonly { lower: number; count: number }[],
): boolean {
  const [only] = extents;
  if (extents.length === 1 && only?.count === 1 && namespace.owner === cred.euid) {
    const id = kind === "projid" ? undefined : kernelId(namespace.parent, kind, only.lower);
    if (kind === "uid" && id === cred.euid) return true;
    if (kind === "gid" && id === cred.egid && !namespace.setgroups) return true;
  }
  const cap = needed[kind];
  return cap === undefined || cred.capableIn(namespace.parent, cap);
}

function storeMap(process: Process, kind: IdKind, text: string): number {
  const namespace = process.cred.userNamespace;
  const cred = process.kernel.current?.process.cred;
  if (namespace === undefined || cred === undefined) return -Errno.EPERM;
  if (cred.userNamespace !== namespace && cred.userNamespace !== namespace.parent) return -Errno.EPERM;
  if (text.length >= MOST_BYTES) return -Errno.EINVAL;
  if (namespace.map(kind).length > 0) return -Errno.EPERM;
  if (needed[kind] !== undefined && !cred.capableIn(namespace, Cap.CAP_SYS_ADMIN)) return -Errno.EPERM;
  const given = parse(text);
  if (given === undefined) return -Errno.EINVAL;
  if (!permitted(cred, namespace, kind, given)) return -Errno.EPERM;
  const extents: Extent[] = [];
  for (const { first, lower, count } of given) {
    const kernel = kernelId(namespace.parent, kind, lower);
    const last = kernelId(namespace.parent, kind, lower + count - 1);
    if (kernel === undefined || last !== kernel + count - 1) return -Errno.EPERM;
    extents.push({ first, kernel, count });
  }
  namespace.setMap(kind, extents);
  return 0;
}

/** proc_setgroups_write: what is denied stays so, and has to be denied before there is a map of groups. */
function storeSetgroups(process: Process, given: string): number {
  const namespace = process.cred.userNamespace;
  const text = given.trimEnd();
  if (text !== "allow" && text !== "deny") return -Errno.EINVAL;
  if (namespace === undefined) return text === "allow" ? 0 : -Errno.EPERM;
  if (!process.kernel.current?.process.cred.capableIn(namespace, Cap.CAP_SYS_ADMIN)) return -Errno.EACCES;
  if (text === "allow") return namespace.setgroups ? 0 : -Errno.EPERM;
  if (namespace.map("gid").length > 0) return -Errno.EPERM;
  namespace.setgroups = false;
  return 0;
}

/** The files by name. */
export function idMaps(fs: FileSystem, process: Process): readonly (readonly [string, Inode])[] {
  const { euid, egid } = process.cred;
  const file = (content: () => string, store: (text: string) => number): Inode =>
    new ProcText(fs, content, 0o644, store, euid, egid);
  const map = (kind: IdKind): Inode =>
    file(
      () => mapText(process, kind),
      (text) => storeMap(process, kind, text),
    );
  const setgroups = (): string => ((process.cred.userNamespace?.setgroups ?? true) ? "allow\n" : "deny\n");
  return [
    ["gid_map", map("gid")],
    ["projid_map", map("projid")],
    ["setgroups", file(setgroups, (text) => storeSetgroups(process, text))],
    ["uid_map", map("uid")],
  ];
}
