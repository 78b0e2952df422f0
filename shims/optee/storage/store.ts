/** Where persistent objects are kept. A store knows bytes and names; what they mean stands in shared-objects.ts. */

/** One object as it is kept. */
export interface StoredObject {
  readonly type: number;
  readonly maxSize: number;
  readonly size: number;
  readonly usage: number;
  /** Attributes, by number: bytes, or the number of a value attribute. */
  readonly attributes: ReadonlyMap<number, Uint8Array | number>;
  readonly data: Uint8Array;
}

/** The name of an object: the TA it belongs to, and up to 64 bytes of the TA's choice. */
export interface ObjectName {
  /** The TA's UUID. */
  readonly ta: string;
  /** As hex, so that any bytes can be a key of a map. */
  readonly id: string;
}

/**
 * Every method ends the running call with a TEE_Result by `fail`: CORRUPT_OBJECT for what does not authenticate,
 * STORAGE_NOT_AVAILABLE or STORAGE_NO_SPACE where the host refuses. A change is complete or not there at all.
 */
export interface ObjectStore {
  /** Undefined when there is no such object. */
  read(name: ObjectName): StoredObject | undefined;
  write(name: ObjectName, object: StoredObject): void;
  remove(name: ObjectName): void;
  rename(from: ObjectName, to: ObjectName): void;
  has(name: ObjectName): boolean;
  /** The ids of a TA's objects, in no particular order. */
  list(ta: string): string[];
}
