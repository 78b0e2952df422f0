import type { Asker, Request } from "./requests.ts";

/** A policy's answer. `rule` names what decided; `errno` (positive) is what the guest of a denied call shall see. */
export type Decision = { allow: true; rule?: string } | { allow: false; rule: string; errno?: number };

/** Decides before a provider is asked for a token. It may look, but not touch. */
export interface Policy {
  decide(request: Request, asker: Asker): Decision;
}

const ALLOWED: Decision = Object.freeze({ allow: true });

/** Every request may go to the platform. */
export const allowAll: Policy = Object.freeze({ decide: () => ALLOWED });
