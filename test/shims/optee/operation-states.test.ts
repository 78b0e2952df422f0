/**
 * Every wrong state of operations that GlobalPlatform's TEE Internal Core API 1.3 speaks of, at the system calls: the
 * function with its section, what is wrong, the answer, and where OP-TEE gives it. libutee turns most of these answers into a
 * panic of the TA, as the specification wants. Two answers are stricter than OP-TEE's and say so: there the call goes on
 * with a context that has been finished.
 */
import { afterAll, expect } from "vitest";
import { Alg, Attr, ObjectType } from "../../../shims/optee/algorithms.ts";
import { Mode } from "../../../shims/optee/constants.ts";
import { bytes, Probe, room, text, u64 } from "./probe.ts";
import { block, NONE, row, stateTools, table } from "./states.ts";

const probe = new Probe();
afterAll(() => probe.close());
const {
  answer,
  alloc,
  key,
  pair,
  state,
  tried,
  aes,
  running,
  gcm,
  digest,
  mac,
  rsaKey,
  signs,
  update,
  final,
  sign,
  verify,
} = stateTools(probe);

table("6.2.1 TEE_AllocateOperation, 6.2.6 TEE_SetOperationKey, 6.2.7 TEE_SetOperationKey2", [
  row("no such class", "NOT_SUPPORTED", "syscall_cryp_state_alloc", () => tried(0x2000_0010, Mode.ENCRYPT)),
  row("no such algorithm", "NOT_SUPPORTED", "crypto_hash_alloc_ctx", () => tried(0x5000_00ee, Mode.DIGEST)),
  row("no key", "BAD_PARAMETERS", "syscall_cryp_state_alloc", () => tried(Alg.AES_CTR, Mode.ENCRYPT)),
  row("a key that is none", "BAD_STATE", "tee_obj_get", () => tried(Alg.AES_CTR, Mode.ENCRYPT, NONE)),
  row("a key of another type", "BAD_PARAMETERS", "tee_svc_cryp_check_key_type", () =>
    tried(Alg.AES_CTR, Mode.ENCRYPT, key(ObjectType.DES, 8)),
  ),
  row("another operation's key", "BAD_PARAMETERS", "syscall_cryp_state_alloc", () => {
    const object = key();
    state(Alg.AES_CTR, Mode.ENCRYPT, object);
    return tried(Alg.AES_CTR, Mode.ENCRYPT, object);
  }),
  row("another operation's key as the second", "BAD_PARAMETERS", "syscall_cryp_state_alloc", () => {
    const object = key();
    state(Alg.AES_CTR, Mode.ENCRYPT, object);
    return tried(Alg.AES_XTS, Mode.ENCRYPT, key(), object);
  }),
  row("two keys for one", "BAD_PARAMETERS", "syscall_cryp_state_alloc", () =>
    tried(Alg.AES_CTR, Mode.ENCRYPT, key(), key()),
  ),
  row("one key for two", "BAD_PARAMETERS", "syscall_cryp_state_alloc", () => tried(Alg.AES_XTS, Mode.ENCRYPT, key())),
  row("a key for a digest", "BAD_PARAMETERS", "syscall_cryp_state_alloc", () =>
    tried(Alg.SHA256, Mode.DIGEST, key(ObjectType.HMAC_SHA256, 32)),
  ),
  row("no key for a MAC", "BAD_PARAMETERS", "syscall_cryp_state_alloc", () => tried(Alg.HMAC_SHA256, Mode.MAC)),
  row("no key for GCM", "BAD_PARAMETERS", "syscall_cryp_state_alloc", () => tried(Alg.AES_GCM, Mode.ENCRYPT)),
  row("no key for a signature", "BAD_PARAMETERS", "syscall_cryp_state_alloc", () =>
    tried(Alg.RSASSA_PKCS1_V1_5_SHA256, Mode.SIGN),
  ),
  row("no key for a derivation", "BAD_PARAMETERS", "syscall_cryp_state_alloc", () =>
    tried(Alg.ECDH_DERIVE_SHARED_SECRET, Mode.DERIVE),
  ),
  row("a public key to sign with", "BAD_PARAMETERS", "tee_svc_cryp_check_key_type", () =>
    tried(Alg.RSASSA_PKCS1_V1_5_SHA256, Mode.SIGN, rsaKey(ObjectType.RSA_PUBLIC_KEY)),
  ),
  row("a key without a value: allowed", "SUCCESS", "syscall_cryp_state_alloc", () =>
    tried(Alg.AES_CTR, Mode.ENCRYPT, alloc(ObjectType.AES, 128)),
  ),
]);

