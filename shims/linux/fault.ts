/** Exceptions of the guest that nobody handles: which signal Linux makes of them, and the report the user gets. */
import { Reg } from "../../emulator/cpu.ts";
import { MemoryFault } from "../../emulator/errors.ts";
import { Vector } from "../../emulator/x86.ts";
import { Signal } from "./signals/numbers.ts";
import type { Fault } from "./signals/signal-port.ts";
import type { Task } from "./task.ts";

type SignalName = "SIGILL" | "SIGTRAP" | "SIGBUS" | "SIGFPE" | "SIGKILL" | "SIGSEGV";

const EXCEPTIONS: Readonly<Record<number, readonly [string, SignalName]>> = {
  0: ["divide error", "SIGFPE"],
  1: ["debug exception", "SIGTRAP"],
  3: ["breakpoint", "SIGTRAP"],
  4: ["overflow", "SIGSEGV"],
  5: ["bound range exceeded", "SIGSEGV"],
  6: ["invalid instruction", "SIGILL"],
  7: ["no floating-point unit", "SIGSEGV"],
  10: ["invalid task state segment", "SIGSEGV"],
  11: ["segment not present", "SIGBUS"],
  12: ["stack segment fault", "SIGBUS"],
  13: ["general protection fault", "SIGSEGV"],
  14: ["page fault", "SIGSEGV"],
  16: ["x87 floating-point exception", "SIGFPE"],
  17: ["misaligned access", "SIGBUS"],
  19: ["SSE floating-point exception", "SIGFPE"],
};

/** The signal Linux sends for an exception (arch/x86/kernel/traps.c, mm/fault.c). */
function signalOf(fault: Fault): { readonly number: number; readonly name: SignalName } {
  let name: SignalName = EXCEPTIONS[fault.vector]?.[1] ?? "SIGSEGV";
  if (fault.vector === Vector.PF && fault.page === "bus") name = "SIGBUS";
  if (fault.vector === Vector.PF && fault.page === "memory") name = "SIGKILL";
  return { number: Signal[name], name };
}

const WHY = {
  unmapped: "nothing is mapped there",
  protection: "the mapping forbids it",
  bus: "the file behind the mapping ends before",
  memory: "guest memory has run out",
};

function what(fault: Fault): string {
  const name = EXCEPTIONS[fault.vector]?.[0] ?? `exception ${fault.vector}`;
  if (fault.vector !== Vector.PF)
    return fault.errorCode === 0 ? name : `${name}, error code 0x${fault.errorCode.toString(16)}`;
  const doing = { read: "reading", write: "writing", fetch: "executing" }[fault.access];
  return `${name} ${doing} 0x${(fault.exactAddress ?? fault.address).toString(16)}: ${WHY[fault.page ?? "unmapped"]}`;
}

/** Text of the instruction at `address`, for the report; undefined where no disassembler was given or the bytes are none. */
export type Disassemble = (bytes: Uint8Array, address: bigint, wide: boolean) => string | undefined;

/** The short report on a fault of the task in the CPU: lines without line ends. */
export function faultReport(task: Task, fault: Fault, disassemble?: Disassemble): string[] {
  const { cpu, process, kernel } = task;
  const pc = cpu.reg(Reg.rip);
  const signal = signalOf(fault);
  const lines = [`${process.exe} (process ${process.pid}, thread ${task.tid}) got ${signal.name}: ${what(fault)}`];
  const region = process.space.regionAt(pc);
  const place = region?.backing?.name
    ? ` in ${region.backing.name} at offset 0x${(pc - region.start + region.offset).toString(16)}`
    : "";
  lines.push(`  at 0x${cpu.regBig(Reg.rip).toString(16)}${place}: ${instruction(task, pc, disassemble)}`);
  const tls = kernel.gate.state(task.tid);
  lines.push(
    `  FS base 0x${tls.fsBase.toString(16)} (selector 0x${tls.fs.toString(16)}), ` +
      `GS base 0x${tls.gsBase.toString(16)} (selector 0x${tls.gs.toString(16)})`,
  );
  const last = kernel.gate.ledger.records().findLast((r) => r.thread === task.tid && r.request.kind.startsWith("Set"));
  if (last !== undefined) {
    lines.push(
      `  TLS last set by ${last.call} at 0x${last.pc.toString(16)} (${last.request.kind}, ledger entry ${last.sequence})`,
    );
  }
  return lines;
}

function instruction(task: Task, pc: number, disassemble: Disassemble | undefined): string {
  const bytes = new Uint8Array(15);
  let length = 0;
  try {
    length = task.memory.readSome(pc, bytes);
  } catch (error) {
    if (!(error instanceof MemoryFault)) throw error;
  }
  if (length === 0) return "no readable instruction";
  const code = bytes.subarray(0, length);
  const text = disassemble?.(code, BigInt(pc), task.cpu.wide);
  return (
    text ??
    `bytes ${Buffer.from(code)
      .toString("hex")
      .replace(/(..)(?=.)/g, "$1 ")}`
  );
}
