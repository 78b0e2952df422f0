/** Our own loader: what OP-TEE's ldelf does for a TA, from outside. Maps, relocates, protects, resolves libraries. */
import type { ElfImage } from "../../emulator/elf.ts";
import { ElfSymbols } from "../../emulator/elf-symbols.ts";
import { PROT_EXEC, PROT_READ, PROT_WRITE } from "../../emulator/memory.ts";
import { PrivateArea } from "./areas.ts";
import type { TaBinary } from "./binary.ts";
import { type DynamicTables, readDynamicTables } from "./dynamic.ts";
import { pageDown, pageUp, type TaMemory } from "./memory.ts";
import { relocate } from "./relocate.ts";
import { fail, Tee } from "./results.ts";
import { normalizeUuid } from "./uuid.ts";

const PF_X = 1;
const PF_W = 2;

/** One mapped file. */
export interface LoadedModule {
  readonly binary: TaBinary;
  /** What is added to an address in the file. */
  readonly bias: number;
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  readonly symbols: ElfSymbols;
  readonly dynamic: DynamicTables;
  /** From 1; 0 where there is no PT_TLS. */
  readonly tlsId: number;
  /** Where its TLS block ends up, relative to FS base: negative. */
  readonly tlsOffset: number;
}

export interface LoadedTa {
  readonly entry: number;
  readonly modules: readonly LoadedModule[];
  readonly flags: number;
}

/** How TLS blocks are laid out below FS base (variant II of the ELF TLS ABI), found before anything is mapped. */
export interface TlsLayout {
  /** Bytes below FS base. */
  readonly size: number;
  readonly align: number;
  readonly offsets: ReadonlyMap<TaBinary, number>;
  readonly ids: ReadonlyMap<TaBinary, number>;
}

/** The TA and every library it needs, in the order they are found: breadth first, as a dynamic linker does. */
export function withLibraries(main: TaBinary, find: (uuid: string) => TaBinary | undefined): TaBinary[] {
  const found = [main];
  for (let index = 0; index < found.length; index++) {
    const binary = found[index];
    if (binary === undefined) break;
    for (const name of readDynamicTables(binary.bytes, binary.image).needed) {
      const uuid = normalizeUuid(name.replace(/\.[^.]*$/, ""));
      const library = uuid === undefined ? undefined : find(uuid);
      if (library === undefined)
        return fail(Tee.ERROR_ITEM_NOT_FOUND, `${binary.name} needs ${name}, which is not given`);
      if (!found.includes(library)) found.push(library);
    }
  }
  return found;
}

export function layOutTls(binaries: readonly TaBinary[]): TlsLayout {
  let size = 0;
  let align = 16;
  const offsets = new Map<TaBinary, number>();
  const ids = new Map<TaBinary, number>();
  for (const binary of binaries) {
    const { tls } = binary.image;
    if (tls === undefined) continue;
    const alignment = Math.max(tls.align, 1);
    size = Math.ceil((size + tls.memsz) / alignment) * alignment;
    align = Math.max(align, alignment);
    offsets.set(binary, -size);
    ids.set(binary, ids.size + 1);
  }
  return { size: Math.ceil(size / align) * align, align, offsets, ids };
}

/** Maps and relocates all modules. Errors end the call that loads, as ldelf's do. */
export function loadTa(
  memory: TaMemory,
  binaries: readonly TaBinary[],
  tls: TlsLayout,
  tlsBase: number,
  options: { permanent?: boolean } = {},
): LoadedTa {
  const modules = binaries.map((binary) => mapModule(memory, binary, tls, options));
  for (const module of modules) {
    relocate(memory, module, modules);
    const { tls: segment } = module.binary.image;
    if (segment !== undefined)
      memory.guest.write(
        tlsBase + module.tlsOffset,
        module.binary.bytes.subarray(segment.offset, segment.offset + segment.filesz),
      );
  }
  describeHeaders(memory, modules);
  for (const module of modules) protect(memory, module);
  const [main] = modules;
  if (main === undefined) return fail(Tee.ERROR_GENERIC, "nothing to load");
  return { entry: main.binary.entry + main.bias, modules, flags: main.binary.flags };
}

