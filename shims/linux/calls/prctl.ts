/** prctl(2), kernel/sys.c. */
import { Errno } from "../errno.ts";
import { Prctl, prctlOption } from "../kinds/flags.ts";
import { type Kind, word } from "../kinds/kinds.ts";
import { quoteBytes } from "../kinds/memory.ts";
import { NSIG } from "../signals/numbers.ts";
import { type Row, row } from "../table.ts";
import type { Task } from "../task.ts";
import { setUserDispatch } from "../user-dispatch.ts";
import { controlCapabilities } from "./capabilities.ts";
import { getSeccompMode, setSeccompMode } from "./seccomp.ts";

const COMM_BYTES = 16;
const PR_TSC_ENABLE = 1;

function setName(task: Task, from: number): number {
  const { memory } = task;
  let name = "";
  for (let index = 0; index < COMM_BYTES - 1; index++) {
    const byte = memory.u8(from + index);
    if (byte === 0) break;
    name += String.fromCharCode(byte);
  }
  task.comm = name;
  return 0;
}

function getName(task: Task, to: number): number {
  const bytes = new Uint8Array(COMM_BYTES);
  bytes.set(Buffer.from(task.comm, "latin1").subarray(0, COMM_BYTES - 1));
  task.memory.write(to, bytes);
  return 0;
}

function prctl(task: Task, option: number, a: number, b: number, c: number, d: number): number {
  const { process, memory } = task;
  const state = process.prctl;
  const invalid = (why: string): number => task.fail(Errno.EINVAL, why);
  const denied = (why: string): number => task.fail(Errno.EPERM, why);
  const spare = b !== 0 || c !== 0 || d !== 0;
  switch (option) {
    case Prctl.PR_SET_PDEATHSIG:
      if (a > NSIG) return invalid(`there is no signal ${a}`);
      task.pdeathsig = a;
      return 0;
    case Prctl.PR_GET_PDEATHSIG:
      memory.setU32(a, task.pdeathsig);
      return 0;
    case Prctl.PR_GET_DUMPABLE:
      return process.dumpable ? 1 : 0;
    case Prctl.PR_SET_DUMPABLE:
      if (a > 1) return invalid("neither 0 nor 1");
      process.dumpable = a === 1;
      return 0;
    case Prctl.PR_GET_TIMING:
      return 0;
    case Prctl.PR_GET_SECCOMP:
      return getSeccompMode(task);
    case Prctl.PR_SET_TIMING:
      return a === 0 ? 0 : invalid("only statistical timing");
    case Prctl.PR_SET_NAME:
      return setName(task, a);
    case Prctl.PR_GET_NAME:
      return getName(task, a);
    case Prctl.PR_SET_SECCOMP:
      return setSeccompMode(task, a, b);
    case Prctl.PR_GET_TSC:
      memory.setU32(a, PR_TSC_ENABLE);
      return 0;
    case Prctl.PR_SET_TSC:
      return a === PR_TSC_ENABLE ? 0 : invalid("the time-stamp counter is always readable");
    case Prctl.PR_SET_TIMERSLACK:
      state.timerSlack = a <= 0 || a >= 2 ** 63 ? state.defaultSlack : a;
      return 0;
    case Prctl.PR_GET_TIMERSLACK:
      return Math.min(state.timerSlack, 0x7fff_ffff);
    case Prctl.PR_SET_MM:
      return denied("for privileged processes");
    case Prctl.PR_SET_CHILD_SUBREAPER:
      state.subreaper = a !== 0;
      return 0;
    case Prctl.PR_GET_CHILD_SUBREAPER:
      memory.setU32(a, state.subreaper ? 1 : 0);
      return 0;
    case Prctl.PR_SET_NO_NEW_PRIVS:
      if (a !== 1 || spare) return invalid("1 and then zeroes");
      process.noNewPrivs = true;
      return 0;
    case Prctl.PR_GET_NO_NEW_PRIVS:
      if (a !== 0 || spare) return invalid("zeroes only");
      return process.noNewPrivs ? 1 : 0;
    case Prctl.PR_GET_TID_ADDRESS:
      if (task.abi.word === 8) memory.setNum64(a, task.clearChildTid);
      else memory.setU32(a, task.clearChildTid);
      return 0;
    case Prctl.PR_SET_THP_DISABLE:
      if (spare) return invalid("zeroes after the first");
      state.thpDisabled = a !== 0;
      return 0;
    case Prctl.PR_GET_THP_DISABLE:
      if (a !== 0 || spare) return invalid("zeroes only");
      return state.thpDisabled ? 1 : 0;
    case Prctl.PR_GET_KEEPCAPS:
    case Prctl.PR_SET_KEEPCAPS:
    case Prctl.PR_CAPBSET_READ:
    case Prctl.PR_CAPBSET_DROP:
    case Prctl.PR_GET_SECUREBITS:
    case Prctl.PR_SET_SECUREBITS:
    case Prctl.PR_CAP_AMBIENT:
      return controlCapabilities(task, option, [a, b, c, d]);
    case Prctl.PR_SET_SYSCALL_USER_DISPATCH:
      return setUserDispatch(task, a, b, c, d);
    case Prctl.PR_SET_IO_FLUSHER:
      return denied("for privileged processes");
    default:
      return invalid("this option is not supported");
  }
}

/** The second argument: the name for PR_SET_NAME and PR_GET_NAME, else a word. */
const argument: Kind = {
  shape: "pointer",
  moment: "exit",
  print: (value, at) => {
    const named = at.args[0] === Prctl.PR_SET_NAME || at.args[0] === Prctl.PR_GET_NAME;
    if (!named || at.result !== 0) return word.print(value, at);
    return quoteBytes(Buffer.from(at.task.comm, "latin1"));
  },
};

export const prctlCalls: readonly Row[] = [
  row("prctl", { x86_64: 157, i386: 172 }, [prctlOption, argument, word, word, word], prctl, {
    family: "process",
    support: "PR_SET_VMA, PR_SET_MM and speculation controls are refused; THP and timer slack are kept only",
  }),
];
