/** The alternate stack's rules (do_sigaltstack in kernel/signal.c). */
import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import type { StackT } from "./kinds.ts";
import { SS_AUTODISARM, SS_DISABLE, SS_ONSTACK } from "./state.ts";

const MINSIGSTKSZ = 2048;

/** Sets the task's alternate stack; 0 or a negative errno. @param sp the stack pointer that must not be on the old one */
export function setAltStack(task: Task, stack: StackT, sp: number): number {
  const { alt } = task.signals;
  if (alt.inUse(sp)) return task.fail(Errno.EPERM, "the alternate stack is in use");
  const mode = (stack.flags & ~SS_AUTODISARM) >>> 0;
  if (mode !== SS_DISABLE && mode !== SS_ONSTACK && mode !== 0) {
    return task.fail(Errno.EINVAL, `ss_flags 0x${stack.flags.toString(16)} are none of SS_ONSTACK and SS_DISABLE`);
  }
  if (alt.start === stack.start && alt.size === stack.size && alt.flags === stack.flags) return 0;
  if (mode === SS_DISABLE) alt.set({ start: 0, size: 0, flags: stack.flags });
  else if (stack.size < MINSIGSTKSZ) return task.fail(Errno.ENOMEM, `a signal stack has at least ${MINSIGSTKSZ} bytes`);
  else alt.set(stack);
  return 0;
}
