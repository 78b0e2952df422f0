/** Builds the address space of a new program: segments, dynamic linker, heap and stack (fs/binfmt_elf.c, load_elf_binary). */
import { checkSpan, ElfError, type ElfImage } from "../../../emulator/elf.ts";
import { MemoryFault } from "../../../emulator/errors.ts";
import { type AddressSpace, PROT_EXEC, PROT_READ, PROT_WRITE } from "../../../emulator/memory.ts";
import { type Abi, i386, x86_64 } from "../abi.ts";
import { Errno } from "../errno.ts";
import { findFree, Mm, type MmapArea } from "../memory/mm.ts";
import { PAGE } from "../memory/pages.ts";
import type { Credentials } from "../process/credentials.ts";
import { minimalSignalStack } from "../processor.ts";
import type { RandomStream } from "../random.ts";
import { fpuBytes } from "../signals/fpstate.ts";
import type { Kernel } from "../task.ts";
import { fail } from "../vfs/error.ts";
import type { Entry } from "../vfs/inode.ts";
import { pathOf } from "../vfs/walk.ts";
import type { Executable, Program } from "./program.ts";
import { buildStack, stringBytes } from "./stack.ts";
import { VDSO_BYTES } from "./vdso.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** One argument, NUL included. */
export const MAX_ARG_STRLEN = 32 * PAGE;
const ARG_MAX = 128 * 1024;
/** Arguments may take a quarter of the stack's limit, but no more than this (_STK_LIM / 4 * 3). */
const ARGS_HIGH = 6 * MIB;
/** The stack is mapped this far below the arguments from the start (setup_arg_pages). */
const STACK_EXPAND = 128 * 1024;
/** What the stack begins with besides arguments and environment: its random shift, the auxiliary vector, the names it points to. */
const TABLES_OTHERS = 12 * 1024;
const STACK_GUARD_PAGES = 256;
/** uapi/linux/personality.h: memory that can be read can be executed. */
export const READ_IMPLIES_EXEC = 0x0040_0000;
const ADDR_NO_RANDOMIZE = 0x0004_0000;
const ADDR_COMPAT_LAYOUT = 0x0020_0000;
const PF_X = 1;
const PF_W = 2;
const PF_R = 4;

/** Where Linux puts things, by ABI; the "random" ones are counts of pages (arch/x86/mm/mmap.c, include/asm/elf.h). */
interface Layout {
  readonly pieBase: number;
  readonly stackRandom: number;
  readonly mmapRandom: number;
  readonly brkRandom: number;
}

const layouts: { readonly [name in Abi["name"]]: Layout } = {
  x86_64: { pieBase: 0x5555_5555_4000, stackRandom: 0x40_0000, mmapRandom: 2 ** 28, brkRandom: GIB / PAGE },
  i386: { pieBase: 0x5655_5000, stackRandom: 0x800, mmapRandom: 2 ** 8, brkRandom: (32 * MIB) / PAGE },
};
/** A static PIE's heap begins at the unrounded ELF_ET_DYN_BASE, rounded up. */
const STATIC_PIE_BRK = { x86_64: 0x5555_5555_5000, i386: 0x5655_5000 } as const;

export interface LoadOptions {
  readonly kernel: Kernel;
  readonly program: Program;
  readonly envp: readonly Uint8Array[];
  /** The name exec was called with, for AT_EXECFN. */
  readonly execfn: Uint8Array;
  /** What the program starts with. */
  readonly cred: Credentials;
  /** It must not trust who starts it. */
  readonly secure: boolean;
  /** Of the process: ADDR_NO_RANDOMIZE and ADDR_COMPAT_LAYOUT count. */
  readonly personality: number;
  /** Soft RLIMIT_STACK, bytes. */
  readonly stackLimit: number;
  /** Root for the names in /proc/[pid]/maps. */
  readonly root: Entry;
  readonly random: RandomStream;
}

export interface Loaded {
  readonly mm: Mm;
  /** First instruction and stack pointer. */
  readonly entry: number;
  readonly sp: number;
  /** READ_IMPLIES_EXEC for old programs that say nothing of their stack; else 0. */
  readonly personality: number;
}

/** How far libraries and position-independent programs lie from where they would without randomness, in pages. */
interface Places {
  readonly mmap: number;
  readonly pie: number;
}

/**
 * Drawn anew from the start of their stream, so that all programs of a run find their libraries at the same addresses: the engine
 * has that code translated already, and a small program starts ten times faster.
 */
function drawPlaces(kernel: Kernel, abi: Abi, layout: Layout): Places {
  const random = kernel.random.stream(`places ${abi.name}`);
  return { mmap: random.below(layout.mmapRandom), pie: random.below(layout.mmapRandom) };
}

const down = (address: number): number => address - (address % PAGE);
const up = (address: number): number => Math.ceil(address / PAGE) * PAGE;

