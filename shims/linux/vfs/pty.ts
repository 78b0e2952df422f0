/** Pseudo-terminals (pty(7)): /dev/ptmx, /dev/pts and what holds between the two ends. */
import { Errno } from "../errno.ts";
import { Signal } from "../signals/numbers.ts";
import { sendToProcess } from "../signals/send.ts";
import { SigInfo } from "../signals/siginfo.ts";
import type { Kernel, Process, Task } from "../task.ts";
import { WaitQueue } from "../wait.ts";
import { install } from "./call-context.ts";
import { makeDevice } from "./devices.ts";
import { fail } from "./error.ts";
import { O_CLOEXEC, O_NOCTTY, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM, S_IFCHR } from "./flags.ts";
import { type Entry, type FileSystem, Inode } from "./inode.ts";
import { LineDiscipline } from "./line-discipline.ts";
import { MemoryDirectory } from "./memory.ts";
import { OpenFile } from "./open-file.ts";
import { TERMIOS_SIZE, TERMIOS2_SIZE, Tty } from "./tty-requests.ts";

const SLAVE_MAJOR = 136;
/** The group "tty" of most distributions, and the mode of a devpts mounted as they do. */
const TTY_GROUP = 5;
const SLAVE_MODE = S_IFCHR | 0o620;
/** What the master may leave unread before the slave's writer waits. */
const OUTPUT_LIMIT = 8192;
const WINDOW_SIZE = 8;
const SI_KERNEL = 0x80;

/** What both ends share. */
export class Pty {
  readonly number: number;
  readonly #kernel: Kernel | undefined;
  readonly discipline: LineDiscipline;
  readonly window = new Uint8Array(WINDOW_SIZE);
  readonly slaveReadable = new WaitQueue();
  readonly slaveWritable = new WaitQueue();
  readonly masterReadable = new WaitQueue();
  locked = true;
  /** The session whose controlling terminal it is, and its foreground process group; 0 for none. */
  session = 0;
  foreground = 0;
  slaves = 0;
  /** A slave was open once: from then on the last one's end is one for the master. */
  met = false;
  hungUp = false;
  #output: number[] = [];

  constructor(number: number, kernel: Kernel | undefined) {
    this.number = number;
    this.#kernel = kernel;
    this.discipline = new LineDiscipline({
      show: (bytes) => this.#show(bytes),
      signal: (signal) => this.signal(signal),
    });
  }

  /** st_rdev of the slave. */
  get device(): number {
    return makeDevice(SLAVE_MAJOR, this.number);
  }

  get shown(): number {
    return this.#output.length;
  }

