/** One object as bytes, and bytes under a key. */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import type { StoredObject } from "./store.ts";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** What sealing adds. */
export const SEAL_BYTES = NONCE_BYTES + TAG_BYTES;

/** A key for one purpose, made from the hardware unique key. */
export function deriveKey(huk: Uint8Array, purpose: string): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", huk, "shimbed secure storage", purpose, 32));
}

/** AES-256-GCM under a fresh nonce: nonce, cipher text, tag. */
export function seal(key: Uint8Array, plain: Uint8Array, context: Uint8Array): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(context);
  const text = cipher.update(plain);
  cipher.final();
  return Buffer.concat([nonce, text, cipher.getAuthTag()]);
}

/** What was sealed, undefined when one bit of it or of its context has changed. */
export function unseal(key: Uint8Array, sealed: Uint8Array, context: Uint8Array): Uint8Array | undefined {
  if (sealed.length < SEAL_BYTES) return undefined;
  const end = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, NONCE_BYTES));
  decipher.setAAD(context).setAuthTag(sealed.subarray(end));
  const plain = decipher.update(sealed.subarray(NONCE_BYTES, end));
  try {
    decipher.final();
  } catch {
    // node has no other way to say that the tag is wrong.
    return undefined;
  }
  return plain;
}

const NUMBER = 0;
const BYTES = 1;

export function encodeObject(object: StoredObject): Uint8Array {
  const words = (...values: readonly number[]): Buffer => {
    const bytes = Buffer.alloc(values.length * 4);
    values.forEach((value, index) => {
      bytes.writeUInt32LE(value >>> 0, index * 4);
    });
    return bytes;
  };
  const parts = [words(object.type, object.maxSize, object.size, object.usage, object.attributes.size)];
  for (const [id, value] of object.attributes) {
    if (typeof value === "number") parts.push(words(id, NUMBER, value));
    else parts.push(words(id, BYTES, value.length), Buffer.from(value));
  }
  return Buffer.concat([...parts, object.data]);
}

/** The bytes have been authenticated, so they are what `encodeObject` made. */
export function decodeObject(bytes: Uint8Array): StoredObject {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  const word = (): number => {
    at += 4;
    return buffer.readUInt32LE(at - 4);
  };
  const [type, maxSize, size, usage, count] = [word(), word(), word(), word(), word()];
  const attributes = new Map<number, Uint8Array | number>();
  for (let index = 0; index < count; index++) {
    const id = word();
    if (word() === NUMBER) {
      attributes.set(id, word());
      continue;
    }
    const length = word();
    attributes.set(id, Uint8Array.from(buffer.subarray(at, at + length)));
    at += length;
  }
  return { type, maxSize, size, usage, attributes, data: Uint8Array.from(buffer.subarray(at)) };
}
