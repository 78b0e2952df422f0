import { checkIdentity, wrongType } from "./elf-identity.ts";
import { UserError } from "./errors.ts";

/** A file as the parser sees it, so that the headers of a large program are read without the rest. */
export interface ElfReader {
  readonly size: number;
  /** The bytes at `offset`; fewer than `length` only where the file ends. */
  read(offset: number, length: number): Uint8Array;
}

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const PT_TLS = 7;
const PT_GNU_STACK = 0x6474e551;
const PT_GNU_PROPERTY = 0x6474e553;

export const EM_386 = 3;
export const EM_X86_64 = 62;

const ET_EXEC = 2;
const ET_DYN = 3;

const PAGE_MASK = 0xfff;
const PATH_MAX = 4096;
/** fs/binfmt_elf.c, load_elf_phdrs: the whole table, in bytes. */
const PROGRAM_HEADERS_MAX = 65536;

/** One program header; sizes and addresses in bytes. Values of 2^53 and more are inexact, and out of user space anyway. */
interface ProgramHeader {
  readonly type: number;
  /** PF_X 1, PF_W 2, PF_R 4. */
  readonly flags: number;
  readonly offset: number;
  readonly vaddr: number;
  readonly filesz: number;
  readonly memsz: number;
  readonly align: number;
}

/** What the headers of a program, a library or a dynamic linker say. Addresses are those of the file: no load bias. */
export interface ElfImage {
  /** How messages call the file. */
  readonly name: string;
  readonly bits: 32 | 64;
  readonly machine: typeof EM_386 | typeof EM_X86_64;
  /** `exec` is loaded where it says, `dyn` (PIE, library, dynamic linker) anywhere. */
  readonly type: "exec" | "dyn";
  readonly entry: number;
  readonly phoff: number;
  readonly phentsize: number;
  readonly phnum: number;
  readonly programHeaders: readonly ProgramHeader[];
  /** The PT_LOAD headers, in file order, which is the order Linux maps them in. */
  readonly loads: readonly ProgramHeader[];
  /** Path in PT_INTERP; absent for a static program, and for `role: "interpreter"`, where Linux does not look. */
  readonly interpreter: string | undefined;
  readonly tls: ProgramHeader | undefined;
  readonly dynamic: ProgramHeader | undefined;
  readonly gnuProperty: ProgramHeader | undefined;
  /** `p_flags` of PT_GNU_STACK; absent means the ABI's old default. */
  readonly stackFlags: number | undefined;
  /** From the first page to the last byte of all PT_LOADs; both 0 when there are none. */
  readonly span: { readonly start: number; readonly end: number };
  /** The largest power of two among `p_align` of PT_LOADs, at least one page: the alignment of a `dyn` image's bias. */
  readonly alignment: number;
  /** Where the section headers are, for a symbol table; not checked at all, as a running program does not need them. */
  readonly sections: { readonly offset: number; readonly entrySize: number; readonly count: number };
}

/** What execve(2) answers for a file that is refused. */
export type ElfErrno = "ENOEXEC" | "EINVAL" | "EIO" | "ELIBBAD";

/** An ELF file that Linux would not run. Ends a run with 126; inside a guest's execve it becomes `errno`. */
export class ElfError extends UserError {
  override readonly name = "ElfError";
  readonly errno: ElfErrno;
  /**
   * True where Linux finds the fault only after it gave up the old program: execve does not return `errno` then, the
   * process dies by SIGSEGV (fs/exec.c, bprm_execve).
   */
  readonly kills: boolean;

  constructor(message: string, errno: ElfErrno, kills = false) {
    super(message, 126);
    this.errno = errno;
    this.kills = kills;
  }
}

/** Whose headers are read: Linux answers other errnos for the dynamic linker that PT_INTERP names. */
export type ElfRole = "program" | "interpreter";

/** A reader of a file that is in memory already. */
export function readerOf(bytes: Uint8Array): ElfReader {
  return {
    size: bytes.length,
    read: (offset, length) => bytes.subarray(Math.min(offset, bytes.length), Math.min(offset + length, bytes.length)),
  };
}

/**
 * Reads the headers of an ELF file and accepts exactly what Linux accepts (fs/binfmt_elf.c, compared with a 6.18 kernel),
 * apart from the addresses, which `checkSpan` checks once the end of user space is known. As in Linux the machine alone
 * decides the class: EI_CLASS, EI_DATA, the versions and `e_ehsize` may hold anything, and a segment may lie beyond the end
 * of the file (its pages raise SIGBUS when touched).
 *
 * @param name how messages call the file
 * @throws {ElfError}
 */
