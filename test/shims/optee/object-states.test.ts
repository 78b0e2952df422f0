/**
 * Every wrong state of objects that GlobalPlatform's TEE Internal Core API 1.3 speaks of, at the system calls: the
 * function with its section, what is wrong, the answer, and where OP-TEE gives it. libutee turns most of these answers into a
 * panic of the TA, as the specification wants.
 */
import { afterAll } from "vitest";
import { Alg, Attr, ObjectType } from "../../../shims/optee/algorithms.ts";
import { DataFlag, Mode } from "../../../shims/optee/constants.ts";
import { Probe, room, text, u32, u64 } from "./probe.ts";
import { block, NONE, row, stateTools, table } from "./states.ts";

const probe = new Probe();
afterAll(() => probe.close());
const { answer, alloc, key, state, stored, rsa, rsaKey, lastFile } = stateTools(probe);
const { ACCESS_READ, ACCESS_WRITE, ACCESS_WRITE_META, OVERWRITE } = DataFlag;
const ALL = ACCESS_READ | ACCESS_WRITE | ACCESS_WRITE_META;

table("5.5.1 TEE_GetObjectInfo1", [
  row("no object", "BAD_STATE", "tee_obj_get", () => answer("cryp_obj_get_info", NONE, room(28))),
  row("a closed one", "BAD_STATE", "tee_obj_get", () => {
    const object = key();
    probe.ok("cryp_obj_close", object);
    return answer("cryp_obj_get_info", object, room(28));
  }),
  row("not initialized: allowed", "SUCCESS", "syscall_cryp_obj_get_info", () =>
    answer("cryp_obj_get_info", alloc(ObjectType.AES, 128), room(28)),
  ),
]);

table("5.5.2 TEE_RestrictObjectUsage1", [
  row("no object", "BAD_STATE", "tee_obj_get", () => answer("cryp_obj_restrict_usage", NONE, 0)),
  row("not initialized: allowed", "SUCCESS", "syscall_cryp_obj_restrict_usage", () =>
    answer("cryp_obj_restrict_usage", alloc(ObjectType.AES, 128), 0),
  ),
]);

table("5.5.3 TEE_GetObjectBufferAttribute, 5.5.4 TEE_GetObjectValueAttribute", [
  row("no object", "ITEM_NOT_FOUND", "syscall_cryp_obj_get_attr", () =>
    answer("cryp_obj_get_attr", NONE, Attr.SECRET_VALUE, room(16), u64(16)),
  ),
  row("not initialized", "BAD_PARAMETERS", "syscall_cryp_obj_get_attr", () =>
    answer("cryp_obj_get_attr", alloc(ObjectType.AES, 128), Attr.SECRET_VALUE, room(16), u64(16)),
  ),
  row("secret, and usage without EXTRACTABLE", "BAD_PARAMETERS", "syscall_cryp_obj_get_attr", () => {
    const object = key();
    probe.ok("cryp_obj_restrict_usage", object, ~1 >>> 0);
    return answer("cryp_obj_get_attr", object, Attr.SECRET_VALUE, room(16), u64(16));
  }),
  row("public, and usage without EXTRACTABLE: allowed", "SUCCESS", "syscall_cryp_obj_get_attr", () => {
    const object = rsaKey();
    probe.ok("cryp_obj_restrict_usage", object, 0);
    return answer("cryp_obj_get_attr", object, Attr.RSA_MODULUS, room(64), u64(64));
  }),
  row("an attribute it does not have", "ITEM_NOT_FOUND", "get_attribute", () =>
    answer("cryp_obj_get_attr", key(), Attr.RSA_MODULUS, room(16), u64(16)),
  ),
  row("a data object", "BAD_STATE", "tee_svc_find_type_props", () =>
    answer("cryp_obj_get_attr", stored(), Attr.RSA_MODULUS, room(16), u64(16)),
  ),
  row("no room", "SHORT_BUFFER", "op_attr_secret_value_to_user", () =>
    answer("cryp_obj_get_attr", key(), Attr.SECRET_VALUE, room(15), u64(15)),
  ),
]);

table("5.5.5 TEE_CloseObject", [
  row("no object", "BAD_STATE", "tee_obj_get", () => answer("cryp_obj_close", NONE)),
  row("twice", "BAD_STATE", "tee_obj_get", () => {
    const object = key();
    probe.ok("cryp_obj_close", object);
    return answer("cryp_obj_close", object);
  }),
  row("an operation's key", "ITEM_NOT_FOUND", "syscall_cryp_obj_close", () => {
    const object = key();
    state(Alg.AES_CTR, Mode.ENCRYPT, object);
    return answer("cryp_obj_close", object);
  }),
]);

