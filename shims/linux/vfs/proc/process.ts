import { Errno } from "../../errno.ts";
import { VSYSCALL_LINE } from "../../loader/vsyscall.ts";
import { procNet } from "../../net/proc-net.ts";
import { Cap } from "../../process/capabilities.ts";
import { leaderOf } from "../../signals/send.ts";
import type { Kernel, Process, Task } from "../../task.ts";
import { fail } from "../error.ts";
import { O_ACCMODE, O_RDONLY, O_WRONLY } from "../flags.ts";
import { type Entry, type FileSystem, type Inode, KERNEL } from "../inode.ts";
import type { OpenFile } from "../open-file.ts";
import { find, pathOf } from "../walk.ts";
import { coredumpFilter } from "./coredump.ts";
import { idMaps } from "./id-maps.ts";
import { mapFiles } from "./map-files.ts";
import { ProcMemory } from "./memory.ts";
import { Namespaces } from "./namespaces.ts";
import { fixedContents, fixedDirectory, MagicLink, ProcDirectory, ProcessDirectory, ProcText } from "./proc.ts";
import { limitsText, statmText, statText, statusText } from "./status.ts";
import { syscallText } from "./syscall.ts";
import { mapsText, mountInfoText, mountsText, rollupText, smapsText } from "./text.ts";

const IO_COUNTS = ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"]
  .map((name) => `${name}: 0\n`)
  .join("");

/** uapi/linux/magic.h. */
const NSFS_MAGIC = 0x6e736673;

/** Builds /proc/[pid] and /proc/[pid]/task/[tid]; one directory object for each, as long as it lives (proc(5)). */
export class ProcessDirectories {
  readonly #fs: FileSystem;
  readonly #kernel: Kernel;
  readonly #namespaces: Namespaces;
  readonly #net: Inode;
  readonly #processes = new WeakMap<Process, ProcessDirectory>();
  readonly #tasks = new WeakMap<Task, ProcDirectory>();

  constructor(fs: FileSystem, kernel: Kernel) {
    this.#fs = fs;
    this.#kernel = kernel;
    this.#namespaces = new Namespaces(kernel.vfs.newFileSystem("nsfs", NSFS_MAGIC), kernel);
    this.#net = procNet(fs, kernel);
  }

