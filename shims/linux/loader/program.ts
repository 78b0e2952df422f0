/** Which file an exec really starts: permissions, `#!` scripts, and the program's and its dynamic linker's headers (fs/exec.c). */
import { type ElfErrno, ElfError, type ElfImage, parseElf } from "../../../emulator/elf.ts";
import { Errno } from "../errno.ts";
import type { SetIds } from "../process/credentials.ts";
import { fail, VfsError } from "../vfs/error.ts";
import { S_IFLNK, S_IFMT, S_ISGID, S_ISUID, X_OK } from "../vfs/flags.ts";
import { demand, type Entry, FileInode } from "../vfs/inode.ts";
import { find, type WalkContext } from "../vfs/walk.ts";

/** One mapped file: the program or its dynamic linker. */
export interface Executable {
  readonly entry: Entry;
  readonly file: FileInode;
  readonly image: ElfImage;
}

/** How execveat names a program. */
export interface HowNamed {
  /** What AT_EXECFN says, and what a script's interpreter is given; the path when omitted. */
  readonly shown?: string;
  /** A symbolic link at the end is followed; true when omitted. */
  readonly follow?: boolean;
  /** That name leads nowhere once the program runs (BINPRM_FLAGS_PATH_INACCESSIBLE). */
  readonly isHidden?: boolean;
}

/** What an exec starts. Nothing has been changed yet. */
export interface Program {
  readonly main: Executable;
  readonly interpreter: Executable | undefined;
  /** The arguments, with those a script's first line puts before them. */
  readonly argv: readonly Uint8Array[];
}

/** So much of a file is looked at to tell what it is (BINPRM_BUF_SIZE). */
const HEAD_BYTES = 256;
/** Scripts whose interpreter is a script: more are ELOOP. */
const MAX_DEPTH = 5;
/** Without S_IXGRP the bit stands for mandatory locks. */
const GROUP_SETS = S_ISGID | 0o010;
const SPACE = 32;
const TAB = 9;
const NEWLINE = 10;

/**
 * Finds the program behind `path` for execve(2).
 * Throws VfsError with execve's errno, or ElfError for a file that Linux would not load.
 * @param path as the guest gave it, bytes as latin1; an empty one means `start` itself
 */
export function findProgram(
  context: WalkContext,
  start: Entry,
  path: string,
  argv: readonly Uint8Array[],
  how: HowNamed = {},
): Program {
  let entry = path === "" ? start : find(context, start, path, how.follow ?? true);
  let name = how.shown ?? path;
  let args = argv;
  for (let depth = 0; ; depth++) {
    if (depth > MAX_DEPTH) fail(Errno.ELOOP, `more than ${MAX_DEPTH} scripts whose interpreter is a script`);
    const file = executableFile(entry, context);
    const head = readAt(file, 0, HEAD_BYTES);
    if (head[0] !== 0x23 || head[1] !== 0x21) return elfProgram(context, entry, file, name, args);
    if (depth === 0 && how.isHidden)
      fail(Errno.ENOENT, "the interpreter cannot open it: its descriptor is closed by then");
    const line = parseScript(head);
    const before = [line.interpreter, ...(line.argument === undefined ? [] : [line.argument])];
    args = [...before, Buffer.from(name, "latin1"), ...args.slice(1)];
    name = Buffer.from(line.interpreter).toString("latin1");
    entry = needed(context, name, `the interpreter ${name} that its first line names`);
  }
}

/** Another file that the program needs to start; when it is missing, `what` stands in the sentence. */
function needed(context: WalkContext, path: string, what: string): Entry {
  try {
    return find(context, context.cwd, path, true);
  } catch (error) {
    if (!(error instanceof VfsError)) throw error;
    return fail(error.errno, `${what} cannot be opened: ${error.why ?? "no such file"}`);
  }
}