table("5.6.1 TEE_AllocateTransientObject", [
  row("no such type", "NOT_SUPPORTED", "tee_obj_set_type", () => answer("cryp_obj_alloc", 0xa000_0077, 128, u32())),
  row("no such size", "NOT_SUPPORTED", "check_key_size", () => answer("cryp_obj_alloc", ObjectType.AES, 100, u32())),
]);

table("5.6.3 TEE_ResetTransientObject", [
  row("no object", "BAD_STATE", "tee_obj_get", () => answer("cryp_obj_reset", NONE)),
  row("a persistent one", "BAD_PARAMETERS", "syscall_cryp_obj_reset", () => answer("cryp_obj_reset", stored())),
]);

table("5.6.4 TEE_PopulateTransientObject", [
  row("no object", "BAD_STATE", "tee_obj_get", () =>
    answer("cryp_obj_populate", NONE, [[Attr.SECRET_VALUE, block]], 1),
  ),
  row("a persistent one", "BAD_PARAMETERS", "syscall_cryp_obj_populate", () =>
    answer("cryp_obj_populate", stored(), [[Attr.SECRET_VALUE, block]], 1),
  ),
  row("initialized", "BAD_PARAMETERS", "syscall_cryp_obj_populate", () =>
    answer("cryp_obj_populate", key(), [[Attr.SECRET_VALUE, block]], 1),
  ),
  row("a mandatory attribute is missing", "ITEM_NOT_FOUND", "tee_svc_cryp_check_attr", () =>
    answer("cryp_obj_populate", alloc(ObjectType.RSA_PUBLIC_KEY, 512), [[Attr.RSA_MODULUS, block]], 1),
  ),
  row("an attribute of another type", "ITEM_NOT_FOUND", "tee_svc_cryp_check_attr", () =>
    answer("cryp_obj_populate", alloc(ObjectType.AES, 128), [[Attr.RSA_MODULUS, block]], 1),
  ),
  row("larger than the object", "BAD_STATE", "tee_svc_cryp_obj_populate_type", () =>
    answer("cryp_obj_populate", alloc(ObjectType.AES, 128), [[Attr.SECRET_VALUE, new Uint8Array(24)]], 1),
  ),
]);

table("5.6.6 TEE_CopyObjectAttributes1", [
  row("no destination", "BAD_STATE", "tee_obj_get", () => answer("cryp_obj_copy", NONE, key())),
  row("no source", "BAD_STATE", "tee_obj_get", () => answer("cryp_obj_copy", alloc(ObjectType.AES, 128), NONE)),
  row("the source is not initialized", "BAD_PARAMETERS", "syscall_cryp_obj_copy", () =>
    answer("cryp_obj_copy", alloc(ObjectType.AES, 128), alloc(ObjectType.AES, 128)),
  ),
  row("the destination is initialized", "BAD_PARAMETERS", "syscall_cryp_obj_copy", () =>
    answer("cryp_obj_copy", key(), key()),
  ),
  row("the destination is persistent", "BAD_PARAMETERS", "syscall_cryp_obj_copy", () =>
    answer("cryp_obj_copy", stored(ALL, key()), key()),
  ),
  row("a pair from a public key", "BAD_PARAMETERS", "tee_obj_attr_copy_from", () =>
    answer("cryp_obj_copy", alloc(ObjectType.RSA_KEYPAIR, 512), rsaKey(ObjectType.RSA_PUBLIC_KEY)),
  ),
  row("another type", "BAD_PARAMETERS", "tee_obj_attr_copy_from", () =>
    answer("cryp_obj_copy", alloc(ObjectType.DES, 64), key()),
  ),
  row("a public key from a pair: allowed", "SUCCESS", "tee_obj_attr_copy_from", () =>
    answer("cryp_obj_copy", alloc(ObjectType.RSA_PUBLIC_KEY, 512), rsa),
  ),
]);

