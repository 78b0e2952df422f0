/** The attestation pseudo-TA (pta_attestation.h): signed measurements, under a key that belongs to the device. */

import { Alg } from "../algorithms.ts";
import { PrivateArea } from "../areas.ts";
import { ParamType } from "../constants.ts";
import { digest } from "../crypto/hash.ts";
import { encodePss, generateRsa, modulusBytes, type RsaPrivate, rsaPrivate } from "../crypto/rsa.ts";
import type { Instance } from "../instance.ts";
import { bitLength, fromBig, toBig } from "../objects.ts";
import { SeededEntropy } from "../random.ts";
import { fail, Tee } from "../results.ts";
import { uuidFromBytes } from "../uuid.ts";
import type { PseudoCall, PseudoTa } from "./pseudo.ts";

const { NONE, VALUE_OUTPUT, MEMREF_INPUT, MEMREF_OUTPUT } = ParamType;
const Command = { GET_PUBKEY: 0, GET_TA_SHDR_DIGEST: 1, HASH_TA_MEMORY: 2, HASH_TEE_MEMORY: 3 } as const;
const KEY_BITS = 2048;
const SALT_BYTES = 32;

export class AttestationPta implements PseudoTa {
  readonly uuid = "39800861-182a-4720-9b67-2bcd622bc0b5";
  readonly name = "attestation.pta";
  #key: RsaPrivate | undefined;

  open(): number {
    return Tee.SUCCESS;
  }

  invoke(call: PseudoCall): number {
    switch (call.command) {
      case Command.GET_PUBKEY:
        return this.#publicKey(call);
      case Command.GET_TA_SHDR_DIGEST: {
        call.expect(MEMREF_INPUT, MEMREF_INPUT, MEMREF_OUTPUT, NONE);
        if (call.size(0) !== 16) fail(Tee.ERROR_BAD_PARAMETERS, "a UUID has 16 bytes");
        const uuid = uuidFromBytes(call.read(0));
        const binary = call.tee.binary(uuid);
        // Files here have no signed header, so the digest is that of the file.
        return this.#sign(call, 1, 2, () =>
          binary === undefined
            ? fail(Tee.ERROR_ITEM_NOT_FOUND, `${uuid} is not given`)
            : digest("sha256", binary.bytes),
        );
      }
      case Command.HASH_TA_MEMORY: {
        call.expect(MEMREF_INPUT, MEMREF_OUTPUT, NONE, NONE);
        const { caller } = call;
        if (caller === undefined) return fail(Tee.ERROR_ACCESS_DENIED, "only a TA has memory to measure");
        return this.#sign(call, 0, 1, () => measure(caller));
      }
      case Command.HASH_TEE_MEMORY:
        call.expect(MEMREF_INPUT, MEMREF_OUTPUT, NONE, NONE);
        return fail(Tee.ERROR_NOT_SUPPORTED, "the TEE itself is not in guest memory");
      default:
        return fail(Tee.ERROR_BAD_PARAMETERS, "no such command");
    }
  }

  /** Made of the device's own key, so that it is the same in every run. */
  #keyOf(call: PseudoCall): RsaPrivate {
    const seed = `attestation ${Buffer.from(call.tee.huk).toString("hex")}`;
    this.#key ??= generateRsa(new SeededEntropy(seed), KEY_BITS, 65537n);
    return this.#key;
  }

  #publicKey(call: PseudoCall): number {
    call.expect(MEMREF_OUTPUT, MEMREF_OUTPUT, VALUE_OUTPUT, NONE);
    const { n, e } = this.#keyOf(call);
    const exponent = call.write(0, fromBig(e));
    const modulus = call.write(1, fromBig(n));
    call.setValue(2, Alg.RSASSA_PKCS1_PSS_MGF1_SHA256, 0);
    return exponent !== Tee.SUCCESS ? exponent : modulus;
  }

  /** A measurement, followed by the signature of its digest together with the nonce. */
  #sign(call: PseudoCall, nonce: number, out: number, measured: () => Uint8Array): number {
    if (call.size(nonce) === 0) fail(Tee.ERROR_BAD_PARAMETERS, "no nonce");
    const key = this.#keyOf(call);
    const length = modulusBytes(key);
    if (call.size(out) < 32 + length) {
      call.setSize(out, 32 + length);
      return Tee.ERROR_SHORT_BUFFER;
    }
    const hash = measured();
    const message = digest("sha256", call.read(nonce), hash);
    const block = encodePss(message, bitLength(key.n) - 1, "sha256", call.tee.entropy.bytes(SALT_BYTES));
    if (block === undefined) return fail(Tee.ERROR_GENERIC, "the key is too short");
    return call.write(out, Buffer.concat([hash, fromBig(rsaPrivate(key, toBig(block)), length)]));
  }
}

/** What of a TA cannot change: its read-only mappings, small ones first, so that their addresses do not matter. */
function measure(caller: Instance): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { backing, start, end, prot } of caller.memory.space.regions()) {
    const fixed = backing instanceof PrivateArea && !backing.permanent && (prot & 2) === 0 && (prot & 1) !== 0;
    if (fixed) parts.push(caller.memory.guest.bytes(start, end - start));
  }
  parts.sort((a, b) => a.length - b.length || Buffer.compare(a, b));
  return digest("sha256", ...parts);
}
