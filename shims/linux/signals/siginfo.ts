/**
 * `siginfo_t`. Inside it is kept as the 48 bytes of the 64-bit kernel's own struct (kernel_siginfo), whatever the ABI of who sent
 * and who gets it; the 32-bit form is made from it by layout, as kernel/signal.c's copy_siginfo_to_external32 does.
 */
import type { GuestMemory } from "../../../emulator/memory.ts";
import type { Abi } from "../abi.ts";
import { NSIG, SiCode, Signal } from "./numbers.ts";

/** What user space sees, on both ABIs. */
export const SIGINFO_BYTES = 128;
const KERNEL_BYTES = 48;
const TWO_32 = 2 ** 32;

/** Which union member is set (enum siginfo_layout). */
type Layout = "kill" | "timer" | "poll" | "fault" | "mceerr" | "bounds" | "key" | "trapno" | "child" | "queue" | "sys";

/** Highest si_code that belongs to the signal itself (NSIGILL and its kin), and the layout it has. */
const OWN_CODES: ReadonlyMap<number, readonly [number, Layout]> = new Map([
  [Signal.SIGILL, [11, "fault"]],
  [Signal.SIGFPE, [15, "fault"]],
  [Signal.SIGSEGV, [10, "fault"]],
  [Signal.SIGBUS, [5, "fault"]],
  [Signal.SIGTRAP, [6, "fault"]],
  [Signal.SIGCHLD, [6, "child"]],
  [Signal.SIGIO, [6, "poll"]],
  [Signal.SIGSYS, [2, "sys"]],
]);
const NSIGPOLL = 6;
const BUS_MCEERR_AR = 4;
const SEGV_BNDERR = 3;
const SEGV_PKUERR = 4;
const TRAP_PERF = 6;

function layoutOf(signal: number, code: number): Layout {
  if (code > SiCode.SI_USER && code < SiCode.SI_KERNEL) {
    const [limit, layout] = OWN_CODES.get(signal) ?? [0, "kill"];
    if (code > limit) return code <= NSIGPOLL ? "poll" : "kill";
    if (signal === Signal.SIGBUS && code >= BUS_MCEERR_AR) return "mceerr";
    if (signal === Signal.SIGSEGV && code === SEGV_BNDERR) return "bounds";
    if (signal === Signal.SIGSEGV && code === SEGV_PKUERR) return "key";
    if (signal === Signal.SIGTRAP && code === TRAP_PERF) return "trapno";
    return layout;
  }
  if (code === SiCode.SI_TIMER) return "timer";
  if (code === SiCode.SI_SIGIO) return "poll";
  return code < 0 ? "queue" : "kill";
}

/** Where each layout's fields lie: [offset on 64-bit, offset on i386, is a long]. */
const FIELDS: Readonly<Record<Layout, readonly (readonly [number, number, boolean])[]>> = {
  kill: [
    [16, 12, false],
    [20, 16, false],
  ],
  timer: [
    [16, 12, false],
    [20, 16, false],
    [24, 20, false],
  ],
  poll: [
    [16, 12, true],
    [24, 16, false],
  ],
  fault: [[16, 12, true]],
  mceerr: [
    [16, 12, true],
    [24, 16, false],
  ],
  bounds: [
    [16, 12, true],
    [32, 20, true],
    [40, 24, true],
  ],
  key: [
    [16, 12, true],
    [32, 20, false],
  ],
  trapno: [
    [16, 12, true],
    [24, 16, true],
    [32, 20, false],
    [36, 24, false],
  ],
  child: [
    [16, 12, false],
    [20, 16, false],
    [24, 20, false],
    [32, 24, true],
    [40, 28, true],
  ],
  queue: [
    [16, 12, false],
    [20, 16, false],
    [24, 20, true],
  ],
  sys: [
    [16, 12, true],
    [24, 16, false],
    [28, 20, false],
  ],
};

/** One queued signal's information. */
export class SigInfo {
  readonly #bytes = new Uint8Array(KERNEL_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);

  constructor(signal: number, code: number, errno = 0) {
    this.#view.setInt32(0, signal, true);
    this.#view.setInt32(4, errno, true);
    this.#view.setInt32(8, code, true);
  }

  /** kill, tkill: who sent it. */
  static sent(signal: number, code: number, pid: number, uid: number): SigInfo {
    const info = new SigInfo(signal, code);
    info.pid = pid;
    info.uid = uid;
    return info;
  }

  /** @param address si_addr */
  static fault(signal: number, code: number, address: bigint): SigInfo {
    const info = new SigInfo(signal, code);
    info.#view.setBigUint64(16, address, true);
    return info;
  }

