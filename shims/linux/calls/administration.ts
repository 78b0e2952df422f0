/** What administers the machine: its log, disk quotas, rebooting (kernel/printk/printk.c, fs/quota/quota.c, kernel/reboot.c). */

import { Errno } from "../errno.ts";
import { choice, fd, id, int, pointer, uintHex } from "../kinds/kinds.ts";
import { path } from "../kinds/memory.ts";
import { Cap } from "../process/capabilities.ts";
import { Signal } from "../signals/numbers.ts";
import { killProcess } from "../signals/send.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { entryAt, fileCall, openFileOf } from "../vfs/call-context.ts";
import { fail } from "../vfs/error.ts";
import { AT_FDCWD, S_IFBLK } from "../vfs/flags.ts";
import { Wait } from "../wait.ts";

const Syslog = {
  SYSLOG_ACTION_CLOSE: 0,
  SYSLOG_ACTION_OPEN: 1,
  SYSLOG_ACTION_READ: 2,
  SYSLOG_ACTION_READ_ALL: 3,
  SYSLOG_ACTION_READ_CLEAR: 4,
  SYSLOG_ACTION_CLEAR: 5,
  SYSLOG_ACTION_CONSOLE_OFF: 6,
  SYSLOG_ACTION_CONSOLE_ON: 7,
  SYSLOG_ACTION_CONSOLE_LEVEL: 8,
  SYSLOG_ACTION_SIZE_UNREAD: 9,
  SYSLOG_ACTION_SIZE_BUFFER: 10,
} as const;
/** CONFIG_LOG_BUF_SHIFT as distributions have it. */
const LOG_BYTES = 1 << 17;
const LOG_LEVELS = 8;

/** The log of a kernel that has nothing to say: reading it waits for ever. */
function syslog(task: Task, action: number, buffer: number, length: number): number | Wait {
  const { process, kernel } = task;
  const isOpen = action === Syslog.SYSLOG_ACTION_READ_ALL || action === Syslog.SYSLOG_ACTION_SIZE_BUFFER;
  const isRestricted = kernel.settings.get("kernel.dmesg_restrict") !== 0 || !isOpen;
  if (isRestricted && !process.cred.capable(Cap.CAP_SYSLOG)) return task.fail(Errno.EPERM, "needs CAP_SYSLOG");
  switch (action) {
    case Syslog.SYSLOG_ACTION_READ:
    case Syslog.SYSLOG_ACTION_READ_ALL:
    case Syslog.SYSLOG_ACTION_READ_CLEAR:
      if (buffer === 0 || length < 0) return task.fail(Errno.EINVAL, "no buffer");
      if (length === 0) return 0;
      if (buffer + length > process.space.end) return task.fail(Errno.EFAULT, "the buffer leaves user space");
      return action === Syslog.SYSLOG_ACTION_READ ? new Wait({ queues: [], attempt: () => undefined }) : 0;
    case Syslog.SYSLOG_ACTION_CONSOLE_LEVEL:
      return length < 1 || length > LOG_LEVELS ? task.fail(Errno.EINVAL, "levels are from 1 to 8") : 0;
    case Syslog.SYSLOG_ACTION_SIZE_BUFFER:
      return LOG_BYTES;
    case Syslog.SYSLOG_ACTION_CLOSE:
    case Syslog.SYSLOG_ACTION_OPEN:
    case Syslog.SYSLOG_ACTION_CLEAR:
    case Syslog.SYSLOG_ACTION_CONSOLE_OFF:
    case Syslog.SYSLOG_ACTION_CONSOLE_ON:
    case Syslog.SYSLOG_ACTION_SIZE_UNREAD:
      return 0;
  }
  return task.fail(Errno.EINVAL, `${action} is no SYSLOG_ACTION_*`);
}

const Q_SYNC = 0x80_0001;
const MAXQUOTAS = 3;

