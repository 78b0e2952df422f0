/**
 * Persistent objects in one file of the host.
 *
 *     magic (16 bytes) · length of the index (u32) · sealed index · sealed objects
 *
 * The index names the TA, the id and the place of each object, and no byte of the file lies outside of what a seal covers,
 * so that any changed byte is found: in an object by whoever opens it, in the rest by everybody. Every change writes a whole
 * new file beside the old one and renames it, so that a kill at any moment leaves one of the two.
 */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { UserError } from "../../../emulator/errors.ts";
import { fail, Tee } from "../results.ts";
import { decodeObject, deriveKey, encodeObject, SEAL_BYTES, seal, unseal } from "./record.ts";
import type { ObjectName, ObjectStore, StoredObject } from "./store.ts";

const MAGIC = Buffer.from("shimbed store 1\n", "latin1");
const HEADER_BYTES = MAGIC.length + 4;

interface Entry {
  readonly name: ObjectName;
  readonly sealed: Uint8Array;
}

const keyOf = ({ ta, id }: ObjectName): string => `${ta}/${id}`;

function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : String(error);
}

export class FileStore implements ObjectStore {
  readonly path: string;
  /** Why nothing of the file can be trusted: every call then ends with CORRUPT_OBJECT, and the file stays as it is. */
  readonly damage: string | undefined;
  readonly #huk: Uint8Array;
  readonly #keys = new Map<string, Uint8Array>();
  readonly #entries = new Map<string, Entry>();

  /**
   * Opens the file, or starts with nothing where there is none.
   * @throws UserError when the host does not let us read it
   */
  constructor(path: string, huk: Uint8Array) {
    this.path = path;
    this.#huk = huk;
    let bytes: Uint8Array;
    try {
      bytes = readFileSync(path);
    } catch (error) {
      if (errorCode(error) === "ENOENT" && existsSync(dirname(path))) return;
      throw new UserError(
        `cannot read the storage ${path}: ${errorCode(error)}; give another file with --storage`,
        125,
      );
    }
    this.damage = this.#load(bytes);
  }

  #key(purpose: string): Uint8Array {
    let key = this.#keys.get(purpose);
    if (key === undefined) {
      key = deriveKey(this.#huk, purpose);
      this.#keys.set(purpose, key);
    }
    return key;
  }

  #load(bytes: Uint8Array): string | undefined {
    if (bytes.length < HEADER_BYTES || Buffer.compare(bytes.subarray(0, MAGIC.length), MAGIC) !== 0)
      return "it does not begin as a storage does";
    const header = bytes.subarray(0, HEADER_BYTES);
    const length = Buffer.from(header).readUInt32LE(MAGIC.length);
    const end = HEADER_BYTES + length;
    const index =
      end > bytes.length ? undefined : unseal(this.#key("index"), bytes.subarray(HEADER_BYTES, end), header);
    if (index === undefined) return "its index does not authenticate: it was changed, or belongs to another --huk";
    const lines = Buffer.from(index).toString("utf8").split("\n").slice(0, -1);
    let at = end;
    for (const line of lines) {
      const [ta = "", id = "", size = ""] = line.split(" ");
      const name = { ta, id };
      // What a truncated file lacks fails to authenticate when it is opened.
      this.#entries.set(keyOf(name), { name, sealed: Uint8Array.from(bytes.subarray(at, at + Number(size))) });
      at += Number(size);
    }
    return bytes.length > at ? "there is something behind its last object" : undefined;
  }

  #check(): void {
    if (this.damage !== undefined) fail(Tee.ERROR_CORRUPT_OBJECT, `the storage ${this.path}: ${this.damage}`);
  }

  #context({ ta, id }: ObjectName): Uint8Array {
    return Buffer.from(`${ta} ${id}`, "latin1");
  }

  read(name: ObjectName): StoredObject | undefined {
    this.#check();
    const entry = this.#entries.get(keyOf(name));
    if (entry === undefined) return undefined;
    const plain = unseal(this.#key(name.ta), entry.sealed, this.#context(name));
    return plain === undefined
      ? fail(Tee.ERROR_CORRUPT_OBJECT, "the object does not authenticate")
      : decodeObject(plain);
  }

  write(name: ObjectName, object: StoredObject): void {
    this.#check();
    const sealed = seal(this.#key(name.ta), encodeObject(object), this.#context(name));
    this.#commit(new Map(this.#entries).set(keyOf(name), { name, sealed }));
  }

  remove(name: ObjectName): void {
    this.#check();
    const next = new Map(this.#entries);
    if (next.delete(keyOf(name))) this.#commit(next);
  }

  rename(from: ObjectName, to: ObjectName): void {
    const object = this.read(from);
    if (object === undefined) return;
    const sealed = seal(this.#key(to.ta), encodeObject(object), this.#context(to));
    const next = new Map(this.#entries);
    next.delete(keyOf(from));
    this.#commit(next.set(keyOf(to), { name: to, sealed }));
  }

  has(name: ObjectName): boolean {
    this.#check();
    return this.#entries.has(keyOf(name));
  }

  list(ta: string): string[] {
    this.#check();
    return [...this.#entries.values()].filter(({ name }) => name.ta === ta).map(({ name }) => name.id);
  }

  /** Writes the new file; only then do the new entries count. */
  #commit(next: Map<string, Entry>): void {
    const entries = [...next.values()];
    const index = Buffer.from(entries.map(({ name, sealed }) => `${name.ta} ${name.id} ${sealed.length}\n`).join(""));
    const header = Buffer.alloc(HEADER_BYTES);
    MAGIC.copy(header);
    header.writeUInt32LE(index.length + SEAL_BYTES, MAGIC.length);
    const parts = [header, seal(this.#key("index"), index, header), ...entries.map(({ sealed }) => sealed)];
    try {
      replaceFile(this.path, Buffer.concat(parts));
    } catch (error) {
      const code = errorCode(error);
      const full = code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG";
      fail(full ? Tee.ERROR_STORAGE_NO_SPACE : Tee.ERROR_STORAGE_NOT_AVAILABLE, `${this.path}: ${code}`);
    }
    this.#entries.clear();
    for (const [key, entry] of next) this.#entries.set(key, entry);
  }
}

/** Puts bytes in the place of a file at once: whoever looks finds the old content or the new one. */
function replaceFile(path: string, bytes: Uint8Array): void {
  const beside = `${path}.new`;
  const file = openSync(beside, "w", 0o600);
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(beside, path);
  // The name itself is on the disk only when its folder is.
  const folder = openSync(dirname(path), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
