import { Vector } from "../emulator/x86.ts";
import { type HostBlock, HostBlocks, type PlatformOptions, writeFsBase } from "./host.ts";
import { HostPanic, type LeaveReason, type Lifecycle } from "./lifecycle.ts";
import { DONE, executeAsLinux, UNSUPPORTED } from "./linux-tls.ts";
import { refusalOfLitebox } from "./litebox.ts";
import { GuestView, type PlatformCpu, type SegmentHome } from "./platform.ts";
import type { PunchthroughProvider, PunchthroughToken } from "./punchthrough.ts";
import type { Asker, Request, Result } from "./requests.ts";

/**
 * LiteBox in a Windows process. GS base is the thread's environment block (TEB), so the guest cannot use GS; FS is free. The
 * guest's FS base is in the CPU and in a variable (`THREAD_FS_BASE`), which only requests change: what a guest writes with
 * `wrfsbase` lasts until the next way out of the shim. Windows zeroes FS base whenever it reschedules a thread; the first access
 * through FS then faults, which the exception handler recognises by base 0 in the CPU and another one in the variable: it
 * writes the base again and lets the instruction run once more.
 */
export class WindowsUserland implements PunchthroughProvider, Lifecycle {
  readonly name = "windows-userland";
  readonly abis = ["x86_64"] as const;
  readonly lifecycle = this;
  readonly repairsZeroBase = true;
  readonly asLitebox: boolean;
  readonly #options: PlatformOptions;
  readonly #threads = new Map<number, WindowsHome>();
  readonly #blocks = new HostBlocks(this.name, true);

  constructor(options: PlatformOptions) {
    this.asLitebox = options.asLitebox;
    this.#options = options;
  }

  getPunchthroughTokenFor(request: Request, asker: Asker): PunchthroughToken {
    return { provider: this.name, execute: () => this.#execute(request, this.#thread(asker.thread)) };
  }

  guestCpu(thread: number): PlatformCpu | undefined {
    return this.#threads.get(thread)?.view;
  }

  storedBase(thread: number): bigint | undefined {
    return this.#threads.get(thread)?.stored;
  }

  #execute(request: Request, thread: WindowsHome): Result {
    const { layout } = this.#options.platform;
    if (this.asLitebox) {
      const refusal = refusalOfLitebox(request, "x86_64");
      if (refusal !== undefined) return refusal;
      if (request.kind === "LoadSelectors") return DONE;
    }
    switch (request.kind) {
      case "SetFsBase": {
        const result = this.asLitebox ? DONE : executeAsLinux(thread.view, layout, request);
        if (result.kind !== "ok") return result;
        thread.stored = request.address;
        writeFsBase(this.#options, this.name, request.address);
        return result;
      }
      case "SetGsBase":
      case "GetGsBase":
        return UNSUPPORTED;
      default:
        return executeAsLinux(thread.view, layout, request);
    }
  }

  #thread(id: number): WindowsHome {
    return this.#threads.get(id) ?? this.#attach(id, 0n);
  }

  #attach(id: number, stored: bigint): WindowsHome {
    const thread = new WindowsHome(this.#options.platform.cpu, this.#blocks.create());
    thread.stored = stored;
    this.#threads.set(id, thread);
    this.attach(id);
    return thread;
  }

  attach(id: number): void {
    const thread = this.#thread(id);
    thread.inGuest = false;
    thread.switchedOut = false;
    this.#options.platform.cpu.privileged.gsBase = thread.block.base;
  }

  enterGuest(id: number): void {
    const thread = this.#thread(id);
    if (thread.inGuest) return;
    thread.inGuest = true;
    // A thread that was only switched out is not resumed by LiteBox but by Windows.
    if (thread.switchedOut) this.rescheduled(id);
    else writeFsBase(this.#options, this.name, thread.stored);
    thread.switchedOut = false;
  }

  leaveGuest(id: number, reason: LeaveReason): void {
    const thread = this.#thread(id);
    if (!thread.inGuest) return;
    thread.inGuest = false;
    thread.switchedOut = reason === "switch";
    thread.faultBase = this.#options.platform.cpu.privileged.fsBase;
    this.#blocks.check(thread.block, this.#options.platform.cpu.privileged.gsBase, "GS");
  }

  rescheduled(_thread: number): void {
    this.#options.platform.cpu.privileged.fsBase = 0n;
  }

  retries(id: number, vector: number): boolean {
    const thread = this.#thread(id);
    // Windows reports an address that is not canonical as an access violation too.
    const violation = vector === Vector.PF || vector === Vector.GP;
    return violation && thread.faultBase === 0n && thread.stored !== 0n;
  }

  threadStart(id: number, parent: number | undefined): void {
    const stored = parent === undefined || this.asLitebox ? 0n : this.#thread(parent).stored;
    this.#attach(id, stored);
  }

  threadExit(id: number): void {
    this.#threads.delete(id);
  }

  exec(id: number, was: number): void {
    if (was !== id) this.#threads.delete(was);
  }

  /** The shim has taken the thread in hand, so it is LiteBox that resumes it. */
  signal(id: number): void {
    this.#thread(id).switchedOut = false;
  }

  sigreturn(id: number): void {
    this.#thread(id).switchedOut = false;
  }
}

class WindowsHome implements SegmentHome {
  /** Stands for the TEB. */
  readonly block: HostBlock;
  readonly view: PlatformCpu;
  /** `THREAD_FS_BASE`. */
  stored = 0n;
  inGuest = false;
  switchedOut = false;
  /** What was in the CPU when the guest stopped. */
  faultBase = 0n;
  readonly #cpu: PlatformCpu;

  constructor(cpu: PlatformCpu, block: HostBlock) {
    this.#cpu = cpu;
    this.block = block;
    this.view = new GuestView(cpu, this);
  }

  get fsBase(): bigint {
    return this.inGuest ? this.#cpu.privileged.fsBase : this.stored;
  }
  set fsBase(base: bigint) {
    this.stored = base;
    this.#cpu.privileged.fsBase = base;
  }
  /** The guest has none of its own. */
  get gsBase(): bigint {
    return 0n;
  }
  set gsBase(base: bigint) {
    if (base !== 0n) throw new HostPanic("windows-userland", "the guest's GS base is that of the TEB");
  }
  selector(segment: "fs" | "gs"): number {
    return this.#cpu.selector(segment);
  }
  loadSelector(segment: "fs" | "gs", selector: number): boolean {
    const { privileged } = this.#cpu;
    const loaded = privileged.loadSelector(segment, selector);
    if (segment === "gs") privileged.gsBase = this.block.base;
    else if (loaded) this.stored = privileged.fsBase;
    return loaded;
  }
}
