import type { ObjectName, ObjectStore, StoredObject } from "./store.ts";

/** Persistent objects that last as long as the run. */
export class MemoryStore implements ObjectStore {
  readonly #objects = new Map<string, Map<string, StoredObject>>();

  #of(ta: string): Map<string, StoredObject> {
    let objects = this.#objects.get(ta);
    if (objects === undefined) {
      objects = new Map();
      this.#objects.set(ta, objects);
    }
    return objects;
  }

  read({ ta, id }: ObjectName): StoredObject | undefined {
    return this.#of(ta).get(id);
  }

  write({ ta, id }: ObjectName, object: StoredObject): void {
    this.#of(ta).set(id, object);
  }

  remove({ ta, id }: ObjectName): void {
    this.#of(ta).delete(id);
  }

  rename(from: ObjectName, to: ObjectName): void {
    const object = this.read(from);
    if (object === undefined) return;
    this.remove(from);
    this.write(to, object);
  }

  has({ ta, id }: ObjectName): boolean {
    return this.#of(ta).has(id);
  }

  list(ta: string): string[] {
    return [...this.#of(ta).keys()];
  }
}
