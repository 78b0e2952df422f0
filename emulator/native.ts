import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { TestbedError } from "./errors.ts";

/**
 * One engine of the addon (emulator/native/addon.cc). Addresses and sizes are numbers, frames are small integers,
 * access is 0 read, 1 write, 2 fetch, and `translate` answers a negative reason (see `Miss`) where there is no memory.
 */
export interface NativeEngine {
  run(): void;
  interrupt(): void;
  close(): void;
  /** The CPU state up to the segment registers, in place (emulator/native/layout.h). */
  registers(): ArrayBuffer;
  stopBlock(): ArrayBuffer;
  physicalChunk(offset: number, length: number): ArrayBuffer;
  addSpace(end: number): number;
  forkSpace(space: number): number;
  removeSpace(space: number): void;
  activate(space: number): void;
  map(
    space: number,
    start: number,
    end: number,
    prot: number,
    tag: number,
    shared: boolean,
    paged: boolean,
    grows: boolean,
  ): void;
  unmap(space: number, start: number, end: number): void;
  protect(space: number, start: number, end: number, prot: number): void;
  move(space: number, from: number, length: number, to: number): void;
  discard(space: number, start: number, end: number): void;
  retag(space: number, start: number, end: number, tag: number): void;
  find(space: number, length: number, low: number, high: number): number;
  firstHole(space: number, start: number, end: number): number;
  isFree(space: number, start: number, end: number): boolean;
  region(space: number, address: number, out: Float64Array): boolean;
  regionCount(space: number): number;
  install(space: number, address: number, frame: number): boolean;
  resident(space: number, address: number): boolean;
  residentPages(space: number): number;
  translate(space: number, address: number, access: number): number;
  copyOut(space: number, address: number, into: Uint8Array, offset: number, length: number): number;
  copyIn(space: number, address: number, from: Uint8Array, offset: number, length: number): number;
  allocateFrame(): number;
  retainFrame(frame: number): void;
  releaseFrame(frame: number): void;
  beforeWrite(frame: number): void;
  limitFrames(frames: number): void;
  usedFrames(): number;
  peakFrames(): number;
  setFlags(flags: number): void;
  kernelGsBase(): bigint;
  setKernelGsBase(value: bigint): void;
  loadSelector(segment: number, selector: number): boolean;
  /** CR4.FSGSBASE: without it RDFSBASE and its like raise #UD. */
  setFsGsBase(on: boolean): void;
  setStrictSegments(on: boolean): void;
  enterUser(wide: boolean, cs: number, ss: number): void;
  /** Where the GDT lies: at the start of this frame. */
  gdtFrame(): number;
  ldtSize(): number;
  resizeLdt(entries: number): boolean;
  ldtEntry(index: number): bigint;
  setLdtEntry(index: number, descriptor: bigint): void;
  saveContext(into: Uint8Array): void;
  restoreContext(from: Uint8Array): void;
  fxsave(into: Uint8Array): void;
  fxrstor(from: Uint8Array): boolean;
  xsave(into: Uint8Array): void;
  xrstor(from: Uint8Array): boolean;
}

/** The addon itself. */
export interface NativeAddon {
  /** @param v3 the guest's processor is x86-64-v3, else x86-64-v2; throws where the host lacks something for it */
  open(physicalBytes: number, v3?: boolean): NativeEngine;
  /** Names of what this host lacks to show a guest x86-64-v3. */
  lacksForV3(): string[];
  /** Ends guest runs on this thread when SIGINT or SIGTERM arrives; false puts the default actions back. */
  catchSignals(on: boolean): void;
  /** The signal that ended a run since the last call, 0 for none. */
  takeSignal(): number;
  /** Ends guest runs on this thread once that many milliseconds have passed; 0 takes the alarm back. */
  alarm(milliseconds: number): void;
  /** True when the alarm has gone off. */
  alarmed(): boolean;
  /** poll(2): readiness bits of each descriptor; null when a signal or the alarm came first. */
  poll(fds: Int32Array, events: Int32Array, timeoutMilliseconds: number): Int32Array | null;
  /** "2.0" and the like. */
  readonly unicornVersion: string;
  /** Bytes of a saved context. */
  readonly contextSize: number;
  /** True when libunicorn is linked in statically, false when the shared library's functions are taken over. */
  readonly staticUnicorn: boolean;
}

/** Negative answers of `translate`. */
export const Miss = { unmapped: -1, forbidden: -2, pager: -3, outOfMemory: -4 } as const;

const builtFile = "native/build/Release/shimbed_native.node";

/**
 * Loads the addon that set-up has built.
 * @throws TestbedError when it is not there or does not load.
 */
export function loadNative(): NativeAddon {
  // Sources run from emulator/, compiled code from dist/emulator/; the addon is built in one place.
  const candidates = [`./${builtFile}`, `../../emulator/${builtFile}`].map((p) =>
    fileURLToPath(new URL(p, import.meta.url)),
  );
  const file = candidates.find((path) => existsSync(path));
  if (file === undefined) {
    throw new TestbedError(
      `the native addon is not built (looked for ${candidates.join(" and ")}); run \`npm run setup\``,
    );
  }
  try {
    const addon: NativeAddon = createRequire(import.meta.url)(file);
    return addon;
  } catch (cause) {
    throw new TestbedError(`the native addon ${file} does not load; run \`npm run setup\` to build it again`, {
      cause,
    });
  }
}
