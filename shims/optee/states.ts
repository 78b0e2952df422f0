/** Cryptographic operations as the TEE keeps them behind a handle (OP-TEE's tee_cryp_state). */

import { blockName, chainMode, operationClass } from "./algorithm-fields.ts";
import { Alg } from "./algorithms.ts";
import { Mode, OperationClass } from "./constants.ts";
import { type AuthencState, Ccm, GCM_NONCE_MAX, Gcm } from "./crypto/authenc.ts";
import { BlockCipher, type BlockName } from "./crypto/block-cipher.ts";
import { type CipherState, createCipher } from "./crypto/cipher.ts";
import { createDigest, type DigestState, hashName } from "./crypto/hash.ts";
import { LongNonceGcm } from "./crypto/long-nonce-gcm.ts";
import { CbcMac, Cmac, Hmac, type MacState } from "./crypto/mac.ts";
import type { TeeObject } from "./objects.ts";
import { fail, Tee } from "./results.ts";

export class CryptoState {
  readonly algorithm: number;
  readonly mode: number;
  /** Handles of the keys, 0 for none. They belong to the operation. */
  readonly key1: number;
  readonly key2: number;
  digest: DigestState | undefined;
  mac: MacState | undefined;
  cipher: CipherState | undefined;
  authenc: AuthencState | undefined;

  constructor(algorithm: number, mode: number, key1: number, key2: number) {
    this.algorithm = algorithm;
    this.mode = mode;
    this.key1 = key1;
    this.key2 = key2;
  }

  get kind(): number {
    return operationClass(this.algorithm);
  }

  /** Takes over how far another operation of the same algorithm has come. */
  copyFrom(other: CryptoState): void {
    this.digest = other.digest?.copy();
    this.mac = other.mac?.copy();
    this.cipher = other.cipher?.copy();
    this.authenc = other.authenc?.copy();
  }
}

const MacMode = { CBC: 1, CBC_PKCS5: 5, CMAC: 6 } as const;
const AeMode = { CCM: 7, GCM: 8 } as const;

/** Whether the TEE has the algorithm. */
export function isSupported(algorithm: number): boolean {
  const mode = chainMode(algorithm);
  const block = blockName(algorithm);
  switch (operationClass(algorithm)) {
    case OperationClass.DIGEST:
      return createDigest(algorithm) !== undefined;
    case OperationClass.MAC: {
      if (block === undefined)
        return mode === 0 && hashName(algorithm & 0xff) !== undefined && (algorithm & 0xff) !== 15;
      const known: readonly number[] = Object.values(MacMode);
      return known.includes(mode) && block !== "sm4" && !(mode === MacMode.CMAC && block === "des");
    }
    case OperationClass.CIPHER:
      if (block === undefined || mode > 4) return false;
      if (algorithm === Alg.SM4_XTS) return true;
      return mode <= 1 || (mode === 2 && block !== "des" && block !== "des3") || block === "aes";
    case OperationClass.AE:
      return algorithm === Alg.AES_CCM || algorithm === Alg.AES_GCM;
    default:
      return false;
  }
}

function blockCipher(block: BlockName, key: Uint8Array): BlockCipher {
  try {
    return new BlockCipher(block, key);
  } catch (error) {
    if (error instanceof RangeError) return fail(Tee.ERROR_BAD_PARAMETERS, error.message);
    throw error;
  }
}

export function createMac(algorithm: number, key: TeeObject): MacState {
  const block = blockName(algorithm);
  if (block === undefined) {
    const name = hashName(algorithm & 0xff);
    return name === undefined ? fail(Tee.ERROR_NOT_SUPPORTED, "no such MAC") : new Hmac(name, key.secret);
  }
  const cipher = blockCipher(block, key.secret);
  const mode = chainMode(algorithm);
  return mode === MacMode.CMAC ? new Cmac(cipher) : new CbcMac(cipher, mode === MacMode.CBC_PKCS5);
}

export function startCipher(
  state: CryptoState,
  key1: TeeObject,
  key2: TeeObject | undefined,
  iv: Uint8Array,
): CipherState {
  const block = blockName(state.algorithm);
  if (block === undefined) return fail(Tee.ERROR_BAD_STATE, "not a cipher");
  if (state.mode !== Mode.ENCRYPT && state.mode !== Mode.DECRYPT)
    fail(Tee.ERROR_BAD_PARAMETERS, "the mode is neither encryption nor decryption");
  const first = blockCipher(block, key1.secret);
  const second = key2 === undefined ? undefined : blockCipher(block, key2.secret);
  return createCipher(chainMode(state.algorithm), first, state.mode === Mode.ENCRYPT, iv, second);
}

export function startAuthenc(
  state: CryptoState,
  key: TeeObject,
  nonce: Uint8Array,
  lengths: { readonly tag: number; readonly aad: number; readonly payload: number },
): AuthencState {
  const encrypt = state.mode === Mode.ENCRYPT;
  const { secret } = key;
  if (![16, 24, 32].includes(secret.length)) fail(Tee.ERROR_BAD_PARAMETERS, "no AES key of that length");
  if (chainMode(state.algorithm) === AeMode.GCM) {
    const Way = nonce.length > GCM_NONCE_MAX ? LongNonceGcm : Gcm;
    return new Way(secret, nonce, lengths.tag, encrypt);
  }
  return Ccm.create(secret, nonce, lengths.tag, lengths.aad, lengths.payload, encrypt);
}
