/** The two ends of a pseudo-terminal: what /dev/ptmx and /dev/pts open. */
import { Errno } from "../../errno.ts";
import { Signal } from "../../signals/numbers.ts";
import type { Process, Task } from "../../task.ts";
import type { WaitQueue } from "../../wait.ts";
import { install } from "../call-context.ts";
import { fail } from "../error.ts";
import {
  O_CLOEXEC,
  O_NOCTTY,
  O_NONBLOCK,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
  POLLPRI,
  POLLRDNORM,
  POLLWRNORM,
  S_IFCHR,
} from "../flags.ts";
import { type Entry, type FileSystem, Inode } from "../inode.ts";
import { MemoryDirectory } from "../memory.ts";
import { OpenFile } from "../open-file.ts";
import { OUTPUT_LIMIT, type Pty } from "./pty.ts";
import { Flush, Tty } from "./requests.ts";
import { setsSettings } from "./termios.ts";

/** The group "tty" of most distributions, and the mode of a devpts mounted as they do. */
const TTY_GROUP = 5;
const SLAVE_MODE = S_IFCHR | 0o620;
const TCFLOW = { TCOOFF: 0, TCOON: 1, TCIOFF: 2, TCION: 3 } as const;

/** Requests that background processes are stopped for, SIGTTOU. */
function changesTerminal(request: number): boolean {
  return setsSettings(request) || CHANGES.includes(request);
}
const CHANGES: readonly number[] = [
  Tty.TCXONC,
  Tty.TCFLSH,
  Tty.TCSBRK,
  Tty.TCSBRKP,
  Tty.TIOCSBRK,
  Tty.TIOCCBRK,
  Tty.TIOCSETD,
];

/** The name below /dev/pts. */
export class PtyInode extends Inode {
  readonly pty: Pty;

  constructor(fs: FileSystem, pty: Pty, uid: number) {
    super(fs, SLAVE_MODE, uid, TTY_GROUP);
    this.pty = pty;
    this.rdev = pty.device;
  }
}

export class PtySlave extends OpenFile {
  readonly pty: Pty;

  constructor(entry: Entry, flags: number, pty: Pty) {
    if (pty.locked || pty.hungUp) fail(Errno.EIO, "the master has not unlocked it, or is gone");
    super(entry, flags);
    this.pty = pty;
    pty.slaves++;
    pty.met = true;
  }

  override get splicesFrom(): boolean {
    return true;
  }

  override get splicesTo(): boolean {
    return true;
  }

  override get readQueue(): WaitQueue {
    return this.pty.slaveReadable;
  }

  override get writeQueue(): WaitQueue {
    return this.pty.slaveWritable;
  }

  override get writesOn(): boolean {
    return true;
  }

  read(into: Uint8Array): number {
    const { pty } = this;
    if (pty.hungUp) return 0;
    const refused = pty.demandForeground(Signal.SIGTTIN);
    return refused !== 0 ? refused : pty.read(into, (this.flags & O_NONBLOCK) !== 0);
  }

  override unread(bytes: Uint8Array): void {
    this.pty.discipline.unread(bytes);
  }

  write(from: Uint8Array): number {
    const { pty } = this;
    if (pty.hungUp) return -Errno.EIO;
    const refused = pty.discipline.stopsWriters ? pty.demandForeground(Signal.SIGTTOU) : 0;
    return refused !== 0 ? refused : pty.write(from);
  }

  override poll(): number {
    const { pty } = this;
    if (pty.hungUp) return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM | POLLERR | POLLHUP;
    const input = pty.discipline.readable ? POLLIN | POLLRDNORM : 0;
    return input | (pty.shown < OUTPUT_LIMIT && !pty.stopped ? POLLOUT | POLLWRNORM : 0);
  }

  override available(): number {
    return this.pty.hungUp ? -Errno.EIO : this.pty.discipline.waiting;
  }

  /** A session leader without a controlling terminal gets it by opening one (tty_open_proc_set_tty). */
  opened(task: Task, flags: number): void {
    const { process, kernel } = task;
    const { pty } = this;
    if (flags & O_NOCTTY || process.sid !== process.pid || pty.session !== 0) return;
    if (!kernel.vfs.ptyOf(process.sid)) pty.adopt(process);
  }

