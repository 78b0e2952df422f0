/** What whoever watches a TEE is told, in order. Formatters make text and JSON lines of it. */
import type { PanicReport } from "./panic.ts";

/** Which TA, by its number in this run and its UUID. */
interface Who {
  readonly instance: number;
  readonly uuid: string;
}

/** A call of a TA or of ldelf, with its arguments as the trace shows them. */
export interface CallEvent extends Who {
  readonly kind: "call";
  /** `utee` or `ldelf`. */
  readonly table: string;
  readonly number: number;
  readonly name: string;
  readonly args: readonly { readonly name: string; readonly text: string }[];
  /** Undefined when the call does not come back. */
  readonly result: number | undefined;
  /** Why it failed, where that is known. */
  readonly reason: string | undefined;
}

export type TeeEvent =
  | CallEvent
  | (Who & { readonly kind: "log"; readonly text: string })
  | (Who & { readonly kind: "enter"; readonly entry: string; readonly session: number; readonly command: number })
  | (Who & { readonly kind: "leave"; readonly entry: string; readonly session: number; readonly result: bigint })
  | (Who & { readonly kind: "panic"; readonly report: PanicReport });

export type TeeWatcher = (event: TeeEvent) => void;
