/** Pseudo-terminals (pty(7)): what holds between the two ends. */

import { Errno } from "../../errno.ts";
import { Cap } from "../../process/capabilities.ts";
import { isOrphaned } from "../../signals/deliver.ts";
import { SIG_IGN, SiCode, Signal } from "../../signals/numbers.ts";
import { sendToProcess } from "../../signals/send.ts";
import { SigInfo } from "../../signals/siginfo.ts";
import type { Armed } from "../../signals/timers.ts";
import type { Kernel, Process, Task } from "../../task.ts";
import { WaitQueue } from "../../wait.ts";
import { makeDevice } from "../devices.ts";
import { LineDiscipline } from "./line-discipline.ts";
import { Tty } from "./requests.ts";
import { readSettings, type Terminal, writeSettings } from "./termios.ts";

const SLAVE_MAJOR = 136;
/** What the master may leave unread before the slave's writer waits. */
export const OUTPUT_LIMIT = 8192;
/** Echoes are shown that far beyond it; more are lost (ECHO_COMMIT_WATERMARK's buffer, N_TTY_BUF_SIZE). */
const ECHO_LIMIT = OUTPUT_LIMIT + 4096;
/** What waits behind what the slave may read, before the master's writer waits (tty_buffer_set_limit in drivers/tty/pty.c). */
const TYPED_LIMIT = 8192;
const TENTH = 100e6;
/** TIOCPKT_*. */
const Packet = { FLUSHREAD: 1, FLUSHWRITE: 2, STOP: 4, START: 8, NOSTOP: 0x10, DOSTOP: 0x20 } as const;
const WINDOW_SIZE = 8;

/** What both ends share. */
export class Pty implements Terminal {
  readonly number: number;
  readonly #kernel: Kernel | undefined;
  readonly discipline: LineDiscipline;
  readonly window = new Uint8Array(WINDOW_SIZE);
  readonly slaveReadable = new WaitQueue();
  readonly slaveWritable = new WaitQueue();
  readonly masterReadable = new WaitQueue();
  readonly masterWritable = new WaitQueue();
  locked = true;
  /** The session whose controlling terminal it is, and its foreground process group; 0 for none. */
  session = 0;
  foreground = 0;
  slaves = 0;
  /** A slave was open once: from then on the last one's end is one for the master. */
  met = false;
  hungUp = false;
  /** TIOCEXCL: nobody but root opens it any more. */
  exclusive = false;
  /** Output is stopped. */
  stopped = false;
  /** TIOCPKT: the master reads a byte in front that says what comes, and what happened on the other side. */
  packet = false;
  packetStatus = 0;
  #timer: Armed | undefined;
  #expired = false;
  #output: number[] = [];
  /** Typed, and not with the line discipline yet. */
  #typed = new Uint8Array(0);