  override ioctl(task: Task, request: number, argument: number): number | undefined {
    const { pty } = this;
    const { process, memory } = task;
    if (pty.hungUp) return task.fail(request === Tty.TIOCSPGRP ? Errno.ENOTTY : Errno.EIO, "the terminal hung up");
    if (changesTerminal(request)) {
      const refused = pty.demandForeground(Signal.SIGTTOU);
      if (refused !== 0) return refused;
    }
    const isOwn = controls(pty, process);
    switch (request) {
      case Tty.TIOCSCTTY:
        return takeTerminal(task, pty, argument);
      case Tty.TIOCNOTTY:
        if (!isOwn) return task.fail(Errno.ENOTTY, "not the controlling terminal");
        if (process.pid === process.sid) {
          pty.signal(Signal.SIGHUP);
          pty.signal(Signal.SIGCONT);
          pty.session = pty.foreground = 0;
        }
        return 0;
      case Tty.TIOCGPGRP:
      case Tty.TIOCGSID:
        if (!isOwn) return task.fail(Errno.ENOTTY, "not the controlling terminal");
        memory.setU32(argument, request === Tty.TIOCGPGRP ? pty.foreground : pty.session);
        return 0;
      case Tty.TIOCSPGRP:
        return chooseForeground(task, pty, argument);
      case Tty.TIOCOUTQ:
        memory.setU32(argument, pty.shown);
        return 0;
      case Tty.TCFLSH:
        if (argument > Flush.TCIOFLUSH) return task.fail(Errno.EINVAL, "0, 1 or 2");
        if (argument !== Flush.TCOFLUSH) pty.flushInput();
        // What was written is with the master already.
        if (argument !== Flush.TCIFLUSH) pty.noteOutputFlush();
        return 0;
      case Tty.TCXONC:
        return this.#flow(task, argument);
      default:
        return pty.ioctl(task, request, argument);
    }
  }

  /** tcflow(3). */
  #flow(task: Task, action: number): number {
    const { pty } = this;
    if (action === TCFLOW.TCOOFF || action === TCFLOW.TCOON) pty.flow(action === TCFLOW.TCOON);
    else if (action === TCFLOW.TCIOFF || action === TCFLOW.TCION) pty.sendFlow(action === TCFLOW.TCION);
    else return task.fail(Errno.EINVAL, "0 to 3");
    return 0;
  }

  protected override closed(): void {
    this.pty.slaves--;
    this.pty.masterReadable.wake();
  }
}

function controls(pty: Pty, { sid }: Process): boolean {
  return pty.session !== 0 && pty.session === sid;
}

/** TIOCSCTTY, which means the slave whichever end it is asked of (tiocsctty in drivers/tty/tty_jobctrl.c). */
function takeTerminal(task: Task, pty: Pty, force: number): number {
  const { process, kernel } = task;
  const leads = process.pid === process.sid;
  if (leads && controls(pty, process)) return 0;
  if (!leads || kernel.vfs.ptyOf(process.sid))
    return task.fail(Errno.EPERM, "only a session's leader without a controlling terminal may");
  if (pty.session !== 0 && !(force === 1 && process.cred.euid === 0))
    return task.fail(Errno.EPERM, "it is another session's");
  pty.adopt(process);
  return 0;
}

/** TIOCSPGRP, likewise. */
function chooseForeground(task: Task, pty: Pty, argument: number): number {
  if (!controls(pty, task.process)) return task.fail(Errno.ENOTTY, "not the controlling terminal");
  const refused = pty.demandForeground(Signal.SIGTTOU);
  if (refused !== 0) return refused === -Errno.EIO ? -Errno.ENOTTY : refused;
  return pty.setForeground(task, argument);
}

/** What an open of /dev/ptmx gives. */
export class PtyMaster extends OpenFile {
  readonly pty: Pty;
  readonly #slave: Entry;
  readonly #forget: () => void;

  /** @param slave its name below /dev/pts @param forget called when it is closed */
  constructor(entry: Entry, flags: number, slave: Entry, pty: Pty, forget: () => void) {
    super(entry, flags);
    this.pty = pty;
    this.#slave = slave;
    this.#forget = forget;
  }

