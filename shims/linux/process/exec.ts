/** Starting programs: the first one of a run, and execve (fs/exec.c, begin_new_exec). */
import { Reg } from "../../../emulator/cpu.ts";
import { gdtLayouts } from "../../../emulator/descriptors.ts";
import { ElfError } from "../../../emulator/elf.ts";
import { UserError } from "../../../emulator/errors.ts";
import { Errno, errnoName } from "../errno.ts";
import { type Loaded, loadProgram, READ_IMPLIES_EXEC } from "../loader/loader.ts";
import { elfErrno, findProgram, type HowNamed, type Program, setIds } from "../loader/program.ts";
import { Event } from "../ptrace/numbers.ts";
import { beginEvent, stopInCall } from "../ptrace/stops.ts";
import type { Tracee } from "../ptrace/tracee.ts";
import { resetFpu } from "../signals/fpstate.ts";
import { SiCode, Signal } from "../signals/numbers.ts";
import { sendToTask } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import { type Result, settled } from "../table.ts";
import { type Kernel, Process, Task } from "../task.ts";
import { releaseFutexes } from "../thread/robust.ts";
import { clearUserDispatch } from "../user-dispatch.ts";
import { VfsError } from "../vfs/error.ts";
import type { Entry } from "../vfs/inode.ts";
import type { FileTable, FsContext } from "../vfs/vfs.ts";
import { pathOf } from "../vfs/walk.ts";
import { Cap } from "./capabilities.ts";
import { Credentials } from "./credentials.ts";
import { endTask, endVfork, exitProcess } from "./exit.ts";
import { Limits, Resource } from "./limits.ts";

const INIT = 1;
/** TASK_COMM_LEN without its NUL. */
const COMM_BYTES = 15;
/** x87 control word and MXCSR of a new program; everything else in the image is zero (fpu/init.c). */
const RFLAGS_START = 0x202;

const latin1 = (text: string): Uint8Array => Buffer.from(text, "latin1");

export interface StartOptions {
  /** Guest path of the program, as latin1 text of its bytes. */
  readonly path: string;
  readonly argv: readonly string[];
  /** NAME=value strings. */
  readonly envp: readonly string[];
  readonly files: FileTable;
  readonly fs: FsContext;
  readonly uid?: number;
  readonly gid?: number;
}

/**
 * Makes the first process of a run and puts its program's first instruction into the CPU.
 * @throws UserError 127 when there is no such program, 126 when it cannot be run
 */
export function startFirst(kernel: Kernel, options: StartOptions): Task {
  const uid = options.uid ?? 1000;
  const cred = new Credentials(uid, options.gid ?? uid);
  let secure = false;
  const limits = Limits.initial(kernel.maxMemory);
  const { path, fs } = options;
  const context = { root: fs.root, cwd: fs.cwd, creds: cred };
  let program: Program;
  let loaded: Loaded;
  try {
    program = findProgram(context, fs.cwd, path, options.argv.map(latin1));
    secure = cred.execed(setIds(program));
    loaded = loadProgram({
      kernel,
      program,
      envp: options.envp.map(latin1),
      execfn: latin1(path),
      cred,
      secure,
      personality: 0,
      stackLimit: limits.soft(Resource.RLIMIT_STACK),
      root: fs.root,
      random: kernel.layoutRandom,
    });
  } catch (error) {
    if (error instanceof VfsError) throw startError(path, error);
    throw error;
  }
  const pid = kernel.newPid();
  const process = new Process({
    kernel,
    pid,
    parent: undefined,
    mm: loaded.mm,
    files: options.files,
    fs,
    cred,
    limits,
  });
  // Like a shell's job: it leads a group, in a session that began before.
  process.sid = INIT;
  const task = new Task(process, pid);
  process.tasks.add(task);
  kernel.processes.set(pid, process);
  kernel.tasks.set(pid, task);
  kernel.first = process;
  kernel.current = task;
  become(task, program.main.entry, path, loaded);
  if (task.dead) throw new UserError(`the provider would not clear TLS for ${path}`, 125);
  kernel.scheduler.ready(task);
  return task;
}

function startError(path: string, error: VfsError): UserError {
  const why = error.why === undefined ? "" : `: ${error.why}`;
  const code = error.errno === Errno.ENOENT || error.errno === Errno.ENOTDIR ? 127 : 126;
  const hint = error.errno === Errno.ENOEXEC ? "; it is neither an ELF file nor a script with a #! line" : "";
  return new UserError(`cannot run ${path}: ${errnoName(error.errno)}${why}${hint}`, code);
}

/**
 * execve(2) and execveat(2) after their arguments have been read.
 * @param start directory that a relative `path` starts from
 */
