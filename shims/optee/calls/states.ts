/** Operations: cryp_state_alloc, cryp_state_copy, cryp_state_free. */

import {
  asymmetricFamily,
  currentNumber,
  derivationFamily,
  digestField,
  operationClass,
  takesKey,
} from "../algorithm-fields.ts";
import { Alg } from "../algorithms.ts";
import type { Call } from "../call.ts";
import { OperationClass } from "../constants.ts";
import { objectOf, stateOf } from "../handles-of.ts";
import { algorithm as algorithmKind, handle, mode as modeKind, outU32 } from "../kinds.ts";
import { MemoryAccess } from "../memory.ts";
import type { TeeObject } from "../objects.ts";
import { fail, Tee } from "../results.ts";
import { CryptoState, isSupported } from "../states.ts";
import { arg, type Row, row } from "../table.ts";

function checkedKey(call: Call, number: number, algorithm: number, mode: number): TeeObject | undefined {
  if (number === 0) return undefined;
  const key = objectOf(call, number);
  if (key.busy) return fail(Tee.ERROR_BAD_PARAMETERS, "another operation has the key");
  if (!takesKey(algorithm, mode, key.type)) return fail(Tee.ERROR_BAD_PARAMETERS, "a key of the wrong type");
  return key;
}

/** Whether the algorithm exists here, for those without a running state. */
function isKnownAsymmetric(algorithm: number): boolean {
  const family = asymmetricFamily(algorithm);
  if (family === "rsa") {
    const plain: readonly number[] = [Alg.RSA_NOPAD, Alg.RSAES_PKCS1_V1_5, Alg.RSASSA_PKCS1_V1_5];
    return plain.includes(algorithm) || ((algorithm >>> 8) & 15) === 2 || digestField(algorithm) !== undefined;
  }
  return family !== undefined || derivationFamily(algorithm) !== undefined;
}

function alloc(call: Call, given: number, mode: number, key1: number, key2: number, out: number): number {
  const algorithm = currentNumber(given);
  const first = checkedKey(call, key1, algorithm, mode);
  const second = checkedKey(call, key2, algorithm, mode);
  const kind = operationClass(algorithm);
  switch (kind) {
    case OperationClass.CIPHER: {
      const two = algorithm === Alg.AES_XTS || algorithm === Alg.SM4_XTS;
      if (first === undefined || (second !== undefined) !== two)
        fail(Tee.ERROR_BAD_PARAMETERS, `the algorithm takes ${two ? "two keys" : "one key"}`);
      break;
    }
    case OperationClass.DIGEST:
      if (first !== undefined || second !== undefined) fail(Tee.ERROR_BAD_PARAMETERS, "a digest takes no key");
      break;
    case OperationClass.MAC:
    case OperationClass.AE:
    case OperationClass.ASYMMETRIC_CIPHER:
    case OperationClass.ASYMMETRIC_SIGNATURE:
    case OperationClass.KEY_DERIVATION:
      if (first === undefined || second !== undefined) fail(Tee.ERROR_BAD_PARAMETERS, "the algorithm takes one key");
      break;
    default:
      return fail(Tee.ERROR_NOT_SUPPORTED, "no such class of algorithms");
  }
  if (!isSupported(algorithm) && !isKnownAsymmetric(algorithm))
    fail(Tee.ERROR_NOT_SUPPORTED, "the TEE does not have it");
  call.memory.check(MemoryAccess.WRITE, out, 4);
  call.memory.setU32(out, call.instance.states.add(new CryptoState(algorithm, mode, key1, key2)));
  if (first !== undefined) first.busy = true;
  if (second !== undefined) second.busy = true;
  return Tee.SUCCESS;
}

function copy(call: Call, destination: number, source: number): number {
  const to = stateOf(call, destination);
  const from = stateOf(call, source);
  if (to.algorithm !== from.algorithm || to.mode !== from.mode)
    fail(Tee.ERROR_BAD_PARAMETERS, "the operations differ in algorithm or mode");
  const { CIPHER, AE, DIGEST, MAC } = OperationClass;
  const kinds: readonly number[] = [CIPHER, AE, DIGEST, MAC];
  if (!kinds.includes(from.kind)) fail(Tee.ERROR_BAD_STATE, "such an operation has no state");
  to.copyFrom(from);
  return Tee.SUCCESS;
}

function free(call: Call, number: number): number {
  const state = stateOf(call, number);
  for (const key of [state.key1, state.key2]) call.instance.objects.remove(key);
  call.instance.states.remove(number);
  return Tee.SUCCESS;
}

export const stateCalls: readonly Row[] = [
  row(
    15,
    "cryp_state_alloc",
    [
      arg("algo", algorithmKind),
      arg("op_mode", modeKind),
      arg("key1", handle),
      arg("key2", handle),
      arg("state", outU32),
    ],
    alloc,
  ),
  row(16, "cryp_state_copy", [arg("dst", handle), arg("src", handle)], copy),
  row(17, "cryp_state_free", [arg("state", handle)], free),
];
