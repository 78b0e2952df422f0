/** Requests of ioctl_tty(2) (uapi/asm-generic/ioctls.h). */
export const Tty = {
  TCGETS: 0x5401,
  TCSETS: 0x5402,
  TCSETSW: 0x5403,
  TCSETSF: 0x5404,
  TCGETA: 0x5405,
  TCSETA: 0x5406,
  TCSETAW: 0x5407,
  TCSETAF: 0x5408,
  TCSBRK: 0x5409,
  TCXONC: 0x540a,
  TCFLSH: 0x540b,
  TIOCEXCL: 0x540c,
  TIOCNXCL: 0x540d,
  TIOCSCTTY: 0x540e,
  TIOCGPGRP: 0x540f,
  TIOCSPGRP: 0x5410,
  TIOCOUTQ: 0x5411,
  TIOCSTI: 0x5412,
  TIOCGWINSZ: 0x5413,
  TIOCSWINSZ: 0x5414,
  TIOCPKT: 0x5420,
  TIOCNOTTY: 0x5422,
  TIOCSETD: 0x5423,
  TIOCGETD: 0x5424,
  TCSBRKP: 0x5425,
  TIOCSBRK: 0x5427,
  TIOCCBRK: 0x5428,
  TIOCGSID: 0x5429,
  TCGETS2: 0x802c542a,
  TCSETS2: 0x402c542b,
  TCSETSW2: 0x402c542c,
  TCSETSF2: 0x402c542d,
  TIOCGPTN: 0x80045430,
  TIOCSPTLCK: 0x40045431,
  TIOCSIG: 0x40045436,
  TIOCVHANGUP: 0x5437,
  TIOCGPKT: 0x80045438,
  TIOCGPTLCK: 0x80045439,
  TIOCGEXCL: 0x80045440,
  TIOCGPTPEER: 0x5441,
} as const;

/** What TCFLSH throws away: input, output, or both (tcflush(3)). */
export const Flush = { TCIFLUSH: 0, TCOFLUSH: 1, TCIOFLUSH: 2 } as const;

/** struct termios of the kernel: four flag words, the line discipline, 19 control characters. */
export const TERMIOS_SIZE = 36;
/** struct termios2 has two speeds more. */
export const TERMIOS2_SIZE = 44;
export const CONTROL_CHARACTERS = 19;
export const LINE_AT = 16;

/** What a fresh terminal has (drivers/tty/tty_io.c, tty_std_termios, with 38400 baud). */
export const FRESH_FLAGS = [0x500, 0x5, 0xbf, 0x8a3b] as const;
export const FRESH_CHARACTERS = [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0] as const;
