/** wait4, waitid, waitpid: children that have changed state (kernel/exit.c). */
import { Errno } from "../errno.ts";
import { choice, fd, flags, int, type Kind, pid } from "../kinds/kinds.ts";
import { fills } from "../kinds/memory.ts";
import { i32 } from "../kinds/structs.ts";
import { tellParent } from "../process/exit.ts";
import { PidFile } from "../process/pid-file.ts";
import type { Usage } from "../process/usage.ts";
import { letGo } from "../ptrace/ends.ts";
import { endCode, endWord, type Tracee } from "../ptrace/tracee.ts";
import { infoOut } from "../signals/kinds.ts";
import { NSIG, SiCode, Signal } from "../signals/numbers.ts";
import { childInfo } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import { type Result, type Row, row } from "../table.ts";
import type { ExitStatus, Process, Task } from "../task.ts";
import { O_NONBLOCK } from "../vfs/flags.ts";
import { Wait } from "../wait.ts";
import { rusageOut, writeRusage } from "./rusage.ts";

const Option = {
  WNOHANG: 1,
  WUNTRACED: 2,
  WEXITED: 4,
  WCONTINUED: 8,
  WNOWAIT: 0x0100_0000,
  __WNOTHREAD: 0x2000_0000,
  __WALL: 0x4000_0000,
  __WCLONE: 0x8000_0000,
} as const;
const WSTOPPED = Option.WUNTRACED;
const COMMON = Option.WNOHANG | Option.WUNTRACED | Option.WCONTINUED | Option.__WNOTHREAD | Option.__WALL;
const WAIT4 = (COMMON | Option.__WCLONE) >>> 0;
const WAITID = (WAIT4 | Option.WNOWAIT | Option.WEXITED) >>> 0;
const INT_MIN = -(2 ** 31);
const CORE_FLAG = 0x80;
const STOPPED = 0x7f;
const CONTINUED = 0xffff;

/** Which children are meant, by the id of a process, or of a traced thread, and its process. */
type Which = (id: number, process: Process) => boolean;

/** A child's change of state that a call tells of. */
interface Found {
  readonly id: number;
  /** As wait4 writes it. */
  readonly status: number;
  readonly info: SigInfo;
  /** For its rusage. */
  readonly used: Usage;
}

function exitInfo(child: Process, status: ExitStatus): SigInfo {
  const { code, value } = endCode(status);
  return childInfo(child, Signal.SIGCHLD, code, value);
}

/** What a tracer is told of a tracee: its end, or its stop, whether asked for stops or not (wait_task_stopped). */
function considerTracee(tracee: Tracee, options: number): Found | undefined {
  const keep = (options & Option.WNOWAIT) !== 0;
  const { task, stop, zombie } = tracee;
  const { process, tid: id } = task;
  const { used } = task;
  const tell = (status: number, code: number, value: number): Found => {
    const info = childInfo(process, Signal.SIGCHLD, code, value);
    info.pid = id;
    return { id, status, info, used };
  };
  if (zombie !== undefined) {
    if ((options & Option.WEXITED) === 0) return undefined;
    const { code, value } = endCode(zombie);
    const isChild = process.tracedLeader === tracee && tracee.byParent;
    if (!keep) letGo(tracee, 0, tellParent);
    if (!keep && isChild) reap(process);
    return tell(endWord(zombie), code, value);
  }
  if (stop !== undefined && stop.code !== 0 && !tracee.listening) {
    const { code } = stop;
    if (!keep) stop.code = 0;
    return tell((code << 8) | STOPPED, stop.why, code);
  }
  return undefined;
}

/** RUSAGE_BOTH: a child's own and that of the children it has waited for. */
function withChildren(child: Process): Usage {
  const total = child.used;
  total.add(child.childrenUsage);
  return total;
}

/** wait_consider_child: what of a child is to be told, and that it has been. */
function consider(child: Process, options: number): Found | undefined {
  const keep = (options & Option.WNOWAIT) !== 0;
  const { signals, status } = child;
  if (child.ended) {
    if ((options & Option.WEXITED) === 0 || status === undefined) return undefined;
    const info = exitInfo(child, status);
    const used = withChildren(child);
    if (!keep) reap(child);
    return { id: child.pid, status: endWord(status), info, used };
  }
  const used = withChildren(child);
  if ((options & WSTOPPED) !== 0 && signals.stoppedBy !== 0 && signals.stopUnreported) {
    signals.stopUnreported = keep;
    const info = childInfo(child, Signal.SIGCHLD, SiCode.CLD_STOPPED, signals.stoppedBy);
    return { id: child.pid, status: (signals.stoppedBy << 8) | STOPPED, info, used };
  }
  return considerContinued(child, options);
}

