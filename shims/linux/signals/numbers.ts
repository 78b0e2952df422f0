/** Signal numbers, flags and codes of the x86 ABIs (asm/signal.h, asm-generic/siginfo.h). */

export const Signal = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGSTKFLT: 16,
  SIGCHLD: 17,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGTTIN: 21,
  SIGTTOU: 22,
  SIGURG: 23,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGVTALRM: 26,
  SIGPROF: 27,
  SIGWINCH: 28,
  SIGIO: 29,
  SIGPWR: 30,
  SIGSYS: 31,
} as const;

/** Signals are 1 to 64; those from here on are queued one by one. */
export const SIGRTMIN = 32;
export const NSIG = 64;

const names: ReadonlyMap<number, string> = new Map<number, string>(
  Object.entries(Signal).map(([name, value]) => [value, name]),
);

/** strace's spelling: `SIGINT`, `SIGRT_3`; a bare number for what is no signal. */
export function signalName(signal: number): string {
  if (signal >= SIGRTMIN && signal <= NSIG) return signal === SIGRTMIN ? "SIGRTMIN" : `SIGRT_${signal - SIGRTMIN}`;
  return names.get(signal) ?? String(signal);
}

export const SaFlag = {
  SA_RESTORER: 0x0400_0000,
  SA_NOCLDSTOP: 1,
  SA_NOCLDWAIT: 2,
  SA_SIGINFO: 4,
  SA_EXPOSE_TAGBITS: 0x800,
  SA_ONSTACK: 0x0800_0000,
  SA_RESTART: 0x1000_0000,
  SA_NODEFER: 0x4000_0000,
  SA_RESETHAND: 0x8000_0000,
} as const;

/** Flags the kernel keeps; SA_UNSUPPORTED and unknown ones are cleared so that a program can find out (sigaction(2)). */
export const SA_KEPT = Object.values(SaFlag).reduce((all, flag) => (all | flag) >>> 0, 0);

/** Handlers that are no addresses. */
export const SIG_DFL = 0;
export const SIG_IGN = 1;

/** What a signal without a handler does. */
export type DefaultAction = "terminate" | "core" | "ignore" | "stop";

const CORE: ReadonlySet<number> = new Set([3, 4, 5, 6, 7, 8, 11, 24, 25, 31]);
/** SIGCONT's effect is at its sending; delivered, it does nothing. */
const IGNORE: ReadonlySet<number> = new Set([17, 18, 23, 28]);
const STOP: ReadonlySet<number> = new Set([19, 20, 21, 22]);

/** signal(7), "Standard signals". */
export function defaultAction(signal: number): DefaultAction {
  if (CORE.has(signal)) return "core";
  if (IGNORE.has(signal)) return "ignore";
  return STOP.has(signal) ? "stop" : "terminate";
}

export function isStopSignal(signal: number): boolean {
  return STOP.has(signal);
}

/** si_code values (asm-generic/siginfo.h). */
export const SiCode = {
  SI_USER: 0,
  SI_KERNEL: 0x80,
  SI_QUEUE: -1,
  SI_TIMER: -2,
  SI_MESGQ: -3,
  SI_ASYNCIO: -4,
  SI_SIGIO: -5,
  SI_TKILL: -6,
  SYS_USER_DISPATCH: 2,
  ILL_ILLOPN: 2,
  FPE_INTDIV: 1,
  FPE_FLTDIV: 3,
  FPE_FLTOVF: 4,
  FPE_FLTUND: 5,
  FPE_FLTRES: 6,
  FPE_FLTINV: 7,
  SEGV_MAPERR: 1,
  SEGV_ACCERR: 2,
  BUS_ADRALN: 1,
  BUS_ADRERR: 2,
  TRAP_BRKPT: 1,
  TRAP_TRACE: 2,
  TRAP_HWBKPT: 4,
  CLD_EXITED: 1,
  CLD_KILLED: 2,
  CLD_DUMPED: 3,
  CLD_STOPPED: 5,
  CLD_CONTINUED: 6,
} as const;

/** Synchronous signals go before all others (SYNCHRONOUS_MASK of kernel/signal.c). */
export const SYNCHRONOUS: readonly number[] = [4, 5, 7, 8, 11, 31];

/** sigev_notify (asm-generic/siginfo.h). */
export const Notify = { SIGEV_SIGNAL: 0, SIGEV_NONE: 1, SIGEV_THREAD: 2, SIGEV_THREAD_ID: 4 } as const;