  constructor(number: number, kernel: Kernel | undefined) {
    this.number = number;
    this.#kernel = kernel;
    this.discipline = new LineDiscipline({
      show: (bytes) => {
        if (this.#output.length < ECHO_LIMIT) this.#show(bytes);
      },
      signal: (signal) => this.signal(signal),
      flow: (on) => this.flow(on),
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
        sendToProcess(process, SigInfo.sent(signal, SiCode.SI_KERNEL, 0, 0));
    }
  }

  /** What a program writes on the terminal; as much as there is room for. */
  write(bytes: Uint8Array): number {
    const room = OUTPUT_LIMIT - this.#output.length;
    if (room <= 0 || this.stopped) return -Errno.EAGAIN;
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

  /** What comes from the master; as much as there is room for. */
  type(bytes: Uint8Array): number {
    let count = this.#typed.length === 0 ? this.#receive(bytes) : 0;
    const rest = bytes.subarray(count, count + TYPED_LIMIT - this.#typed.length);
    if (rest.length > 0) {
      const typed = new Uint8Array(this.#typed.length + rest.length);
      typed.set(this.#typed);
      typed.set(rest, this.#typed.length);
      this.#typed = typed;
      count += rest.length;
      // With O_ASYNC the master is told of room where it has seen that there was none.
      if (!this.takesMore) this.masterWritable.wake();
    }
    return count === 0 && bytes.length > 0 ? -Errno.EAGAIN : count;
  }

  get takesMore(): boolean {
    return this.#typed.length < TYPED_LIMIT;
  }

  #receive(bytes: Uint8Array): number {
    const count = this.discipline.type(bytes);
    if (count === 0) return 0;
    // Between two bytes VTIME begins anew.
    if (this.#timer !== undefined && this.discipline.minimum > 0) this.#startTimer(this.discipline.time);
    this.slaveReadable.wake();
    return count;
  }

  /** After there may be room again for what was typed. */
  #goOn(): void {
    if (this.#typed.length === 0) return;
    const count = this.#receive(this.#typed);
    if (count === 0) return;
    this.#typed = this.#typed.slice(count);
    this.masterWritable.wake();
  }

  /** What the slave reads. */
  read(into: Uint8Array, nonblocking: boolean): number {
    const count = this.discipline.canonical ? this.discipline.read(into) : this.#readRaw(into, nonblocking);
    if (count < 0) return -Errno.EAGAIN;
    this.#goOn();
    return count;
  }

  /** The master is gone: the session hears of it (tty_vhangup). */
  hangUp(): void {
    this.hungUp = true;
    const leader = this.session === 0 ? undefined : this.#kernel?.processes.get(this.session);
    for (const signal of [Signal.SIGHUP, Signal.SIGCONT]) {
      if (leader && !leader.ended) sendToProcess(leader, SigInfo.sent(signal, SiCode.SI_KERNEL, 0, 0));
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

  /** struct termios2. */
  get termios(): Uint8Array {
    return this.discipline.termios;
  }

  setTermios(bytes: Uint8Array, flushes: boolean): void {
    const before = this.discipline.usualFlow;
    this.discipline.set(bytes);
    const after = this.discipline.usualFlow;
    if (before !== after) this.notePacket(after ? Packet.DOSTOP : Packet.NOSTOP, Packet.DOSTOP | Packet.NOSTOP);
    if (flushes) this.flushInput();
    this.#goOn();
    this.slaveReadable.wake();
  }

  flushInput(): void {
    this.discipline.flushInput();
    this.#goOn();
    this.notePacket(Packet.FLUSHREAD, 0);
  }

  noteOutputFlush(): void {
    this.notePacket(Packet.FLUSHWRITE, 0);
  }

  /** Something for the master to hear of in packet mode. */
  notePacket(bit: number, instead: number): void {
    if (!this.packet) return;
    this.packetStatus = (this.packetStatus & ~instead) | bit;
    this.masterReadable.wake();
  }

  /** TCIOFF and TCION: the other side gets the character that stops or starts it. */
  sendFlow(on: boolean): void {
    const byte = this.discipline.flowCharacter(on);
    if (byte !== 0) this.#show([byte]);
  }

  /** ^S and ^Q, tcflow: what the slave writes waits. */
  flow(on: boolean): void {
    if (this.stopped !== on) return;
    this.stopped = !on;
    this.notePacket(on ? Packet.START : Packet.STOP, Packet.START | Packet.STOP);
    if (on) this.slaveWritable.wake();
  }

  /**
   * Only the foreground may touch its terminal: others are stopped by a signal (tty_check_change).
   * @returns 0 where the task at work may go on, or a negative errno
   */
  demandForeground(signal: number): number {
    const task = this.#kernel?.current;
    if (task === undefined || this.session === 0 || task.process.sid !== this.session) return 0;
    const { process } = task;
    if (this.foreground === 0 || process.pgid === this.foreground) return 0;
    if (task.signals.blocked.has(signal) || process.signals.hand.get(signal).handler === SIG_IGN)
      return signal === Signal.SIGTTIN ? -Errno.EIO : 0;
    if (isOrphaned(process)) return -Errno.EIO;
    for (const member of process.kernel.processes.values())
      if (member.pgid === process.pgid && !member.ended)
        sendToProcess(member, SigInfo.sent(signal, SiCode.SI_KERNEL, 0, 0));
    return -Errno.ERESTARTSYS;
  }

  /** What a reader without lines waits for: VMIN bytes, or VTIME (n_tty_read). */
  #readRaw(into: Uint8Array, nonblocking: boolean): number {
    const { discipline } = this;
    const { minimum, time, waiting } = discipline;
    const expired = this.#timer !== undefined && this.#expired;
    const enough = waiting >= Math.max(Math.min(minimum, into.length), 1);
    const part = waiting > 0 && (nonblocking || (minimum > 0 && time > 0 && expired));
    if (enough || part) {
      this.#stopTimer();
      return discipline.read(into);
    }
    if (minimum === 0 && (time === 0 || expired)) {
      this.#stopTimer();
      return 0;
    }
    if (nonblocking) return -Errno.EAGAIN;
    if (time > 0 && (minimum === 0 || waiting > 0) && this.#timer === undefined) this.#startTimer(time);
    return -Errno.EAGAIN;
  }

  #startTimer(tenths: number): void {
    const { current } = this.#kernel ?? {};
    if (current === undefined) return;
    const { process, kernel } = current;
    this.#stopTimer();
    const fire = (): void => {
      this.#expired = true;
      kernel.signals.state.timers.disarm(timer);
      this.slaveReadable.wake();
    };
    const timer: Armed = { process, source: { kind: "clock" }, expires: kernel.clock.now() + tenths * TENTH, fire };
    this.#timer = timer;
    kernel.signals.state.timers.arm(timer);
  }

  #stopTimer(): void {
    if (this.#timer !== undefined) this.#kernel?.signals.state.timers.disarm(this.#timer);
    this.#timer = undefined;
    this.#expired = false;
  }

  /** Requests that both ends answer alike. */
  ioctl(task: Task, request: number, argument: number): number | undefined {
    const { memory } = task;
    switch (request) {
      case Tty.TCSBRK:
      case Tty.TCSBRKP:
      case Tty.TIOCSBRK:
      case Tty.TIOCCBRK:
        return 0;
      case Tty.TIOCEXCL:
      case Tty.TIOCNXCL:
        this.exclusive = request === Tty.TIOCEXCL;
        return 0;
      case Tty.TIOCGEXCL:
        memory.setU32(argument, Number(this.exclusive));
        return 0;
      case Tty.TIOCGETD:
        memory.setU32(argument, 0);
        return 0;
      case Tty.TIOCSETD:
        return memory.i32(argument) === 0 ? 0 : task.fail(Errno.EINVAL, "there is one line discipline, N_TTY");
      case Tty.TIOCSTI:
        if (task.process.sid !== this.session && !task.process.cred.capable(Cap.CAP_SYS_ADMIN))
          return task.fail(Errno.EPERM, "not the controlling terminal");
        this.#receive(Uint8Array.of(memory.u8(argument)));
        return 0;
      case Tty.TIOCVHANGUP:
        if (!task.process.cred.capable(Cap.CAP_SYS_ADMIN)) return task.fail(Errno.EPERM, "needs CAP_SYS_ADMIN");
        this.hangUp();
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
        return readSettings(task, this, request, argument) ?? writeSettings(task, this, request, argument);
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