function considerContinued(child: Process, options: number): Found | undefined {
  const { signals } = child;
  if ((options & Option.WCONTINUED) === 0 || !signals.continueUnreported || child.ended) return undefined;
  signals.continueUnreported = (options & Option.WNOWAIT) !== 0;
  const info = childInfo(child, Signal.SIGCHLD, SiCode.CLD_CONTINUED, Signal.SIGCONT);
  return { id: child.pid, status: CONTINUED, info, used: withChildren(child) };
}

function reap(child: Process): void {
  const { parent, kernel } = child;
  if (parent !== undefined) {
    parent.childrenUsage.add(withChildren(child));
    parent.children.delete(child);
  }
  kernel.processes.delete(child.pid);
}

/** eligible_child: __WCLONE asks for children that do not send SIGCHLD, __WALL for all. */
function isEligible(task: Task, child: Process, which: Which, options: number): boolean {
  if (!which(child.pid, child)) return false;
  if ((options & Option.__WNOTHREAD) !== 0 && child.creator !== task) return false;
  if ((options & Option.__WALL) !== 0) return true;
  return (child.signals.exitSignal !== Signal.SIGCHLD) === ((options & Option.__WCLONE) !== 0);
}

/** A child that has something to tell; undefined while none has, ECHILD where none ever will. */
function look(task: Task, which: Which, options: number): Found | "none" | undefined {
  let any = false;
  for (const child of task.process.children) {
    const tracee = child.tracedLeader;
    // Its parent's process may trace it too: then it is told of as a tracee. The end of another's tracee is kept back.
    if (tracee?.byParent) continue;
    if (!isEligible(task, child, which, options)) continue;
    const found = tracee?.zombie === undefined ? consider(child, options) : undefined;
    if (found !== undefined) return found;
    if (!child.ended || tracee !== undefined || (options & Option.WEXITED) !== 0) any = true;
  }
  const traced = lookAtTracees(task, which, options);
  if (traced === "some") return undefined;
  return traced ?? (any ? undefined : "none");
}

/** The same for those that its threads trace; "some" where they may have something to tell later. */
function lookAtTracees(task: Task, which: Which, options: number): Found | "some" | undefined {
  let any = false;
  for (const thread of task.process.tasks) {
    if (thread.tracees === undefined || ((options & Option.__WNOTHREAD) !== 0 && thread !== task)) continue;
    for (const tracee of thread.tracees) {
      const { tid, process } = tracee.task;
      if (!which(tid, process)) continue;
      const found = considerTracee(tracee, options) ?? considerContinued(process, options);
      if (found !== undefined) return found;
      any = true;
    }
  }
  return any ? "some" : undefined;
}

/** do_wait. @param told makes the result of what was found: undefined for WNOHANG, "none" where there are no children */
function wait(task: Task, which: Which, options: number, told: (found: Found | "none" | undefined) => number): Result {
  const attempt = (): number | undefined => {
    const found = look(task, which, options);
    return found === undefined ? undefined : told(found);
  };
  const first = attempt();
  if (first !== undefined) return first;
  if ((options & Option.WNOHANG) !== 0) return told(undefined);
  return new Wait({ queues: [task.process.childEvents], attempt });
}

const noChildren = (task: Task): number => task.fail(Errno.ECHILD, "it has no such children");

const anyChild: Which = () => true;
const inGroup =
  (pgid: number): Which =>
  (_, child) =>
    child.pgid === pgid;
const withPid =
  (pid: number): Which =>
  (id) =>
    id === pid;

function whichOf(task: Task, target: number): Which {
  if (target === -1) return anyChild;
  if (target < 0) return inGroup(-target);
  return target === 0 ? inGroup(task.process.pgid) : withPid(target);
}

function wait4(task: Task, target: number, status: number, given: number, usage: number): Result {
  const options = given >>> 0;
  if ((options & ~WAIT4) !== 0) return task.fail(Errno.EINVAL, "unknown options");
  if (target === INT_MIN) return task.fail(Errno.ESRCH, "no process group has this number");
  return wait(task, whichOf(task, target), options | Option.WEXITED, (found) => {
    if (found === undefined) return 0;
    if (found === "none") return noChildren(task);
    // The child is gone also where its status cannot be told.
    if (status !== 0) task.memory.setU32(status, found.status);
    if (usage !== 0) writeRusage(task, usage, found.used);
    return found.id;
  });
}

const IdType = { P_ALL: 0, P_PID: 1, P_PGID: 2, P_PIDFD: 3 } as const;

