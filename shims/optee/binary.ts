/** A trusted application's file: what its ELF headers and its `.ta_head` section say (OP-TEE's user_ta_header.h). */
import { type ElfImage, EM_X86_64, parseElf } from "../../emulator/elf.ts";
import { UserError } from "../../emulator/errors.ts";
import { NIL_UUID, normalizeUuid, uuidFromBytes } from "./uuid.ts";

export const TaFlag = {
  SINGLE_INSTANCE: 1 << 2,
  MULTI_SESSION: 1 << 3,
  INSTANCE_KEEP_ALIVE: 1 << 4,
  SECURE_DATA_PATH: 1 << 5,
  CACHE_MAINTENANCE: 1 << 7,
  CONCURRENT: 1 << 8,
  DEVICE_ENUM: 1 << 9,
  DEVICE_ENUM_SUPP: 1 << 10,
  DONT_CLOSE_HANDLE_ON_CORRUPT_OBJECT: 1 << 11,
  DEVICE_ENUM_TEE_STORAGE_PRIVATE: 1 << 12,
  INSTANCE_KEEP_CRASHED: 1 << 13,
} as const;

/** TEE_UUID, stack size, flags and a deprecated entry point. */
const HEAD_BYTES = 32;
const NO_ENTRY = 2 ** 64 - 1;
const SHDR_BYTES = 64;
const HEAD_NAME = ".ta_head\0";

export interface TaBinary {
  /** How messages call the file. */
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly image: ElfImage;
  readonly uuid: string;
  /** A library has no head; only a TA that needs it brings it in. */
  readonly library: boolean;
  readonly flags: number;
  /** As the head asks for it, in bytes. */
  readonly stackSize: number;
  /** Entry point as the file has it, before any bias. */
  readonly entry: number;
}

/**
 * Reads a TA, or a library that TAs need: a library's UUID is its file name, as OP-TEE finds it.
 * @throws UserError when it is neither
 */
export function readTa(bytes: Uint8Array, name: string): TaBinary {
  const image = parseElf(bytes, name);
  if (image.machine !== EM_X86_64)
    throw new UserError(
      `cannot run ${name}: it is a 32-bit program, and trusted applications are x86-64; build it with -m64`,
      126,
    );
  const head = taHead(bytes, image, name);
  const fileUuid = normalizeUuid(name.slice(name.lastIndexOf("/") + 1).replace(/\.[^.]*$/, ""));
  if (head === undefined) {
    if (fileUuid === undefined)
      throw new UserError(
        `cannot run ${name}: it has no .ta_head section, so it is no trusted application; a library for one is named by its UUID`,
        126,
      );
    return { name, bytes, image, uuid: fileUuid, library: true, flags: 0, stackSize: 0, entry: image.entry };
  }
  if (image.type !== "dyn")
    throw new UserError(`cannot run ${name}: a trusted application is position-independent; link it with -pie`, 126);
  const uuid = uuidFromBytes(head);
  if (uuid === NIL_UUID) throw new UserError(`cannot run ${name}: the UUID in its .ta_head is nil`, 126);
  const view = new DataView(head.buffer, head.byteOffset, HEAD_BYTES);
  const deprecated = Number(view.getBigUint64(24, true));
  return {
    name,
    bytes,
    image,
    uuid,
    library: false,
    stackSize: view.getUint32(16, true),
    flags: view.getUint32(20, true),
    // Before OP-TEE 3.8 the head held the entry point; now it holds all ones or nothing, and the ELF header has it.
    entry: deprecated !== 0 && deprecated !== NO_ENTRY ? deprecated : image.entry,
  };
}

function taHead(bytes: Uint8Array, image: ElfImage, name: string): Uint8Array | undefined {
  const { offset, entrySize, count } = image.sections;
  if (offset === 0 || entrySize !== SHDR_BYTES) return undefined;
  if (offset + count * SHDR_BYTES > bytes.length)
    throw new UserError(
      `cannot run ${name}: its ${count} section headers should lie at offset 0x${offset.toString(16)}, and the file ends at 0x${bytes.length.toString(16)}; it is truncated, so copy or build it again`,
      126,
    );
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const strings = view.getUint16(62, true);
  if (strings >= count) return undefined;
  const names = Number(view.getBigUint64(offset + strings * SHDR_BYTES + 24, true));
  for (let index = 0; index < count; index++) {
    const header = offset + index * SHDR_BYTES;
    const at = names + view.getUint32(header, true);
    if (Buffer.from(bytes.subarray(at, at + HEAD_NAME.length)).toString("latin1") !== HEAD_NAME) continue;
    const start = Number(view.getBigUint64(header + 24, true));
    const size = Number(view.getBigUint64(header + 32, true));
    if (size < HEAD_BYTES || start + HEAD_BYTES > bytes.length) return undefined;
    return bytes.slice(start, start + HEAD_BYTES);
  }
  return undefined;
}
