/** Registers at the entry of a TA, and those of one that waits for another. */
import { type Cpu, Reg } from "../../emulator/cpu.ts";
import { gdtLayouts } from "../../emulator/descriptors.ts";

/** IF and the bit that is always set. */
const RFLAGS_START = 0x202;
/** What FNINIT and a reset leave in the control words (SDM vol. 1, 8.1.5 and 10.2.3). */
const FCW_INIT = 0x37f;
const MXCSR_INIT = 0x1f80;

/** Registers of an entry; all others are zero. */
export interface Start {
  readonly rip: number;
  readonly rsp: number;
  readonly rdi: number;
  readonly rsi?: number;
  readonly rdx?: number;
  readonly rcx?: number;
}

/** What a kernel keeps of a TA that waits: the registers and the FPU, not FS base. */
export interface SavedRegisters {
  readonly general: readonly bigint[];
  readonly fpu: Uint8Array;
}

function enterRing3(cpu: Cpu): void {
  const { userCs32, userCs64 = userCs32, userDs } = gdtLayouts.x86_64;
  cpu.enterUser(true, userCs64, userDs);
}

export function startRegisters(cpu: Cpu, start: Start): void {
  for (let register: number = Reg.rax; register <= Reg.r15; register++) cpu.setReg(register, 0);
  cpu.setReg(Reg.rip, start.rip);
  cpu.setReg(Reg.rsp, start.rsp);
  cpu.setReg(Reg.rdi, start.rdi);
  cpu.setReg(Reg.rsi, start.rsi ?? 0);
  cpu.setReg(Reg.rdx, start.rdx ?? 0);
  cpu.setReg(Reg.rcx, start.rcx ?? 0);
  cpu.setReg(Reg.rflags, RFLAGS_START);
  enterRing3(cpu);
  const fpu = new Uint8Array(512);
  const view = new DataView(fpu.buffer);
  view.setUint16(0, FCW_INIT, true);
  view.setUint32(24, MXCSR_INIT, true);
  cpu.fxrstor(fpu);
}

export function saveRegisters(cpu: Cpu): SavedRegisters {
  const general: bigint[] = [];
  for (let register: number = Reg.rax; register <= Reg.rflags; register++) general.push(cpu.regBig(register));
  return { general, fpu: cpu.fxsave() };
}

export function restoreRegisters(cpu: Cpu, saved: SavedRegisters): void {
  enterRing3(cpu);
  saved.general.forEach((value, register) => {
    cpu.setRegBig(register, value);
  });
  cpu.fxrstor(saved.fpu);
}
