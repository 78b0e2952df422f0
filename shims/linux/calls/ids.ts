/** Who a process is: process, group and session ids, users and groups (credentials(7)). */

import { Errno } from "../errno.ts";
import { id, int, type Kind, pid, pointer } from "../kinds/kinds.ts";
import { arrayText, fills, pointsTo } from "../kinds/memory.ts";
import { type Field, u16, u32, valueOut } from "../kinds/structs.ts";
import { kernelId, OVERFLOW_ID, shownId } from "../namespaces/user.ts";
import { Cap } from "../process/capabilities.ts";
import type { Credentials } from "../process/credentials.ts";
import { type Row, row } from "../table.ts";
import type { Process, Task } from "../task.ts";

/** (uid_t) -1: leave it as it is. */
const KEEP = 0xffff_ffff;
const NGROUPS_MAX = 65536;

const narrow = (value: number): number => (value > 0xffff ? OVERFLOW_ID : value);

/** An id as the caller's user namespace names it. */
function shown({ userNamespace }: Credentials, kind: Ids, value: number): number {
  return shownId(userNamespace, kind, value);
}

/** An id that the caller says, in the kernel's terms: -1 stays "leave it", undefined is none of its user namespace. */
function said({ userNamespace }: Credentials, kind: Ids, value: number): number | undefined {
  return value === KEEP ? KEEP : kernelId(userNamespace, kind, value);
}
/** A 16-bit argument: -1 stays "leave it". */
const widen = (value: number): number => ((value & 0xffff) === 0xffff ? KEEP : value & 0xffff);

type Ids = "uid" | "gid";
const real = { uid: "ruid", gid: "rgid" } as const;
const effective = { uid: "euid", gid: "egid" } as const;
const saved = { uid: "suid", gid: "sgid" } as const;
const mayChoose = { uid: Cap.CAP_SETUID, gid: Cap.CAP_SETGID } as const;

function unknown(task: Task, kind: Ids): number {
  return task.fail(Errno.EINVAL, `no ${kind} of the user namespace`);
}

function refuse(task: Task, kind: Ids, value: number): number {
  return task.fail(Errno.EPERM, `not privileged, and ${value} is none of its own ${kind}s`);
}

/** Nobody else of the same user may look into it any more, and its parent's death tells it nothing (commit_creds). */
function undumpable(task: Task): void {
  task.process.dumpable = false;
  task.pdeathsig = 0;
}

/** After ids have changed from what they were in `old` (cap_task_fix_setuid, commit_creds). */
function changed(task: Task, old: Credentials): number {
  const { cred } = task.process;
  cred.userChanged(old);
  if (old.euid !== cred.euid || old.egid !== cred.egid || old.uid !== cred.uid || old.gid !== cred.gid)
    undumpable(task);
  return 0;
}

function setId(task: Task, kind: Ids, given: number): number {
  if (given === KEEP) return task.fail(Errno.EINVAL, `-1 is no ${kind}`);
  const { cred } = task.process;
  const value = said(cred, kind, given);
  if (value === undefined) return unknown(task, kind);
  const old = cred.clone();
  if (cred.has(mayChoose[kind])) cred[real[kind]] = cred[saved[kind]] = value;
  else if (value !== cred[real[kind]] && value !== cred[saved[kind]]) return refuse(task, kind, value);
  cred[effective[kind]] = cred[kind] = value;
  return changed(task, old);
}

function setReId(task: Task, kind: Ids, givenReal: number, givenEffective: number): number {
  const { cred } = task.process;
  const [ruid, euid] = [said(cred, kind, givenReal), said(cred, kind, givenEffective)];
  if (ruid === undefined || euid === undefined) return unknown(task, kind);
  const old = cred.clone();
  const oldReal = cred[real[kind]];
  const oldEffective = cred[effective[kind]];
  if (!cred.has(mayChoose[kind])) {
    if (ruid !== KEEP && ruid !== oldReal && ruid !== oldEffective) return refuse(task, kind, ruid);
    const allowed = [KEEP, oldReal, oldEffective, cred[saved[kind]]];
    if (!allowed.includes(euid)) return refuse(task, kind, euid);
  }
  if (ruid !== KEEP) cred[real[kind]] = ruid;
  if (euid !== KEEP) cred[effective[kind]] = euid;
  if (ruid !== KEEP || (euid !== KEEP && euid !== oldReal)) cred[saved[kind]] = cred[effective[kind]];
  cred[kind] = cred[effective[kind]];
  return changed(task, old);
}

