import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Attr, ObjectType } from "../../../shims/optee/algorithms.ts";
import { DataFlag, Whence } from "../../../shims/optee/constants.ts";
import { TeeError } from "../../../shims/optee/results.ts";
import { FileStore } from "../../../shims/optee/storage/file-store.ts";
import { type Argument, Probe, room, text, u32, u64, word } from "./probe.ts";
import { killWriters } from "./storage-kills.ts";
import { TA, versionOf } from "./storage-pattern.ts";

const { ACCESS_READ, ACCESS_WRITE, ACCESS_WRITE_META, SHARE_READ, SHARE_WRITE, OVERWRITE } = DataFlag;
const ALL = ACCESS_READ | ACCESS_WRITE | ACCESS_WRITE_META;

let folder = "";
const probes: Probe[] = [];

beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), "shimbed-storage-"));
});
afterEach(() => {
  for (const probe of probes.splice(0)) probe.close();
  rmSync(folder, { recursive: true, force: true });
});

const file = (): string => path.join(folder, "storage");

function probe(options: ConstructorParameters<typeof Probe>[0] = {}): Probe {
  const made = new Probe(options);
  probes.push(made);
  return made;
}

const created = (p: Probe, name: string, flags: number, data = "", attr = 0): number =>
  p.handle("storage_obj_create", 1, text(name), name.length, flags, attr, text(data), data.length);

const opened = (p: Probe, name: string, flags: number): number =>
  p.handle("storage_obj_open", 1, text(name), name.length, flags);

const result = (p: Probe, call: string, ...args: readonly Argument[]): string => p.call(call, ...args).result;
const openResult = (p: Probe, name: string, flags: number): string =>
  result(p, "storage_obj_open", 1, text(name), name.length, flags, u32());

function contents(p: Probe, object: number): string {
  const [data, count] = p.ok("storage_obj_read", object, room(100), 100, u64());
  return Buffer.from(data?.subarray(0, word(count)) ?? []).toString("latin1");
}

