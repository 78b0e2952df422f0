/** Runs code of trusted applications: entry, TLS, the run loop, dispatch of system calls, panics. */
import { type CpuContext, Reg, StopKind } from "../../emulator/cpu.ts";
import { gdtLayouts } from "../../emulator/descriptors.ts";
import { MemoryFault } from "../../emulator/errors.ts";
import type { Machine } from "../../emulator/machine.ts";
import type { Gate } from "../../providers/gate.ts";
import type { LedgerRecord } from "../../providers/ledger.ts";
import type { Call } from "./call.ts";
import { CallTracer } from "./call-trace.ts";
import type { TeeClock } from "./clock.ts";
import type { TeeWatcher } from "./events.ts";
import type { Instance } from "./instance.ts";
import { describeSetter, type PanicReport } from "./panic.ts";
import { TeeError, Tee as TeeResult } from "./results.ts";
import { argumentRegisters, type CallTable, type Leave } from "./table.ts";
import type { Watchdog } from "./watchdog.ts";

/** IF and the bit that is always set. */
const RFLAGS_START = 0x202;
/** What FNINIT and a reset leave in the control words (SDM vol. 1, 8.1.5 and 10.2.3). */
const FCW_INIT = 0x37f;
const MXCSR_INIT = 0x1f80;
const PAGE_FAULT = 14;
const INSTRUCTION_MAX = 15;
/** `jmp` to itself: where TAs built by LiteBox' tools end when the stack protector finds damage. */
const JUMP_TO_SELF: readonly number[] = [0xeb, 0xfe];

/** Registers of an entry; all others are zero. */
export interface Start {
  readonly rip: number;
  readonly rsp: number;
  readonly rdi: number;
  readonly rsi?: number;
  readonly rdx?: number;
  readonly rcx?: number;
}

export type Ended =
  | { readonly kind: "returned"; readonly value: bigint }
  | { readonly kind: "panicked"; readonly report: PanicReport };

export interface UserModeParts {
  readonly machine: Machine;
  readonly gate: Gate;
  readonly clock: TeeClock;
  readonly watchdog: Watchdog;
  readonly watch: TeeWatcher | undefined;
}

/** What a TA that waits keeps. */
interface Frame {
  readonly instance: Instance;
  readonly registers: readonly bigint[];
  readonly fpu: Uint8Array;
}

function initialFpu(): Uint8Array {
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, FCW_INIT, true);
  view.setUint32(24, MXCSR_INIT, true);
  return bytes;
}

export class UserMode {
  readonly #machine: Machine;
  readonly #gate: Gate;
  readonly #clock: TeeClock;
  readonly #watchdog: Watchdog;
  readonly #tracer: CallTracer | undefined;
  readonly #fpu = initialFpu();
  readonly #stopListening: () => void;
  #lastFsChange: LedgerRecord | undefined;
  /** The CPU as it is while no TA is in it. */
  readonly #idle: CpuContext;
  #current: Instance | undefined;
  /** Why the TA that a nested entry returned to has no TLS. */
  #tlsLost: string | undefined;
  #depth = 0;

