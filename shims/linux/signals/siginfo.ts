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
/** si_signo, si_errno and si_code: in both layouts alike. */
const HEADER_BYTES = 12;
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

function getInt(from: Uint8Array, at: number): number {
  return (from[at] ?? 0) | ((from[at + 1] ?? 0) << 8) | ((from[at + 2] ?? 0) << 16) | ((from[at + 3] ?? 0) << 24);
}

function putInt(into: Uint8Array, at: number, value: number): void {
  into[at] = value;
  into[at + 1] = value >> 8;
  into[at + 2] = value >> 16;
  into[at + 3] = value >> 24;
}

/** One queued signal's information. */
export class SigInfo {
  /** Ints in their places. Small, and never asked for its buffer: V8 keeps it with its objects, which costs a tenth. */
  readonly #words = new Int32Array(KERNEL_BYTES / 4);

  constructor(signal: number, code: number, errno = 0) {
    this.#setInt(0, signal);
    this.#setInt(4, errno);
    this.#setInt(8, code);
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
    info.#setLong(16, address);
    return info;
  }

  /** @param band si_band, poll bits */
  static io(signal: number, code: number, band: number, fd: number): SigInfo {
    const info = new SigInfo(signal, code);
    info.setWord(16, band);
    info.#setInt(24, fd);
    return info;
  }

  /** A system call that is not made. @param address behind its instruction; @param arch AUDIT_ARCH_* */
  static call(code: number, address: bigint, number: number, arch: number, errno = 0): SigInfo {
    const info = new SigInfo(Signal.SIGSYS, code, errno);
    info.#setLong(16, address);
    info.#setInt(24, number);
    info.#setInt(28, arch);
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
    info.#setInt(24, o.status);
    info.setWord(32, o.utime);
    info.setWord(40, o.stime);
    return info;
  }

  get signal(): number {
    return this.int(0);
  }
  set signal(value: number) {
    this.#setInt(0, value);
  }
  get errno(): number {
    return this.int(4);
  }
  get code(): number {
    return this.int(8);
  }
  get pid(): number {
    return this.int(16);
  }
  set pid(value: number) {
    this.#setInt(16, value);
  }
  get uid(): number {
    return this.int(20) >>> 0;
  }
  set uid(value: number) {
    this.#setInt(20, value);
  }
  /** si_timerid lies where si_pid does, si_overrun where si_uid does. */
  get overrun(): number {
    return this.int(20);
  }
  set overrun(value: number) {
    this.#setInt(20, value);
  }
  /** si_status. */
  get status(): number {
    return this.int(24);
  }
  /** si_value.sival_ptr. */
  get value(): bigint {
    return this.word(24);
  }
  set value(value: bigint) {
    this.#setLong(24, value);
  }
  get layout(): Layout {
    return layoutOf(this.signal, this.code);
  }

  /** A long at a byte offset of the 64-bit layout. */
  word(offset: number): bigint {
    return (BigInt(this.int(offset + 4) >>> 0) << 32n) | BigInt(this.int(offset) >>> 0);
  }
  setWord(offset: number, value: number): void {
    this.#setInt(offset, value);
    this.#setInt(offset + 4, Math.floor(value / TWO_32));
  }
  #setLong(offset: number, value: bigint): void {
    this.#setInt(offset, Number(BigInt.asIntN(32, value)));
    this.#setInt(offset + 4, Number(BigInt.asIntN(32, value >> 32n)));
  }
  int(offset: number): number {
    return this.#words[offset >> 2] ?? 0;
  }
  #setInt(offset: number, value: number): void {
    this.#words[offset >> 2] = value;
  }

  /** The 128 bytes user space gets. */
  image(abi: Abi, into: Uint8Array = new Uint8Array(SIGINFO_BYTES), at = 0): Uint8Array {
    const whole = abi.word === 8 ? KERNEL_BYTES : HEADER_BYTES;
    for (let offset = 0; offset < whole; offset += 4) putInt(into, at + offset, this.int(offset));
    if (abi.word === 4) for (const [wide, narrow] of FIELDS[this.layout]) putInt(into, at + narrow, this.int(wide));
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
      for (let offset = 0; offset < KERNEL_BYTES; offset += 4) info.#setInt(offset, getInt(raw, offset));
      info.signal = signal;
      const known = signal <= NSIG && info.hasKnownLayout;
      return known || raw.subarray(KERNEL_BYTES).every((byte) => byte === 0) ? info : undefined;
    }
    for (let offset = 0; offset < HEADER_BYTES; offset += 4) info.#setInt(offset, getInt(raw, offset));
    info.signal = signal;
    for (const [wide, narrow] of FIELDS[info.layout]) info.#setInt(wide, getInt(raw, narrow));
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
