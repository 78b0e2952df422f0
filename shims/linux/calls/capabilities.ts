/** capget and capset, and what prctl does with capabilities (kernel/capability.c, security/commoncap.c). */

import { Errno } from "../errno.ts";
import { Prctl } from "../kinds/flags.ts";
import { pointer } from "../kinds/kinds.ts";
import { shownAs, struct, structIn, u32 } from "../kinds/structs.ts";
import {
  ALL_CAPS,
  CAP_LAST,
  Cap,
  capSet,
  NO_CAPS,
  SECURE_ALL_BITS,
  SECURE_ALL_LOCKS,
  SecureBit,
} from "../process/capabilities.ts";
import type { Credentials } from "../process/credentials.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";

const CAP_VERSION_1 = 0x1998_0330;
const CAP_VERSION_2 = 0x2007_1026;
const CAP_VERSION_3 = 0x2008_0522;
/** struct __user_cap_data_struct: effective, permitted, inheritable; one for each 32 capabilities. */
const DATA_BYTES = 12;
const LOW = 0xffff_ffffn;

const Ambient = { IS_SET: 1, RAISE: 2, LOWER: 3, CLEAR_ALL: 4 } as const;

const capHeader = struct({ version: shownAs(u32, (v) => `0x${v.toString(16)}`), pid: u32 });

/** Words of capability data for a header's version; undefined for an unknown one, which is replaced by the newest. */
function capWords(task: Task, header: number): number | undefined {
  const { memory } = task;
  const version = memory.u32(header);
  if (version === CAP_VERSION_1) return 1;
  if (version === CAP_VERSION_2 || version === CAP_VERSION_3) return 2;
  memory.setU32(header, CAP_VERSION_3);
  return undefined;
}

function capget(task: Task, header: number, data: number): number {
  const { memory, kernel } = task;
  const words = capWords(task, header);
  if (words === undefined) return data === 0 ? 0 : task.fail(Errno.EINVAL, "unknown version");
  const pid = memory.i32(header + 4);
  if (pid < 0) return task.fail(Errno.EINVAL, "a negative process id");
  const target = pid === 0 ? task : kernel.tasks.get(pid);
  if (target === undefined) return task.fail(Errno.ESRCH, `there is no process ${pid}`);
  if (data === 0) return 0;
  const { effective, permitted, inheritable } = target.cred;
  for (let word = 0; word < words; word++)
    for (const [index, set] of [effective, permitted, inheritable].entries())
      memory.setU32(data + DATA_BYTES * word + 4 * index, Number((set >> BigInt(32 * word)) & LOW));
  return 0;
}

const isWithin = (set: bigint, of: bigint): boolean => (set & ~of) === NO_CAPS;

function capset(task: Task, header: number, data: number): number {
  const { memory, process } = task;
  const words = capWords(task, header);
  if (words === undefined) return task.fail(Errno.EINVAL, "unknown version");
  const pid = memory.i32(header + 4);
  if (pid !== 0 && pid !== task.tid) return task.fail(Errno.EPERM, "another process");
  const given = (index: number): bigint => {
    let set = NO_CAPS;
    for (let word = 0; word < words; word++)
      set |= BigInt(memory.u32(data + DATA_BYTES * word + 4 * index)) << BigInt(32 * word);
    return set & ALL_CAPS;
  };
  const [effective, permitted, inheritable] = [given(0), given(1), given(2)];
  const { cred } = process;
  const denied = (why: string): number => task.fail(Errno.EPERM, why);
  if (!cred.has(Cap.CAP_SETPCAP) && !isWithin(inheritable, cred.inheritable | cred.permitted))
    return denied("inheritable ones that it may not have");
  if (!isWithin(inheritable, cred.inheritable | cred.bounding))
    return denied("inheritable ones beyond the bounding set");
  if (!isWithin(permitted, cred.permitted)) return denied("capabilities it does not have");
  if (!isWithin(effective, permitted)) return denied("effective ones that are not permitted");
  cred.effective = effective;
  cred.permitted = permitted;
  cred.inheritable = inheritable;
  cred.ambient &= permitted & inheritable;
  return 0;
}

