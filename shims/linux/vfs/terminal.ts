import { spawnSync } from "node:child_process";
import { fstatSync } from "node:fs";
import { isatty } from "node:tty";
import { Errno } from "../errno.ts";
import type { Task } from "../task.ts";
import { hostErrno } from "./error.ts";

/** Of /dev/null, /dev/zero and their like (admin-guide/devices.txt). */
const LINUX_MEM_MAJOR = 1;

/** Requests of ioctl_tty(2) (uapi/asm-generic/ioctls.h). */
const TCGETS = 0x5401;
const TCSETS = 0x5402;
const TCSETSF = 0x5404;
const TCSBRK = 0x5409;
const TCXONC = 0x540a;
const TCFLSH = 0x540b;
const TIOCEXCL = 0x540c;
const TIOCNXCL = 0x540d;
const TIOCSCTTY = 0x540e;
const TIOCGPGRP = 0x540f;
const TIOCSPGRP = 0x5410;
const TIOCOUTQ = 0x5411;
const TIOCGWINSZ = 0x5413;
const TIOCSWINSZ = 0x5414;
const TIOCNOTTY = 0x5422;
const TIOCGSID = 0x5429;
const TCGETS2 = 0x802c542a;
const TCSETS2 = 0x402c542b;
const TCSETSF2 = 0x402c542d;

/** struct termios of the kernel: four flag words, the line discipline, 19 control characters. */
const TERMIOS_SIZE = 36;
const CONTROL_CHARACTERS = 19;
const LINE_AT = 16;

/** What a fresh terminal has (uapi/asm-generic/termios.h, drivers/tty: tty_std_termios with 38400 baud). */
const FRESH_FLAGS = [0x500, 0x5, 0xbf, 0x8a3b] as const;
const FRESH_CHARACTERS = [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0] as const;

/**
 * The terminal this program was started on. Node reaches its settings only through stty(1), so they are fetched once and kept:
 * nobody else changes them while we run. Without stty the guest sees a fresh terminal's settings and its changes stay ours.
 */
export class HostTerminal {
  readonly fd: number;
  #termios: Uint8Array | undefined;
  #original: string | undefined;
  #size: { rows: number; columns: number } | undefined;
  #foreground: number | undefined;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** The first of the given host descriptors that is a terminal. */
  static among(fds: readonly number[]): HostTerminal | undefined {
    const fd = fds.find((candidate) => mayBeTerminal(candidate) && isatty(candidate));
    return fd === undefined ? undefined : new HostTerminal(fd);
  }

  /** Gives the terminal back as it was found. */
  restore(): void {
    if (this.#original !== undefined) this.#stty([this.#original]);
  }

  /** struct termios. */
  #settings(): Uint8Array {
    if (this.#termios) return this.#termios;
    const bytes = new Uint8Array(TERMIOS_SIZE);
    const view = new DataView(bytes.buffer);
    const saved = this.#stty(["-g"])
      ?.split(":")
      .map((field) => Number.parseInt(field, 16));
    const usable = saved !== undefined && saved.length >= 4 + CONTROL_CHARACTERS && !saved.some(Number.isNaN);
    const flags = usable ? saved.slice(0, 4) : FRESH_FLAGS;
    const characters = usable ? saved.slice(4) : FRESH_CHARACTERS;
    for (const [index, value] of flags.entries()) view.setUint32(index * 4, value, true);
    for (let index = 0; index < CONTROL_CHARACTERS; index++) bytes[LINE_AT + 1 + index] = characters[index] ?? 0;
    this.#termios = bytes;
    return bytes;
  }

  #apply(bytes: Uint8Array): void {
    this.#original ??= this.#stty(["-g"])?.trim();
    this.#termios = bytes;
    if (this.#original === undefined) return;
    const view = new DataView(bytes.buffer);
    const fields = [0, 4, 8, 12].map((at) => view.getUint32(at, true).toString(16));
    const total = this.#original.split(":").length - 4;
    for (let index = 0; index < total; index++) {
      fields.push(index < CONTROL_CHARACTERS ? (bytes[LINE_AT + 1 + index] ?? 0).toString(16) : "0");
    }
    this.#stty([fields.join(":")]);
  }

  #window(): { rows: number; columns: number } {
    if (!this.#size) {
      const [rows = 0, columns = 0] = (this.#stty(["size"]) ?? "")
        .split(" ")
        .map((field) => Number.parseInt(field, 10) || 0);
      this.#size = { rows, columns };
    }
    return this.#size;
  }

  #stty(options: string[]): string | undefined {
    const done = spawnSync("stty", options, { stdio: [this.fd, "pipe", "ignore"], encoding: "latin1" });
    return done.status === 0 ? done.stdout : undefined;
  }

  /** Answers a request on the terminal; undefined for one it does not know. */
  ioctl(task: Task, request: number, argument: number): number | undefined {
    const { memory } = task;
    switch (request) {
      case TCGETS:
        memory.write(argument, this.#settings());
        return 0;
      case TCGETS2: {
        const bytes = new Uint8Array(44);
        bytes.set(this.#settings());
        memory.write(argument, bytes);
        return 0;
      }
      case TCSETS:
      case TCSETS + 1:
      case TCSETSF:
      case TCSETS2:
      case TCSETS2 + 1:
      case TCSETSF2:
        this.#apply(memory.bytes(argument, TERMIOS_SIZE));
        return 0;
      case TCSBRK:
      case TCXONC:
      case TCFLSH:
      case TIOCEXCL:
      case TIOCNXCL:
      case TIOCSCTTY:
      case TIOCNOTTY:
        return 0;
      case TIOCGWINSZ: {
        const { rows, columns } = this.#window();
        memory.setU16(argument, rows);
        memory.setU16(argument + 2, columns);
        memory.setU32(argument + 4, 0);
        return 0;
      }
      case TIOCSWINSZ:
        this.#size = { rows: memory.u16(argument), columns: memory.u16(argument + 2) };
        return 0;
      case TIOCGPGRP:
        this.#foreground ??= task.process.pgid;
        memory.setU32(argument, this.#foreground);
        return 0;
      case TIOCSPGRP: {
        const group = memory.i32(argument);
        if (group < 0) return task.fail(Errno.EINVAL, "no process group is negative");
        this.#foreground = group;
        return 0;
      }
      case TIOCGSID:
        memory.setU32(argument, task.process.sid);
        return 0;
      case TIOCOUTQ:
        memory.setU32(argument, 0);
        return 0;
      default:
        return undefined;
    }
  }
}

/** Asked before `isatty`, whose module brings Node's network code with it: a pipe, a file and /dev/null are no terminal. */
function mayBeTerminal(fd: number): boolean {
  try {
    const stat = fstatSync(fd);
    const memoryDevice = process.platform === "linux" && ((stat.rdev >> 8) & 0xfff) === LINUX_MEM_MAJOR;
    return stat.isCharacterDevice() && !memoryDevice;
  } catch (error) {
    if (hostErrno(error) === undefined) throw error;
    return false;
  }
}
