import { spawnSync } from "node:child_process";
import { fstatSync } from "node:fs";
import { isatty } from "node:tty";
import { Errno } from "../../errno.ts";
import type { Task } from "../../task.ts";
import { MEMORY_MAJOR } from "../devices.ts";
import { hostErrno } from "../error.ts";
import { CONTROL_CHARACTERS, FRESH_CHARACTERS, FRESH_FLAGS, LINE_AT, TERMIOS_SIZE, Tty } from "./requests.ts";
import { readSettings, type Terminal, withSpeeds, writeSettings } from "./termios.ts";

/**
 * The terminal this program was started on. Node reaches its settings only through stty(1), so they are fetched once and kept:
 * nobody else changes them while we run. Without stty the guest sees a fresh terminal's settings and its changes stay ours.
 */
export class HostTerminal implements Terminal {
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

  /** struct termios2. */
  get termios(): Uint8Array {
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
    this.#termios = withSpeeds(bytes);
    return this.#termios;
  }

  setTermios(bytes: Uint8Array): void {
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
      case Tty.TCSBRK:
      case Tty.TCXONC:
      case Tty.TCFLSH:
      case Tty.TIOCEXCL:
      case Tty.TIOCNXCL:
      case Tty.TIOCSCTTY:
      case Tty.TIOCNOTTY:
        return 0;
      case Tty.TIOCGWINSZ: {
        const { rows, columns } = this.#window();
        memory.setU16(argument, rows);
        memory.setU16(argument + 2, columns);
        memory.setU32(argument + 4, 0);
        return 0;
      }
      case Tty.TIOCSWINSZ:
        this.#size = { rows: memory.u16(argument), columns: memory.u16(argument + 2) };
        return 0;
      case Tty.TIOCGPGRP:
        this.#foreground ??= task.process.pgid;
        memory.setU32(argument, this.#foreground);
        return 0;
      case Tty.TIOCSPGRP: {
        const group = memory.i32(argument);
        if (group < 0) return task.fail(Errno.EINVAL, "no process group is negative");
        this.#foreground = group;
        return 0;
      }
      case Tty.TIOCGSID:
        memory.setU32(argument, task.process.sid);
        return 0;
      case Tty.TIOCOUTQ:
        memory.setU32(argument, 0);
        return 0;
      default:
        return readSettings(task, this, request, argument) ?? writeSettings(task, this, request, argument);
    }
  }
}

/** Asked before `isatty`, whose module brings Node's network code with it: a pipe, a file and /dev/null are no terminal. */
function mayBeTerminal(fd: number): boolean {
  try {
    const stat = fstatSync(fd);
    const memoryDevice = process.platform === "linux" && ((stat.rdev >> 8) & 0xfff) === MEMORY_MAJOR;
    return stat.isCharacterDevice() && !memoryDevice;
  } catch (error) {
    if (hostErrno(error) === undefined) throw error;
    return false;
  }
}