/** Brings in a library and what it needs while the TA runs already; all modules, in search order. */
export function loadLibrary(
  memory: TaMemory,
  loaded: readonly LoadedModule[],
  library: TaBinary,
  find: (uuid: string) => TaBinary | undefined,
): readonly LoadedModule[] {
  const missing = withLibraries(library, find).filter((binary) => !loaded.some((module) => module.binary === binary));
  if (missing.some(({ image }) => image.tls !== undefined))
    return fail(Tee.ERROR_NOT_SUPPORTED, "a library with thread-local storage can only be loaded with its TA");
  const added = missing.map((binary) => mapModule(memory, binary, layOutTls([]), {}));
  const modules = [...loaded, ...added];
  for (const module of added) relocate(memory, module, modules);
  for (const module of added) protect(memory, module);
  describeHeaders(memory, modules);
  return modules;
}

function mapModule(memory: TaMemory, binary: TaBinary, tls: TlsLayout, options: { permanent?: boolean }): LoadedModule {
  const { image, bytes } = binary;
  const { start, end } = image.span;
  const length = pageUp(end) - start;
  const area = new PrivateArea(binary.name, options);
  // One reservation, so that the distances between the segments are those of the file.
  const base = memory.mapPrivate(length, PROT_READ | PROT_WRITE, area);
  const bias = base - start;
  for (const load of image.loads) {
    if (load.offset + load.filesz > bytes.length)
      fail(Tee.ERROR_BAD_FORMAT, `${binary.name}: a segment lies beyond the end of the file`);
    memory.guest.write(load.vaddr + bias, bytes.subarray(load.offset, load.offset + load.filesz));
  }
  return {
    binary,
    bias,
    start: base,
    end: base + length,
    symbols: new ElfSymbols(bytes, image),
    dynamic: readDynamicTables(bytes, image),
    tlsId: tls.ids.get(binary) ?? 0,
    tlsOffset: tls.offsets.get(binary) ?? 0,
  };
}

/** The rights of the segments; what lies between them is taken away. */
function protect(memory: TaMemory, module: LoadedModule): void {
  const { image } = module.binary;
  let last = module.start;
  const loads = [...image.loads].sort((a, b) => a.vaddr - b.vaddr);
  for (const load of loads) {
    const start = pageDown(load.vaddr + module.bias);
    const end = pageUp(load.vaddr + load.memsz + module.bias);
    if (start > last) memory.remove(last, start - last);
    last = Math.max(last, end);
    if (end > start) memory.space.protect(start, end - start, protectionOf(load));
  }
  if (module.end > last) memory.remove(last, module.end - last);
}

function protectionOf(load: ElfImage["loads"][number]): number {
  if ((load.flags & PF_W) !== 0 && (load.flags & PF_X) !== 0)
    return fail(Tee.ERROR_BAD_FORMAT, "a segment is writable and executable");
  return PROT_READ | ((load.flags & PF_W) !== 0 ? PROT_WRITE : 0) | ((load.flags & PF_X) !== 0 ? PROT_EXEC : 0);
}

const PHDR_INFO_BYTES = 64;

/**
 * Fills `__elf_phdr_info`, where libutee finds the modules with their constructors: a count and an array of
 * struct dl_phdr_info (user_ta_header.h, link.h). The program headers themselves may lie outside every segment, so copies
 * are mapped.
 */
function describeHeaders(memory: TaMemory, modules: readonly LoadedModule[]): void {
  const [main] = modules;
  const symbol = main?.dynamic.defined.get("__elf_phdr_info");
  if (main === undefined || symbol === undefined) return;
  const tables = modules.map(({ binary: { image, bytes } }) =>
    bytes.subarray(image.phoff, image.phoff + image.phnum * image.phentsize),
  );
  const size = tables.reduce((sum, table) => sum + table.length + PHDR_INFO_BYTES, 0) + 16;
  const at = memory.mapPrivate(size, PROT_READ | PROT_WRITE, new PrivateArea("[phdrs]"));
  let next = at + 16 + modules.length * PHDR_INFO_BYTES;
  modules.forEach((module, index) => {
    const info = at + 16 + index * PHDR_INFO_BYTES;
    const table = tables[index] ?? new Uint8Array(0);
    memory.guest.write(next, table);
    memory.setU64(info, module.bias);
    memory.setU64(info + 8, at); // An empty name.
    memory.setU64(info + 16, next);
    memory.guest.setU16(info + 24, module.binary.image.phnum);
    memory.setU64(info + 32, modules.length);
    memory.setU64(info + 48, module.tlsId);
    next += table.length;
  });
  const head = symbol + main.bias;
  memory.setU32(head, 0);
  memory.guest.setU16(head + 4, modules.length);
  memory.setU64(head + 8, at + 16);
}