describe.each(["memory", "file"] as const)("persistent objects in %s", (where) => {
  const make = (): Probe => probe(where === "file" ? { storage: file() } : {});

  it("are read, written, cut and sought in", () => {
    const p = make();
    const object = created(p, "one", ALL, "hello");
    p.ok("storage_obj_seek", object, 3, Whence.END);
    p.ok("storage_obj_write", object, text("world"), 5);
    p.ok("storage_obj_seek", object, -100, Whence.CUR);
    expect(contents(p, object)).toBe("hello\0\0\0world");
    expect(contents(p, object)).toBe("");
    p.ok("storage_obj_trunc", object, 7);
    p.ok("storage_obj_seek", object, 0, Whence.SET);
    expect(contents(p, object)).toBe("hello\0\0");
    p.ok("storage_obj_trunc", object, 9);
    const [info] = p.ok("cryp_obj_get_info", object, room(28));
    const fields = Array.from({ length: 7 }, (_, index) => Buffer.from(info ?? []).readUInt32LE(4 * index));
    expect(fields).toEqual([ObjectType.DATA, 0, 0, 0xffff_ffff, 9, 7, 0x3_0000 | ALL]);
    expect(result(p, "storage_obj_seek", object, 0x7fff_ffff, Whence.CUR)).toBe("TEE_SUCCESS");
    expect(result(p, "storage_obj_seek", object, 0, 3)).toBe("TEE_ERROR_BAD_PARAMETERS");
    expect(result(p, "storage_obj_write", object, text("x"), 1)).toBe("TEE_ERROR_STORAGE_NO_SPACE");
  });

  it("keep keys with their usage", () => {
    const p = make();
    const key = p.handle("cryp_obj_alloc", ObjectType.AES, 128);
    const value = Buffer.from("000102030405060708090a0b0c0d0e0f", "hex");
    p.ok("cryp_obj_populate", key, [[Attr.SECRET_VALUE, value]], 1);
    const stored = created(p, "key", ALL, "note", key);
    p.ok("cryp_obj_close", key);
    p.ok("cryp_obj_restrict_usage", stored, 0xffff_fffe);
    p.ok("cryp_obj_close", stored);
    const again = opened(p, "key", ACCESS_READ);
    expect(result(p, "cryp_obj_get_attr", again, Attr.SECRET_VALUE, room(16), u64(16))).toBe(
      "TEE_ERROR_BAD_PARAMETERS",
    );
    expect(contents(p, again)).toBe("note");
    const copy = p.handle("cryp_obj_alloc", ObjectType.AES, 128);
    p.ok("cryp_obj_copy", copy, again);
    expect(result(p, "cryp_obj_get_attr", copy, Attr.SECRET_VALUE, room(16), u64(16))).toBe("TEE_ERROR_BAD_PARAMETERS");
    expect(result(p, "cryp_obj_reset", again)).toBe("TEE_ERROR_BAD_PARAMETERS");
  });

  it("turn a transient key into a persistent one where no handle is asked for", () => {
    const p = make();
    const key = p.handle("cryp_obj_alloc", ObjectType.GENERIC_SECRET, 64);
    p.ok("cryp_obj_generate_key", key, 64, 0, 0);
    p.ok("storage_obj_create", 1, text("k"), 1, ALL, key, 0, 0, 0);
    const [info] = p.ok("cryp_obj_get_info", key, room(28));
    expect(Buffer.from(info ?? []).readUInt32LE(24)).toBe(0x3_0000 | ALL);
    p.ok("storage_obj_del", key);
    expect(openResult(p, "k", ACCESS_READ)).toBe("TEE_ERROR_ITEM_NOT_FOUND");
  });

  it("follow the sharing rules", () => {
    const p = make();
    p.ok("cryp_obj_close", created(p, "s", ALL, "x"));
    const pairs: readonly (readonly [number, number, boolean])[] = [
      [ACCESS_READ, ACCESS_READ, false],
      [ACCESS_READ | SHARE_READ, ACCESS_READ, false],
      [ACCESS_READ | SHARE_READ, ACCESS_READ | SHARE_READ, true],
      [ACCESS_WRITE | SHARE_WRITE, ACCESS_WRITE | SHARE_WRITE, true],
      [ACCESS_WRITE | SHARE_WRITE, ACCESS_READ | SHARE_READ, false],
      [ACCESS_READ | SHARE_READ | SHARE_WRITE, ACCESS_WRITE | SHARE_READ | SHARE_WRITE, true],
      [ACCESS_WRITE_META, 0, false],
      [ACCESS_WRITE_META | SHARE_READ | SHARE_WRITE, SHARE_READ | SHARE_WRITE, false],
      [0, 0, true],
      [SHARE_READ, ACCESS_READ | SHARE_READ, true],
      [0, ACCESS_READ | SHARE_READ, false],
    ];
    for (const [first, second, together] of pairs) {
      const one = opened(p, "s", first);
      const { result: answer, out } = p.call("storage_obj_open", 1, text("s"), 1, second, u32());
      expect([first, second, answer]).toEqual([first, second, together ? "TEE_SUCCESS" : "TEE_ERROR_ACCESS_CONFLICT"]);
      p.ok("cryp_obj_close", one);
      if (together) p.ok("cryp_obj_close", word(out[1]));
    }
    const shared = ACCESS_READ | ACCESS_WRITE | SHARE_READ | SHARE_WRITE;
    const [one, two] = [opened(p, "s", shared), opened(p, "s", shared)];
    p.ok("storage_obj_write", one, text("new"), 3);
    expect(contents(p, two)).toBe("new");
  });

  it("are created once, or overwritten, renamed and removed", () => {
    const p = make();
    p.ok("cryp_obj_close", created(p, "a", ALL, "first"));
    expect(result(p, "storage_obj_create", 1, text("a"), 1, ALL, 0, 0, 0, u32())).toBe("TEE_ERROR_ACCESS_CONFLICT");
    p.ok("cryp_obj_close", created(p, "a", ALL | OVERWRITE, "second"));
    p.ok("cryp_obj_close", created(p, "b", ALL, "other"));
    const a = opened(p, "a", ALL);
    expect(contents(p, a)).toBe("second");
    expect(result(p, "storage_obj_rename", a, text("b"), 1)).toBe("TEE_ERROR_ACCESS_CONFLICT");
    p.ok("storage_obj_rename", a, text("c"), 1);
    p.ok("cryp_obj_close", a);
    expect(openResult(p, "a", ACCESS_READ)).toBe("TEE_ERROR_ITEM_NOT_FOUND");
    const c = opened(p, "c", ACCESS_READ);
    expect(contents(p, c)).toBe("second");
    expect(result(p, "storage_obj_del", c)).toBe("TEE_ERROR_ACCESS_CONFLICT");
    expect(result(p, "storage_obj_rename", c, text("d"), 1)).toBe("TEE_ERROR_BAD_STATE");
    expect(result(p, "storage_obj_write", c, text("d"), 1)).toBe("TEE_ERROR_ACCESS_CONFLICT");
    expect(result(p, "storage_obj_trunc", c, 0)).toBe("TEE_ERROR_ACCESS_CONFLICT");
  });

  it("are enumerated", () => {
    const p = make();
    const list = p.handle("storage_alloc_enum");
    expect(result(p, "storage_start_enum", list, 1)).toBe("TEE_ERROR_ITEM_NOT_FOUND");
    for (const name of ["x", "y", "z"]) p.ok("cryp_obj_close", created(p, name, ALL, name));
    p.ok("storage_start_enum", list, 1);
    const names: string[] = [];
    for (;;) {
      const { result: answer, out } = p.call("storage_next_enum", list, room(28), room(64), u64());
      if (answer !== "TEE_SUCCESS") {
        expect(answer).toBe("TEE_ERROR_ITEM_NOT_FOUND");
        break;
      }
      names.push(Buffer.from(out[1]?.subarray(0, word(out[2])) ?? []).toString());
      // What goes while one looks is passed over.
      if (names.length === 1) p.ok("storage_obj_del", opened(p, "y", ALL));
    }
    expect(names).toEqual(["x", "z"]);
    p.ok("storage_free_enum", list);
    expect(result(p, "storage_reset_enum", list)).toBe("TEE_ERROR_BAD_PARAMETERS");
  });

  it("refuse what is no storage, no name and no flags", () => {
    const p = make();
    expect(result(p, "storage_obj_open", 2, text("a"), 1, 1, u32())).toBe("TEE_ERROR_ITEM_NOT_FOUND");
    expect(result(p, "storage_obj_open", 1, room(65), 65, 1, u32())).toBe("TEE_ERROR_BAD_PARAMETERS");
    expect(result(p, "storage_obj_open", 1, text("a"), 1, OVERWRITE, u32())).toBe("TEE_ERROR_BAD_PARAMETERS");
    expect(result(p, "storage_obj_open", 1, 16, 1, 1, u32())).toBe("TEE_ERROR_ACCESS_DENIED");
    expect(result(p, "storage_obj_create", 1, text("a"), 1, ALL, 0, 0, 5, u32())).toBe("TEE_ERROR_BAD_PARAMETERS");
    expect(result(p, "storage_obj_read", 99, room(1), 1, u64())).toBe("TEE_ERROR_BAD_STATE");
    const key = p.handle("cryp_obj_alloc", ObjectType.AES, 128);
    expect(result(p, "storage_obj_read", key, room(1), 1, u64())).toBe("TEE_ERROR_BAD_STATE");
    expect(result(p, "storage_obj_create", 1, text("a"), 1, ALL, key, 0, 0, u32())).toBe("TEE_ERROR_BAD_PARAMETERS");
  });
});