table("5.6.7 TEE_GenerateKey", [
  row("no object", "BAD_STATE", "tee_obj_get", () => answer("cryp_obj_generate_key", NONE, 128, 0, 0)),
  row("initialized", "BAD_STATE", "syscall_obj_generate_key", () => answer("cryp_obj_generate_key", key(), 128, 0, 0)),
  row("a persistent one", "BAD_STATE", "syscall_obj_generate_key", () =>
    answer("cryp_obj_generate_key", stored(), 128, 0, 0),
  ),
  row("no size of the type", "NOT_SUPPORTED", "check_key_size", () =>
    answer("cryp_obj_generate_key", alloc(ObjectType.AES, 128), 100, 0, 0),
  ),
  row("larger than the object: as far as the type goes", "SUCCESS", "syscall_obj_generate_key", () =>
    answer("cryp_obj_generate_key", alloc(ObjectType.GENERIC_SECRET, 8), 4096, 0, 0),
  ),
  row("no curve", "ITEM_NOT_FOUND", "tee_svc_cryp_check_attr", () =>
    answer("cryp_obj_generate_key", alloc(ObjectType.ECDSA_KEYPAIR, 256), 256, 0, 0),
  ),
]);

table("5.7.1 TEE_OpenPersistentObject", [
  row("no such storage", "ITEM_NOT_FOUND", "tee_svc_storage_file_ops", () =>
    answer("storage_obj_open", 77, text("a"), 1, ACCESS_READ, u32()),
  ),
  row("no such object", "ITEM_NOT_FOUND", "syscall_storage_obj_open", () =>
    answer("storage_obj_open", 1, text("none"), 4, ACCESS_READ, u32()),
  ),
  row("a name too long", "BAD_PARAMETERS", "syscall_storage_obj_open", () =>
    answer("storage_obj_open", 1, room(65), 65, ACCESS_READ, u32()),
  ),
  row("a flag that is for creating", "BAD_PARAMETERS", "syscall_storage_obj_open", () =>
    answer("storage_obj_open", 1, text("a"), 1, OVERWRITE, u32()),
  ),
  row("opened elsewhere without sharing", "ACCESS_CONFLICT", "tee_pobj_check_access", () => {
    stored();
    const name = lastFile();
    return answer("storage_obj_open", 1, text(name), name.length, ACCESS_READ, u32());
  }),
]);

table("5.7.2 TEE_CreatePersistentObject", [
  row("there is one, and no OVERWRITE", "ACCESS_CONFLICT", "tee_fs_create", () => {
    probe.ok("cryp_obj_close", stored());
    const name = lastFile();
    return answer("storage_obj_create", 1, text(name), name.length, ALL, 0, 0, 0, u32());
  }),
  row("attributes of no object", "BAD_STATE", "tee_obj_get", () =>
    answer("storage_obj_create", 1, text("n1"), 2, ALL, NONE, 0, 0, u32()),
  ),
  row("attributes that are not initialized", "BAD_PARAMETERS", "syscall_storage_obj_create", () =>
    answer("storage_obj_create", 1, text("n2"), 2, ALL, alloc(ObjectType.AES, 128), 0, 0, u32()),
  ),
  row("a length without data", "BAD_PARAMETERS", "syscall_storage_obj_create", () =>
    answer("storage_obj_create", 1, text("n3"), 2, ALL, 0, 0, 4, u32()),
  ),
]);

table("5.7.4 TEE_CloseAndDeletePersistentObject1", [
  row("no object", "BAD_STATE", "tee_obj_get", () => answer("storage_obj_del", NONE)),
  row("a transient one", "ACCESS_CONFLICT", "syscall_storage_obj_del", () => answer("storage_obj_del", key())),
  row("opened without WRITE_META", "ACCESS_CONFLICT", "syscall_storage_obj_del", () =>
    answer("storage_obj_del", stored(ACCESS_READ | ACCESS_WRITE)),
  ),
]);

table("5.7.5 TEE_RenamePersistentObject", [
  row("no object", "BAD_STATE", "tee_obj_get", () => answer("storage_obj_rename", NONE, text("x"), 1)),
  row("a transient one", "BAD_STATE", "syscall_storage_obj_rename", () =>
    answer("storage_obj_rename", key(), text("x"), 1),
  ),
  row("opened without WRITE_META", "BAD_STATE", "syscall_storage_obj_rename", () =>
    answer("storage_obj_rename", stored(ACCESS_READ), text("x"), 1),
  ),
  row("to the name of another", "ACCESS_CONFLICT", "tee_pobj_get", () => {
    probe.ok("cryp_obj_close", stored());
    const taken = lastFile();
    return answer("storage_obj_rename", stored(), text(taken), taken.length);
  }),
]);