export function parseElf(source: Uint8Array | ElfReader, name: string, role: ElfRole = "program"): ElfImage {
  const reader = source instanceof Uint8Array ? readerOf(source) : source;
  const header = reader.read(0, 64);
  const refuse = (reason: string, errno: ElfErrno = role === "program" ? "ENOEXEC" : "ELIBBAD"): ElfError =>
    new ElfError(`cannot run ${name}: ${reason}`, errno);

  const machine = checkIdentity(header, role, refuse);
  const wide = machine === EM_X86_64;
  const view = viewOf(header);
  const headerSize = wide ? 64 : 52;
  const type = view.getUint16(16, true);
  if (type !== ET_EXEC && type !== ET_DYN) {
    const interpreter = role === "interpreter";
    throw new ElfError(`cannot run ${name}: ${wrongType(type)}`, interpreter ? "EINVAL" : "ENOEXEC", interpreter);
  }

  const phoff = wide ? u64(view, 32) : view.getUint32(28, true);
  const phentsize = view.getUint16(headerSize - 10, true);
  const phnum = view.getUint16(headerSize - 8, true);
  const expected = wide ? 56 : 32;
  if (phentsize !== expected) {
    throw refuse(
      `its program headers are said to be ${phentsize} bytes each (e_phentsize), and a ${wide ? 64 : 32}-bit file has ` +
        `${expected}; the header is damaged${wide && phentsize === 32 ? ", or this is an x32 program, which shimbed does not run" : ""}`,
    );
  }
  if (phnum === 0) {
    throw refuse(
      "it has no program headers (e_phnum is 0), so nothing says what to load; is it an object file? link it",
    );
  }
  const tableSize = phnum * phentsize;
  if (tableSize > PROGRAM_HEADERS_MAX) {
    throw refuse(
      `it claims ${phnum} program headers (e_phnum), and Linux takes at most ${Math.floor(PROGRAM_HEADERS_MAX / phentsize)}; the header is damaged`,
    );
  }
  const table = reader.read(phoff, tableSize);
  if (table.length < tableSize) {
    throw refuse(
      `its ${phnum} program headers should lie at offset ${hex(phoff)} (e_phoff), and the file ends at ${hex(reader.size)}; ` +
        "it is truncated or its header is damaged, so copy or build it again",
    );
  }

  const programHeaders = readProgramHeaders(viewOf(table), phnum, wide);
  const interp = role === "program" ? programHeaders.find((h) => h.type === PT_INTERP) : undefined;
  const interpreter = interp === undefined ? undefined : readInterpreter(reader, interp, name);
  const loads = programHeaders.filter((h) => h.type === PT_LOAD);
  checkLoads(viewOf(table), programHeaders, wide, name);
  if (type === ET_DYN && loads.length === 0) {
    throw new ElfError(
      `cannot run ${name}: it has no PT_LOAD program header, so there is nothing to load; the file is damaged, or it holds debugging information only`,
      "EINVAL",
      true,
    );
  }

  return {
    name,
    bits: wide ? 64 : 32,
    machine,
    type: type === ET_EXEC ? "exec" : "dyn",
    entry: wide ? u64(view, 24) : view.getUint32(24, true),
    phoff,
    phentsize,
    phnum,
    programHeaders,
    loads,
    interpreter,
    tls: programHeaders.find((h) => h.type === PT_TLS),
    dynamic: programHeaders.find((h) => h.type === PT_DYNAMIC),
    gnuProperty: programHeaders.find((h) => h.type === PT_GNU_PROPERTY),
    // Linux lets the last one win.
    stackFlags: programHeaders.findLast((h) => h.type === PT_GNU_STACK)?.flags,
    span: spanOf(loads),
    alignment: alignmentOf(loads),
    sections: {
      offset: wide ? u64(view, 40) : view.getUint32(32, true),
      entrySize: view.getUint16(headerSize - 6, true),
      count: view.getUint16(headerSize - 4, true),
    },
  };
}

/**
 * Checks that every PT_LOAD lies in user space as the file has it, before any bias, by Linux's own rule (load_elf_binary).
 *
 * @param end first address beyond user space
 * @throws {ElfError} EINVAL, and the process would be killed
 */
export function checkSpan(image: ElfImage, end: number): void {
  for (const load of image.loads) {
    if (load.vaddr >= end || load.memsz > end || end - load.memsz < load.vaddr) {
      throw new ElfError(
        `cannot run ${image.name}: a segment wants ${hex(load.memsz)} bytes at ${hex(load.vaddr)} (PT_LOAD), and user space ends ` +
          `at ${hex(end)}; the file is damaged or was linked for another address space, so look at it with readelf -lW`,
        "EINVAL",
        true,
      );
    }
  }
}

