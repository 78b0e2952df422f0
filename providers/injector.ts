import { gdtLayouts } from "../emulator/descriptors.ts";
import { InjectingLifecycle, type NeedyFault, needyFaults } from "./inject-lifecycle.ts";
import { type InjectEvent, type InjectRule, strikesAt } from "./inject-rule.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Platform } from "./platform.ts";
import { allowAll, type Policy } from "./policy.ts";
import type { PunchthroughProvider } from "./punchthrough.ts";
import type { Asker, Request, Result } from "./requests.ts";
import type { WordReader } from "./tls-block.ts";
import { type DeskToken, TokenMisuse } from "./token-desk.ts";

/** Calls whose requests are for a new thread. */
const CLONES: ReadonlySet<string> = new Set(["clone", "clone3", "fork", "vfork"]);
/** The present bit of a descriptor. */
const PRESENT = 1n << 47n;

/** Guest memory, for faults that overwrite it. */
export interface InjectorWorld extends WordReader {
  wide(thread: number): boolean;
  /** Writes a word, whatever its page allows; false where nothing is mapped. */
  poke(thread: number, address: bigint, value: bigint, bytes: 4 | 8): boolean;
}

/** Injects faults by rules, and counts what a run gave them to strike at. */
export class Injector {
  readonly #rules: readonly InjectRule[];
  readonly #platform: Platform;
  readonly #provider: PunchthroughProvider;
  readonly #world: InjectorWorld;
  readonly #matches = new Map<InjectRule, number>();
  readonly #fired = new Map<InjectRule, number>();
  readonly #counts = new Map<string, number>();
  /** Tokens that are to be executed too late, by thread. */
  readonly #late = new Map<number, DeskToken>();
  readonly #parents = new Map<number, number>();
  /** Bases that a thread gets by mistake when it enters the guest next. */
  readonly #strays = new Map<number, bigint>();

  constructor(rules: readonly InjectRule[], platform: Platform, provider: PunchthroughProvider, world: InjectorWorld) {
    this.#rules = rules;
    this.#platform = platform;
    this.#provider = provider;
    this.#world = world;
  }

  /**
   * How often each target came up: requests by kind, `SETTLS`, events with their `@`, and as `@event canary` or `@event sysret`
   * those after which there was a canary, or registers to lose. What `mutants` enumerates from.
   */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  /** How often a rule struck. */
  fired(rule: InjectRule): number {
    return this.#fired.get(rule) ?? 0;
  }

  /** A policy with the denials of the rules before it. */
  policy(inner: Policy = allowAll): Policy {
    return {
      decide: (request, asker) => {
        this.#count(request.kind);
        if (CLONES.has(asker.call)) this.#count("SETTLS");
        const rule = this.#find(request, asker, true);
        if (rule === undefined) return inner.decide(request, asker);
        const name = `injection ${rule.text}`;
        return rule.value === 0 ? { allow: false, rule: name } : { allow: false, rule: name, errno: rule.value };
      },
    };
  }

  /** To be the gate's `execution`. */
  readonly execution = (token: DeskToken, thread: number): Result => {
    const { request, asker } = token;
    const rule = this.#find(request, asker, false);
    return rule === undefined ? token.execute(thread) : this.#disturb(rule, token, thread);
  };