function setResId(task: Task, kind: Ids, ...given: readonly [real: number, effective: number, saved: number]): number {
  const { cred } = task.process;
  const [ruid, euid, suid] = given.map((value) => said(cred, kind, value));
  if (ruid === undefined || euid === undefined || suid === undefined) return unknown(task, kind);
  const old = cred.clone();
  const own = [KEEP, cred[real[kind]], cred[effective[kind]], cred[saved[kind]]];
  if (!cred.has(mayChoose[kind])) {
    for (const value of [ruid, euid, suid]) if (!own.includes(value)) return refuse(task, kind, value);
  }
  if (ruid !== KEEP) cred[real[kind]] = ruid;
  if (euid !== KEEP) cred[effective[kind]] = euid;
  if (suid !== KEEP) cred[saved[kind]] = suid;
  cred[kind] = cred[effective[kind]];
  return changed(task, old);
}

/** setfsuid answers the old value whether it works or not. */
function setFsId(task: Task, kind: Ids, given: number): number {
  const { cred } = task.process;
  const value = said(cred, kind, given) ?? KEEP;
  const old = cred[kind];
  const answer = shown(cred, kind, old);
  const own = [old, cred[real[kind]], cred[effective[kind]], cred[saved[kind]]];
  if (value === KEEP || value === old || !(cred.has(mayChoose[kind]) || own.includes(value))) return answer;
  cred[kind] = value;
  if (kind === "uid") cred.fileUserChanged(old);
  undumpable(task);
  return answer;
}

function getResId(task: Task, field: Field<number>, kind: Ids, to: readonly [number, number, number]): number {
  const { memory, abi } = task;
  const { cred } = task.process;
  const fit = (value: number): number => (field === u16 ? narrow(shown(cred, kind, value)) : shown(cred, kind, value));
  field.write(memory, to[0], fit(cred[real[kind]]), abi);
  field.write(memory, to[1], fit(cred[effective[kind]]), abi);
  field.write(memory, to[2], fit(cred[saved[kind]]), abi);
  return 0;
}

function getGroups(task: Task, field: Field<number>, count: number, list: number): number {
  const { cred } = task.process;
  const groups = cred.groups.map((group) => shown(cred, "gid", group));
  if (count < 0) return task.fail(Errno.EINVAL, "a negative count");
  if (count === 0) return groups.length;
  if (count < groups.length) return task.fail(Errno.EINVAL, `there are ${groups.length} groups`);
  const { memory, abi } = task;
  for (const [index, group] of groups.entries()) {
    field.write(memory, list + index * field.size(abi), field === u16 ? narrow(group) : group, abi);
  }
  return groups.length;
}

/** may_setgroups. */
function mayGroup(cred: Credentials): boolean {
  const { userNamespace } = cred;
  const mapped = userNamespace === undefined || (userNamespace.setgroups && userNamespace.map("gid").length > 0);
  return mapped && cred.has(Cap.CAP_SETGID);
}

function setGroups(task: Task, field: Field<number>, count: number, list: number): number {
  const { cred } = task.process;
  if (!mayGroup(cred)) return task.fail(Errno.EPERM, "for privileged processes");
  if (count >>> 0 > NGROUPS_MAX) return task.fail(Errno.EINVAL, `at most ${NGROUPS_MAX} groups`);
  const { memory, abi } = task;
  const groups: number[] = [];
  for (let index = 0; index < count; index++) {
    const group = said(cred, "gid", field.read(memory, list + index * field.size(abi), abi));
    if (group === undefined) return unknown(task, "gid");
    groups.push(group);
  }
  cred.groups = groups;
  return 0;
}

/** The process with this id, the caller's own for 0. */
function processOf(task: Task, pid: number): Process | undefined {
  return pid === 0 ? task.process : task.kernel.processes.get(pid);
}

function getpgid(task: Task, pid: number): number {
  return processOf(task, pid)?.pgid ?? task.fail(Errno.ESRCH, `there is no process ${pid}`);
}

function getsid(task: Task, pid: number): number {
  return processOf(task, pid)?.sid ?? task.fail(Errno.ESRCH, `there is no process ${pid}`);
}

