import { Errno } from "../errno.ts";
import { Resource } from "../limits.ts";
import { procNet } from "../net/proc-net.ts";
import type { Kernel, Process, Task } from "../task.ts";
import { VSYSCALL_LINE } from "../vsyscall.ts";
import { fail } from "./error.ts";
import { O_ACCMODE, O_RDONLY, O_WRONLY } from "./flags.ts";
import type { Entry, FileSystem, Inode } from "./inode.ts";
import type { OpenFile } from "./open-file.ts";
import { fixedDirectory, MagicLink, ProcDirectory, ProcText } from "./proc.ts";
import { ProcMemory } from "./proc-memory.ts";
import { Namespaces } from "./proc-namespaces.ts";
import { mapsText, mountInfoText, mountsText, residentPages, rollupText, sizePages, smapsText } from "./proc-text.ts";
import { find, pathOf } from "./walk.ts";

/** Of one user namespace: every id is itself. */
const IDENTITY_MAP = "         0          0 4294967295\n";
const IO_COUNTS = ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"]
  .map((name) => `${name}: 0\n`)
  .join("");

/** uapi/linux/magic.h. */
const NSFS_MAGIC = 0x6e736673;
const TICKS = 100;

/** Builds /proc/[pid] and /proc/[pid]/task/[tid]; one directory object for each, as long as it lives (proc(5)). */
export class ProcessDirectories {
  readonly #fs: FileSystem;
  readonly #kernel: Kernel;
  readonly #namespaces: Namespaces;
  readonly #net: Inode;
  readonly #processes = new WeakMap<Process, ProcDirectory>();
  readonly #tasks = new WeakMap<Task, ProcDirectory>();

  constructor(fs: FileSystem, kernel: Kernel) {
    this.#fs = fs;
    this.#kernel = kernel;
    this.#namespaces = new Namespaces(kernel.vfs.newFileSystem("nsfs", NSFS_MAGIC));
    this.#net = procNet(fs, kernel);
  }

