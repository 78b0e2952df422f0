/** ioctl: what works on all files here, then what the file itself knows. */

import { Errno } from "../errno.ts";
import { fd, type Kind, pointer, scalar } from "../kinds/kinds.ts";
import { Cap } from "../process/capabilities.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { fileCall, openFileOf } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { cloneFile, getFileFlags, setFileFlags } from "../vfs/file-flags.ts";
import { O_ASYNC, O_NONBLOCK } from "../vfs/flags.ts";
import { PathOpen } from "../vfs/open-file.ts";
import { setAsync } from "../vfs/owner.ts";
import { Tty } from "../vfs/tty/requests.ts";

/** uapi/asm-generic/ioctls.h, uapi/linux/fs.h. */
const Request = {
  ...Tty,
  FIONREAD: 0x541b,
  FIONBIO: 0x5421,
  FIONCLEX: 0x5450,
  FIOCLEX: 0x5451,
  FIOASYNC: 0x5452,
  FIOQSIZE: 0x5460,
  FICLONE: 0x40049409,
  FICLONERANGE: 0x4020940d,
  FS_IOC_GETFLAGS: 0x80086601,
  FS_IOC_SETFLAGS: 0x40086602,
  FS_IOC32_GETFLAGS: 0x80046601,
  FS_IOC32_SETFLAGS: 0x40046602,
} as const;

const names: ReadonlyMap<number, string> = new Map(Object.entries(Request).map(([name, value]) => [value, name]));
const request: Kind = scalar("uint", (value) => names.get(value) ?? `0x${value.toString(16)}`);

function setFlag(task: Task, flags: number, flag: number, address: number): number {
  return task.memory.i32(address) === 0 ? flags & ~flag : flags | flag;
}

const ioctl = fileCall((task, descriptor, command, argument) => {
  const file = openFileOf(task, descriptor);
  if (file instanceof PathOpen) fail(Errno.EBADF, "O_PATH");
  const { memory, process } = task;
  switch (command) {
    case Request.FIOCLEX:
      process.files.setCloseOnExec(descriptor, true);
      return 0;
    case Request.FIONCLEX:
      process.files.setCloseOnExec(descriptor, false);
      return 0;
    case Request.FIONBIO:
      file.flags = setFlag(task, file.flags, O_NONBLOCK, argument);
      return 0;
    case Request.FIOASYNC:
      if (file.readQueue === undefined && file.writeQueue === undefined) break;
      setAsync(task.kernel, file, descriptor, setFlag(task, file.flags, O_ASYNC, argument));
      return 0;
    case Request.FICLONE:
      return cloneFile(task, file, argument | 0);
    case Request.FICLONERANGE:
      return cloneFile(task, file, memory.i32(argument));
    case Request.FS_IOC_GETFLAGS:
    case Request.FS_IOC32_GETFLAGS:
      return getFileFlags(task, file, argument);
    case Request.FS_IOC_SETFLAGS:
    case Request.FS_IOC32_SETFLAGS:
      return setFileFlags(task, file, argument);
    case Request.FIONREAD: {
      const available = file.available() ?? fail(Errno.ENOTTY, "nothing is counted here");
      if (available < 0) return task.fail(-available, "a listening socket has no bytes");
      memory.setU32(argument, available);
      return 0;
    }
  }
  return file.ioctl(task, command, argument) ?? task.fail(Errno.ENOTTY, "this file does not know the request");
});

/** The terminal of the caller's session hangs up, for the next one who logs in (vhangup(2)). */
function vhangup(task: Task): number {
  const { process, kernel } = task;
  if (!process.cred.capable(Cap.CAP_SYS_TTY_CONFIG)) return task.fail(Errno.EPERM, "needs CAP_SYS_TTY_CONFIG");
  kernel.vfs.ptyOf(process.sid)?.hangUp();
  return 0;
}

export const ioctlCalls: readonly Row[] = [
  row("ioctl", { x86_64: 16, i386: 54 }, [fd, request, pointer], ioctl, {
    family: "file",
    support: "terminal requests work on the host's terminal and on pseudo-terminals; everything unknown answers ENOTTY",
  }),
  row("vhangup", { x86_64: 153, i386: 111 }, [], vhangup, { family: "file" }),
];
