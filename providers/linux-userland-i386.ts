import { decodeDescriptor, flatData, toDescriptor } from "../emulator/descriptors.ts";
import { type HostBlock, HostBlocks, type PlatformOptions } from "./host.ts";
import { HostPanic, type Lifecycle } from "./lifecycle.ts";
import { DONE, executeAsLinux, UNSUPPORTED } from "./linux-tls.ts";
import { refusalOfLitebox } from "./litebox.ts";
import { GuestView, type PlatformCpu, type SegmentHome } from "./platform.ts";
import type { PunchthroughProvider, PunchthroughToken } from "./punchthrough.ts";
import type { Asker, Request, Result } from "./requests.ts";

/** A free entry of the GDT, for the host's C library where its descriptor shall not be in the guest's way. */
const FREE_ENTRY = 7;
/** The first TLS entry of an x86-64 kernel, which the host's C library has taken before the guest starts. */
const FIRST_TLS_ENTRY = 12;

/**
 * LiteBox in a Linux process, 32-bit guests. `set_thread_area` goes on to the host's kernel, so the guest's descriptors are in
 * the CPU's own table; its GS selector is saved on the way in and loaded on the way out. While the guest runs, FS is a copy of
 * the host's GS, so the guest cannot use FS; while the shim runs, GS is the host's.
 */
export class LinuxUserlandI386 implements PunchthroughProvider, Lifecycle {
  readonly name = "linux-userland";
  readonly abis = ["i386"] as const;
  readonly lifecycle = this;
  readonly asLitebox: boolean;
  readonly #options: PlatformOptions;
  readonly #hostEntry: number;
  readonly #threads = new Map<number, SelectorHome>();
  readonly #blocks = new HostBlocks(this.name, false);

  constructor(options: PlatformOptions) {
    this.asLitebox = options.asLitebox;
    this.#options = options;
    this.#hostEntry = options.asLitebox ? FIRST_TLS_ENTRY : FREE_ENTRY;
  }

  getPunchthroughTokenFor(request: Request, asker: Asker): PunchthroughToken {
    return { provider: this.name, execute: () => this.#execute(request, this.#thread(asker.thread)) };
  }

  guestCpu(thread: number): PlatformCpu | undefined {
    return this.#threads.get(thread)?.view;
  }

  #execute(request: Request, thread: SelectorHome): Result {
    const { view } = thread;
    const { layout } = this.#options.platform;
    if (this.asLitebox) {
      const refusal = refusalOfLitebox(request, "i386");
      if (refusal !== undefined) return refusal;
      if (request.kind === "ClearTls") return this.#clearAsLitebox(thread);
      if (request.kind === "LoadSelectors") {
        const { gs } = request.selectors;
        return executeAsLinux(view, layout, { kind: "LoadSelectors", selectors: gs === undefined ? {} : { gs } });
      }
    }
    switch (request.kind) {
      case "SetFsBase":
      case "GetFsBase":
      case "SetGsBase":
      case "GetGsBase":
        return UNSUPPORTED;
      default:
        return executeAsLinux(view, layout, request);
    }
  }

