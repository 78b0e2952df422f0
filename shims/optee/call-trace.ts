/** Makes events of system calls, with the arguments as text. */
import type { Cpu } from "../../emulator/cpu.ts";
import type { Call } from "./call.ts";
import type { TeeWatcher } from "./events.ts";
import type { PrintContext } from "./kinds.ts";
import { argumentRegisters, type CallTable, type Row } from "./table.ts";

interface Open {
  readonly table: string;
  readonly number: number;
  readonly row: Row | undefined;
  readonly values: readonly number[];
  readonly exact: readonly bigint[];
  /** What prints on entry; the others follow. */
  readonly texts: (string | undefined)[];
}

/** Calls nest when a TA calls another, so the open ones form a stack. */
export class CallTracer {
  readonly #cpu: Cpu;
  readonly #watch: TeeWatcher;
  readonly #open: Open[] = [];

  constructor(cpu: Cpu, watch: TeeWatcher) {
    this.#cpu = cpu;
    this.#watch = watch;
  }

  enter(call: Call, table: CallTable, number: number, row: Row | undefined): void {
    const args = row?.args ?? [];
    const exact = args.map((_, index) => this.#cpu.regBig(argumentRegisters[index] ?? 0));
    const values = args.map(({ kind }, index) => {
      const wide = exact[index] ?? 0n;
      if (kind.shape === "i32") return Number(BigInt.asIntN(32, wide));
      return Number(kind.shape === "u32" ? BigInt.asUintN(32, wide) : wide);
    });
    const open: Open = { table: table.prefix, number, row, values, exact, texts: [] };
    this.#open.push(open);
    args.forEach(({ kind }, index) => {
      open.texts.push(kind.moment === "entry" ? this.#print(call, open, index) : undefined);
    });
  }

  leave(call: Call, result: number | undefined, reason: string | undefined): void {
    const open = this.#open.pop();
    if (open === undefined) return;
    const args = (open.row?.args ?? []).map(({ name }, index) => ({
      name,
      text: open.texts[index] ?? this.#print(call, open, index),
    }));
    this.#watch({
      kind: "call",
      instance: call.instance.id,
      uuid: call.instance.uuid,
      table: open.table,
      number: open.number,
      name: open.row?.name ?? `syscall_${open.number}`,
      args,
      result,
      reason,
    });
  }

  #print(call: Call, open: Open, index: number): string {
    const at: PrintContext = { memory: call.memory, args: open.values, exact: open.exact[index] ?? 0n };
    return open.row?.args[index]?.kind.print(open.values[index] ?? 0, at) ?? "";
  }
}
