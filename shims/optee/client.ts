/** The normal world: opens sessions and sends commands with values and buffers of its own. */

import { PAGE_SIZE } from "../../emulator/physical-memory.ts";
import { SharedArea } from "./areas.ts";
import { Login, ParamType } from "./constants.ts";
import { Instance } from "./instance.ts";
import type { PanicReport } from "./panic.ts";
import { type MemoryParam, PARAM_COUNT, type Param, type Params } from "./params.ts";
import { fail, Origin, TeeError, Tee as TeeResult } from "./results.ts";
import type { Answer, Identity, Session } from "./session.ts";
import type { Tee } from "./tee.ts";
import { NIL_UUID } from "./uuid.ts";

/** One parameter of a command, in the words of LiteBox' command files. Values are unsigned, of 64 bits at most. */
export type TaParam =
  | { readonly type: "none" }
  | { readonly type: "value_input"; readonly a: bigint | number; readonly b: bigint | number }
  | { readonly type: "value_output" }
  | { readonly type: "value_inout"; readonly a: bigint | number; readonly b: bigint | number }
  | { readonly type: "memref_input"; readonly data: Uint8Array }
  | { readonly type: "memref_output"; readonly size: number }
  /** `size` is that of the buffer; as large as the data when left out. */
  | { readonly type: "memref_inout"; readonly data: Uint8Array; readonly size?: number | undefined };

/** What a parameter held afterwards; undefined for one that is no output. */
export type TaOutput =
  | { readonly kind: "value"; readonly a: bigint; readonly b: bigint }
  /** `size` is what the TA left: how much it wrote, or how much it would need. `data` is never more than the buffer. */
  | { readonly kind: "memory"; readonly size: number; readonly data: Uint8Array }
  | undefined;

export interface TaAnswer extends Answer {
  readonly outputs: readonly TaOutput[];
  /** How the TA died, where it did. */
  readonly panic: PanicReport | undefined;
}

export interface OperationOptions {
  /** Milliseconds of TEE time until the operation counts as cancelled. */
  readonly timeout?: number | undefined;
  readonly client?: Identity | undefined;
}

/** Who asks when nobody says: LiteBox' default. */
const defaultClient: Identity = Object.freeze({ login: Login.USER, uuid: NIL_UUID });
const TIMEOUT_INFINITE = 0xffff_ffff;
/** Four of them can still be a line of JSON. */
const BUFFER_MAX = 2 ** 25;

interface Prepared {
  readonly param: Param;
  /** Bytes of the buffer, whatever the TA makes of its size. */
  readonly room: number;
}

const unsigned = (value: bigint | number): bigint => BigInt.asUintN(64, BigInt(value));

function prepare(tee: Tee, given: TaParam | undefined): Prepared {
  switch (given?.type) {
    case undefined:
    case "none":
      return { param: undefined, room: 0 };
    case "value_input":
    case "value_inout": {
      const type = given.type === "value_input" ? ParamType.VALUE_INPUT : ParamType.VALUE_INOUT;
      return { param: { kind: "value", type, a: unsigned(given.a), b: unsigned(given.b) }, room: 0 };
    }
    case "value_output":
      return { param: { kind: "value", type: ParamType.VALUE_OUTPUT, a: 0n, b: 0n }, room: 0 };
    case "memref_input":
      return buffer(tee, ParamType.MEMREF_INPUT, given.data, given.data.length);
    case "memref_output":
      return buffer(tee, ParamType.MEMREF_OUTPUT, undefined, given.size);
    case "memref_inout":
      return buffer(tee, ParamType.MEMREF_INOUT, given.data, given.size ?? given.data.length);
  }
}

/** Buffers end with their page, as far as 16-byte alignment lets them, so that an overrun is a fault. */
function buffer(tee: Tee, type: number, data: Uint8Array | undefined, size: number): Prepared {
  if (size > BUFFER_MAX) fail(TeeResult.ERROR_OUT_OF_MEMORY, `a buffer has at most ${BUFFER_MAX} bytes`);
  if (size === 0) return { param: { kind: "memory", type, area: undefined, offset: 0, size: 0 }, room: 0 };
  const offset = (PAGE_SIZE - ((Math.ceil(size / 16) * 16) % PAGE_SIZE)) % PAGE_SIZE;
  const area = new SharedArea(tee.machine.physical, "[params]", offset + Math.ceil(size / 16) * 16, false);
  if (data !== undefined && !area.copy(offset, data, "in"))
    fail(TeeResult.ERROR_OUT_OF_MEMORY, "there is no memory for the parameters");
  return { param: { kind: "memory", type, area, offset, size }, room: size };
}

function output({ param, room }: Prepared): TaOutput {
  if (param === undefined || (param.type & 2) === 0) return undefined;
  if (param.kind === "value") return { kind: "value", a: param.a, b: param.b };
  const data = new Uint8Array(Math.min(param.size, room));
  param.area?.copy(param.offset, data, "out");
  return { kind: "memory", size: param.size, data };
}

const isMemoryParam = (param: Param): param is MemoryParam => param?.kind === "memory";

/** Opens a session to a TA. The session is there when the result is TEE_SUCCESS. */
export function openSession(
  tee: Tee,
  uuid: string,
  params: readonly TaParam[],
  options: OperationOptions = {},
): { readonly answer: TaAnswer; readonly session: Session | undefined } {
  let session: Session | undefined;
  let died: PanicReport | undefined;
  const before = new Set(tee.deaths);
  const answer = withParams(tee, params, (list) => {
    const { timeout = TIMEOUT_INFINITE, client = defaultClient } = options;
    const opened = tee.sessions.open(uuid, { client, params: list, timeout, owner: undefined });
    session = opened.session;
    died = tee.deaths.find((report) => !before.has(report) && report.uuid === uuid);
    return opened;
  });
  return { answer: { ...answer, panic: died }, session };
}

export function invokeCommand(
  tee: Tee,
  session: Session,
  command: number,
  params: readonly TaParam[],
  options: OperationOptions = {},
): TaAnswer {
  const answer = withParams(tee, params, (list) => {
    const { timeout = TIMEOUT_INFINITE } = options;
    return tee.sessions.invoke(session, command, { client: session.client, params: list, timeout, owner: undefined });
  });
  return { ...answer, panic: session.target instanceof Instance ? session.target.panicked : undefined };
}

function withParams(tee: Tee, params: readonly TaParam[], run: (list: Params) => Answer): Omit<TaAnswer, "panic"> {
  const prepared: Prepared[] = [];
  try {
    for (let index = 0; index < PARAM_COUNT; index++) prepared.push(prepare(tee, params[index]));
    const { result, origin, reason } = run(prepared.map(({ param }) => param));
    return { result, origin, reason, outputs: prepared.map(output) };
  } catch (error) {
    if (!(error instanceof TeeError)) throw error;
    return { result: error.result, origin: Origin.COMMS, reason: error.message || undefined, outputs: [] };
  } finally {
    for (const { param } of prepared) if (isMemoryParam(param)) param.area?.close();
  }
}
