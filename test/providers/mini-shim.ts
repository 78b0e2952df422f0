import { Reg, StopKind } from "../../emulator/cpu.ts";
import { readUserDesc, type UserDesc } from "../../emulator/descriptors.ts";
import { MemoryFault } from "../../emulator/errors.ts";
import { type AssembledGate, assembleGate, type GateAssembly } from "../../providers/assembly.ts";
import type { Finding } from "../../providers/findings.ts";
import type { Gate } from "../../providers/gate.ts";
import { type HostEventMode, HostEvents, strike } from "../../providers/host-events.ts";
import { parseInjectRule } from "../../providers/inject-rule.ts";
import { HostPanic, type LeaveReason, type Lifecycle } from "../../providers/lifecycle.ts";
import type { Policy } from "../../providers/policy.ts";
import { type ProviderOptions, providerInfos } from "../../providers/registry.ts";
import type { Outcome, Request } from "../../providers/requests.ts";
import { type Bits, close, type Guest, guestOf, STACK } from "../emulator/guest.ts";

/**
 * Calls of the smallest shim that has every event of a life cycle: number in (R|E)AX, arguments in RDI, RSI (EBX, ECX), by
 * `syscall` or `int 0x80`.
 */
export const Call = {
  exit: 1,
  /** A value for the test. */
  report: 2,
  setFsBase: 3,
  getFsBase: 4,
  setGsBase: 5,
  setThreadArea: 6,
  /** (entry, tls): a thread there, on a stack of its own; tls 0 is a clone without SETTLS, on i386 it points to a user_desc. */
  spawn: 7,
  /** Goes on at the address given as another program does after execve. */
  exec: 8,
  yield: 9,
  /** Starts a handler there, which ends by `sigreturn`. */
  signal: 10,
  sigreturn: 11,
  /** To the normal world and back, from a trusted application's exit. */
  world: 12,
  /** An interrupt of the host strikes after the next block. */
  interrupt: 13,
  /** The host reschedules the thread, likewise. */
  reschedule: 14,
  /** A call that does nothing. */
  nothing: 15,
} as const;

/** `mov eax, number; syscall` with up to two arguments in registers or numbers. */
export function call(bits: Bits, number: number, first = "", second = ""): string {
  const [a, b] = bits === 64 ? ["rdi", "rsi"] : ["ebx", "ecx"];
  const move = (to: string, from: string): string => (from === "" || from === to ? "" : `mov ${to}, ${from}\n`);
  return `${move(a, first)}${move(b, second)}mov eax, ${number}\n${bits === 64 ? "syscall" : "int 0x80"}\n`;
}

interface Thread {
  id: number;
  context: ReturnType<Guest["cpu"]["saveContext"]> | undefined;
  handler: ReturnType<Guest["cpu"]["saveContext"]> | undefined;
}

export interface MiniOptions extends ProviderOptions {
  readonly provider?: string;
  readonly hostEvents?: HostEventMode;
  readonly seed?: number;
  /** Rules of faults to inject. */
  readonly inject?: readonly string[];
  readonly policy?: Policy;
}

export interface MiniRun {
  readonly reports: bigint[];
  /** Of the thread that died, or `exit`. */
  readonly end: string;
  readonly gate: Gate;
  readonly findings: readonly Finding[];
  /** What there was to inject faults into. */
  readonly counts: ReadonlyMap<string, number>;
}

/** Runs a guest to its end under a provider. */
export function runMini(bits: Bits, source: string, options: MiniOptions = {}): MiniRun {
  const guest = guestOf(bits, source);
  try {
    return new MiniShim(guest, options).run();
  } finally {
    close(guest);
  }
}

export function worldOf({ space, bits }: Guest): NonNullable<GateAssembly["world"]> {
  const { memory } = space;
  return {
    wide: () => bits === 64,
    process: () => space,
    mappingAt: (_, address) => {
      const region = space.regionAt(Number(address));
      return region === undefined ? undefined : (region.backing?.name ?? "");
    },
    word: (_, address, bytes) => {
      try {
        return bytes === 8 ? memory.u64(Number(address)) : BigInt(memory.u32(Number(address)));
      } catch (error) {
        if (error instanceof MemoryFault) return undefined;
        throw error;
      }
    },
    poke: (_, address, value, bytes) => {
      const image = new Uint8Array(8);
      new DataView(image.buffer).setBigUint64(0, value, true);
      return memory.writeSome(Number(address), image.subarray(0, bytes)) === bytes;
    },
  };
}