  #show(bytes: readonly number[]): void {
    for (const byte of bytes) this.#output.push(byte);
    this.masterReadable.wake();
  }

  /** To the foreground process group (SI_KERNEL). */
  signal(signal: number): void {
    if (this.foreground === 0) return;
    for (const process of this.#kernel?.processes.values() ?? []) {
      if (process.pgid === this.foreground && !process.ended)
        sendToProcess(process, SigInfo.sent(signal, SI_KERNEL, 0, 0));
    }
  }

  /** What a program writes on the terminal; as much as there is room for. */
  write(bytes: Uint8Array): number {
    const room = OUTPUT_LIMIT - this.#output.length;
    if (room <= 0) return -Errno.EAGAIN;
    const part = bytes.length > room ? bytes.subarray(0, room) : bytes;
    this.#show(this.discipline.output(part));
    return part.length;
  }

  take(into: Uint8Array): number {
    const taken = this.#output.splice(0, into.length);
    into.set(taken);
    this.slaveWritable.wake();
    return taken.length;
  }

  flushOutput(): void {
    this.#output = [];
    this.slaveWritable.wake();
  }

  putBack(bytes: Uint8Array): void {
    this.#output.unshift(...bytes);
  }

  type(bytes: Uint8Array): void {
    this.discipline.type(bytes);
    this.slaveReadable.wake();
  }

  /** The master is gone: the session hears of it (tty_vhangup). */
  hangUp(): void {
    this.hungUp = true;
    const leader = this.session === 0 ? undefined : this.#kernel?.processes.get(this.session);
    for (const signal of [Signal.SIGHUP, Signal.SIGCONT]) {
      if (leader && !leader.ended) sendToProcess(leader, SigInfo.sent(signal, SI_KERNEL, 0, 0));
      if (this.foreground !== this.session) this.signal(signal);
    }
    this.session = this.foreground = 0;
    this.slaveReadable.wake();
    this.slaveWritable.wake();
  }

  /** Becomes the controlling terminal of the session that a process leads. */
  adopt(process: Process): void {
    this.session = process.sid;
    this.foreground = process.pgid;
  }

  /** Requests that both ends answer alike. */
  ioctl(task: Task, request: number, argument: number): number | undefined {
    const { memory } = task;
    const { termios } = this.discipline;
    switch (request) {
      case Tty.TCGETS:
        memory.write(argument, termios);
        return 0;
      case Tty.TCGETS2: {
        const bytes = new Uint8Array(TERMIOS2_SIZE);
        bytes.set(termios);
        memory.write(argument, bytes);
        return 0;
      }
      case Tty.TCSETS:
      case Tty.TCSETSW:
      case Tty.TCSETSF:
      case Tty.TCSETS2:
      case Tty.TCSETSW2:
      case Tty.TCSETSF2:
        this.discipline.set(memory.bytes(argument, TERMIOS_SIZE));
        if (request === Tty.TCSETSF || request === Tty.TCSETSF2) this.discipline.flushInput();
        this.slaveReadable.wake();
        return 0;
      case Tty.TCSBRK:
      case Tty.TCSBRKP:
      case Tty.TCXONC:
      case Tty.TIOCEXCL:
      case Tty.TIOCNXCL:
        return 0;
      case Tty.TIOCGWINSZ:
        memory.write(argument, this.window);
        return 0;
      case Tty.TIOCSWINSZ: {
        const window = memory.bytes(argument, WINDOW_SIZE);
        const same = window.every((byte, index) => byte === this.window[index]);
        this.window.set(window);
        if (!same) this.signal(Signal.SIGWINCH);
        return 0;
      }
      default:
        return undefined;
    }
  }

  /** TIOCSPGRP, by a process whose controlling terminal it is. */
  setForeground(task: Task, argument: number): number {
    const group = task.memory.i32(argument);
    if (group < 0) return task.fail(Errno.EINVAL, "no process group is negative");
    const members = [...task.kernel.processes.values()].filter((process) => process.pgid === group);
    if (members.length === 0) return task.fail(Errno.ESRCH, "there is no such process group");
    if (!members.some((process) => process.sid === this.session))
      return task.fail(Errno.EPERM, "the process group is of another session");
    this.foreground = group;
    return 0;
  }
}

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
    if (this.pty.hungUp) return 0;
    const count = this.pty.discipline.read(into);
    return count < 0 ? -Errno.EAGAIN : count;
  }

  override unread(bytes: Uint8Array): void {
    this.pty.discipline.unread(bytes);
  }

  write(from: Uint8Array): number {
    return this.pty.hungUp ? -Errno.EIO : this.pty.write(from);
  }

  override poll(): number {
    const { pty } = this;
    if (pty.hungUp) return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM | POLLERR | POLLHUP;
    const input = pty.discipline.readable ? POLLIN | POLLRDNORM : 0;
    return input | (pty.shown < OUTPUT_LIMIT ? POLLOUT | POLLWRNORM : 0);
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
    const { process, memory, kernel } = task;
    if (pty.hungUp) return task.fail(request === Tty.TIOCSPGRP ? Errno.ENOTTY : Errno.EIO, "the terminal hung up");
    const controls = pty.session !== 0 && pty.session === process.sid;
    switch (request) {
      case Tty.TIOCSCTTY:
        if (controls && process.pid === process.sid) return 0;
        if (process.pid !== process.sid || kernel.vfs.ptyOf(process.sid))
          return task.fail(Errno.EPERM, "only a session's leader without a controlling terminal may");
        if (pty.session !== 0 && !(argument === 1 && process.cred.euid === 0))
          return task.fail(Errno.EPERM, "it is another session's");
        pty.adopt(process);
        return 0;
      case Tty.TIOCNOTTY:
        if (!controls) return task.fail(Errno.ENOTTY, "not the controlling terminal");
        if (process.pid === process.sid) {
          pty.signal(Signal.SIGHUP);
          pty.signal(Signal.SIGCONT);
          pty.session = pty.foreground = 0;
        }
        return 0;
      case Tty.TIOCGPGRP:
      case Tty.TIOCGSID:
        if (!controls) return task.fail(Errno.ENOTTY, "not the controlling terminal");
        memory.setU32(argument, request === Tty.TIOCGPGRP ? pty.foreground : pty.session);
        return 0;
      case Tty.TIOCSPGRP:
        if (!controls) return task.fail(Errno.ENOTTY, "not the controlling terminal");
        return pty.setForeground(task, argument);
      case Tty.TIOCOUTQ:
        memory.setU32(argument, pty.shown);
        return 0;
      case Tty.TCFLSH:
        if (argument > 2) return task.fail(Errno.EINVAL, "0, 1 or 2");
        // What was written is with the master already.
        if (argument !== 1) pty.discipline.flushInput();
        return 0;
      default:
        return pty.ioctl(task, request, argument);
    }
  }

  protected override closed(): void {
    this.pty.slaves--;
    this.pty.masterReadable.wake();
  }
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

  get #ended(): boolean {
    return this.pty.met && this.pty.slaves === 0;
  }

  read(into: Uint8Array): number {
    if (this.pty.shown > 0) return this.pty.take(into);
    return this.#ended ? -Errno.EIO : -Errno.EAGAIN;
  }

  override unread(bytes: Uint8Array): void {
    this.pty.putBack(bytes);
  }

  write(from: Uint8Array): number {
    this.pty.type(from);
    return from.length;
  }

  override poll(): number {
    const input = this.pty.shown > 0 ? POLLIN | POLLRDNORM : 0;
    return input | POLLOUT | POLLWRNORM | (this.#ended ? POLLHUP : 0);
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
      case Tty.TIOCGPTPEER: {
        const slave = new PtySlave(this.#slave, argument & ~(O_CLOEXEC | O_NOCTTY), pty);
        slave.opened(task, argument);
        return install(task, slave, (argument & O_CLOEXEC) !== 0);
      }
      case Tty.TIOCGPGRP:
        memory.setU32(argument, pty.foreground);
        return 0;
      case Tty.TIOCGSID:
        if (pty.session === 0) return task.fail(Errno.ENOTTY, "it is nobody's controlling terminal");
        memory.setU32(argument, pty.session);
        return 0;
      case Tty.TIOCSPGRP:
        return task.fail(Errno.ENOTTY, "not the controlling terminal");
      case Tty.TIOCOUTQ:
        memory.setU32(argument, 0);
        return 0;
      case Tty.TCFLSH:
        if (argument > 2) return task.fail(Errno.EINVAL, "0, 1 or 2");
        if (argument !== 1) pty.flushOutput();
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
