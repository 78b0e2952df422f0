/**
 * User namespaces (user_namespaces(7), kernel/user_namespace.c). Ids that the shim keeps are the first namespace's; what a program in
 * another one is shown or says is translated at the edge. The first namespace is `undefined`: there is nothing to translate.
 */

/** A range of ids within, and where it begins in the terms of the first namespace. */
export interface Extent {
  readonly first: number;
  readonly kernel: number;
  readonly count: number;
}

export type IdKind = "uid" | "gid" | "projid";

/** What is shown of an id that has no name within (kernel.overflowuid). */
export const OVERFLOW_ID = 65534;
const ALL_IDS: readonly Extent[] = [{ first: 0, kernel: 0, count: 0xffff_ffff }];
/** How deep they nest. */
export const MOST_LEVELS = 32;

export class UserNamespace {
  /** Undefined for the first namespace. */
  readonly parent: UserNamespace | undefined;
  readonly level: number;
  /** Who made it. */
  readonly owner: number;
  readonly group: number;
  /** May a process within call setgroups, as far as this goes. */
  setgroups: boolean;
  readonly #maps = new Map<IdKind, readonly Extent[]>();

  constructor(parent: UserNamespace | undefined, owner: number, group: number) {
    this.parent = parent;
    this.level = (parent?.level ?? 0) + 1;
    this.owner = owner;
    this.group = group;
    this.setgroups = parent?.setgroups ?? true;
  }

  map(kind: IdKind): readonly Extent[] {
    return this.#maps.get(kind) ?? [];
  }

  setMap(kind: IdKind, extents: readonly Extent[]): void {
    this.#maps.set(kind, extents);
  }
}

/** The extents of a namespace, of the first one too. */
export function mapOf(namespace: UserNamespace | undefined, kind: IdKind): readonly Extent[] {
  return namespace === undefined ? ALL_IDS : namespace.map(kind);
}

/** make_kuid: what an id within is outside; undefined where it has no meaning. */
export function kernelId(namespace: UserNamespace | undefined, kind: IdKind, id: number): number | undefined {
  if (namespace === undefined) return id;
  for (const { first, kernel, count } of namespace.map(kind))
    if (id >= first && id < first + count) return kernel + id - first;
  return undefined;
}

/** from_kuid: what an id is within; undefined where it has no name. */
export function ownId(namespace: UserNamespace | undefined, kind: IdKind, id: number): number | undefined {
  if (namespace === undefined) return id;
  for (const { first, kernel, count } of namespace.map(kind))
    if (id >= kernel && id < kernel + count) return first + id - kernel;
  return undefined;
}

/** from_kuid_munged. */
export function shownId(namespace: UserNamespace | undefined, kind: IdKind, id: number): number {
  return ownId(namespace, kind, id) ?? OVERFLOW_ID;
}
