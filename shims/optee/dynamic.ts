/** What PT_DYNAMIC says about relocation and symbols (System V ABI, and its x86-64 supplement). */
import { type ElfImage, u64 } from "../../emulator/elf.ts";

const DT = {
  NEEDED: 1,
  PLTRELSZ: 2,
  HASH: 4,
  STRTAB: 5,
  SYMTAB: 6,
  RELA: 7,
  RELASZ: 8,
  STRSZ: 10,
  JMPREL: 23,
  RELRSZ: 35,
  RELR: 36,
  GNU_HASH: 0x6ffffef5,
} as const;
const SYMBOL_BYTES = 24;
const RELA_BYTES = 24;
const DYNAMIC_MAX = 65536;
const SYMBOLS_MAX = 1_000_000;

export interface Relocation {
  readonly offset: number;
  readonly type: number;
  readonly symbol: number;
  /** Signed. */
  readonly addend: bigint;
}

interface DynamicSymbol {
  readonly name: string;
  /** As the file has it; undefined where another module defines it. */
  readonly value: number | undefined;
  readonly weak: boolean;
}

/** All addresses are those of the file. */
export interface DynamicTables {
  readonly needed: readonly string[];
  readonly relocations: readonly Relocation[];
  /** Addresses of the words that get the bias added (DT_RELR). */
  readonly relative: readonly number[];
  symbol(index: number): DynamicSymbol | undefined;
  /** Global symbols this module defines. */
  readonly defined: ReadonlyMap<string, number>;
}

const STB_LOCAL = 0;
const STB_WEAK = 2;

/** Reads the tables; what points outside the file is as if it were not there. */
export function readDynamicTables(bytes: Uint8Array, image: ElfImage): DynamicTables {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tags = new Map<number, number>();
  const neededAt: number[] = [];
  const { dynamic } = image;
  if (dynamic !== undefined) {
    const end = Math.min(bytes.length, dynamic.offset + Math.min(dynamic.filesz, DYNAMIC_MAX));
    for (let at = dynamic.offset; at + 16 <= end; at += 16) {
      const tag = u64(view, at);
      if (tag === 0) break;
      if (tag === DT.NEEDED) neededAt.push(u64(view, at + 8));
      else tags.set(tag, u64(view, at + 8));
    }
  }
  const fileAt = (address: number | undefined): number | undefined => {
    if (address === undefined) return undefined;
    const load = image.loads.find((l) => address >= l.vaddr && address - l.vaddr < l.filesz);
    return load === undefined ? undefined : load.offset + address - load.vaddr;
  };

  const strings = fileAt(tags.get(DT.STRTAB));
  const stringsSize = tags.get(DT.STRSZ) ?? 0;
  const text = (offset: number): string => {
    if (strings === undefined || offset >= stringsSize) return "";
    const start = strings + offset;
    const end = bytes.indexOf(0, start);
    return Buffer.from(bytes.subarray(start, end < 0 ? bytes.length : end)).toString("latin1");
  };

  const symbols = fileAt(tags.get(DT.SYMTAB));
  const symbol = (index: number): DynamicSymbol | undefined => {
    const at = (symbols ?? 0) + index * SYMBOL_BYTES;
    if (symbols === undefined || at + SYMBOL_BYTES > bytes.length) return undefined;
    const section = view.getUint16(at + 6, true);
    return {
      name: text(view.getUint32(at, true)),
      value: section === 0 ? undefined : u64(view, at + 8),
      weak: (bytes[at + 4] ?? 0) >> 4 === STB_WEAK,
    };
  };

  const defined = new Map<string, number>();
  for (let index = 1; index < symbolCount(view, fileAt(tags.get(DT.HASH)), fileAt(tags.get(DT.GNU_HASH))); index++) {
    const found = symbol(index);
    if (found === undefined) break;
    const binding = (bytes[(symbols ?? 0) + index * SYMBOL_BYTES + 4] ?? 0) >> 4;
    if (found.value !== undefined && found.name !== "" && binding !== STB_LOCAL) defined.set(found.name, found.value);
  }

  const relocations: Relocation[] = [];
  for (const [table, size] of [
    [DT.RELA, DT.RELASZ],
    [DT.JMPREL, DT.PLTRELSZ],
  ] as const) {
    const start = fileAt(tags.get(table));
    if (start === undefined) continue;
    const end = Math.min(bytes.length, start + (tags.get(size) ?? 0));
    for (let at = start; at + RELA_BYTES <= end; at += RELA_BYTES) {
      relocations.push({
        offset: u64(view, at),
        type: view.getUint32(at + 8, true),
        symbol: view.getUint32(at + 12, true),
        addend: view.getBigInt64(at + 16, true),
      });
    }
  }
  const needed = neededAt.map(text).filter((name) => name !== "");
  const relative = readRelr(view, fileAt(tags.get(DT.RELR)), tags.get(DT.RELRSZ) ?? 0);
  return { needed, relocations, relative, symbol, defined };
}

/** The hash tables are the only place where the number of symbols stands. */
function symbolCount(view: DataView, hash: number | undefined, gnuHash: number | undefined): number {
  if (hash !== undefined && hash + 8 <= view.byteLength) return Math.min(view.getUint32(hash + 4, true), SYMBOLS_MAX);
  if (gnuHash === undefined || gnuHash + 16 > view.byteLength) return 0;
  const buckets = view.getUint32(gnuHash, true);
  const first = view.getUint32(gnuHash + 4, true);
  const bucketAt = gnuHash + 16 + view.getUint32(gnuHash + 8, true) * 8;
  const chainAt = bucketAt + buckets * 4;
  let last = 0;
  for (let index = 0; index < buckets && bucketAt + index * 4 + 4 <= view.byteLength; index++)
    last = Math.max(last, view.getUint32(bucketAt + index * 4, true));
  if (last < first) return first;
  for (let at = chainAt + (last - first) * 4; at + 4 <= view.byteLength; at += 4, last++)
    if ((view.getUint32(at, true) & 1) !== 0) break;
  return Math.min(last + 1, SYMBOLS_MAX);
}

/** DT_RELR: an address, then bit maps of the 63 words after it. */
function readRelr(view: DataView, start: number | undefined, size: number): number[] {
  const found: number[] = [];
  if (start === undefined) return found;
  let next = 0;
  for (let at = start; at + 8 <= Math.min(view.byteLength, start + size); at += 8) {
    const entry = view.getBigUint64(at, true);
    if ((entry & 1n) === 0n) {
      found.push(Number(entry));
      next = Number(entry) + 8;
      continue;
    }
    for (let bit = 0; bit < 63; bit++) if ((entry >> BigInt(bit + 1)) & 1n) found.push(next + 8 * bit);
    next += 63 * 8;
  }
  return found;
}
