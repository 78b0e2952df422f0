import { cString, type ElfImage, type ElfReader, readerOf, u64, viewOf } from "./elf.ts";

/** Bounds what a hostile PT_DYNAMIC makes us read; the largest real ones have some hundred entries. */
const DYNAMIC_BYTES_MAX = 65536;
/** No path is longer (PATH_MAX), so no name in a string table needs to be. */
const NAME_MAX = 4096;

const DT = { NULL: 0, NEEDED: 1, STRTAB: 5, STRSZ: 10, SONAME: 14, RPATH: 15, RUNPATH: 29 } as const;

/** The part of PT_DYNAMIC that says which libraries a program needs and where it looks for them. */
export interface DynamicInfo {
  readonly needed: readonly string[];
  readonly soname: string | undefined;
  readonly rpath: string | undefined;
  readonly runpath: string | undefined;
}

/**
 * Reads what PT_DYNAMIC says about libraries (elf(5)). Entries that point nowhere are left out instead of being an error, as
 * it is the guest's own dynamic linker that has to complain about them; an image without PT_DYNAMIC needs nothing.
 */
export function readDynamic(source: Uint8Array | ElfReader, image: ElfImage): DynamicInfo {
  const reader = source instanceof Uint8Array ? readerOf(source) : source;
  const wide = image.bits === 64;
  const width = wide ? 8 : 4;
  const header = image.dynamic;
  const bytes =
    header === undefined ? new Uint8Array(0) : reader.read(header.offset, Math.min(header.filesz, DYNAMIC_BYTES_MAX));
  const view = viewOf(bytes);
  const neededOffsets: number[] = [];
  const values = new Map<number, number>();
  for (let at = 0; at + 2 * width <= bytes.length; at += 2 * width) {
    const tag = wide ? u64(view, at) : view.getUint32(at, true);
    const value = wide ? u64(view, at + 8) : view.getUint32(at + 4, true);
    if (tag === DT.NULL) break;
    if (tag === DT.NEEDED) neededOffsets.push(value);
    else values.set(tag, value);
  }

  const strings = fileOffset(image, values.get(DT.STRTAB));
  const stringsSize = values.get(DT.STRSZ) ?? 0;
  const text = (offset: number | undefined): string | undefined => {
    if (strings === undefined || offset === undefined || offset >= stringsSize) return undefined;
    return cString(reader.read(strings + offset, Math.min(stringsSize - offset, NAME_MAX)));
  };
  const needed: string[] = [];
  for (const offset of neededOffsets) {
    const library = text(offset);
    if (library !== undefined && library !== "") needed.push(library);
  }
  return {
    needed,
    soname: text(values.get(DT.SONAME)),
    rpath: text(values.get(DT.RPATH)),
    runpath: text(values.get(DT.RUNPATH)),
  };
}

/** Where in the file the byte lies that PT_LOAD maps at `address`. */
function fileOffset(image: ElfImage, address: number | undefined): number | undefined {
  if (address === undefined) return undefined;
  const load = image.loads.find((l) => address >= l.vaddr && address - l.vaddr < l.filesz);
  return load === undefined ? undefined : load.offset + (address - load.vaddr);
}
