/** setns: there is one namespace of each kind, so what can be joined is joined already. */
import { Cap } from "../capabilities.ts";
import { Errno } from "../errno.ts";
import { fd, uintHex } from "../kinds.ts";
import { type Row, row } from "../table.ts";
import { fileCall, openFileOf } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { NamespaceOpen } from "../vfs/proc-namespaces.ts";

const CLONE_NEWUSER = 0x1000_0000;

const setns = fileCall((task, descriptor, type) => {
  const file = openFileOf(task, descriptor);
  if (!(file instanceof NamespaceOpen)) return fail(Errno.EINVAL, "no namespace");
  if (type !== 0 && type !== file.flag) fail(Errno.EINVAL, "a namespace of another kind");
  if (file.flag === CLONE_NEWUSER) fail(Errno.EINVAL, "the caller is in it");
  if (!task.process.cred.capable(Cap.CAP_SYS_ADMIN)) fail(Errno.EPERM, "joining namespaces takes CAP_SYS_ADMIN");
  return 0;
});

export const namespaceCalls: readonly Row[] = [
  row("setns", { x86_64: 308, i386: 346 }, [fd, uintHex], setns, {
    family: "process",
    support: "descriptors of /proc/pid/ns; those of processes answer EINVAL",
  }),
];
