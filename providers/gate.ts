import { Ledger } from "./ledger.ts";
import type { Platform } from "./platform.ts";
import { allowAll, type Decision, type Policy } from "./policy.ts";
import type { PunchthroughProvider } from "./punchthrough.ts";
import type { Asker, Outcome, Request, Result } from "./requests.ts";
import { captureState, keepChosen } from "./state.ts";
import { type DeskToken, type MisuseKind, TokenDesk } from "./token-desk.ts";

/** How the gate executes a granted token for a thread. Whatever it does, the desk keeps the token's rules. */
export type TokenExecution = (token: DeskToken, thread: number) => Result;

const atOnce: TokenExecution = (token, thread) => token.execute(thread);

export interface GateOptions {
  platform: Platform;
  provider: PunchthroughProvider;
  /** Every record is kept when left out. */
  ledger?: Ledger;
  /** Everything is allowed when left out. */
  policy?: Policy;
  /** At once and once when left out. A fault injector misuses tokens here. */
  execution?: TokenExecution;
}

/** The one way from a shim to the CPU state that `PrivilegedState` holds. */
export class Gate {
  readonly ledger: Ledger;
  readonly #platform: Platform;
  readonly #provider: PunchthroughProvider;
  readonly #policy: Policy;
  readonly #execution: TokenExecution;
  readonly #desk: TokenDesk;

  constructor(options: GateOptions) {
    this.ledger = options.ledger ?? new Ledger();
    this.#platform = options.platform;
    this.#provider = options.provider;
    this.#policy = options.policy ?? allowAll;
    this.#execution = options.execution ?? atOnce;
    this.#desk = new TokenDesk((misuse, token, by) => this.#recordMisuse(misuse, token, by));
  }

  /** The provider's name. */
  get provider(): string {
    return this.#provider.name;
  }

  /**
   * Asks the policy, takes a token from the provider, executes it at once for the asking thread, and writes the ledger.
   * The CPU must be in the context of `asker.thread`.
   */
  punchThrough(request: Request, asker: Asker): Outcome {
    const decision = this.#policy.decide(request, asker);
    if (!this.ledger.active) {
      this.ledger.nextSequence();
      return this.#execute(request, asker, decision).outcome;
    }

    const before = captureState(this.#platform, request);
    const { outcome, provider } = this.#execute(request, asker, decision);
    const granted = outcome.kind !== "denied";
    this.ledger.append({
      sequence: this.ledger.nextSequence(),
      thread: asker.thread,
      pc: asker.pc,
      symbol: asker.symbol,
      call: asker.call,
      request,
      provider,
      verdict: granted ? "granted" : "denied",
      rule: granted ? decision.rule : outcome.rule,
      outcome,
      before: granted ? keepChosen(before, request, outcome) : before,
      after: granted ? keepChosen(captureState(this.#platform, request), request, outcome) : before,
    });
    return outcome;
  }

  /** To be called when a guest thread is about to run again or has ended: a token it still holds counts as dropped. */
  goesOn(thread: number): void {
    this.#desk.goesOn(thread);
  }

  #execute(request: Request, asker: Asker, decision: Decision): { outcome: Outcome; provider: string } {
    const provider = this.#provider.name;
    if (!decision.allow) {
      const { rule, errno } = decision;
      return { outcome: errno === undefined ? { kind: "denied", rule } : { kind: "denied", rule, errno }, provider };
    }
    const inner = this.#provider.getPunchthroughTokenFor(request, asker);
    if (inner === undefined) return { outcome: { kind: "denied", rule: `provider ${provider}` }, provider };
    const token = this.#desk.issue(inner, request, asker);
    return { outcome: this.#execution(token, asker.thread), provider: token.provider };
  }

  #recordMisuse(misuse: MisuseKind, token: DeskToken, by: number): void {
    if (!this.ledger.active) {
      this.ledger.nextSequence();
      return;
    }
    const { request, asker, provider } = token;
    const state = captureState(this.#platform, request);
    this.ledger.append({
      sequence: this.ledger.nextSequence(),
      thread: asker.thread,
      pc: asker.pc,
      symbol: asker.symbol,
      call: asker.call,
      request,
      provider,
      verdict: "granted",
      outcome: { kind: "misuse", misuse, by },
      before: state,
      after: state,
    });
  }
}