table("6.2.2 TEE_FreeOperation, 6.2.8 TEE_CopyOperation", [
  row("no operation to free", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () => answer("cryp_state_free", NONE)),
  row("freed twice", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () => {
    const operation = digest();
    probe.ok("cryp_state_free", operation);
    return answer("cryp_state_free", operation);
  }),
  row("copied to none", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () => answer("cryp_state_copy", NONE, digest())),
  row("copied from none", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () => answer("cryp_state_copy", digest(), NONE)),
  row("another algorithm", "BAD_PARAMETERS", "syscall_cryp_state_copy", () =>
    answer("cryp_state_copy", digest(), state(Alg.SHA1, Mode.DIGEST)),
  ),
  row("another mode", "BAD_PARAMETERS", "syscall_cryp_state_copy", () =>
    answer("cryp_state_copy", aes(), aes(Alg.AES_CBC_NOPAD, Mode.DECRYPT)),
  ),
  row("asymmetric ones", "BAD_STATE", "syscall_cryp_state_copy", () => answer("cryp_state_copy", signs(), signs())),
  row("not initialized: the copy is not, either", "BAD_STATE", "syscall_cryp_state_copy", () => {
    const [to, from] = [running(), aes()];
    probe.ok("cryp_state_copy", to, from);
    return update(to);
  }),
]);

table("6.3 digests, 6.5 MACs", [
  row("none to initialize", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () => answer("hash_init", NONE, 0, 0)),
  row("a cipher to initialize", "BAD_PARAMETERS", "syscall_hash_init", () => answer("hash_init", aes(), 0, 0)),
  row("a MAC without a key's value", "BAD_PARAMETERS", "syscall_hash_init", () =>
    answer("hash_init", state(Alg.AES_CMAC, Mode.MAC, alloc(ObjectType.AES, 128)), 0, 0),
  ),
  row("none to update", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () => answer("hash_update", NONE, text("x"), 1)),
  row("a digest before its start", "BAD_STATE", "syscall_hash_update", () =>
    answer("hash_update", state(Alg.SHA256, Mode.DIGEST), text("x"), 1),
  ),
  row("a MAC before its start", "BAD_STATE", "syscall_hash_update", () => answer("hash_update", mac(), text("x"), 1)),
  row("a length without data", "BAD_PARAMETERS", "syscall_hash_update", () => answer("hash_update", digest(), 0, 1)),
  row("the end of none", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () => final(NONE)),
  row("the end before its start", "BAD_STATE", "syscall_hash_final", () => final(state(Alg.SHA256, Mode.DIGEST))),
  row("the end of a MAC before its start", "BAD_STATE", "syscall_hash_final", () => final(mac())),
  row("the end of a cipher", "BAD_STATE", "syscall_hash_final", () => final(aes())),
  row("no room: and the digest goes on", "SUCCESS", "syscall_hash_final", () => {
    const operation = digest();
    expect(answer("hash_final", operation, 0, 0, room(31), u64(31))).toBe("SHORT_BUFFER");
    return final(operation);
  }),
  row("update after the end", "BAD_STATE", "GP 6.3.2, stricter than OP-TEE", () => {
    const operation = digest();
    expect(final(operation)).toBe("SUCCESS");
    return answer("hash_update", operation, text("x"), 1);
  }),
  row("a second start: allowed, from nothing", "SUCCESS", "syscall_hash_init", () => {
    const operation = digest();
    probe.ok("hash_update", operation, text("x"), 1);
    probe.ok("hash_init", operation, 0, 0);
    return final(operation);
  }),
]);

