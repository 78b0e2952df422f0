/** Parameters of an entry into a TA: values, and memory that is shared with whoever calls. */
import type { SharedArea } from "./areas.ts";
import { ParamType } from "./constants.ts";

export const PARAM_COUNT = 4;
/** struct utee_params: the types, then two 64-bit words each. */
export const UTEE_PARAMS_BYTES = 8 + PARAM_COUNT * 16;

interface ValueParam {
  readonly kind: "value";
  readonly type: number;
  a: bigint;
  b: bigint;
}

export interface MemoryParam {
  readonly kind: "memory";
  readonly type: number;
  /** Absent for a buffer of no bytes. */
  readonly area: SharedArea | undefined;
  readonly offset: number;
  /** Bytes the callee may use; after the call, what it says it used or needs. */
  size: number;
}

export type Param = ValueParam | MemoryParam | undefined;
export type Params = readonly Param[];

export const isMemory = (type: number): boolean => type >= ParamType.MEMREF_INPUT && type <= ParamType.MEMREF_INOUT;
export const isValue = (type: number): boolean => type >= ParamType.VALUE_INPUT && type <= ParamType.VALUE_INOUT;
export const isOutput = (type: number): boolean => (type & 3) === 2 || (type & 3) === 3;

/** TEE_PARAM_TYPES of a list. */
export function paramTypes(params: Params): number {
  return params.reduce<number>((types, param, index) => types | ((param?.type ?? ParamType.NONE) << (4 * index)), 0);
}
