/** Runs code of trusted applications: entry, TLS, the run loop, dispatch of system calls, panics. */
import { type CpuContext, Reg, StopKind } from "../../emulator/cpu.ts";
import type { Machine } from "../../emulator/machine.ts";
import { Vector } from "../../emulator/x86.ts";
import type { Gate } from "../../providers/gate.ts";
import { type HostEventKind, type HostEvents, strike } from "../../providers/host-events.ts";
import type { LedgerRecord } from "../../providers/ledger.ts";
import type { Call } from "./call.ts";
import type { TeeClock } from "./clock.ts";
import { Dispatcher, type InjectCall } from "./dispatch.ts";
import type { TeeWatcher } from "./events.ts";
import { exceptionText, pageFaultText } from "./faults.ts";
import type { Instance } from "./instance.ts";
import { describeSetter, type PanicReport } from "./panic.ts";
import { restoreRegisters, type SavedRegisters, type Start, saveRegisters, startRegisters } from "./registers.ts";
import type { CallTable } from "./table.ts";
import type { Watchdog } from "./watchdog.ts";

const INSTRUCTION_MAX = 15;
/** `jmp` to itself: where TAs built by LiteBox' tools end when the stack protector finds damage. */
const JUMP_TO_SELF: readonly number[] = [0xeb, 0xfe];

/** A TA that waits for the one that runs. */
interface Outer {
  readonly instance: Instance;
  readonly registers: SavedRegisters;
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
  /** What the host does of its own while TAs run. */
  readonly hostEvents: HostEvents | undefined;
  readonly injectCall: InjectCall | undefined;
}

export class UserMode {
  readonly #machine: Machine;
  readonly #gate: Gate;
  readonly #watchdog: Watchdog;
  readonly #dispatcher: Dispatcher;
  readonly #hostEvents: HostEvents | undefined;
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
    this.#watchdog = parts.watchdog;
    this.#hostEvents = parts.hostEvents;
    this.#dispatcher = new Dispatcher(parts.machine.cpu, parts.clock, parts.watch, parts.injectCall);
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
    const { cpu } = this.#machine;
    const outer = this.#current === undefined ? undefined : { instance: this.#current, registers: saveRegisters(cpu) };
    this.#current = instance;
    this.#depth++;
    if (outer === undefined) this.#watchdog.begin();
    // The platform keeps no TLS of one that waits: it comes back by a token or not at all.
    else this.#gate.lifecycle?.threadExit(outer.instance.id);
    try {
      this.#machine.activate(instance.memory.space);
      // Nothing of the world before is left in the CPU, above all not its FS base.
      cpu.restoreContext(this.#idle);
      startRegisters(cpu, start);
      this.#gate.lifecycle?.attach(instance.id);
      if (tls) {
        const refused = this.#restoreTls(instance, entry);
        if (refused !== undefined) return this.#panic(instance, refused, undefined);
      }
      return this.#run(call, table);
    } finally {
      const { lifecycle } = this.#gate;
      // Back to the normal world, or to the TA that waits. The next entry is a thread of its own for the platform.
      lifecycle?.leaveGuest(instance.id, outer === undefined ? "vtl" : "switch");
      lifecycle?.threadExit(instance.id);
      this.#depth--;
      this.#current = outer?.instance;
      cpu.restoreContext(this.#idle);
      if (outer !== undefined) this.#goBack(outer, entry);
    }
  }

  #goBack(outer: Outer, entry: string): void {
    this.#machine.activate(outer.instance.memory.space);
    restoreRegisters(this.#machine.cpu, outer.registers);
    this.#gate.lifecycle?.attach(outer.instance.id);
    this.#tlsLost ??= this.#restoreTls(outer.instance, `return from ${entry}`);
    this.#gate.goesOn(outer.instance.id);
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
        // LiteBox drops this result (litebox_shim_optee/src/lib.rs:790-804).
        if (this.#gate.asLitebox) return undefined;
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

  #run(call: Call, table: CallTable): Ended {
    const { cpu } = this.#machine;
    const { instance } = call;
    const { lifecycle } = this.#gate;
    this.#gate.goesOn(instance.id);
    for (;;) {
      lifecycle?.enterGuest(instance.id);
      const budget = this.#hostEvents?.blocksLeft ?? Number.POSITIVE_INFINITY;
      const kind = budget === Number.POSITIVE_INFINITY ? cpu.run() : cpu.run(budget);
      const event = budget === Number.POSITIVE_INFINITY ? undefined : this.#hostEvents?.ran(budget - cpu.budgetLeft);
      if (kind <= StopKind.sysenter) lifecycle?.leaveGuest(instance.id, "syscall");
      let reason: string | undefined;
      switch (kind) {
        case StopKind.syscall: {
          if (!cpu.wide) return this.#panic(instance, "invalid instruction: syscall in 32-bit code", undefined);
          const left = this.#dispatcher.dispatch(call, table);
          if (left?.kind === "return") return { kind: "returned", value: left.value };
          if (left?.kind === "panic")
            return this.#panic(instance, `panic with code 0x${left.code.toString(16)}`, left.code);
          reason = this.#tlsLost;
          this.#tlsLost = undefined;
          break;
        }
        case StopKind.exception:
          reason = this.#exception(instance);
          break;
        case StopKind.int80:
        case StopKind.sysenter:
          reason = "a system call of another system (int 0x80 or sysenter)";
          break;
        case StopKind.budget:
          if (event !== undefined) reason = this.#strike(instance, event);
          break;
        case StopKind.interrupted:
          reason = this.#interrupted(instance);
      }
      if (reason !== undefined) return this.#panic(instance, reason, undefined);
    }
  }

  /** The host does something of its own. A switch of the trust level costs FS base, which the shim puts back. */
  #strike(instance: Instance, event: HostEventKind): string | undefined {
    const { lifecycle } = this.#gate;
    if (event !== "vtl") {
      strike(lifecycle, instance.id, event);
      return undefined;
    }
    lifecycle?.leaveGuest(instance.id, "vtl");
    const refused = this.#restoreTls(instance, "VTL switch");
    this.#gate.goesOn(instance.id);
    return refused;
  }

  /** Somebody looks whether the code still gets anywhere. */
  #interrupted(instance: Instance): string | undefined {
    this.#gate.lifecycle?.leaveGuest(instance.id, "interrupt");
    const late = this.#watchdog.look();
    if (this.#jumpsToSelf(instance)) return "an endless jump to itself, where a stack protector's failure ends";
    return late ? "it did not come back in time" : undefined;
  }

  /** A sentence when the code cannot go on. */
  #exception(instance: Instance): string | undefined {
    const { cpu } = this.#machine;
    const { lifecycle } = this.#gate;
    const vector = cpu.stopVector;
    const address = cpu.stopAddress;
    const access = cpu.stopAccess;
    const page = vector === Vector.PF ? instance.memory.space.resolve(address, access) : undefined;
    if (page === "ok") return undefined;
    lifecycle?.leaveGuest(instance.id, "exception");
    if (lifecycle?.retries(instance.id, vector)) return undefined;
    return page === undefined ? exceptionText(vector) : pageFaultText(access, address, page);
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