table("6.4 symmetric ciphers", [
  row("none to initialize", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () =>
    answer("cipher_init", NONE, bytes(block), 16),
  ),
  row("a digest to initialize", "BAD_STATE", "syscall_cipher_init", () =>
    answer("cipher_init", digest(), bytes(block), 16),
  ),
  row("without a key's value", "BAD_PARAMETERS", "syscall_cipher_init", () =>
    answer("cipher_init", state(Alg.AES_CTR, Mode.ENCRYPT, alloc(ObjectType.AES, 128)), bytes(block), 16),
  ),
  row("without the second key's value", "BAD_PARAMETERS", "syscall_cipher_init", () =>
    answer("cipher_init", state(Alg.AES_XTS, Mode.ENCRYPT, key(), alloc(ObjectType.AES, 128)), bytes(block), 16),
  ),
  row("an initial vector of another size", "BAD_PARAMETERS", "crypto_cipher_init", () =>
    answer("cipher_init", aes(), bytes(block), 15),
  ),
  row("none to update", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () => update(NONE)),
  row("update before the start", "BAD_STATE", "tee_svc_cipher_update_helper", () => update(aes())),
  row("a digest to update", "BAD_STATE", "tee_svc_cipher_update_helper", () => update(state(Alg.SHA256, Mode.DIGEST))),
  row("no whole block", "BAD_PARAMETERS", "tee_do_cipher_update", () =>
    answer("cipher_update", running(), bytes(block), 15, room(16), u64(16)),
  ),
  row("no room: and the cipher goes on", "SUCCESS", "tee_svc_cipher_update_helper", () => {
    const operation = running();
    expect(answer("cipher_update", operation, bytes(block), 16, room(15), u64(15))).toBe("SHORT_BUFFER");
    return update(operation);
  }),
  row("the end before the start", "BAD_STATE", "tee_svc_cipher_update_helper", () =>
    answer("cipher_final", aes(), bytes(block), 16, room(16), u64(16)),
  ),
  row("update after the end", "BAD_STATE", "GP 6.4.3, stricter than OP-TEE", () => {
    const operation = running();
    probe.ok("cipher_final", operation, bytes(block), 16, room(16), u64(16));
    return update(operation);
  }),
  row("a second start: allowed", "SUCCESS", "syscall_cipher_init", () => {
    const operation = running();
    probe.ok("cipher_init", operation, bytes(block), 16);
    return update(operation);
  }),
]);

const payload = (operation: number): string =>
  answer("authenc_update_payload", operation, bytes(block), 16, room(16), u64(16));
const sealed = (operation: number, space = 16): string =>
  answer("authenc_enc_final", operation, 0, 0, 0, 0, room(space), u64(space));
const unsealed = (operation: number): string => answer("authenc_dec_final", operation, 0, 0, 0, 0, room(16), 16);
table("6.6 authenticated encryption", [
  row("none to initialize", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () =>
    answer("authenc_init", NONE, room(12), 12, 16, 0, 0),
  ),
  row("without a key's value", "BAD_PARAMETERS", "syscall_authenc_init", () =>
    answer("authenc_init", state(Alg.AES_GCM, Mode.ENCRYPT, alloc(ObjectType.AES, 128)), room(12), 12, 16, 0, 0),
  ),
  row("a tag too long", "BAD_PARAMETERS", "crypto_aes_gcm_init", () =>
    answer("authenc_init", aes(Alg.AES_GCM), room(12), 12, 17, 0, 0),
  ),
  row("associated data before the start", "BAD_STATE", "syscall_authenc_update_aad", () =>
    answer("authenc_update_aad", aes(Alg.AES_GCM), text("x"), 1),
  ),
  row("associated data for none", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () =>
    answer("authenc_update_aad", NONE, text("x"), 1),
  ),
  row("associated data for a cipher", "BAD_STATE", "syscall_authenc_update_aad", () =>
    answer("authenc_update_aad", running(), text("x"), 1),
  ),
  row("associated data after the payload", "BAD_STATE", "internal_aes_gcm_update_aad", () => {
    const operation = gcm();
    expect(payload(operation)).toBe("SUCCESS");
    return answer("authenc_update_aad", operation, text("x"), 1);
  }),
  row("payload before the start", "BAD_STATE", "syscall_authenc_update_payload", () => payload(aes(Alg.AES_GCM))),
  row("payload for none", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () => payload(NONE)),
  row("payload for a cipher", "BAD_STATE", "syscall_authenc_update_payload", () => payload(running())),
  row("the end before the start", "BAD_STATE", "syscall_authenc_enc_final", () => sealed(aes(Alg.AES_GCM))),
  row("the end of encryption for decryption", "BAD_PARAMETERS", "syscall_authenc_enc_final", () =>
    sealed(gcm(Mode.DECRYPT)),
  ),
  row("the end of decryption for encryption", "BAD_PARAMETERS", "syscall_authenc_dec_final", () => unsealed(gcm())),
  row("the end of decryption before the start", "BAD_STATE", "syscall_authenc_dec_final", () =>
    unsealed(aes(Alg.AES_GCM, Mode.DECRYPT)),
  ),
  row("the end of a cipher", "BAD_STATE", "syscall_authenc_enc_final", () => sealed(running())),
  row("no room for the tag: and it goes on", "SUCCESS", "syscall_authenc_enc_final", () => {
    const operation = gcm();
    expect(sealed(operation, 15)).toBe("SHORT_BUFFER");
    return sealed(operation);
  }),
  row("another tag", "MAC_INVALID", "crypto_aes_gcm_dec_final", () => unsealed(gcm(Mode.DECRYPT))),
  row("the end twice", "BAD_STATE", "GP 6.6.4", () => {
    const operation = gcm();
    expect(sealed(operation)).toBe("SUCCESS");
    return sealed(operation);
  }),
]);

