/** Who may look into whom (ptrace(2), "Ptrace access mode checking"), with Yama's ptrace_scope 0. */
import { Cap } from "../process/capabilities.ts";
import type { Process, Task } from "../task.ts";

/** PTRACE_MODE_ATTACH_REALCREDS. */
export function mayAttach(task: Task, target: Process): boolean {
  const { cred } = task.process;
  if (target === task.process || cred.capableIn(target.cred.userNamespace, Cap.CAP_SYS_PTRACE)) return true;
  const { ruid, euid, suid, rgid, egid, sgid } = target.cred;
  const sameUser = [ruid, euid, suid].every((uid) => uid === cred.ruid);
  return sameUser && [rgid, egid, sgid].every((gid) => gid === cred.rgid) && target.dumpable;
}