function readProgramHeaders(view: DataView, count: number, wide: boolean): ProgramHeader[] {
  const headers: ProgramHeader[] = [];
  for (let i = 0; i < count; i++) {
    const at = i * (wide ? 56 : 32);
    headers.push(
      wide
        ? {
            type: view.getUint32(at, true),
            flags: view.getUint32(at + 4, true),
            offset: u64(view, at + 8),
            vaddr: u64(view, at + 16),
            filesz: u64(view, at + 32),
            memsz: u64(view, at + 40),
            align: u64(view, at + 48),
          }
        : {
            type: view.getUint32(at, true),
            flags: view.getUint32(at + 24, true),
            offset: view.getUint32(at + 4, true),
            vaddr: view.getUint32(at + 8, true),
            filesz: view.getUint32(at + 16, true),
            memsz: view.getUint32(at + 20, true),
            align: view.getUint32(at + 28, true),
          },
    );
  }
  return headers;
}

/** The path of the first PT_INTERP; what follows a NUL inside it counts for its length only. */
function readInterpreter(reader: ElfReader, interp: ProgramHeader, name: string): string {
  const where = `the path of its dynamic linker (PT_INTERP, ${interp.filesz} bytes at offset ${hex(interp.offset)})`;
  const hint = "the file is damaged; look at it with readelf -lW, and build it again";
  if (interp.filesz < 2 || interp.filesz > PATH_MAX) {
    throw new ElfError(`cannot run ${name}: ${where} must have 2 to ${PATH_MAX} bytes; ${hint}`, "ENOEXEC");
  }
  // A file offset is signed in the kernel (loff_t).
  if (interp.offset >= 2 ** 63) throw new ElfError(`cannot run ${name}: ${where} lies nowhere; ${hint}`, "EINVAL");
  const bytes = reader.read(interp.offset, interp.filesz);
  if (bytes.length < interp.filesz) {
    throw new ElfError(
      `cannot run ${name}: ${where} lies beyond the end of the file at ${hex(reader.size)}; it is truncated, so copy or build it again`,
      "EIO",
    );
  }
  const path = bytes[bytes.length - 1] === 0 ? cString(bytes) : undefined;
  if (path === undefined)
    throw new ElfError(`cannot run ${name}: ${where} does not end in a NUL byte; ${hint}`, "ENOEXEC");
  return path;
}

/** What makes Linux's mmap of a segment fail whatever the address space looks like. */
function checkLoads(table: DataView, headers: readonly ProgramHeader[], wide: boolean, name: string): void {
  for (const [index, load] of headers.entries()) {
    if (load.type !== PT_LOAD) continue;
    const refuse = (reason: string): ElfError =>
      new ElfError(
        `cannot run ${name}: program header ${index} (PT_LOAD) ${reason}; the file is damaged, so look at it with readelf -lW, and build it again`,
        "EINVAL",
        true,
      );
    if (load.filesz > load.memsz) {
      throw refuse(
        `puts ${hex(load.filesz)} bytes of the file (p_filesz) in ${hex(load.memsz)} bytes of memory (p_memsz)`,
      );
    }
    if (load.filesz === 0) continue;
    if (load.offset + load.filesz >= 2 ** 63)
      throw refuse(`has a file offset of ${hex(load.offset)} (p_offset), beyond any file`);
    // From the raw words: a number has lost the low bits of a value above 2^53.
    const at = index * (wide ? 56 : 32);
    const offsetInPage = table.getUint32(at + (wide ? 8 : 4), true) & PAGE_MASK;
    const addressInPage = table.getUint32(at + (wide ? 16 : 8), true) & PAGE_MASK;
    if (offsetInPage !== addressInPage) {
      throw refuse(
        `cannot be mapped: p_offset is ${hex(offsetInPage)} into its page and p_vaddr ${hex(addressInPage)}, and they must agree`,
      );
    }
  }
}

function spanOf(loads: readonly ProgramHeader[]): { start: number; end: number } {
  let start = Number.POSITIVE_INFINITY;
  let end = 0;
  for (const load of loads) {
    start = Math.min(start, load.vaddr - (load.vaddr % (PAGE_MASK + 1)));
    end = Math.max(end, load.vaddr + load.memsz);
  }
  return loads.length === 0 ? { start: 0, end: 0 } : { start, end };
}

function alignmentOf(loads: readonly ProgramHeader[]): number {
  let alignment = PAGE_MASK + 1;
  for (const { align } of loads) {
    // Linux passes over what is no power of two (maximum_alignment).
    if (align > alignment && Number.isInteger(Math.log2(align))) alignment = align;
  }
  return alignment;
}

/** The text before the first NUL, or undefined where there is none. */
export function cString(bytes: Uint8Array): string | undefined {
  const end = bytes.indexOf(0);
  return end < 0 ? undefined : new TextDecoder().decode(bytes.subarray(0, end));
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A 64-bit field as a number, inexact from 2^53. */
export function u64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
