/** seccomp(2), and what prctl(2) has of it. */

import { Errno } from "../errno.ts";
import { choice, flags, pointer } from "../kinds/kinds.ts";
import { Cap } from "../process/capabilities.ts";
import { type Instruction, isFilter, MOST_INSTRUCTIONS, SOCK_FILTER_BYTES } from "../seccomp/bpf.ts";
import { Action } from "../seccomp/judge.ts";
import { descends, filtersOf, prepend, type Seccomp, seccompMode, setSeccomp } from "../seccomp/state.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";

const Operation = {
  SECCOMP_SET_MODE_STRICT: 0,
  SECCOMP_SET_MODE_FILTER: 1,
  SECCOMP_GET_ACTION_AVAIL: 2,
  SECCOMP_GET_NOTIF_SIZES: 3,
} as const;
const Flag = {
  SECCOMP_FILTER_FLAG_TSYNC: 1,
  SECCOMP_FILTER_FLAG_LOG: 2,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
  SECCOMP_FILTER_FLAG_NEW_LISTENER: 8,
  SECCOMP_FILTER_FLAG_TSYNC_ESRCH: 16,
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: 32,
} as const;
const FLAGS = Object.values(Flag).reduce((all, flag) => all | flag, 0);
/** struct seccomp_notif, seccomp_notif_resp, seccomp_data. */
const NOTIF_SIZES = [80, 24, 64] as const;
const AVAILABLE: ReadonlySet<number> = new Set(Object.values(Action).filter((action) => action !== Action.USER_NOTIF));
/** SECCOMP_MODE_* of prctl. */
const Mode = { strict: 1, filter: 2 } as const;

/** PR_SET_SECCOMP. */
export function setSeccompMode(task: Task, mode: number, filter: number): number {
  if (mode === Mode.strict) return beStrict(task, 0, 0);
  if (mode === Mode.filter) return addFilter(task, 0, filter);
  return task.fail(Errno.EINVAL, "no seccomp mode");
}

function seccomp(task: Task, operation: number, given: number, argument: number): number {
  switch (operation) {
    case Operation.SECCOMP_SET_MODE_STRICT:
      return beStrict(task, given, argument);
    case Operation.SECCOMP_SET_MODE_FILTER:
      return addFilter(task, given, argument);
    case Operation.SECCOMP_GET_ACTION_AVAIL:
      if (given !== 0) return task.fail(Errno.EINVAL, "this takes no flags");
      if (AVAILABLE.has(task.memory.u32(argument))) return 0;
      return task.fail(Errno.EOPNOTSUPP, "no such action");
    case Operation.SECCOMP_GET_NOTIF_SIZES:
      if (given !== 0) return task.fail(Errno.EINVAL, "this takes no flags");
      for (const [index, size] of NOTIF_SIZES.entries()) task.memory.setU16(argument + 2 * index, size);
      return 0;
    default:
      return task.fail(Errno.EINVAL, "unknown operation");
  }
}

function beStrict(task: Task, given: number, argument: number): number {
  if (given !== 0 || argument !== 0) return task.fail(Errno.EINVAL, "strict mode takes neither flags nor arguments");
  return assign(task, { mode: "strict" });
}

/** seccomp_may_assign_mode: nobody gets out of a mode. */
function assign(task: Task, wanted: Seccomp): number {
  if (!mayBe(task, wanted.mode)) return task.fail(Errno.EINVAL, "it has another mode already");
  setSeccomp(task, wanted);
  return 0;
}

function mayBe({ seccomp: has }: Task, mode: Seccomp["mode"]): boolean {
  return has === undefined || has.mode === mode;
}

function readProgram({ memory }: Task, from: number, length: number): Instruction[] {
  const bytes = memory.bytes(from, length * SOCK_FILTER_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const program: Instruction[] = [];
  for (let offset = 0; offset < bytes.length; offset += SOCK_FILTER_BYTES) {
    program.push({
      code: view.getUint16(offset, true),
      jt: view.getUint8(offset + 2),
      jf: view.getUint8(offset + 3),
      k: view.getUint32(offset + 4, true),
    });
  }
  return program;
}

function addFilter(task: Task, given: number, argument: number): number {
  const invalid = (why: string): number => task.fail(Errno.EINVAL, why);
  const has = (flag: keyof typeof Flag): boolean => (given & Flag[flag]) !== 0;
  if ((given & ~FLAGS) !== 0) return invalid("unknown flags");
  if (has("SECCOMP_FILTER_FLAG_NEW_LISTENER")) return invalid("nobody can listen to filters here");
  if (has("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")) return invalid("only for listeners");
  const { memory, process } = task;
  // struct sock_fprog; both of it is read before anything is said of it.
  const length = memory.u16(argument);
  const from = task.abi.word === 8 ? memory.num64(argument + 8) : memory.u32(argument + 4);
  if (length === 0 || length > MOST_INSTRUCTIONS) return invalid(`${length} instructions are no filter`);
  if (!process.noNewPrivs && !process.cred.has(Cap.CAP_SYS_ADMIN))
    return task.fail(Errno.EACCES, "without PR_SET_NO_NEW_PRIVS filters are for privileged processes");
  const program = readProgram(task, from, length);
  if (!isFilter(program)) return invalid("no filter");
  if (!mayBe(task, "filter")) return invalid("it has another mode already");
  const filters = prepend(program, has("SECCOMP_FILTER_FLAG_LOG"), filtersOf(task));
  if (filters === undefined) return task.fail(Errno.ENOMEM, "too many instructions in all its filters");
  if (!has("SECCOMP_FILTER_FLAG_TSYNC")) return assign(task, { mode: "filter", filters });
  const other = unlike(task);
  if (other !== undefined) {
    if (has("SECCOMP_FILTER_FLAG_TSYNC_ESRCH")) return task.fail(Errno.ESRCH, `thread ${other.tid} has other filters`);
    return other.tid;
  }
  for (const thread of process.tasks) setSeccomp(thread, { mode: "filter", filters });
  return 0;
}

/** A thread that cannot be given the caller's filters: it has one that is not among them (seccomp_can_sync_threads). */
function unlike(task: Task): Task | undefined {
  const own = filtersOf(task);
  for (const thread of task.process.tasks) {
    if (thread === task || thread.seccomp === undefined) continue;
    if (thread.seccomp.mode !== "filter" || !descends(own, thread.seccomp.filters)) return thread;
  }
  return undefined;
}

/** PR_GET_SECCOMP. */
export function getSeccompMode(task: Task): number {
  return seccompMode(task.seccomp);
}

export const seccompCalls: readonly Row[] = [
  row(
    "seccomp",
    { x86_64: 317, i386: 354 },
    [choice("SECCOMP_", Operation, "uint"), flags("SECCOMP_FILTER_FLAG_", Flag), pointer],
    seccomp,
    { family: "process", support: "no SECCOMP_FILTER_FLAG_NEW_LISTENER (EINVAL), and so no SECCOMP_RET_USER_NOTIF" },
  ),
];