  constructor(parts: UserModeParts) {
    this.#machine = parts.machine;
    this.#gate = parts.gate;
    this.#clock = parts.clock;
    this.#watchdog = parts.watchdog;
    this.#tracer = parts.watch === undefined ? undefined : new CallTracer(parts.machine.cpu, parts.watch);
    this.#idle = parts.machine.cpu.saveContext();
    this.#stopListening = parts.gate.ledger.subscribe((record) => {
      if (record.after.fsBase !== record.before.fsBase || record.request.kind === "SetFsBase")
        this.#lastFsChange = record;
    });
  }

  /** TAs that wait for others below the one that runs. */
  get depth(): number {
    return this.#depth;
  }

  /**
   * Enters code of an instance and runs it until it gives control back. What was in the CPU is there again afterwards,
   * with its own TLS.
   * @param entry how the ledger calls what makes this entry necessary
   * @param tls whether FS base is to be the instance's: ldelf runs before there is one
   */
  enter(call: Call, start: Start, table: CallTable, entry: string, tls = true): Ended {
    const { instance } = call;
    const outer = this.#current === undefined ? undefined : this.#saveFrame(this.#current);
    this.#current = instance;
    this.#depth++;
    if (outer === undefined) this.#watchdog.begin();
    try {
      this.#machine.activate(instance.memory.space);
      // Nothing of the world before is left in the CPU, above all not its FS base.
      this.#machine.cpu.restoreContext(this.#idle);
      this.#setRegisters(start);
      if (tls) {
        const refused = this.#restoreTls(instance, entry);
        if (refused !== undefined) return this.#panic(instance, refused, undefined);
      }
      return this.#run(call, table);
    } finally {
      this.#depth--;
      this.#current = outer?.instance;
      this.#machine.cpu.restoreContext(this.#idle);
      if (outer !== undefined) this.#restoreFrame(outer, entry);
    }
  }

  /** A TA that waits for another keeps what a kernel keeps of it: the registers and the FPU, not FS base. */
  #saveFrame(instance: Instance): Frame {
    const { cpu } = this.#machine;
    const registers: bigint[] = [];
    for (let register: number = Reg.rax; register <= Reg.rflags; register++) registers.push(cpu.regBig(register));
    return { instance, registers, fpu: cpu.fxsave() };
  }

  #restoreFrame(frame: Frame, entry: string): void {
    const { cpu } = this.#machine;
    this.#machine.activate(frame.instance.memory.space);
    this.#enterRing3();
    frame.registers.forEach((value, register) => {
      cpu.setRegBig(register, value);
    });
    cpu.fxrstor(frame.fpu);
    this.#tlsLost ??= this.#restoreTls(frame.instance, `return from ${entry}`);
    this.#gate.goesOn(frame.instance.id);
  }

  /** Gives FS the base of an instance, through a token. A sentence when that did not happen. */
  #restoreTls(instance: Instance, entry: string): string | undefined {
    const { cpu } = this.#machine;
    const pc = cpu.regBig(Reg.rip);
    const { symbol } = instance.locate(Number(pc));
    const address = BigInt(instance.tls.base);
    const outcome = this.#gate.punchThrough(
      { kind: "SetFsBase", address },
      { thread: instance.id, pc, symbol, call: entry },
    );
    switch (outcome.kind) {
      case "ok":
        return undefined;
      case "denied":
        return `its TLS was not restored: denied by ${outcome.rule}`;
      case "failure":
        return `its TLS was not restored: provider ${this.#gate.provider} failed with errno ${outcome.errno}`;
      case "unimplemented":
        return `its TLS was not restored: provider ${this.#gate.provider} has not implemented ${outcome.name}`;
      case "unsupported":
        return `its TLS was not restored: provider ${this.#gate.provider} does not support it`;
    }
  }

  close(): void {
    this.#stopListening();
  }

  #setRegisters(start: Start): void {
    const { cpu } = this.#machine;
    for (let register: number = Reg.rax; register <= Reg.r15; register++) cpu.setReg(register, 0);
    cpu.setReg(Reg.rip, start.rip);
    cpu.setReg(Reg.rsp, start.rsp);
    cpu.setReg(Reg.rdi, start.rdi);
    cpu.setReg(Reg.rsi, start.rsi ?? 0);
    cpu.setReg(Reg.rdx, start.rdx ?? 0);
    cpu.setReg(Reg.rcx, start.rcx ?? 0);
    cpu.setReg(Reg.rflags, RFLAGS_START);
    this.#enterRing3();
    cpu.fxrstor(this.#fpu);
  }

  #enterRing3(): void {
    const { userCs32, userCs64 = userCs32, userDs } = gdtLayouts.x86_64;
    this.#machine.cpu.enterUser(true, userCs64, userDs);
  }

  #run(call: Call, table: CallTable): Ended {
    const { cpu } = this.#machine;
    const { instance } = call;
    this.#gate.goesOn(instance.id);
    for (;;) {
      switch (cpu.run()) {
        case StopKind.syscall: {
          if (!cpu.wide) return this.#panic(instance, "invalid instruction: syscall in 32-bit code", undefined);
          const left = this.#dispatch(call, table);
          if (this.#tlsLost !== undefined) {
            const lost = this.#tlsLost;
            this.#tlsLost = undefined;
            return this.#panic(instance, lost, undefined);
          }
          if (left?.kind === "return") return { kind: "returned", value: left.value };
          if (left?.kind === "panic")
            return this.#panic(instance, `panic with code 0x${left.code.toString(16)}`, left.code);
          break;
        }
        case StopKind.exception: {
          const reason = this.#exception(instance);
          if (reason !== undefined) return this.#panic(instance, reason, undefined);
          break;
        }
        case StopKind.int80:
        case StopKind.sysenter:
          return this.#panic(instance, "a system call of another system (int 0x80 or sysenter)", undefined);
        case StopKind.budget:
        case StopKind.interrupted: {
          const late = this.#watchdog.look();
          if (this.#jumpsToSelf(instance))
            return this.#panic(
              instance,
              "an endless jump to itself, where a stack protector's failure ends",
              undefined,
            );
          if (late) return this.#panic(instance, "it did not come back in time", undefined);
        }
      }
    }
  }

  #dispatch(call: Call, table: CallTable): Leave | undefined {
    const { cpu } = this.#machine;
    const number = cpu.reg(Reg.rax);
    const row = table.row(number);
    this.#clock.tick();
    this.#tracer?.enter(call, table, number, row);
    let answer: number | Leave;
    let reason: string | undefined;
    if (row === undefined) {
      answer = TeeResult.ERROR_NOT_SUPPORTED;
      reason = "there is no such call";
    } else {
      try {
        answer = row.handler(call, ...this.#arguments(row.args));
      } catch (error) {
        if (error instanceof TeeError) {
          answer = error.result;
          reason = error.message === "" ? undefined : error.message;
        } else if (error instanceof MemoryFault) {
          answer = TeeResult.ERROR_ACCESS_DENIED;
          reason = error.message;
        } else throw error;
      }
    }
    if (typeof answer !== "number") {
      this.#tracer?.leave(call, undefined, undefined);
      return answer;
    }
    this.#tracer?.leave(call, answer, reason);
    cpu.setReg(Reg.rax, answer);
    return undefined;
  }

  #arguments(args: readonly { readonly kind: { readonly shape: string } }[]): number[] {
    const { cpu } = this.#machine;
    const values: number[] = [];
    for (let index = 0; index < args.length; index++) {
      const register = argumentRegisters[index] ?? 0;
      switch (args[index]?.kind.shape) {
        case "i32":
          values.push(cpu.regLow(register) | 0);
          break;
        case "u32":
          values.push(cpu.regLow(register));
          break;
        default:
          values.push(cpu.reg(register));
      }
    }
    return values;
  }

  /** A sentence when the code cannot go on. */
  #exception(instance: Instance): string | undefined {
    const { cpu } = this.#machine;
    const vector = cpu.stopVector;
    if (vector !== PAGE_FAULT) return `${exceptionNames[vector] ?? `exception ${vector}`}`;
    const address = cpu.stopAddress;
    const access = cpu.stopAccess;
    const page = instance.memory.space.resolve(address, access);
    if (page === "ok") return undefined;
    const why = {
      unmapped: "nothing is mapped there",
      protection: "its mapping does not allow that",
      bus: "its memory is gone",
      memory: "there is no memory left",
    }[page];
    const doing = { read: "reading", write: "writing", fetch: "executing" }[access];
    return `page fault ${doing} 0x${address.toString(16)} (${why})`;
  }

  #jumpsToSelf(instance: Instance): boolean {
    const bytes = new Uint8Array(JUMP_TO_SELF.length);
    const read = instance.memory.guest.readSome(this.#machine.cpu.reg(Reg.rip), bytes);
    return read === bytes.length && bytes.every((byte, index) => byte === JUMP_TO_SELF[index]);
  }

  #panic(instance: Instance, reason: string, code: number | undefined): Ended {
    const { cpu } = this.#machine;
    const pc = cpu.reg(Reg.rip);
    const { offset, symbol } = instance.locate(pc);
    const asked = this.#gate.punchThrough(
      { kind: "GetFsBase" },
      { thread: instance.id, pc: cpu.regBig(Reg.rip), symbol, call: "panic" },
    );
    const fsBase = asked.kind === "ok" ? asked.value : undefined;
    const window = new Uint8Array(INSTRUCTION_MAX);
    const report: PanicReport = {
      uuid: instance.uuid,
      instance: instance.id,
      reason,
      code,
      pc,
      offset,
      symbol,
      bytes: window.subarray(0, instance.memory.guest.readSome(pc, window)),
      fsBase,
      fsExpected: BigInt(instance.tls.base),
      fsSetBy: describeSetter(this.#lastFsChange, fsBase),
    };
    return { kind: "panicked", report };
  }
}

/** Intel SDM vol. 3, table 6-1. */
const exceptionNames: Readonly<Record<number, string>> = {
  0: "division by zero",
  1: "single step",
  3: "breakpoint",
  4: "overflow",
  5: "bound range exceeded",
  6: "invalid instruction",
  7: "no coprocessor",
  11: "segment not present",
  12: "stack segment fault",
  13: "general protection fault",
  16: "x87 exception",
  17: "alignment check",
  19: "SIMD exception",
};
