/** How signals, sets, actions and siginfo print, in strace's spelling. */
import type { GuestMemory } from "../../../emulator/memory.ts";
import type { Abi } from "../abi.ts";
import { choice, flagText, type Kind, scalar } from "../kinds/kinds.ts";
import { addressText, fills, pointsTo } from "../kinds/memory.ts";
import { SaFlag, SIG_DFL, SIG_IGN, SiCode, Signal, signalName } from "./numbers.ts";
import { SigInfo } from "./siginfo.ts";
import { SignalSet } from "./signal-set.ts";
import { type Action, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK } from "./state.ts";

export const signal: Kind = scalar("int", (value) => (value === 0 ? "0" : signalName(value)));

/** `[INT TERM]`, or `~[KILL STOP]` where most are set. */
function setText(set: SignalSet): string {
  const all = set.signals();
  const inverted = all.length > 32;
  const shown = (inverted ? set.inverse().signals() : all).map((one) => signalName(one).replace(/^SIG/, ""));
  return `${inverted ? "~" : ""}[${shown.join(" ")}]`;
}

/** @throws MemoryFault */
export function readSet(memory: GuestMemory, address: number): SignalSet {
  return new SignalSet(memory.u32(address), memory.u32(address + 4));
}

/** @throws MemoryFault */
export function writeSet(memory: GuestMemory, address: number, set: SignalSet): void {
  memory.setU64(address, BigInt.asUintN(64, (BigInt(set.hi >>> 0) << 32n) | BigInt(set.lo >>> 0)));
}

export const setIn: Kind = pointsTo((at, { task }) => setText(readSet(task.memory, at)));
export const setOut: Kind = fills((at, { task }) => setText(readSet(task.memory, at)));
/** `old_sigset_t`: 32 signals. */
export const oldSetIn: Kind = pointsTo((at, { task }) => setText(new SignalSet(task.memory.u32(at))));
export const oldSetOut: Kind = fills((at, { task }) => setText(new SignalSet(task.memory.u32(at))));
export const oldSet: Kind = scalar("uint", (value) => setText(new SignalSet(value)));

export const maskHow: Kind = choice("SIG_", { SIG_BLOCK: 0, SIG_UNBLOCK: 1, SIG_SETMASK: 2 });

function handlerText(handler: number): string {
  if (handler === SIG_DFL) return "SIG_DFL";
  return handler === SIG_IGN ? "SIG_IGN" : addressText(handler);
}
export const handler: Kind = scalar("pointer", handlerText);

const saFlags = Object.entries(SaFlag);

function actionText(action: Action): string {
  const parts = [
    `sa_handler=${handlerText(action.handler)}`,
    `sa_mask=${setText(action.mask)}`,
    `sa_flags=${flagText("SA_", saFlags, action.flags)}`,
  ];
  if (action.flags & SaFlag.SA_RESTORER) parts.push(`sa_restorer=${addressText(action.restorer)}`);
  return `{${parts.join(", ")}}`;
}

function word(memory: GuestMemory, address: number, abi: Abi): number {
  return abi.word === 8 ? memory.num64(address) : memory.u32(address);
}

/** `struct sigaction` of rt_sigaction. @throws MemoryFault */
export function readAction(memory: GuestMemory, address: number, abi: Abi): Action {
  const w = abi.word;
  return {
    handler: word(memory, address, abi),
    flags: memory.u32(address + w),
    restorer: word(memory, address + 2 * w, abi),
    mask: readSet(memory, address + 3 * w),
    abi,
  };
}

/** @throws MemoryFault */
export function writeAction(memory: GuestMemory, address: number, abi: Abi, action: Action): void {
  const put = (at: number, value: number): void => {
    if (abi.word === 8) memory.setNum64(at, value);
    else memory.setU32(at, value);
  };
  const w = abi.word;
  put(address, action.handler);
  put(address + w, action.flags);
  put(address + 2 * w, action.restorer);
  writeSet(memory, address + 3 * w, action.mask);
}

/** `struct old_sigaction` of i386: a short mask, before the flags. @throws MemoryFault */
export function readOldAction(memory: GuestMemory, address: number, abi: Abi): Action {
  return {
    handler: memory.u32(address),
    mask: new SignalSet(memory.u32(address + 4)),
    flags: memory.u32(address + 8),
    restorer: memory.u32(address + 12),
    abi,
  };
}

/** @throws MemoryFault */
export function writeOldAction(memory: GuestMemory, address: number, action: Action): void {
  memory.setU32(address, action.handler);
  memory.setU32(address + 4, action.mask.lo >>> 0);
  memory.setU32(address + 8, action.flags);
  memory.setU32(address + 12, action.restorer);
}

export const actionIn: Kind = pointsTo((at, { task, abi }) => actionText(readAction(task.memory, at, abi)));
export const actionOut: Kind = fills((at, { task, abi }) => actionText(readAction(task.memory, at, abi)));
export const oldActionIn: Kind = pointsTo((at, { task, abi }) => actionText(readOldAction(task.memory, at, abi)));
export const oldActionOut: Kind = fills((at, { task, abi }) => actionText(readOldAction(task.memory, at, abi)));

