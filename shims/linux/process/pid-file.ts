/** pidfds: a process or a thread as an open file (pidfd_open(2)). */
import { Errno } from "../errno.ts";
import type { Process, Task } from "../task.ts";
import { O_RDWR, POLLHUP, POLLIN, POLLRDNORM } from "../vfs/flags.ts";
import type { Entry } from "../vfs/inode.ts";
import { OpenFile } from "../vfs/open-file.ts";
import { WaitQueue } from "../wait.ts";
import { pidfdInfo } from "./pidfd-info.ts";

export class PidFile extends OpenFile {
  readonly process: Process;
  /** PIDFD_THREAD: it means this thread alone. */
  readonly thread: Task | undefined;
  readonly #ended: WaitQueue;

  constructor(entry: Entry, flags: number, process: Process, thread: Task | undefined) {
    super(entry, O_RDWR | flags);
    this.process = process;
    this.thread = thread;
    if (thread === undefined) this.#ended = process.endEvents;
    else {
      thread.endEvents ??= new WaitQueue();
      this.#ended = thread.endEvents;
    }
  }

  /** A pidfd of a process, or of one thread alone. */
  static of(process: Process, thread: Task | undefined, flags: number): PidFile {
    const { vfs } = process.kernel;
    const entry = vfs.anonymousEntry(vfs.anonymousNode(0o600, process.cred), "anon_inode:[pidfd]");
    return new PidFile(entry, flags, process, thread);
  }

  /** The process has ended and was waited for. */
  get isReaped(): boolean {
    return this.process.kernel.processes.get(this.process.pid) !== this.process;
  }

  override get readQueue(): WaitQueue {
    return this.#ended;
  }

  read(): number {
    return -Errno.EINVAL;
  }

  write(): number {
    return -Errno.EINVAL;
  }

  override ioctl(task: Task, request: number, argument: number): number | undefined {
    return pidfdInfo(this, task, request, argument);
  }

  override poll(): number {
    const ended = this.thread === undefined ? this.process.ended : this.thread.dead;
    if (!ended) return 0;
    return POLLIN | POLLRDNORM | (this.isReaped ? POLLHUP : 0);
  }
}
