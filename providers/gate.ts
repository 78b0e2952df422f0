import { Ledger } from "./ledger.ts";
import { HostPanic, type Lifecycle } from "./lifecycle.ts";
import type { Platform, PlatformCpu } from "./platform.ts";
import { allowAll, type Decision, type Policy } from "./policy.ts";
import type { PunchthroughProvider } from "./punchthrough.ts";
import type { Asker, Outcome, Request, Result } from "./requests.ts";
import { ShortWay } from "./short-way.ts";
import { captureState, keepChosen, type TlsState } from "./state.ts";
import { type DeskToken, type MisuseKind, TokenDesk } from "./token-desk.ts";

/** How the gate executes a granted token for a thread. Whatever it does, the desk keeps the token's rules. */
export type TokenExecution = (token: DeskToken, thread: number) => Result;

/** Requests that change nothing, so that the state after them need not be read. */
const READS: ReadonlySet<Request["kind"]> = new Set(["GetFsBase", "GetGsBase", "GetThreadArea"]);

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
  /** The provider's when left out. Whoever watches or disturbs guest threads wraps that one. */
  lifecycle?: Lifecycle | undefined;
  /** Virtual time in ns, for the ledger. */
  now?: (() => number) | undefined;
  /** The symbol around a guest address, for the ledger; asked only where a record is made. */
  symbolOf?: ((thread: number, address: bigint) => string | undefined) | undefined;
}

/** The one way from a shim to the CPU state that `PrivilegedState` holds. */
export class Gate {
  readonly ledger: Ledger;
  /** To be told what becomes of guest threads; undefined when nobody wants to know. */
  readonly lifecycle: Lifecycle | undefined;
  readonly #platform: Platform;
  readonly #now: (() => number) | undefined;
  readonly #symbolOf: GateOptions["symbolOf"];
  readonly #provider: PunchthroughProvider;
  readonly #policy: Policy;
  readonly #execution: TokenExecution;
  readonly #desk: TokenDesk;
  readonly #shortWay: ShortWay | undefined;

  constructor(options: GateOptions) {
    this.ledger = options.ledger ?? new Ledger();
    this.#platform = options.platform;
    this.#provider = options.provider;
    this.#policy = options.policy ?? allowAll;
    this.#execution = options.execution ?? atOnce;
    this.lifecycle = options.lifecycle ?? options.provider.lifecycle;
    this.#now = options.now;
    this.#symbolOf = options.symbolOf;
    this.#desk = new TokenDesk((misuse, token, by) => this.#recordMisuse(misuse, token, by));
    this.#shortWay = this.#openShortWay();
  }

  /** For ordinary requests in numbers; undefined where somebody has to see each as an object. */
  get shortWay(): ShortWay | undefined {
    return this.ledger.watched ? undefined : this.#shortWay;
  }

  #openShortWay(): ShortWay | undefined {
    const { cpu, layout } = this.#platform;
    const { privileged } = cpu;
    const state = privileged.inPlace;
    const alone = this.#policy === allowAll && this.#execution === atOnce && this.lifecycle === undefined;
    if (!alone || this.#symbolOf !== undefined || layout !== "x86_64" || state === undefined) return undefined;
    if (this.#provider.bareLinux !== true) return undefined;
    return new ShortWay({ privileged, state, ledger: this.ledger, provider: this.provider, now: this.#now });
  }

  /** The provider's name. */
  get provider(): string {
    return this.#provider.name;
  }

  /** True when a shim is to check no more than LiteBox' does. */
  get asLitebox(): boolean {
    return this.#provider.asLitebox === true;
  }

  /** Whether programs of that word size run on the platform as it has been set up for this run. */
  serves(abi: "x86_64" | "i386"): boolean {
    return this.#provider.abis?.includes(abi) !== false;
  }

  /**
   * The CPU as a guest thread has it. While a shim runs, the real one may hold the platform's own FS and GS. The thread must be
   * the one whose context is in the CPU.
   */
  guestCpu(thread: number): PlatformCpu {
    return this.#provider.guestCpu?.(thread) ?? this.#platform.cpu;
  }

  /** A guest thread's TLS state, as a record would show it. */
  state(thread: number): TlsState {
    return captureState(this.#platformOf(thread), { kind: "GetFsBase" });
  }

  /**
   * Asks the policy, takes a token from the provider, executes it at once for the asking thread, and writes the ledger.
   * The CPU must be in the context of `asker.thread`.
   */
  punchThrough(request: Request, asker: Asker): Outcome {
    const decision = this.#policy.decide(request, asker);
    let outcome: Outcome;
    if (this.ledger.active) outcome = this.#executeOnRecord(request, asker, decision);
    else {
      this.ledger.nextSequence();
      outcome = this.#execute(request, asker, decision).outcome;
    }
    if (this.asLitebox) this.#panic(request, outcome.kind);
    return outcome;
  }

  #executeOnRecord(request: Request, asker: Asker, decision: Decision): Outcome {
    const before = captureState(this.#platformOf(asker.thread), request);
    const { outcome, provider } = this.#execute(request, asker, decision);
    const granted = outcome.kind !== "denied";
    const changes = granted && !READS.has(request.kind);
    const after = changes ? captureState(this.#platformOf(asker.thread), request) : before;
    const { thread, pc, call } = asker;
    // Written out without spreading: this is what a ledger costs each call.
    this.ledger.append({
      sequence: this.ledger.nextSequence(),
      thread,
      pc,
      symbol: this.#symbol(asker),
      call,
      time: this.#now?.(),
      request,
      provider,
      verdict: granted ? "granted" : "denied",
      rule: granted ? decision.rule : outcome.rule,
      outcome,
      before: granted ? keepChosen(before, request, outcome) : before,
      after: granted ? keepChosen(after, request, outcome) : before,
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

  /** What LiteBox' shim has no errno for ends its runner. */
  #panic(request: Request, kind: Outcome["kind"]): void {
    if (kind === "ok" || kind === "failure") return;
    throw new HostPanic(this.provider, `${request.kind} comes out as ${kind}, which LiteBox does not expect`);
  }

  #platformOf(thread: number): Platform {
    const cpu = this.#provider.guestCpu?.(thread);
    return cpu === undefined ? this.#platform : { cpu, layout: this.#platform.layout };
  }

  #symbol({ symbol, thread, pc }: Asker): string | undefined {
    return symbol ?? this.#symbolOf?.(thread, pc);
  }

  #recordMisuse(misuse: MisuseKind, token: DeskToken, by: number): void {
    if (!this.ledger.active) {
      this.ledger.nextSequence();
      return;
    }
    const { request, asker, provider } = token;
    const state = captureState(this.#platformOf(asker.thread), request);
    this.ledger.append({
      sequence: this.ledger.nextSequence(),
      thread: asker.thread,
      pc: asker.pc,
      symbol: this.#symbol(asker),
      call: asker.call,
      time: this.#now?.(),
      request,
      provider,
      verdict: "granted",
      outcome: { kind: "misuse", misuse, by },
      before: state,
      after: state,
    });
  }
}
