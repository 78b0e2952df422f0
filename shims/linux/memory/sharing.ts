/** What threads and processes share, and cease to. */
import type { Task } from "../task.ts";

/** A thread stops sharing its file table with any other (CLOSE_RANGE_UNSHARE, unshare(2)). */
export function unshareFiles(task: Task): void {
  const { process } = task;
  const { files } = process;
  const alone = process.tasks.size === 1 || task.ownFiles !== undefined;
  if (alone && files.users === 1) return;
  const own = files.clone();
  if (process.tasks.size > 1) {
    task.ownFiles?.release();
    task.ownFiles = own;
  } else {
    files.release();
    process.commonFiles = own;
  }
}

/** The same for its root, working directory and umask. */
export function unshareFs(task: Task): void {
  const { process } = task;
  const own = { ...process.fs };
  if (process.tasks.size > 1) task.ownFs = own;
  else {
    task.ownFs = undefined;
    process.commonFs = own;
  }
}
