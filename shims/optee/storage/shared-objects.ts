/** Persistent objects that are open: what their handles have in common, and who may open one beside them (5.7). */
import { DataFlag } from "../constants.ts";
import { fail, Tee } from "../results.ts";
import type { ObjectName, ObjectStore, StoredObject } from "./store.ts";

/** What the handles of one object share. Its `data` is what a read would see. */
export class SharedObject {
  readonly #owner: SharedObjects;
  name: ObjectName;
  /** Flags of the handle that opened it first. */
  readonly flags: number;
  references = 1;
  /** Not created to the end yet. */
  creating: boolean;
  content: StoredObject | undefined;

  constructor(owner: SharedObjects, name: ObjectName, flags: number, creating: boolean) {
    this.#owner = owner;
    this.name = name;
    this.flags = flags;
    this.creating = creating;
  }

  get usage(): number {
    return this.content?.usage ?? 0;
  }

  get data(): Uint8Array {
    return this.content?.data ?? new Uint8Array(0);
  }

  /** Stores changed content; nothing has changed when this ends the call. */
  save(change: Partial<StoredObject>): void {
    if (this.content === undefined) fail(Tee.ERROR_BAD_STATE, "the object has no content");
    const content = { ...this.content, ...change };
    this.#owner.store.write(this.name, content);
    this.content = content;
  }

  /** A handle was closed. */
  release(): void {
    if (--this.references === 0) this.#owner.forget(this);
  }
}

export class SharedObjects {
  readonly store: ObjectStore;
  readonly #open = new Map<string, SharedObject>();

  constructor(store: ObjectStore) {
    this.store = store;
  }

  /** Takes a reference for a handle that is being opened. Ends the call with ACCESS_CONFLICT where sharing forbids it. */
  open(name: ObjectName, flags: number): SharedObject {
    const known = this.#open.get(keyOf(name));
    if (known === undefined) return this.#add(name, flags, false);
    if (known.creating) return fail(Tee.ERROR_ACCESS_CONFLICT, "it is being created");
    checkSharing(known.flags, flags);
    known.references++;
    return known;
  }

  /** The same for a handle that creates the object. */
  create(name: ObjectName, flags: number): SharedObject {
    const known = this.#open.get(keyOf(name));
    if (known === undefined) return this.#add(name, flags, true);
    if (known.creating || (flags & DataFlag.OVERWRITE) === 0) return fail(Tee.ERROR_ACCESS_CONFLICT, "it is open");
    checkSharing(known.flags, flags);
    known.references++;
    return known;
  }

  /** Gives an open object another name. ACCESS_CONFLICT when that name is taken, BAD_STATE when others have it open. */
  rename(shared: SharedObject, to: ObjectName): void {
    if (this.#open.has(keyOf(to))) fail(Tee.ERROR_ACCESS_CONFLICT, "an object of that name is open");
    if (this.store.has(to)) fail(Tee.ERROR_ACCESS_CONFLICT, "there is an object of that name");
    if (shared.references !== 1) fail(Tee.ERROR_BAD_STATE, "it is open more than once");
    this.store.rename(shared.name, to);
    this.#open.delete(keyOf(shared.name));
    shared.name = to;
    this.#open.set(keyOf(to), shared);
  }

  forget(shared: SharedObject): void {
    if (this.#open.get(keyOf(shared.name)) === shared) this.#open.delete(keyOf(shared.name));
  }

  #add(name: ObjectName, flags: number, creating: boolean): SharedObject {
    const shared = new SharedObject(this, name, flags, creating);
    this.#open.set(keyOf(name), shared);
    return shared;
  }
}

const keyOf = ({ ta, id }: ObjectName): string => `${ta}/${id}`;

/** The rules of 5.7.1: WRITE_META is exclusive, and reading or writing beside others needs everybody's consent. */
function checkSharing(first: number, second: number): void {
  const conflict = (why: string): never => fail(Tee.ERROR_ACCESS_CONFLICT, why);
  const both = first | second;
  if ((both & DataFlag.ACCESS_WRITE_META) !== 0) conflict("TEE_DATA_FLAG_ACCESS_WRITE_META is exclusive");
  for (const [access, share, name] of [
    [DataFlag.ACCESS_READ, DataFlag.SHARE_READ, "READ"],
    [DataFlag.ACCESS_WRITE, DataFlag.SHARE_WRITE, "WRITE"],
  ] as const) {
    if ((both & access) !== 0 && (first & second & share) === 0)
      conflict(`not every handle has TEE_DATA_FLAG_SHARE_${name}`);
    if (((first ^ second) & share) !== 0) conflict(`the handles differ in TEE_DATA_FLAG_SHARE_${name}`);
  }
}
