/** What dispatch tells whoever watches. trace.ts makes text, JSON lines and counts of it. */
import type { ExitStatus, Process, Task } from "../task.ts";

export interface Tracer {
  /** A call begins. `task.plan` is undefined for a number without a row; the registers are still those of the guest. */
  enter(task: Task, args: readonly number[]): void;
  /** It ended with `result`; undefined when it does not return (exit) or left the registers as they shall be (execve). */
  leave(task: Task, result: number | undefined): void;
  /** The task waits; other tasks run before `leave`. */
  block(task: Task): void;
  /** A signal is about to be delivered; `text` is strace's: `SIGSEGV {si_signo=SIGSEGV, …}`, `stopped by SIGTSTP`. */
  signal(task: Task, text: string): void;
  /** A signal was sent that the task ignores. strace sees that one delivered too. */
  ignored(task: Task, text: string): void;
  /** A thread that is not the first of its process has ended. */
  threadEnded(task: Task, status: ExitStatus): void;
  ended(process: Process, status: ExitStatus): void;
}