  /** The host is asked to zero the entry that GS selects, and a new program's segment slots are 0. */
  #clearAsLitebox(thread: SelectorHome): Result {
    const entry = thread.saved >> 3;
    if (thread.saved !== 0 && (thread.saved & 4) === 0) thread.view.privileged.setGdtEntry(entry, 0n);
    thread.saved = 0;
    return DONE;
  }

  #thread(id: number): SelectorHome {
    return this.#threads.get(id) ?? this.#attach(id);
  }

  #attach(id: number): SelectorHome {
    const { cpu } = this.#options.platform;
    const thread = new SelectorHome(cpu, this.#blocks.create(), (this.#hostEntry << 3) | 3);
    this.#threads.set(id, thread);
    this.attach(id);
    return thread;
  }

  attach(id: number): void {
    const thread = this.#thread(id);
    const { privileged } = this.#options.platform.cpu;
    thread.inGuest = false;
    privileged.setGdtEntry(this.#hostEntry, toDescriptor(flatData(this.#hostEntry, Number(thread.block.base))));
    privileged.loadSelector("gs", thread.hostSelector);
    privileged.loadSelector("fs", thread.hostSelector);
  }

  enterGuest(id: number): void {
    const thread = this.#thread(id);
    if (thread.inGuest) return;
    const { privileged } = this.#options.platform.cpu;
    if (!privileged.loadSelector("gs", thread.saved)) {
      if (this.asLitebox) {
        const selector = `0x${thread.saved.toString(16)}`;
        throw new HostPanic(this.name, `pop gs of the guest's selector ${selector} raises an exception`);
      }
      privileged.loadSelector("gs", 0);
    }
    thread.inGuest = true;
  }

  leaveGuest(id: number): void {
    const thread = this.#thread(id);
    if (!thread.inGuest) return;
    thread.inGuest = false;
    const { cpu } = this.#options.platform;
    thread.saved = cpu.selector("gs");
    cpu.privileged.loadSelector("gs", cpu.selector("fs"));
    this.#blocks.check(thread.block, cpu.privileged.gsBase, "GS");
  }

  rescheduled(): void {
    // The host's kernel gives a thread back the selectors it had.
  }

  retries(): boolean {
    return false;
  }

  threadStart(id: number, parent: number | undefined): void {
    const saved = parent === undefined ? 0 : this.#thread(parent).saved;
    this.#attach(id).saved = saved;
  }

  threadExit(id: number): void {
    this.#threads.delete(id);
  }

  exec(id: number, was: number): void {
    if (was !== id) this.#threads.delete(was);
  }

  signal(): void {
    // The frame's selectors are the saved ones.
  }

  sigreturn(): void {
    // The selectors came back by a request.
  }
}

/** A guest thread, which is a thread of the host process: GS is saved while the shim runs. */
class SelectorHome implements SegmentHome {
  readonly block: HostBlock;
  readonly hostSelector: number;
  readonly view: PlatformCpu;
  saved = 0;
  inGuest = false;
  readonly #cpu: PlatformCpu;

  constructor(cpu: PlatformCpu, block: HostBlock, hostSelector: number) {
    this.#cpu = cpu;
    this.block = block;
    this.hostSelector = hostSelector;
    this.view = new GuestView(cpu, this);
  }

  /** The guest has none of its own. */
  get fsBase(): bigint {
    return 0n;
  }
  set fsBase(base: bigint) {
    if (base !== 0n) throw new HostPanic("linux-userland", "the guest's FS is the host's");
  }
  get gsBase(): bigint {
    const { privileged } = this.#cpu;
    if (this.inGuest) return privileged.gsBase;
    const index = this.saved >> 3;
    if ((this.saved & ~3) === 0) return 0n;
    if ((this.saved & 4) === 0) return BigInt(decodeDescriptor(privileged.gdtEntry(index)).base);
    return index < privileged.ldtSize ? BigInt(decodeDescriptor(privileged.ldtEntry(index)).base) : 0n;
  }
  /** There is no base without a selector here: 0 comes with the null selector. */
  set gsBase(base: bigint) {
    if (base !== 0n) throw new HostPanic("linux-userland", "a 32-bit guest's GS base comes from a descriptor");
  }
  selector(segment: "fs" | "gs"): number {
    if (segment === "fs") return 0;
    return this.inGuest ? this.#cpu.selector("gs") : this.saved;
  }
  loadSelector(segment: "fs" | "gs", selector: number): boolean {
    const { privileged } = this.#cpu;
    const loaded = privileged.loadSelector(segment, selector);
    if (loaded && segment === "gs") this.saved = selector;
    if (segment === "fs" || !this.inGuest) privileged.loadSelector(segment, this.hostSelector);
    return loaded;
  }
}
