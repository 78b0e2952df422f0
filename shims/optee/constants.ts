/** Flags and small enumerations of the GlobalPlatform TEE Internal Core API 1.3, under its own names. */

/** TEE_MODE_*. */
export const Mode = { ENCRYPT: 0, DECRYPT: 1, SIGN: 2, VERIFY: 3, MAC: 4, DIGEST: 5, DERIVE: 6 } as const;

/** TEE_OPERATION_*: the top four bits of most algorithm numbers. */
export const OperationClass = {
  CIPHER: 1,
  MAC: 3,
  AE: 4,
  DIGEST: 5,
  ASYMMETRIC_CIPHER: 6,
  ASYMMETRIC_SIGNATURE: 7,
  KEY_DERIVATION: 8,
} as const;

/** TEE_USAGE_*. */
export const Usage = {
  EXTRACTABLE: 1,
  ENCRYPT: 2,
  DECRYPT: 4,
  MAC: 8,
  SIGN: 0x10,
  VERIFY: 0x20,
  DERIVE: 0x40,
} as const;
/** What a new key may be used for: everything. */
export const USAGE_DEFAULT = 0xffff_ffff;

/** TEE_HANDLE_FLAG_*. */
export const HandleFlag = {
  PERSISTENT: 0x1_0000,
  INITIALIZED: 0x2_0000,
  KEY_SET: 0x4_0000,
  EXPECT_TWO_KEYS: 0x8_0000,
} as const;

/** TEE_DATA_FLAG_*. */
export const DataFlag = {
  ACCESS_READ: 1,
  ACCESS_WRITE: 2,
  ACCESS_WRITE_META: 4,
  SHARE_READ: 0x10,
  SHARE_WRITE: 0x20,
  OVERWRITE: 0x400,
} as const;

/** TEE_DATA_SEEK_*. */
export const Whence = { SET: 0, CUR: 1, END: 2 } as const;
export const OBJECT_ID_MAX = 64;
export const DATA_MAX_POSITION = 0xffff_ffff;

/** TEE_STORAGE_*; the two others are OP-TEE's names for where the private storage lies. */
export const StorageId = { PRIVATE: 1, PRIVATE_REE: 0x8000_0000, PRIVATE_RPMB: 0x8000_0100 } as const;

/** TEE_PROPSET_*. */
export const PropSet = {
  TEE_IMPLEMENTATION: 0xffff_fffd,
  CURRENT_CLIENT: 0xffff_fffe,
  CURRENT_TA: 0xffff_ffff,
} as const;

/** TEE_LOGIN_*. */
export const Login = {
  PUBLIC: 0,
  USER: 1,
  GROUP: 2,
  APPLICATION: 4,
  APPLICATION_USER: 5,
  APPLICATION_GROUP: 6,
  REE_KERNEL: 0x8000_0000,
  TRUSTED_APP: 0xf000_0000,
} as const;

/** enum utee_time_category. */
export const TimeCategory = { SYSTEM: 0, TA_PERSISTENT: 1, REE: 2 } as const;

/** TEE_ECC_CURVE_*. */
export const Curve = {
  NIST_P192: 1,
  NIST_P224: 2,
  NIST_P256: 3,
  NIST_P384: 4,
  NIST_P521: 5,
  CURVE_25519: 0x300,
  SM2: 0x400,
} as const;

/** Bits of an attribute's identifier. */
export const ATTR_PUBLIC = 1 << 28;
export const ATTR_VALUE = 1 << 29;

/** TEE_PARAM_TYPE_*. */
export const ParamType = {
  NONE: 0,
  VALUE_INPUT: 1,
  VALUE_OUTPUT: 2,
  VALUE_INOUT: 3,
  MEMREF_INPUT: 5,
  MEMREF_OUTPUT: 6,
  MEMREF_INOUT: 7,
} as const;
