/** The first stack of a program: arguments, environment and auxiliary vector, laid out as Linux does (fs/binfmt_elf.c). */

import type { GuestMemory } from "../../../emulator/memory.ts";
import type { Abi } from "../abi.ts";
import { PAGE } from "../memory/pages.ts";
import { shownId } from "../namespaces/user.ts";
import type { Credentials } from "../process/credentials.ts";
import { HWCAP } from "../processor.ts";

/** uapi/linux/auxvec.h, asm/auxvec.h */
const Auxv = {
  AT_NULL: 0,
  AT_PHDR: 3,
  AT_PHENT: 4,
  AT_PHNUM: 5,
  AT_PAGESZ: 6,
  AT_BASE: 7,
  AT_FLAGS: 8,
  AT_ENTRY: 9,
  AT_UID: 11,
  AT_EUID: 12,
  AT_GID: 13,
  AT_EGID: 14,
  AT_PLATFORM: 15,
  AT_HWCAP: 16,
  AT_CLKTCK: 17,
  AT_SECURE: 23,
  AT_RANDOM: 25,
  AT_HWCAP2: 26,
  AT_RSEQ_FEATURE_SIZE: 27,
  AT_RSEQ_ALIGN: 28,
  AT_EXECFN: 31,
  AT_SYSINFO: 32,
  AT_SYSINFO_EHDR: 33,
  AT_MINSIGSTKSZ: 51,
} as const;

/** Bit 1: RDFSBASE and its kin may be used (asm/hwcap2.h). */
const HWCAP2_FSGSBASE = 2;
const CLOCK_TICKS = 100;

export interface StackContent {
  readonly argv: readonly Uint8Array[];
  readonly envp: readonly Uint8Array[];
  /** Name the program was executed by. */
  readonly execfn: Uint8Array;
  readonly random: Uint8Array;
  readonly cred: Credentials;
  readonly secure: boolean;
  readonly phdr: number;
  readonly phent: number;
  readonly phnum: number;
  readonly base: number;
  readonly entry: number;
  /** Address of the vDSO and of __kernel_vsyscall in it; 0 when there is none. */
  readonly vdso: number;
  readonly vsyscall: number;
  /** Bytes of the largest signal frame. */
  readonly minimalSignalStack: number;
  /** Whether the processor lets programs use RDFSBASE and its like. */
  readonly fsgsbase: boolean;
  /** How far the strings' block moves down for the sake of variety, a multiple of 16 below 8192 (arch_align_stack). */
  readonly shift: number;
}

export interface BuiltStack {
  readonly sp: number;
  readonly argStart: number;
  readonly argEnd: number;
  readonly envStart: number;
  readonly envEnd: number;
  readonly auxv: Uint8Array;
}

/** Bytes the strings and pointers take, for the E2BIG check before anything is changed. */
export function stringBytes(strings: readonly Uint8Array[]): number {
  return strings.reduce((sum, string) => sum + string.length + 1, 0);
}

/** Writes the stack of a new program below `top` and returns where things are. @throws MemoryFault when there is no room */
export function buildStack(memory: GuestMemory, abi: Abi, top: number, content: StackContent): BuiltStack {
  const { word } = abi;
  const put = (at: number, bytes: Uint8Array): number => {
    memory.write(at, bytes);
    memory.setU8(at + bytes.length, 0);
    return at;
  };
  // A word of zeroes, then the program's name, the environment, the arguments, growing up to it.
  let at = top - 8;
  memory.setNum64(at, 0);
  at -= content.execfn.length + 1;
  const execfn = put(at, content.execfn);
  at -= stringBytes(content.envp);
  const envStart = at;
  const envPointers: number[] = [];
  let next = envStart;
  for (const string of content.envp) {
    envPointers.push(put(next, string));
    next += string.length + 1;
  }
  const envEnd = next;
  at -= stringBytes(content.argv);
  const argStart = at;
  const argPointers: number[] = [];
  next = argStart;
  for (const string of content.argv) {
    argPointers.push(put(next, string));
    next += string.length + 1;
  }
  const argEnd = next;

  at = at - content.shift;
  at -= at % 16;
  const platform = Buffer.from(abi.platform, "latin1");
  at -= platform.length + 1;
  const platformAt = put(at, platform);
  at -= 16;
  const randomAt = at;
  memory.write(randomAt, content.random);

  const entries = auxvEntries(content, { execfn, platformAt, randomAt });
  const auxv = new Uint8Array(entries.length * 2 * word);
  const view = new DataView(auxv.buffer);
  for (const [index, [type, value]] of entries.entries()) {
    setWord(view, index * 2 * word, type, word);
    setWord(view, (index * 2 + 1) * word, value, word);
  }
  const pointers = [content.argv.length, ...argPointers, 0, ...envPointers, 0];
  at -= at % 16;
  let sp = at - pointers.length * word - auxv.length;
  sp -= sp % 16;
  const block = new Uint8Array(pointers.length * word + auxv.length);
  const blockView = new DataView(block.buffer);
  for (const [index, value] of pointers.entries()) setWord(blockView, index * word, value, word);
  block.set(auxv, pointers.length * word);
  memory.write(sp, block);
  return { sp, argStart, argEnd, envStart, envEnd, auxv };
}

function setWord(view: DataView, at: number, value: number, word: 4 | 8): void {
  view.setUint32(at, value >>> 0, true);
  if (word === 8) view.setUint32(at + 4, Math.floor(value / 2 ** 32) >>> 0, true);
}

function auxvEntries(
  content: StackContent,
  at: { execfn: number; platformAt: number; randomAt: number },
): [number, number][] {
  const { cred } = content;
  const { userNamespace } = cred;
  const entries: [number, number][] = [];
  if (content.vdso !== 0) {
    if (content.vsyscall !== 0) entries.push([Auxv.AT_SYSINFO, content.vsyscall]);
    entries.push([Auxv.AT_SYSINFO_EHDR, content.vdso]);
  }
  entries.push(
    [Auxv.AT_MINSIGSTKSZ, content.minimalSignalStack],
    [Auxv.AT_HWCAP, HWCAP],
    [Auxv.AT_PAGESZ, PAGE],
    [Auxv.AT_CLKTCK, CLOCK_TICKS],
    [Auxv.AT_PHDR, content.phdr],
    [Auxv.AT_PHENT, content.phent],
    [Auxv.AT_PHNUM, content.phnum],
    [Auxv.AT_BASE, content.base],
    [Auxv.AT_FLAGS, 0],
    [Auxv.AT_ENTRY, content.entry],
    [Auxv.AT_UID, shownId(userNamespace, "uid", cred.ruid)],
    [Auxv.AT_EUID, shownId(userNamespace, "uid", cred.euid)],
    [Auxv.AT_GID, shownId(userNamespace, "gid", cred.rgid)],
    [Auxv.AT_EGID, shownId(userNamespace, "gid", cred.egid)],
    [Auxv.AT_SECURE, content.secure ? 1 : 0],
    [Auxv.AT_RANDOM, at.randomAt],
    [Auxv.AT_HWCAP2, content.fsgsbase ? HWCAP2_FSGSBASE : 0],
    [Auxv.AT_EXECFN, at.execfn],
    [Auxv.AT_PLATFORM, at.platformAt],
    // sizeof and alignment of struct rseq, uapi/linux/rseq.h.
    [Auxv.AT_RSEQ_FEATURE_SIZE, 28],
    [Auxv.AT_RSEQ_ALIGN, 32],
    [Auxv.AT_NULL, 0],
  );
  return entries;
}
