/** TEE_UUID: kept as its text, `8aaaf200-2450-11e4-abe2-0002a5d5c51b`, lower case. */

const PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The text in its one form, or undefined when it is none. */
export function normalizeUuid(text: string): string | undefined {
  const lower = text.toLowerCase();
  return PATTERN.test(lower) ? lower : undefined;
}

/** From the 16 bytes in memory: the first three fields are little-endian. */
export function uuidFromBytes(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  const hex = (value: number, width: number): string => value.toString(16).padStart(width, "0");
  const rest = Buffer.from(bytes.buffer, bytes.byteOffset + 8, 8).toString("hex");
  return `${hex(view.getUint32(0, true), 8)}-${hex(view.getUint16(4, true), 4)}-${hex(view.getUint16(6, true), 4)}-${rest.slice(0, 4)}-${rest.slice(4)}`;
}

export function uuidToBytes(uuid: string): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  const [low = "", mid = "", high = "", ...rest] = uuid.split("-");
  view.setUint32(0, Number.parseInt(low, 16), true);
  view.setUint16(4, Number.parseInt(mid, 16), true);
  view.setUint16(6, Number.parseInt(high, 16), true);
  bytes.set(Buffer.from(rest.join(""), "hex"), 8);
  return bytes;
}

export const NIL_UUID = "00000000-0000-0000-0000-000000000000";
