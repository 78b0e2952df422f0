/** Numbers of ptrace(2) (uapi/linux/ptrace.h, asm/ptrace-abi.h). */

export const Ptrace = {
  PTRACE_TRACEME: 0,
  PTRACE_PEEKTEXT: 1,
  PTRACE_PEEKDATA: 2,
  PTRACE_PEEKUSER: 3,
  PTRACE_POKETEXT: 4,
  PTRACE_POKEDATA: 5,
  PTRACE_POKEUSER: 6,
  PTRACE_CONT: 7,
  PTRACE_KILL: 8,
  PTRACE_SINGLESTEP: 9,
  PTRACE_GETREGS: 12,
  PTRACE_SETREGS: 13,
  PTRACE_GETFPREGS: 14,
  PTRACE_SETFPREGS: 15,
  PTRACE_ATTACH: 16,
  PTRACE_DETACH: 17,
  PTRACE_GETFPXREGS: 18,
  PTRACE_SETFPXREGS: 19,
  PTRACE_OLDSETOPTIONS: 21,
  PTRACE_SYSCALL: 24,
  PTRACE_GET_THREAD_AREA: 25,
  PTRACE_SET_THREAD_AREA: 26,
  PTRACE_ARCH_PRCTL: 30,
  PTRACE_SYSEMU: 31,
  PTRACE_SYSEMU_SINGLESTEP: 32,
  PTRACE_SINGLEBLOCK: 33,
  PTRACE_SETOPTIONS: 0x4200,
  PTRACE_GETEVENTMSG: 0x4201,
  PTRACE_GETSIGINFO: 0x4202,
  PTRACE_SETSIGINFO: 0x4203,
  PTRACE_GETREGSET: 0x4204,
  PTRACE_SETREGSET: 0x4205,
  PTRACE_SEIZE: 0x4206,
  PTRACE_INTERRUPT: 0x4207,
  PTRACE_LISTEN: 0x4208,
  PTRACE_PEEKSIGINFO: 0x4209,
  PTRACE_GETSIGMASK: 0x420a,
  PTRACE_SETSIGMASK: 0x420b,
  PTRACE_SECCOMP_GET_FILTER: 0x420c,
  PTRACE_SECCOMP_GET_METADATA: 0x420d,
  PTRACE_GET_SYSCALL_INFO: 0x420e,
  PTRACE_GET_RSEQ_CONFIGURATION: 0x420f,
} as const;

/** PTRACE_O_*. The option of an event is the bit with the event's number. */
export const Option = {
  PTRACE_O_TRACESYSGOOD: 1,
  PTRACE_O_TRACEFORK: 1 << 1,
  PTRACE_O_TRACEVFORK: 1 << 2,
  PTRACE_O_TRACECLONE: 1 << 3,
  PTRACE_O_TRACEEXEC: 1 << 4,
  PTRACE_O_TRACEVFORKDONE: 1 << 5,
  PTRACE_O_TRACEEXIT: 1 << 6,
  PTRACE_O_TRACESECCOMP: 1 << 7,
  PTRACE_O_EXITKILL: 1 << 20,
  PTRACE_O_SUSPEND_SECCOMP: 1 << 21,
} as const;
export const OPTIONS = Object.values(Option).reduce((all, bit) => all | bit, 0);

/** PTRACE_EVENT_*. */
export const Event = { fork: 1, vfork: 2, clone: 3, exec: 4, vforkDone: 5, exit: 6, seccomp: 7, stop: 128 } as const;
export type Event = (typeof Event)[keyof typeof Event];

/** What makes a task's system calls go the long way (bits of `Task.work`). */
export const Work = { trace: 1, emulate: 2, step: 4, seccomp: 8, dispatch: 16 } as const;
