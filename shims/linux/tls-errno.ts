/** What a guest sees of TLS requests that are refused. */
import type { Outcome } from "../../providers/requests.ts";
import { x86_64 } from "./abi.ts";
import { Errno } from "./errno.ts";
import type { Task } from "./task.ts";

/**
 * What the guest sees of a request that was not carried out: the one table of it. A denial is EPERM, as a security module's;
 * a platform that can never do it looks like a kernel without the call; one that could but does not, like one that lacks this case.
 */
export function tlsErrno(task: Task, outcome: Exclude<Outcome, { kind: "ok" }>): number {
  switch (outcome.kind) {
    case "failure":
      return task.fail(outcome.errno);
    case "denied":
      return task.fail(outcome.errno ?? Errno.EPERM, `denied by ${outcome.rule}`);
    case "unsupported":
      return task.fail(Errno.ENOSYS, "the provider does not support it");
    case "unimplemented":
      return task.fail(Errno.EINVAL, `the provider does not implement ${outcome.name}`);
  }
}

/** EPERM for a base outside user space, before any token is asked for. LiteBox does not look at the address at all. */
export function unlessTlsBase(task: Task, segment: "FS" | "GS", value: number): number {
  if (value < x86_64.userEnd || task.kernel.gate.asLitebox) return 0;
  return task.fail(Errno.EPERM, `${segment} base lies outside user space`);
}