const senderCodes = codeMap(
  "SI_USER",
  "SI_KERNEL",
  "SI_QUEUE",
  "SI_TIMER",
  "SI_MESGQ",
  "SI_ASYNCIO",
  "SI_SIGIO",
  "SI_TKILL",
);
const ownCodes: ReadonlyMap<number, ReadonlyMap<number, string>> = new Map([
  [Signal.SIGILL, codeMap("ILL_ILLOPN")],
  [Signal.SIGFPE, codeMap("FPE_INTDIV", "FPE_FLTDIV", "FPE_FLTOVF", "FPE_FLTUND", "FPE_FLTRES", "FPE_FLTINV")],
  [Signal.SIGSEGV, codeMap("SEGV_MAPERR", "SEGV_ACCERR")],
  [Signal.SIGBUS, codeMap("BUS_ADRALN", "BUS_ADRERR")],
  [Signal.SIGTRAP, codeMap("TRAP_BRKPT", "TRAP_TRACE", "TRAP_HWBKPT")],
  [Signal.SIGCHLD, codeMap("CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_STOPPED", "CLD_CONTINUED")],
]);

function codeMap(...names: readonly (keyof typeof SiCode)[]): ReadonlyMap<number, string> {
  return new Map(names.map((name) => [SiCode[name], name]));
}

/** Signals whose information has an address even where the kernel knows none. */
const ADDRESSED: ReadonlySet<number> = new Set([4, 5, 7, 8, 11]);

function infoText(info: SigInfo): string {
  const { signal, code } = info;
  const codeName = senderCodes.get(code) ?? ownCodes.get(signal)?.get(code) ?? code;
  const failed = info.errno === 0 ? "" : `, si_errno=${info.errno}`;
  return `{si_signo=${signalName(signal)}, si_code=${codeName}${failed}${infoRest(info)}}`;
}

/** By si_code first and then by signal, as strace chooses. */
function infoRest(info: SigInfo): string {
  const { signal, code } = info;
  const sender = `, si_pid=${info.pid}, si_uid=${info.uid}`;
  if (code === SiCode.SI_USER || code === SiCode.SI_TKILL) return sender;
  if (code === SiCode.SI_TIMER) return `, si_timerid=${info.pid}, si_overrun=${info.overrun}${valueText(info)}`;
  if (code < 0) return sender + valueText(info);
  if (ADDRESSED.has(signal)) return `, si_addr=${code === SiCode.SI_KERNEL ? "NULL" : wordText(info.word(16))}`;
  switch (info.layout) {
    case "child": {
      const status = code === SiCode.CLD_EXITED ? info.status : signalName(info.status);
      return `${sender}, si_status=${status}, si_utime=${info.word(32)}, si_stime=${info.word(40)}`;
    }
    case "poll":
      return `, si_band=${info.word(16)}`;
    case "sys":
      return `, si_call_addr=${wordText(info.word(16))}, si_syscall=${info.int(24)}`;
    default:
      return code === SiCode.SI_KERNEL ? "" : sender;
  }
}

function wordText(value: bigint): string {
  return value === 0n ? "NULL" : `0x${value.toString(16)}`;
}

function valueText(info: SigInfo): string {
  return `, si_int=${info.int(24)}, si_ptr=${wordText(info.value)}`;
}

/** What stands between the dashes of strace's line for a signal. */
export function signalText(info: SigInfo): string {
  return `${signalName(info.signal)} ${infoText(info)}`;
}

function infoAt(memory: GuestMemory, address: number, abi: Abi): string {
  const info = SigInfo.read(memory, address, abi, memory.u32(address));
  return info === undefined ? addressText(address) : infoText(info);
}
export const infoIn: Kind = pointsTo((at, { task, abi }) => infoAt(task.memory, at, abi));
export const infoOut: Kind = fills((at, { task, abi }) => infoAt(task.memory, at, abi));

/** `stack_t`. */
export interface StackT {
  readonly start: number;
  readonly flags: number;
  readonly size: number;
}

/** @throws MemoryFault */
export function readStack(memory: GuestMemory, address: number, abi: Abi): StackT {
  const size = word(memory, address + 2 * abi.word, abi);
  return { start: word(memory, address, abi), flags: memory.u32(address + abi.word), size };
}

/** Padding is zero, as Linux writes it. @throws MemoryFault */
export function writeStack(memory: GuestMemory, address: number, abi: Abi, stack: StackT): void {
  const bytes = new Uint8Array(3 * abi.word);
  const view = new DataView(bytes.buffer);
  const put = (at: number, value: number): void => {
    if (abi.word === 8) view.setBigUint64(at, BigInt(value), true);
    else view.setUint32(at, value, true);
  };
  put(0, stack.start);
  view.setUint32(abi.word, stack.flags, true);
  put(2 * abi.word, stack.size);
  memory.write(address, bytes);
}

const stackFlags: readonly (readonly [string, number])[] = [
  ["SS_AUTODISARM", SS_AUTODISARM],
  ["SS_DISABLE", SS_DISABLE],
  ["SS_ONSTACK", SS_ONSTACK],
];

function stackText(stack: StackT): string {
  const flags = flagText("SS_", stackFlags, stack.flags);
  return `{ss_sp=${addressText(stack.start)}, ss_flags=${flags}, ss_size=${stack.size}}`;
}
export const stackIn: Kind = pointsTo((at, { task, abi }) => stackText(readStack(task.memory, at, abi)));
export const stackOut: Kind = fills((at, { task, abi }) => stackText(readStack(task.memory, at, abi)));
