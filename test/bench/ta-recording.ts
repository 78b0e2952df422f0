/**
 * Records what a TA's own instructions start from, so that anything that has an x86-64 CPU can run them again: memory and
 * registers at each entry, and for each system call what the TEE changed. `replay.c` reads it.
 *
 * A recording is 64-bit little-endian words: a tag, then what the tag wants.
 */
import { Reg, StopKind } from "../../emulator/cpu.ts";
import type { Region } from "../../emulator/memory.ts";
import { PAGE_SIZE } from "../../emulator/physical-memory.ts";
import type { TeeHost } from "../../shims/optee/host.ts";
import type { Instance } from "../../shims/optee/instance.ts";

const Tag = { map: 1, unmap: 2, write: 3, enter: 4, call: 5, result: 6, leave: 7 } as const;
/** utee_return and utee_panic: the TA does not go on behind them. */
const LAST_CALLS: readonly number[] = [0, 2];

export interface Recording {
  readonly bytes: Uint8Array;
  readonly entries: number;
  readonly calls: number;
}

/** Writes down everything that the CPU of a host runs from now on, until `end`. One TA at a time, loaded by our own loader. */
export class TaRecorder {
  readonly #host: TeeHost;
  readonly #chunks: Buffer[] = [];
  /** Pages as they were when the TA last ran; those that are missing are zeros. */
  readonly #image = new Map<number, Buffer>();
  #regions: Region[] = [];
  #instance: Instance | undefined;
  #where: "outside" | "running" | "calling" = "outside";
  #entries = 0;
  #calls = 0;

  constructor(host: TeeHost) {
    this.#host = host;
    const { cpu } = host.tee.machine;
    const run = cpu.run.bind(cpu);
    cpu.run = (budget) => {
      this.#before();
      const kind = run(budget);
      this.#after(kind);
      return kind;
    };
  }

  end(): Recording {
    return { bytes: Buffer.concat(this.#chunks), entries: this.#entries, calls: this.#calls };
  }

  #before(): void {
    // A page was brought in, or somebody looked whether the TA still gets anywhere.
    if (this.#where === "running") return;
    const { cpu } = this.#host.tee.machine;
    const instance = this.#running();
    this.#tellRegions(instance, this.#where === "outside");
    this.#tellWrites(instance);
    if (this.#where === "outside") {
      this.#entries++;
      this.#put(Tag.enter, ...this.#registers(), cpu.regBig(Reg.rflags), instance.tls.base);
    } else this.#put(Tag.result, cpu.regBig(Reg.rax));
    this.#where = "running";
  }

  #after(kind: StopKind): void {
    if (kind !== StopKind.syscall) return;
    const { cpu } = this.#host.tee.machine;
    const instance = this.#running();
    this.#calls++;
    this.#put(Tag.call, ...this.#registers());
    for (const address of this.#pages(instance)) this.#image.set(address, this.#read(instance, address));
    const last = LAST_CALLS.includes(cpu.reg(Reg.rax));
    this.#where = last ? "outside" : "calling";
    if (last) this.#put(Tag.leave, this.#checksum());
  }

  /** RAX to R15 and RIP. */
  #registers(): bigint[] {
    const { cpu } = this.#host.tee.machine;
    return Array.from({ length: Reg.rip + 1 }, (_, register) => cpu.regBig(register));
  }

  #running(): Instance {
    const all = [...this.#host.tee.instances];
    const [instance] = all;
    if (instance === undefined || all.length > 1 || (this.#instance ?? instance) !== instance)
      throw new Error("only the runs of one TA can be recorded");
    this.#instance = instance;
    return instance;
  }

  /** Tells how the mappings changed. */
  #tellRegions(instance: Instance, allowed: boolean): void {
    const now = [...instance.memory.space.regions()].filter(({ prot }) => prot !== 0);
    const same = (a: Region, b: Region): boolean => a.start === b.start && a.end === b.end && a.prot === b.prot;
    const gone = this.#regions.filter((old) => !now.some((region) => same(region, old)));
    const come = now.filter((region) => !this.#regions.some((old) => same(region, old)));
    if (!allowed && gone.length + come.length > 0) throw new Error("a TA that maps memory cannot be recorded");
    for (const { start, end } of gone) {
      this.#put(Tag.unmap, start, end - start);
      for (let page = start; page < end; page += PAGE_SIZE) this.#image.delete(page);
    }
    for (const { start, end, prot } of come) this.#put(Tag.map, start, end - start, prot);
    this.#regions = now;
  }

  #tellWrites(instance: Instance): void {
    const zeros = Buffer.alloc(PAGE_SIZE);
    for (const address of this.#pages(instance)) {
      const now = this.#read(instance, address);
      if (now.equals(this.#image.get(address) ?? zeros)) continue;
      this.#put(Tag.write, address, PAGE_SIZE);
      this.#chunks.push(now);
    }
  }

  *#pages({ memory: { space } }: Instance): Iterable<number> {
    for (const { start, end, shared } of this.#regions)
      for (let page = start; page < end; page += PAGE_SIZE) if (shared || space.isResident(page)) yield page;
  }

  #read(instance: Instance, address: number): Buffer {
    const page = Buffer.alloc(PAGE_SIZE);
    instance.memory.guest.read(address, page);
    return page;
  }

  /** Of all memory that is not zero, so that it can be compared: FNV-1a over words of 32 bits. */
  #checksum(): number {
    let sum = 0x811c9dc5;
    for (const address of [...this.#image.keys()].sort((a, b) => a - b)) {
      const page = this.#image.get(address);
      if (page === undefined || page.every((byte) => byte === 0)) continue;
      for (let at = 0; at < PAGE_SIZE; at += 4) sum = Math.imul(sum ^ page.readUInt32LE(at), 0x01000193);
    }
    return sum >>> 0;
  }

  #put(...words: readonly (number | bigint)[]): void {
    const bytes = Buffer.alloc(8 * words.length);
    words.forEach((word, index) => {
      bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(word)), 8 * index);
    });
    this.#chunks.push(bytes);
  }
}