  /** @param band si_band, poll bits */
  static io(signal: number, code: number, band: number, fd: number): SigInfo {
    const info = new SigInfo(signal, code);
    info.setWord(16, band);
    info.#view.setInt32(24, fd, true);
    return info;
  }

  /** A system call that is not made. @param address behind its instruction; @param arch AUDIT_ARCH_* */
  static call(code: number, address: bigint, number: number, arch: number, errno = 0): SigInfo {
    const info = new SigInfo(Signal.SIGSYS, code, errno);
    info.#view.setBigUint64(16, address, true);
    info.#view.setInt32(24, number, true);
    info.#view.setUint32(28, arch, true);
    return info;
  }

  static child(o: {
    signal: number;
    code: number;
    pid: number;
    uid: number;
    status: number;
    /** Clock ticks (1/100 s). */
    utime: number;
    stime: number;
  }): SigInfo {
    const info = SigInfo.sent(o.signal, o.code, o.pid, o.uid);
    info.#view.setInt32(24, o.status, true);
    info.setWord(32, o.utime);
    info.setWord(40, o.stime);
    return info;
  }

  get signal(): number {
    return this.#view.getInt32(0, true);
  }
  set signal(value: number) {
    this.#view.setInt32(0, value, true);
  }
  get errno(): number {
    return this.#view.getInt32(4, true);
  }
  get code(): number {
    return this.#view.getInt32(8, true);
  }
  get pid(): number {
    return this.#view.getInt32(16, true);
  }
  set pid(value: number) {
    this.#view.setInt32(16, value, true);
  }
  get uid(): number {
    return this.#view.getUint32(20, true);
  }
  set uid(value: number) {
    this.#view.setUint32(20, value, true);
  }
  /** si_timerid lies where si_pid does, si_overrun where si_uid does. */
  get overrun(): number {
    return this.#view.getInt32(20, true);
  }
  set overrun(value: number) {
    this.#view.setInt32(20, value, true);
  }
  /** si_status. */
  get status(): number {
    return this.#view.getInt32(24, true);
  }
  /** si_value.sival_ptr. */
  get value(): bigint {
    return this.#view.getBigUint64(24, true);
  }
  set value(value: bigint) {
    this.#view.setBigUint64(24, value, true);
  }
  get layout(): Layout {
    return layoutOf(this.signal, this.code);
  }

  /** A long at a byte offset of the 64-bit layout. */
  word(offset: number): bigint {
    return this.#view.getBigUint64(offset, true);
  }
  setWord(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
    this.#view.setUint32(offset + 4, Math.floor(value / TWO_32), true);
  }
  int(offset: number): number {
    return this.#view.getInt32(offset, true);
  }

  /** The 128 bytes user space gets. */
  image(abi: Abi, into: Uint8Array = new Uint8Array(SIGINFO_BYTES), at = 0): Uint8Array {
    if (abi.word === 8) {
      into.set(this.#bytes, at);
      return into;
    }
    into.set(this.#bytes.subarray(0, 12), at);
    for (const [wide, narrow] of FIELDS[this.layout]) into.set(this.#bytes.subarray(wide, wide + 4), at + narrow);
    return into;
  }

  /** @throws MemoryFault */
  write(memory: GuestMemory, address: number, abi: Abi): void {
    memory.write(address, this.image(abi));
  }

  /**
   * Reads what a program passes to rt_sigqueueinfo; si_signo becomes `signal`. Undefined when bytes are set that the kernel has no
   * room for (E2BIG).
   * @throws MemoryFault
   */
  static read(memory: GuestMemory, address: number, abi: Abi, signal: number): SigInfo | undefined {
    const raw = memory.bytes(address, SIGINFO_BYTES);
    const info = new SigInfo(0, 0);
    if (abi.word === 8) {
      info.#bytes.set(raw.subarray(0, KERNEL_BYTES));
      info.signal = signal;
      const known = signal <= NSIG && info.hasKnownLayout;
      return known || raw.subarray(KERNEL_BYTES).every((byte) => byte === 0) ? info : undefined;
    }
    info.#bytes.set(raw.subarray(0, 12));
    info.signal = signal;
    for (const [wide, narrow] of FIELDS[info.layout]) info.#bytes.set(raw.subarray(narrow, narrow + 4), wide);
    return info;
  }

  /** known_siginfo_layout: the code is one of the kernel's own, or one that says who sent it. */
  private get hasKnownLayout(): boolean {
    const { signal, code } = this;
    if (code === SiCode.SI_KERNEL) return true;
    if (code > SiCode.SI_USER) return code <= (OWN_CODES.get(signal)?.[0] ?? 0) || code <= NSIGPOLL;
    return code >= -7 || code === -60;
  }
}
