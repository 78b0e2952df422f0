/** Sessions that a TA opens into others: open_ta_session, close_ta_session, invoke_ta_command (4.9). */
import type { Call } from "../call.ts";
import { Login, ParamType } from "../constants.ts";
import { Instance } from "../instance.ts";
import { handle, inUuid, outU32, params as paramsKind, ulong } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { isMemory, isOutput, isValue, PARAM_COUNT, type Param, UTEE_PARAMS_BYTES } from "../params.ts";
import type { PseudoBuffer } from "../pta/pseudo.ts";
import { fail, Origin, Tee, TeeError } from "../results.ts";
import type { Operation, Session } from "../session.ts";
import { arg, type Row, row } from "../table.ts";
import { uuidFromBytes } from "../uuid.ts";

interface Passed {
  readonly params: Param[];
  readonly buffers: PseudoBuffer[];
}

const NOTHING: Passed = { params: [], buffers: [] };

/**
 * Reads struct utee_params of the caller. Memory for another TA has to be shared memory: a TA's private memory stays
 * private, and libutee copies it (tee_svc_copy_param). A pseudo-TA borrows the caller's mapping.
 */
function readParams(call: Call, at: number, borrow: boolean): Passed {
  if (at === 0) return NOTHING;
  const { memory } = call;
  const { READ, WRITE, ANY_OWNER } = MemoryAccess;
  memory.check(READ | WRITE | ANY_OWNER, at, UTEE_PARAMS_BYTES);
  const types = memory.u64(at);
  const params: Param[] = [];
  const buffers: PseudoBuffer[] = [];
  for (let index = 0; index < PARAM_COUNT; index++) {
    const slot = at + 8 + 16 * index;
    const type = (types >>> (4 * index)) & 15;
    const address = memory.u64(slot);
    const size = memory.u64(slot + 8);
    buffers.push({ address, size });
    if (isValue(type)) {
      const given = type !== ParamType.VALUE_OUTPUT;
      params.push({
        kind: "value",
        type,
        a: given ? memory.guest.u64(slot) : 0n,
        b: given ? memory.guest.u64(slot + 8) : 0n,
      });
      continue;
    }
    if (!isMemory(type)) {
      params.push(undefined);
      continue;
    }
    if (address === 0 && size !== 0) fail(Tee.ERROR_BAD_PARAMETERS, "a NULL buffer with a size");
    if (address !== 0) memory.check(READ | ANY_OWNER | (isOutput(type) ? WRITE : 0), address, size);
    const shared = address === 0 || size === 0 || borrow ? undefined : memory.sharedAt(address, size);
    if (size !== 0 && !borrow && shared === undefined)
      fail(Tee.ERROR_BAD_PARAMETERS, `parameter ${index} is private memory of the TA`);
    params.push({ kind: "memory", type, area: shared?.area, offset: shared?.offset ?? 0, size });
  }
  return { params, buffers };
}

/** Writes back what the callee left: values, and the sizes of buffers. */
function writeParams(call: Call, at: number, { params }: Passed): void {
  if (at === 0) return;
  const { guest } = call.memory;
  params.forEach((param, index) => {
    if (param === undefined || !isOutput(param.type)) return;
    const slot = at + 8 + 16 * index;
    if (param.kind === "memory") guest.setNum64(slot + 8, param.size);
    else {
      guest.setU64(slot, param.a);
      guest.setU64(slot + 8, param.b);
    }
  });
}

function operation(call: Call, timeout: number, { params }: Passed): Operation {
  const client = { login: Login.TRUSTED_APP, uuid: call.instance.uuid };
  return { client, params, timeout: timeout >>> 0, owner: call.instance };
}

/** Results come with an origin, which is written whatever happened. */
function withOrigin(
  call: Call,
  originAt: number,
  run: () => { result: number; origin: number; reason: string | undefined },
): number {
  let answer: { result: number; origin: number; reason: string | undefined };
  try {
    answer = run();
  } catch (error) {
    if (!(error instanceof TeeError)) throw error;
    answer = { result: error.result, origin: Origin.TEE, reason: error.message || undefined };
  }
  call.memory.check(MemoryAccess.WRITE, originAt, 4);
  call.memory.setU32(originAt, answer.origin);
  return answer.result === Tee.SUCCESS ? Tee.SUCCESS : fail(answer.result, answer.reason);
}

function open(call: Call, uuidAt: number, timeout: number, paramsAt: number, out: number, originAt: number): number {
  const { memory, tee } = call;
  return withOrigin(call, originAt, () => {
    memory.check(MemoryAccess.READ, uuidAt, 16);
    memory.check(MemoryAccess.WRITE, out, 4);
    const passed = readParams(call, paramsAt, false);
    const answer = tee.sessions.open(uuidFromBytes(memory.guest.bytes(uuidAt, 16)), operation(call, timeout, passed));
    if (answer.session === undefined) return answer;
    writeParams(call, paramsAt, passed);
    memory.setU32(out, answer.session.id);
    return answer;
  });
}

function own(call: Call, id: number, missing: number): Session {
  return call.instance.opened.get(id) ?? fail(missing, `the TA has no session ${id}`);
}

function close(call: Call, id: number): number {
  call.tee.sessions.close(own(call, id, Tee.ERROR_ITEM_NOT_FOUND));
  return Tee.SUCCESS;
}

function invoke(call: Call, id: number, timeout: number, command: number, paramsAt: number, originAt: number): number {
  const session = own(call, id, Tee.ERROR_BAD_PARAMETERS);
  return withOrigin(call, originAt, () => {
    const passed = readParams(call, paramsAt, !(session.target instanceof Instance));
    const answer = call.tee.sessions.invoke(session, command >>> 0, operation(call, timeout, passed), passed.buffers);
    if (answer.result !== Tee.ERROR_TARGET_DEAD) writeParams(call, paramsAt, passed);
    return answer;
  });
}

export const sessionCalls: readonly Row[] = [
  row(
    5,
    "open_ta_session",
    [
      arg("dest", inUuid),
      arg("cancel_req_to", ulong),
      arg("params", paramsKind),
      arg("sess", outU32),
      arg("ret_orig", outU32),
    ],
    open,
  ),
  row(6, "close_ta_session", [arg("sess", handle)], close),
  row(
    7,
    "invoke_ta_command",
    [
      arg("sess", handle),
      arg("cancel_req_to", ulong),
      arg("cmd_id", ulong),
      arg("params", paramsKind),
      arg("ret_orig", outU32),
    ],
    invoke,
  ),
];
