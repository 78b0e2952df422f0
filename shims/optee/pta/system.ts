/** The system pseudo-TA (OP-TEE's pta_system.h): memory, libraries and keys for the TA that asks. */
import { hkdfSync } from "node:crypto";
import { PROT_READ, PROT_WRITE } from "../../../emulator/memory.ts";
import { PrivateArea } from "../areas.ts";
import { ParamType } from "../constants.ts";
import type { Instance } from "../instance.ts";
import { loadLibrary } from "../loader.ts";
import { MemoryAccess } from "../memory.ts";
import { fail, Tee, TeeError } from "../results.ts";
import { uuidFromBytes, uuidToBytes } from "../uuid.ts";
import type { PseudoCall, PseudoTa } from "./pseudo.ts";

const { NONE, VALUE_INPUT, VALUE_OUTPUT, VALUE_INOUT, MEMREF_INPUT, MEMREF_OUTPUT, MEMREF_INOUT } = ParamType;

const Command = {
  ADD_RNG_ENTROPY: 0,
  DERIVE_TA_UNIQUE_KEY: 1,
  MAP_ZI: 2,
  UNMAP: 3,
  DLOPEN: 10,
  DLSYM: 11,
  GET_TPM_EVENT_LOG: 12,
  SUPP_PLUGIN_INVOKE: 13,
} as const;

const MAP_SHAREABLE = 1;
const KEY_MIN = 16;
const KEY_MAX = 32;
const EXTRA_MAX = 1024;
const SYMBOL_MAX = 4096;

export class SystemPta implements PseudoTa {
  readonly uuid = "3a2f8978-5dc0-11e8-9c2d-fa7ae01bbebc";
  readonly name = "system.pta";

  /** Only TAs: what it does, it does to the caller. */
  open(caller: Instance | undefined): number {
    return caller === undefined ? Tee.ERROR_ACCESS_DENIED : Tee.SUCCESS;
  }

  invoke(call: PseudoCall): number {
    const { caller } = call;
    if (caller === undefined) return Tee.ERROR_ACCESS_DENIED;
    switch (call.command) {
      case Command.ADD_RNG_ENTROPY:
        return addEntropy(call);
      case Command.DERIVE_TA_UNIQUE_KEY:
        return deriveKey(call, caller);
      case Command.MAP_ZI:
        return mapZi(call, caller);
      case Command.UNMAP:
        return unmap(call, caller);
      case Command.DLOPEN:
        return dlopen(call, caller);
      case Command.DLSYM:
        return dlsym(call, caller);
      case Command.GET_TPM_EVENT_LOG:
        call.expect(MEMREF_OUTPUT, NONE, NONE, NONE);
        return fail(Tee.ERROR_NOT_SUPPORTED, "there is no TPM");
      case Command.SUPP_PLUGIN_INVOKE:
        call.expect(MEMREF_INPUT, VALUE_INPUT, MEMREF_INOUT, VALUE_OUTPUT);
        return fail(Tee.ERROR_ITEM_NOT_FOUND, "the normal world has no plugins");
      default:
        // Mapping of files belongs to ldelf's own calls since OP-TEE 3.10.
        return fail(Tee.ERROR_NOT_IMPLEMENTED, "no such command");
    }
  }
}

function addEntropy(call: PseudoCall): number {
  call.expect(MEMREF_INPUT, NONE, NONE, NONE);
  if (call.size(0) === 0) fail(Tee.ERROR_BAD_PARAMETERS, "no entropy");
  call.tee.entropy.add(call.read(0));
  return Tee.SUCCESS;
}

/** A key of this device and this TA, the same whenever it asks with the same data. */
function deriveKey(call: PseudoCall, caller: Instance): number {
  call.expect(MEMREF_INPUT, MEMREF_OUTPUT, NONE, NONE);
  const length = call.size(1);
  if (call.size(0) > EXTRA_MAX || length < KEY_MIN || length > KEY_MAX)
    fail(Tee.ERROR_BAD_PARAMETERS, "at most 1024 bytes of data, and a key of 16 to 32 bytes");
  const { WRITE, ANY_OWNER, SECURE } = MemoryAccess;
  try {
    caller.memory.check(WRITE | ANY_OWNER | SECURE, call.address(1), length);
  } catch (error) {
    if (!(error instanceof TeeError)) throw error;
    return fail(Tee.ERROR_SECURITY, "a key does not go into memory of the normal world");
  }
  const info = Buffer.concat([Buffer.from("ta unique key"), uuidToBytes(caller.uuid), call.read(0)]);
  // The extra data may be longer than HKDF's info.
  const key = hkdfSync("sha256", call.tee.huk, info, "", KEY_MAX);
  return call.write(1, new Uint8Array(key).subarray(0, length));
}

function mapZi(call: PseudoCall, caller: Instance): number {
  call.expect(VALUE_INPUT, VALUE_INOUT, VALUE_INPUT, NONE);
  const { a: length, b: flags } = call.value(0);
  if ((flags & ~MAP_SHAREABLE) !== 0 || length === 0) fail(Tee.ERROR_BAD_PARAMETERS, "no length or unknown flags");
  const { a: padBegin, b: padEnd } = call.value(2);
  const place = { at: call.pair(1), padBegin, padEnd };
  const address =
    flags === MAP_SHAREABLE
      ? caller.memory.mapShareable(length, place)
      : caller.memory.mapPrivate(length, PROT_READ | PROT_WRITE, new PrivateArea("[zi]"), place);
  call.setPair(1, address);
  return Tee.SUCCESS;
}

function unmap(call: PseudoCall, caller: Instance): number {
  call.expect(VALUE_INPUT, VALUE_INPUT, NONE, NONE);
  const { a: length, b: reserved } = call.value(0);
  if (reserved !== 0) fail(Tee.ERROR_BAD_PARAMETERS, "the second half is reserved");
  caller.memory.unmap(call.pair(1), length);
  return Tee.SUCCESS;
}

function dlopen(call: PseudoCall, caller: Instance): number {
  call.expect(MEMREF_INPUT, VALUE_INPUT, NONE, NONE);
  if (call.size(0) !== 16) fail(Tee.ERROR_BAD_PARAMETERS, "a UUID has 16 bytes");
  const uuid = uuidFromBytes(call.read(0));
  const binary = call.tee.binary(uuid);
  if (binary === undefined) return fail(Tee.ERROR_ITEM_NOT_FOUND, `${uuid} is not given`);
  if (caller.modules.some((module) => module.binary === binary)) return Tee.SUCCESS;
  caller.modules = loadLibrary(caller.memory, caller.modules, binary, (wanted) => call.tee.binary(wanted));
  return Tee.SUCCESS;
}

function dlsym(call: PseudoCall, caller: Instance): number {
  call.expect(MEMREF_INPUT, MEMREF_INPUT, VALUE_OUTPUT, NONE);
  if (call.size(0) !== 16 || call.size(1) > SYMBOL_MAX) fail(Tee.ERROR_BAD_PARAMETERS, "a UUID and a symbol's name");
  const uuid = uuidFromBytes(call.read(0));
  const [name = ""] = Buffer.from(call.read(1)).toString("latin1").split("\0");
  const anywhere = /^[0-]+$/.test(uuid);
  for (const { binary, dynamic, bias } of caller.modules) {
    const value = anywhere || binary.uuid === uuid ? dynamic.defined.get(name) : undefined;
    if (value === undefined) continue;
    call.setPair(2, value + bias);
    return Tee.SUCCESS;
  }
  return fail(Tee.ERROR_ITEM_NOT_FOUND, `no symbol ${name}`);
}
