import { type CpuContext, Reg, StopKind } from "../../emulator/cpu.ts";
import { type AssembledGate, assembleGate } from "../../providers/assembly.ts";
import type { Finding } from "../../providers/findings.ts";
import { parseInjectRule } from "../../providers/inject-rule.ts";
import type { Outcome } from "../../providers/requests.ts";
import { CODE, close, DATA, enterUser, type Guest, guestOf, STACK } from "../emulator/guest.ts";
import { Call, call, worldOf } from "./mini-shim.ts";

/** Where the TLS of instances lies, and a page that none of them has. */
export const TLS = [DATA, DATA + 0x1000] as const;
const CANARY = 0x28;
const END = 99;

/**
 * An entry function as the x86 tool chain makes it: the canary is read at the start and compared at the end, with a system call
 * in between. It reports 0xbad where they differ.
 */
const TA = `
mov eax, ${CANARY}
mov rbx, fs:[rax]
${call(64, Call.nothing)}
mov eax, ${CANARY}
cmp rbx, fs:[rax]
jne smashed
mov eax, ${END}
syscall
smashed:
mov edi, 0xbad
${call(64, Call.report)}
mov eax, ${END}
syscall
`;

/** ldelf: no access through FS. */
const LOADER = `mov eax, ${END}\nsyscall\n`;

/** The smallest shim for trusted applications: it enters an instance from outside, with or without its TLS. */
export class MiniTee {
  readonly #assembled: AssembledGate;
  readonly #guest: Guest;
  readonly #idle: CpuContext;

  constructor(provider: string, inject: readonly string[] = [], loader = false) {
    this.#guest = guestOf(64, loader ? LOADER : TA);
    const { cpu, space } = this.#guest;
    // A pattern of its own for each instance: with zeroes a wrong page would look right.
    for (const [index, base] of TLS.entries())
      space.memory.setU64(base + CANARY, 0xca11_0000_0000_0000n + BigInt(index));
    this.#assembled = assembleGate({
      platform: { cpu, layout: "x86_64" },
      provider,
      shim: "optee",
      inject: inject.map((rule) => parseInjectRule(rule)),
      audit: true,
      world: worldOf(this.#guest),
    });
    this.#idle = cpu.saveContext();
  }

  get findings(): readonly Finding["kind"][] {
    return [...new Set((this.#assembled.findings?.list ?? []).map(({ kind }) => kind))];
  }

  /** @param base what the shim restores before the entry; undefined for nothing */
  enter(instance: number, base: number | undefined): string {
    const { gate } = this.#assembled;
    const { lifecycle } = gate;
    const { cpu } = this.#guest;
    cpu.restoreContext(this.#idle);
    enterUser(cpu, 64);
    cpu.setReg(Reg.rip, CODE);
    cpu.setReg(Reg.rsp, STACK);
    lifecycle?.attach(instance);
    let restored: Outcome | undefined;
    if (base !== undefined)
      restored = gate.punchThrough(
        { kind: "SetFsBase", address: BigInt(base) },
        { thread: instance, pc: BigInt(CODE), call: "InvokeCommand" },
      );
    if (restored !== undefined && restored.kind !== "ok") return `not restored: ${restored.kind}`;
    const end = this.#run(instance);
    lifecycle?.leaveGuest(instance, "vtl");
    return end;
  }

  #run(instance: number): string {
    const { gate } = this.#assembled;
    const { cpu, space } = this.#guest;
    let smashed = false;
    for (let steps = 0; steps < 100; steps++) {
      gate.goesOn(instance);
      gate.lifecycle?.enterGuest(instance);
      const kind = cpu.run();
      if (kind === StopKind.exception) {
        const { stopVector: vector, stopAddress: address, stopAccess: access } = cpu;
        if (vector === 14 && space.resolve(address, access) === "ok") continue;
        gate.lifecycle?.leaveGuest(instance, "exception");
        return `target dead at 0x${address.toString(16)}`;
      }
      gate.lifecycle?.leaveGuest(instance, "syscall");
      const number = cpu.regLow(Reg.rax);
      if (number === END) return smashed ? "smashed" : "returned";
      if (number === Call.report) smashed = true;
      cpu.setReg(Reg.rax, 0);
    }
    return "endless";
  }

  close(): void {
    close(this.#guest);
  }
}