  /** The provider's life cycle with faults in it. */
  lifecycle(inner: Lifecycle | undefined): Lifecycle {
    return new InjectingLifecycle(inner, this.#platform.cpu, this.#world, {
      fault: (event, strikable) => this.#event(event, strikable),
      strayBase: (thread) => {
        const base = this.#strays.get(thread);
        this.#strays.delete(thread);
        return base;
      },
      left: (thread) => this.#executeLate(thread),
      started: (thread, parent) => {
        if (parent !== undefined) this.#parents.set(thread, parent);
      },
    });
  }

  /** What a system call is to answer instead of being carried out, as a guest finds it in the register; else undefined. */
  readonly call = (name: string): number | undefined => {
    for (const rule of this.#rules) {
      if (rule.target.on !== "call" || rule.target.name !== name || !this.#strikes(rule)) continue;
      return rule.fault === "error" ? -rule.value : rule.value;
    }
    return undefined;
  };

  #event(event: InjectEvent, strikable: ReadonlySet<NeedyFault>): InjectRule["fault"] | undefined {
    this.#count(`@${event}`);
    for (const fault of strikable) this.#count(`@${event} ${fault}`);
    for (const rule of this.#rules) {
      if (rule.target.on !== "event" || rule.target.event !== event) continue;
      if (needyFaults.some((needy) => needy === rule.fault && !strikable.has(needy))) continue;
      if (this.#strikes(rule)) return rule.fault;
    }
    return undefined;
  }

  #count(name: string): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
  }

  /** The first rule that strikes; every rule that fits counts the match. */
  #find({ kind }: Request, { call }: Asker, denial: boolean): InjectRule | undefined {
    let found: InjectRule | undefined;
    for (const rule of this.#rules) {
      const { target, fault } = rule;
      if (target.on !== "request" || (fault === "deny") !== denial) continue;
      const settls = target.kind === "SETTLS" && CLONES.has(call);
      if (target.kind !== kind && target.kind !== "token" && !settls) continue;
      if (this.#strikes(rule)) found ??= rule;
    }
    return found;
  }

  #strikes(rule: InjectRule): boolean {
    const count = (this.#matches.get(rule) ?? 0) + 1;
    this.#matches.set(rule, count);
    if (!strikesAt(rule, count)) return false;
    this.#fired.set(rule, this.fired(rule) + 1);
    return true;
  }

  /** An answer that looks as if the request had been carried out. */
  #pretend(request: Request): Result {
    if (request.kind !== "SetThreadArea") return { kind: "ok", value: 0n };
    const { desc } = request;
    const entry = desc.entry_number | 0;
    const { tlsFirst } = gdtLayouts[this.#platform.layout];
    return { kind: "ok", value: 0n, desc: { ...desc, entry_number: entry === -1 ? tlsFirst : entry } };
  }

  #disturb({ fault, value }: InjectRule, token: DeskToken, thread: number): Result {
    const { request, asker } = token;
    const answer = (result: Result): Result => token.execute(thread, { execute: () => result });
    const instead = (other: Request): Result => {
      const inner = this.#provider.getPunchthroughTokenFor(other, asker);
      return inner === undefined ? answer({ kind: "unsupported" }) : token.execute(thread, inner);
    };
    switch (fault) {
      case "error":
        return answer({ kind: "failure", errno: value });
      case "unsupported":
        return answer({ kind: "unsupported" });
      case "unimplemented":
        return answer({ kind: "unimplemented", name: request.kind });
      case "nothing":
        return answer(this.#pretend(request));
      case "offset":
      case "base":
      case "limit":
      case "swap":
        return instead(changed(request, fault, value));
      case "twice": {
        const result = token.execute(thread);
        misuse(() => token.execute(thread));
        return result;
      }
      case "late":
        this.#late.set(thread, token);
        return this.#pretend(request);
      case "drop":
        return this.#pretend(request);
      case "wrong-thread":
        misuse(() => token.execute(thread + 1));
        return this.#pretend(request);
      case "parent": {
        const parent = this.#parents.get(thread);
        if (parent !== undefined && request.kind === "SetFsBase") this.#strays.set(parent, request.address);
        return answer(this.#pretend(request));
      }
      default:
        return this.#afterwards(fault, value, token.execute(thread));
    }
  }

  /** Faults in the answer to `set_thread_area`, or in the descriptor it left. */
  #afterwards(fault: InjectRule["fault"], value: number, result: Result): Result {
    if (result.kind !== "ok" || result.desc === undefined) return result;
    const { desc, ...rest } = result;
    if (fault === "no-writeback") return rest;
    if (fault === "entry") return { ...rest, desc: { ...desc, entry_number: desc.entry_number + value } };
    if (fault === "not-present") {
      const { privileged } = this.#platform.cpu;
      privileged.setGdtEntry(desc.entry_number, privileged.gdtEntry(desc.entry_number) & ~PRESENT);
    }
    return result;
  }

  #executeLate(thread: number): void {
    const token = this.#late.get(thread);
    if (token === undefined) return;
    this.#late.delete(thread);
    misuse(() => token.execute(thread));
  }
}

/** Runs what the desk refuses; the ledger has it then. */
function misuse(action: () => Result): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof TokenMisuse)) throw error;
  }
}

function changed(request: Request, fault: "offset" | "base" | "limit" | "swap", value: number): Request {
  switch (request.kind) {
    case "SetFsBase":
    case "SetGsBase":
      if (fault === "offset") return { ...request, address: request.address + BigInt(value) };
      if (fault === "base") return { ...request, address: BigInt(value) };
      return fault === "swap"
        ? { ...request, kind: request.kind === "SetFsBase" ? "SetGsBase" : "SetFsBase" }
        : request;
    case "SetThreadArea":
    case "SetLdtEntry": {
      const { desc } = request;
      if (fault === "offset") return { ...request, desc: { ...desc, base_addr: (desc.base_addr + value) >>> 0 } };
      if (fault === "base") return { ...request, desc: { ...desc, base_addr: value >>> 0 } };
      return fault === "limit" ? { ...request, desc: { ...desc, limit: value & 0xfffff } } : request;
    }
    default:
      return request;
  }
}
