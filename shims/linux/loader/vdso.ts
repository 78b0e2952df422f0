/** The vDSO: code the kernel maps into every process, one page for all of them (vdso(7)). */
import { Reg } from "../../../emulator/cpu.ts";
import type { AddressSpace, Backing } from "../../../emulator/memory.ts";
import type { PhysicalMemory } from "../../../emulator/physical-memory.ts";
import type { Abi } from "../abi.ts";
import type { Mm } from "../memory/mm.ts";
import { PAGE } from "../memory/pages.ts";
import type { Task } from "../task.ts";
import { vdsoImages } from "./vdso-images.ts";

/** Pages of the data that Linux' own vDSO reads; this one makes system calls, so they stay empty. */
const VVAR_PAGES = 4;
const PROT_READ = 1;
const PROT_EXEC = 4;

type Image = (typeof vdsoImages)[keyof typeof vdsoImages];

/** Bytes of address space it takes, data included. */
export const VDSO_BYTES = (VVAR_PAGES + 1) * PAGE;

/** The pages of one run. */
export class Vdso {
  readonly #physical: PhysicalMemory;
  readonly #backings = new Map<Abi, Backing>();
  readonly #data: Backing = { name: "[vvar]", dev: 0, ino: 0 };

  constructor(physical: PhysicalMemory) {
    this.#physical = physical;
  }

  /** Maps it into a new space. @returns its address (AT_SYSINFO_EHDR) and that of __kernel_vsyscall (AT_SYSINFO), 0 for none */
  map(space: AddressSpace, abi: Abi, at: number): { vdso: number; vsyscall: number } {
    const vdso = at + VVAR_PAGES * PAGE;
    space.map(at, VVAR_PAGES * PAGE, PROT_READ, { backing: this.#data });
    space.map(vdso, PAGE, PROT_READ | PROT_EXEC, { backing: this.#backing(abi), offset: 0 });
    const { vsyscall } = vdsoImages[abi.name];
    return { vdso, vsyscall: vsyscall === 0 ? 0 : vdso + vsyscall };
  }

  /** Tells the address space where what the kernel refers to lies. */
  note(mm: Mm, vdso: number): void {
    const { landing, sigreturn, rtSigreturn }: Image = vdsoImages[mm.abi.name];
    if (landing === 0) return;
    mm.vdsoLanding = vdso + landing;
    mm.vdsoSigreturn = vdso + sigreturn;
    mm.vdsoRtSigreturn = vdso + rtSigreturn;
  }

  /** Whether a mapping shows the vDSO itself. */
  holds(backing: Backing | undefined): boolean {
    return backing !== undefined && [...this.#backings.values()].includes(backing);
  }

  /** mremap has moved it, and with it what the kernel refers to. The caller may be on its way back into it (vdso_mremap). */
  moved(task: Task, to: number): void {
    const { mm } = task.process;
    const { landing } = vdsoImages[mm.abi.name];
    const returns = landing !== 0 && task.cpu.reg(Reg.rip) === mm.vdsoLanding;
    this.note(mm, to);
    if (returns) task.cpu.setReg(Reg.rip, mm.vdsoLanding);
  }

  #backing(abi: Abi): Backing {
    const known = this.#backings.get(abi);
    if (known !== undefined) return known;
    const physical = this.#physical;
    let frame = 0;
    const backing: Backing = {
      name: "[vdso]",
      dev: 0,
      ino: 0,
      frame: (index) => {
        if (index !== 0) return -1;
        if (frame === 0) {
          frame = physical.allocate();
          if (frame !== 0) physical.bytes(frame).set(Buffer.from(vdsoImages[abi.name].base64, "base64"));
        }
        return frame;
      },
    };
    this.#backings.set(abi, backing);
    return backing;
  }
}
