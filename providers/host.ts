import { HostPanic } from "./lifecycle.ts";
import type { Platform } from "./platform.ts";

export interface PlatformOptions {
  readonly platform: Platform;
  /** LiteBox' own answers where they differ from Linux'. */
  readonly asLitebox: boolean;
  /** CR4.FSGSBASE of the host: without it every `wrfsbase` in host code raises #UD. */
  readonly fsgsbase: boolean;
}

/**
 * A thread-local block of the host. It lies where no guest can map anything, so a guest that gets the host's base by mistake
 * faults instead of reading on.
 */
export interface HostBlock {
  readonly base: bigint;
  /** What stands in it as long as nobody wrote over it. */
  canary: bigint;
}

/** Kernel half of the canonical addresses, where a 64-bit guest has nothing; one page for each block. */
const FIRST_WIDE = 0xffff_c000_0000_0000n;
/** From the end of an i386 program's user space to 4 GiB. */
const FIRST_NARROW = 0xffff_e000n;
const NARROW_STEP = 16n;
const NARROW_BLOCKS = 512n;

/** Makes the blocks of one host and checks on them. */
export class HostBlocks {
  readonly #provider: string;
  readonly #wide: boolean;
  #count = 0n;

  constructor(provider: string, wide: boolean) {
    this.#provider = provider;
    this.#wide = wide;
  }

  create(): HostBlock {
    const number = this.#count++;
    const base = this.#wide ? FIRST_WIDE + number * 4096n : FIRST_NARROW + (number % NARROW_BLOCKS) * NARROW_STEP;
    return { base, canary: canaryOf(base) };
  }

  /**
   * What host code finds when it uses its thread-local storage through a base the CPU has.
   * @throws HostPanic when that is not this block, or the block has been written over
   */
  check(block: HostBlock, base: bigint, register: "FS" | "GS"): void {
    if (base !== block.base) {
      throw new HostPanic(
        this.#provider,
        `its own TLS is at 0x${block.base.toString(16)}, but its ${register} base is 0x${base.toString(16)}`,
      );
    }
    if (block.canary !== canaryOf(block.base)) {
      throw new HostPanic(this.#provider, `its TLS at 0x${block.base.toString(16)} has been written over`);
    }
  }
}

function canaryOf(base: bigint): bigint {
  return (base * 0x9e37_79b9_7f4a_7c15n) & 0xffff_ffff_ffff_ff00n;
}

/** `wrfsbase` in host code. @throws HostPanic for the #GP of an address that is not canonical, and the #UD without FSGSBASE */
export function writeFsBase(options: PlatformOptions, provider: string, base: bigint): void {
  if (!options.fsgsbase) throw new HostPanic(provider, "wrfsbase raises #UD: CR4.FSGSBASE is off");
  if (!isCanonical(base)) throw new HostPanic(provider, `wrfsbase of 0x${base.toString(16)} raises #GP`);
  options.platform.cpu.privileged.fsBase = base;
}

/** Bits 63 to 47 all alike. */
export function isCanonical(address: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(48, address)) === BigInt.asUintN(64, address);
}