function executableFile(entry: Entry, context: WalkContext): FileInode {
  const { inode } = entry;
  if ((inode.mode & S_IFMT) === S_IFLNK) return fail(Errno.ELOOP, "a symbolic link, which is not followed");
  if (!(inode instanceof FileInode)) return fail(Errno.EACCES, "not a regular file");
  demand(inode, context.creds, X_OK);
  // The descriptor that memfd_create gave does not count as one that writes.
  if (inode.writers > 0 && entry.parent !== undefined) fail(Errno.ETXTBSY, "it is open for writing");
  inode.opening(0);
  inode.refresh();
  return inode;
}

function elfProgram(
  context: WalkContext,
  entry: Entry,
  file: FileInode,
  name: string,
  argv: readonly Uint8Array[],
): Program {
  const image = parseElf(readerOf(file), name);
  if (image.interpreter === undefined) return { main: { entry, file, image }, interpreter: undefined, argv };
  const linkerEntry = needed(context, image.interpreter, `its dynamic linker ${image.interpreter}`);
  const linkerFile = executableFile(linkerEntry, context);
  const linker = parseElf(readerOf(linkerFile), image.interpreter, "interpreter");
  if (linker.machine !== image.machine) {
    throw new ElfError(
      `cannot run ${name}: its dynamic linker ${image.interpreter} is for another machine; look at both with readelf -h`,
      "ELIBBAD",
    );
  }
  return { main: { entry, file, image }, interpreter: { entry: linkerEntry, file: linkerFile, image: linker }, argv };
}

/** Ids that its set-user-ID and set-group-ID bits give it; of a script, its interpreter's count (bprm_fill_uid in fs/exec.c). */
export function setIds({ main: { file } }: Program): SetIds {
  const { mode, uid, gid } = file;
  return {
    ...((mode & S_ISUID) !== 0 && { uid }),
    ...((mode & GROUP_SETS) === GROUP_SETS && { gid }),
  };
}

/** Positive errno of an ElfError's name. */
export function elfErrno(error: ElfError): number {
  const name: ElfErrno = error.errno;
  return Errno[name];
}

function readAt(file: FileInode, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(Math.max(0, Math.min(length, file.size - offset)));
  let done = 0;
  while (done < bytes.length) {
    const got = file.read(bytes.subarray(done), offset + done);
    if (got < 0) return fail(-got, "reading the program");
    if (got === 0) break;
    done += got;
  }
  return bytes.subarray(0, done);
}

function readerOf(file: FileInode): { size: number; read(offset: number, length: number): Uint8Array } {
  return { size: file.size, read: (offset, length) => readAt(file, offset, length) };
}

interface ScriptLine {
  readonly interpreter: Uint8Array;
  readonly argument: Uint8Array | undefined;
}

const blank = (byte: number | undefined): boolean => byte === SPACE || byte === TAB;

/** The first line of a script (fs/binfmt_script.c): everything after the interpreter is one argument. */
function parseScript(head: Uint8Array): ScriptLine {
  let end = head.indexOf(NEWLINE);
  if (end < 0) {
    // No end of line in what was read: fine when the interpreter's name is certainly whole.
    const nul = head.indexOf(0);
    const full = head.length === HEAD_BYTES && nul < 0;
    end = nul < 0 ? head.length : nul;
    if (full) {
      let at = 2;
      while (at < end && blank(head[at])) at++;
      while (at < end && !blank(head[at])) at++;
      if (at === end) fail(Errno.ENOEXEC, "the name of the script's interpreter is cut off after 256 bytes");
    }
  }
  let start = 2;
  while (end > start && blank(head[end - 1])) end--;
  while (start < end && blank(head[start])) start++;
  if (start === end) fail(Errno.ENOEXEC, "the script's first line names no interpreter");
  let nameEnd = start;
  while (nameEnd < end && !blank(head[nameEnd]) && head[nameEnd] !== 0) nameEnd++;
  let argument = nameEnd;
  while (argument < end && blank(head[argument])) argument++;
  return {
    interpreter: head.slice(start, nameEnd),
    argument: argument < end && head[argument] !== 0 ? head.slice(argument, end) : undefined,
  };
}
