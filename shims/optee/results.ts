/** TEE_Result codes (GlobalPlatform TEE Internal Core API 1.3, 3.3.3, and OP-TEE's additions). */
export const Tee = {
  SUCCESS: 0,
  ERROR_CORRUPT_OBJECT: 0xf0100001,
  ERROR_CORRUPT_OBJECT_2: 0xf0100002,
  ERROR_STORAGE_NOT_AVAILABLE: 0xf0100003,
  ERROR_STORAGE_NOT_AVAILABLE_2: 0xf0100004,
  ERROR_UNSUPPORTED_VERSION: 0xf0100005,
  ERROR_CIPHERTEXT_INVALID: 0xf0100006,
  ERROR_GENERIC: 0xffff0000,
  ERROR_ACCESS_DENIED: 0xffff0001,
  ERROR_CANCEL: 0xffff0002,
  ERROR_ACCESS_CONFLICT: 0xffff0003,
  ERROR_EXCESS_DATA: 0xffff0004,
  ERROR_BAD_FORMAT: 0xffff0005,
  ERROR_BAD_PARAMETERS: 0xffff0006,
  ERROR_BAD_STATE: 0xffff0007,
  ERROR_ITEM_NOT_FOUND: 0xffff0008,
  ERROR_NOT_IMPLEMENTED: 0xffff0009,
  ERROR_NOT_SUPPORTED: 0xffff000a,
  ERROR_NO_DATA: 0xffff000b,
  ERROR_OUT_OF_MEMORY: 0xffff000c,
  ERROR_BUSY: 0xffff000d,
  ERROR_COMMUNICATION: 0xffff000e,
  ERROR_SECURITY: 0xffff000f,
  ERROR_SHORT_BUFFER: 0xffff0010,
  ERROR_EXTERNAL_CANCEL: 0xffff0011,
  ERROR_TIMEOUT: 0xffff3001,
  ERROR_OVERFLOW: 0xffff300f,
  ERROR_TARGET_DEAD: 0xffff3024,
  ERROR_STORAGE_NO_SPACE: 0xffff3041,
  ERROR_MAC_INVALID: 0xffff3071,
  ERROR_SIGNATURE_INVALID: 0xffff3072,
  ERROR_TIME_NOT_SET: 0xffff5000,
  ERROR_TIME_NEEDS_RESET: 0xffff5001,
} as const;

const names: ReadonlyMap<number, string> = new Map(Object.entries(Tee).map(([name, value]) => [value, `TEE_${name}`]));
const values: ReadonlyMap<string, number> = new Map([...names].map(([value, name]) => [name, value]));

/** `TEE_ERROR_BAD_PARAMETERS`, or `0x…` for a code that has no name. */
export function resultName(result: number): string {
  return names.get(result) ?? `0x${result.toString(16)}`;
}

/** The code of such a name. */
export function resultOf(name: string): number | undefined {
  return values.get(name);
}

/** Where a result came from (3.3.4). */
export const Origin = { API: 1, COMMS: 2, TEE: 3, TRUSTED_APP: 4 } as const;
const origins = ["", "TEE_ORIGIN_API", "TEE_ORIGIN_COMMS", "TEE_ORIGIN_TEE", "TEE_ORIGIN_TRUSTED_APP"];

export function originName(origin: number): string {
  return origins[origin] || String(origin);
}

/** A call of a TA ends with this result; the sentence says why, for the trace. Never seen outside a call. */
export class TeeError extends Error {
  override readonly name = "TeeError";
  readonly result: number;

  constructor(result: number, why = "") {
    super(why);
    this.result = result;
  }
}

/** Ends the running call with an error result. */
export function fail(result: number, why?: string): never {
  throw new TeeError(result, why);
}