function demandQuotaType(command: number): void {
  if ((command & 0xff) >= MAXQUOTAS) fail(Errno.EINVAL, "quotas are of users, groups or projects");
}

const quotactl = fileCall((task, command, special) => {
  demandQuotaType(command);
  if (special === 0) {
    return command >>> 8 === Q_SYNC ? 0 : fail(Errno.ENODEV, "which file system?");
  }
  const { inode } = entryAt(task, AT_FDCWD, special, true);
  if (inode.kind !== S_IFBLK) fail(Errno.ENOTBLK, "no block device");
  return fail(Errno.ENODEV, "no file system is on a block device here");
});

const quotactlFd = fileCall((task, descriptor, command) => {
  openFileOf(task, descriptor);
  demandQuotaType(command);
  return fail(Errno.ENOSYS, "the file system has no quotas");
});

const REBOOT_MAGIC = 0xfee1_dead;
const REBOOT_MAGIC_2: ReadonlySet<number> = new Set([672_274_793, 85_072_278, 369_367_448, 537_993_216]);
const Reboot = {
  LINUX_REBOOT_CMD_RESTART: 0x0123_4567,
  LINUX_REBOOT_CMD_HALT: 0xcdef_0123,
  LINUX_REBOOT_CMD_CAD_ON: 0x89ab_cdef,
  LINUX_REBOOT_CMD_CAD_OFF: 0,
  LINUX_REBOOT_CMD_POWER_OFF: 0x4321_fedc,
  LINUX_REBOOT_CMD_RESTART2: 0xa1b2_c3d4,
  LINUX_REBOOT_CMD_SW_SUSPEND: 0xd000_fce2,
  LINUX_REBOOT_CMD_KEXEC: 0x4558_4543,
} as const;

/** What a container gets: its first process dies of a signal that says which, and all others with it (reboot_pid_ns). */
function reboot(task: Task, magic: number, magic2: number, command: number): number {
  const { kernel, process } = task;
  if (!process.cred.capable(Cap.CAP_SYS_BOOT)) return task.fail(Errno.EPERM, "needs CAP_SYS_BOOT");
  if (magic !== REBOOT_MAGIC || !REBOOT_MAGIC_2.has(magic2))
    return task.fail(Errno.EINVAL, "the magic numbers are wrong");
  let signal: number;
  switch (command) {
    case Reboot.LINUX_REBOOT_CMD_RESTART:
    case Reboot.LINUX_REBOOT_CMD_RESTART2:
      signal = Signal.SIGHUP;
      break;
    case Reboot.LINUX_REBOOT_CMD_HALT:
    case Reboot.LINUX_REBOOT_CMD_POWER_OFF:
      signal = Signal.SIGINT;
      break;
    default:
      return task.fail(Errno.EINVAL, "not for a container");
  }
  const [first, ...others] = [...kernel.processes.values()];
  if (first !== undefined) killProcess(first, signal);
  for (const other of others) killProcess(other, Signal.SIGKILL);
  return 0;
}

const action = choice("SYSLOG_ACTION_", Syslog);
const family = "system";
export const administrationCalls: readonly Row[] = [
  row("syslog", { x86_64: 103, i386: 103 }, [action, pointer, int], syslog, {
    family,
    support: "the kernel's log is empty",
  }),
  row("quotactl", { x86_64: 179, i386: 131 }, [uintHex, path, id, pointer], quotactl, {
    family: "file",
    support: "no file system has quotas",
  }),
  row("quotactl_fd", { x86_64: 443, i386: 443 }, [fd, uintHex, id, pointer], quotactlFd, {
    family: "file",
    support: "no file system has quotas",
  }),
  row(
    "reboot",
    { x86_64: 169, i386: 88 },
    [uintHex, uintHex, choice("LINUX_REBOOT_", Reboot, "uint"), pointer],
    reboot,
    { family, support: "ends the run, as it ends a container: the first process dies of SIGHUP or SIGINT" },
  ),
];
