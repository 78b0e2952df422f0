/** Settings of a terminal as programs ask for them: struct termios in its three forms (ioctl_tty(2); drivers/tty/tty_ioctl.c). */
import type { Task } from "../../task.ts";
import { CONTROL_CHARACTERS, LINE_AT, TERMIOS_SIZE, TERMIOS2_SIZE, Tty } from "./requests.ts";

/** What has such settings. */
export interface Terminal {
  /** struct termios2, always with both speeds. */
  readonly termios: Uint8Array;
  /** @param flushes input that nobody has read is thrown away */
  setTermios(bytes: Uint8Array, flushes: boolean): void;
}

const CONTROL_AT = 8;
const [INPUT_SPEED_AT, OUTPUT_SPEED_AT] = [36, 40];
/** The old struct termio: four half words, the line discipline, eight control characters. */
const TERMIO_SIZE = 18;
const TERMIO_CHARACTERS = 8;
const FLAG_WORDS = 4;
/** Rates by their code in c_cflag, those of CBAUDEX behind. */
const RATES = [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400];
const FAST_RATES = [
  0, 57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000,
  2_500_000, 3_000_000, 3_500_000, 4_000_000,
];
const [CBAUD, CBAUDEX, BOTHER] = [0x100f, 0x1000, 0x1000];
const INPUT_SHIFT = 16;

function rateOf(code: number): number {
  return (code & CBAUDEX ? FAST_RATES : RATES)[code & 0xf] ?? 0;
}

/** Puts the speeds that c_cflag says into a termios2; with BOTHER they are the ones that stand there. */
export function withSpeeds(given: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(TERMIOS2_SIZE);
  bytes.set(given.subarray(0, TERMIOS2_SIZE));
  const view = new DataView(bytes.buffer);
  const control = view.getUint32(CONTROL_AT, true);
  const output = control & CBAUD;
  const input = (control >>> INPUT_SHIFT) & CBAUD;
  if (output !== BOTHER) view.setUint32(OUTPUT_SPEED_AT, rateOf(output), true);
  // No rate of its own means that of the output.
  if (input === 0) view.setUint32(INPUT_SPEED_AT, view.getUint32(OUTPUT_SPEED_AT, true), true);
  else if (input !== BOTHER) view.setUint32(INPUT_SPEED_AT, rateOf(input), true);
  return bytes;
}

/** Requests that read the settings: 0, or undefined for any other. */
export function readSettings({ memory }: Task, terminal: Terminal, request: number, argument: number): 0 | undefined {
  const { termios } = terminal;
  switch (request) {
    case Tty.TCGETS:
      memory.write(argument, termios.subarray(0, TERMIOS_SIZE));
      return 0;
    case Tty.TCGETS2:
      memory.write(argument, termios);
      return 0;
    case Tty.TCGETA: {
      const old = new Uint8Array(TERMIO_SIZE);
      for (let word = 0; word < FLAG_WORDS; word++) old.set(termios.subarray(word * 4, word * 4 + 2), word * 2);
      old.set(termios.subarray(LINE_AT, LINE_AT + 1 + TERMIO_CHARACTERS), FLAG_WORDS * 2);
      memory.write(argument, old);
      return 0;
    }
    default:
      return undefined;
  }
}

/** True for the requests of {@link writeSettings}. */
export function setsSettings(request: number): boolean {
  return FORMS.has(request);
}

type Form = "termio" | "termios" | "termios2";
const FORMS: ReadonlyMap<number, readonly [Form, boolean]> = new Map([
  [Tty.TCSETA, ["termio", false]],
  [Tty.TCSETAW, ["termio", false]],
  [Tty.TCSETAF, ["termio", true]],
  [Tty.TCSETS, ["termios", false]],
  [Tty.TCSETSW, ["termios", false]],
  [Tty.TCSETSF, ["termios", true]],
  [Tty.TCSETS2, ["termios2", false]],
  [Tty.TCSETSW2, ["termios2", false]],
  [Tty.TCSETSF2, ["termios2", true]],
]);

/** Requests that change the settings. What was written is with the reader at once, so there is nothing to wait for. */
export function writeSettings({ memory }: Task, terminal: Terminal, request: number, argument: number): 0 | undefined {
  const [form, flushes] = FORMS.get(request) ?? [];
  if (form === undefined || flushes === undefined) return undefined;
  const bytes = terminal.termios.slice();
  if (form === "termio") {
    const old = memory.bytes(argument, TERMIO_SIZE);
    for (let word = 0; word < FLAG_WORDS; word++) bytes.set(old.subarray(word * 2, word * 2 + 2), word * 4);
    bytes.set(old.subarray(FLAG_WORDS * 2, FLAG_WORDS * 2 + 1 + TERMIO_CHARACTERS), LINE_AT);
  } else bytes.set(memory.bytes(argument, form === "termios" ? LINE_AT + 1 + CONTROL_CHARACTERS : TERMIOS2_SIZE));
  terminal.setTermios(withSpeeds(bytes), flushes);
  return 0;
}
