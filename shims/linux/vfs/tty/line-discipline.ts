/** What a terminal does with the bytes that go through it: N_TTY (termios(3), drivers/tty/n_tty.c). */
import { Signal } from "../../signals/numbers.ts";
import { CONTROL_CHARACTERS, FRESH_CHARACTERS, FRESH_FLAGS, LINE_AT, TERMIOS2_SIZE } from "./requests.ts";
import { withSpeeds } from "./termios.ts";

/** Flag words of struct termios, by their place, and their bits (uapi/asm-generic/termbits.h). */
const [INPUT, OUTPUT, LOCAL] = [0, 4, 12];
const [ISTRIP, INLCR, IGNCR, ICRNL, IXON, IXANY, IUTF8] = [0x20, 0x40, 0x80, 0x100, 0x400, 0x800, 0x4000];
const [OPOST, ONLCR, OCRNL, ONLRET] = [1, 4, 8, 0x20];
const [ISIG, ICANON, ECHO, ECHOE, ECHOK, ECHONL] = [1, 2, 8, 0x10, 0x20, 0x40];
const TOSTOP = 0x100;
const [CONTROL_Q, CONTROL_S] = [17, 19];
const [NOFLSH, ECHOCTL, ECHOKE, IEXTEN] = [0x80, 0x200, 0x800, 0x8000];

/** Places in c_cc. */
const Character = {
  VINTR: 0,
  VQUIT: 1,
  VERASE: 2,
  VKILL: 3,
  VEOF: 4,
  VTIME: 5,
  VMIN: 6,
  VSTART: 8,
  VSTOP: 9,
  VSUSP: 10,
  VEOL: 11,
  VWERASE: 14,
  VLNEXT: 15,
  VEOL2: 16,
} as const;

const [TAB, NEWLINE, RETURN, SPACE, DELETE] = [9, 10, 13, 32, 127];
/** What a reader may leave unread, and a line longer than this is cut (N_TTY_BUF_SIZE). */
const INPUT_LIMIT = 4095;
/** A control character with this value is switched off. */
const DISABLED = 0;

/** Where what comes out goes: to the screen, and to whom a signal is sent. */
export interface Sink {
  show(bytes: readonly number[]): void;
  signal(signal: number): void;
  /** Output goes on, or is stopped. */
  flow(on: boolean): void;
}

export class LineDiscipline {
  /** struct termios2. */
  readonly termios = new Uint8Array(TERMIOS2_SIZE);
  readonly #view = new DataView(this.termios.buffer);
  readonly #sink: Sink;
  /** What may be read: a line each in canonical mode, where an empty one is an end of file. */
  #ready: Uint8Array[] = [];
  #waiting = 0;
  #line: number[] = [];
  /** Without lines: what came in one piece. */
  #piece: number[] = [];
  #literal = false;
  /** Shown when all that was typed at once is through; a signal takes it back. */
  #echoed: number[] = [];

  constructor(sink: Sink) {
    this.#sink = sink;
    for (const [index, value] of FRESH_FLAGS.entries()) this.#view.setUint32(index * 4, value, true);
    for (let index = 0; index < CONTROL_CHARACTERS; index++)
      this.termios[LINE_AT + 1 + index] = FRESH_CHARACTERS[index] ?? 0;
    this.termios.set(withSpeeds(this.termios));
  }

  #has(word: number, flag: number): boolean {
    return (this.#view.getUint32(word, true) & flag) !== 0;
  }

