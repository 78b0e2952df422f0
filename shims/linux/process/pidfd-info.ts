/** PIDFD_GET_INFO: what a pidfd tells of its process (fs/pidfs.c, uapi/linux/pidfd.h). */
import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import type { PidFile } from "./pid-file.ts";

/** _IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info), of which the size may grow. */
const DIRECTIONS = 0xc000_0000;
const MAGIC_AND_NUMBER = 0xff0b;
const SIZE_VER0 = 64;
const MOST = 4096;
const PIDFD_INFO_PID = 1;
const PIDFD_INFO_CREDS = 2;
const PIDFD_INFO_CGROUPID = 4;
const PIDFD_INFO_EXIT = 8;
/** Number of the only cgroup. */
const ROOT_CGROUP = 1n;

/** As wait(2) tells it. */
function statusOf({ process }: PidFile): number {
  const { status } = process;
  if (status === undefined) return 0;
  return status.kind === "exited" ? (status.code & 0xff) << 8 : status.signal | (status.core === true ? 0x80 : 0);
}

/** @returns undefined where another request is meant */
export function pidfdInfo(file: PidFile, task: Task, request: number, at: number): number | undefined {
  if ((request & 0xffff) !== MAGIC_AND_NUMBER || (request & DIRECTIONS) >>> 0 !== DIRECTIONS) return undefined;
  const size = (request >>> 16) & 0x3fff;
  if (at === 0 || size < SIZE_VER0 || size > MOST) return task.fail(Errno.EINVAL, "no struct pidfd_info");
  const { memory } = task;
  const asked = memory.u32(at);
  const { process } = file;
  const exit = asked & PIDFD_INFO_EXIT && file.isReaped ? PIDFD_INFO_EXIT : 0;
  if (file.isReaped && exit === 0) return task.fail(Errno.ESRCH, "the process was waited for");
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  if (exit === 0) {
    const { ruid, rgid, euid, egid, suid, sgid, uid, gid } = process.cred;
    view.setUint32(0, PIDFD_INFO_PID | PIDFD_INFO_CREDS | PIDFD_INFO_CGROUPID, true);
    view.setBigUint64(8, ROOT_CGROUP, true);
    const words = [
      file.thread?.tid ?? process.pid,
      process.pid,
      process.ppid,
      ruid,
      rgid,
      euid,
      egid,
      suid,
      sgid,
      uid,
      gid,
    ];
    for (const [index, word] of words.entries()) view.setUint32(16 + 4 * index, word, true);
  } else {
    view.setUint32(0, exit, true);
    view.setInt32(60, statusOf(file), true);
  }
  memory.write(at, bytes);
  return 0;
}
