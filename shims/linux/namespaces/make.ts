/** New namespaces for unshare and clone (kernel/nsproxy.c, create_user_ns), and joining ones that are there (setns). */

import { Errno } from "../errno.ts";
import { Cap } from "../process/capabilities.ts";
import type { Credentials } from "../process/credentials.ts";
import type { Task } from "../task.ts";
import { CAN_BE_NEW, CLONE_NEWUSER, mayMake, type NamespaceSet, withNew } from "./set.ts";
import { MOST_LEVELS, ownId, UserNamespace } from "./user.ts";

/** What a thread gets; undefined members stay as they are. */
export interface NewNamespaces {
  readonly cred: Credentials | undefined;
  readonly set: NamespaceSet;
}

/** create_user_ns: the caller's credentials in a user namespace of their own, or a negative errno. */
function newUser(task: Task): Credentials | number {
  const { cred } = task;
  const { userNamespace: parent, euid, egid } = cred;
  if ((parent?.level ?? 0) >= MOST_LEVELS) return task.fail(Errno.ENOSPC, "user namespaces nest too deep");
  if (task.process.fs.root !== task.kernel.vfs.root) return task.fail(Errno.EPERM, "not from within a chroot");
  if (ownId(parent, "uid", euid) === undefined || ownId(parent, "gid", egid) === undefined)
    return task.fail(Errno.EPERM, "the caller's ids have no names in its own user namespace");
  const made = cred.clone();
  made.enter(new UserNamespace(parent, euid, egid));
  return made;
}

/** What CLONE_NEW* of `flags` ask for; the caller looks for flags that cannot be served. */
export function newNamespaces(task: Task, flags: number): NewNamespaces | number {
  const made = flags & CLONE_NEWUSER ? newUser(task) : undefined;
  if (typeof made === "number") return made;
  const cred = made ?? task.cred;
  if (!mayMake(cred, flags)) return task.fail(Errno.EPERM, "new namespaces take CAP_SYS_ADMIN");
  return { cred: made, set: withNew(task.namespaces, flags, cred.userNamespace, () => task.kernel.newIpc()) };
}

/** Flags of namespaces of which a run has only the first. */
export function beyondRun(flags: number): boolean {
  return (flags & ~CAN_BE_NEW) !== 0;
}

/** The thread's credentials and namespaces are these from now on. */
export function adopt(task: Task, { cred, set }: NewNamespaces): void {
  task.namespaces = set;
  if (cred === undefined) return;
  if (task.ownCred === undefined) task.process.commonCred = cred;
  else task.ownCred = cred;
}

/** userns_install: refusals of setns for a user namespace. */
export function joinUser(task: Task, namespace: UserNamespace | undefined): number {
  const { cred, process } = task;
  if (namespace === cred.userNamespace) return task.fail(Errno.EINVAL, "the caller is in it");
  if (process.tasks.size > 1) return task.fail(Errno.EINVAL, "the process has other threads");
  if (namespace === undefined || !cred.capableIn(namespace, Cap.CAP_SYS_ADMIN))
    return task.fail(Errno.EPERM, "joining it takes CAP_SYS_ADMIN in it");
  const joined = cred.clone();
  joined.enter(namespace);
  adopt(task, { cred: joined, set: task.namespaces });
  return 0;
}

/** The other kinds: CAP_SYS_ADMIN in the namespace's owner and in one's own. */
export function joinOther(task: Task, owner: UserNamespace | undefined, part: Partial<NamespaceSet>): number {
  const { cred } = task;
  if (!cred.capableIn(owner, Cap.CAP_SYS_ADMIN) || !cred.has(Cap.CAP_SYS_ADMIN))
    return task.fail(Errno.EPERM, "joining namespaces takes CAP_SYS_ADMIN in them");
  task.namespaces = { ...task.namespaces, ...part };
  if (part.ipc !== undefined) task.kernel.rejoinIpc(part.ipc.ipc);
  return 0;
}
