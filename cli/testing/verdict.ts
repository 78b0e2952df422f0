import { excerpt } from "./excerpt.ts";
import type { Observed } from "./observed.ts";

/** What a check says of a run. */
export interface Verdict {
  readonly pass: boolean;
  /** One sentence: what was expected, and what was. Of a check that passed, for who expected the contrary. */
  readonly headline: string;
  /** More lines under the headline. */
  readonly details?: readonly string[];
  /** Index of the event to show. */
  readonly focus?: number | undefined;
}

/** The whole message of a verdict. */
export function explain(run: Observed, verdict: Verdict): string {
  const details = (verdict.details ?? []).map((line) => `  ${line}`);
  return [verdict.headline, ...details, "", excerpt(run, verdict.focus)].join("\n");
}
