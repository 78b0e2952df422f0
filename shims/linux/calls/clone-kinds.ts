/** How the arguments of clone and its like are read and printed. */

import { flagText, type Kind, type PrintContext, scalar } from "../kinds/kinds.ts";
import { arrayText, fills, pointsTo } from "../kinds/memory.ts";
import { u32, valueOut } from "../kinds/structs.ts";
import { Clone } from "../process/clone.ts";
import { Signal, signalName } from "../signals/numbers.ts";

/** The low byte of clone's flags. */
export const CSIGNAL = 0xff;
const TWO_32 = 2 ** 32;
/** The first size of struct clone_args; what a later one has behind it is 0 where it is missing. */
export const ARGS_SIZE_VER0 = 64;

/** struct clone_args (uapi/linux/sched.h). */
export interface CloneArgs {
  readonly flags_low: number;
  readonly flags_high: number;
  readonly pidfd: number;
  readonly child_tid: number;
  readonly parent_tid: number;
  readonly exit_signal: number;
  readonly stack: number;
  readonly stack_size: number;
  readonly tls: number;
  readonly set_tid: number;
  readonly set_tid_size: number;
  readonly cgroup: number;
}

export function readCloneArgs(raw: Uint8Array): CloneArgs {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  const field = (offset: number): number =>
    offset + 8 > raw.length ? 0 : view.getUint32(offset, true) + view.getUint32(offset + 4, true) * TWO_32;
  return {
    flags_low: view.getUint32(0, true),
    flags_high: view.getUint32(4, true),
    pidfd: field(8),
    child_tid: field(16),
    parent_tid: field(24),
    exit_signal: field(32),
    stack: field(40),
    stack_size: field(48),
    tls: field(56),
    set_tid: field(64),
    set_tid_size: field(72),
    cgroup: field(80),
  };
}

const NAMES = Object.entries(Clone).filter(([name]) => name !== "CLONE_NEWTIME");

/** `CLONE_VM|CLONE_VFORK|SIGCHLD`, as strace. */
function flagsText(flags: number, signal: number): string {
  const name = signal === Signal.SIGCHLD ? "SIGCHLD" : String(signal);
  if (flags === 0) return signal === 0 ? "0" : name;
  const text = flagText("CLONE_", NAMES, flags);
  return signal === 0 ? text : `${text}|${name}`;
}

export const cloneFlags: Kind = scalar("pointer", (value) => flagsText((value & ~CSIGNAL) >>> 0, value & CSIGNAL));
export const unshareFlags: Kind = scalar("pointer", (value) => flagsText(value, 0));
export const tidOut: Kind = {
  ...valueOut(u32),
  print: (value, at) =>
    value === 0 ? "NULL" : at.result !== undefined && at.result > 0 ? tidText(value, at) : hexText(value),
};
const tidText = fills((at, c) => `[${c.task.memory.u32(at)}]`).print;
const hexText = (value: number): string => `0x${value.toString(16)}`;

const CLEAR_SIGHAND = 1;
const INTO_CGROUP = 2;

function allFlagsText({ flags_low, flags_high }: CloneArgs): string {
  const names = [
    ...(flags_low === 0 ? [] : [flagsText(flags_low, 0)]),
    ...((flags_high & CLEAR_SIGHAND) === 0 ? [] : ["CLONE_CLEAR_SIGHAND"]),
    ...((flags_high & INTO_CGROUP) === 0 ? [] : ["CLONE_INTO_CGROUP"]),
    ...(flags_high < 4 ? [] : [`0x${(flags_high & ~3).toString(16)}00000000`]),
  ];
  return names.length === 0 ? "0" : names.join("|");
}

/** As strace: what the flags do not ask for does not print. */
function argsText(args: CloneArgs, at: PrintContext): string {
  const { flags_low: flags } = args;
  const place = (value: number): string => (value === 0 ? "NULL" : hexText(value));
  const parts = [`flags=${allFlagsText(args)}`];
  const add = (mask: number, text: string): void => {
    if ((flags & mask) !== 0) parts.push(text);
  };
  add(Clone.CLONE_PIDFD, `pidfd=${place(args.pidfd)}`);
  add(Clone.CLONE_CHILD_SETTID | Clone.CLONE_CHILD_CLEARTID, `child_tid=${place(args.child_tid)}`);
  add(Clone.CLONE_PARENT_SETTID, `parent_tid=${place(args.parent_tid)}`);
  parts.push(`exit_signal=${args.exit_signal === 0 ? "0" : signalName(args.exit_signal)}`);
  parts.push(`stack=${place(args.stack)}`, `stack_size=${args.stack_size === 0 ? "0" : hexText(args.stack_size)}`);
  add(Clone.CLONE_SETTLS, `tls=${place(args.tls)}`);
  if (args.set_tid !== 0 || args.set_tid_size !== 0) {
    const { memory } = at.task;
    const tids = arrayText(args.set_tid, args.set_tid_size, 4, (element) => String(memory.i32(element)));
    parts.push(`set_tid=${tids}`, `set_tid_size=${args.set_tid_size}`);
  }
  if ((args.flags_high & INTO_CGROUP) !== 0) parts.push(`cgroup=${args.cgroup}`);
  return `{${parts.join(", ")}}`;
}

/** What the kernel has written for the parent: ` => {parent_tid=[12]}`. */
function writtenText({ flags_low: flags, pidfd, parent_tid }: CloneArgs, at: PrintContext): string {
  if (at.result === undefined || at.result <= 0) return "";
  const value = valueOut(u32);
  const parts = [
    ...((flags & Clone.CLONE_PIDFD) === 0 ? [] : [`pidfd=${value.print(pidfd, at)}`]),
    ...((flags & Clone.CLONE_PARENT_SETTID) === 0 ? [] : [`parent_tid=${value.print(parent_tid, at)}`]),
  ];
  return parts.length === 0 ? "" : ` => {${parts.join(", ")}}`;
}

/** struct clone_args, in the size that the second argument says. */
export const cloneArgs: Kind = {
  ...pointsTo((address, at) => {
    const bytes = Math.min(at.args[1] ?? 0, 88);
    if (bytes < ARGS_SIZE_VER0) return hexText(address);
    const args = readCloneArgs(at.task.memory.bytes(address, bytes));
    return argsText(args, at) + writtenText(args, at);
  }),
  moment: "exit",
};