export function exec(
  task: Task,
  start: Entry,
  path: string,
  argv: readonly Uint8Array[],
  envp: readonly Uint8Array[],
  how: HowNamed = {},
): Result {
  const { shown = path, follow = true, isHidden = false } = how;
  const { kernel, process } = task;
  const { fs, cred, limits } = process;
  const started = cred.clone();
  let secure: boolean;
  let program: Program;
  let loaded: Loaded;
  try {
    program = findProgram({ root: fs.root, cwd: fs.cwd, creds: cred }, start, path, argv, { shown, follow, isHidden });
    const { bits } = program.main.image;
    const abi = bits === 64 ? "x86_64" : "i386";
    if (!kernel.gate.serves(abi)) {
      const what = `${path} (${abi})`;
      kernel.notServed.set(what, (kernel.notServed.get(what) ?? 0) + 1);
      return task.fail(Errno.ENOEXEC, `provider ${kernel.gate.provider} does not serve ${abi} programs in this run`);
    }
    secure = started.execed(mayGain(task) ? setIds(program) : {});
    loaded = loadProgram({
      kernel,
      program,
      envp,
      execfn: latin1(shown),
      cred: started,
      secure,
      personality: process.personality,
      stackLimit: limits.soft(Resource.RLIMIT_STACK),
      root: fs.root,
      random: kernel.layoutRandom,
    });
  } catch (error) {
    if (!(error instanceof ElfError)) throw error;
    if (!error.kills) return task.fail(elfErrno(error), error.message);
    // Linux finds this fault when the old program is gone already.
    task.reason = error.message;
    exitProcess(process, { kind: "killed", signal: Signal.SIGSEGV });
    return settled;
  }
  const was = task.tid;
  leaveThreads(task);
  releaseFutexes(task);
  ownFiles(task);
  process.files.closeForExec();
  task.rseq = undefined;
  clearUserDispatch(task);
  process.membarriers = 0;
  const same = cred.euid === started.euid && cred.egid === started.egid;
  process.dumpable = same && cred.euid === cred.ruid && cred.egid === cred.rgid;
  if (secure || !same) task.pdeathsig = 0;
  process.commonCred = started;
  task.ownCred = undefined;
  process.mm.release();
  process.mm = loaded.mm;
  endVfork(task);
  kernel.signals.execed(task);
  // What a descriptor alone names is called as its file is.
  become(task, program.main.entry, path === "" ? start.name : shown, loaded);
  if (task.dead) return settled;
  kernel.gate.lifecycle?.exec(task.tid, was);
  return task.tracee === undefined ? settled : tellTracer(task, task.tracee, was);
}

/** Whether the bits of a program count; a tracer that could not trace it afterwards hinders them (cap_bprm_creds_from_file). */
function mayGain({ process, tracee }: Task): boolean {
  if (process.noNewPrivs) return false;
  return (
    tracee === undefined ||
    tracee.tracer.process.cred.capable(Cap.CAP_SYS_PTRACE) ||
    process.cred.capable(Cap.CAP_SETUID)
  );
}

/** A tracer is told by an event, or else by a signal (ptrace_event). */
function tellTracer(task: Task, tracee: Tracee, was: number): Result {
  if (tracee.wants(Event.exec)) {
    beginEvent(task, Event.exec, was);
    return stopInCall(task, [], () => 0);
  }
  const { cred, pid } = task.process;
  if (!tracee.seized) sendToTask(task, SigInfo.sent(Signal.SIGTRAP, SiCode.SI_USER, pid, cred.ruid));
  return 0;
}

/** The other threads end; the one that called is the leader from now on (de_thread). */
function leaveThreads(task: Task): void {
  const { process, kernel } = task;
  for (const other of [...process.tasks]) if (other !== task) endTask(other, 0);
  if (task.tid === process.pid) return;
  // The first thread's place is taken: nobody is told of its end.
  process.tracedLeader?.release(0);
  process.tracedLeader = task.tracee;
  kernel.tasks.delete(task.tid);
  task.tid = process.pid;
  kernel.tasks.set(task.tid, task);
}

/** Its file table is its own from now on; what was the thread's alone is the process's. */
function ownFiles(task: Task): void {
  const { process } = task;
  if (task.ownFiles !== undefined) {
    process.commonFiles.release();
    process.commonFiles = task.ownFiles;
    task.ownFiles = undefined;
  }
  if (task.ownFs !== undefined) {
    process.commonFs = task.ownFs;
    task.ownFs = undefined;
  }
  const { commonFiles } = process;
  if (commonFiles.users <= 1) return;
  process.commonFiles = commonFiles.clone();
  commonFiles.release();
}

/** The task in the CPU becomes the loaded program. @param name path that it is called after */
function become(task: Task, entry: Entry, name: string, loaded: Loaded): void {
  const { kernel, process } = task;
  const { machine } = kernel;
  process.exe = pathOf(entry, process.fs.root);
  process.execed = true;
  process.clockReads = 0;
  process.personality = (process.personality & ~READ_IMPLIES_EXEC) | loaded.personality;
  task.comm = name.slice(name.lastIndexOf("/") + 1).slice(0, COMM_BYTES);
  task.abi = process.abi;
  machine.activate(loaded.mm.space);
  const cleared = task.punch({ kind: "ClearTls" }, "execve");
  if (cleared.kind !== "ok") {
    // The old program is gone; Linux ends a process whose exec fails this late by SIGSEGV.
    task.reason = `the provider did not clear TLS (${cleared.kind})`;
    exitProcess(process, { kind: "killed", signal: Signal.SIGSEGV });
    return;
  }
  const { cpu } = machine;
  const wide = process.abi.word === 8;
  for (let register: number = Reg.rax; register <= Reg.r15; register++) cpu.setReg(register, 0);
  cpu.setReg(Reg.rsp, loaded.sp);
  cpu.setReg(Reg.rip, loaded.entry);
  cpu.setReg(Reg.rflags, RFLAGS_START);
  task.debug?.flush(cpu);
  const { userCs32, userCs64 = userCs32, userDs } = gdtLayouts.x86_64;
  cpu.enterUser(wide, wide ? userCs64 : userCs32, userDs);
  resetFpu(task);
}
