/** Pseudo-TAs: services of the TEE itself that are called as TAs are. */
import type { Instance } from "../instance.ts";
import { type Params, paramTypes } from "../params.ts";
import { fail, Tee as TeeResult } from "../results.ts";
import type { Tee } from "../tee.ts";

/** A memory parameter as the caller gave it: pseudo-TAs borrow the caller's mapping. */
export interface PseudoBuffer {
  readonly address: number;
  readonly size: number;
}

export interface PseudoTa {
  readonly uuid: string;
  readonly name: string;
  /** A TEE_Result: may this caller open a session? */
  open(caller: Instance | undefined): number;
  /** Runs a command and answers a TEE_Result; values and sizes of the parameters may change. */
  invoke(call: PseudoCall): number;
}

/** One command to a pseudo-TA. */
export class PseudoCall {
  readonly tee: Tee;
  /** The TA that calls; absent for the normal world. */
  readonly caller: Instance | undefined;
  readonly command: number;
  readonly params: Params;
  readonly #buffers: readonly PseudoBuffer[];

  constructor(
    tee: Tee,
    caller: Instance | undefined,
    command: number,
    params: Params,
    buffers: readonly PseudoBuffer[],
  ) {
    this.tee = tee;
    this.caller = caller;
    this.command = command;
    this.params = params;
    this.#buffers = buffers;
  }

  /** Ends the call with BAD_PARAMETERS unless the parameters have these types. */
  expect(...types: readonly number[]): void {
    const wanted = types.reduce((sum, type, index) => sum | (type << (4 * index)), 0);
    if (paramTypes(this.params) !== wanted) fail(TeeResult.ERROR_BAD_PARAMETERS, "parameters of other types");
  }

  /** Bytes of a memory parameter. */
  size(index: number): number {
    const param = this.params[index];
    return param?.kind === "memory" ? param.size : 0;
  }

  setSize(index: number, size: number): void {
    const param = this.params[index];
    if (param?.kind === "memory") param.size = size;
  }

  /** Where the caller has it mapped; 0 for the normal world. */
  address(index: number): number {
    return this.caller === undefined ? 0 : (this.#buffers[index]?.address ?? 0);
  }

  read(index: number): Uint8Array {
    const param = this.params[index];
    if (param?.kind !== "memory") return new Uint8Array(0);
    if (this.caller !== undefined) return this.caller.memory.bytes(this.address(index), param.size);
    const bytes = new Uint8Array(param.size);
    param.area?.copy(param.offset, bytes, "out");
    return bytes;
  }

  /** Puts a result into a memory parameter; SHORT_BUFFER, with the size needed, when it does not fit. */
  write(index: number, bytes: Uint8Array): number {
    const param = this.params[index];
    if (param?.kind !== "memory") return fail(TeeResult.ERROR_BAD_PARAMETERS, "not a buffer");
    const room = param.size;
    param.size = bytes.length;
    if (room < bytes.length) return TeeResult.ERROR_SHORT_BUFFER;
    if (this.caller !== undefined) this.caller.memory.write(this.address(index), bytes);
    else param.area?.copy(param.offset, bytes, "in");
    return TeeResult.SUCCESS;
  }

  /** The two halves of a value parameter. */
  value(index: number): { readonly a: number; readonly b: number } {
    const param = this.params[index];
    if (param?.kind !== "value") return { a: 0, b: 0 };
    return { a: Number(BigInt.asUintN(32, param.a)), b: Number(BigInt.asUintN(32, param.b)) };
  }

  setValue(index: number, a: number, b: number): void {
    const param = this.params[index];
    if (param?.kind !== "value") return;
    param.a = BigInt(a);
    param.b = BigInt(b);
  }

  /** A value parameter that holds the upper and the lower half of an address. */
  pair(index: number): number {
    const { a, b } = this.value(index);
    return a * 2 ** 32 + b;
  }

  setPair(index: number, address: number): void {
    this.setValue(index, Math.floor(address / 2 ** 32), address % 2 ** 32);
  }
}
