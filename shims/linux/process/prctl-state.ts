/** Timer slack of the first process, ns. */
const DEFAULT_SLACK_NS = 50_000;

/** What prctl keeps of a process; most of it is only read back. */
export interface PrctlState {
  timerSlack: number;
  /** What PR_SET_TIMERSLACK with 0 goes back to: the slack of the thread that made it. */
  defaultSlack: number;
  subreaper: boolean;
  thpDisabled: boolean;
}

export function initialPrctl(): PrctlState {
  return { timerSlack: DEFAULT_SLACK_NS, defaultSlack: DEFAULT_SLACK_NS, subreaper: false, thpDisabled: false };
}
