/** What all processes of a run share about signals. */
import { FrameScratch } from "./fpstate.ts";
import { QueueCounts } from "./pending.ts";
import { TimerList } from "./timers.ts";

export class KernelSignals {
  readonly counts = new QueueCounts();
  readonly timers = new TimerList();
  readonly scratch = new FrameScratch();
}
