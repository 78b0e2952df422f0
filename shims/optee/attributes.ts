/** Attributes that a TA passes to a call: struct utee_attribute[] (OP-TEE's utee_types.h). */
import { Attr } from "./algorithms.ts";
import type { Call } from "./call.ts";
import { ATTR_VALUE, Curve } from "./constants.ts";
import { MemoryAccess } from "./memory.ts";
import { type AttributeSpec, allowsSize, isOldDesSize, type TypeSpec } from "./object-types.ts";
import { bitLength, normalizeAttribute, type TeeObject, toBig } from "./objects.ts";
import { fail, Tee } from "./results.ts";

/** Two 64-bit words, the identifier, padding. */
const ATTRIBUTE_BYTES = 24;
/** No call takes more than a handful. */
const COUNT_MAX = 1024;

export interface GivenAttribute {
  readonly id: number;
  /** Of a value attribute. */
  readonly a: number;
  readonly b: number;
  /** Of any other: where its bytes are. */
  readonly address: number;
  readonly length: number;
  /** Reads those bytes. */
  bytes(): Uint8Array;
}

/** Reads the list and checks that every buffer in it can be read. */
export function readAttributes(call: Call, address: number, count: number): GivenAttribute[] {
  const { memory } = call;
  if (count > COUNT_MAX) fail(Tee.ERROR_OUT_OF_MEMORY, `${count} attributes`);
  const table = memory.bytes(address, count * ATTRIBUTE_BYTES);
  const view = new DataView(table.buffer, table.byteOffset, table.length);
  const given: GivenAttribute[] = [];
  for (let at = 0; at < table.length; at += ATTRIBUTE_BYTES) {
    const id = view.getUint32(at + 16, true);
    const a = Number(view.getBigUint64(at, true));
    const b = Number(view.getBigUint64(at + 8, true));
    if ((id & ATTR_VALUE) === 0) memory.check(MemoryAccess.READ | MemoryAccess.ANY_OWNER, a, b);
    given.push({
      id,
      a: view.getUint32(at, true),
      b: view.getUint32(at + 8, true),
      address: a,
      length: b,
      bytes: () => memory.bytes(a, b),
    });
  }
  return given;
}

/** Checks that the list is what a use of the type needs, nothing else and nothing twice. */
export function checkAttributes(spec: TypeSpec, given: readonly GivenAttribute[], use: "populate" | "generate"): void {
  const bad: (why: string) => never = (why) => fail(Tee.ERROR_ITEM_NOT_FOUND, why);
  const found = new Set<AttributeSpec>();
  for (const { id } of given) {
    const attribute = spec.attributes.find((candidate) => candidate.id === id);
    if (attribute === undefined || attribute[use] === "none")
      bad(`attribute 0x${id.toString(16)} does not belong to this type`);
    if (found.has(attribute)) bad(`attribute 0x${id.toString(16)} is there twice`);
    found.add(attribute);
  }
  for (const attribute of spec.attributes) {
    if (attribute[use] === "required" && !found.has(attribute))
      bad(`attribute 0x${attribute.id.toString(16)} is missing`);
  }
  if (use === "generate") return;
  const group = spec.attributes.filter(({ populate }) => populate === "group");
  const present = group.filter((attribute) => found.has(attribute)).length;
  if (present !== 0 && present !== group.length) bad("of the attributes that belong together some are missing");
}

const curveBits: Readonly<Record<number, number>> = {
  [Curve.NIST_P192]: 192,
  [Curve.NIST_P224]: 224,
  [Curve.NIST_P256]: 256,
  [Curve.NIST_P384]: 384,
  [Curve.NIST_P521]: 521,
  [Curve.CURVE_25519]: 256,
  [Curve.SM2]: 256,
};

/** Puts checked attributes into an object and gives it the size they say. The object is unchanged when that fails. */
export function populate(object: TeeObject, spec: TypeSpec, given: readonly GivenAttribute[]): void {
  let size = 0;
  const values = given.map((item) => {
    const attribute = spec.attributes.find((candidate) => candidate.id === item.id);
    if (attribute === undefined) return fail(Tee.ERROR_ITEM_NOT_FOUND, "the attribute does not belong to this type");
    const value = normalizeAttribute(spec, attribute, (item.id & ATTR_VALUE) !== 0 ? item.a : item.bytes());
    if (attribute.size) size = sizeFrom(object, spec, item);
    if (attribute.bounded && value instanceof Uint8Array && bitLength(toBig(value)) > object.maxSize)
      fail(Tee.ERROR_BAD_STATE, "a number has more bits than the object may");
    return [item.id, value] as const;
  });
  for (const [id, value] of values) object.attributes.set(id, value);
  object.size = isOldDesSize(object.type, object.maxSize) ? size - Math.floor(size / 8) : size;
}

function sizeFrom(object: TeeObject, spec: TypeSpec, item: GivenAttribute): number {
  let size = item.length * 8;
  if (item.id === Attr.ECC_CURVE) size = curveBits[item.a] ?? fail(Tee.ERROR_NOT_SUPPORTED, "no such curve");
  const measured = isOldDesSize(object.type, object.maxSize) ? size - Math.floor(size / 8) : size;
  if (measured > object.maxSize) fail(Tee.ERROR_BAD_STATE, `${size} bits are more than the object may have`);
  if (!allowsSize(spec, measured)) fail(Tee.ERROR_BAD_PARAMETERS, `${size} bits are no size of this type`);
  return size;
}
