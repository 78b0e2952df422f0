import { cString, type ElfImage, type ElfReader, readerOf, u64, viewOf } from "./elf.ts";

const SHT_SYMTAB = 2;
const SHT_DYNSYM = 11;
const STT_NOTYPE = 0;
const STT_OBJECT = 1;
const STT_FUNC = 2;
const STT_GNU_IFUNC = 10;
const STB_LOCAL = 0;
const STB_WEAK = 2;
/** Longer ones (C++ templates) are cut: a name is for a line of text. */
const NAME_MAX = 512;

interface Section {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
}

interface Symbols {
  /** Ascending, no duplicates. */
  readonly addresses: Float64Array;
  readonly sizes: Float64Array;
  readonly names: Uint32Array;
}

interface Candidate {
  readonly address: number;
  readonly size: number;
  readonly name: number;
  readonly rank: number;
}

/**
 * Names for addresses of one image, from `.symtab`, or `.dynsym` where that was stripped. Nothing is read before the first
 * look-up. It is for messages, so a damaged table means no names and never an error.
 */
export class ElfSymbols {
  readonly #reader: ElfReader;
  readonly #image: ElfImage;
  #symbols: Symbols | undefined;
  #strings: Uint8Array = new Uint8Array(0);

  constructor(source: Uint8Array | ElfReader, image: ElfImage) {
    this.#reader = source instanceof Uint8Array ? readerOf(source) : source;
    this.#image = image;
  }

  /** `name` or `name+0x10` for an address as the file has it (the load bias taken off), undefined where nothing is known. */
  lookup(address: number): string | undefined {
    this.#symbols ??= this.#load();
    const { addresses, sizes, names } = this.#symbols;
    let low = 0;
    let high = addresses.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((addresses[middle] ?? 0) <= address) low = middle + 1;
      else high = middle;
    }
    const index = low - 1;
    const start = addresses[index];
    const nameAt = names[index];
    if (start === undefined || nameAt === undefined) return undefined;
    const offset = address - start;
    const size = sizes[index] ?? 0;
    // Hand-written assembly gives no sizes: such a symbol reaches to the next one, within its segment.
    if (size === 0 ? !this.#sameSegment(start, address) : offset >= size) return undefined;
    const name = cString(this.#strings.subarray(nameAt, nameAt + NAME_MAX)) ?? this.#cutName(nameAt);
    if (name === "") return undefined;
    return offset === 0 ? name : `${name}+0x${offset.toString(16)}`;
  }

  #cutName(at: number): string {
    return new TextDecoder().decode(this.#strings.subarray(at, at + NAME_MAX));
  }

  #sameSegment(start: number, address: number): boolean {
    return this.#image.loads.some((l) => start >= l.vaddr && address - l.vaddr < l.memsz);
  }

  #load(): Symbols {
    const sections = this.#readSections();
    const table = sections.find((s) => s.type === SHT_SYMTAB) ?? sections.find((s) => s.type === SHT_DYNSYM);
    const strings = table === undefined ? undefined : sections[table.link];
    if (table === undefined || strings === undefined) return packed([]);
    this.#strings = this.#slice(strings.offset, strings.size);
    return packed(this.#readTable(this.#slice(table.offset, table.size)));
  }

  #readSections(): Section[] {
    const wide = this.#image.bits === 64;
    const { offset, entrySize, count } = this.#image.sections;
    if (offset === 0 || entrySize !== (wide ? 64 : 40)) return [];
    const bytes = this.#slice(offset, count * entrySize);
    const view = viewOf(bytes);
    const sections: Section[] = [];
    for (let at = 0; at + entrySize <= bytes.length; at += entrySize) {
      sections.push({
        type: view.getUint32(at + 4, true),
        offset: wide ? u64(view, at + 24) : view.getUint32(at + 16, true),
        size: wide ? u64(view, at + 32) : view.getUint32(at + 20, true),
        link: view.getUint32(at + (wide ? 40 : 24), true),
      });
    }
    return sections;
  }

  #readTable(bytes: Uint8Array): Candidate[] {
    const wide = this.#image.bits === 64;
    const entrySize = wide ? 24 : 16;
    const view = viewOf(bytes);
    const found: Candidate[] = [];
    for (let at = 0; at + entrySize <= bytes.length; at += entrySize) {
      const name = view.getUint32(at, true);
      const info = view.getUint8(at + (wide ? 4 : 12));
      const definedIn = view.getUint16(at + (wide ? 6 : 14), true);
      const type = info & 15;
      const isPlace = type === STT_FUNC || type === STT_OBJECT || type === STT_GNU_IFUNC || type === STT_NOTYPE;
      if (definedIn === 0 || !isPlace || name === 0 || name >= this.#strings.length) continue;
      found.push({
        address: wide ? u64(view, at + 8) : view.getUint32(at + 4, true),
        size: wide ? u64(view, at + 16) : view.getUint32(at + 8, true),
        name,
        rank: rankOf(info >> 4, type),
      });
    }
    return found;
  }

  /** What there is of a range that the file claims; never allocates beyond the file's size. */
  #slice(offset: number, size: number): Uint8Array {
    if (offset >= this.#reader.size) return new Uint8Array(0);
    return this.#reader.read(offset, Math.min(size, this.#reader.size - offset));
  }
}

/** Of several names for one address the reader wants the function's global one. */
function rankOf(binding: number, type: number): number {
  const isCode = type === STT_FUNC || type === STT_GNU_IFUNC;
  return (isCode ? 4 : type === STT_OBJECT ? 2 : 0) + (binding === STB_LOCAL ? 0 : binding === STB_WEAK ? 0.5 : 1);
}

function packed(found: Candidate[]): Symbols {
  found.sort((a, b) => a.address - b.address || b.rank - a.rank);
  const kept = found.filter((s, i) => i === 0 || s.address !== found[i - 1]?.address);
  return {
    addresses: Float64Array.from(kept, (s) => s.address),
    sizes: Float64Array.from(kept, (s) => s.size),
    names: Uint32Array.from(kept, (s) => s.name),
  };
}