/** E2BIG as Linux decides it before it changes anything (fs/exec.c, bprm_stack_limits and copy_strings). */
function checkArguments(
  argv: readonly Uint8Array[],
  envp: readonly Uint8Array[],
  execfn: Uint8Array,
  stackLimit: number,
  word: number,
): void {
  const limit = Math.max(Math.min(ARGS_HIGH, stackLimit / 4), ARG_MAX);
  const pointers = (Math.max(argv.length, 1) + envp.length) * word;
  const strings = stringBytes(argv) + stringBytes(envp) + execfn.length + 1;
  for (const string of argv)
    if (string.length >= MAX_ARG_STRLEN) fail(Errno.E2BIG, `an argument of ${string.length} bytes`);
  for (const string of envp)
    if (string.length >= MAX_ARG_STRLEN) fail(Errno.E2BIG, `an environment string of ${string.length} bytes`);
  if (pointers + strings > limit) {
    fail(
      Errno.E2BIG,
      `arguments and environment take ${pointers + strings} bytes, and ${Math.floor(limit)} are allowed`,
    );
  }
}

/**
 * Loads a program into a new address space. The running one is not touched.
 * @throws ElfError when Linux could not map it, VfsError with E2BIG
 */
export function loadProgram(options: LoadOptions): Loaded {
  const { kernel, program, random, cred, envp, execfn, personality } = options;
  const fixed = (personality & ADDR_NO_RANDOMIZE) !== 0;
  const draw = (limit: number): number => (fixed ? 0 : random.below(limit));
  const { image } = program.main;
  const abi = image.bits === 64 ? x86_64 : i386;
  const layout = layouts[abi.name];
  const argv = program.argv.length === 0 ? [new Uint8Array(0)] : program.argv;
  checkArguments(argv, envp, execfn, options.stackLimit, abi.word);
  const space = kernel.machine.newSpace(abi.userEnd);
  try {
    // i386 programs without PT_GNU_STACK come from a time when everything could be executed.
    const legacy = image.stackFlags === undefined && abi === i386;
    const execStack = legacy || (image.stackFlags !== undefined && (image.stackFlags & PF_X) !== 0);
    const stackTop = abi.userEnd - draw(layout.stackRandom) * PAGE;
    const gap =
      Math.min(Math.max(options.stackLimit, 128 * MIB), (abi.userEnd / 6) * 5) +
      (layout.stackRandom + STACK_GUARD_PAGES) * PAGE;
    const places = fixed ? { mmap: 0, pie: 0 } : drawPlaces(kernel, abi, layout);
    // Mappings grow up from a third of user space where the stack may be of any size (mmap_is_legacy).
    const bottomUp = (personality & ADDR_COMPAT_LAYOUT) !== 0 || options.stackLimit === Number.POSITIVE_INFINITY;
    const mmapBase = bottomUp ? up(abi.userEnd / 3) + places.mmap * PAGE : down(abi.userEnd - gap - places.mmap * PAGE);

    const mapper = new Mapper(space, abi, { mmapBase, bottomUp }, options.root, legacy);
    const bias = mainBias(mapper, program, layout, places);
    const end = mapper.map(program.main, bias);
    let base = 0;
    let entry = image.entry + bias;
    if (program.interpreter !== undefined) {
      // klibc's, for one, has a fixed place.
      const { image: linker } = program.interpreter;
      base = linker.type === "exec" ? 0 : mapper.anywhere(linker);
      mapper.map(program.interpreter, base);
      entry = linker.entry + base;
    }
    const vdsoAt = mapper.find(VDSO_BYTES);
    const { vdso, vsyscall } = vdsoAt < 0 ? { vdso: 0, vsyscall: 0 } : kernel.vdso.map(space, abi, vdsoAt);
    const staticPie = image.type === "dyn" && program.interpreter === undefined;
    const startBrk = (staticPie ? STATIC_PIE_BRK[abi.name] : up(end)) + draw(layout.brkRandom) * PAGE;

    // A pointer of nothing lies above the strings. Tables of pointers that need more than the rest grow the stack.
    const strings = stringBytes(argv) + stringBytes(envp) + execfn.length + 1 + abi.word;
    const tables = (argv.length + envp.length) * abi.word + TABLES_OTHERS;
    const stackStart = down(stackTop - strings) - Math.max(STACK_EXPAND, up(tables));
    const prot = PROT_READ | PROT_WRITE | (execStack ? PROT_EXEC : 0);
    space.stackLimit = options.stackLimit;
    const backing = { name: "[stack]", dev: 0, ino: 0 };
    space.map(stackStart, stackTop - stackStart, prot, { backing, grows: true });
    const seed = new Uint8Array(16);
    random.fill(seed);
    const stack = buildStack(space.memory, abi, stackTop, {
      argv,
      envp,
      execfn,
      random: seed,
      cred,
      secure: options.secure,
      phdr: headerAddress(image, bias),
      phent: image.phentsize,
      phnum: image.phnum,
      base,
      entry: image.entry + bias,
      vdso,
      vsyscall,
      minimalSignalStack: minimalSignalStack(fpuBytes(kernel.machine)),
      fsgsbase: kernel.machine.cpu.fsgsbase,
      shift: draw(512) * 16,
    });
    const mm = new Mm({
      space,
      abi,
      mmapBase,
      bottomUp,
      startBrk,
      startStack: stack.sp,
      exe: program.main.file,
      ...stack,
    });
    if (vdso !== 0) kernel.vdso.note(mm, vdso);
    return { mm, entry, sp: stack.sp, personality: legacy ? READ_IMPLIES_EXEC : 0 };
  } catch (error) {
    space.close();
    if (error instanceof MemoryFault) {
      const why = "its first pages cannot be filled: the file ends before they do (is it cut short?), or memory is out";
      throw new ElfError(`cannot run ${image.name}: ${why}`, "EINVAL", true);
    }
    throw error;
  }
}

