/** open, creat, openat, openat2, close, close_range, memfd_create. */
import { Errno } from "../errno.ts";
import { closeRangeFlags, memfdFlags, openFlags, openMode } from "../kinds/files.ts";
import { dirfd, fd, octal, pointer, size, uint } from "../kinds/kinds.ts";
import { path, string } from "../kinds/memory.ts";
import { unshareFiles } from "../memory/sharing.ts";
import { type Result, type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import {
  blocking,
  contextOf,
  demandDescriptors,
  fileCall,
  install,
  pathArgument,
  startOf,
} from "../vfs/call-context.ts";
import { OwnTerminal } from "../vfs/devices.ts";
import { fail } from "../vfs/error.ts";
import {
  AT_FDCWD,
  F_SEAL_EXEC,
  O_ACCMODE,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_LARGEFILE,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDWR,
  O_TMPFILE_BIT,
  O_TRUNC,
  O_WRONLY,
  RESOLVE_BENEATH,
  RESOLVE_CACHED,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  RESOLVE_NO_XDEV,
  S_IFREG,
} from "../vfs/flags.ts";
import { afterLeases } from "../vfs/lease-wait.ts";
import type { OpenFile } from "../vfs/open-file.ts";
import { PipeOpen } from "../vfs/pipe.ts";
import { PtySlave } from "../vfs/tty/pty-ends.ts";
import type { WalkRules } from "../vfs/walk.ts";

/** What a program may ask for; open(2) ignores other bits, openat2(2) refuses them. */
const VALID_FLAGS = 0o37777703;
const PATH_FLAGS = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
/** A file of this size and more needs O_LARGEFILE on i386. */
const LARGE = 2 ** 31;

/** Opens, once no lease stands in the way any more; with O_NONBLOCK EWOULDBLOCK. */
function openAt(
  task: Task,
  directory: number,
  address: number,
  given: number,
  mode: number,
  rules?: Partial<WalkRules>,
): Result {
  return afterLeases(task, (given & O_NONBLOCK) !== 0, () => openNow(task, directory, address, given, mode, rules));
}

function openNow(
  task: Task,
  directory: number,
  address: number,
  given: number,
  mode: number,
  rules?: Partial<WalkRules>,
): Result {
  const name = pathArgument(task, address);
  let flags = given & VALID_FLAGS;
  if (flags & O_PATH) flags &= PATH_FLAGS;
  else if (task.abi.word === 8) flags |= O_LARGEFILE;
  if (flags & O_TMPFILE_BIT) {
    if (!(flags & O_DIRECTORY) || (flags & O_ACCMODE) === 0) fail(Errno.EINVAL, "O_TMPFILE is for writing");
    if (flags & O_CREAT) fail(Errno.EINVAL, "O_TMPFILE excludes O_CREAT");
  } else if ((flags & (O_CREAT | O_DIRECTORY)) === (O_CREAT | O_DIRECTORY)) {
    fail(Errno.EINVAL, "O_CREAT makes no directories");
  }
  demandDescriptors(task);
  const { process, kernel } = task;
  const permissions = mode & 0o7777 & ~process.fs.umask;
  // With these rules even an absolute path starts from the descriptor.
  const confined = rules?.beneath || rules?.inRoot;
  const start = startOf(task, directory, confined && name !== "" ? "." : name);
  const file = behind(task, kernel.vfs.open(contextOf(task), start, name, flags, permissions, rules), given);
  const closeOnExec = (flags & O_CLOEXEC) !== 0;
  if (file instanceof PipeOpen) return openFifo(task, file, closeOnExec);
  const { inode } = file;
  if (!(flags & (O_LARGEFILE | O_PATH)) && inode.kind === S_IFREG && inode.size >= LARGE) {
    file.retain();
    file.release();
    fail(Errno.EOVERFLOW, "2 GiB and more need O_LARGEFILE");
  }
  return install(task, file, closeOnExec);
}

/** A terminal's slave may become the controlling one, and /dev/tty is the session's. */
function behind(task: Task, file: OpenFile, flags: number): OpenFile {
  if (file instanceof PtySlave) file.opened(task, flags);
  if (!(file instanceof OwnTerminal)) return file;
  const pty = task.kernel.vfs.ptyOf(task.process.sid);
  try {
    return pty
      ? new PtySlave(file.entry, file.flags, pty)
      : fail(Errno.ENXIO, "the session has no controlling terminal");
  } finally {
    file.retain();
    file.release();
  }
}

/** fifo(7): opening one side waits until the other side was opened, even if that one has left again. */
function openFifo(task: Task, file: PipeOpen, closeOnExec: boolean): Result {
  const { pipe } = file;
  const access = file.flags & O_ACCMODE;
  const writing = access === O_WRONLY;
  const seen = writing ? pipe.readerOpens : pipe.writerOpens;
  // A pipe without a name is there already, whoever is at its other end (fifo_open).
  const named = file.inode.fs.type !== "pipefs";
  if (!named || access === O_RDWR || file.flags & O_NONBLOCK) return install(task, file, closeOnExec);
  const met = () =>
    writing ? pipe.readers > 0 || pipe.readerOpens !== seen : pipe.writers > 0 || pipe.writerOpens !== seen;
  const queue = writing ? pipe.writable : pipe.readable;
  return blocking(file, queue, () => (met() ? install(task, file, closeOnExec) : -Errno.EAGAIN));
}

const open = fileCall((task, name, flags, mode) => openAt(task, AT_FDCWD, name, flags, mode));
const openat = fileCall((task, directory, name, flags, mode) => openAt(task, directory, name, flags, mode));
const creat = fileCall((task, name, mode) => openAt(task, AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode));

/** struct open_how: three 64-bit words; a longer one must be zero beyond (openat2(2)). */
const HOW_SIZE = 24;

const openat2 = fileCall((task, directory, name, how, bytes) => {
  if (bytes < HOW_SIZE) fail(Errno.EINVAL, "struct open_how has 24 bytes");
  if (bytes > 4096) fail(Errno.E2BIG, "struct open_how is longer than a page");
  const { memory } = task;
  if (
    memory
      .bytes(how, bytes)
      .subarray(HOW_SIZE)
      .some((byte) => byte !== 0)
  )
    fail(Errno.E2BIG, "unknown fields are set");
  const [flags, mode, resolve] = [memory.u64(how), memory.u64(how + 8), memory.num64(how + 16)];
  const known =
    RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_CACHED;
  if (resolve > known || resolve & ~known) fail(Errno.EINVAL, "unknown RESOLVE_ flags");
  if ((resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) === (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) {
    fail(Errno.EINVAL, "RESOLVE_BENEATH excludes RESOLVE_IN_ROOT");
  }
  if (flags & ~BigInt(VALID_FLAGS)) fail(Errno.EINVAL, "unknown flags");
  const plain = Number(flags);
  const makes = (plain & (O_CREAT | O_TMPFILE_BIT)) !== 0;
  if (makes ? mode & ~0o7777n : mode !== 0n) fail(Errno.EINVAL, "a mode that has no meaning here");
  if (plain & O_PATH && plain & ~PATH_FLAGS) fail(Errno.EINVAL, "flags that O_PATH excludes");
  if (resolve & RESOLVE_CACHED && plain & (O_TRUNC | O_CREAT | O_TMPFILE_BIT)) {
    fail(Errno.EAGAIN, "RESOLVE_CACHED makes nothing");
  }
  return openAt(task, directory, name, plain, Number(mode), {
    noXdev: (resolve & RESOLVE_NO_XDEV) !== 0,
    noMagicLinks: (resolve & RESOLVE_NO_MAGICLINKS) !== 0,
    noSymlinks: (resolve & RESOLVE_NO_SYMLINKS) !== 0,
    beneath: (resolve & RESOLVE_BENEATH) !== 0,
    inRoot: (resolve & RESOLVE_IN_ROOT) !== 0,
  });
});

const close = fileCall((task, descriptor) => {
  const result = task.process.files.close(descriptor);
  return result < 0 ? task.fail(-result, `descriptor ${descriptor} is not open`) : 0;
});

const CLOSE_RANGE_UNSHARE = 2;
const CLOSE_RANGE_CLOEXEC = 4;

const closeRange = fileCall((task, first, last, flags) => {
  if (flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)) fail(Errno.EINVAL, "unknown flags");
  if (first > last) fail(Errno.EINVAL, "the first descriptor lies above the last");
  const { process } = task;
  if (flags & CLOSE_RANGE_UNSHARE) unshareFiles(task);
  const { files } = process;
  for (let at = Math.min(last, files.length - 1); at >= first; at--) {
    if (!files.get(at)) continue;
    if (flags & CLOSE_RANGE_CLOEXEC) files.setCloseOnExec(at, true);
    else files.close(at);
  }
  return 0;
});

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_NOEXEC_SEAL = 8;
const MFD_EXEC = 16;
/** "memfd:" counts towards NAME_MAX. */
const MEMFD_NAME_MAX = 249;

const memfdCreate = fileCall((task, address, flags) => {
  const known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC;
  if (flags & ~known) fail(Errno.EINVAL, "unknown flags, or MFD_HUGETLB without huge pages");
  if (flags & MFD_EXEC && flags & MFD_NOEXEC_SEAL) fail(Errno.EINVAL, "MFD_EXEC excludes MFD_NOEXEC_SEAL");
  const name =
    task.memory.cstring(address, MEMFD_NAME_MAX + 1) ?? fail(Errno.EINVAL, "the name is longer than 249 bytes");
  demandDescriptors(task);
  const noexec = (flags & MFD_NOEXEC_SEAL) !== 0;
  const sealable = noexec || (flags & MFD_ALLOW_SEALING) !== 0;
  const file = task.kernel.vfs.newMemoryFile(name, task.process.cred, noexec ? 0o666 : 0o777, sealable);
  if (noexec) file.file.seals |= F_SEAL_EXEC;
  return install(task, file, (flags & MFD_CLOEXEC) !== 0);
});

export const openCalls: readonly Row[] = [
  row("open", { x86_64: 2, i386: 5 }, [path, openFlags, openMode], open, { family: "file" }),
  row("creat", { x86_64: 85, i386: 8 }, [path, octal], creat, { family: "file" }),
  row("openat", { x86_64: 257, i386: 295 }, [dirfd, path, openFlags, openMode], openat, { family: "file" }),
  row("openat2", { x86_64: 437, i386: 437 }, [dirfd, path, pointer, size], openat2, {
    family: "file",
    support: "RESOLVE_CACHED resolves as without it; with O_CREAT, O_TRUNC or O_TMPFILE it answers EAGAIN",
  }),
  row("close", { x86_64: 3, i386: 6 }, [fd], close, { family: "file" }),
  row("close_range", { x86_64: 436, i386: 436 }, [uint, uint, closeRangeFlags], closeRange, { family: "file" }),
  row("memfd_create", { x86_64: 319, i386: 356 }, [string, memfdFlags], memfdCreate, {
    family: "file",
    support: "MFD_HUGETLB answers EINVAL",
  }),
];
