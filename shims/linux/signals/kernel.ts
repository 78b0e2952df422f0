/** What all processes of a run share about signals. */
import { UserCounts } from "../process/user-counts.ts";
import { FrameScratch } from "./fpstate.ts";
import { TimerList } from "./timers.ts";

export class KernelSignals {
  /** Of queued signals (RLIMIT_SIGPENDING). */
  readonly counts = new UserCounts();
  readonly timers = new TimerList();
  readonly scratch = new FrameScratch();
}
