/** What stands around the provider in a run: policy, faults, audit, the ledger's file. */
import { readFileSync } from "node:fs";
import { UserError } from "../emulator/errors.ts";
import type { GateAssembly } from "../providers/assembly.ts";
import { type CallErrors, parseInjectRule } from "../providers/inject-rule.ts";
import type { Injector } from "../providers/injector.ts";
import type { Ledger } from "../providers/ledger.ts";
import { LedgerWriter } from "../providers/ledger-file.ts";
import type { Policy } from "../providers/policy.ts";
import { FilePolicy, PolicyParser, type PolicyWorld } from "../providers/policy-file.ts";
import { openSink, reason, type Sink } from "./output.ts";

/** Options of every command that runs a guest behind a gate. */
export interface AroundOptions {
  readonly policy?: string;
  readonly policyDryRun?: boolean;
  readonly inject?: readonly string[];
  readonly as?: "litebox";
  /** File for the ledger. */
  readonly ledger?: string;
}

type SymbolOf = NonNullable<GateAssembly["symbolOf"]>;

/** One run's policy, faults and ledger file, made from options. */
export class Around {
  /** For the gate's assembly. */
  readonly gate: Pick<GateAssembly, "policy" | "inject" | "asLitebox">;
  /** What a dry run would have denied, and how often. */
  readonly #dryDenials = new Map<string, number>();
  readonly #ledger: string | undefined;
  #sink: Sink | undefined;
  #writer: LedgerWriter | undefined;

  /**
   * @param symbolOf for rules that name symbols, where the shim does not give any
   * @param errors of the system calls that faults may name, Linux's when left out
   * @throws UserError for a policy or a rule that is none
   */
  constructor(options: AroundOptions, world: PolicyWorld, symbolOf?: SymbolOf, errors?: CallErrors) {
    const { policy, policyDryRun = false, inject, as, ledger } = options;
    if (policyDryRun && policy === undefined)
      throw new UserError("--policy-dry-run is about a policy: give one with --policy FILE", 125);
    this.gate = {
      asLitebox: as === "litebox",
      ...(policy === undefined ? {} : { policy: this.#readPolicy(policy, policyDryRun, world, symbolOf) }),
      ...(inject === undefined ? {} : { inject: inject.map((rule) => parseInjectRule(rule, errors)) }),
    };
    this.#ledger = ledger;
  }

  /** From now on records go to the ledger's file, if there is to be one. */
  follow(
    ledger: Ledger,
    header: { readonly provider: string; readonly guest: readonly string[]; readonly seed: number },
  ): void {
    if (this.#ledger === undefined) return;
    const sink = openSink(this.#ledger);
    this.#sink = sink;
    // Each line at once: a run that is killed leaves what it had done.
    const write = (text: string): void => {
      sink.write(text);
      sink.flush();
    };
    this.#writer = new LedgerWriter(write, header);
    ledger.subscribe(this.#writer.record);
  }

  /** The run has come to its end: the ledger is complete. */
  end(): void {
    this.#writer?.end();
  }

  /** Closes the ledger's file, also after a failure. */
  close(): void {
    this.#sink?.close();
  }

  /** Lines about the policy's dry run and about faults that found nothing to strike at. */
  notes(injector: Injector | undefined): string[] {
    const lines = [...this.#dryDenials].map(
      ([what, times]) => `shimbed: the policy would have denied ${what}${times === 1 ? "" : ` (${times} times)`}`,
    );
    for (const rule of this.gate.inject ?? [])
      if (injector?.fired(rule) === 0) lines.push(`shimbed: the injection ${rule.text} found nothing to strike at`);
    return lines;
  }

  #readPolicy(path: string, dryRun: boolean, world: PolicyWorld, symbolOf: SymbolOf | undefined): Policy {
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch (error) {
      throw new UserError(`cannot read the policy ${path}: ${reason(error)}`, 125);
    }
    const file = new PolicyParser().parse(text, path);
    const deny = (
      rule: string,
      request: { readonly kind: string },
      asker: { readonly thread: number; readonly call: string },
    ): void => {
      const what = `${request.kind} of thread ${asker.thread} in ${asker.call} (${rule})`;
      this.#dryDenials.set(what, (this.#dryDenials.get(what) ?? 0) + 1);
    };
    const policy = new FilePolicy(file, world, deny, dryRun || file.dryRun === true);
    const symbols = file.rules?.some((rule) => rule.symbol !== undefined) === true;
    if (!symbols || symbolOf === undefined) return policy;
    return {
      decide: (request, asker) => {
        const symbol = asker.symbol ?? symbolOf(asker.thread, asker.pc);
        return policy.decide(request, symbol === undefined ? asker : { ...asker, symbol });
      },
    };
  }
}
