/** TASK timer slack of a new process, ns. */
export const DEFAULT_SLACK_NS = 50_000;

/** What prctl keeps of a process; most of it is only read back. */
export interface PrctlState {
  timerSlack: number;
  subreaper: boolean;
  thpDisabled: boolean;
}

export function initialPrctl(): PrctlState {
  return { timerSlack: DEFAULT_SLACK_NS, subreaper: false, thpDisabled: false };
}