class MiniShim {
  readonly gate: Gate;
  readonly #assembled: AssembledGate;
  readonly #guest: Guest;
  readonly #lifecycle: Lifecycle | undefined;
  readonly #events: HostEvents;
  readonly #threads: Thread[] = [];
  readonly #reports: bigint[] = [];
  #current: Thread = { id: 1, context: undefined, handler: undefined };
  #lastId = 1;
  /** An event to strike after the next block. */
  #next: "interrupt" | "reschedule" | undefined;

  constructor(guest: Guest, options: MiniOptions) {
    this.#guest = guest;
    const abi = guest.bits === 64 ? "x86_64" : "i386";
    const platform = { cpu: guest.cpu, layout: "x86_64" } as const;
    const name = options.provider ?? "direct";
    this.#assembled = assembleGate({
      ...options,
      abi,
      platform,
      provider: name,
      inject: (options.inject ?? []).map((rule) => parseInjectRule(rule)),
      audit: true,
      world: worldOf(guest),
    });
    this.gate = this.#assembled.gate;
    this.#lifecycle = this.gate.lifecycle;
    const kinds = providerInfos.find((info) => info.name === name)?.hostEvents ?? [];
    this.#events = new HostEvents(options.hostEvents ?? "none", options.seed ?? 1, kinds);
    this.#threads.push(this.#current);
    this.#punch({ kind: "ClearTls" }, "execve");
  }

  run(): MiniRun {
    let end: string;
    try {
      end = this.#loop();
    } catch (error) {
      if (!(error instanceof HostPanic)) throw error;
      end = `panic: ${error.message}`;
    }
    const { findings, injector } = this.#assembled;
    return {
      reports: this.#reports,
      end,
      gate: this.gate,
      findings: findings?.list ?? [],
      counts: injector?.counts ?? new Map(),
    };
  }

  #loop(): string {
    const { cpu } = this.#guest;
    for (let steps = 0; steps < 20_000; steps++) {
      const { id } = this.#current;
      const budget = this.#next === undefined ? this.#events.blocksLeft : 1;
      this.#enter();
      const finite = budget !== Number.POSITIVE_INFINITY;
      const kind = finite ? cpu.run(budget) : cpu.run();
      const event = finite ? this.#events.ran(budget - Math.max(cpu.budgetLeft, 0)) : undefined;
      if (kind === StopKind.budget) {
        const strikes = this.#next ?? event;
        this.#next = undefined;
        if (strikes !== undefined) strike(this.#lifecycle, id, strikes);
        continue;
      }
      if (kind === StopKind.exception) {
        const end = this.#exception();
        if (end !== undefined) return end;
        continue;
      }
      this.#leave("syscall");
      if (this.#call(cpu.regLow(Reg.rax))) continue;
      this.#lifecycle?.threadExit(id);
      this.gate.goesOn(id);
      this.#threads.splice(this.#threads.indexOf(this.#current), 1);
      const next = this.#threads[0];
      if (next === undefined) return "exit";
      this.#load(next);
    }
    return "endless";
  }

  #inGuest = false;

  #enter(): void {
    if (this.#inGuest) return;
    this.gate.goesOn(this.#current.id);
    this.#lifecycle?.enterGuest(this.#current.id);
    this.#inGuest = true;
  }

  #leave(reason: LeaveReason): void {
    this.#lifecycle?.leaveGuest(this.#current.id, reason);
    this.#inGuest = false;
  }

  #exception(): string | undefined {
    const { cpu, space } = this.#guest;
    const { stopVector: vector, stopAddress: address, stopAccess: access } = cpu;
    if (vector === 14 && space.resolve(address, access) === "ok") return undefined;
    this.#leave("exception");
    if (this.#lifecycle?.retries(this.#current.id, vector)) return undefined;
    if (vector === 6) {
      // `ud2` is the guest's way to an exception that a handler steps over.
      cpu.setReg(Reg.rip, cpu.reg(Reg.rip) + 2);
      return undefined;
    }
    return `exception ${vector}${vector === 14 ? ` at 0x${address.toString(16)}` : ""}`;
  }

  /** False when the thread has ended. */
  #call(number: number): boolean {
    const { cpu, bits, space } = this.#guest;
    const wide = bits === 64;
    const first = cpu.regBig(wide ? Reg.rdi : Reg.rbx);
    const second = cpu.regBig(wide ? Reg.rsi : Reg.rcx);
    let result = 0n;
    switch (number) {
      case Call.exit:
        return false;
      case Call.nothing:
        break;
      case Call.report:
        this.#reports.push(first);
        break;
      case Call.setFsBase:
        result = resultOf(this.#punch({ kind: "SetFsBase", address: first }, "arch_prctl"));
        break;
      case Call.getFsBase:
        result = resultOf(this.#punch({ kind: "GetFsBase" }, "arch_prctl"));
        break;
      case Call.setGsBase:
        result = resultOf(this.#punch({ kind: "SetGsBase", address: first }, "arch_prctl"));
        break;
      case Call.setThreadArea: {
        const desc = readUserDesc(space.memory, Number(first));
        const outcome = this.#punch({ kind: "SetThreadArea", desc }, "set_thread_area");
        if (outcome.kind === "ok" && desc.entry_number === -1 && outcome.desc !== undefined)
          space.memory.setU32(Number(first), outcome.desc.entry_number);
        result = resultOf(outcome);
        break;
      }
      case Call.spawn:
        cpu.setReg(Reg.rax, 0);
        this.#spawn(first, second);
        return true;
      case Call.exec:
        if (this.#punch({ kind: "ClearTls" }, "execve").kind !== "ok") return false;
        this.#lifecycle?.exec(this.#current.id, this.#current.id);
        cpu.setRegBig(Reg.rip, first);
        break;
      case Call.yield:
        this.#reenter();
        this.#leave("switch");
        this.#load(this.#threads[(this.#threads.indexOf(this.#current) + 1) % this.#threads.length] ?? this.#current);
        return true;
      case Call.signal:
        this.#current.handler = cpu.saveContext();
        cpu.setRegBig(Reg.rip, first);
        this.#lifecycle?.signal(this.#current.id);
        return true;
      case Call.sigreturn:
        this.#sigreturn();
        return true;
      case Call.world:
        this.#lifecycle?.leaveGuest(this.#current.id, "vtl");
        break;
      case Call.interrupt:
        this.#next = "interrupt";
        break;
      case Call.reschedule:
        this.#next = "reschedule";
        break;
      default:
        return false;
    }
    cpu.setRegBig(Reg.rax, result);
    return true;
  }

  /** A yield is a host's decision about a thread in the guest; the call that asked for it is over by then. */
  #reenter(): void {
    this.#guest.cpu.setReg(Reg.rax, 0);
    this.#enter();
  }

  #punch(request: Request, what: string): Outcome {
    const { cpu } = this.#guest;
    return this.gate.punchThrough(request, { thread: this.#current.id, pc: cpu.regBig(Reg.rip), call: what });
  }

  #load(thread: Thread): void {
    const { cpu } = this.#guest;
    if (thread === this.#current) return;
    this.#current.context = cpu.saveContext(this.#current.context);
    if (thread.context !== undefined) cpu.restoreContext(thread.context);
    this.#current = thread;
  }

  #spawn(entry: bigint, tls: bigint): void {
    const { cpu, bits, space } = this.#guest;
    const parent = this.#current;
    const child: Thread = { id: ++this.#lastId, context: undefined, handler: undefined };
    const desc: UserDesc | undefined = tls === 0n || bits === 64 ? undefined : readUserDesc(space.memory, Number(tls));
    this.#threads.push(child);
    // The child's context is the parent's, on the way out of the shim.
    parent.context = cpu.saveContext();
    this.#current = child;
    this.#lifecycle?.threadStart(child.id, parent.id, tls !== 0n);
    if (desc !== undefined) this.#punch({ kind: "SetThreadArea", desc }, "clone");
    else if (tls !== 0n) this.#punch({ kind: "SetFsBase", address: tls }, "clone");
    cpu.setRegBig(Reg.rip, entry);
    cpu.setReg(Reg.rsp, STACK - 0x1000 * (child.id - 1));
    this.#load(parent);
  }

  #sigreturn(): void {
    const { cpu } = this.#guest;
    const { handler } = this.#current;
    if (handler === undefined) return;
    // Registers come back; segments and bases are as the handler left them, but for a selector that differs.
    const gs = this.gate.guestCpu(this.#current.id).selector("gs");
    const keep = cpu.saveContext();
    cpu.restoreContext(handler);
    const registers = Array.from({ length: 17 }, (_, i) => cpu.regBig(i));
    cpu.restoreContext(keep);
    for (const [i, value] of registers.entries()) cpu.setRegBig(i, value);
    if (gs !== 0) this.#punch({ kind: "LoadSelectors", selectors: { gs } }, "sigreturn");
    this.#lifecycle?.sigreturn(this.#current.id);
  }
}

function resultOf(outcome: Outcome): bigint {
  if (outcome.kind === "ok") return outcome.value;
  return outcome.kind === "failure" ? -BigInt(outcome.errno) : -1000n;
}