const enumerator = (): number => probe.handle("storage_alloc_enum");
table("5.8 enumerators", [
  row("none to free", "BAD_PARAMETERS", "tee_svc_storage_get_enum", () => answer("storage_free_enum", NONE)),
  row("none to reset", "BAD_PARAMETERS", "tee_svc_storage_get_enum", () => answer("storage_reset_enum", NONE)),
  row("none to start", "BAD_PARAMETERS", "tee_svc_storage_get_enum", () => answer("storage_start_enum", NONE, 1)),
  row("none to go on with", "BAD_PARAMETERS", "tee_svc_storage_get_enum", () =>
    answer("storage_next_enum", NONE, room(28), room(64), u64()),
  ),
  row("freed twice", "BAD_PARAMETERS", "tee_svc_storage_get_enum", () => {
    const list = enumerator();
    probe.ok("storage_free_enum", list);
    return answer("storage_free_enum", list);
  }),
  row("not started", "ITEM_NOT_FOUND", "syscall_storage_next_enum", () =>
    answer("storage_next_enum", enumerator(), room(28), room(64), u64()),
  ),
  row("reset", "ITEM_NOT_FOUND", "syscall_storage_reset_enum", () => {
    stored();
    const list = enumerator();
    probe.ok("storage_start_enum", list, 1);
    probe.ok("storage_reset_enum", list);
    return answer("storage_next_enum", list, room(28), room(64), u64());
  }),
  row("reset before it was started: allowed", "SUCCESS", "syscall_storage_reset_enum", () =>
    answer("storage_reset_enum", enumerator()),
  ),
  row("no such storage", "ITEM_NOT_FOUND", "syscall_storage_start_enum", () =>
    answer("storage_start_enum", enumerator(), 77),
  ),
]);

table("5.9.1 TEE_ReadObjectData", [
  row("no object", "BAD_STATE", "tee_obj_get", () => answer("storage_obj_read", NONE, room(1), 1, u64())),
  row("a transient one", "BAD_STATE", "syscall_storage_obj_read", () =>
    answer("storage_obj_read", key(), room(1), 1, u64()),
  ),
  row("not opened for reading", "ACCESS_CONFLICT", "syscall_storage_obj_read", () =>
    answer("storage_obj_read", stored(ACCESS_WRITE), room(1), 1, u64()),
  ),
  row("beyond its end: nothing, and success", "SUCCESS", "tee_fs_read", () => {
    const object = stored();
    probe.ok("storage_obj_seek", object, 100, 0);
    return answer("storage_obj_read", object, room(1), 1, u64());
  }),
]);

table("5.9.2 TEE_WriteObjectData, 5.9.3 TEE_TruncateObjectData", [
  row("no object", "BAD_STATE", "tee_obj_get", () => answer("storage_obj_write", NONE, room(1), 1)),
  row("a transient one", "BAD_STATE", "syscall_storage_obj_write", () =>
    answer("storage_obj_write", key(), room(1), 1),
  ),
  row("not opened for writing", "ACCESS_CONFLICT", "syscall_storage_obj_write", () =>
    answer("storage_obj_write", stored(ACCESS_READ), room(1), 1),
  ),
  row("beyond TEE_DATA_MAX_POSITION", "OVERFLOW", "GP 5.9.2", () => {
    const object = stored();
    for (let n = 0; n < 2; n++) probe.ok("storage_obj_seek", object, 0x7fff_ffff, 1);
    return answer("storage_obj_write", object, room(8), 8);
  }),
  row("no object to cut", "BAD_STATE", "tee_obj_get", () => answer("storage_obj_trunc", NONE, 1)),
  row("a transient one to cut", "BAD_STATE", "syscall_storage_obj_trunc", () => answer("storage_obj_trunc", key(), 1)),
  row("not opened for writing, to cut", "ACCESS_CONFLICT", "syscall_storage_obj_trunc", () =>
    answer("storage_obj_trunc", stored(ACCESS_READ), 1),
  ),
]);

table("5.9.4 TEE_SeekObjectData", [
  row("no object", "BAD_STATE", "tee_obj_get", () => answer("storage_obj_seek", NONE, 0, 0)),
  row("a transient one", "BAD_STATE", "syscall_storage_obj_seek", () => answer("storage_obj_seek", key(), 0, 0)),
  row("no such origin", "BAD_PARAMETERS", "syscall_storage_obj_seek", () => answer("storage_obj_seek", stored(), 0, 3)),
  row("beyond TEE_DATA_MAX_POSITION", "OVERFLOW", "GP 5.9.4", () => {
    const object = stored();
    for (let n = 0; n < 2; n++) probe.ok("storage_obj_seek", object, 0x7fff_ffff, 1);
    return answer("storage_obj_seek", object, 0x7fff_ffff, 1);
  }),
]);
