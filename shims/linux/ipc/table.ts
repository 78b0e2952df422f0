/** What System V's three kinds of objects share: keys, numbers, owners (ipc/util.c). */

import { Errno } from "../errno.ts";
import { Cap } from "../process/capabilities.ts";
import type { Credentials } from "../process/credentials.ts";
import type { SettingName, Settings } from "../settings.ts";
import type { Task } from "../task.ts";
import { fail } from "../vfs/error.ts";

const IPC_PRIVATE = 0;
const IPC_CREAT = 0o1000;
const IPC_EXCL = 0o2000;
export const IPC_NOWAIT = 0o4000;
export const IPC_RMID = 0;
export const IPC_SET = 1;
export const IPC_STAT = 2;
export const IPC_INFO = 3;
/** Rights in an object's mode. */
export const IPC_R = 0o444;
export const IPC_W = 0o222;

/** A number is an index and, above it, how often the indexes have been gone through. */
const INDEX_LIMIT = 32_768;

/** One segment, set or queue. */
export abstract class IpcObject {
  readonly key: number;
  readonly id: number;
  readonly cuid: number;
  readonly cgid: number;
  uid: number;
  gid: number;
  mode: number;
  /** IPC_RMID was done: nobody finds it by its key or number any more. */
  removed = false;
  /** Seconds since 1970 of the last change by IPC_SET or of the making. */
  changeTime: number;

  constructor(making: IpcMaking) {
    this.key = making.key;
    this.id = making.id;
    this.uid = this.cuid = making.cred.euid;
    this.gid = this.cgid = making.cred.egid;
    this.mode = making.mode;
    this.changeTime = making.now;
  }

  get index(): number {
    return this.id % INDEX_LIMIT;
  }

  get sequence(): number {
    return Math.floor(this.id / INDEX_LIMIT);
  }

  /** EACCES unless the caller has all rights in `wanted`, in any of the three places of a mode (ipcperms). */
  demand(cred: Credentials, wanted: number): void {
    const asked = ((wanted >> 6) | (wanted >> 3) | wanted) & 7;
    let granted = this.mode;
    if (cred.euid === this.cuid || cred.euid === this.uid) granted >>= 6;
    else if ([this.cgid, this.gid].some((gid) => gid === cred.egid || cred.groups.includes(gid))) granted >>= 3;
    if (asked & ~granted && !cred.capable(Cap.CAP_IPC_OWNER)) {
      fail(Errno.EACCES, `mode ${(this.mode & 0o777).toString(8)} does not allow it`);
    }
  }

  /** EPERM unless the caller owns it. */
  demandOwner(cred: Credentials): void {
    if (cred.euid === this.uid || cred.euid === this.cuid || cred.capable(Cap.CAP_SYS_ADMIN)) return;
    fail(Errno.EPERM, "not the owner's");
  }

  /** IPC_SET. */
  change(owner: { uid: number; gid: number; mode: number }, now: number): void {
    this.uid = owner.uid;
    this.gid = owner.gid;
    this.mode = (this.mode & ~0o777) | (owner.mode & 0o777);
    this.changeTime = now;
  }
}

export interface IpcMaking {
  readonly key: number;
  readonly id: number;
  readonly mode: number;
  readonly cred: Credentials;
  readonly now: number;
}

/** Seconds since 1970 of the guest's clock. */
export function nowSeconds(task: Task): number {
  const { clock } = task.kernel;
  return clock.bootSec + Math.floor(clock.now() / 1e9);
}

/** All objects of one kind. */
export class IpcTable<T extends IpcObject> {
  readonly #limit: () => number;
  /** kernel.msg_next_id and its kin: the number that the next object is to have, -1 for none. */
  readonly #wish: () => number;
  readonly #granted: () => void;
  readonly #objects = new Map<number, T>();
  readonly #keys = new Map<number, T>();
  #next = 0;
  #sequence = 0;

  /** @param limit how many there may be */
  constructor(settings: Settings, limit: () => number, wish: SettingName) {
    this.#limit = limit;
    this.#wish = () => settings.get(wish);
    this.#granted = () => settings.set(wish, -1);
  }

  get size(): number {
    return this.#objects.size;
  }

  /** The highest index in use, 0 when there is none: what IPC_INFO and its kin answer. */
  get highest(): number {
    let highest = 0;
    for (const index of this.#objects.keys()) if (index > highest) highest = index;
    return highest;
  }

  values(): Iterable<T> {
    return this.#objects.values();
  }

  /**
   * shmget, semget, msgget (ipcget).
   * @param check looks at one that is there: may throw
   * @returns its number
   */
  get(task: Task, key: number, flags: number, check: (found: T) => void, make: (making: IpcMaking) => T): number {
    const { cred } = task.process;
    const found = key === IPC_PRIVATE ? undefined : this.#keys.get(key);
    if (found !== undefined) {
      if (flags & IPC_CREAT && flags & IPC_EXCL) fail(Errno.EEXIST, "the key is taken");
      check(found);
      found.demand(cred, flags & 0o777);
      return found.id;
    }
    if (key !== IPC_PRIVATE && !(flags & IPC_CREAT)) fail(Errno.ENOENT, "nothing has that key");
    const limit = this.#limit();
    const wish = this.#wish();
    const wished = wish >= 0 && !this.#objects.has(wish % INDEX_LIMIT);
    const id = wished ? wish : this.#sequence * INDEX_LIMIT + this.#next;
    const object = make({ key, id, mode: flags & 0o777, cred, now: nowSeconds(task) });
    if (this.#objects.size >= limit) fail(Errno.ENOSPC, `there are ${limit} already`);
    if (wish >= 0) this.#granted();
    this.#objects.set(object.index, object);
    if (key !== IPC_PRIVATE) this.#keys.set(key, object);
    if (id % INDEX_LIMIT !== this.#next) return id;
    do {
      this.#next = (this.#next + 1) % INDEX_LIMIT;
      if (this.#next === 0) this.#sequence = (this.#sequence + 1) % 0xffff;
    } while (this.#objects.has(this.#next));
    return id;
  }

  /** The object with a number: EINVAL, or EIDRM where the index is another one's now. */
  find(id: number): T {
    const object = id < 0 ? undefined : this.#objects.get(id % INDEX_LIMIT);
    if (object === undefined) return fail(Errno.EINVAL, `nothing has the number ${id}`);
    if (object.id !== id) return fail(Errno.EIDRM, `number ${id} is over`);
    return object;
  }

  /** By index, for SHM_STAT and its kin. */
  at(index: number): T {
    return this.#objects.get(index) ?? fail(Errno.EINVAL, `no index ${index}`);
  }

  /** Nobody finds it by its key any more. */
  hide(object: T): void {
    if (this.#keys.get(object.key) === object) this.#keys.delete(object.key);
  }

  remove(object: T): void {
    this.hide(object);
    this.#objects.delete(object.index);
    object.removed = true;
  }
}
