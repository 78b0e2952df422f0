/** PTRACE_GET_SYSCALL_INFO (ptrace(2); uapi/linux/ptrace.h). */
import { Reg } from "../../../emulator/cpu.ts";
import { argumentsOf, auditArch } from "../audit-arch.ts";
import { MAX_ERRNO } from "../errno.ts";
import { Signal } from "../signals/numbers.ts";
import { Event } from "./numbers.ts";
import { SyscallMessage, type Tracee } from "./tracee.ts";

const Op = { none: 0, entry: 1, exit: 2, seccomp: 3 } as const;
const At = { op: 0, arch: 4, ip: 8, sp: 16, body: 24 } as const;
const ARGUMENTS = 6;
/** How much of the struct each kind fills. */
const SIZES = { none: 24, entry: 80, exit: 33, seccomp: 84 } as const;

function opOf({ stop, message }: Tracee): keyof typeof Op {
  const code = stop?.info?.code;
  if (code === (Signal.SIGTRAP | (Event.seccomp << 8))) return "seccomp";
  if (code !== (Signal.SIGTRAP | 0x80)) return "none";
  return message === SyscallMessage.entry ? "entry" : "exit";
}

/** The struct for the tracee that is in the CPU. */
export function syscallInfo(tracee: Tracee): Uint8Array {
  const { task } = tracee;
  const { cpu, abi } = task;
  const op = opOf(tracee);
  const bytes = new Uint8Array(SIZES[op]);
  const view = new DataView(bytes.buffer);
  view.setUint8(At.op, Op[op]);
  view.setUint32(At.arch, auditArch(abi), true);
  view.setBigUint64(At.ip, cpu.regBig(Reg.rip), true);
  view.setBigUint64(At.sp, cpu.regBig(Reg.rsp), true);
  if (op === "exit") {
    const result = abi.word === 8 ? cpu.regBig(Reg.rax) : BigInt.asUintN(64, BigInt(cpu.regLow(Reg.rax) | 0));
    const isError = result >= (1n << 64n) - BigInt(MAX_ERRNO);
    view.setBigUint64(At.body, isError ? result : cpu.regBig(Reg.rax), true);
    view.setUint8(At.body + 8, isError ? 1 : 0);
  } else if (op !== "none") {
    view.setBigInt64(At.body, BigInt(tracee.orig), true);
    const args = argumentsOf(task);
    for (let index = 0; index < ARGUMENTS; index++) view.setBigUint64(At.body + 8 + 8 * index, args[index] ?? 0n, true);
    if (op === "seccomp") view.setUint32(At.body + 56, tracee.stop?.seccompData ?? 0, true);
  }
  return bytes;
}
