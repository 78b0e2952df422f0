import { type HostBlock, HostBlocks, type PlatformOptions, writeFsBase } from "./host.ts";
import type { LeaveReason, Lifecycle } from "./lifecycle.ts";
import { DONE, executeAsLinux, UNSUPPORTED } from "./linux-tls.ts";
import { refusalOfLitebox } from "./litebox.ts";
import { GuestView, type PlatformCpu, type SegmentHome } from "./platform.ts";
import type { PunchthroughProvider, PunchthroughToken } from "./punchthrough.ts";
import type { Asker, Request, Result } from "./requests.ts";
import { returnBySysret } from "./sysret.ts";

/** What distinguishes the two kernels. */
interface Kernel {
  readonly name: "linux-kernel" | "lvbs";
  /** A VTL switch clears FS base, and every way into the guest starts with KernelGsBase 0. */
  readonly vtl: boolean;
}

/**
 * LiteBox as a kernel: in a confidential VM (SNP), or in VTL1 beside Hyper-V (LVBS). The guest's FS base is live in the CPU all
 * the time. GS base is the kernel's own per-CPU block while the shim runs, exchanged with the guest's by `swapgs`. Nothing
 * clears TLS on exec.
 */
export class KernelPlatform implements PunchthroughProvider, Lifecycle {
  readonly name: string;
  readonly abis = ["x86_64"] as const;
  readonly lifecycle = this;
  readonly asLitebox: boolean;
  readonly #kernel: Kernel;
  readonly #options: PlatformOptions;
  readonly #blocks: HostBlocks;
  readonly #block: HostBlock;
  readonly #home: LiveHome;
  readonly #view: PlatformCpu;
  /** Threads whose virtual CPU has the kernel's GS base. */
  readonly #attached = new Set<number>();
  #started = false;
  /** A thread whose registers a handler's end has put in place. */
  #returning: number | undefined;

  constructor(kernel: Kernel, options: PlatformOptions) {
    this.name = kernel.name;
    this.asLitebox = options.asLitebox;
    this.#kernel = kernel;
    this.#options = options;
    this.#blocks = new HostBlocks(kernel.name, true);
    this.#block = this.#blocks.create();
    this.#home = new LiveHome(options.platform.cpu, this.#block);
    this.#view = new GuestView(options.platform.cpu, this.#home);
  }

  getPunchthroughTokenFor(request: Request, asker: Asker): PunchthroughToken {
    return {
      provider: this.name,
      execute: () => {
        this.#know(asker.thread);
        return this.#execute(request);
      },
    };
  }

  guestCpu(thread: number): PlatformCpu | undefined {
    return this.#attached.has(thread) ? this.#view : undefined;
  }

  #execute(request: Request): Result {
    const { layout } = this.#options.platform;
    const refusal = this.asLitebox ? refusalOfLitebox(request, "x86_64") : undefined;
    if (refusal !== undefined) return refusal;
    switch (request.kind) {
      case "SetFsBase":
        if (!this.asLitebox) {
          const result = executeAsLinux(this.#view, layout, request);
          if (result.kind !== "ok") return result;
        }
        writeFsBase(this.#options, this.name, request.address);
        return DONE;
      case "SetGsBase":
      case "GetGsBase":
        return this.#kernel.vtl ? UNSUPPORTED : executeAsLinux(this.#view, layout, request);
      case "ClearTls":
        // Also the first program of a run comes this way, for which LiteBox clears nothing.
        if (!this.asLitebox || !this.#started) return DONE;
        return { kind: "unimplemented", name: "clear_guest_thread_local_storage" };
      case "LoadSelectors":
        return this.asLitebox ? DONE : executeAsLinux(this.#view, layout, request);
      default:
        return executeAsLinux(this.#view, layout, request);
    }
  }

  /** The kernel is in the CPU: its block is behind GS, the guest's GS base in KernelGsBase. */
  #know(thread: number): void {
    if (this.#attached.has(thread)) return;
    this.#attached.add(thread);
    const { privileged } = this.#options.platform.cpu;
    if (privileged.gsBase === this.#block.base) return;
    privileged.kernelGsBase = privileged.gsBase;
    privileged.gsBase = this.#block.base;
  }

  attach(thread: number): void {
    this.#attached.delete(thread);
    this.#home.inGuest = false;
    this.#know(thread);
  }

  enterGuest(thread: number): void {
    this.#know(thread);
    if (this.#home.inGuest) return;
    this.#started = true;
    const { privileged } = this.#options.platform.cpu;
    if (this.#kernel.vtl) privileged.kernelGsBase = 0n;
    this.#swap();
    this.#home.inGuest = true;
    if (this.#returning === thread) returnBySysret(this.#options.platform.cpu);
    this.#returning = undefined;
  }

  leaveGuest(thread: number, reason: LeaveReason): void {
    this.#know(thread);
    if (!this.#home.inGuest) {
      if (reason === "vtl") this.#crossed();
      return;
    }
    this.#home.inGuest = false;
    this.#swap();
    this.#blocks.check(this.#block, this.#options.platform.cpu.privileged.gsBase, "GS");
    if (reason === "vtl") this.#crossed();
  }

  #crossed(): void {
    if (this.#kernel.vtl) this.#options.platform.cpu.privileged.fsBase = 0n;
  }

  /** `swapgs`. */
  #swap(): void {
    const { privileged } = this.#options.platform.cpu;
    const { gsBase } = privileged;
    privileged.gsBase = privileged.kernelGsBase;
    privileged.kernelGsBase = gsBase;
  }

  rescheduled(): void {
    // A hypervisor gives a virtual CPU back as it was.
  }

  retries(): boolean {
    return false;
  }

  threadStart(thread: number): void {
    this.#know(thread);
    // Another virtual CPU, as the host hands it over; otherwise its context is the copy of the parent's.
    if (this.asLitebox) this.#options.platform.cpu.privileged.fsBase = 0n;
  }

  threadExit(thread: number): void {
    this.#attached.delete(thread);
  }

  exec(thread: number, was: number): void {
    if (was !== thread) this.#attached.delete(was);
  }

  signal(): void {
    // The base is live.
  }

  sigreturn(thread: number): void {
    // SNP leaves by sysretq whatever the frame says; LVBS by iretq.
    if (this.asLitebox && !this.#kernel.vtl) this.#returning = thread;
  }
}

class LiveHome implements SegmentHome {
  inGuest = false;
  readonly #cpu: PlatformCpu;
  readonly #block: HostBlock;

  constructor(cpu: PlatformCpu, block: HostBlock) {
    this.#cpu = cpu;
    this.#block = block;
  }

  get fsBase(): bigint {
    return this.#cpu.privileged.fsBase;
  }
  set fsBase(base: bigint) {
    this.#cpu.privileged.fsBase = base;
  }
  get gsBase(): bigint {
    const { privileged } = this.#cpu;
    return this.inGuest ? privileged.gsBase : privileged.kernelGsBase;
  }
  set gsBase(base: bigint) {
    const { privileged } = this.#cpu;
    if (this.inGuest) privileged.gsBase = base;
    else privileged.kernelGsBase = base;
  }
  selector(segment: "fs" | "gs"): number {
    return this.#cpu.selector(segment);
  }
  /** The base that a GS selector brings is the guest's. */
  loadSelector(segment: "fs" | "gs", selector: number): boolean {
    const { privileged } = this.#cpu;
    const loaded = privileged.loadSelector(segment, selector);
    if (segment === "gs" && loaded && !this.inGuest) {
      privileged.kernelGsBase = privileged.gsBase;
      privileged.gsBase = this.#block.base;
    }
    return loaded;
  }
}
