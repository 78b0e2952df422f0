/**
 * The two system call conventions. Which one applies is decided by the trap, not by the process: `int 0x80` from 64-bit code uses
 * i386 numbers, 32-bit arguments and i386 structs (Linux, arch/x86/entry/syscall_32.c).
 */
import { Reg } from "../../emulator/cpu.ts";

export interface Abi {
  readonly name: "x86_64" | "i386";
  /** Size of `long`, `size_t` and pointers, in bytes. */
  readonly word: 4 | 8;
  /** Alignment of a 64-bit integer inside a struct: the i386 psABI aligns it to 4. */
  readonly align64: 4 | 8;
  /** Registers of the six arguments, in order. */
  readonly args: readonly [number, number, number, number, number, number];
  /** Register of the call's number and of its result. */
  readonly accumulator: number;
  /** ELF machine (elf.h EM_*) of programs that have this ABI as their own. */
  readonly machine: number;
  /** AT_PLATFORM and `uname -m`'s answer for a program with this ABI's personality. */
  readonly platform: "x86_64" | "i686";
  /** First address beyond user space for a process of this ABI on an x86-64 kernel. */
  readonly userEnd: number;
}

export const x86_64: Abi = {
  name: "x86_64",
  word: 8,
  align64: 8,
  args: [Reg.rdi, Reg.rsi, Reg.rdx, Reg.r10, Reg.r8, Reg.r9],
  accumulator: Reg.rax,
  machine: 62,
  platform: "x86_64",
  userEnd: 0x7fff_ffff_f000,
};

export const i386: Abi = {
  name: "i386",
  word: 4,
  align64: 4,
  args: [Reg.rbx, Reg.rcx, Reg.rdx, Reg.rsi, Reg.rdi, Reg.rbp],
  accumulator: Reg.rax,
  machine: 3,
  platform: "i686",
  userEnd: 0xffff_e000,
};

/** x32 numbers carry this bit; a kernel without CONFIG_X86_X32_ABI answers ENOSYS to all of them. */
export const X32_SYSCALL_BIT = 0x4000_0000;
