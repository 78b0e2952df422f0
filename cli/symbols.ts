/** Names for guest addresses, from the files that are mapped there. */
import { ElfError, type ElfImage, type ElfReader, parseElf } from "../emulator/elf.ts";
import { ElfSymbols } from "../emulator/elf-symbols.ts";
import type { KernelWorld } from "../shims/linux/guest-world.ts";
import { FileInode } from "../shims/linux/vfs/inode.ts";

interface NamedImage {
  readonly image: ElfImage;
  readonly symbols: ElfSymbols;
}

/** Looks symbols up in the ELF files of guest threads; each file is read once. */
export class GuestSymbols {
  readonly #world: KernelWorld;
  readonly #images = new WeakMap<FileInode, NamedImage | null>();

  constructor(world: KernelWorld) {
    this.#world = world;
  }

  /** `name` or `name+0x10`; undefined where the file has no name for that place, or no file is mapped there. */
  readonly symbolOf = (thread: number, address: bigint): string | undefined => {
    const at = Number(address);
    const region = this.#world.process(thread)?.space.regionAt(at);
    const backing = region?.backing;
    if (region === undefined || backing === undefined || !("file" in backing)) return undefined;
    const { file } = backing;
    if (!(file instanceof FileInode)) return undefined;
    const named = this.#imageOf(file, backing.name);
    if (named === null) return undefined;
    const offset = at - region.start + region.offset;
    const segment = named.image.loads.find(
      (load) => offset >= load.offset && offset < load.offset + Math.max(load.filesz, load.memsz),
    );
    return segment === undefined ? undefined : named.symbols.lookup(offset - segment.offset + segment.vaddr);
  };

  #imageOf(file: FileInode, name: string): NamedImage | null {
    const known = this.#images.get(file);
    if (known !== undefined) return known;
    const made = open(file, name);
    this.#images.set(file, made);
    return made;
  }
}

function open(file: FileInode, name: string): NamedImage | null {
  const reader: ElfReader = {
    size: file.size,
    read: (offset, length) => {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, Math.max(0, file.read(bytes, offset)));
    },
  };
  try {
    const image = parseElf(reader, name, "interpreter");
    return { image, symbols: new ElfSymbols(reader, image) };
  } catch (error) {
    // What the guest mapped need not be a program.
    if (error instanceof ElfError) return null;
    throw error;
  }
}
