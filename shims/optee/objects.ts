/** Objects behind handles: keys and data, transient or persistent (5.3). */
import { ObjectType } from "./algorithms.ts";
import { HandleFlag, USAGE_DEFAULT } from "./constants.ts";
import { type AttributeSpec, allowsSize, pairOf, type TypeSpec, typeSpec } from "./object-types.ts";
import { fail, Tee } from "./results.ts";
import type { SharedObject } from "./storage/shared-objects.ts";

/** Bytes of an attribute, or the number of one that is a value. */
export type AttributeValue = Uint8Array | number;

export class TeeObject {
  type = 0;
  /** In bits. */
  maxSize = 0;
  size = 0;
  /** HandleFlag and DataFlag bits. */
  flags = 0;
  /** What a transient key may be used for; a persistent object has it in common with its other handles. */
  #usage = USAGE_DEFAULT;
  /** An operation uses it: its handle is not the TA's any more. */
  busy = false;
  /** Position in the data stream of a persistent object. */
  position = 0;
  /** What is behind a persistent object. */
  shared: SharedObject | undefined;
  readonly attributes = new Map<number, AttributeValue>();

  get persistent(): boolean {
    return (this.flags & HandleFlag.PERSISTENT) !== 0;
  }

  get initialized(): boolean {
    return (this.flags & HandleFlag.INITIALIZED) !== 0;
  }

  get usage(): number {
    return this.shared?.usage ?? this.#usage;
  }
  set usage(usage: number) {
    this.#usage = usage >>> 0;
  }

  get dataSize(): number {
    return this.shared?.data.length ?? 0;
  }

  get spec(): TypeSpec | undefined {
    return typeSpec(this.type);
  }

  /** Makes an empty object of a type and size. NOT_SUPPORTED when there is no such thing. */
  setType(type: number, maxSize: number): void {
    if (type === ObjectType.DATA) {
      if (maxSize !== 0) fail(Tee.ERROR_NOT_SUPPORTED, "a data object has no key size");
    } else {
      const spec = typeSpec(type);
      if (spec === undefined) fail(Tee.ERROR_NOT_SUPPORTED, "no such object type");
      if (!allowsSize(spec, maxSize)) fail(Tee.ERROR_NOT_SUPPORTED, `${maxSize} bits are no size of this type`);
    }
    this.type = type;
    this.maxSize = maxSize;
    this.usage = USAGE_DEFAULT;
  }

  /** Takes the attributes of another object, of the same type or its key pair (TEE_CopyObjectAttributes). */
  copyAttributes(from: TeeObject): void {
    if (this.type === ObjectType.DATA) return;
    const { spec } = this;
    if (spec === undefined) fail(Tee.ERROR_BAD_STATE, "the object has no type");
    if (this.type === from.type) {
      for (const [id, value] of from.attributes) this.attributes.set(id, value);
      return;
    }
    if (pairOf.get(this.type) !== from.type)
      fail(Tee.ERROR_BAD_PARAMETERS, "the types are neither the same nor a public key and its pair");
    for (const { id } of spec.attributes) {
      const value = from.attributes.get(id);
      if (value !== undefined) this.attributes.set(id, value);
    }
  }

  /** The bytes of an attribute that is there. */
  bytes(id: number): Uint8Array {
    const value = this.attributes.get(id);
    return value instanceof Uint8Array ? value : new Uint8Array(0);
  }

  number(id: number): number {
    const value = this.attributes.get(id);
    return typeof value === "number" ? value : 0;
  }

  big(id: number): bigint {
    return toBig(this.bytes(id));
  }

  /** The secret of a symmetric key or of what keys are derived from. */
  get secret(): Uint8Array {
    const id = this.spec?.attributes.find(({ storage }) => storage.kind === "secret")?.id;
    return id === undefined ? new Uint8Array(0) : this.bytes(id);
  }

  setBig(id: number, value: bigint): void {
    this.attributes.set(id, fromBig(value));
  }

  setSecret(value: Uint8Array): void {
    const id = this.spec?.attributes.find(({ storage }) => storage.kind === "secret")?.id;
    if (id !== undefined) this.attributes.set(id, value);
  }
}

/** Checks one value and brings it into the form it is kept in. */
export function normalizeAttribute(spec: TypeSpec, attribute: AttributeSpec, value: AttributeValue): AttributeValue {
  const { storage } = attribute;
  if (typeof value === "number")
    return storage.kind === "value" ? value : fail(Tee.ERROR_GENERIC, "not a value attribute");
  switch (storage.kind) {
    case "secret":
      if (value.length > spec.capacity) fail(Tee.ERROR_SECURITY, "the secret does not fit");
      return value;
    case "fixed":
      if (value.length !== storage.bytes) fail(Tee.ERROR_SECURITY, `the attribute has ${storage.bytes} bytes`);
      return value;
    case "bignum":
      if (value.length > BIGNUM_BYTES_MAX) fail(Tee.ERROR_OVERFLOW, "the number is too large");
      return fromBig(toBig(value));
    case "value":
      return fail(Tee.ERROR_GENERIC, "a value attribute is not given by reference");
  }
}

const BIGNUM_BYTES_MAX = 4096;

export function toBig(bytes: Uint8Array): bigint {
  if (bytes.length === 0) return 0n;
  return BigInt(`0x${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex")}`);
}

/** Big-endian, as short as it can be, or exactly `length` bytes. */
export function fromBig(value: bigint, length?: number): Uint8Array {
  let hex = value === 0n ? "" : value.toString(16);
  if (hex.length % 2 !== 0) hex = `0${hex}`;
  const bytes = Uint8Array.from(Buffer.from(hex, "hex"));
  if (length === undefined || bytes.length === length) return bytes;
  if (bytes.length > length) throw new RangeError(`${bytes.length} bytes do not fit in ${length}`);
  const padded = new Uint8Array(length);
  padded.set(bytes, length - bytes.length);
  return padded;
}

export function bitLength(value: bigint): number {
  return value === 0n ? 0 : value.toString(2).length;
}