  override get splicesFrom(): boolean {
    return true;
  }

  override get splicesTo(): boolean {
    return true;
  }

  override get readQueue(): WaitQueue {
    return this.pty.masterReadable;
  }

  override get writeQueue(): WaitQueue {
    return this.pty.masterWritable;
  }

  override get writesOn(): boolean {
    return true;
  }

  get #ended(): boolean {
    return this.pty.met && this.pty.slaves === 0;
  }

  read(into: Uint8Array): number {
    const { pty } = this;
    if (pty.packet && into.length > 0) {
      if (pty.packetStatus !== 0) {
        into[0] = pty.packetStatus;
        pty.packetStatus = 0;
        return 1;
      }
      if (pty.shown > 0) {
        into[0] = 0;
        return 1 + pty.take(into.subarray(1));
      }
    } else if (pty.shown > 0) return pty.take(into);
    return this.#ended ? -Errno.EIO : -Errno.EAGAIN;
  }

  override unread(bytes: Uint8Array): void {
    this.pty.putBack(bytes);
  }

  write(from: Uint8Array): number {
    return this.pty.type(from);
  }

  override poll(): number {
    const { pty } = this;
    const told = pty.packet && pty.packetStatus !== 0 ? POLLPRI | POLLIN | POLLRDNORM : 0;
    const input = (pty.shown > 0 ? POLLIN | POLLRDNORM : 0) | told;
    return input | (pty.takesMore ? POLLOUT | POLLWRNORM : 0) | (this.#ended ? POLLHUP : 0);
  }

  override available(): number {
    return this.pty.shown;
  }

  override ioctl(task: Task, request: number, argument: number): number | undefined {
    const { pty } = this;
    const { memory } = task;
    switch (request) {
      case Tty.TIOCGPTN:
        memory.setU32(argument, pty.number);
        return 0;
      case Tty.TIOCSPTLCK:
        pty.locked = memory.i32(argument) !== 0;
        return 0;
      case Tty.TIOCGPTLCK:
        memory.setU32(argument, pty.locked ? 1 : 0);
        return 0;
      case Tty.TIOCPKT:
        pty.packet = memory.i32(argument) !== 0;
        if (pty.packet) pty.packetStatus = 0;
        return 0;
      case Tty.TIOCGPKT:
        memory.setU32(argument, Number(pty.packet));
        return 0;
      case Tty.TIOCSIG:
        if (![Signal.SIGINT, Signal.SIGQUIT, Signal.SIGTSTP].some((signal) => signal === argument))
          return task.fail(Errno.EINVAL, "not one of a terminal's signals");
        pty.signal(argument);
        return 0;
      case Tty.TIOCGPTPEER: {
        const slave = new PtySlave(this.#slave, argument & ~(O_CLOEXEC | O_NOCTTY), pty);
        slave.opened(task, argument);
        return install(task, slave, (argument & O_CLOEXEC) !== 0);
      }
      case Tty.TIOCSCTTY:
        return takeTerminal(task, pty, argument);
      case Tty.TIOCSPGRP:
        return chooseForeground(task, pty, argument);
      case Tty.TIOCGPGRP:
        memory.setU32(argument, pty.foreground);
        return 0;
      case Tty.TIOCGSID:
        if (pty.session === 0) return task.fail(Errno.ENOTTY, "it is nobody's controlling terminal");
        memory.setU32(argument, pty.session);
        return 0;
      case Tty.TIOCOUTQ:
        memory.setU32(argument, 0);
        return 0;
      case Tty.TCFLSH:
        if (argument > Flush.TCIOFLUSH) return task.fail(Errno.EINVAL, "0, 1 or 2");
        if (argument !== Flush.TCOFLUSH) pty.flushOutput();
        if (argument !== Flush.TCIFLUSH) pty.flushInput();
        return 0;
      case Tty.TCXONC:
        return 0;
      default:
        return pty.ioctl(task, request, argument);
    }
  }

  protected override closed(): void {
    const directory = this.#slave.parent?.inode;
    if (directory instanceof MemoryDirectory && !this.#slave.deleted) directory.remove(this.#slave);
    this.pty.hangUp();
    this.#forget();
  }
}
