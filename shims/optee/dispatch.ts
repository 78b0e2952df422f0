/** From a `syscall` of guest code to a handler and back: the one place where the calls of TAs and of ldelf are answered. */
import { type Cpu, Reg } from "../../emulator/cpu.ts";
import { MemoryFault } from "../../emulator/errors.ts";
import type { Call } from "./call.ts";
import { CallTracer } from "./call-trace.ts";
import type { TeeClock } from "./clock.ts";
import type { TeeWatcher } from "./events.ts";
import { TeeError, Tee as TeeResult } from "./results.ts";
import { argumentRegisters, type CallTable, type Leave } from "./table.ts";

/**
 * Asked before each call, by its name as the trace has it (`utee_get_time`): what it answers instead of being carried out, the
 * code of an error with a minus; undefined for nothing.
 */
export type InjectCall = (name: string) => number | undefined;

export class Dispatcher {
  readonly #cpu: Cpu;
  readonly #clock: TeeClock;
  readonly #tracer: CallTracer | undefined;
  readonly #inject: InjectCall | undefined;

  constructor(cpu: Cpu, clock: TeeClock, watch: TeeWatcher | undefined, inject: InjectCall | undefined) {
    this.#cpu = cpu;
    this.#clock = clock;
    this.#inject = inject;
    this.#tracer = watch === undefined ? undefined : new CallTracer(cpu, watch);
  }

  /** Answers the call whose arguments are in the registers. `Leave` when the code does not go on behind it. */
  dispatch(call: Call, table: CallTable): Leave | undefined {
    const cpu = this.#cpu;
    const number = cpu.reg(Reg.rax);
    const row = table.row(number);
    this.#clock.tick();
    this.#tracer?.enter(call, table, number, row);
    let answer: number | Leave;
    let reason: string | undefined;
    const injected = row === undefined ? undefined : this.#inject?.(`${table.prefix}_${row.name}`);
    if (injected !== undefined) {
      answer = Math.abs(injected);
      reason = "injected";
    } else if (row === undefined) {
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
    const cpu = this.#cpu;
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
}