  #control(place: number): number {
    return this.termios[LINE_AT + 1 + place] ?? DISABLED;
  }

  #is(byte: number, place: number): boolean {
    return byte === this.#control(place) && byte !== DISABLED;
  }

  get canonical(): boolean {
    return this.#has(LOCAL, ICANON);
  }

  /** @param bytes struct termios2. A line begun in canonical mode may be read at once without it. */
  set(bytes: Uint8Array): void {
    const was = this.canonical;
    this.termios.set(bytes);
    if (was && !this.canonical && this.#line.length > 0) this.#finish();
  }

  flushInput(): void {
    this.#ready = [];
    this.#waiting = 0;
    this.#line = [];
    this.#piece = [];
  }

  /** Bytes that a read may have. */
  get waiting(): number {
    return this.#waiting;
  }

  /** True when poll(2) says so: without lines VMIN bytes have to be there, unless VTIME limits the wait for them. */
  get readable(): boolean {
    const { minimum, time } = this;
    return this.canonical ? this.#ready.length > 0 : this.waiting >= (time === 0 ? Math.max(minimum, 1) : 1);
  }

  /** VMIN and VTIME, in tenths of a second; a line at a time needs neither. */
  get minimum(): number {
    return this.canonical ? 1 : this.#control(Character.VMIN);
  }

  get time(): number {
    return this.canonical ? 0 : this.#control(Character.VTIME);
  }

  /** Background processes that write are stopped. */
  get stopsWriters(): boolean {
    return this.#has(LOCAL, TOSTOP);
  }

  /** ^S and ^Q stop and start output (what packet mode tells). */
  get usualFlow(): boolean {
    const [start, stop] = [this.#control(Character.VSTART), this.#control(Character.VSTOP)];
    return this.#has(INPUT, IXON) && start === CONTROL_Q && stop === CONTROL_S;
  }

  flowCharacter(start: boolean): number {
    return this.#control(start ? Character.VSTART : Character.VSTOP);
  }

  /** @returns the count, 0 for an end of file, -1 when there is nothing */
  read(into: Uint8Array): number {
    if (this.#ready.length === 0) return -1;
    let count = 0;
    while (count < into.length || this.#ready[0]?.length === 0) {
      const chunk = this.#ready.shift();
      if (chunk === undefined) break;
      const taken = Math.min(chunk.length, into.length - count);
      into.set(chunk.subarray(0, taken), count);
      count += taken;
      if (taken < chunk.length) this.#ready.unshift(chunk.subarray(taken));
      if (this.canonical) break;
    }
    this.#waiting -= count;
    return count;
  }

  /** Puts back what was read last. */
  unread(bytes: Uint8Array): void {
    this.#ready.unshift(bytes.slice());
    this.#waiting += bytes.length;
  }

  /** What a program writes, as the screen gets it. */
  output(bytes: Uint8Array): number[] {
    if (!this.#has(OUTPUT, OPOST)) return [...bytes];
    const shown: number[] = [];
    for (const byte of bytes) {
      if (byte === NEWLINE && this.#has(OUTPUT, ONLCR)) shown.push(RETURN, NEWLINE);
      else if (byte === RETURN && this.#has(OUTPUT, OCRNL)) shown.push(NEWLINE);
      else if (byte !== RETURN || !this.#has(OUTPUT, ONLRET)) shown.push(byte);
    }
    return shown;
  }

  /**
   * What is typed.
   * @returns how much of it there was room for
   */
  type(bytes: Uint8Array): number {
    let count = 0;
    while (count < bytes.length && !this.#full) {
      const byte = bytes[count++] ?? 0;
      this.#typed(this.#has(INPUT, ISTRIP) ? byte & 0x7f : byte);
    }
    this.#endPiece();
    if (this.#echoed.length > 0) this.#sink.show(this.#echoed);
    this.#echoed = [];
    return count;
  }

  /** The reader has to read first. A line that nobody can read yet may grow: what is too much of it is lost (n_tty_receive_buf_common). */
  get #full(): boolean {
    if (this.#line.length + this.#waiting < INPUT_LIMIT) return false;
    return !this.canonical || this.#ready.length > 0;
  }

  #endPiece(): void {
    if (this.#piece.length > 0) this.#ready.push(Uint8Array.from(this.#piece));
    this.#piece = [];
  }

  #typed(typed: number): void {
    if (this.#literal) {
      this.#literal = false;
      this.#add(typed);
      return;
    }
    let byte = typed;
    if (byte === RETURN) {
      if (this.#has(INPUT, IGNCR)) return;
      if (this.#has(INPUT, ICRNL)) byte = NEWLINE;
    } else if (byte === NEWLINE && this.#has(INPUT, INLCR)) {
      byte = RETURN;
    }
    if (this.#has(INPUT, IXON) && this.#flow(byte)) return;
    if (this.#has(LOCAL, ISIG) && this.#signalled(byte)) return;
    if (this.canonical && this.#edited(byte)) return;
    this.#add(byte);
  }

  /** True when the byte was one that stops or starts output. */
  #flow(byte: number): boolean {
    const [starts, stops] = [this.#is(byte, Character.VSTART), this.#is(byte, Character.VSTOP)];
    if (starts || stops) this.#sink.flow(starts);
    else if (this.#has(INPUT, IXANY)) this.#sink.flow(true);
    return starts || stops;
  }

  #signalled(byte: number): boolean {
    let signal = 0;
    if (this.#is(byte, Character.VINTR)) signal = Signal.SIGINT;
    else if (this.#is(byte, Character.VQUIT)) signal = Signal.SIGQUIT;
    else if (this.#is(byte, Character.VSUSP)) signal = Signal.SIGTSTP;
    else return false;
    if (!this.#has(LOCAL, NOFLSH)) {
      this.flushInput();
      this.#echoed = [];
    }
    this.#echo(byte);
    this.#sink.signal(signal);
    return true;
  }

  /** True when the byte was one that edits the line or ends it. */
  #edited(byte: number): boolean {
    const extended = this.#has(LOCAL, IEXTEN);
    if (this.#is(byte, Character.VERASE)) this.#erase(1);
    else if (this.#is(byte, Character.VKILL)) this.#kill(byte);
    else if (extended && this.#is(byte, Character.VWERASE)) this.#erase(this.#lastWord());
    else if (extended && this.#is(byte, Character.VLNEXT)) {
      this.#literal = true;
      if (this.#has(LOCAL, ECHO) && this.#has(LOCAL, ECHOCTL)) this.#echoed.push(...[0x5e, 8]);
    } else if (this.#is(byte, Character.VEOF)) this.#finish();
    else if (byte === NEWLINE) {
      this.#line.push(byte);
      if (this.#has(LOCAL, ECHO) || this.#has(LOCAL, ECHONL)) this.#echoed.push(...this.output(Uint8Array.of(byte)));
      this.#finish();
    } else if (this.#is(byte, Character.VEOL) || (extended && this.#is(byte, Character.VEOL2))) {
      this.#line.push(byte);
      this.#echo(byte);
      this.#finish();
    } else return false;
    return true;
  }

  #add(byte: number): void {
    if (this.#line.length + this.#waiting >= INPUT_LIMIT) return;
    this.#echo(byte);
    if (this.canonical) {
      this.#line.push(byte);
      return;
    }
    this.#piece.push(byte);
    this.#waiting++;
  }

  #finish(): void {
    this.#ready.push(Uint8Array.from(this.#line));
    this.#waiting += this.#line.length;
    this.#line = [];
  }

  #echo(byte: number): void {
    if (!this.#has(LOCAL, ECHO)) return;
    if (this.#shownAsControl(byte)) this.#echoed.push(...[0x5e, byte ^ 0x40]);
    else this.#echoed.push(...this.output(Uint8Array.of(byte)));
  }

  #shownAsControl(byte: number): boolean {
    return this.#has(LOCAL, ECHOCTL) && ((byte < SPACE && byte !== TAB && byte !== NEWLINE) || byte === DELETE);
  }

  /** Takes back so many characters; in UTF-8 one may have several bytes. */
  #erase(count: number): void {
    const shown = this.#has(LOCAL, ECHO);
    for (let left = count; left > 0 && this.#line.length > 0; left--) {
      let byte = this.#line.pop() ?? 0;
      while (this.#has(INPUT, IUTF8) && (byte & 0xc0) === 0x80 && this.#line.length > 0) byte = this.#line.pop() ?? 0;
      if (!shown) continue;
      if (!this.#has(LOCAL, ECHOE)) this.#echo(this.#control(Character.VERASE));
      else
        for (let column = this.#shownAsControl(byte) ? 2 : 1; column > 0; column--) this.#echoed.push(...[8, SPACE, 8]);
    }
  }

  #kill(byte: number): void {
    if (this.#has(LOCAL, ECHOK) && this.#has(LOCAL, ECHOKE) && this.#has(LOCAL, ECHOE)) {
      this.#erase(this.#line.length);
      return;
    }
    this.#line = [];
    this.#echo(byte);
    if (this.#has(LOCAL, ECHO) && this.#has(LOCAL, ECHOK)) this.#echoed.push(...this.output(Uint8Array.of(NEWLINE)));
  }

  /** Characters of the last word and of what stands behind it. */
  #lastWord(): number {
    const word = (byte: number) =>
      (byte >= 0x30 && byte < 0x3a) || (byte >= 0x41 && byte < 0x5b) || (byte >= 0x61 && byte < 0x7b) || byte === 0x5f;
    let at = this.#line.length;
    while (at > 0 && !word(this.#line[at - 1] ?? 0)) at--;
    while (at > 0 && word(this.#line[at - 1] ?? 0)) at--;
    return this.#line.length - at;
  }
}
