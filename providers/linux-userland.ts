import { type HostBlock, HostBlocks, type PlatformOptions, writeFsBase } from "./host.ts";
import { HostPanic, type LeaveReason, type Lifecycle } from "./lifecycle.ts";
import { DONE, executeAsLinux, UNSUPPORTED } from "./linux-tls.ts";
import { refusalOfLitebox } from "./litebox.ts";
import { GuestView, type PlatformCpu, type SegmentHome } from "./platform.ts";
import type { PunchthroughProvider, PunchthroughToken } from "./punchthrough.ts";
import type { Asker, Request, Result } from "./requests.ts";

/**
 * LiteBox in a Linux process, 64-bit guests. While the guest runs, GS base is a copy of the host's FS base, so the guest
 * cannot use GS; while the shim runs, FS base is the host's and the guest's is a variable in the host's block. A system call
 * reads FS base into the variable, and so takes over what a guest wrote with `wrfsbase`; the host's signal handlers, by which
 * exceptions and interrupts come in, do not.
 */
export class LinuxUserland implements PunchthroughProvider, Lifecycle {
  readonly name = "linux-userland";
  readonly abis = ["x86_64"] as const;
  readonly lifecycle = this;
  readonly asLitebox: boolean;
  readonly #options: PlatformOptions;
  readonly #threads = new Map<number, UserHome>();
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

  #execute(request: Request, thread: UserHome): Result {
    if (this.asLitebox) {
      const refusal = refusalOfLitebox(request, "x86_64");
      if (refusal !== undefined) return refusal;
      if (request.kind === "SetFsBase") thread.stored = request.address;
      else if (request.kind === "ClearTls") thread.stored = 0n;
      if (request.kind !== "GetFsBase") return DONE;
    }
    switch (request.kind) {
      case "SetGsBase":
      case "GetGsBase":
        return UNSUPPORTED;
      default:
        return executeAsLinux(thread.view, this.#options.platform.layout, request);
    }
  }

  #thread(id: number): UserHome {
    return this.#threads.get(id) ?? this.#attach(id, 0n);
  }

  /** `run_thread_arch`: a host thread takes the CPU, and copies its FS base to GS base. */
  #attach(id: number, stored: bigint): UserHome {
    const block = this.#blocks.create();
    const thread = new UserHome(this.#options, block);
    thread.stored = stored;
    this.#threads.set(id, thread);
    this.attach(id);
    return thread;
  }

  attach(id: number): void {
    const thread = this.#thread(id);
    thread.inGuest = false;
    writeFsBase(this.#options, this.name, thread.block.base);
    this.#options.platform.cpu.privileged.gsBase = thread.block.base;
  }

  enterGuest(id: number): void {
    const thread = this.#thread(id);
    if (thread.inGuest) return;
    writeFsBase(this.#options, this.name, thread.stored);
    thread.inGuest = true;
  }

  leaveGuest(id: number, reason: LeaveReason): void {
    const thread = this.#thread(id);
    if (!thread.inGuest) return;
    thread.inGuest = false;
    const { privileged } = this.#options.platform.cpu;
    // A switch is the host kernel's, which keeps the live base.
    if (reason === "syscall" || reason === "switch") thread.stored = privileged.fsBase;
    writeFsBase(this.#options, this.name, privileged.gsBase);
    this.#blocks.check(thread.block, privileged.fsBase, "GS");
  }

  rescheduled(): void {
    // The host's kernel gives a thread back the bases it had.
  }

  retries(): boolean {
    return false;
  }

  threadStart(id: number, parent: number | undefined): void {
    const inherits = parent !== undefined && !this.asLitebox;
    this.#attach(id, inherits ? this.#thread(parent).stored : 0n);
  }

  threadExit(id: number): void {
    this.#threads.delete(id);
  }

  exec(id: number, was: number): void {
    if (was !== id) this.#threads.delete(was);
  }

  signal(): void {
    // Frames hold no base, and the variable stays.
  }

  sigreturn(): void {
    // As for a handler's start.
  }
}

/** A guest thread, which is a thread of the host process with a block of its own. */
class UserHome implements SegmentHome {
  readonly block: HostBlock;
  readonly view: PlatformCpu;
  /** `guest_fsbase`: the guest's FS base while the shim runs. */
  stored = 0n;
  inGuest = false;
  readonly #options: PlatformOptions;

  constructor(options: PlatformOptions, block: HostBlock) {
    this.#options = options;
    this.block = block;
    this.view = new GuestView(options.platform.cpu, this);
  }

  get fsBase(): bigint {
    return this.inGuest ? this.#options.platform.cpu.privileged.fsBase : this.stored;
  }
  set fsBase(base: bigint) {
    this.stored = base;
    if (this.inGuest) this.#options.platform.cpu.privileged.fsBase = base;
  }
  /** The guest has none of its own. */
  get gsBase(): bigint {
    return 0n;
  }
  set gsBase(base: bigint) {
    if (base !== 0n) throw new HostPanic("linux-userland", "the guest's GS base is the host's");
  }
  selector(segment: "fs" | "gs"): number {
    return this.#options.platform.cpu.selector(segment);
  }
  loadSelector(segment: "fs" | "gs", selector: number): boolean {
    const { privileged } = this.#options.platform.cpu;
    const loaded = privileged.loadSelector(segment, selector);
    if (segment === "gs") privileged.gsBase = this.block.base;
    else if (loaded) {
      this.stored = privileged.fsBase;
      if (!this.inGuest) privileged.fsBase = this.block.base;
    }
    return loaded;
  }
}
