import type { TlsState } from "../../providers/state.ts";
import type { Kernel } from "../../shims/linux/task.ts";
import type { TraceConsumer, TraceEvent } from "../../shims/linux/trace/trace.ts";
import { TextTrace } from "../../shims/linux/trace/trace-text.ts";
import type { StateChange, TraceLine } from "./observed.ts";

/** Gathers events with their lines, and the TLS state behind each. */
export class Collector implements TraceConsumer {
  readonly events: TraceEvent[] = [];
  readonly lines: TraceLine[] = [];
  readonly states: StateChange[] = [];
  kernel: Kernel | undefined;
  readonly #text: TextTrace;
  readonly #last = new Map<number, TlsState>();

  constructor() {
    const write = (text: string): void => {
      // A token stands under its call, four columns in; no other line begins so.
      const token = /^(\[pid +\d+\] )? {4}\S/.test(text);
      this.lines.push({ text, event: this.events.length, token });
    };
    this.#text = new TextTrace({ write, tokens: true });
  }

  event(event: TraceEvent): void {
    this.#text.event(event);
    const task = this.kernel?.current;
    if (event.kind !== "ended" && task?.tid === event.tid) this.#note(task.tid, this.kernel?.gate.state(task.tid));
    this.events.push(event);
  }

  #note(thread: number, state: TlsState | undefined): void {
    const last = this.#last.get(thread);
    if (state === undefined || (last !== undefined && sameState(last, state))) return;
    this.#last.set(thread, state);
    this.states.push({ event: this.events.length, thread, state });
  }
}

function sameState(a: TlsState, b: TlsState): boolean {
  return a.fsBase === b.fsBase && a.gsBase === b.gsBase && a.fs === b.fs && a.gs === b.gs;
}