/** setpgid(2), kernel/sys.c. */
function setpgid(task: Task, pid: number, given: number): number {
  const own = task.process;
  const target = processOf(task, pid);
  const pgid = given === 0 ? (pid === 0 ? own.pid : pid) : given;
  if (pgid < 0) return task.fail(Errno.EINVAL, "a negative group");
  if (target === undefined) return task.fail(Errno.ESRCH, `there is no process ${pid}`);
  if (target !== own) {
    if (target.parent !== own) return task.fail(Errno.ESRCH, "neither the caller nor its child");
    if (target.sid !== own.sid) return task.fail(Errno.EPERM, "a child in another session");
    if (target.execed) return task.fail(Errno.EACCES, "the child has executed a program already");
  }
  if (target.sid === target.pid) return task.fail(Errno.EPERM, "a session leader");
  if (pgid !== target.pid) {
    const exists = [...task.kernel.processes.values()].some((p) => p.pgid === pgid && p.sid === own.sid);
    if (!exists) return task.fail(Errno.EPERM, "there is no such group in the session");
  }
  target.pgid = pgid;
  return 0;
}

function setsid(task: Task): number {
  const { process, kernel } = task;
  const leads = [...kernel.processes.values()].some((p) => p.pgid === process.pid);
  if (leads) return task.fail(Errno.EPERM, "it leads a process group");
  process.sid = process.pid;
  process.pgid = process.pid;
  return process.pid;
}

function groupList(field: Field<number>, out: boolean): Kind {
  const show = out ? fills : pointsTo;
  return show((at, c) => {
    const count = out ? (c.result ?? 0) : (c.args[0] ?? 0);
    return arrayText(at, count, field.size(c.abi), (e) => String(field.read(c.task.memory, e, c.abi)));
  });
}

const family = "process";
const cred = (read: (cred: Credentials) => number): ((task: Task) => number) => {
  return (task) => read(task.process.cred);
};
const narrowed = (read: (cred: Credentials) => number): ((task: Task) => number) => {
  return (task) => narrow(read(task.process.cred));
};
const out16 = valueOut(u16);
const out32 = valueOut(u32);

function reader(name: string, field: "ruid" | "euid" | "rgid" | "egid", wide: number, old: number, own: number): Row[] {
  const kind = field.endsWith("uid") ? "uid" : "gid";
  const read = (c: Credentials): number => shown(c, kind, c[field]);
  return [
    row(name, { x86_64: wide }, [], cred(read), { family }),
    row(name, { i386: old }, [], narrowed(read), { family }),
    row(`${name}32`, { i386: own }, [], cred(read), { family }),
  ];
}