  ofProcess(process: Process): ProcDirectory {
    let directory = this.#processes.get(process);
    if (!directory) {
      const files = this.#files(process, () => leader(process));
      files.set("task", this.#taskList(process));
      directory = this.#directory(files, process);
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
    const contents = { lookup: (name: string) => files.get(name), names: () => [...files.keys()] };
    return new ProcDirectory(this.#fs, contents, process.cred.euid, process.cred.egid);
  }

  #taskList(process: Process): ProcDirectory {
    return new ProcDirectory(this.#fs, {
      lookup: (name) => {
        const task = decimal(name) === undefined ? undefined : this.#kernel.tasks.get(Number(name));
        return task?.process === process ? this.ofTask(task) : undefined;
      },
      names: () => [...process.tasks].map((task) => String(task.tid)),
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
      return find({ root, cwd: root, creds: everybody }, root, process.exe, true);
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
      ["fd", this.#descriptors(process, (fd, file) => this.#descriptorLink(process, fd, file))],
      ["fdinfo", this.#descriptors(process, (_, file) => text(() => descriptorText(file), 0o400))],
      ["limits", text(() => limitsText(process))],
      ["mem", new ProcMemory(fs, process, false)],
      ["pagemap", new ProcMemory(fs, process, true)],
      ["ns", this.#namespaces.directory(fs, process)],
      ["net", this.#net],
      ["children", text(() => childrenText(process, task()))],
      ["clear_refs", text(() => "", 0o200, clearRefs)],
      [
        "maps",
        text(() => mapsText(process.mm.space) + (process.abi.word === 8 && !process.ended ? VSYSCALL_LINE : "")),
      ],
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
      ["coredump_filter", text(() => "00000033\n")],
      ["cpuset", text(() => "/\n")],
      ["gid_map", text(() => IDENTITY_MAP)],
      ["io", text(() => IO_COUNTS, 0o400)],
      ["loginuid", text(() => "4294967295")],
      ["projid_map", text(() => IDENTITY_MAP)],
      ["sessionid", text(() => "4294967295")],
      ["setgroups", text(() => "allow\n")],
      ["smaps", text(() => smapsText(process.mm.space))],
      ["uid_map", text(() => IDENTITY_MAP)],
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
      ["schedstat", text(() => `${task()?.usedCpu ?? 0} 0 1\n`)],
      ["smaps_rollup", living(text(() => rollupText(process.mm.space)))],
      ["stack", text(() => "", 0o400)],
      ["syscall", text(() => (task()?.wait ? `${task()?.callNumber ?? -1}\n` : "running\n"), 0o400)],
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
  #descriptors(process: Process, make: (fd: number, file: OpenFile) => Inode): ProcDirectory {
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

const everybody = { uid: 0, gid: 0, groups: [], superuser: true };

/** A name that is a plain decimal number. */
export function decimal(name: string): number | undefined {
  return /^(0|[1-9][0-9]{0,9})$/.test(name) ? Number(name) : undefined;
}

function leader(process: Process): Task | undefined {
  for (const task of process.tasks) if (task.tid === process.pid) return task;
  for (const task of process.tasks) return task;
  return undefined;
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

/** oom_score_adj_write: only root goes below what root has set. */
function setOomScoreAdj(process: Process, given: string): number {
  const text = given.trim();
  const value = /^[+-]?[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (!(Math.abs(value) <= OOM_SCORE_ADJ_LIMIT)) return -Errno.EINVAL;
  const superuser = process.kernel.current?.process.cred.superuser === true;
  if (value < process.oomScoreAdjMin && !superuser) return -Errno.EACCES;
  process.oomScoreAdj = value;
  if (superuser) process.oomScoreAdjMin = value;
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
  return `pos:\t${file.position}\nflags:\t0${file.flags.toString(8)}\nmnt_id:\t${file.inode.fs.dev}\nino:\t${file.inode.ino}\n`;
}

const STATES = {
  R: "R (running)",
  S: "S (sleeping)",
  T: "T (stopped)",
  t: "t (tracing stop)",
  Z: "Z (zombie)",
} as const;

function state(process: Process, task: Task | undefined): keyof typeof STATES {
  if (task?.tracee?.stop !== undefined) return "t";
  if (process.status) return "Z";
  if (task?.wait?.pause) return "T";
  return task?.wait ? "S" : "R";
}

/** proc_pid_stat(5): 52 fields. */
function statText(process: Process, task: Task | undefined): string {
  const { mm } = process;
  const user = Math.floor((process.cpuTime * TICKS) / 1e9);
  const children = Math.floor((process.childrenCpuTime * TICKS) / 1e9);
  const id = task?.tid ?? process.pid;
  const fields: (number | string)[] = [
    id,
    `(${task?.comm ?? ""})`,
    state(process, task),
    process.ppid,
    process.pgid,
    process.sid,
  ];
  const pty = process.kernel.vfs.ptyOf(process.sid);
  // tty_nr, tpgid, flags, minflt, cminflt, majflt, cmajflt
  fields.push(pty?.device ?? 0, pty?.foreground ?? -1, 0x400000, 0, 0, 0, 0);
  // utime, stime, cutime, cstime, priority, nice, num_threads, itrealvalue, starttime
  fields.push(user, 0, children, 0, 20 + process.nice, process.nice, process.tasks.size, 0);
  fields.push(Math.floor((process.startTime * TICKS) / 1e9));
  // vsize, rss, rsslim, startcode, endcode, startstack, kstkesp, kstkeip
  fields.push(sizePages(mm.space) * 4096, residentPages(mm.space), limitText(process.limits.soft(Resource.RLIMIT_RSS)));
  fields.push(0, 0, mm.startStack, 0, 0);
  // signal, blocked, sigignore, sigcatch, wchan, nswap, cnswap, exit_signal, processor, rt_priority, policy
  fields.push(0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0);
  // delayacct_blkio_ticks, guest_time, cguest_time, start_data, end_data, start_brk
  fields.push(0, 0, 0, 0, 0, mm.startBrk);
  fields.push(mm.argStart, mm.argEnd, mm.envStart, mm.envEnd, 0);
  return `${fields.join(" ")}\n`;
}

function limitText(value: number): string {
  return value === Number.POSITIVE_INFINITY ? "18446744073709551615" : String(value);
}

function statmText(process: Process): string {
  const size = sizePages(process.mm.space);
  const resident = residentPages(process.mm.space);
  return `${size} ${resident} ${Math.floor(resident / 2)} 1 0 ${resident} 0\n`;
}

function statusText(process: Process, task: Task | undefined): string {
  const { cred } = process;
  const size = sizePages(process.mm.space) * 4;
  const resident = residentPages(process.mm.space) * 4;
  const long = STATES[state(process, task)];
  const kib = (name: string, value: number) => `${name}:\t${String(value).padStart(8)} kB\n`;
  const capabilities = cred.superuser ? "000001ffffffffff" : "0000000000000000";
  const none = "0000000000000000";
  return (
    `Name:\t${task?.comm ?? ""}\nUmask:\t${process.fs.umask.toString(8).padStart(4, "0")}\nState:\t${long}\n` +
    `Tgid:\t${process.pid}\nNgid:\t0\nPid:\t${task?.tid ?? process.pid}\nPPid:\t${process.ppid}\n` +
    `TracerPid:\t${task?.tracee?.tracer.tid ?? 0}\n` +
    `Uid:\t${cred.ruid}\t${cred.euid}\t${cred.suid}\t${cred.uid}\nGid:\t${cred.rgid}\t${cred.egid}\t${cred.sgid}\t${cred.gid}\n` +
    `FDSize:\t${Math.max(64, process.files.length)}\nGroups:\t${cred.groups.join(" ")} \n` +
    kib("VmPeak", size) +
    kib("VmSize", size) +
    kib("VmLck", 0) +
    kib("VmPin", 0) +
    kib("VmHWM", resident) +
    kib("VmRSS", resident) +
    `Threads:\t${process.tasks.size}\nSigQ:\t0/31000\nSigPnd:\t${none}\nShdPnd:\t${none}\nSigBlk:\t${none}\nSigIgn:\t${none}\n` +
    `SigCgt:\t${none}\nCapInh:\t${none}\nCapPrm:\t${capabilities}\nCapEff:\t${capabilities}\nCapBnd:\t000001ffffffffff\n` +
    `CapAmb:\t${none}\nNoNewPrivs:\t${Number(process.noNewPrivs)}\nSeccomp:\t0\nSeccomp_filters:\t0\n` +
    `Cpus_allowed:\t1\nCpus_allowed_list:\t0\nMems_allowed:\t1\nMems_allowed_list:\t0\n` +
    `voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n`
  );
}

const LIMIT_ROWS: readonly (readonly [string, number, string])[] = [
  ["Max cpu time", Resource.RLIMIT_CPU, "seconds"],
  ["Max file size", Resource.RLIMIT_FSIZE, "bytes"],
  ["Max data size", Resource.RLIMIT_DATA, "bytes"],
  ["Max stack size", Resource.RLIMIT_STACK, "bytes"],
  ["Max core file size", Resource.RLIMIT_CORE, "bytes"],
  ["Max resident set", Resource.RLIMIT_RSS, "bytes"],
  ["Max processes", Resource.RLIMIT_NPROC, "processes"],
  ["Max open files", Resource.RLIMIT_NOFILE, "files"],
  ["Max locked memory", Resource.RLIMIT_MEMLOCK, "bytes"],
  ["Max address space", Resource.RLIMIT_AS, "bytes"],
  ["Max file locks", Resource.RLIMIT_LOCKS, "locks"],
  ["Max pending signals", Resource.RLIMIT_SIGPENDING, "signals"],
  ["Max msgqueue size", Resource.RLIMIT_MSGQUEUE, "bytes"],
  ["Max nice priority", Resource.RLIMIT_NICE, ""],
  ["Max realtime priority", Resource.RLIMIT_RTPRIO, ""],
  ["Max realtime timeout", Resource.RLIMIT_RTTIME, "us"],
];

function limitsText(process: Process): string {
  const shown = (value: number) => (value === Number.POSITIVE_INFINITY ? "unlimited" : String(value)).padEnd(20);
  const lines = [`${"Limit".padEnd(25)} ${"Soft Limit".padEnd(20)} ${"Hard Limit".padEnd(20)} Units     `];
  for (const [name, resource, unit] of LIMIT_ROWS) {
    const limit = process.limits.get(resource);
    if (limit) lines.push(`${name.padEnd(25)} ${shown(limit.soft)} ${shown(limit.hard)} ${unit.padEnd(10)}`);
  }
  return `${lines.join("\n")}\n`;
}
