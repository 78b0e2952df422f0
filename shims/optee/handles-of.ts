/** Handles that calls name, and what OP-TEE answers for one that is not there. */
import type { Call } from "./call.ts";
import type { TeeObject } from "./objects.ts";
import { fail, Tee } from "./results.ts";
import type { CryptoState } from "./states.ts";
import type { StorageEnumerator } from "./storage/enumerator.ts";

export function objectOf(call: Call, handle: number): TeeObject {
  return call.instance.objects.get(handle) ?? fail(Tee.ERROR_BAD_STATE, `there is no object ${handle}`);
}

export function stateOf(call: Call, handle: number): CryptoState {
  return call.instance.states.get(handle) ?? fail(Tee.ERROR_BAD_PARAMETERS, `there is no operation ${handle}`);
}

export function enumeratorOf(call: Call, handle: number): StorageEnumerator {
  return call.instance.enumerators.get(handle) ?? fail(Tee.ERROR_BAD_PARAMETERS, `there is no enumerator ${handle}`);
}

/** The first key of an operation, which has to hold something. */
export function keyOf(call: Call, state: CryptoState, empty: number = Tee.ERROR_BAD_PARAMETERS): TeeObject {
  const key = objectOf(call, state.key1);
  return key.initialized ? key : fail(empty, "the key is not initialized");
}
