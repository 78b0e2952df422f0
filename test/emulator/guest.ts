// A bare guest: one address space with a page of code, some data and a stack, and no operating system.
import { createAssembler } from "../../emulator/assembler.ts";
import { type Cpu, Reg, StopKind } from "../../emulator/cpu.ts";
import { Machine, type MachineOptions } from "../../emulator/machine.ts";
import type { AddressSpace } from "../../emulator/memory.ts";

export type Bits = 32 | 64;
/** Two pages of code, readable and executable. */
export const CODE = 0x401000;
/** Two pages of data; the pages before and after are not mapped. */
export const DATA = 0x600000;
export const DATA_END = DATA + 0x2000;
/** Where the stack pointer starts; 4 pages below it and one above are there. */
export const STACK = 0x7ff000;
export const userEnd = { 32: 0xffffe000, 64: 0x7ffffffff000 } as const;

export interface Guest {
  readonly machine: Machine;
  readonly cpu: Cpu;
  readonly space: AddressSpace;
  readonly bits: Bits;
}

/** Puts a CPU into ring 3 with flat segments, as Linux starts a program. */
export function enterUser(cpu: Cpu, bits: Bits): void {
  cpu.enterUser(bits === 64, bits === 64 ? 0x33 : 0x23, 0x2b);
}

export function newGuest(bits: Bits, options?: MachineOptions): Guest {
  const machine = new Machine(options);
  const space = machine.newSpace(userEnd[bits]);
  machine.activate(space);
  space.map(CODE, 0x2000, 5);
  space.map(DATA, 0x2000, 3);
  space.map(STACK - 0x4000, 0x5000, 3);
  enterUser(machine.cpu, bits);
  machine.cpu.setReg(Reg.rsp, STACK);
  machine.cpu.setReg(Reg.rip, CODE);
  return { machine, cpu: machine.cpu, space, bits };
}

/** Writes where the guest itself may not. */
export function poke({ space }: Guest, address: number, bytes: Uint8Array): void {
  const start = address - (address % 4096);
  const length = Math.ceil((address + bytes.length - start) / 4096) * 4096;
  const prot = space.regionAt(address)?.prot ?? 0;
  space.protect(start, length, 3);
  space.memory.write(address, bytes);
  space.protect(start, length, prot);
}

const assembler = await createAssembler();

export function assemble(bits: Bits, source: string, address = CODE): Uint8Array {
  return assembler.assemble(source, { bits, address });
}

/** A guest whose code is this assembly. */
export function guestOf(bits: Bits, source: string, options?: MachineOptions): Guest {
  const guest = newGuest(bits, options);
  poke(guest, CODE, assemble(bits, source));
  return guest;
}

export function close(guest: Guest): void {
  guest.machine.close();
}

const names = Object.keys(StopKind);

/** What a stop says, in the words of the tests. */
export function describeStop(cpu: Cpu, kind: StopKind): Record<string, unknown> {
  const what = names[kind];
  const rip = cpu.reg(Reg.rip);
  if (kind !== StopKind.exception) return { what, rip };
  const { stopVector: vector, stopErrorCode: code } = cpu;
  if (vector !== 14) return { what, vector, code, rip, software: cpu.stopSoftware };
  return { what, vector, code, address: cpu.stopAddress, access: cpu.stopAccess, rip };
}

/** Runs to the first stop. */
export function runGuest(guest: Guest, budget?: number): Record<string, unknown> {
  return describeStop(guest.cpu, guest.cpu.run(budget));
}
