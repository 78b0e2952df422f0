import { Findings, type GuestWorld } from "./findings.ts";
import { Gate } from "./gate.ts";
import type { InjectRule } from "./inject-rule.ts";
import { Injector, type InjectorWorld } from "./injector.ts";
import { Ledger } from "./ledger.ts";
import type { Platform } from "./platform.ts";
import type { Policy } from "./policy.ts";
import { createProvider, type ProviderOptions } from "./registry.ts";
import { WatchedLifecycle } from "./watch.ts";

export interface GateAssembly extends ProviderOptions {
  readonly platform: Platform;
  /** Name of the provider. */
  readonly provider: string;
  readonly ledger?: Ledger;
  readonly policy?: Policy;
  /** Faults to inject; an empty list only counts what there is to strike at. */
  readonly inject?: readonly InjectRule[];
  /** Whether to look for what is wrong. */
  readonly audit?: boolean;
  /** Needed by `inject` and `audit`: what the shim knows of its threads. */
  readonly world?: GuestWorld & InjectorWorld;
  /** Virtual time in ns. */
  readonly now?: () => number;
  readonly symbolOf?: (thread: number, address: bigint) => string | undefined;
}

export interface AssembledGate {
  readonly gate: Gate;
  readonly injector: Injector | undefined;
  readonly findings: Findings | undefined;
}

/**
 * Puts a gate together with all that may stand around it: policy, faults, audit.
 * @throws UserError when the provider does not serve the guest
 */
export function assembleGate(options: GateAssembly): AssembledGate {
  const { platform, policy, inject, audit = false, world, now, symbolOf } = options;
  const off = inject?.some(({ target }) => target.on === "cpu") === true;
  const provider = createProvider(options.provider, platform, off ? { ...options, fsgsbase: false } : options);
  // Of the whole machine: a guest's own wrfsbase raises #UD too.
  if (off) platform.cpu.privileged.fsgsbase = false;
  const ledger = options.ledger ?? new Ledger();
  const injector =
    inject === undefined || world === undefined ? undefined : new Injector(inject, platform, provider, world);
  const findings =
    audit && world !== undefined
      ? new Findings(world, {
          cpu: platform.cpu,
          layout: platform.layout,
          guestCpu: (thread) => provider.guestCpu?.(thread) ?? platform.cpu,
        })
      : undefined;
  let lifecycle = injector === undefined ? provider.lifecycle : injector.lifecycle(provider.lifecycle);
  if (findings !== undefined) {
    lifecycle = new WatchedLifecycle(lifecycle, provider, findings);
    ledger.subscribe(findings.record);
  }
  const decides = injector === undefined ? policy : injector.policy(policy);
  const gate = new Gate({
    platform,
    provider,
    ledger,
    lifecycle,
    now,
    symbolOf,
    ...(decides === undefined ? {} : { policy: decides }),
    ...(injector === undefined ? {} : { execution: injector.execution }),
  });
  return { gate, injector, findings };
}