describe("the file", () => {
  it("outlives the run, and belongs to one key and one TA", () => {
    created(probe({ storage: file() }), "kept", ALL, "what was kept");
    const again = probe({ storage: file() });
    expect(contents(again, opened(again, "kept", ACCESS_READ))).toBe("what was kept");
    const before = readFileSync(file());
    expect(before.includes("kept")).toBe(false);
    const other = probe({ storage: file(), huk: new Uint8Array(32).fill(1) });
    expect(other.host.storageDamage).toContain("belongs to another --huk");
    expect(openResult(other, "kept", ACCESS_READ)).toBe("TEE_ERROR_CORRUPT_OBJECT");
    expect(result(other, "storage_obj_create", 1, text("new"), 3, ALL, 0, 0, 0, u32())).toBe(
      "TEE_ERROR_CORRUPT_OBJECT",
    );
    expect(readFileSync(file())).toEqual(before);
    expect(new FileStore(file(), new Uint8Array(32).fill(9)).damage).toBeDefined();
  });

  it("shows every changed bit", () => {
    const store = new FileStore(file(), new Uint8Array(32));
    const names = ["00", "01", "02"].map((id) => ({ ta: TA, id }));
    for (const [index, name] of names.entries()) store.write(name, versionOf(index));
    const good = readFileSync(file());
    // Every byte of the head and the index, and places all over the objects; one bit at a time.
    const step = 7;
    for (let at = 0; at < good.length; at += at < 400 ? 1 : step) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ (1 << (at % 8));
      writeFileSync(file(), bad);
      const damaged = new FileStore(file(), new Uint8Array(32));
      const found = names.filter((name) => {
        try {
          return damaged.read(name) === undefined;
        } catch (error) {
          return error instanceof TeeError && error.result === 0xf010_0001;
        }
      });
      expect([at, found.length > 0]).toEqual([at, true]);
    }
    for (const length of [0, 5, 30, good.length - 1]) {
      writeFileSync(file(), good.subarray(0, length));
      const short = new FileStore(file(), new Uint8Array(32));
      expect(() => names.map((name) => short.read(name))).toThrow(TeeError);
    }
    writeFileSync(file(), Buffer.concat([good, Buffer.of(0)]));
    expect(new FileStore(file(), new Uint8Array(32)).damage).toBeDefined();
  });

  it("tells the TA, which loses the object and no other", () => {
    const p = probe({ storage: file() });
    p.ok("cryp_obj_close", created(p, "bad", ALL, "x".repeat(50)));
    p.ok("cryp_obj_close", created(p, "good", ALL, "fine"));
    const data = readFileSync(file());
    // The first object follows the index; its cipher text begins behind the nonce.
    const at = 20 + data.readUInt32LE(16) + 20;
    data[at] = (data[at] ?? 0) ^ 1;
    writeFileSync(file(), data);
    const again = probe({ storage: file() });
    expect(openResult(again, "bad", ACCESS_READ)).toBe("TEE_ERROR_CORRUPT_OBJECT");
    expect(openResult(again, "bad", ACCESS_READ)).toBe("TEE_ERROR_ITEM_NOT_FOUND");
    expect(contents(again, opened(again, "good", ACCESS_READ))).toBe("fine");
  });

  // `npx tsx test/shims/optee/kills.ts 200` kills as often as one likes, and counts.
  it("loses nothing committed and shows nothing half-written, killed at any moment", async () => {
    const { kills, committed } = await killWriters(file(), 12, 1);
    expect(kills).toBe(12);
    expect(committed).toBeGreaterThanOrEqual(12);
    expect(existsSync(file())).toBe(true);
  });
});
