/** /proc/pid/syscall (proc_pid_syscall, lib/syscall.c): the call a thread is in, its arguments, its stack and where it goes on. */
import { Reg } from "../../../../emulator/cpu.ts";
import { inContextOf } from "../../ptrace/context.ts";
import type { Task } from "../../task.ts";

function line(task: Task): string {
  const { cpu, abi, callNumber } = task;
  const hex = (value: bigint): string => `0x${value.toString(16)}`;
  const width = abi.word * 8;
  const place = `${hex(cpu.regBig(Reg.rsp))} ${hex(cpu.regBig(Reg.rip))}`;
  if (task.wait?.pause === true || callNumber === -1) return `-1 ${place}\n`;
  const args = [...abi.args].map((register) => hex(BigInt.asUintN(width, cpu.regBig(register))));
  return `${callNumber} ${args.join(" ")} ${place}\n`;
}

export function syscallText(task: Task | undefined): string {
  const current = task?.kernel.current;
  if (task === undefined || current === undefined || task.dead) return "";
  if (task === current) return line(task);
  return task.wait === undefined ? "running\n" : inContextOf(current, task, () => line(task));
}