function waitid(task: Task, type: number, id: number, info: number, given: number, usage: number): Result {
  const result = waitId(task, type, id, info, given, usage);
  // What it fills in is filled in with zeroes too where there is nothing to tell.
  if (typeof result === "number" && result < 0 && info !== 0) writeInfo(task, info, new SigInfo(0, 0));
  return result;
}

function waitId(task: Task, type: number, id: number, info: number, given: number, usage: number): Result {
  let options = given >>> 0;
  const invalid = (why: string): number => task.fail(Errno.EINVAL, why);
  if ((options & ~WAITID) !== 0) return invalid("unknown options");
  if ((options & (Option.WEXITED | WSTOPPED | Option.WCONTINUED)) === 0) return invalid("nothing to wait for");
  let which: Which;
  let again = false;
  switch (type) {
    case IdType.P_ALL:
      which = anyChild;
      break;
    case IdType.P_PID:
      if (id <= 0) return invalid("a process id is positive");
      which = withPid(id);
      break;
    case IdType.P_PGID:
      if (id < 0) return invalid("a negative group");
      which = inGroup(id === 0 ? task.process.pgid : id);
      break;
    case IdType.P_PIDFD: {
      if (id < 0) return invalid("a negative descriptor");
      const file = task.process.files.get(id);
      if (!(file instanceof PidFile)) return task.fail(Errno.EBADF, `descriptor ${id} is no pidfd`);
      const { process } = file;
      which = (id, child) => child === process && id === process.pid;
      // A pidfd opened with PIDFD_NONBLOCK asks for EAGAIN instead of waiting.
      again = (file.flags & O_NONBLOCK) !== 0 && (options & Option.WNOHANG) === 0;
      if (again) options |= Option.WNOHANG;
      break;
    }
    default:
      return invalid(`${type} is no P_*`);
  }
  return wait(task, which, options, (found) => {
    if (found === undefined && again) return task.fail(Errno.EAGAIN, "it has not changed state yet");
    if (found === undefined || found === "none") {
      if (info !== 0) writeInfo(task, info, new SigInfo(0, 0));
      return found === "none" ? noChildren(task) : 0;
    }
    if (usage !== 0) writeRusage(task, usage, found.used);
    if (info !== 0) writeInfo(task, info, found.info);
    return 0;
  });
}

/** waitid writes six fields and leaves the rest of siginfo alone. */
function writeInfo(task: Task, at: number, info: SigInfo): void {
  const { memory, abi } = task;
  const image = info.image(abi);
  const fields = abi.word === 8 ? 28 : 24;
  // On 64-bit four bytes between si_code and si_pid are padding, which stays as it is.
  memory.write(at, image.subarray(0, 12));
  const start = abi.word === 8 ? 16 : 12;
  const view = new DataView(image.buffer, image.byteOffset, image.length);
  for (let offset = start; offset < fields; offset += 4) memory.setU32(at + offset, view.getUint32(offset, true));
}

function waitpid(task: Task, target: number, status: number, options: number): Result {
  return wait4(task, target, status, options, 0);
}

/** `[{WIFEXITED(s) && WEXITSTATUS(s) == 0}]`, as strace. */
function statusText(word: number): string {
  if (word === CONTINUED) return "WIFCONTINUED(s)";
  const signal = word & 0x7f;
  if ((word & 0xff) === STOPPED) return `WIFSTOPPED(s) && WSTOPSIG(s) == ${word >> 8}`;
  if (signal === 0) return `WIFEXITED(s) && WEXITSTATUS(s) == ${word >> 8}`;
  const core = (word & CORE_FLAG) !== 0 ? " && WCOREDUMP(s)" : "";
  return `WIFSIGNALED(s) && WTERMSIG(s) == ${signal <= NSIG ? signal : word}${core}`;
}

const statusOut: Kind = fills((at, c) => {
  if (c.result === 0) return `0x${at.toString(16)}`;
  return `[{${statusText(i32.read(c.task.memory, at, c.abi))}}]`;
});
const waitOptions = flags("W", Option);
const idType = choice("P_", IdType);
const family = "process";

export const waitCalls: readonly Row[] = [
  row("wait4", { x86_64: 61, i386: 114 }, [pid, statusOut, waitOptions, rusageOut], wait4, { family, returns: pid }),
  row("waitpid", { i386: 7 }, [pid, statusOut, waitOptions], waitpid, { family, returns: pid }),
  row("waitid", { x86_64: 247, i386: 284 }, [idType, fd, infoOut, waitOptions, rusageOut], waitid, {
    family,
    returns: int,
  }),
];