/** Where the program headers lie in memory: AT_PHDR. */
function headerAddress(image: ElfImage, bias: number): number {
  const holder = image.loads.find((l) => l.offset <= image.phoff && image.phoff < l.offset + l.filesz);
  return holder === undefined ? 0 : image.phoff - holder.offset + holder.vaddr + bias;
}

function mainBias(mapper: Mapper, program: Program, layout: Layout, places: Places): number {
  const { image } = program.main;
  if (image.type === "exec") return 0;
  if (program.interpreter === undefined) return mapper.anywhere(image);
  const base = layout.pieBase + places.pie * PAGE;
  return base - (base % image.alignment) - image.span.start;
}

class Mapper {
  readonly #space: AddressSpace;
  readonly #abi: Abi;
  readonly #area: MmapArea;
  readonly #root: Entry;
  readonly #readImpliesExec: boolean;

  constructor(space: AddressSpace, abi: Abi, area: MmapArea, root: Entry, readImpliesExec: boolean) {
    this.#space = space;
    this.#abi = abi;
    this.#area = area;
    this.#root = root;
    this.#readImpliesExec = readImpliesExec;
  }

  /** A free range where mmap would find one; -1 for none. */
  find(length: number): number {
    return findFree(this.#space, this.#area, length);
  }

  /** A bias for an image that may lie anywhere. */
  anywhere(image: ElfImage): number {
    const size = up(image.span.end) - image.span.start;
    const slack = image.alignment > PAGE ? image.alignment : 0;
    const found = this.find(size + slack);
    if (found < 0) throw noRoom(image, "there is no free range that large");
    const base = found + slack;
    return base - (base % image.alignment) - image.span.start;
  }

  /** Maps the segments of an image; returns the end of its last byte in memory. */
  map(executable: Executable, bias: number): number {
    const { image, file, entry } = executable;
    checkSpan(image, this.#abi.userEnd);
    const backing = file.backing(pathOf(entry, this.#root));
    let last = 0;
    for (const load of image.loads) {
      const at = load.vaddr + bias;
      const start = down(at);
      const fileEnd = at + load.filesz;
      const memoryEnd = at + load.memsz;
      if (start < PAGE || up(memoryEnd) > this.#abi.userEnd) throw noRoom(image, "a segment lies outside user space");
      const prot = this.#protection(load.flags);
      if (load.filesz > 0) {
        this.#space.map(start, up(fileEnd) - start, prot, { backing, offset: load.offset - (at - start) });
      }
      const zeroStart = load.filesz > 0 ? up(fileEnd) : start;
      if (up(memoryEnd) > zeroStart) this.#space.map(zeroStart, up(memoryEnd) - zeroStart, prot);
      // The rest of the file's last page is not the program's; a page it may not write it cannot have meant (padzero).
      if (load.memsz > load.filesz && load.filesz > 0 && (load.flags & PF_W) !== 0 && fileEnd % PAGE !== 0) {
        this.#space.memory.fill(fileEnd, up(fileEnd) - fileEnd, 0);
      }
      last = Math.max(last, memoryEnd);
    }
    return last;
  }

  #protection(flags: number): number {
    let prot = 0;
    if ((flags & PF_R) !== 0) prot |= PROT_READ;
    if ((flags & PF_W) !== 0) prot |= PROT_WRITE;
    if ((flags & PF_X) !== 0) prot |= PROT_EXEC;
    return this.#readImpliesExec && (prot & PROT_READ) !== 0 ? prot | PROT_EXEC : prot;
  }
}

function noRoom(image: ElfImage, why: string): ElfError {
  return new ElfError(
    `cannot run ${image.name}: ${why} (its segments go from 0x${image.span.start.toString(16)} to ` +
      `0x${image.span.end.toString(16)}); look at it with readelf -lW`,
    "EINVAL",
    true,
  );
}
