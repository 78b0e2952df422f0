/** check_access_rights and cache_operation. */
import { TaFlag } from "../binary.ts";
import type { Call } from "../call.ts";
import { accessFlags, cacheOperation, pointer, size } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import { fail, Tee } from "../results.ts";
import { arg, type Row, row } from "../table.ts";

const CACHE_OPERATIONS = 3;

function checkAccessRights(call: Call, flags: number, buffer: number, length: number): number {
  call.memory.check(flags, buffer, length);
  return Tee.SUCCESS;
}

/** Caches are coherent here; what remains are the checks (OP-TEE's tee_svc_cache.c). */
function cacheOperate(call: Call, address: number, length: number, operation: number): number {
  if (!call.instance.has(TaFlag.CACHE_MAINTENANCE))
    fail(Tee.ERROR_NOT_SUPPORTED, "the TA's flags lack TA_FLAG_CACHE_MAINTENANCE");
  if (operation >= CACHE_OPERATIONS) fail(Tee.ERROR_NOT_SUPPORTED, "no such operation");
  const write = operation === 2 ? MemoryAccess.WRITE : 0;
  call.memory.check(MemoryAccess.READ | MemoryAccess.ANY_OWNER | write, address, length);
  return Tee.SUCCESS;
}

export const memoryCalls: readonly Row[] = [
  row(8, "check_access_rights", [arg("flags", accessFlags), arg("buf", pointer), arg("len", size)], checkAccessRights),
  row(70, "cache_operation", [arg("va", pointer), arg("l", size), arg("op", cacheOperation)], cacheOperate),
];
