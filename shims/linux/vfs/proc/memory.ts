/** /proc/pid/mem and /proc/pid/pagemap: the memory of a process as files. */

import { Errno } from "../../errno.ts";
import { readForced, writeForced } from "../../memory/forced.ts";
import type { Mm } from "../../memory/mm.ts";
import { PAGE } from "../../memory/pages.ts";
import { Cap } from "../../process/capabilities.ts";
import type { Process } from "../../task.ts";
import { fail } from "../error.ts";
import { S_IFREG, SEEK_CUR, SEEK_SET } from "../flags.ts";
import type { Entry, FileSystem } from "../inode.ts";
import { OpenFile, SelfOpening } from "../open-file.ts";

/** Who may look into a process (PTRACE_MODE_ATTACH_FSCREDS): its own user while it is dumpable, and root. */
function mayLookInto(target: Process): boolean {
  const asker = target.kernel.current?.process;
  if (asker === undefined || asker === target || asker.cred.capableIn(target.cred.userNamespace, Cap.CAP_SYS_PTRACE))
    return true;
  const { cred } = target;
  const users = [cred.ruid, cred.euid, cred.suid].every((uid) => uid === asker.cred.uid);
  return users && [cred.rgid, cred.egid, cred.sgid].every((gid) => gid === asker.cred.gid) && target.dumpable;
}

/** An open file over memory: it stays with what the process was when it was opened, and ends with that. */
abstract class MemoryOpen extends OpenFile {
  readonly #process: Process;
  readonly #mm: Mm;

  constructor(entry: Entry, flags: number, process: Process) {
    if (process.ended) fail(Errno.ESRCH, "a zombie has no memory");
    if (!mayLookInto(process)) fail(Errno.EACCES, "the process may not be looked into");
    super(entry, flags);
    this.#process = process;
    this.#mm = process.mm;
  }

  /** Undefined when the process has ended or executed another program. */
  protected get mm(): Mm | undefined {
    return this.#process.ended || this.#process.mm !== this.#mm ? undefined : this.#mm;
  }

  override get seekable(): boolean {
    return true;
  }

  read(into: Uint8Array): number {
    const got = this.pread(into, this.position);
    if (got > 0) this.position += got;
    return got;
  }

  write(from: Uint8Array): number {
    const put = this.pwrite(from, this.position);
    if (put > 0) this.position += put;
    return put;
  }
}

class MemOpen extends MemoryOpen {
  override pread(into: Uint8Array, position: number): number {
    const { mm } = this;
    if (mm === undefined || into.length === 0) return 0;
    return readForced(mm.space, position, into) || -Errno.EIO;
  }

  override pwrite(from: Uint8Array, position: number): number {
    const { mm } = this;
    if (mm === undefined || from.length === 0) return 0;
    return writeForced(mm.space, position, from) || -Errno.EIO;
  }

  /** mem_lseek: every address is a valid offset. */
  override seek(offset: number, whence: number): number {
    if (whence !== SEEK_SET && whence !== SEEK_CUR) return -Errno.EINVAL;
    this.position = whence === SEEK_SET ? offset : this.position + offset;
    return this.position;
  }
}

const ENTRY = 8;
/** Bits 63 and 61, in the upper word (Documentation/admin-guide/mm/pagemap.rst). */
const PRESENT = 0x8000_0000;
const OF_FILE = 0x2000_0000;

class PagemapOpen extends MemoryOpen {
  /** Frame numbers are not told, as to programs without CAP_SYS_ADMIN. */
  override pread(into: Uint8Array, position: number): number {
    if (position % ENTRY !== 0 || into.length % ENTRY !== 0) return -Errno.EINVAL;
    const { mm } = this;
    if (mm === undefined) return 0;
    const { space } = mm;
    const first = position / ENTRY;
    const count = Math.min(into.length / ENTRY, Math.max(space.end / PAGE - first, 0));
    const view = new DataView(into.buffer, into.byteOffset, into.length);
    for (let index = 0; index < count; index++) {
      const address = (first + index) * PAGE;
      const present = space.isResident(address);
      const region = present ? space.regionAt(address) : undefined;
      const ofFile = region !== undefined && (region.shared || region.backing?.frame !== undefined);
      view.setUint32(index * ENTRY, 0, true);
      view.setUint32(index * ENTRY + 4, (present ? PRESENT : 0) + (ofFile ? OF_FILE : 0), true);
    }
    return count * ENTRY;
  }

  override pwrite(): number {
    return -Errno.EINVAL;
  }

  override seek(offset: number, whence: number): number {
    if (whence !== SEEK_SET && whence !== SEEK_CUR) return -Errno.EINVAL;
    const target = whence === SEEK_SET ? offset : this.position + offset;
    if (target < 0) return -Errno.EINVAL;
    this.position = target;
    return target;
  }
}

/** The file `mem` or `pagemap` of a process. */
export class ProcMemory extends SelfOpening {
  readonly #process: Process;
  readonly #pages: boolean;

  constructor(fs: FileSystem, process: Process, pages: boolean) {
    super(fs, S_IFREG | (pages ? 0o400 : 0o600), process.cred.euid, process.cred.egid);
    this.#process = process;
    this.#pages = pages;
  }

  open(entry: Entry, flags: number): OpenFile {
    return this.#pages ? new PagemapOpen(entry, flags, this.#process) : new MemOpen(entry, flags, this.#process);
  }
}