  ofProcess(process: Process): ProcDirectory {
    let directory = this.#processes.get(process);
    if (!directory) {
      const files = this.#files(process, () => leaderOf(process));
      files.set("task", this.#taskList(process));
      directory = new ProcessDirectory(this.#fs, fixedContents(files), process);
      this.#processes.set(process, directory);
    }
    return directory;
  }

  ofTask(task: Task): ProcDirectory {
    let directory = this.#tasks.get(task);
    if (!directory) {
      directory = this.#directory(
        this.#files(task.process, () => task),
        task.process,
      );
      this.#tasks.set(task, directory);
    }
    return directory;
  }

  #directory(files: ReadonlyMap<string, Inode>, process: Process): ProcDirectory {
    return new ProcDirectory(this.#fs, fixedContents(files), process.cred.euid, process.cred.egid);
  }

  #taskList(process: Process): ProcDirectory {
    return new ProcDirectory(this.#fs, {
      lookup: (name) => {
        const task = decimal(name) === undefined ? undefined : this.#kernel.tasks.get(Number(name));
        return task?.process === process ? this.ofTask(task) : undefined;
      },
      names: () => [...process.tasks].map((task) => String(task.tid)),
      directories: () => process.tasks.size,
    });
  }

  #files(process: Process, task: () => Task | undefined): Map<string, Inode> {
    const fs = this.#fs;
    const { euid: uid, egid: gid } = process.cred;
    const text = (content: () => string | Uint8Array, mode = 0o444, store?: (given: string) => number) =>
      new ProcText(fs, content, mode, store, uid, gid);
    const link = (where: () => Entry | undefined, shown?: () => string) => {
      const place = () => (process.ended ? fail(Errno.ENOENT, "a zombie has no files") : where());
      const path = shown ?? (() => shownPath(process, where()));
      return new MagicLink(fs, () => (place() ? path() : ""), place, 0o777, uid, gid);
    };
    /** Not to be opened of a process that has ended. */
    const living = (file: ProcText, errno: number = Errno.ESRCH): ProcText => {
      file.demand = () => {
        if (process.ended) fail(errno, "the process has ended");
      };
      return file;
    };
    const argument = (from: number, to: number) => readMemory(process, from, to);
    const exe = (): Entry | undefined => {
      const { root } = this.#kernel.vfs;
      return find({ root, cwd: root, creds: KERNEL }, root, process.exe, true);
    };
    return new Map<string, Inode>([
      ["auxv", living(text(() => process.mm.auxv, 0o400))],
      ["cmdline", text(() => argument(process.mm.argStart, process.mm.argEnd))],
      [
        "comm",
        text(
          () => `${task()?.comm ?? ""}\n`,
          0o644,
          (given) => rename(task(), given),
        ),
      ],
      ["cwd", link(() => process.fs.cwd)],
      ["environ", living(text(() => argument(process.mm.envStart, process.mm.envEnd), 0o400))],
      ["exe", link(exe, () => process.exe)],
      [
        "fd",
        this.#descriptors(
          process,
          (fd, file) => this.#descriptorLink(process, fd, file),
          () => [...process.files.numbers()].length,
        ),
      ],
      ["fdinfo", this.#descriptors(process, (_, file) => text(() => descriptorText(file), 0o400))],
      ["limits", text(() => limitsText(process))],
      ["mem", new ProcMemory(fs, process, false)],
      ["pagemap", new ProcMemory(fs, process, true)],
      ["ns", this.#namespaces.directory(fs, process, task)],
      ["net", this.#net],
      ["children", text(() => childrenText(process, task()))],
      ["clear_refs", text(() => "", 0o200, clearRefs)],
      ["maps", text(() => mapsText(process.mm) + (process.abi.word === 8 && !process.ended ? VSYSCALL_LINE : ""))],
      [
        "mountinfo",
        living(
          text(() => mountInfoText(this.#kernel.vfs, process.fs.root)),
          Errno.EINVAL,
        ),
      ],
      [
        "mounts",
        living(
          text(() => mountsText(this.#kernel.vfs, process.fs.root)),
          Errno.EINVAL,
        ),
      ],
      ["autogroup", text(() => "/autogroup-1 nice 0\n")],
      ["cgroup", text(() => "0::/\n")],
      ["coredump_filter", coredumpFilter(fs, process)],
      ["cpuset", text(() => "/\n")],
      ["io", text(() => IO_COUNTS, 0o400)],
      ["loginuid", text(() => "4294967295")],
      ["sessionid", text(() => "4294967295")],
      ["smaps", text(() => smapsText(process.mm))],
      ...idMaps(fs, process),
      [
        "oom_adj",
        text(
          () => `${oomAdj(process)}\n`,
          0o644,
          (given) => setOomAdj(process, given),
        ),
      ],
      ["oom_score", text(() => "0\n")],
      [
        "oom_score_adj",
        text(
          () => `${process.oomScoreAdj}\n`,
          0o644,
          (given) => setOomScoreAdj(process, given),
        ),
      ],
      ["personality", text(() => `${process.personality.toString(16).padStart(8, "0")}\n`, 0o400)],
      ["root", link(() => process.fs.root)],
      ["stat", text(() => statText(process, task()))],
      ["statm", text(() => statmText(process))],
      ["status", text(() => statusText(process, task()))],
      [
        "timerslack_ns",
        text(
          () => `${process.prctl.timerSlack}\n`,
          0o666,
          (given) => setTimerSlack(process, given),
        ),
      ],
      ["schedstat", text(() => `${task()?.usedCpu ?? 0} 0 1\n`)],
      ["smaps_rollup", living(text(() => rollupText(process.mm)))],
      ["stack", text(() => "", 0o400)],
      ["syscall", living(text(() => syscallText(task()), 0o400))],
      ["map_files", mapFiles(fs, process)],
      ["wchan", text(() => "0")],
      [
        "attr",
        fixedDirectory(fs, {
          current: text(
            () => "unconfined\n",
            0o666,
            () => -Errno.EINVAL,
          ),
        }),
      ],
    ]);
  }

  /** A directory with a file for each open descriptor; a file stays the same object while the descriptor means the same. */
  #descriptors(process: Process, make: (fd: number, file: OpenFile) => Inode, size?: () => number): ProcDirectory {
    const made = new Map<number, { file: OpenFile; inode: Inode }>();
    const contents = {
      lookup: (name: string) => {
        const fd = decimal(name);
        const file = fd === undefined ? undefined : process.files.get(fd);
        if (fd === undefined || !file) return undefined;
        const known = made.get(fd);
        if (known && known.file === file) return known.inode;
        const inode = make(fd, file);
        made.set(fd, { file, inode });
        return inode;
      },
      names: () => [...process.files.numbers()].map(String),
      ...(size && { size }),
    };
    return new ProcDirectory(this.#fs, contents, process.cred.euid, process.cred.egid, 0o500);
  }

  #descriptorLink(process: Process, _fd: number, file: OpenFile): Inode {
    const access = file.flags & O_ACCMODE;
    const mode = access === O_RDONLY ? 0o500 : access === O_WRONLY ? 0o300 : 0o700;
    const { euid, egid } = process.cred;
    return new MagicLink(
      this.#fs,
      () => shownPath(process, file.entry),
      () => file.entry,
      mode,
      euid,
      egid,
    );
  }
}

/** A name that is a plain decimal number. */
export function decimal(name: string): number | undefined {
  return /^(0|[1-9][0-9]{0,9})$/.test(name) ? Number(name) : undefined;
}

function shownPath(process: Process, entry: Entry | undefined): string {
  return entry ? pathOf(entry, process.fs.root) : "";
}

function rename(task: Task | undefined, given: string): number {
  if (!task) return -Errno.ESRCH;
  task.comm = given.replace(/\n.*$/s, "").slice(0, 15);
  return 0;
}

const OOM_SCORE_ADJ_LIMIT = 1000;

/** The older file's scale: from -17, which exempts, to 15 (oom_adj_read and oom_adj_write in fs/proc/base.c). */
const OOM_DISABLE = -17;
const OOM_ADJUST_MAX = 15;

function oomAdj({ oomScoreAdj }: Process): number {
  if (oomScoreAdj === OOM_SCORE_ADJ_LIMIT) return OOM_ADJUST_MAX;
  return Math.min(Math.trunc((oomScoreAdj * -OOM_DISABLE) / OOM_SCORE_ADJ_LIMIT), OOM_ADJUST_MAX);
}

function setOomAdj(process: Process, given: string): number {
  const text = given.trim();
  const value = /^[+-]?[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= OOM_DISABLE && value <= OOM_ADJUST_MAX)) return -Errno.EINVAL;
  if (value === OOM_ADJUST_MAX) return setOomScoreAdj(process, String(OOM_SCORE_ADJ_LIMIT));
  return setOomScoreAdj(process, String(Math.trunc((value * OOM_SCORE_ADJ_LIMIT) / -OOM_DISABLE)));
}

/** proc_timers' timerslack_ns: 0 is the slack that the thread began with. */
function setTimerSlack(process: Process, given: string): number {
  const text = given.trim();
  if (!/^[0-9]+$/.test(text)) return -Errno.EINVAL;
  process.prctl.timerSlack = Number(text) === 0 ? process.prctl.defaultSlack : Number(text);
  return 0;
}

/** oom_score_adj_write: only CAP_SYS_RESOURCE goes below what it has set. */
function setOomScoreAdj(process: Process, given: string): number {
  const text = given.trim();
  const value = /^[+-]?[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (!(Math.abs(value) <= OOM_SCORE_ADJ_LIMIT)) return -Errno.EINVAL;
  const privileged = process.kernel.current?.process.cred.capable(Cap.CAP_SYS_RESOURCE) === true;
  if (value < process.oomScoreAdjMin && !privileged) return -Errno.EACCES;
  process.oomScoreAdj = value;
  if (privileged) process.oomScoreAdjMin = value;
  return 0;
}

/** Those that a thread has made and nobody else has taken over. */
function childrenText(process: Process, task: Task | undefined): string {
  return [...process.children]
    .filter(({ creator }) => creator === task)
    .map(({ pid }) => `${pid} `)
    .join("");
}

/** Nobody looks at the bits that it clears. */
function clearRefs(given: string): number {
  return /^[1-5]\n?$/.test(given) ? 0 : -Errno.EINVAL;
}

/** At most a few pages: what is longer than a guest's argument area is no argument. */
function readMemory(process: Process, from: number, to: number): Uint8Array {
  if (process.ended) return new Uint8Array(0);
  const bytes = new Uint8Array(Math.min(Math.max(to - from, 0), 2 ** 21));
  const got = process.mm.space.memory.readSome(from, bytes);
  return bytes.subarray(0, got);
}

function descriptorText(file: OpenFile): string {
  return `pos:\t${file.position}\nflags:\t0${file.flags.toString(8)}\nmnt_id:\t${file.inode.fs.dev}\nino:\t${file.inode.ino}\n${file.details}`;
}
