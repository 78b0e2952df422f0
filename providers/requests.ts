import type { UserDesc } from "../emulator/descriptors.ts";
import type { SegmentName } from "../emulator/privileged.ts";

/**
 * What a shim may ask of a platform: every change of thread-local storage a guest causes, and the reads that belong to
 * it. With `keepsSelector` a base is set under whatever selector there is, as a tracer sets it. `legacy` is `modify_ldt` function 1; otherwise function 0x11. `LoadSelectors` is what a kernel does around a signal
 * handler: a data segment that does not load becomes null; where CS or SS does not load, both stay and the value is the
 * exception that the return to user mode raises, `vector << 16 | error code`.
 */
export type Request =
  | { kind: "SetFsBase"; address: bigint; keepsSelector?: true }
  | { kind: "GetFsBase" }
  | { kind: "SetGsBase"; address: bigint; keepsSelector?: true }
  | { kind: "GetGsBase" }
  | { kind: "SetThreadArea"; desc: UserDesc }
  | { kind: "GetThreadArea"; entry_number: number }
  | { kind: "SetLdtEntry"; desc: UserDesc; legacy: boolean }
  | { kind: "LoadSelectors"; selectors: Readonly<Partial<Record<SegmentName, number>>> }
  | { kind: "ClearTls" };

/** Who asks: the guest thread, the guest instruction that trapped, and the system call (or shim event) it made. */
export interface Asker {
  thread: number;
  pc: bigint;
  /** The symbol around `pc`, where the shim knows one. */
  symbol?: string | undefined;
  call: string;
}

/** Which side of a composed provider answered, outermost first. */
export type Side = "Left" | "Right";

/** What executing a token gives: LiteBox' `Result<ReturnSuccess, PunchthroughError<ReturnFailure>>`. */
export type Result =
  /** `desc` is the description with the entry that was chosen or read. */
  | { kind: "ok"; value: bigint; desc?: UserDesc }
  /** The operation was attempted and failed; `errno` is a positive Linux number. */
  | { kind: "failure"; errno: number; sides?: readonly Side[] }
  /** This platform will never do it. */
  | { kind: "unsupported" }
  /** This platform could do it, but it is not written; `name` says what. */
  | { kind: "unimplemented"; name: string };

/** What a shim gets back. A denial is no error of the platform; the shim decides what its guest sees. */
export type Outcome = Result | Denial;

/** No token was given. `errno` is set where the rule says what the guest shall see. */
interface Denial {
  kind: "denied";
  rule: string;
  errno?: number;
}