type Arguments = readonly [a: number, b: number, c: number, d: number];

/** The options of prctl that concern capabilities (cap_task_prctl). */
export function controlCapabilities(task: Task, option: number, [a, b, c, d]: Arguments): number {
  const { cred } = task.process;
  switch (option) {
    case Prctl.PR_CAPBSET_READ:
      if (a > CAP_LAST) return task.fail(Errno.EINVAL, `there is no capability ${a}`);
      return (cred.bounding & capSet(a)) === NO_CAPS ? 0 : 1;
    case Prctl.PR_CAPBSET_DROP:
      if (!cred.has(Cap.CAP_SETPCAP)) return task.fail(Errno.EPERM, "for privileged processes");
      if (a > CAP_LAST) return task.fail(Errno.EINVAL, `there is no capability ${a}`);
      cred.bounding &= ~capSet(a);
      return 0;
    case Prctl.PR_GET_SECUREBITS:
      return cred.securebits;
    case Prctl.PR_SET_SECUREBITS:
      return setSecurebits(task, cred, a);
    case Prctl.PR_GET_KEEPCAPS:
      return (cred.securebits & SecureBit.SECBIT_KEEP_CAPS) === 0 ? 0 : 1;
    case Prctl.PR_SET_KEEPCAPS:
      if (a > 1) return task.fail(Errno.EINVAL, "neither 0 nor 1");
      if ((cred.securebits & SecureBit.SECBIT_KEEP_CAPS_LOCKED) !== 0) return task.fail(Errno.EPERM, "it is locked");
      cred.securebits = (cred.securebits & ~SecureBit.SECBIT_KEEP_CAPS) | (a * SecureBit.SECBIT_KEEP_CAPS);
      return 0;
    default:
      return controlAmbient(task, cred, a, b, c !== 0 || d !== 0);
  }
}

function setSecurebits(task: Task, cred: Credentials, wanted: number): number {
  const old = cred.securebits;
  const locks = old & SECURE_ALL_LOCKS;
  const unknown = wanted >= 2 ** 32 || (wanted & ~(SECURE_ALL_BITS | SECURE_ALL_LOCKS)) !== 0;
  if (unknown || ((locks >> 1) & (old ^ wanted)) !== 0 || (locks & ~wanted) !== 0)
    return task.fail(Errno.EPERM, "locked, or no securebits");
  if (!cred.has(Cap.CAP_SETPCAP)) return task.fail(Errno.EPERM, "for privileged processes");
  cred.securebits = wanted;
  return 0;
}

function controlAmbient(task: Task, cred: Credentials, what: number, cap: number, more: boolean): number {
  if (what === Ambient.CLEAR_ALL) {
    if (cap !== 0 || more) return task.fail(Errno.EINVAL, "zeroes after the first");
    cred.ambient = NO_CAPS;
    return 0;
  }
  if (cap > CAP_LAST || more) return task.fail(Errno.EINVAL, `there is no capability ${cap}`);
  const set = capSet(cap);
  switch (what) {
    case Ambient.IS_SET:
      return (cred.ambient & set) === NO_CAPS ? 0 : 1;
    case Ambient.RAISE:
      if (
        (cred.permitted & cred.inheritable & set) === NO_CAPS ||
        (cred.securebits & SecureBit.SECBIT_NO_CAP_AMBIENT_RAISE) !== 0
      )
        return task.fail(Errno.EPERM, "a capability that it cannot hand on");
      cred.ambient |= set;
      return 0;
    case Ambient.LOWER:
      cred.ambient &= ~set;
      return 0;
    default:
      return task.fail(Errno.EINVAL, "no PR_CAP_AMBIENT_*");
  }
}

export const capabilityCalls: readonly Row[] = [
  row("capget", { x86_64: 125, i386: 184 }, [structIn(capHeader), pointer], capget, { family: "process" }),
  row("capset", { x86_64: 126, i386: 185 }, [structIn(capHeader), pointer], capset, { family: "process" }),
];
