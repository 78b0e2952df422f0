/** Trusted applications for tests: each session has a TEE of its own, and matchers read what has come of it. */
import path from "node:path";
import { parseInjectRule } from "../../providers/inject-rule.ts";
import { Ledger, type LedgerRecord } from "../../providers/ledger.ts";
import { formatRecord } from "../../providers/ledger-format.ts";
import type { CallEvent, TraceEvent } from "../../shims/linux/trace/trace.ts";
import { type TaSession, ta } from "../../shims/optee/api.ts";
import type { TaAnswer, TaParam } from "../../shims/optee/client.ts";
import { formatEvent } from "../../shims/optee/commands/format.ts";
import type { TeeEvent } from "../../shims/optee/events.ts";
import { formatPanic } from "../../shims/optee/panic.ts";
import { resultName } from "../../shims/optee/results.ts";
import { TeeWorld } from "../../shims/optee/tee-world.ts";
import { TEE_ERRORS } from "../ta.ts";
import { TIMEOUT_SECONDS } from "./execute.ts";
import { Observed, type TraceLine } from "./observed.ts";

export interface TaOpenOptions {
  /** Files of other TAs and of libraries that it may use. */
  readonly tas?: readonly string[];
  /** File of a real ldelf; our own loader if left out. */
  readonly ldelf?: string;
}

interface TaChoice {
  readonly provider: string;
  readonly seed: number;
}

/** Opens sessions for one test. */
export class TaBed {
  readonly #choice: TaChoice;
  readonly #injections: readonly string[];
  readonly #open: TaTestSession[] = [];

  /** @param injections faults of all TEEs; may grow between them */
  constructor(choice: TaChoice, injections: readonly string[]) {
    this.#choice = choice;
    this.#injections = injections;
  }

  /**
   * Opens a session to the TA in a file, in a TEE of its own.
   * @param params what the TA's open function is given
   * @throws TaOpenError when the TA or the TEE refuses, UserError when the file is no TA
   */
  async open(file: string, params: readonly TaParam[] = [], options: TaOpenOptions = {}): Promise<TaTestSession> {
    const collector = new TaCollector();
    const world = new TeeWorld();
    const ledger = new Ledger();
    ledger.subscribe(collector.record);
    const session = await ta.open(file, params, {
      ...this.#choice,
      ...options,
      world,
      around: { ledger, audit: true, inject: this.#injections.map((rule) => parseInjectRule(rule, TEE_ERRORS)) },
      watch: collector.event,
      timeoutMs: TIMEOUT_SECONDS * 1000,
    });
    const opened = new TaTestSession(session, () => collector.observed(file, this.#choice, ledger, world));
    this.#open.push(opened);
    return opened;
  }

  /** Closes all that is open. */
  async close(): Promise<void> {
    for (const session of this.#open.splice(0)) await session.close();
  }
}

/** An open session, and all that has come of its TEE until now. */
export class TaTestSession {
  readonly #session: TaSession;
  readonly #observe: () => Observed;

  constructor(session: TaSession, observe: () => Observed) {
    this.#session = session;
    this.#observe = observe;
  }

  /** Runs a command. What the TA answers is a result, never an exception. */
  invoke(command: number, params: readonly TaParam[] = []): Promise<TaAnswer> {
    return this.#session.invoke(command, params);
  }

  /** Another session in the same TEE: to this TA, or to the one with that UUID. */
  async openAnother(params: readonly TaParam[] = [], uuid?: string): Promise<TaTestSession> {
    const session = await this.#session.openAnother(params, uuid === undefined ? {} : { uuid });
    return new TaTestSession(session, this.#observe);
  }

  /** The trace, tokens and findings until now, as matchers see them. A thread is an instance of a TA. */
  observed(): Observed {
    return this.#observe();
  }

  close(): Promise<void> {
    return this.#session.close();
  }
}

/** Makes of a TEE's events what a run of a Linux program gives: lines, calls with their tokens, states. */
class TaCollector {
  readonly #events: TraceEvent[] = [];
  readonly #lines: TraceLine[] = [];
  readonly #faults: string[] = [];
  #tokens: LedgerRecord[] = [];
  #log = "";
  #dead: string | undefined;

  /** A token belongs to the event before it: an entry, or a call that goes on in another TA. */
  readonly record = (record: LedgerRecord): void => {
    this.#tokens.push(record);
    this.#lines.push({ text: `    ${formatRecord(record)}`, event: Math.max(0, this.#events.length - 1), token: true });
  };

  readonly event = (event: TeeEvent): void => {
    const at = this.#events.length;
    for (const text of formatEvent(event).split("\n")) this.#lines.push({ text, event: at, token: false });
    if (event.kind === "log") this.#log += event.text;
    if (event.kind === "panic") {
      this.#dead = event.report.reason;
      this.#faults.push(...formatPanic(event.report).split("\n"));
    }
    if (at > 0) this.#tokens = [];
    this.#events.push(this.#call(event, this.#tokens));
  };

  observed(file: string, { provider, seed }: TaChoice, ledger: Ledger, world: TeeWorld): Observed {
    const events = [...this.#events];
    return new Observed({
      guest: path.basename(file),
      provider,
      seed,
      end: { kind: "session", dead: this.#dead },
      stdout: "",
      stderr: this.#log,
      events,
      lines: [...this.#lines],
      records: ledger.records(),
      findings: world.findings?.list ?? [],
      faults: [...this.#faults],
      states: events.flatMap((event, index) =>
        event.kind === "call"
          ? event.tokens.map((record) => ({ event: index, thread: record.thread, state: record.after }))
          : [],
      ),
      uses: undefined,
    });
  }

  /** `invoke_command` and the like are calls too, made when they come back. */
  #call(event: TeeEvent, tokens: readonly LedgerRecord[]): CallEvent {
    const { instance } = event;
    const call = {
      kind: "call",
      pid: instance,
      tid: instance,
      abi: "x86_64",
      family: undefined,
      told: undefined,
      tokens,
    } as const;
    const back = (result: number | undefined): Pick<CallEvent, "result" | "returned" | "error"> => ({
      result,
      returned: result === undefined ? "?" : resultName(result),
      error: result === undefined || result === 0 ? undefined : resultName(result),
    });
    switch (event.kind) {
      case "call": {
        const { name, number, args, result, reason: why } = event;
        return { ...call, name, number, args: args.map(({ text }) => text), why, ...back(result) };
      }
      case "leave": {
        const { entry, session } = event;
        const args = [`session=${session}`];
        const result = Number(BigInt.asUintN(32, event.result));
        return { ...call, name: entry, number: -1, args, why: undefined, ...back(result) };
      }
      default:
        return { ...call, name: event.kind, number: -1, args: [], why: undefined, ...back(undefined) };
    }
  }
}
