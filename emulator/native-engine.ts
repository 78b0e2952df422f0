/** What `open` gives: the engine lives as long as this object, or until it is closed. */
interface EngineHandle {
  readonly number: number;
}

type Method = Exclude<keyof NativeEngine, "close">;

/** The functions of the addon that do what an engine's methods do, with the engine's number before their arguments. */
type MethodCalls = {
  readonly [M in Method]: (engine: number, ...rest: Parameters<NativeEngine[M]>) => ReturnType<NativeEngine[M]>;
};

export interface EngineCalls extends MethodCalls {
  open(physicalBytes: number, v3: boolean): EngineHandle;
  close(engine: EngineHandle): void;
}

/**
 * One engine of the addon (emulator/native/addon.cc). Addresses and sizes are numbers, frames are small integers,
 * access is 0 read, 1 write, 2 fetch, and `translate` answers a negative reason (see `Miss`) where there is no memory.
 */
export class NativeEngine {
  readonly #calls: EngineCalls;
  readonly #handle: EngineHandle;
  readonly #number: number;

  /** @param v3 the guest's processor is x86-64-v3, else x86-64-v2; throws where the host lacks something for it */
  constructor(calls: EngineCalls, physicalBytes: number, v3 = false) {
    this.#calls = calls;
    this.#handle = calls.open(physicalBytes, v3);
    this.#number = this.#handle.number;
  }

  close(): void {
    this.#calls.close(this.#handle);
  }
  run(): void {
    this.#calls.run(this.#number);
  }
  interrupt(): void {
    this.#calls.interrupt(this.#number);
  }
  /** The CPU state up to the segment registers, in place (emulator/native/layout.h). */
  registers(): ArrayBuffer {
    return this.#calls.registers(this.#number);
  }
  stopBlock(): ArrayBuffer {
    return this.#calls.stopBlock(this.#number);
  }
  physicalChunk(offset: number, length: number): ArrayBuffer {
    return this.#calls.physicalChunk(this.#number, offset, length);
  }
  addSpace(end: number): number {
    return this.#calls.addSpace(this.#number, end);
  }
  forkSpace(space: number): number {
    return this.#calls.forkSpace(this.#number, space);
  }
  removeSpace(space: number): void {
    this.#calls.removeSpace(this.#number, space);
  }
  activate(space: number): void {
    this.#calls.activate(this.#number, space);
  }
  map(
    space: number,
    start: number,
    end: number,
    prot: number,
    tag: number,
    shared: boolean,
    paged: boolean,
    grows: boolean,
  ): void {
    this.#calls.map(this.#number, space, start, end, prot, tag, shared, paged, grows);
  }
  unmap(space: number, start: number, end: number): void {
    this.#calls.unmap(this.#number, space, start, end);
  }
  protect(space: number, start: number, end: number, prot: number): void {
    this.#calls.protect(this.#number, space, start, end, prot);
  }
  move(space: number, from: number, length: number, to: number): void {
    this.#calls.move(this.#number, space, from, length, to);
  }
  discard(space: number, start: number, end: number): void {
    this.#calls.discard(this.#number, space, start, end);
  }
  retag(space: number, start: number, end: number, tag: number): void {
    this.#calls.retag(this.#number, space, start, end, tag);
  }
  find(space: number, length: number, low: number, high: number): number {
    return this.#calls.find(this.#number, space, length, low, high);
  }
  firstHole(space: number, start: number, end: number): number {
    return this.#calls.firstHole(this.#number, space, start, end);
  }
  isFree(space: number, start: number, end: number): boolean {
    return this.#calls.isFree(this.#number, space, start, end);
  }
  region(space: number, address: number, out: Float64Array): boolean {
    return this.#calls.region(this.#number, space, address, out);
  }
  regionCount(space: number): number {
    return this.#calls.regionCount(this.#number, space);
  }
  install(space: number, address: number, frame: number): boolean {
    return this.#calls.install(this.#number, space, address, frame);
  }
  resident(space: number, address: number): boolean {
    return this.#calls.resident(this.#number, space, address);
  }
  mappedBytes(space: number): number {
    return this.#calls.mappedBytes(this.#number, space);
  }

  residentPages(space: number): number {
    return this.#calls.residentPages(this.#number, space);
  }
  translate(space: number, address: number, access: number): number {
    return this.#calls.translate(this.#number, space, address, access);
  }
  copyOut(space: number, address: number, into: Uint8Array, offset: number, length: number): number {
    return this.#calls.copyOut(this.#number, space, address, into, offset, length);
  }
  copyIn(space: number, address: number, from: Uint8Array, offset: number, length: number): number {
    return this.#calls.copyIn(this.#number, space, address, from, offset, length);
  }
  allocateFrame(): number {
    return this.#calls.allocateFrame(this.#number);
  }
  retainFrame(frame: number): void {
    this.#calls.retainFrame(this.#number, frame);
  }
  releaseFrame(frame: number): void {
    this.#calls.releaseFrame(this.#number, frame);
  }
  beforeWrite(frame: number): void {
    this.#calls.beforeWrite(this.#number, frame);
  }
  limitFrames(frames: number): void {
    this.#calls.limitFrames(this.#number, frames);
  }
  usedFrames(): number {
    return this.#calls.usedFrames(this.#number);
  }
  peakFrames(): number {
    return this.#calls.peakFrames(this.#number);
  }
  setFlags(flags: number): void {
    this.#calls.setFlags(this.#number, flags);
  }
  setBreakpoints(addresses: Float64Array, control: number): void {
    this.#calls.setBreakpoints(this.#number, addresses, control);
  }
  kernelGsBase(): bigint {
    return this.#calls.kernelGsBase(this.#number);
  }
  setKernelGsBase(value: bigint): void {
    this.#calls.setKernelGsBase(this.#number, value);
  }
  loadSelector(segment: number, selector: number): boolean {
    return this.#calls.loadSelector(this.#number, segment, selector);
  }
  /** CR4.FSGSBASE: without it RDFSBASE and its like raise #UD. */
  setFsGsBase(on: boolean): void {
    this.#calls.setFsGsBase(this.#number, on);
  }
  setStrictSegments(on: boolean): void {
    this.#calls.setStrictSegments(this.#number, on);
  }
  enterUser(wide: boolean, cs: number, ss: number): void {
    this.#calls.enterUser(this.#number, wide, cs, ss);
  }
  /** Where the GDT lies: at the start of this frame. */
  gdtFrame(): number {
    return this.#calls.gdtFrame(this.#number);
  }
  ldtSize(): number {
    return this.#calls.ldtSize(this.#number);
  }
  resizeLdt(entries: number): boolean {
    return this.#calls.resizeLdt(this.#number, entries);
  }
  ldtEntry(index: number): bigint {
    return this.#calls.ldtEntry(this.#number, index);
  }
  setLdtEntry(index: number, descriptor: bigint): void {
    this.#calls.setLdtEntry(this.#number, index, descriptor);
  }
  saveContext(into: Uint8Array): void {
    this.#calls.saveContext(this.#number, into);
  }
  restoreContext(from: Uint8Array): void {
    this.#calls.restoreContext(this.#number, from);
  }
  fxsave(into: Uint8Array): void {
    this.#calls.fxsave(this.#number, into);
  }
  fxrstor(from: Uint8Array): boolean {
    return this.#calls.fxrstor(this.#number, from);
  }
  xsave(into: Uint8Array): void {
    this.#calls.xsave(this.#number, into);
  }
  xrstor(from: Uint8Array): boolean {
    return this.#calls.xrstor(this.#number, from);
  }
}
