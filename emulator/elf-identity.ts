import { type ElfErrno, type ElfError, type ElfRole, EM_386, EM_X86_64, viewOf } from "./elf.ts";

/** Linux takes it for EM_386 (arch/x86/include/asm/elf.h, elf_check_arch_ia32). */
const EM_486 = 6;

/** Makes the error for a reason; without `errno` it is the one for a file of this role that is not a program. */
type Refuse = (reason: string, errno?: ElfErrno) => ElfError;

/** The checks up to the machine; returns it with EM_486 turned into EM_386. */
export function checkIdentity(header: Uint8Array, role: ElfRole, refuse: Refuse): typeof EM_386 | typeof EM_X86_64 {
  const ending = "so it is truncated; copy or build it again";
  // A dynamic linker shorter than its header fails to be read, whatever is in it.
  const short: ElfErrno = role === "program" ? "ENOEXEC" : "EIO";
  if (header.length === 0) throw refuse("it is empty; the build or the copy that should have made it failed", short);
  const magic = header[0] === 0x7f && header[1] === 0x45 && header[2] === 0x4c && header[3] === 0x46;
  if (!magic) {
    const found = [...header.subarray(0, 4)].map((b) => b.toString(16).padStart(2, "0")).join(" ");
    throw refuse(
      `it is not an ELF file (it starts with the bytes ${found}, not 7f 45 4c 46); give a Linux program built for x86 or x86-64`,
      header.length < 52 ? short : undefined,
    );
  }
  if (header.length < 52) throw refuse(`it ends ${header.length} bytes into its ELF header, ${ending}`, short);
  const view = viewOf(header);
  const found = view.getUint16(18, true);
  if (found === EM_386 || found === EM_486) return EM_386;
  if (found === EM_X86_64) {
    if (header.length < 64) throw refuse(`it ends ${header.length} bytes into its ELF header, ${ending}`, short);
    return EM_X86_64;
  }
  const bigEndian = view.getUint8(5) === 2;
  const machine = bigEndian ? view.getUint16(18, false) : found;
  throw refuse(
    `it is a ${MACHINE_NAMES[machine] ?? `machine ${machine}`} program${bigEndian ? ", big-endian" : ""} (e_machine ${machine}), ` +
      "and shimbed runs x86 and x86-64; build it with gcc -m64 or -m32, or run it under qemu-user",
  );
}

const MACHINE_NAMES: Readonly<Record<number, string>> = {
  2: "SPARC",
  8: "MIPS",
  20: "PowerPC",
  21: "64-bit PowerPC",
  22: "S/390",
  40: "32-bit ARM",
  43: "64-bit SPARC",
  50: "Itanium",
  183: "aarch64",
  243: "RISC-V",
  247: "BPF",
  258: "LoongArch",
};

/** Why a file of this `e_type` cannot be run. */
export function wrongType(type: number): string {
  if (type === 1) return "it is an object file (ET_REL), which still has to be linked: gcc file.o -o program";
  if (type === 4)
    return "it is a core dump (ET_CORE), not a program; open it with gdb, and run the program that left it";
  return `its type is ${type} (e_type), and a program has ET_EXEC (2) or ET_DYN (3); the header is damaged`;
}
