/** fcntl's locks on ranges of a file: POSIX record locks and open file description locks. */
import { Errno } from "../errno.ts";
import { i16, i32, i64, long, type Struct, struct } from "../kinds/structs.ts";
import type { Result } from "../table.ts";
import type { Task } from "../task.ts";
import { blocking } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { F_RDLCK, F_UNLCK, F_WRLCK, lockRange } from "../vfs/locks.ts";
import type { OpenFile } from "../vfs/open-file.ts";

export interface FlockValues {
  l_type: number;
  l_whence: number;
  l_start: number;
  l_len: number;
  l_pid: number;
}
export const flockStruct: Struct<FlockValues> = struct({
  l_type: i16,
  l_whence: i16,
  l_start: long,
  l_len: long,
  l_pid: i32,
});
export const flock64Struct: Struct<FlockValues> = struct({
  l_type: i16,
  l_whence: i16,
  l_start: i64,
  l_len: i64,
  l_pid: i32,
});

/** F_GETLK, F_SETLK, F_SETLKW and their kin, in this order. */
const GET = 0;
const SET_WAIT = 2;

/** @param ofd the owner is the open file, not the process */
export function recordLock(
  task: Task,
  file: OpenFile,
  action: number,
  address: number,
  layout: Struct<FlockValues>,
  ofd: boolean,
): Result {
  const { memory, abi, process } = task;
  const request = layout.read(memory, address, abi);
  const type = request.l_type;
  if (ofd && request.l_pid !== 0) fail(Errno.EINVAL, "l_pid must be 0 for OFD locks");
  if (type !== F_RDLCK && type !== F_WRLCK && (type !== F_UNLCK || (action === GET && !ofd)))
    fail(Errno.EINVAL, "unknown lock type");
  file.inode.refresh();
  const { l_whence: whence, l_start: start, l_len: length } = request;
  const range = lockRange({ type, whence, start, length }, file.position, file.inode.size);
  if (typeof range === "number") return task.fail(-range, "no such range");
  const owner: object = ofd ? file : process.files;
  const { vfs } = task.kernel;
  const list = vfs.recordLocks(file.inode);
  const wanted = { owner, pid: ofd ? -1 : process.pid, exclusive: type === F_WRLCK, ...range };
  if (action === GET) {
    const other = type === F_UNLCK ? list.own(wanted) : list.conflict(wanted);
    if (!other) {
      layout.write(memory, address, { ...request, l_type: F_UNLCK }, abi);
      return 0;
    }
    const l_len = other.end === Number.POSITIVE_INFINITY ? 0 : other.end - other.start;
    const l_type = other.exclusive ? F_WRLCK : F_RDLCK;
    layout.write(memory, address, { l_type, l_whence: 0, l_start: other.start, l_len, l_pid: other.pid }, abi);
    return 0;
  }
  if (type === F_UNLCK) {
    list.clear(owner, range.start, range.end);
    return 0;
  }
  if (type === F_RDLCK ? !file.readable : !file.writable)
    fail(Errno.EBADF, "the descriptor is not open for this kind of lock");
  const waits = action === SET_WAIT;
  const attempt = (): number => {
    vfs.lockWaits.delete(owner);
    if (list.set(wanted)) return 0;
    if (!waits || ofd) return -Errno.EAGAIN;
    if (vfs.wouldDeadlock(owner, list.conflict(wanted)?.owner)) return -Errno.EDEADLK;
    vfs.lockWaits.set(owner, { list, wanted });
    return -Errno.EAGAIN;
  };
  const interrupted = (): number => {
    vfs.lockWaits.delete(owner);
    return -Errno.ERESTARTSYS;
  };
  return blocking(file, list.changed, attempt, interrupted, !waits);
}
