/** setns: joins a namespace that is there (kernel/nsproxy.c). */
import { Errno } from "../errno.ts";
import { fd, uintHex } from "../kinds/kinds.ts";
import { joinOther, joinUser } from "../namespaces/make.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { fileCall, openFileOf } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { NamespaceOpen, type NamespaceRef } from "../vfs/proc/namespaces.ts";

function join(task: Task, ref: NamespaceRef): number {
  switch (ref.kind) {
    case "user":
      return joinUser(task, ref.namespaces.user);
    case "uts":
    case "ipc":
    case "cgroup":
      return joinOther(task, ref.owner, { [ref.kind]: ref.namespaces[ref.kind] });
    default:
      // There is one of the kind, and the caller is in it.
      return joinOther(task, ref.owner, {});
  }
}

const setns = fileCall((task, descriptor, type) => {
  const file = openFileOf(task, descriptor);
  if (!(file instanceof NamespaceOpen)) return fail(Errno.EINVAL, "no namespace");
  if (type !== 0 && type !== file.flag) fail(Errno.EINVAL, "a namespace of another kind");
  return join(task, file.ref);
});

export const namespaceCalls: readonly Row[] = [
  row("setns", { x86_64: 308, i386: 346 }, [fd, uintHex], setns, {
    family: "process",
    support: "descriptors of /proc/pid/ns; those of processes answer EINVAL",
  }),
];
