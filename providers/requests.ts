import type { UserDesc } from "../emulator/descriptors.ts";

/**
 * What a shim may ask of a platform: every change of thread-local storage a guest causes, and the reads that belong to
 * it. `legacy` is `modify_ldt` function 1; otherwise function 0x11.
 */
export type Request =
  | { kind: "SetFsBase"; address: bigint }
  | { kind: "GetFsBase" }
  | { kind: "SetGsBase"; address: bigint }
  | { kind: "GetGsBase" }
  | { kind: "SetThreadArea"; desc: UserDesc }
  | { kind: "GetThreadArea"; entry_number: number }
  | { kind: "SetLdtEntry"; desc: UserDesc; legacy: boolean }
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
