import type { StoredObject } from "../../../shims/optee/storage/store.ts";

export const TA = "5b1dbed0-0001-4000-8000-000000000001";

/** What the object holds in this version: its number, and so many bytes made from it. */
export function versionOf(version: number): StoredObject {
  const data = new Uint8Array(200 + ((version * 37) % 20_000)).fill(version & 0xff);
  new DataView(data.buffer).setUint32(0, version, true);
  return { type: 0xa000_00bf, maxSize: 0, size: 0, usage: 0xffff_ffff, attributes: new Map(), data };
}