table("6.7 asymmetric operations", [
  row("none", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () => sign(NONE)),
  row("without a key's value", "GENERIC", "syscall_asymm_operate", () =>
    sign(state(Alg.RSASSA_PKCS1_V1_5_SHA256, Mode.SIGN, alloc(ObjectType.RSA_KEYPAIR, 512))),
  ),
  row("signing with one that verifies", "BAD_PARAMETERS", "syscall_asymm_operate", () => sign(signs(Mode.VERIFY))),
  row("a digest of another size", "BAD_PARAMETERS", "crypto_acipher_rsassa_sign", () => sign(signs(), 31)),
  row("no room", "SHORT_BUFFER", "crypto_acipher_rsassa_sign", () =>
    answer("asymm_operate", signs(), 0, 0, room(32), 32, room(63), u64(63)),
  ),
  row("encrypting with one that derives", "BAD_PARAMETERS", "syscall_asymm_operate", () =>
    sign(state(Alg.ECDH_DERIVE_SHARED_SECRET, Mode.DERIVE, pair(ObjectType.ECDH_KEYPAIR, 256, 3))),
  ),
  row("verifying with none", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () => verify(NONE)),
  row("verifying with one that signs", "BAD_PARAMETERS", "syscall_asymm_verify", () => verify(signs())),
  row("verifying without a key's value", "BAD_PARAMETERS", "syscall_asymm_verify", () =>
    verify(state(Alg.RSASSA_PKCS1_V1_5_SHA256, Mode.VERIFY, alloc(ObjectType.RSA_PUBLIC_KEY, 512))),
  ),
  row("verifying a digest of another size", "BAD_PARAMETERS", "syscall_asymm_verify", () =>
    answer("asymm_verify", signs(Mode.VERIFY), 0, 0, room(31), 31, room(64), 64),
  ),
  row("another signature", "SIGNATURE_INVALID", "crypto_acipher_rsassa_verify", () => verify(signs(Mode.VERIFY))),
  row("decrypting what is no cipher text", "BAD_PARAMETERS", "sw_crypto_acipher_rsaes_decrypt", () =>
    sign(state(Alg.RSAES_PKCS1_V1_5, Mode.DECRYPT, rsaKey()), 63),
  ),
]);

const derive = (operation: number, target: number): string =>
  answer("cryp_derive_key", operation, [[Attr.X25519_PUBLIC_VALUE, new Uint8Array(32).fill(9)]], 1, target);
const x25519 = (): number => state(Alg.X25519, Mode.DERIVE, pair(ObjectType.X25519_KEYPAIR, 256));
table("6.8.1 TEE_DeriveKey", [
  row("no operation", "BAD_PARAMETERS", "tee_svc_cryp_get_state", () =>
    derive(NONE, alloc(ObjectType.GENERIC_SECRET, 256)),
  ),
  row("no object", "BAD_STATE", "tee_obj_get", () => derive(x25519(), NONE)),
  row("an object that is no symmetric key", "NOT_SUPPORTED", "syscall_cryp_derive_key", () =>
    derive(x25519(), alloc(ObjectType.RSA_KEYPAIR, 512)),
  ),
  row("an operation that derives nothing", "NOT_SUPPORTED", "syscall_cryp_derive_key", () =>
    derive(signs(), alloc(ObjectType.GENERIC_SECRET, 256)),
  ),
  row("another parameter than the other's key", "BAD_PARAMETERS", "syscall_cryp_derive_key", () =>
    answer("cryp_derive_key", x25519(), [[Attr.SECRET_VALUE, block]], 1, alloc(ObjectType.GENERIC_SECRET, 256)),
  ),
  row("as it should be", "SUCCESS", "syscall_cryp_derive_key", () =>
    derive(x25519(), alloc(ObjectType.GENERIC_SECRET, 256)),
  ),
]);
