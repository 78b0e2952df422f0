/** Which namespaces a thread is in beside its user namespace, which its credentials have (namespaces(7), struct nsproxy). */

import type { Ipc } from "../ipc/ipc.ts";
import { Cap } from "../process/capabilities.ts";
import type { Credentials } from "../process/credentials.ts";
import type { UserNamespace } from "./user.ts";

/** uapi/linux/sched.h. */
const CLONE_NEWUTS = 0x0400_0000;
const CLONE_NEWIPC = 0x0800_0000;
export const CLONE_NEWUSER = 0x1000_0000;
const CLONE_NEWCGROUP = 0x0200_0000;
/** The kinds of which a run can have several. */
export const CAN_BE_NEW = CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWCGROUP;

/** Names `uname` answers; sethostname and setdomainname change them. */
interface UtsNamespace {
  hostname: string;
  domainname: string;
  readonly owner: UserNamespace | undefined;
}

interface IpcNamespace {
  readonly ipc: Ipc;
  readonly owner: UserNamespace | undefined;
}

/** There are no groups in it but the root. */
interface CgroupNamespace {
  readonly owner: UserNamespace | undefined;
}

export interface NamespaceSet {
  readonly uts: UtsNamespace;
  readonly ipc: IpcNamespace;
  readonly cgroup: CgroupNamespace;
}

/** CAP_SYS_ADMIN in the user namespace that new ones are to belong to. */
export function mayMake(cred: Credentials, flags: number): boolean {
  const others = CAN_BE_NEW & ~CLONE_NEWUSER;
  return (flags & others) === 0 || cred.has(Cap.CAP_SYS_ADMIN);
}

/** The set with new ones for CLONE_NEW* in `flags` (copy_namespaces). @param owner who makes them is in this one */
export function withNew(
  set: NamespaceSet,
  flags: number,
  owner: UserNamespace | undefined,
  newIpc: () => Ipc,
): NamespaceSet {
  return {
    uts: flags & CLONE_NEWUTS ? { ...set.uts, owner } : set.uts,
    ipc: flags & CLONE_NEWIPC ? { ipc: newIpc(), owner } : set.ipc,
    cgroup: flags & CLONE_NEWCGROUP ? { owner } : set.cgroup,
  };
}