export const idCalls: readonly Row[] = [
  row("getpid", { x86_64: 39, i386: 20 }, [], (t) => t.process.pid, { family }),
  row("gettid", { x86_64: 186, i386: 224 }, [], (t) => t.tid, { family }),
  row("getppid", { x86_64: 110, i386: 64 }, [], (t) => t.process.ppid, { family }),
  row("getpgrp", { x86_64: 111, i386: 65 }, [], (t) => t.process.pgid, { family }),
  row("getpgid", { x86_64: 121, i386: 132 }, [pid], getpgid, { family }),
  row("setpgid", { x86_64: 109, i386: 57 }, [pid, pid], setpgid, { family }),
  row("getsid", { x86_64: 124, i386: 147 }, [pid], getsid, { family }),
  row("setsid", { x86_64: 112, i386: 66 }, [], setsid, { family }),
  ...reader("getuid", "ruid", 102, 24, 199),
  ...reader("getgid", "rgid", 104, 47, 200),
  ...reader("geteuid", "euid", 107, 49, 201),
  ...reader("getegid", "egid", 108, 50, 202),
  row("setuid", { x86_64: 105 }, [id], (t, u) => setId(t, "uid", u), { family }),
  row("setuid", { i386: 23 }, [id], (t, u) => setId(t, "uid", widen(u)), { family }),
  row("setuid32", { i386: 213 }, [id], (t, u) => setId(t, "uid", u), { family }),
  row("setgid", { x86_64: 106 }, [id], (t, g) => setId(t, "gid", g), { family }),
  row("setgid", { i386: 46 }, [id], (t, g) => setId(t, "gid", widen(g)), { family }),
  row("setgid32", { i386: 214 }, [id], (t, g) => setId(t, "gid", g), { family }),
  row("setreuid", { x86_64: 113 }, [id, id], (t, r, e) => setReId(t, "uid", r, e), { family }),
  row("setreuid", { i386: 70 }, [id, id], (t, r, e) => setReId(t, "uid", widen(r), widen(e)), { family }),
  row("setreuid32", { i386: 203 }, [id, id], (t, r, e) => setReId(t, "uid", r, e), { family }),
  row("setregid", { x86_64: 114 }, [id, id], (t, r, e) => setReId(t, "gid", r, e), { family }),
  row("setregid", { i386: 71 }, [id, id], (t, r, e) => setReId(t, "gid", widen(r), widen(e)), { family }),
  row("setregid32", { i386: 204 }, [id, id], (t, r, e) => setReId(t, "gid", r, e), { family }),
  row("setresuid", { x86_64: 117 }, [id, id, id], (t, r, e, s) => setResId(t, "uid", r, e, s), { family }),
  row("setresuid", { i386: 164 }, [id, id, id], (t, r, e, s) => setResId(t, "uid", widen(r), widen(e), widen(s)), {
    family,
  }),
  row("setresuid32", { i386: 208 }, [id, id, id], (t, r, e, s) => setResId(t, "uid", r, e, s), { family }),
  row("setresgid", { x86_64: 119 }, [id, id, id], (t, r, e, s) => setResId(t, "gid", r, e, s), { family }),
  row("setresgid", { i386: 170 }, [id, id, id], (t, r, e, s) => setResId(t, "gid", widen(r), widen(e), widen(s)), {
    family,
  }),
  row("setresgid32", { i386: 210 }, [id, id, id], (t, r, e, s) => setResId(t, "gid", r, e, s), { family }),
  row("getresuid", { x86_64: 118 }, [out32, out32, out32], (t, r, e, s) => getResId(t, u32, "uid", [r, e, s]), {
    family,
  }),
  row("getresuid", { i386: 165 }, [out16, out16, out16], (t, r, e, s) => getResId(t, u16, "uid", [r, e, s]), {
    family,
  }),
  row("getresuid32", { i386: 209 }, [out32, out32, out32], (t, r, e, s) => getResId(t, u32, "uid", [r, e, s]), {
    family,
  }),
  row("getresgid", { x86_64: 120 }, [out32, out32, out32], (t, r, e, s) => getResId(t, u32, "gid", [r, e, s]), {
    family,
  }),
  row("getresgid", { i386: 171 }, [out16, out16, out16], (t, r, e, s) => getResId(t, u16, "gid", [r, e, s]), {
    family,
  }),
  row("getresgid32", { i386: 211 }, [out32, out32, out32], (t, r, e, s) => getResId(t, u32, "gid", [r, e, s]), {
    family,
  }),
  row("setfsuid", { x86_64: 122 }, [id], (t, u) => setFsId(t, "uid", u), { family }),
  row("setfsuid", { i386: 138 }, [id], (t, u) => narrow(setFsId(t, "uid", widen(u))), { family }),
  row("setfsuid32", { i386: 215 }, [id], (t, u) => setFsId(t, "uid", u), { family }),
  row("setfsgid", { x86_64: 123 }, [id], (t, g) => setFsId(t, "gid", g), { family }),
  row("setfsgid", { i386: 139 }, [id], (t, g) => narrow(setFsId(t, "gid", widen(g))), { family }),
  row("setfsgid32", { i386: 216 }, [id], (t, g) => setFsId(t, "gid", g), { family }),
  row("getgroups", { x86_64: 115 }, [int, groupList(u32, true)], (t, n, l) => getGroups(t, u32, n, l), { family }),
  row("getgroups", { i386: 80 }, [int, groupList(u16, true)], (t, n, l) => getGroups(t, u16, n, l), { family }),
  row("getgroups32", { i386: 205 }, [int, groupList(u32, true)], (t, n, l) => getGroups(t, u32, n, l), { family }),
  row("setgroups", { x86_64: 116 }, [int, groupList(u32, false)], (t, n, l) => setGroups(t, u32, n, l), { family }),
  row("setgroups", { i386: 81 }, [int, pointer], (t, n, l) => setGroups(t, u16, n, l), { family }),
  row("setgroups32", { i386: 206 }, [int, groupList(u32, false)], (t, n, l) => setGroups(t, u32, n, l), { family }),
];
